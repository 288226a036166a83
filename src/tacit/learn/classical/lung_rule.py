"""Lungs of a frontal chest radiograph by rule: dark places that do not reach the picture's edge, one a half.

Four steps, each of which can be the last (`LungRuleConfig.steps`):

    dark     ranks less a wide blur, parted in two by 2-means
    inside   eroded until what is left near each half's middle no longer touches the edge, then grown back within the dark
    hull     the outer side filled to its convex hull: ribs and the shoulder blade bite pieces out there
    mixture  two Gaussians, lung and not, by EM within the dilated mask: what it calls lung is added

Nothing is learnt; no label, no drawing. Chain of textbook steps (thresholding, morphological reconstruction: Vincent 1993, doi 10.1109/83.217222; EM: Dempster,
Laird and Rubin 1977).
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.config import Config, Count, Positive
from tacit.learn.workshop import Workshop
from tacit.prepare.radiograph import chest_frame
from tacit.prepare.space import to_size

Mask = NDArray[np.bool_]
STEPS = ("dark", "inside", "hull", "mixture")


class LungRuleConfig(Config):
    side: Count = 128  # px a side of the frame in which the rule looks
    blur: Positive = 0.16  # SD of the wide blur, share of the frame
    least: Positive = 0.02  # a lung is at least this share of the frame
    most_erosion: Positive = 0.08  # erosion stops at this share of the frame
    dilate: Positive = 0.035  # EM may add this much, share of the frame
    rounds: Count = 8  # of EM
    steps: Literal["dark", "inside", "hull", "mixture"] = "mixture"  # the last step that is done


class LungRule(nn.Module):
    """No weights, no learning."""

    Config = LungRuleConfig
    CLASSES = ("lungs",)

    def __init__(self, config: LungRuleConfig | None = None) -> None:
        super().__init__()
        self.config = config or LungRuleConfig()

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A radiograph as (side, side) ranks, bone white. Raises InputError for what cannot be one."""
        return chest_frame(picture, self.config.side)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> LungRule:
        """Nothing to learn."""
        return self

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """The rule's lungs, (1, h, w) in 0–1 at the radiograph's own size."""
        found = lungs_by_rule(self.working(picture), self.config).astype(np.float32)
        return to_size(found, (picture.shape[0], picture.shape[1]))[None]


def lungs_by_rule(ranks: NDArray[np.uint8], config: LungRuleConfig = LungRuleConfig()) -> Mask:
    """ranks (h, w), bone white → the lungs (h, w)."""
    last = STEPS.index(config.steps)
    mask = dark_places(ranks, config.blur * ranks.shape[1])
    if last >= 1:
        middle = ranks.shape[1] // 2
        mask = np.hstack([inside_half(mask[:, :middle], config), inside_half(mask[:, middle:][:, ::-1], config)[:, ::-1]])
    if last >= 2:
        mask = outer_hull(mask)
    if last >= 3 and mask.any():
        mask = refined(ranks, mask, config)
    return mask


def dark_places(ranks: NDArray[np.uint8], sigma: float) -> Mask:
    """Pixels that 2-means on (ranks less their wide blur) calls dark."""
    levels = ranks.astype(np.float32)
    return below_two_means(levels - cv2.GaussianBlur(levels, (0, 0), sigma))


def below_two_means(values: NDArray[np.float32]) -> Mask:
    """The lower cluster of 2-means in one dimension, started from the quartiles."""
    low, high = (float(v) for v in np.percentile(values, (25, 75)))
    for _ in range(100):
        lower = values < (low + high) / 2
        if lower.all() or not lower.any():
            break
        means = float(values[lower].mean()), float(values[~lower].mean())
        if means == (low, high):
            break
        low, high = means
    return np.asarray(values < (low + high) / 2, bool)


