"""The lungs of a chest CT by morphology alone: a mask, left and right apart, volumes in litres.

The pipeline of `docs/lungs.md`: air by a band of Hounsfield units; air that reaches the picture's edge is the room's and goes first
(otherwise the room becomes lung); closing; opening; the largest pieces; closing; holes filled slice by slice.
Nothing is learnt and nothing is tuned to a scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive
from tacit.errors import InputError
from tacit.image import Image
from tacit.prepare.space import canonical
from tacit.prepare.volume_shapes import Mask, closed, eroded, filled, opened, pieces, without_border_pieces

RIGHT, LEFT = 1, 2  # values in the mask: the patient's right and left lung


class LungConfig(Config):
    air_hu: float = -500.0  # denser than this is tissue
    wall_mm: Positive = 5.0  # air that the edge cuts is lung where so much tissue lies beside it on the edge, else it is the room's
    closing_mm: Positive = 2.0  # half-width of gaps (vessels, fissures' walls) that are bridged
    opening: Count = 1  # steps of one voxel by which thin air (airways, gas in the bowel's folds) is taken away
    least_litres: Positive = 0.05  # a smaller piece is no lung
    least_share: float = 0.08  # of the largest piece; a smaller one is no lung
    hole_cm2: Positive = 16.0  # holes up to this are filled in each slice: vessels and consolidations, not the dome of the liver
    airway_hu: float = -900.0  # a piece of a slice near the midline that is darker than this …
    airway_cm2: Positive = 8.0  # … and no larger than this is windpipe or bronchus, not lung
    airway_mm: Positive = 30.0  # how near the midline
    split_mm: Positive = 3.0  # voxel at which joined lungs are parted
    plausible_litres: tuple[float, float] = (0.8, 10.0)  # a total beyond is warned about


@dataclass(frozen=True)
class Lungs:
    """mask: (d, h, w) uint8 in the image's own axes, 0 outside, 1 the patient's right lung, 2 the left."""

    mask: NDArray[np.uint8]
    right_litres: float
    left_litres: float
    warnings: tuple[str, ...]

    @property
    def litres(self) -> float:
        return self.right_litres + self.left_litres


def find_lungs(image: Image, config: LungConfig | None = None, mask_of: Callable[[Image], Mask] | None = None) -> Lungs:
    """The lungs of a CT volume in Hounsfield units (d, h, w) with known spacing. Raises InputError where there are none or it is no CT.

    mask_of: gives both lungs (d, h, w) 0/1 of the volume turned to canonical axes; without it, morphology does. Of its pieces
    the largest stay.
    """
    c = config or LungConfig()
    if image.axes != "dhw" or image.spacing_mm is None:
        raise InputError(f"{image.name}: lungs are looked for in a volume with known spacing; this has axes {image.axes!r} and spacing {image.spacing_mm}")
    if image.pixels.dtype.kind == "f" and not np.isfinite(image.pixels).all():
        raise InputError(f"{image.name}: it holds values that are not finite; replace them, for example by -1024 HU")
    low, high = int(image.pixels.min()), int(image.pixels.max())
    if low > -500 or high < 100:
        raise InputError(f"{image.name}: values {low} … {high} are no Hounsfield units of a chest CT (air is −1000, tissue about 0)")
    upright, back = canonical(image)
    assert upright.spacing_mm is not None
    mask = largest(mask_of(upright), upright.spacing_mm, c) if mask_of else lung_mask(upright.pixels, upright.spacing_mm, c)
    if not mask.any():
        raise InputError(f"{image.name}: no lungs were found (no {'piece' if mask_of else 'enclosed air'} of at least {c.least_litres} L)")
    sides = part_sides(mask, upright.spacing_mm, c, midline(upright.pixels, mask))
    litre = float(np.prod(upright.spacing_mm)) / 1e6
    right, left = (float((sides == side).sum()) * litre for side in (RIGHT, LEFT))
    return Lungs(back(sides), right, left, _warnings(right, left, c))


def _warnings(right: float, left: float, c: LungConfig) -> tuple[str, ...]:
    low, high = c.plausible_litres
    found = []
    if not low <= right + left <= high:
        found.append(f"{right + left:.2f} L of lung are not plausible (expected {low:g}–{high:g} L)")
    if min(right, left) < 0.15 * max(right, left):
        found.append(f"one side holds {min(right, left):.2f} L, the other {max(right, left):.2f} L")
    return tuple(found)


def lung_mask(hu: NDArray, spacing_mm: tuple[float, ...], c: LungConfig) -> Mask:
    """Both lungs, (d, h, w) 0/1, of Hounsfield units (d, h, w) seen from the feet (rows to the back, columns to the left)."""
    steps = max(round(c.closing_mm / min(spacing_mm[1:])), 1)
    air = without_border_pieces((hu <= c.air_hu).view(np.uint8), c.wall_mm / min(spacing_mm[1:]))
    top, box = _box(air, steps + c.opening)
    if top is None:
        return air
    kept = largest(opened(air[box], c.opening), spacing_mm, c)
    area = spacing_mm[1] * spacing_mm[2] / 100  # cm² of a pixel
    air[:] = 0
    air[box] = filled(closed(kept, steps), c.hole_cm2 / area)
    return without_airways(air, hu, spacing_mm, c)


def without_airways(mask: Mask, hu: NDArray, spacing_mm: tuple[float, ...], c: LungConfig) -> Mask:
    """The mask without the slice pieces that are windpipe or main bronchus: small, dark, near the midline."""
    middle, area = midline(hu, mask), spacing_mm[1] * spacing_mm[2] / 100
    kept = mask.copy()
    for k in np.flatnonzero(mask.any((1, 2))):
        count, labels, stats, centres = cv2.connectedComponentsWithStats(mask[k], connectivity=4)
        small = (stats[:, cv2.CC_STAT_AREA] * area <= c.airway_cm2) & (np.abs(centres[:, 0] - middle) * spacing_mm[2] <= c.airway_mm)
        for piece in np.flatnonzero(small[1:]) + 1:
            left, top, width, height = stats[piece, :4]
            window = np.s_[top : top + height, left : left + width]
            where = labels[window] == piece
            if np.median(hu[k][window][where]) < c.airway_hu:
                kept[k][window][where] = 0
    return kept


def _box(mask: Mask, margin: int) -> tuple[int | None, tuple[slice, ...]]:
    """The part of the volume that holds anything, with a margin; None where nothing does."""
    planes = np.flatnonzero(mask.any((1, 2)))
    if not len(planes):
        return None, ()
    flat = mask.max(0)
    rows, cols = np.flatnonzero(flat.any(1)), np.flatnonzero(flat.any(0))
    box = tuple(slice(max(int(i[0]) - margin, 0), int(i[-1]) + margin + 1) for i in (planes, rows, cols))
    return int(planes[0]), box


def largest(mask: Mask, spacing_mm: tuple[float, ...], c: LungConfig) -> Mask:
    """The largest pieces: at most two, at least as large as the config says."""
    labels, sizes = pieces(mask)
    if not len(sizes):
        return mask
    least = max(c.least_litres * 1e6 / float(np.prod(spacing_mm)), c.least_share * float(sizes[0]))
    count = int((sizes[:2] >= least).sum())
    return ((labels > 0) & (labels <= count)).view(np.uint8)


def midline(hu: NDArray, mask: Mask) -> float:
    """Mean column of the body's tissue in the slices that hold lung; beyond the picture where that shows one side only."""
    columns = np.zeros(hu.shape[2])
    for k in np.flatnonzero(mask.any((1, 2))):
        columns += (hu[k] > -200).sum(0)
    first, last = int(mask[:, :, 0].sum()), int(mask[:, :, -1].sum())
    if max(first, last) > 20 * max(min(first, last), 1):  # the field of view cuts a lung on one side: the midline lies beyond
        return -1.0 if first > last else float(hu.shape[2])
    return float(np.average(np.arange(hu.shape[2]), weights=columns)) if columns.any() else hu.shape[2] / 2


