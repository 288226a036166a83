"""Volumes at another spacing or length: in the plane by OpenCV, across slices by explicit weights, slice by slice so that memory stays small.

Voxels are boxes: the outer faces of the volume stay where they are, so spacing and affine follow from the numbers of voxels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.image import Image

How = Literal["nearest", "linear", "area", "cubic"]
IN_PLANE = {"nearest": cv2.INTER_NEAREST_EXACT, "linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}
CUBIC = -0.5  # Keys 1981: the kernel that keeps straight lines and parabolas


def to_shape(image: Image, shape: tuple[int, ...], how: How = "area") -> Image:
    """The image with `shape` (d, h, w) or (h, w) voxels over the same extent. Values keep their type (whole numbers are rounded and clipped).

    how: nearest · linear · area (the mean over each new voxel's box when shrinking, linear when growing) · cubic (may overshoot).
    """
    if how not in IN_PLANE:
        raise UsageError(f"interpolation {how!r} is unknown; known are {', '.join(IN_PLANE)}")
    if len(shape) != len(image.shape) or min(shape) < 1:
        raise UsageError(f"{image.name}: wanted {len(image.shape)} positive sizes, got {shape}")
    before = image.shape
    if shape == before:
        return image
    pixels = _volume(image.pixels, shape, how) if image.axes == "dhw" else _plane(image.pixels, shape, how)
    spacing = tuple(s * a / b for s, a, b in zip(image.spacing_mm, before, shape, strict=True)) if image.spacing_mm else None
    words = f"{'×'.join(map(str, before))} to {'×'.join(map(str, shape))}, {how}"
    return replace(image.after(words, pixels, spacing), affine=_moved(image.affine, before, shape))


def to_spacing_mm(image: Image, spacing_mm: tuple[float | None, ...], how: How = "area") -> Image:
    """The image at a spacing in mm along each axis (None keeps that axis), as nearly as whole voxels allow. Raises InputError where none is known."""
    if image.spacing_mm is None:
        raise InputError(f"{image.name}: its spacing is not known; give it with --mpp, or use a format that states it")
    if len(spacing_mm) != len(image.shape) or any(s is not None and s <= 0 for s in spacing_mm):
        raise UsageError(f"{image.name}: wanted {len(image.shape)} positive spacings in mm, got {spacing_mm}")
    pairs = zip(image.shape, image.spacing_mm, spacing_mm, strict=True)
    return to_shape(image, tuple(n if wanted is None else max(round(n * old / wanted), 1) for n, old, wanted in pairs), how)


def isotropic(image: Image, to: Literal["finest", "coarsest"] = "finest", how: How = "area") -> Image:
    """Equal spacing along all axes: sampled up to the finest, or down to the coarsest."""
    if image.spacing_mm is None:
        raise InputError(f"{image.name}: its spacing is not known, so it cannot be made equal along all axes")
    side = min(image.spacing_mm) if to == "finest" else max(image.spacing_mm)
    return to_spacing_mm(image, (side,) * len(image.shape), how)


def to_length(image: Image, slices: int, how: How = "linear") -> Image:
    """A volume of exactly `slices` slices."""
    return to_shape(image, (slices, *image.shape[1:]), how)


def _plane(plane: NDArray, size: tuple[int, ...], how: How) -> NDArray:
    if plane.shape[:2] == tuple(size):
        return plane
    if how == "area" and (size[0] > plane.shape[0] or size[1] > plane.shape[1]):  # an axis that grows is linear, one that shrinks is averaged
        first = (min(size[0], plane.shape[0]), min(size[1], plane.shape[1]))
        plane = _plane(plane, first, "area") if first != plane.shape[:2] else plane
        return _plane(plane, size, "linear") if first != tuple(size) else plane
    exact = plane if plane.dtype in (np.uint8, np.int16, np.uint16, np.float32) and how == "nearest" else plane.astype(np.float32)
    return _as(cv2.resize(exact, (size[1], size[0]), interpolation=IN_PLANE[how]), plane.dtype)


def _as(values: NDArray, dtype: np.dtype) -> NDArray:
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)


def _volume(volume: NDArray, shape: tuple[int, ...], how: How) -> NDArray:
    made = np.empty(shape, volume.dtype)
    ready: dict[int, NDArray] = {}
    for k, (indices, weights) in enumerate(slice_weights(len(volume), shape[0], how)):
        for i in [i for i in ready if i < min(indices)]:
            del ready[i]
        for i in indices:
            if i not in ready:
                ready[i] = _plane(volume[i], shape[1:], how)
        if len(indices) == 1:
            made[k] = ready[indices[0]]
        else:
            total = sum(np.float32(w) * ready[i].astype(np.float32) for i, w in zip(indices, weights, strict=True))
            made[k] = _as(np.asarray(total), volume.dtype)
    return made


def slice_weights(before: int, after: int, how: How) -> list[tuple[list[int], list[float]]]:
    """For each of `after` new slices the old slices it is made of and their weights, which sum to 1.

    >>> slice_weights(4, 2, "area")
    [([0, 1], [0.5, 0.5]), ([2, 3], [0.5, 0.5])]
    """
    ratio = before / after
    if how == "area" and ratio > 1:
        return [_box(k * ratio, (k + 1) * ratio, before) for k in range(after)]
    found = []
    for k in range(after):
        at = (k + 0.5) * ratio - 0.5
        if how == "nearest":
            taps = {min(max(int(np.floor(at + 0.5)), 0), before - 1): 1.0}
        else:
            reach = 2 if how == "cubic" else 1
            taps = {}
            for i in range(int(np.floor(at)) - reach + 1, int(np.floor(at)) + reach + 1):
                weight = _keys(at - i) if how == "cubic" else max(0.0, 1 - abs(at - i))
                inside = min(max(i, 0), before - 1)
                taps[inside] = taps.get(inside, 0.0) + weight
            taps = {i: w for i, w in taps.items() if abs(w) > 1e-9}
        found.append((sorted(taps), [taps[i] for i in sorted(taps)]))
    return found


def _box(low: float, high: float, count: int) -> tuple[list[int], list[float]]:
    indices = range(int(np.floor(low + 1e-9)), min(int(np.ceil(high - 1e-9)), count))
    shares = [min(high, i + 1) - max(low, i) for i in indices]
    return list(indices), [s / sum(shares) for s in shares]


def _keys(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return (CUBIC + 2) * x**3 - (CUBIC + 3) * x**2 + 1
    return CUBIC * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def _moved(affine: NDArray[np.float64] | None, before: tuple[int, ...], after: tuple[int, ...]) -> NDArray[np.float64] | None:
    """The affine after resampling: longer voxels whose first centre lies half the difference further in."""
    if affine is None:
        return None
    moved = affine.copy()
    for column, (a, b) in enumerate(zip(before[::-1], after[::-1], strict=True)):
        moved[:, 3] += affine[:, column] * (a / b - 1) / 2
        moved[:, column] = affine[:, column] * (a / b)
    return moved
