"""Outlines of lungs drawn to the nearest edge by region means, on the inner and lower side only.

After Chan and Vese 2001, "Active contours without edges" (doi 10.1109/83.902291): a pixel near the outline goes to the side whose mean it is nearer to.
Ours differs: the means are local (a Gaussian window), only a band round the outline may change, and the outer side is left as it is: there ribs and
chest wall make edges that are not the lung's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Positive


class SnapConfig(Config):
    band: Positive = 0.03  # the outline may move this far, share of the frame
    window: Positive = 0.06  # SD of the window in which the two means are taken, share of the frame
    smooth: Positive = 0.012  # SD with which the new outline is smoothed, share of the frame
    steps: int = 4  # times


def snapped(lungs: NDArray[np.float32], ranks: NDArray[np.uint8], config: SnapConfig = SnapConfig()) -> NDArray[np.float32]:
    """The lungs' probability (h, w) with its outline moved to the edge between dark and bright. ranks (h, w), bone white."""
    side = lungs.shape[1]
    grey = cv2.GaussianBlur(ranks.astype(np.float32), (0, 0), 0.006 * side)
    mask = lungs > 0.5
    if not mask.any() or mask.all():
        return lungs
    free = inner_and_lower(mask) & (np.abs(_distance(mask)) <= config.band * side)
    soft = lungs.copy()
    for _ in range(config.steps):
        inside, outside = _local_mean(grey, mask, config.window * side), _local_mean(grey, ~mask, config.window * side)
        darker = (np.abs(grey - outside) - np.abs(grey - inside)) / (np.abs(outside - inside) + 8)  # −1 … 1: like the outside … like the inside
        wanted = np.where(free & (outside > inside), 0.5 + 0.5 * darker, soft)
        soft = np.where(free, cv2.GaussianBlur(wanted.astype(np.float32), (0, 0), config.smooth * side), lungs)
        mask = soft > 0.5
    return np.clip(soft, 0, 1).astype(np.float32)


def inner_and_lower(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels nearer to an inner or lower part of the lungs' outline than to an outer or upper part. mask (h, w)."""
    rows, cols = np.nonzero(mask)
    middle = float(np.median(cols))
    depth = cv2.GaussianBlur(_distance(mask), (0, 0), 2.0)
    down, right = cv2.Sobel(depth, cv2.CV_32F, 0, 1), cv2.Sobel(depth, cv2.CV_32F, 1, 0)  # towards the inside
    outward = np.where(np.arange(mask.shape[1])[None] < middle, right, -right)  # positive where the outside lies laterally
    upper = np.arange(mask.shape[0])[:, None] < np.percentile(rows, 25)
    return np.asarray((-down > 0.5 * np.abs(right)) & ~upper | (outward < 0) & ~upper, bool)


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Signed distance to the outline in px, positive inside."""
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
    return np.asarray(np.where(mask, inside - 0.5, 0.5 - outside), np.float32)


def _local_mean(grey: NDArray[np.float32], mask: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    return np.asarray(cv2.GaussianBlur(grey * mask, (0, 0), sigma) / (weight + 1e-4), np.float32)
