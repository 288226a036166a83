"""An image and its outlines for the report, read again from the run folder and the source."""

from __future__ import annotations

import numpy as np
from PIL import Image as Pillow

from tacit.report.picture import embedded, overlay, png, shrunk
from tacit.run import Run


def pair(run: Run, name: str) -> tuple[str, str]:
    """Data URIs of an image's thumbnail and of its outlines on a clear ground."""
    with Pillow.open(run.folder / "masks" / f"{name}.png") as file:
        labels = np.asarray(file).astype(np.int32)
    thumbnail = (run.folder / "items" / f"{name}.jpg").read_bytes()
    return embedded(thumbnail, "jpeg"), embedded(png(overlay(shrunk(labels))), "png")
