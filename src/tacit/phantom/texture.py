"""The brushes that every drawn anatomy shares: smooth noise, fibres, honeycombs, and many small ellipses.

All lengths are pixels of the canvas, all angles radians measured from the column axis towards the row axis,
all points (row, col). Randomness comes in as a NumPy generator.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]  # (h, w) float
_SUBPIXEL = 4  # OpenCV's fixed-point bits: ellipses are placed to 1/16 px


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> Plane:
    """Gaussian noise of mean 0 and SD about 1 whose structures are about `wavelength` pixels wide. (h, w)"""
    step = max(wavelength / 2, 1.0)
    grid = (max(int(shape[0] / step) + 3, 4), max(int(shape[1] / step) + 3, 4))
    coarse = rng.standard_normal(grid).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
    fine = fine[: shape[0], : shape[1]]
    return np.asarray((fine - fine.mean()) / (fine.std() + 1e-6), np.float32)


def displaced(plane: NDArray, d_row: Plane, d_col: Plane, *, nearest: bool = False) -> NDArray:
    """`plane` seen through a displacement field in pixels; mirrored beyond its edges."""
    h, w = plane.shape[:2]
    rows, cols = np.mgrid[0:h, 0:w].astype(np.float32)
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(plane, cols + d_col, rows + d_row, how, borderMode=cv2.BORDER_REFLECT_101)


def fibres(rng: np.random.Generator, direction: Plane, length: float, width: float) -> Plane:
    """Streaks along `direction` (radians, (h, w)), of mean 0 and SD 1: white noise averaged along the field.

    A few steps of line integral convolution (Cabral and Leedom, 1993), both ways, with growing steps.
    """
    h, w = direction.shape
    streaks = smooth_noise(rng, (h, w), max(width, 1.0))
    step = 0.6
    while step < length / 2:
        d_row, d_col = (np.sin(direction) * step).astype(np.float32), (np.cos(direction) * step).astype(np.float32)
        streaks = (streaks + displaced(streaks, d_row, d_col) + displaced(streaks, -d_row, -d_col)) / 3
        step *= 1.7
    return np.asarray((streaks - streaks.mean()) / (streaks.std() + 1e-6), np.float32)


def honeycomb(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> Plane:
    """0 on the walls, rising to about 1 in the middle of rounded cells about `cell` pixels wide (Worley noise)."""
    from scipy.spatial import cKDTree

    rows, cols = np.mgrid[-cell : shape[0] + cell : cell, -cell : shape[1] + cell : cell]
    seeds = np.stack([rows.ravel(), cols.ravel()], 1) + rng.uniform(-0.45, 0.45, (rows.size, 2)) * cell
    where = np.stack([*np.mgrid[0 : shape[0], 0 : shape[1]]], -1).reshape(-1, 2)
    near, _ = cKDTree(seeds).query(where, k=2)
    return np.clip((near[:, 1] - near[:, 0]) / (0.8 * cell), 0, 1).reshape(shape).astype(np.float32)


def stamp(
    canvas: NDArray[np.uint8],
    centres: NDArray,
    axes: NDArray,
    angles: NDArray,
    values: NDArray,
) -> None:
    """Draws filled anti-aliased ellipses on a uint8 canvas in place, later ones over earlier ones.

    centres (n, 2) row, col · axes (n, 2) half-lengths along and across the angle, px · angles (n,) radians · values (n,) 0–255.
    """
    one = 1 << _SUBPIXEL
    points = np.rint(centres[:, ::-1] * one).astype(int).tolist()
    halves = np.maximum(np.rint(axes * one), 1).astype(int).tolist()
    degrees = np.degrees(angles).tolist()
    for point, half, degree, value in zip(points, halves, degrees, values.tolist(), strict=True):
        cv2.ellipse(canvas, point, half, degree, 0, 360, value, -1, cv2.LINE_AA, _SUBPIXEL)


def along_level(depth: Plane, level: float, spacing: float) -> tuple[NDArray, NDArray]:
    """Points about `spacing` px apart on the outlines {depth = level}, and the direction in which depth rises there.

    Returns points (n, 2) row, col and angles (n,), both float; n may be 0.
    """
    outlines, _ = cv2.findContours((depth > level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    points = []
    for outline in outlines:
        ring = outline[:, 0, ::-1].astype(np.float64)
        if len(ring) < 4:
            continue
        walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(np.vstack([ring, ring[:1]]), axis=0).T))])
        count = int(walked[-1] / spacing)
        if count:
            at = np.searchsorted(walked, np.arange(count) * walked[-1] / count) % len(ring)
            points.append(ring[at])
    if not points:
        return np.zeros((0, 2)), np.zeros(0)
    found = np.concatenate(points)
    h, w = depth.shape
    inner = (found[:, 0] > 0) & (found[:, 0] < h - 1) & (found[:, 1] > 0) & (found[:, 1] < w - 1)
    found = found[inner]
    soft = cv2.GaussianBlur(depth, (0, 0), 1.5)
    rise_row, rise_col = cv2.Sobel(soft, cv2.CV_32F, 0, 1), cv2.Sobel(soft, cv2.CV_32F, 1, 0)
    r, c = found[:, 0].astype(int), found[:, 1].astype(int)
    return found, np.arctan2(rise_row[r, c], rise_col[r, c])
