"""B-COSFIRE filters for vessels: answers of a difference of Gaussians, collected at points along a line, multiplied.

Azzopardi, Strisciuglio, Vento and Petkov 2015 (Medical Image Analysis 19(1)), section 2; defaults are their DRIVE settings: a symmetric
filter for bars and an asymmetric one for bar endings, summed. Ours differs: their tolerance σ′ = σ₀ + αρ is read as three SDs of the
Gaussian; read as one SD, lines grow so wide that Dice falls by .1 (LOG.md).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive, Share


class BarConfig(Config):
    sigma: Positive = 2.4  # outer SD of the difference of Gaussians, px at a field of 540 px · paper 2.4
    reach: Count = 8  # farthest point from the middle, px; points lie every 2 px · paper 8
    tolerance: Positive = 3.0  # σ₀: half-width (3 SDs) of the tolerance at the middle, px · paper 3
    growth: Share = 0.7  # α: the tolerance grows by this a px · paper 0.7
    both_sides: bool = True  # symmetric: points on both sides of the middle


class CosfireConfig(Config):
    bar: BarConfig = BarConfig()
    ending: BarConfig = BarConfig(sigma=1.8, reach=22, tolerance=2.0, growth=0.1, both_sides=False)  # asymmetric, paper's settings
    directions: Count = 12  # over half a turn · paper 12


def cosfire(contrast: NDArray[np.float32], config: CosfireConfig | None = None) -> NDArray[np.float32]:
    """The answers of both filters to dark bars in `contrast` (h, w), each over its largest, summed. (h, w), at least 0"""
    c = config or CosfireConfig()
    total = np.zeros(contrast.shape, np.float32)
    for one in (c.bar, c.ending):
        answer = bar_answer(contrast, one, c.directions)
        total += answer / max(float(answer.max()), 1e-9)
    return total


def bar_answer(contrast: NDArray[np.float32], config: BarConfig, directions: int) -> NDArray[np.float32]:
    """One filter's answer: the largest over directions of the weighted geometric mean of what its points collect. (h, w)"""
    spots = np.maximum(cv2.GaussianBlur(contrast, (0, 0), config.sigma) - cv2.GaussianBlur(contrast, (0, 0), config.sigma / 2), 0)  # Eq. 2
    radii = np.arange(0, config.reach + 1, 2)
    spread = max(config.reach / 3, 1e-6)
    collected = [np.log(tolerant(spots, (config.tolerance + config.growth * r) / 3) + 1e-8) for r in radii]  # Eq. 3
    weights = np.exp(-(radii.astype(np.float64) ** 2) / (2 * spread**2))  # Eq. 5
    ends = (1, -1) if config.both_sides else (1,)
    angles = np.pi * np.arange(directions if config.both_sides else 2 * directions) / directions
    best = np.full(contrast.shape, -np.inf, np.float32)
    for angle in angles:
        total, norm = np.zeros(contrast.shape, np.float32), 0.0
        for log, radius, weight in zip(collected, radii, weights, strict=True):
            for end in ends if radius else (1,):
                total += weight * shifted(log, end * radius * np.sin(angle), end * radius * np.cos(angle))
                norm += weight
        best = np.maximum(best, total / norm)  # Eqs. 4 and 6
    return np.asarray(np.maximum(np.exp(best) - 1e-8, 0), np.float32)


def tolerant(spots: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """The largest answer near every pixel, weighted by a Gaussian of SD `sigma`: the kernel is separable, so rows then columns. (h, w)"""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2)).astype(np.float32)
    for axis in (0, 1):
        pad = [(reach, reach) if k == axis else (0, 0) for k in (0, 1)]
        padded, length = np.pad(spots, pad), spots.shape[axis]
        best = np.zeros_like(spots)
        for k, weight in enumerate(weights):
            np.maximum(best, weight * padded.take(range(k, k + length), axis) if axis else weight * padded[k : k + length], out=best)
        spots = best
    return spots


def shifted(plane: NDArray[np.float32], rows: float, cols: float) -> NDArray[np.float32]:
    """plane at (row + rows, col + cols), rounded to whole px; the edge repeated. (h, w)"""
    r, c = round(rows), round(cols)
    if r == c == 0:
        return plane
    h, w = plane.shape
    padded = cv2.copyMakeBorder(plane, max(-r, 0), max(r, 0), max(-c, 0), max(c, 0), cv2.BORDER_REPLICATE)
    return np.asarray(padded[max(r, 0) : max(r, 0) + h, max(c, 0) : max(c, 0) + w], np.float32)