def inside_half(dark: Mask, config: LungRuleConfig) -> Mask:
    """The dark piece of one half (h, w) that is inside the body: eroded by growing disks until the largest piece is off the picture's edge, then grown back.

    The half's last column is the picture's middle, which is no edge.
    """
    h, w = dark.shape
    for radius in range(round(config.most_erosion * h) + 1):
        eroded = cv2.erode(dark.astype(np.uint8), _disk(radius), borderType=cv2.BORDER_CONSTANT, borderValue=1)
        _, pieces, sizes, _ = cv2.connectedComponentsWithStats(eroded, connectivity=4)
        on_edge = set(np.concatenate([pieces[0], pieces[-1], pieces[:, 0]]).tolist())
        free = [(int(sizes[k, cv2.CC_STAT_AREA]), k) for k in range(1, len(sizes)) if k not in on_edge]
        if free and max(free)[0] >= config.least * h * 2 * w * (1 - radius / h) ** 8:
            grown = cv2.dilate((pieces == max(free)[1]).astype(np.uint8), _disk(radius + 1))
            return np.asarray((grown > 0) & dark, bool)
    return np.zeros(dark.shape, bool)


def _disk(radius: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8)


def outer_hull(mask: Mask) -> Mask:
    """Each half with its outer side filled to the convex hull, and its holes; the inner side (heart, mediastinum) and the foot (diaphragm) stay hollow."""
    filled = np.zeros(mask.shape, bool)
    middle = mask.shape[1] // 2
    for mirror in (False, True):
        half = mask[:, middle:][:, ::-1] if mirror else mask[:, :middle]
        points = np.argwhere(half)[:, ::-1].astype(np.int32)
        whole = half.astype(np.uint8)
        if len(points) > 2:
            hull = np.zeros(half.shape, np.uint8)
            cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
            inwards = np.cumsum(half, axis=1)  # 0 as long as no lung has come from the outside
            lateral = (inwards == 0) & half.any(1, keepdims=True)
            contours, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(whole, contours, -1, 1, -1)
            whole[lateral] |= hull[lateral]
        whole = whole[:, ::-1] if mirror else whole
        filled[:, slice(middle, None) if mirror else slice(0, middle)] = whole > 0
    return filled


def refined(ranks: NDArray[np.uint8], mask: Mask, config: LungRuleConfig) -> Mask:
    """EM of two Gaussians of grey within the dilated mask, each pixel's prior the blurred mask; it may only add. Holes filled."""
    side = ranks.shape[1]
    room = cv2.dilate(mask.astype(np.uint8), _disk(round(config.dilate * side))) > 0
    prior = np.clip(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), config.dilate * side / 2), 0.02, 0.98)
    grey = cv2.GaussianBlur(ranks.astype(np.float32), (0, 0), 0.008 * side)
    x, share = grey[room].astype(np.float64), prior[room].astype(np.float64)
    p = mask[room].astype(np.float64)
    for _ in range(config.rounds):
        if not 1 < p.sum() < len(p) - 1:
            return mask
        inside, outside = (_log_gaussian(x, w) for w in (p, 1 - p))
        p = 1 / (1 + np.exp(np.clip(np.log((1 - share) / share) + outside - inside, -50, 50)))
    found = np.zeros(mask.shape, np.float32)
    found[room] = p
    found = np.maximum(found, mask)
    return _whole(cv2.GaussianBlur(found, (0, 0), 0.012 * side) > 0.5)


def _log_gaussian(x: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = (weight * x).sum() / weight.sum()
    variance = (weight * (x - mean) ** 2).sum() / weight.sum() + 25.0
    return np.asarray(-0.5 * (x - mean) ** 2 / variance - 0.5 * np.log(variance))


def _whole(mask: Mask) -> Mask:
    """The largest piece of each half, holes filled."""
    kept = np.zeros(mask.shape, np.uint8)
    middle = mask.shape[1] // 2
    for part in (slice(0, middle), slice(middle, None)):
        half = np.zeros(mask.shape, np.uint8)
        half[:, part] = mask[:, part]
        contours, _ = cv2.findContours(half, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if contours:
            cv2.drawContours(kept, [max(contours, key=cv2.contourArea)], -1, 1, -1)
    return kept > 0
