"""Two views of one picture that differ in colour and by a known turn, with the place of every pixel of the first in the second.

Chen et al., arXiv 2108.09440: one shared geometry (mirror, any turn, crop of .9–1 of the side), then for each view a turn of ±2° and
for the second also quarter turns; colours jittered by .4, .4, .4, .02, grey at times. The turn is undone pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Range, Share
from tacit.prepare.colour_jitter import OPERATIONS, jittered
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD, view


class LocalViewConfig(Config):
    crop: Range = (0.9, 1.0)  # side of the crop / shorter side of the picture
    turn: float = 180.0  # degrees, either way, of both views together
    own_turn: float = 2.0  # degrees, either way, of each view
    quarter_turns: bool = True  # of the second view
    flip: Share = 0.5  # probability of mirrored views
    brightness: Share = 0.4  # factors are uniform in 1 ± this
    contrast: Share = 0.4  # likewise
    saturation: Share = 0.4  # likewise
    hue: Share = 0.02  # turns of the colour circle
    grey: Share = 0.2  # probability of a grey view


@dataclass(frozen=True)
class LocalViews:
    """What `local_views` makes of a picture."""

    a: NDArray[np.float32]  # (3, side, side), normalised as ImageNet is
    b: NDArray[np.float32]
    grid: NDArray[np.float32]  # (side, side, 2), where a pixel of a lies in b: x, y from −1 to 1, the outer edges of the outer pixels
    inside: NDArray[np.float32]  # (side, side), 1 where it lies in b
    mix: NDArray[np.float32]  # (), a draw from 0–1 for a mixture of pictures


def local_views(rng: np.random.Generator, picture: NDArray[np.uint8], side: int, c: LocalViewConfig = LocalViewConfig()) -> LocalViews:
    """Two views of picture (h, w, 3) RGB uint8; the same generator state gives the same views."""
    h, w = picture.shape[:2]
    zoom = rng.uniform(*c.crop) * min(h, w) / side
    mirror = -1.0 if rng.random() < c.flip else 1.0
    room = np.maximum(np.array([w, h]) - zoom * side, 0) / 2
    middle = np.array([w - 1, h - 1]) / 2 + rng.uniform(-1, 1, 2) * room
    shared = _turned(rng.uniform(-c.turn, c.turn)) @ np.diag([mirror, 1.0]) * zoom
    quarter = 90.0 * int(rng.integers(4)) if c.quarter_turns else 0.0
    maps = [_affine(shared @ _turned(rng.uniform(-c.own_turn, c.own_turn) + extra), middle, side) for extra in (0.0, quarter)]
    a, b = (_coloured(rng, view(picture, matrix, side), c) for matrix in maps)
    x, y = _places(maps[0], maps[1], side)
    inside = (x > -0.5) & (x < side - 0.5) & (y > -0.5) & (y < side - 0.5)
    grid = np.stack([(2 * x + 1) / side - 1, (2 * y + 1) / side - 1], -1)
    return LocalViews(a, b, grid.astype(np.float32), inside.astype(np.float32), np.asarray(rng.random(), np.float32))


def _turned(degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _affine(linear: NDArray[np.float64], middle: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """View pixels to picture pixels (2, 3), x, y order; the view's middle lies on `middle`."""
    return np.hstack([linear, (middle - linear @ np.full(2, (side - 1) / 2))[:, None]])


def _places(a: NDArray[np.float64], b: NDArray[np.float64], side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y in view b of every pixel of view a, each (side, side)."""
    back = np.linalg.inv(b[:, :2])
    linear, offset = back @ a[:, :2], back @ (a[:, 2] - b[:, 2])
    y, x = np.mgrid[0:side, 0:side]
    return linear[0, 0] * x + linear[0, 1] * y + offset[0], linear[1, 0] * x + linear[1, 1] * y + offset[1]


def _coloured(rng: np.random.Generator, seen: NDArray[np.uint8], c: LocalViewConfig) -> NDArray[np.float32]:
    by = rng.uniform(-1, 1, 4) * (c.brightness, c.contrast, c.saturation, c.hue)
    operations = [(name, float(value if name == "hue" else 1 + value)) for name, value in zip(OPERATIONS, by, strict=True)]
    operations = [operations[i] for i in rng.permutation(4)]
    x = (seen / 255).astype(np.float32)
    x = jittered(x, [*operations, ("saturation", 0.0)] if rng.random() < c.grey else operations, in_place=True)
    return np.ascontiguousarray(((x - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_SD)).transpose(2, 0, 1), np.float32)
