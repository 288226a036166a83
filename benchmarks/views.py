"""Two 224-px BYOL views from a file to a normalised batch, beside lightly's BYOLTransform, one thread.

    pip install --no-deps lightly lightly_utils
    python benchmarks/views.py             prints a table, writes benchmarks/results/views.json

Both take the same files and draw from the same distributions (lightly's defaults; its blur is Pillow's approximation, ours the
Gaussian). The peer reads with Pillow, as lightly's own datasets do, ours with OpenCV. JPEG is always decoded in full: at half
size a view of a crop 2.3 times as wide as itself would differ by up to 17 grey levels. How much of each time is decoding, which
no view can save, stands beside it.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as Pillow

from interleaved import one_thread, race, write
from tacit.parts.decoder import declare_torchvision_operators
from tacit.phantom import tissue
from tacit.prepare.views import PRESETS, draw_view, normalised_views

COUNT = 12  # drawn pictures of each kind
FILES = [((256, 256), "jpg"), ((512, 512), "jpg"), ((512, 512), "png"), ((522, 775), "jpg"), ((1024, 1024), "jpg")]


def peer_transform() -> Callable[[Pillow.Image], list[torch.Tensor]]:
    declare_torchvision_operators()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from lightly.transforms.byol_transform import BYOLTransform
    except ImportError as error:
        sys.exit(f"lightly is not here ({error}), so there is nothing to compare with and nothing is written; pip install --no-deps lightly lightly_utils")
    return BYOLTransform()


def our_batch(picture: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(normalised_views(picture, [draw_view(rng, picture.shape[:2], config) for config in PRESETS["byol"]]))


def our_read(file: Path) -> np.ndarray:
    return cv2.imread(str(file), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)  # pixels as they are stored


def peer_read(file: Path) -> Pillow.Image:
    return Pillow.open(file).convert("RGB")


def saved(pictures: list[np.ndarray], place: Path, suffix: str) -> list[Path]:
    files = [place / f"{picture.shape[0]}-{i}.{suffix}" for i, picture in enumerate(pictures)]
    for picture, file in zip(pictures, files, strict=True):
        Pillow.fromarray(picture).save(file, **({"quality": 90} if suffix == "jpg" else {}))
    return files


def main() -> None:
    transform = peer_transform()
    one_thread()
    rng = np.random.default_rng(0)
    rows, decoding = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for shape, suffix in FILES:
            pictures = [tissue.draw(np.random.default_rng(i), shape, 0.8).picture for i in range(COUNT)]
            files = saved(pictures, Path(place), suffix)
            ours, theirs = cycle(files), cycle(files)
            row = f"{shape[0]} × {shape[1]} {suffix}, {np.mean([f.stat().st_size for f in files]) / 1000:.0f} kB"
            rows[row] = timed(lambda o=ours: our_batch(our_read(next(o)), rng), lambda t=theirs: torch.stack(transform(peer_read(next(t)))))
            decoding[row] = timed(lambda o=ours: our_read(next(o)), lambda t=theirs: peer_read(next(t)))
            if (shape, suffix) == ((512, 512), "jpg"):
                given, held = cycle(pictures), cycle([Pillow.fromarray(p) for p in pictures])
                rows["512 × 512, already decoded"] = timed(lambda g=given: our_batch(next(g), rng), lambda h=held: torch.stack(transform(next(h))))
    write("views", rows, ["lightly", "torchvision"], decoding_alone=decoding)


def timed(ours: Callable[[], object], peer: Callable[[], object]) -> dict[str, Any]:
    return race(ours, peer, calls=2 * COUNT)


if __name__ == "__main__":
    main()
