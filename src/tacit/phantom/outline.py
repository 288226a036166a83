"""Where glands lie and how their outlines run: label maps without any colour.

Two layouts, because tissue has two: glands *placed* one by one in stroma with a gap between them, and glands
*packed* back to back with thin septa, as in dense tumours. Lengths are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.phantom.texture import displaced, smooth_noise

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Layout:
    """What one picture's glands have in common. Lengths in px, angles in radians."""

    share: float  # wanted share of the area, 0–1
    radius: float  # typical half-width of a gland
    spread: float  # SD of log radius within the picture
    gap: float  # least distance between neighbours
    elongation: float  # typical length / width, >= 1
    bend: float  # how far a long gland bows, as a share of its length
    angle: float  # common orientation
    disorder: float  # 0 all parallel … 1 any direction
    irregular: float  # amplitude of the outline's Fourier terms, share of the radius
    squeeze: float  # how much of a gland its neighbours may cut off, 0–1
    wobble: float  # amplitude of the final warp


def outline(rng: np.random.Generator, layout: Layout) -> NDArray:
    """A closed random outline round (0, 0): a Fourier-perturbed, bent ellipse. (96, 2) row, col in px."""
    theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(2, 9)[:, None]
    amplitude = layout.irregular * rng.standard_normal((7, 1)) / (order - 1)
    wave = (amplitude * np.cos(order * theta + rng.uniform(0, 2 * np.pi, (7, 1)))).sum(0)
    radius = layout.radius * np.exp(layout.spread * rng.standard_normal())
    stretch = 1 + (layout.elongation - 1) * rng.gamma(2.0, 0.5)
    reach = np.maximum(radius * (1 + wave), 0.3 * radius)
    x, y = reach * np.cos(theta) * stretch, reach * np.sin(theta)
    y = y + layout.bend * rng.standard_normal() * stretch * radius * ((x / (stretch * radius)) ** 2 - 0.5)
    turn = layout.angle + layout.disorder * rng.uniform(-np.pi / 2, np.pi / 2)
    return np.stack([x * np.sin(turn) + y * np.cos(turn), x * np.cos(turn) - y * np.sin(turn)], 1)


def placed(rng: np.random.Generator, shape: tuple[int, int], layout: Layout) -> Labels:
    """Glands set down one by one where there is room, until the wanted share or 400 tries. (h, w)"""
    margin = int(min(2.5 * layout.radius, max(shape)))
    h, w = shape[0] + 2 * margin, shape[1] + 2 * margin
    labels, taken = np.zeros((h, w), np.int32), np.zeros((h, w), np.uint8)
    reach = max(round(layout.gap), 1)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    covered, number, wanted = 0, 0, layout.share * h * w
    for _ in range(400):
        if covered >= wanted:
            break
        ring = np.rint(outline(rng, layout) + [rng.uniform(0, h), rng.uniform(0, w)]).astype(np.int32)
        (top, left), (low, right) = np.maximum(ring.min(0) - reach - 1, 0), ring.max(0) + reach + 2
        if top >= h or left >= w or low <= 0 or right <= 0:
            continue
        here = np.s_[top:low, left:right]
        gland = np.zeros(taken[here].shape, np.uint8)
        cv2.fillPoly(gland, [(ring - [top, left])[:, ::-1]], 1)
        whole = int(gland.sum())
        gland[taken[here] > 0] = 0
        count, pieces, sizes, _ = cv2.connectedComponentsWithStats(gland, connectivity=4)
        if count < 2:
            continue
        largest = 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())
        kept = pieces == largest
        if kept.sum() < (1 - layout.squeeze) * whole:
            continue
        number += 1
        labels[here][kept] = number
        taken[here] |= cv2.dilate(kept.astype(np.uint8), disk)
        covered += int(kept.sum())
    return labels[margin : margin + shape[0], margin : margin + shape[1]]


def packed(rng: np.random.Generator, shape: tuple[int, int], layout: Layout) -> Labels:
    """Glands back to back: warped Voronoi cells with septa of about `gap`, some cells left to the stroma. (h, w)"""
    from scipy.spatial import cKDTree

    h, w = shape
    rows, cols = np.mgrid[0:h, 0:w].astype(np.float32)
    bow = 0.5 * layout.radius
    rows_warped = rows + bow * smooth_noise(rng, shape, 3 * layout.radius)
    cols_warped = cols + bow * smooth_noise(rng, shape, 3 * layout.radius)
    cos, sin = np.cos(layout.angle), np.sin(layout.angle)
    along = (cols_warped * cos + rows_warped * sin) / np.sqrt(layout.elongation)
    across = (-cols_warped * sin + rows_warped * cos) * np.sqrt(layout.elongation)
    where = np.stack([across.ravel(), along.ravel()], 1)
    cell, low, high = 2.1 * layout.radius, where.min(0) - 3 * layout.radius, where.max(0) + 3 * layout.radius
    grid = np.stack(np.meshgrid(*(np.arange(a, b, cell) for a, b in zip(low, high, strict=True)), indexing="ij"), -1).reshape(-1, 2)
    seeds = grid + rng.uniform(-0.5, 0.5, grid.shape) * cell * min(0.5 + layout.spread, 1.0)
    near, which = cKDTree(seeds).query(where, k=2)
    septum = layout.gap * np.exp(0.5 * smooth_noise(rng, shape, 2 * layout.radius)).ravel()
    labels = np.where(near[:, 1] - near[:, 0] > septum, which[:, 0] + 1, 0).reshape(shape)
    seen = np.unique(labels[labels > 0])
    full = max((labels > 0).mean(), 1e-6)
    empty = seen[rng.random(len(seen)) > layout.share / full]
    labels[np.isin(labels, empty)] = 0
    return np.asarray(labels, np.int32)


def wobbled(rng: np.random.Generator, labels: Labels, layout: Layout) -> Labels:
    """The same labels through a smooth warp: outlines that no formula gives. Same shape."""
    wavelength = max(rng.uniform(0.4, 1.4) * layout.radius, 4.0)
    d_row, d_col = (layout.wobble * smooth_noise(rng, labels.shape, wavelength) for _ in range(2))
    return np.asarray(displaced(labels.astype(np.float32), d_row, d_col, nearest=True), np.int32)
