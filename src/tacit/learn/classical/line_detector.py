"""The multi-scale line detector: the mean along a line less the mean of the window round it, for lines of many lengths.

Nguyen, Bhuiyan, Park and Ramamohanarao 2013 (Pattern Recognition 46(3)), section 2; its lengths are pixels of DRIVE and STARE.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count
from tacit.learn.classical.matched_filter import filtered


class LineDetectorConfig(Config):
    window: Count = 15  # W: side of the window and longest line, px at a field of 540 px · paper 15
    step: Count = 2  # between the lengths 1, 3, 5 … W · paper 2
    directions: Count = 12  # over half a turn · paper 12


def line(length: int, angle: float) -> NDArray[np.float32]:
    """A line of `length` px, one px wide, through the middle along `angle`, of sum 1. (k, k), k odd"""
    half = length // 2
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    steps = np.arange(-half, half + 1)
    rows, cols = np.rint(half + steps * np.sin(angle)).astype(int), np.rint(half + steps * np.cos(angle)).astype(int)
    kernel[rows, cols] = 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def line_detector(contrast: NDArray[np.float32], inside: NDArray[np.bool_], config: LineDetectorConfig | None = None) -> NDArray[np.float32]:
    """The mean of the standardised answers of every length and of the standardised inverted contrast; dark lines are high. All (h, w)"""
    c = config or LineDetectorConfig()
    inverted = -contrast
    around = np.asarray(cv2.blur(inverted, (c.window, c.window), borderType=cv2.BORDER_REFLECT_101), np.float32)
    total, count = standard(inverted, inside), 1
    for length in range(1, c.window + 1, c.step):
        answers = [filtered(inverted, line(length, np.pi * k / c.directions)) for k in range(c.directions if length > 1 else 1)]
        total = total + standard(np.maximum.reduce(answers) - around, inside)  # Eqs. 2–4
        count += 1
    return np.asarray(total / count, np.float32)  # Eq. 5


def standard(plane: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Minus the mean over the SD, both of the field."""
    values = plane[inside]
    return np.asarray((plane - values.mean()) / max(float(values.std()), 1e-9), np.float32)
