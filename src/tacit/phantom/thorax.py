"""The outlines of a chest seen from the front: lungs, heart, clavicles, ribs, body.

Everything is laid out in a frame of its own and only then mapped to pixels: X from −1 (the patient's right, the picture's left) to 1 across the
rib cage, Y from 0 (apex of the lungs) to 1 (costophrenic angles). Points are (X, Y); fields are (h, w).
Proportions are those of textbooks of radiographic anatomy, drawn from wide ranges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]  # (h, w)
Mask = NDArray[np.bool_]  # (h, w)
Points = NDArray[np.float64]  # (n, 2) X, Y
SIDES = (-1.0, 1.0)  # the patient's right lung, then the left
_SUBPIXEL = 4  # OpenCV's fixed-point bits


@dataclass(frozen=True)
class Frame:
    """Where the chest lies in the picture. matrix (2, 3): (X, Y, 1) → (col, row) px."""

    matrix: NDArray[np.float64]
    shape: tuple[int, int]

    def fields(self) -> tuple[Field, Field]:
        """X and Y of every pixel's middle."""
        rows, cols = np.mgrid[0 : self.shape[0], 0 : self.shape[1]]
        (a, b), (c, d) = np.linalg.inv(self.matrix[:, :2]).tolist()
        right, down = cols - self.matrix[0, 2], rows - self.matrix[1, 2]
        return (a * right + b * down).astype(np.float32), (c * right + d * down).astype(np.float32)

    def pixels(self, points: Points) -> NDArray[np.int32]:
        """(n, 2) col, row in OpenCV's fixed point."""
        return np.rint((points @ self.matrix[:, :2].T + self.matrix[:, 2]) * (1 << _SUBPIXEL)).astype(np.int32)

    @property
    def px(self) -> float:
        """Pixels a unit of X."""
        return float(np.hypot(*self.matrix[:, 0]))

    def filled(self, points: Points) -> Field:
        """The polygon's share of every pixel, 0–1."""
        canvas = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(canvas, [self.pixels(points)], 255, cv2.LINE_AA, _SUBPIXEL)
        return np.asarray(canvas / 255, np.float32)

    def band(self, canvas: NDArray[np.uint8], points: Points, width: float, value: int) -> None:
        """A line of `width` (units of X) along the points, drawn on a uint8 canvas in place."""
        cv2.polylines(canvas, [self.pixels(points)], False, value, max(round(width * self.px), 1), cv2.LINE_AA, _SUBPIXEL)


@dataclass(frozen=True)
class Cage:
    """One lung's bounds on each side; index 0 is the patient's right."""

    apex: tuple[float, float]  # X (absolute) of the apex
    widest: tuple[float, float]  # Y where the cage is widest
    round: tuple[float, float]  # exponent of the shoulder of the outline: 2 = ellipse
    taper: tuple[float, float]  # how much it narrows below the widest
    inner: tuple[float, float]  # half-width of the mediastinum under the apex
    inner_low: tuple[float, float]  # and at its foot
    inner_deep: tuple[float, float]  # Y at which the apex has reached the mediastinum
    dome: tuple[float, float]  # Y of the diaphragm's top
    dome_at: tuple[float, float]  # X (absolute) of that top
    steep: tuple[float, float]  # exponent with which the diaphragm falls to the costophrenic angle
    fall: tuple[float, float]  # how far it falls on the inner side
    scallop: tuple[float, float]  # a small wave of the diaphragm
    middle: float  # X of the mediastinum's middle: a turned patient
    knob: tuple[float, float, float]  # aortic knob: height, Y, half-width; bulges to the patient's left
    aorta: float  # share of the knob's height that stays below it
    trunk: tuple[float, float]  # pulmonary trunk: bulge to the left, and its Y
    vein: tuple[float, float]  # superior vena cava: bulge to the right, and the Y where it ends


def outer(cage: Cage, k: int, y: Field) -> Field:
    """The absolute X of the rib cage's inner wall at Y."""
    above = np.clip(1 - y / cage.widest[k], 0, 1)
    x = cage.apex[k] + (1 - cage.apex[k]) * (1 - above ** cage.round[k]) ** (1 / cage.round[k])
    return np.asarray(x - cage.taper[k] * np.clip(y - cage.widest[k], 0, 1), np.float32)


def mediastinum(cage: Cage, k: int, y: Field) -> Field:
    """The absolute distance of the mediastinum's edge from its middle at Y."""
    x = cage.inner[k] + (cage.inner_low[k] - cage.inner[k]) * np.clip((y - 0.25) / 0.5, 0, 1)
    if k == 1:
        height, at, half = cage.knob
        arch = np.exp(-(((y - at) / half) ** 2))
        x = x + height * np.where(y > at, np.maximum(arch, cage.aorta), arch) + cage.trunk[0] * np.exp(-(((y - cage.trunk[1]) / 0.09) ** 2))
    else:
        x = x + cage.vein[0] / (1 + np.exp((y - cage.vein[1]) / 0.05))
    return np.asarray(x, np.float32)


