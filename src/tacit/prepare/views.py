"""Seeded random views: a crop with turn, mirror and zoom, and a colour shift, as pure functions of a generator."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def view_matrix(rng: np.random.Generator, shape: tuple[int, int], size: int, *, zoom: float = 0.25) -> NDArray[np.float64]:
    """The affine map from view pixels to picture pixels (2, 3), OpenCV's x, y order.

    A square of `size` px, zoomed by up to ±`zoom` (log-uniform), mirrored at random and turned by any angle, its centre inside
    the picture as far as the picture is large enough.
    """
    scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(zoom)))
    angle = rng.uniform(0, 2 * np.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    half = size * scale / 2
    low = np.minimum(half * 0.7, np.asarray(shape) / 2)
    row, col = rng.uniform(low, np.maximum(np.asarray(shape) - low, low + 1e-6))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turned = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    middle = (size - 1) / 2
    return np.hstack([turned, (np.array([col, row]) - turned @ [middle, middle])[:, None]])


def view(picture: NDArray, matrix: NDArray[np.float64], size: int) -> NDArray:
    """`picture` (h, w[, c]) seen through `matrix`: (size, size[, c]), bilinear, mirrored beyond the edge."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def colour_shift(rng: np.random.Generator, x: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    """A standardised picture (c, h, w) with each channel's contrast and level moved by about `amount` SDs."""
    gain = np.exp(amount * rng.standard_normal((len(x), 1, 1)))
    return np.asarray(x * gain + amount * rng.standard_normal((len(x), 1, 1)), np.float32)
