"""A real retina with its vessels taken out: what may be a vessel is filled from around it and given the picture's own grain again.

On such a ground drawn vessels have exact truth in surroundings that no drawing could make. Nothing here reads a mask of a person.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.prepare.frame import field_of, local_mean, mirrored

GROWN = 2  # px by which candidates are widened before they are filled


def vessel_free(square: NDArray[np.uint8], candidates: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The frame (s, s, 3) without what `candidates` (s, s) marks; outside the field it stays 0.

    Filled by means of ever wider surroundings; the grain is borrowed from other places of the same picture, mirrored or turned.
    """
    field = field_of(square)
    gone = cv2.dilate(candidates.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROWN + 1,) * 2)) > 0
    known = field_of(square, 2) & ~gone
    if known.sum() < 0.05 * max(field.sum(), 1):
        return square
    picture = square.astype(np.float32)
    smooth = np.stack([_spread(mirrored(picture[..., k], field), known) for k in range(3)], -1)
    rest = np.where(known[..., None], picture - smooth, 0)
    lendable = known & field_of(square, 8)
    most = 3 * np.median(np.abs(rest[lendable])) / 0.67 if lendable.any() else 0.0  # no lesion's edge is lent
    rest = np.clip(rest, -most, most)
    grain, filled = np.zeros_like(rest), known.copy()
    for quarter in rng.permutation(4).tolist():
        for flip in (False, True):
            row, col = rng.integers(-60, 61, 2).tolist()
            lent, there = (np.roll(np.rot90(a[:, ::-1] if flip else a, quarter), (row, col), (0, 1)) for a in (rest, lendable))
            take = there & ~filled
            grain[take] = lent[take]
            filled |= there
    soft = cv2.GaussianBlur((gone & ~known).astype(np.float32), (0, 0), 0.7)[..., None]
    answer = picture * (1 - soft) + soft * (smooth + grain)
    return np.where(field[..., None], np.clip(np.rint(answer), 1, 255), 0).astype(np.uint8)


def _spread(plane: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A smooth plane that follows the known pixels: their Gaussian mean, of wider reach where few are near. (h, w)"""
    weight = known.astype(np.float32)
    answer = local_mean(plane * weight, 40.0) / np.maximum(local_mean(weight, 40.0), 1e-3)
    for sigma in (12.0, 4.0):
        near = cv2.GaussianBlur(weight, (0, 0), sigma)
        own = cv2.GaussianBlur(plane * weight, (0, 0), sigma) / np.maximum(near, 1e-3)
        trust = np.clip(near * 6 - 0.3, 0, 1)
        answer = trust * own + (1 - trust) * answer
    return np.asarray(answer, np.float32)


def candidate_contrast(contrast: NDArray[np.float32], probability: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """How dark the candidates of a picture are against their surroundings, share: the 20th percentile of likely pixels and the 97th, to draw alike.

    contrast: green over its local mean, less 1 (h, w).
    """
    likely = contrast[(probability > 0.6) & inside]
    if likely.size < 50:
        return 0.08, 0.45
    low, high = np.percentile(-likely, [20, 97])
    return float(np.clip(low, 0.02, 0.4)), float(np.clip(high, 0.06, 0.8))
