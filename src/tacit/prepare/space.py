"""Pictures brought to a spacing, and answers brought back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.image import Image


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


def canonical(image: Image) -> tuple[Image, Callable[[NDArray], NDArray]]:
    """A volume turned to slices from feet to head, rows from front to back, columns from the patient's right to left.

    By its affine; a volume without one is taken to lie so already. Gives the turned image (a view of the same pixels) and the
    way back for any array of its shape. Oblique volumes are turned to the nearest such axes.
    """
    if image.axes != "dhw" or image.affine is None:
        return image, lambda turned: turned
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)  # columns: w, h, d; rows: right, anterior, superior
    axis_of = _assigned(np.abs(directions))  # for w, h, d: which of right, anterior, superior
    order = [axis_of.index(2), axis_of.index(1), axis_of.index(0)]  # of w, h, d: the one that runs up, forward, across
    axes = tuple(2 - k for k in order)  # numpy axes, d h w
    wanted = {2: 1, 1: -1, 0: -1}  # up to the head, to the back, to the left
    flips = tuple(slice(None, None, -1) if directions[axis_of[k], k] * wanted[axis_of[k]] < 0 else slice(None) for k in order)
    pixels = image.pixels.transpose(axes)[flips]
    undo = tuple(int(i) for i in np.argsort(axes))
    matrix = image.affine.copy()
    for k, flip in zip(order, flips, strict=True):
        if flip.step == -1:
            matrix[:, 3] += matrix[:, k] * (image.pixels.shape[2 - k] - 1)
            matrix[:, k] *= -1
    turned_affine = np.column_stack([matrix[:, order[2]], matrix[:, order[1]], matrix[:, order[0]], matrix[:, 3]])
    spacing = tuple(image.spacing_mm[a] for a in axes) if image.spacing_mm else None
    turned = replace(image, pixels=pixels, spacing_mm=spacing, affine=turned_affine, history=(*image.history, "turned to canonical axes"))
    return turned, lambda answer: answer[flips].transpose(undo)


def _assigned(strength: NDArray[np.float64]) -> list[int]:
    """For each column the row it fits best, each row once: the permutation with the largest sum."""
    return list(max(permutations(range(3)), key=lambda p: float(strength[list(p), [0, 1, 2]].sum())))
