"""What a scanner makes of a body: point spread, thick slices, motion, a sharp or soft kernel, noise with its grain, a round picture.

Only noise is drawn here; all of it comes from a seed and a slice's height, so that one phantom with and without a lesion has the same noise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.phantom.ct_grid import Grid, Plane

LOWEST, HIGHEST = -1024, 3071  # HU that 12 bits hold


def moved(plane: Plane, mm: float, px: float) -> Plane:
    """The slice smeared from front to back, as breathing does: the mean of three places."""
    if mm < 0.2 * px:
        return plane
    shift = np.array([[1, 0, 0], [0, 1, mm / px]], np.float64)
    back = np.array([[1, 0, 0], [0, 1, -0.6 * mm / px]], np.float64)
    size = plane.shape[::-1]
    once, twice = (cv2.warpAffine(plane, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for m in (shift, back))
    return np.asarray((plane + once + twice) / 3, np.float32)


def spread(plane: Plane, sigma_mm: float, px: float) -> Plane:
    """The point spread within a slice."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_mm / px), np.float32) if sigma_mm > 0.25 * px else plane


def thick(planes: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """(n + 2, h, w) → (n, h, w): every slice with `share` of either neighbour in it."""
    return (1 - 2 * np.float32(share)) * planes[1:-1] + np.float32(share) * (planes[:-2] + planes[2:])


def sharpened(plane: Plane, amount: float, px: float) -> Plane:
    """The overshoot of a sharp kernel at edges; soft tissue and air stay what they are."""
    if amount <= 0:
        return plane
    return np.asarray(plane + np.float32(0.35 * amount) * (plane - cv2.GaussianBlur(plane, (0, 0), max(1.2 / px, 0.5))), np.float32)


def noise(seed: int, grid: Grid, k: int, p: dict[str, float]) -> Plane:
    """HU of slice k: of SD `noise_hu` in the middle, less towards the edges, correlated over `noise_mm`."""
    rng = np.random.default_rng([seed, round(grid.z(k) * 1000) + 10**7])
    white = rng.standard_normal(grid.shape[1:], np.float32)
    sigma = p["noise_mm"] / grid.px
    if sigma > 0.25:
        white = cv2.GaussianBlur(white, (0, 0), sigma)
        if p["sharpen"] > 0.35:  # a sharp kernel's noise lacks its slow part
            white -= cv2.GaussianBlur(white, (0, 0), 2.5 * sigma)
        white /= max(float(white.std()), 1e-6)
    fall = 1 - 0.55 * np.clip(np.hypot(grid.x, grid.y) / 190, 0, 1)
    return np.asarray(p["noise_hu"] * fall * white, np.float32)


def stored(hu: Plane) -> NDArray[np.int16]:
    """Rounded to whole HU within what a file holds."""
    return np.clip(np.rint(hu), LOWEST, HIGHEST).astype(np.int16)


def beyond_circle(grid: Grid) -> NDArray[np.bool_]:
    """Where a round picture holds nothing, (h, w)."""
    h, w = grid.shape[1:]
    rows, cols = np.ogrid[:h, :w]
    return np.asarray((rows - (h - 1) / 2) ** 2 + (cols - (w - 1) / 2) ** 2 > (min(h, w) / 2) ** 2)
