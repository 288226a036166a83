"""Colour made comparable between images: Lab, standardised by the tissue's own mean and standard deviation."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

GLASS = 225  # a pixel whose darkest channel is brighter than this is glass, not tissue (grey levels 0–255)


def tissue_mask(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that are not bare glass. picture (h, w, 3) RGB → (h, w)."""
    return np.asarray(picture.min(-1) <= GLASS, bool)


def lab_statistics(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean and SD of L, a, b over the tissue, (2, 3); over everything where less than 5% is tissue."""
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    tissue = tissue_mask(picture).ravel()
    values = (lab[tissue] if tissue.mean() > 0.05 else lab).astype(np.float32)
    return np.stack([values.mean(0), np.maximum(values.std(0), 2.0)]).astype(np.float32)


def standardised(picture: NDArray[np.uint8], statistics: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Lab, minus the mean, over the SD, clipped to ±4. (h, w, 3) RGB uint8 → (3, h, w) float32."""
    mean, deviation = lab_statistics(picture) if statistics is None else statistics
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32)
    return np.clip((lab - mean) / deviation, -4, 4).transpose(2, 0, 1)
