"""Drawn opacities: lung that pneumonia has filled, put into slices of real or drawn lungs, whose masks stay what they were.

Ours. Air thresholds lose such lung; a network that has seen it drawn inside lung masks keeps it. Each opacity is a disc with a
wavy edge, as dense as fluid in its middle where it is a consolidation, a veil where it is ground glass.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS_MM = (6.0, 35.0)
DENSITY_HU = (-100.0, 70.0)  # of what fills the lung
STRENGTH = (0.4, 1.0)  # 1: nothing of the lung's own grey is left, a consolidation


def draw_opacities(rng: np.random.Generator, hu: NDArray, lung: NDArray[np.bool_], mm_per_px: float) -> NDArray[np.float32]:
    """The slice (h, w) in HU with one to three opacities inside `lung` (h, w); a slice without lung comes back as it is.

    A pure function of the generator's state; the input is not changed.
    """
    drawn = hu.astype(np.float32)
    places = np.argwhere(lung)
    if not len(places):
        return drawn
    rows, cols = np.mgrid[: hu.shape[0], : hu.shape[1]]
    for _ in range(int(rng.integers(1, 4))):
        row, col = places[int(rng.integers(len(places)))]
        radius = float(rng.uniform(*RADIUS_MM)) / mm_per_px
        dense, strength = float(rng.uniform(*DENSITY_HU)), float(rng.uniform(*STRENGTH))
        wave = cv2.GaussianBlur(rng.standard_normal(hu.shape).astype(np.float32), (0, 0), max(radius / 3, 0.5))
        far = np.hypot(rows - row, cols - col) / radius + 0.3 * wave / max(float(wave.std()), 1e-6)
        share = strength * np.clip((1.1 - far) / 0.2, 0, 1) * lung
        grain = 25 * cv2.GaussianBlur(rng.standard_normal(hu.shape).astype(np.float32), (0, 0), 0.7)
        drawn += share * (dense + grain - drawn)
    return drawn.astype(np.float32)
