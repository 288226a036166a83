"""A learnt method over images, one at a time: masks, probabilities, GeoJSON, rows of tables. What is written is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import ReadError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.prepare.space import to_size, to_spacing
from tacit.read.picture import read_picture
from tacit.report.picture import jpeg, outlined, png, shrunk
from tacit.run import Run
from tacit.use import measure
from tacit.use.instances import InstancesConfig, instances
from tacit.use.one_by_one import one_by_one
from tacit.use.outlines import geojson

MOST_LABELS = 65535  # of a 16-bit PNG
MOST_ZOOM = 8.0  # a picture is enlarged by no more than this to meet a network
LEAST_SEEN = 4.0  # px that a picture's shorter side must have at the network's spacing


def apply_all(cases: Cases, with_spacing: Callable[[str, Image], Image], network: Any, own: InstancesConfig, class_name: str, run: Run) -> int:
    """Writes the answers of every image, skips those already written, lists failures. Returns how many are written."""
    return one_by_one(
        cases, run, lambda name, path: _one(name, with_spacing(name, read_picture(path)), network, own, class_name, run.folder), "cut it into tiles"
    )


def answer(image: Image, network: Any, own: InstancesConfig) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels (h, w) and gland probability (h, w) of one image whose spacing is known."""
    assert image.mpp is not None
    size = (image.shape[0], image.shape[1])
    zoom = image.mpp / network.um_per_px
    if zoom > MOST_ZOOM:
        what = f"a pixel is {image.mpp:.3g} µm, too coarse for a method that looks at {network.um_per_px:.3g} µm"
        raise ReadError(image.source, what, "check --mpp, or scan at a higher magnification")
    if min(size) * zoom < LEAST_SEEN:
        what = f"at {network.um_per_px:.3g} µm per px only {min(size) * zoom:.1f} px of it are left"
        raise ReadError(image.source, what, "check --mpp, or give a larger field")
    p = network.probability(to_spacing(image.pixels, image.mpp, network.um_per_px))
    return instances(p, network.um_per_px, size, own), to_size(p[0], size)


def _one(name: str, image: Image, network: Any, own: InstancesConfig, class_name: str, out: Path) -> None:
    labels, p = answer(image, network, own)
    if labels.max() > MOST_LABELS:
        raise ReadError(image.source, f"{labels.max()} glands were found, a 16-bit mask holds {MOST_LABELS}", "cut the image into tiles")
    spacing = image.mpp if image.spacing_source != "estimated" else None
    table = measure.glands(labels, image.pixels, spacing, p)
    row = measure.image_row(labels, table, spacing, p)
    if hasattr(network, "far_from_drawing"):
        row["far_from_drawing"] = network.far_from_drawing(to_spacing(image.pixels, image.mpp or 1.0, network.um_per_px))
    write_atomic(out / "masks" / f"{name}.png", png(labels.astype(np.uint16)))
    write_atomic(out / "probability" / f"{name}.png", png(np.round(p * 255).clip(0, 255).astype(np.uint8)))
    write_atomic(out / "geojson" / f"{name}.geojson", geojson(labels, table, class_name))
    small = shrunk(image.pixels)
    write_atomic(out / "figures" / f"{name}.jpg", jpeg(outlined(small, shrunk(labels))))
    write_atomic(out / "items" / f"{name}.jpg", jpeg(small))
    item = {
        "image": {"image": name, **row, "history": "; ".join(image.history)},
        "columns": list(table.columns),
        "glands": json.loads(table.to_json(orient="records")),
    }
    write_atomic(out / "items" / f"{name}.json", json.dumps(item))
