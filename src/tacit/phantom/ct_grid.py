"""Where voxels lie, in millimetres of the body, and the brushes that every part of a drawn CT shares.

The body's frame: x from the patient's right (−) to the left (+), y from front (−) to back (+), z from feet (−) to head (+); its origin lies in the
middle of the chest at the height of the right diaphragm's dome. Volumes are (d, h, w): slices from feet to head, rows from front to back,
columns from the patient's right to the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]  # (h, w)
Point = tuple[float, float, float]  # x, y, z mm
REACH_MM = 340.0  # noise is laid out over ± this


@dataclass(frozen=True)
class Grid:
    """A volume's voxels. spacing_mm (d, h, w) · origin_mm: the middle of voxel (0, 0, 0) as z, y, x."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    @cached_property
    def x(self) -> Plane:
        """x of every column, (1, w)."""
        return (self.origin_mm[2] + self.spacing_mm[2] * np.arange(self.shape[2], dtype=np.float32))[None].astype(np.float32)

    @cached_property
    def y(self) -> Plane:
        """y of every row, (h, 1)."""
        return (self.origin_mm[1] + self.spacing_mm[1] * np.arange(self.shape[1], dtype=np.float32))[:, None].astype(np.float32)

    def z(self, k: int) -> float:
        """z of slice k."""
        return self.origin_mm[0] + self.spacing_mm[0] * k

    @property
    def px(self) -> float:
        """Side of a pixel in a slice, mm (geometric mean)."""
        return float(np.sqrt(self.spacing_mm[1] * self.spacing_mm[2]))

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) voxel (w, h, d, 1) → mm right, anterior, superior, as NIfTI has it."""
        d, h, w = self.spacing_mm
        z, y, x = self.origin_mm
        return np.array([[-w, 0, 0, -x], [0, -h, 0, -y], [0, 0, d, z], [0, 0, 0, 1]], np.float64)


def cover(inside_mm: NDArray[Any], px: float) -> Plane:
    """The share of each pixel that a shape covers, 0–1, from how deep the pixel's middle lies inside it, mm."""
    return np.asarray(np.clip(inside_mm / np.float32(px) + np.float32(0.5), 0, 1), np.float32)


def lay(hu: Plane, share: Plane, value: Plane | float) -> None:
    """Puts `value` over `hu` in place where `share` is 1, and a mixture where it is less."""
    hu += share * (value - hu)


def smaller(a: Plane, b: Plane, round_mm: float) -> Plane:
    """The smaller of two depths, its inner corners rounded by about `round_mm`."""
    h = np.clip(round_mm - np.abs(a - b), 0, None) / round_mm
    return np.minimum(a, b) - h * h * (round_mm / 4)


def step(value: Plane | float, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between (also falling, where low > high)."""
    t = np.clip((np.asarray(value, np.float32) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def ellipse(x: Plane, y: Plane, centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Plane:
    """How deep a point lies inside an ellipse, mm (about; exact on the edge). turn: radians from x towards y."""
    dx, dy = x - centre[0], y - centre[1]
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = (cos * dx + sin * dy) / radii[0], (cos * dy - sin * dx) / radii[1]
    return np.asarray((1 - np.sqrt(u * u + v * v)) * min(radii), np.float32)


def ellipsoid(x: Plane, y: Plane, z: float, centre: Point, radii: Point, turn: float = 0.0) -> Plane:
    """How deep a point of slice z lies inside an ellipsoid turned in the slice's plane, mm (about)."""
    dx, dy, w = x - centre[0], y - centre[1], (z - centre[2]) / radii[2]
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = (cos * dx + sin * dy) / radii[0], (cos * dy - sin * dx) / radii[1]
    return np.asarray((1 - np.sqrt(u * u + v * v + w * w)) * min(radii), np.float32)


def capsule(x: Plane, y: Plane, z: float, start: Point, end: Point, radius: float) -> Plane:
    """How deep a point of slice z lies inside a rod with round ends, mm."""
    a, line = np.asarray(start, np.float32), np.subtract(end, start).astype(np.float32)
    px, py, pz = x - a[0], y - a[1], np.float32(z) - a[2]
    t = np.clip((px * line[0] + py * line[1] + pz * line[2]) / float(line @ line), 0, 1)
    return radius - np.sqrt((px - t * line[0]) ** 2 + (py - t * line[1]) ** 2 + (pz - t * line[2]) ** 2)


class SolidNoise:
    """Gaussian noise of mean 0 and SD about 1 in space, whose structures are about `wavelength` mm wide; the same in any grid.

    Only two coarse planes are held at a time, so memory does not grow with the volume.
    """

    def __init__(self, seed: int, wavelength: float) -> None:
        self.seed, self.every = seed, wavelength / 2
        self.side = int(2 * REACH_MM / self.every) + 4
        self.held: dict[int, Plane] = {}

    def at(self, grid: Grid, z: float) -> Plane:
        """The slice at height z, (h, w)."""
        place = z / self.every
        k = int(np.floor(place))
        t = np.float32(place - k)
        near = (1 - t) * self._plane(k) + t * self._plane(k + 1)
        near /= np.sqrt((1 - t) ** 2 + t**2)
        across, down = grid.spacing_mm[2] / self.every, grid.spacing_mm[1] / self.every
        left, top = (grid.origin_mm[2] + REACH_MM) / self.every, (grid.origin_mm[1] + REACH_MM) / self.every
        matrix = np.array([[across, 0, left], [0, down, top]], np.float64)
        how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(near, matrix, grid.shape[:0:-1], flags=how, borderMode=cv2.BORDER_REFLECT_101)) * np.float32(1.25)

    def _plane(self, k: int) -> Plane:
        if k not in self.held:
            for old in [j for j in self.held if abs(j - k) > 1]:
                del self.held[old]
            rng = np.random.default_rng([self.seed, k + 100_000])
            self.held[k] = rng.standard_normal((self.side, self.side), np.float32)
        return self.held[k]