def lung(cage: Cage, k: int, x: Field, y: Field) -> Field:
    """How far inside the lung of side k a pixel lies (negative outside), roughly in units of X; the heart is not cut out yet."""
    side = SIDES[k]
    wall = outer(cage, k, y) - side * x
    edge = mediastinum(cage, k, y)
    above = np.clip(1 - y / cage.inner_deep[k], 0, 1)
    root = (1 - above**2.0) ** 0.5
    inner = side * (x - cage.middle) - (edge + (cage.apex[k] - edge) * (1 - root))
    return np.asarray(np.minimum(np.minimum(wall, inner), np.minimum(y, diaphragm(cage, k, x) - y)), np.float32)


def diaphragm(cage: Cage, k: int, x: Field) -> Field:
    """Y of the diaphragm at X on side k: a dome that falls to 1 at the wall."""
    across = np.clip(SIDES[k] * x, 0, 1.2)
    out = np.clip((across - cage.dome_at[k]) / (1 - cage.dome_at[k]), 0, 1.3)
    into = np.clip((cage.dome_at[k] - across) / cage.dome_at[k], 0, 1)
    wave = cage.scallop[k] * np.sin(9 * across)
    return np.asarray(cage.dome[k] + (1 - cage.dome[k]) * out ** cage.steep[k] + cage.fall[k] * into**2 + wave * (1 - out.clip(0, 1)), np.float32)


def smooth_ring(points: Points, count: int = 96) -> Points:
    """A closed smooth curve through control points (n, 2): periodic cubic spline."""
    from scipy.interpolate import CubicSpline

    closed = np.vstack([points, points[:1]])
    walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T) ** 0.5)])
    return np.asarray(CubicSpline(walked, closed, bc_type="periodic")(np.linspace(0, walked[-1], count, endpoint=False)))


_HEART = np.array([[-0.18, 0.53], [0.0, 0.50], [0.17, 0.53], [0.43, 0.66], [0.62, 0.81], [0.57, 0.87], [0.15, 0.90], [-0.23, 0.84], [-0.31, 0.71]])


def heart(rng: np.random.Generator, size: float, width: float, lift: float, middle: float, wobble: float) -> Points:
    """The heart's outline (96, 2): a base that is narrow, an apex low on the patient's left, control points jittered."""
    ring = _HEART + wobble * rng.standard_normal(_HEART.shape)
    pivot = np.array([0.12, 0.88])
    ring = (ring - pivot) * [size * width, size] + pivot + [middle, lift]
    return smooth_ring(ring)


def clavicle(rng: np.random.Generator, k: int, middle: float, thick: float, low: float, rise: float) -> tuple[Points, float]:
    """The outline (n, 2) of a clavicle from its sternal end to the shoulder, and X of its sternal end: an S whose inner end is thicker."""
    start = rng.uniform(0.10, 0.20)
    t = np.linspace(0, 1, 24)
    across = start + (rng.uniform(1.05, 1.3) - start) * t
    bow = rng.uniform(-0.03, 0.05) * np.sin(2 * np.pi * t) + rng.uniform(-0.02, 0.04) * np.sin(np.pi * t)
    along = low - rise * t + bow
    half = 0.5 * thick * (1 + rng.uniform(0.1, 0.5) * np.exp(-t / 0.12) + 0.2 * t)
    normal = np.stack([-np.gradient(along), np.gradient(across)], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    line = np.stack([across, along], 1)
    ring = np.vstack([line - normal * half[:, None], (line + normal * half[:, None])[::-1]])
    return ring * [SIDES[k], 1] + [middle, 0], start


def ribs(rng: np.random.Generator, cage: Cage, k: int, first: float, apart: float, drop: float, front: float) -> tuple[list[Points], list[Points]]:
    """Centre lines of the ribs of a side: those behind (spine to wall, falling outwards) and those in front (wall to middle, falling inwards)."""
    behind, before = [], []
    t = np.linspace(0, 1, 20)
    count = int(1.15 / apart) + 1
    for i in range(count):
        y = first + apart * (i + 0.12 * rng.standard_normal())
        fall = drop * (0.55 + 0.9 * i / count)
        end = float(np.clip(y + fall, 0.03, 1.2))
        wall = float(outer(cage, k, np.array(min(end, 1.0), np.float32))) + 0.02
        rise = -0.10 * np.sin(np.pi * np.minimum(t * 1.3, 1)) * (1 - i / count)
        behind.append(np.stack([SIDES[k] * (0.06 + (wall - 0.06) * t**0.9), y + rise + (end - y) * t**2.2], 1))
        if 0 < i < count - 2:
            reach = rng.uniform(0.28, 0.5)
            low = end + front * (0.6 + 0.8 * i / count)
            before.append(np.stack([SIDES[k] * (wall - (wall - reach) * t**1.1), end + (low - end) * (1 - (1 - t) ** 1.8)], 1))
    return behind, before
