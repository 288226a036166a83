"""Probabilities of gland and gland core → one label a gland: cores part the glands that touch, watershed finds the line."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Share
from tacit.prepare.space import to_size


class InstancesConfig(Config):
    threshold: Share = 0.5  # gland where the probability is above
    core: float = 0.5  # a core where its probability is above
    core_um2: float = 60.0  # smaller cores make no gland of their own
    gland_um2: float = 400.0  # smaller pieces are dropped
    hole_um2: float = 1000.0  # smaller holes are filled


def instances(p: NDArray[np.float32], um_per_px: float, size: tuple[int, int], config: InstancesConfig | None = None) -> NDArray[np.int32]:
    """Labels (h, w) = `size`, 1 … n without gaps, 0 background. p (2, h', w') at `um_per_px`: gland and core.

    The line between touching glands is found at half of `um_per_px`; the outline is cut at the full size.
    """
    from skimage.segmentation import watershed

    c = config or InstancesConfig()
    half, um = (2 * p.shape[1], 2 * p.shape[2]), um_per_px / 2
    gland, core = (cv2.resize(plane, half[::-1], interpolation=cv2.INTER_LINEAR) for plane in p)
    mask = _without_holes(gland > c.threshold, c.hole_um2 / um**2)
    count, seeds, sizes, _ = cv2.connectedComponentsWithStats(((core > c.core) & mask).astype(np.uint8), connectivity=4)
    small = sizes[:, cv2.CC_STAT_AREA] < c.core_um2 / um**2
    seeds[small[seeds]] = 0
    pieces, whole = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    seeded = np.zeros(pieces, bool)
    seeded[np.unique(whole[seeds > 0])] = True
    seeds = np.where((seeds == 0) & mask & ~seeded[whole], whole + count, seeds)  # a piece without a core is one gland
    labels = watershed(-core - gland, seeds.astype(np.int32), mask=mask)
    area = np.bincount(labels.ravel(), minlength=1)
    keep = area >= c.gland_um2 / um**2
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return _at_size(number[labels], gland, mask, size, c)


def _at_size(labels: NDArray[np.int32], gland: NDArray[np.float32], mask: NDArray[np.bool_], size: tuple[int, int], c: InstancesConfig) -> NDArray[np.int32]:
    """The labels at `size`: the edge follows the interpolated probability, not the coarse pixels."""
    level = np.where(mask, np.maximum(gland, c.threshold + 0.02), np.minimum(gland, c.threshold - 0.02)).astype(np.float32)
    level[mask & (labels == 0)] = 0  # dropped pieces
    smooth = to_size(level, size) > c.threshold
    grown = cv2.dilate(labels.astype(np.float32), np.ones((3, 3), np.uint8))
    wide = np.where(labels > 0, labels, grown).astype(np.float32)
    fine = cv2.resize(wide, size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.where(smooth, fine, 0).astype(np.int32)


def _without_holes(mask: NDArray[np.bool_], hole_px: float) -> NDArray[np.bool_]:
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    fill = sizes[:, cv2.CC_STAT_AREA] < hole_px
    fill[np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])] = False  # open to the picture's edge is no hole
    fill[0] = False
    return np.asarray(mask | fill[pieces], bool)
