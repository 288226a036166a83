"""Radiographs of any size, depth and polarity made alike: grey, bone white, one frame, levels by rank.

Ranks forget exposure, window and gamma: two pictures of one chest that differ by any rising curve become the same.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.prepare.space import to_size

LEAST_PX = 32  # a side
MOST_STRETCH = 3.0  # longer side / shorter side
COLOURED = 0.04  # mean spread of the three channels / range of grey, above which a picture is no radiograph


def grey_levels(picture: NDArray) -> NDArray[np.float32]:
    """(h, w), (h, w, 1) or (h, w, 3) of numbers → (h, w) float32.

    Raises InputError for a picture that cannot be a radiograph: another shape, smaller than 32 px a side, longer than three times its width,
    holding NaN or infinity, of one grey level, or coloured.
    """
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3)) or not np.issubdtype(picture.dtype, np.number):
        raise InputError(f"a radiograph is (h, w) or (h, w, 3) of numbers; this is {picture.shape} of {picture.dtype}; give one picture, grey")
    h, w = picture.shape[:2]
    if min(h, w) < LEAST_PX or max(h, w) > MOST_STRETCH * min(h, w):
        raise InputError(
            f"a radiograph of the chest has at least {LEAST_PX} px a side and sides of at most {MOST_STRETCH:g} to 1; this has {h}×{w}; leave it out"
        )
    if np.iscomplexobj(picture) or not np.isfinite(picture).all():
        raise InputError(f"this radiograph of {h}×{w} holds values that are not finite; export it again or leave it out")
    levels = picture.astype(np.float32)
    span = float(np.ptp(levels))
    if span == 0:
        raise InputError(f"this radiograph of {h}×{w} has one grey level ({levels.flat[0]:g}) everywhere; it shows nothing, leave it out")
    if levels.ndim == 3:
        if float(np.ptp(levels, axis=2).mean()) > COLOURED * span:
            raise InputError(f"this picture of {h}×{w} is coloured; a radiograph is grey: leave it out or convert it")
        levels = levels.mean(axis=2)
    return np.ascontiguousarray(levels)


def ranked(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Each pixel's place among all pixels, 0–255; equal pixels share the middle of their places. (h, w)"""
    _, flat, counts = np.unique(levels, return_inverse=True, return_counts=True)
    place = (np.cumsum(counts) - 0.5 * counts) / levels.size
    return np.rint(255 * place[flat.reshape(levels.shape)]).astype(np.uint8)


def bone_is_dark(ranks: NDArray[np.uint8]) -> bool:
    """Whether a chest is shown as MONOCHROME1, bone dark: where lungs usually lie it is brighter than in its middle column and at its foot. ranks (h, w)."""
    row, col = np.mgrid[0 : ranks.shape[0], 0 : ranks.shape[1]].astype(np.float32) + 0.5
    row, col = row / ranks.shape[0], np.abs(col / ranks.shape[1] - 0.5)  # shares of the picture; columns from the middle
    lungs = ((col - 0.2) / 0.12) ** 2 + ((row - 0.45) / 0.27) ** 2 < 1
    column, foot = (col < 0.06) & (row > 0.25) & (row < 0.9), (col < 0.3) & (row > 0.85)
    return bool(ranks[lungs].mean() > 0.5 * (ranks[column].mean() + ranks[foot].mean()))


def chest_frame(picture: NDArray, side: int) -> NDArray[np.uint8]:
    """A frontal chest radiograph as (side, side) ranks, bone white; the picture's two sides are stretched to the frame. Raises InputError as `grey_levels`."""
    levels = to_size(grey_levels(picture), (side, side))
    ranks = ranked(levels)
    if int(np.ptp(ranks)) < 8:
        raise InputError(f"this radiograph of {picture.shape[0]}×{picture.shape[1]} has almost one grey level; it shows nothing, leave it out")
    return ranked(-levels) if bone_is_dark(ranks) else ranks


def planes_of(ranks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a network sees: ranks, mean 0 and SD 1, and what is left of them without a wide blur, over its local SD. (h, w) → (2, h, w)"""
    x = (ranks.astype(np.float32) - 127.5) / 73.6
    wide = max(ranks.shape[1] / 14, 1.0)
    local = x - cv2.GaussianBlur(x, (0, 0), wide)
    spread = np.sqrt(cv2.GaussianBlur(local * local, (0, 0), wide)) + 0.1
    return np.stack([x, np.clip(local / spread, -3, 3)])
