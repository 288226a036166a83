"""What several tests share: threads, drawn folders, and the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tacit.phantom import tissue

torch.set_num_threads(1)
cv2.setNumThreads(1)

TINY = [  # the smallest run that still does every step
    "draw.pictures=6",
    "draw.field_um=[200.0, 240.0]",
    "teachers=2",
    "train.epochs=1",
    "train.steps=6",
    "train.batch=4",
    "student.epochs=1",
    "student.steps=6",
    "student.batch=4",
    "network.width=8",
    "network.depth=3",
    "data.um_per_px=3.72",
    "data.size=32",
]
TINY_MSSG = ["stage2.epochs=1", "stage2.steps=4", "stage2.batch=2", "data.size=48", "network.channels=16", "border.channels=8", "border.steps=6"]


def save_drawings(folder: Path, count: int, *, um: float = 1.2, shape: tuple[int, int] = (150, 190), seed: int = 0, masks: bool = True) -> Path:
    """A folder images/ (and masks/ beside it) of drawn tissue."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(count):
        drawing = tissue.draw(np.random.default_rng([seed, i]), shape, um)
        Pillow.fromarray(drawing.picture).save(folder / "images" / f"t{i}.png")
        if masks:
            Pillow.fromarray(drawing.labels.astype(np.uint16)).save(folder / "masks" / f"t{i}.png")
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_drawings(tmp_path_factory.mktemp("drawn"), 4)


@pytest.fixture
def data() -> Path:
    """The folder of real images; the test is skipped where there is none."""
    place = Path(os.environ.get("TACIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (place / "glas").is_dir():
        pytest.skip(f"no real images: TACIT_DATA is not set and {place.name}/glas is not beside the checkout")
    return place