def part_sides(mask: Mask, spacing_mm: tuple[float, ...], c: LungConfig, middle: float) -> Mask:
    """Right and left of a mask (d, h, w): two pieces by where they lie, one piece parted where it is thinnest.

    middle: the column between the sides. What lies on one side of it only is one lung.
    """
    labels, sizes = pieces(mask)
    if len(sizes) > 1 and sizes[1] >= 0.15 * sizes[0]:
        parts = np.where(labels <= 2, labels, 0).astype(np.uint8)
    else:
        parts = _parted(mask, spacing_mm, c)
    columns = _columns(parts)
    if len(columns) == 2 and min(columns) < middle < max(columns):
        names = (RIGHT, LEFT) if columns[0] < columns[1] else (LEFT, RIGHT)
        sides = np.array([0, *names], np.uint8)[parts]
        return np.where((mask > 0) & (parts == 0), _by_middle(mask, middle), sides).astype(np.uint8)
    return mask * np.uint8(RIGHT if np.mean(columns) < middle else LEFT)


def _columns(parts: Mask) -> list[float]:
    """Mean column of part 1 and of part 2, where they are there."""
    columns = np.arange(parts.shape[2])
    weights = [sum((plane == k).sum(0) for plane in parts) for k in (1, 2)]
    return [float(np.average(columns, weights=w)) for w in weights if np.any(w)]


def _by_middle(mask: Mask, middle: float) -> Mask:
    return mask * np.where(np.arange(mask.shape[2]) < middle, RIGHT, LEFT).astype(np.uint8)


def _parted(mask: Mask, spacing_mm: tuple[float, ...], c: LungConfig) -> Mask:
    """One piece as parts 1 and 2: shrunk on a coarse grid until two large pieces remain, each voxel then goes to the nearer; else part 1."""
    from scipy.ndimage import distance_transform_edt

    every = tuple(max(round(c.split_mm / s), 1) for s in spacing_mm)
    core = np.ascontiguousarray(mask[:: every[0], :: every[1], :: every[2]])
    for _ in range(12):
        core = eroded(core)
        labels, sizes = pieces(core)
        if not len(sizes):
            return mask
        if len(sizes) > 1 and sizes[1] >= 0.2 * sizes[0]:
            break
    else:
        return mask
    seeds = np.where(labels <= 2, labels, 0).astype(np.uint8)
    size = [e * s for e, s in zip(every, spacing_mm, strict=True)]
    nearest = distance_transform_edt(seeds == 0, sampling=size, return_distances=False, return_indices=True)
    parts = seeds[tuple(nearest)]
    whole = np.empty_like(mask)
    for k in range(len(mask)):
        plane = parts[min(k // every[0], len(parts) - 1)]
        whole[k] = cv2.resize(plane, mask.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
    return whole * mask
