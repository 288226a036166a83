"""The matched filter for vessels: an inverted Gaussian bar turned to twelve directions, the largest answer.

Chaudhuri, Chatterjee, Katz, Nelson and Goldbaum 1989 (IEEE Transactions on Medical Imaging 8(3)), section II; its lengths are pixels of
photographs about 540 px wide. Ours differs: several widths may be summed and the bar made longer, both off by default.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive


class MatchedFilterConfig(Config):
    sigmas: tuple[Positive, ...] = (2.0,)  # SDs of the bar's profile, px at a field of 540 px; several are summed · paper 2
    length: Positive = 9.0  # of the bar, px · paper 9
    directions: Count = 12  # over half a turn · paper 12


def bar(sigma: float, length: float, angle: float) -> NDArray[np.float32]:
    """The kernel: −exp(−u²/2σ²) for |u| ≤ 3σ across and |v| ≤ L/2 along `angle` (radians from the column axis), less its mean there. (k, k)"""
    reach = int(np.ceil(np.hypot(3 * sigma, length / 2)))
    rows, cols = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along, across = cols * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - cols * np.sin(angle)
    inside = (np.abs(across) <= 3 * sigma) & (np.abs(along) <= length / 2)
    kernel = np.where(inside, -np.exp(-(across**2) / (2 * sigma**2)), 0.0)
    kernel[inside] -= kernel[inside].mean()
    return np.asarray(kernel / max(np.abs(kernel).sum(), 1e-9), np.float32)


def matched_filter(contrast: NDArray[np.float32], config: MatchedFilterConfig | None = None) -> NDArray[np.float32]:
    """How strongly a dark bar answers at every pixel of `contrast` (h, w): the largest over directions, summed over widths. (h, w)"""
    c = config or MatchedFilterConfig()
    total = np.zeros(contrast.shape, np.float32)
    for sigma in c.sigmas:
        answers = [filtered(contrast, bar(sigma, c.length, np.pi * k / c.directions)) for k in range(c.directions)]
        total += np.maximum.reduce(answers)
    return total


def filtered(plane: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlation with mirrored edges."""
    return np.asarray(cv2.filter2D(plane, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)
