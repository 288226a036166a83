"""A drawn retina without vessels: light, choroid, macula, disc, and what may be mistaken for a vessel but is none.

Reflectance is three planes (red, green, blue) of 0–1; lengths are pixels of a field 540 px wide, multiplied by `scale`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.phantom.texture import smooth_noise, stamp

Planes = NDArray[np.float32]  # (h, w, 3)


def draw_ground(rng: np.random.Generator, shape: tuple[int, int], scale: float, disc: tuple[float, float], macula: tuple[float, float]) -> Planes:
    """The retina's own colour, bright towards the middle of the light, with choroidal streaks, a macula and a disc. points: row, col in px."""
    h, w = shape
    rows, cols = np.mgrid[:h, :w].astype(np.float32)
    base = np.array([rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.55), rng.uniform(0.08, 0.3)], np.float32)
    lamp = np.array([rng.uniform(0.3, 0.7) * h, rng.uniform(0.3, 0.7) * w])
    fall = rng.uniform(0.1, 0.55) * (np.hypot(rows - lamp[0], cols - lamp[1]) / (0.6 * max(h, w))) ** 2
    light = np.clip(1 - fall, 0.2, 1) * (1 + 0.05 * smooth_noise(rng, shape, 160 * scale))
    streak = rng.uniform(0, 0.07) * smooth_noise(rng, shape, rng.uniform(14, 40) * scale) + rng.uniform(0.0, 0.03) * smooth_noise(rng, shape, 5 * scale)
    planes = base * (light * (1 + streak))[..., None]
    dark = np.exp(-((np.hypot(rows - macula[0], cols - macula[1]) / (rng.uniform(25, 70) * scale)) ** 2))
    planes *= 1 - np.array([0.15, 0.4, 0.35], np.float32) * rng.uniform(0.2, 1) * dark[..., None]
    radius = rng.uniform(34, 50) * scale
    far = np.hypot((rows - disc[0]) / rng.uniform(0.9, 1.15), cols - disc[1]) / radius
    edge = np.clip((1 - far) / rng.uniform(0.04, 0.25) + 0.5, 0, 1) + rng.uniform(0, 0.5) * np.clip((rng.uniform(0.3, 0.7) - far) / 0.2, 0, 1)
    colour = np.array([0.35, rng.uniform(0.5, 1.1), rng.uniform(0.3, 1.1)], np.float32) * rng.uniform(0.4, 1)
    planes *= 1 + colour * edge[..., None]
    return np.asarray(planes, np.float32)


def add_distractors(rng: np.random.Generator, planes: Planes, scale: float, amount: float) -> None:
    """Bleedings, exudates, drusen, pigment, broad choroidal vessels and bright streaks, in place; amount 0–1 scales how many."""
    shape = planes.shape[:2]
    darker, brighter = np.array([0.45, 1.0, 0.9], np.float32), np.array([0.4, 1.0, 0.5], np.float32)
    for many, size, strength, colour, sign in (
        (30, (1.0, 4.0), (0.1, 0.5), darker, -1),  # dots
        (8, (4.0, 16.0), (0.1, 0.5), darker, -1),  # blots and flames
        (40, (1.0, 5.0), (0.1, 0.6), brighter, 1),  # hard exudates, drusen
        (5, (6.0, 22.0), (0.1, 0.5), brighter, 1),  # cotton wool
    ):
        if rng.random() < 0.5 * amount:
            canvas = _blobs(rng, shape, int(rng.integers(1, many + 1)), (size[0] * scale, size[1] * scale))
            planes *= 1 + sign * rng.uniform(*strength) * colour * canvas[..., None]
    for width, strength, way in (((9.0, 22.0), (0.02, 0.1), -1.0), ((9.0, 22.0), (0.02, 0.12), 1.0), ((1.0, 4.0), (0.03, 0.2), 1.0)):
        if rng.random() < 0.5 * amount:
            streaks = _streaks(rng, shape, (width[0] * scale, width[1] * scale))
            planes *= 1 + way * rng.uniform(*strength) * streaks[..., None]
    if rng.random() < 0.3 * amount:  # the sharp edge of a shadow or of an atrophy
        rows, cols = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        angle, at = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4) * max(shape)
        side = (rows - shape[0] / 2) * np.sin(angle) + (cols - shape[1] / 2) * np.cos(angle) + 12 * scale * smooth_noise(rng, shape, 60 * scale) - at
        planes *= 1 - rng.uniform(0.05, 0.3) * np.clip(side / (rng.uniform(1, 12) * scale), 0, 1)[..., None]
    np.clip(planes, 0, 1.2, out=planes)


def _blobs(rng: np.random.Generator, shape: tuple[int, int], count: int, size: tuple[float, float]) -> NDArray[np.float32]:
    """Soft ellipses, often in clusters, 0–1. (h, w)"""
    canvas = np.zeros(shape, np.uint8)
    middle, loose = rng.uniform(0, 1, 2) * shape, rng.uniform(0.05, 0.8) * max(shape)
    centres = middle + loose * rng.standard_normal((count, 2))
    axes = np.exp(rng.uniform(np.log(size[0]), np.log(size[1]), (count, 1))) * rng.uniform(0.4, 1, (count, 2))
    stamp(canvas, centres, axes, rng.uniform(0, np.pi, count), rng.uniform(80, 255, count))
    return np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), rng.uniform(0.6, 2.0)), np.float32)


def _streaks(rng: np.random.Generator, shape: tuple[int, int], width: tuple[float, float]) -> NDArray[np.float32]:
    """Soft bent bands about `width` px wide, 0–1. (h, w)"""
    canvas = np.zeros(shape, np.uint8)
    for _ in range(int(rng.integers(1, 9))):
        steps = rng.uniform(0.4, 1.2) * max(shape) / 30
        headings = rng.uniform(0, 2 * np.pi) + np.cumsum(0.15 * rng.standard_normal(30))
        points = rng.uniform(0, 1, 2) * shape + np.cumsum(steps * np.stack([np.sin(headings), np.cos(headings)], 1), 0)
        wide = max(round(float(rng.uniform(*width))), 1)
        cv2.polylines(canvas, [np.rint(points[:, ::-1] * 16).astype(np.int32)], False, 255, wide, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), max(0.25 * width[0], 0.7)), np.float32)
