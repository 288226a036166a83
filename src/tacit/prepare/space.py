"""Pictures brought to a spacing, and answers brought back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def to_spacing(picture: NDArray, um_per_px: float, wanted_um: float) -> NDArray:
    """`picture` (h, w[, c]) resampled from `um_per_px` to `wanted_um`, at least 1 px a side; area averages when shrinking."""
    factor = um_per_px / wanted_um
    h, w = picture.shape[:2]
    return to_size(picture, (max(round(h * factor), 1), max(round(w * factor), 1)))


def to_size(picture: NDArray, size: tuple[int, int]) -> NDArray:
    """`picture` (h, w[, c]) at `size` (h, w): area averages when shrinking, bilinear when growing."""
    if picture.shape[:2] == size:
        return picture
    how = cv2.INTER_AREA if size[0] < picture.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=how))
