"""Drawn glands on real surroundings: the user's own tissue, with what may be gland taken out and its room filled.

Ours. A real picture keeps every pixel that the teachers are sure is no gland; the rest is quilted from such patches of the
same picture (as texture quilting does: Efros and Freeman 2001). A drawing is then recoloured until its own surroundings are
as dense in each channel as that picture's, and its glands are laid on top. Needs no truth and no generator of
its own: any drawing with a mask will do.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.learn.lessons import Lesson
from tacit.prepare.colour import lab_statistics, tissue_mask

PATCH, SEAM = 24, 6  # px at the network's spacing: side of a quilted patch, and how far neighbours overlap
SURE = 0.2  # a pixel below this probability is no gland
MOST_ELSE = 0.03  # share of a sure patch that may be unsure or bare glass
LEAST = 0.1  # share of a picture's patches that must be sure before it lends its tissue


def on_real_ground(drawn: list[Lesson], real: list[Lesson], rng: np.random.Generator) -> list[Lesson]:
    """Each drawn lesson on the surroundings of a random real one; unchanged where no real picture has enough of them.

    real: lessons whose first target channel is the soft answer (0–255) of networks. Sizes may differ.
    """
    lenders = [(lesson, corners) for lesson in real if (corners := sure_corners(lesson)) is not None]
    if not lenders:
        return drawn
    return [_laid(lesson, *lenders[int(rng.integers(len(lenders)))], rng) for lesson in drawn]


def sure_corners(lesson: Lesson) -> NDArray[np.intp] | None:
    """Top left corners (n, 2) of the patches of tissue without a gland; None where too few are."""
    may_be = ((lesson.target[..., 0] > 255 * SURE) | ~tissue_mask(lesson.picture)).astype(np.uint8)
    if min(may_be.shape) <= PATCH:
        return None
    sums = cv2.integral(may_be)
    held = sums[PATCH:, PATCH:] - sums[:-PATCH, PATCH:] - sums[PATCH:, :-PATCH] + sums[:-PATCH, :-PATCH]
    corners = np.argwhere(held <= MOST_ELSE * PATCH**2)
    return corners if len(corners) >= LEAST * held.size else None


def ground(lesson: Lesson, corners: NDArray[np.intp], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Surroundings (h, w, 3) made of one real picture: its own sure pixels, and a quilt of sure patches for the others."""
    quilt = _quilted(lesson.picture, corners, shape, rng)
    h, w = min(shape[0], lesson.picture.shape[0]), min(shape[1], lesson.picture.shape[1])
    top, left = (int(rng.integers(0, a - b + 1)) for a, b in zip(lesson.picture.shape[:2], (h, w), strict=True))
    window = np.s_[top : top + h, left : left + w]
    sure = cv2.erode((lesson.target[window][..., 0] <= 255 * SURE).astype(np.uint8), np.ones((5, 5), np.uint8))
    keep = cv2.GaussianBlur(sure.astype(np.float32), (0, 0), 1.5)[..., None]
    quilt[:h, :w] = keep * lesson.picture[window] + (1 - keep) * quilt[:h, :w]
    return np.clip(quilt, 0, 255).astype(np.uint8)


def _quilted(picture: NDArray[np.uint8], corners: NDArray[np.intp], shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random patches, flipped and turned, side by side with soft seams. (h, w, 3) float32"""
    ramp = np.minimum(np.arange(1, PATCH + 1), np.arange(PATCH, 0, -1)).clip(max=SEAM).astype(np.float32) / SEAM
    window = (ramp[:, None] * ramp[None])[..., None]
    total = np.zeros((shape[0] + PATCH, shape[1] + PATCH, 3), np.float32)
    weight = np.zeros((*total.shape[:2], 1), np.float32)
    for row in range(0, shape[0], PATCH - SEAM):
        for col in range(0, shape[1], PATCH - SEAM):
            r, c = corners[int(rng.integers(len(corners)))]
            patch = np.rot90(picture[r : r + PATCH, c : c + PATCH], int(rng.integers(4)))
            patch = patch[:, ::-1] if rng.random() < 0.5 else patch
            total[row : row + PATCH, col : col + PATCH] += window * patch
            weight[row : row + PATCH, col : col + PATCH] += window
    return total[: shape[0], : shape[1]] / weight[: shape[0], : shape[1]]


def _laid(drawn: Lesson, lender: Lesson, corners: NDArray[np.intp], rng: np.random.Generator) -> Lesson:
    gland = drawn.target[..., :1].astype(np.float32) / 255
    around = ground(lender, corners, gland.shape[:2], rng)
    recoloured = _in_colours_of(drawn.picture, gland[..., 0] < 0.5, around)
    alpha = cv2.GaussianBlur(gland[..., 0], (0, 0), 0.6)[..., None]
    picture = np.clip(alpha * recoloured + (1 - alpha) * around, 0, 255).astype(np.uint8)
    return Lesson(picture, drawn.target, drawn.weight, lab_statistics(picture))


def _in_colours_of(picture: NDArray[np.uint8], outside: NDArray[np.bool_], around: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with the mean optical density of its tissue `outside` brought to that of `around`, channel by channel; white stays white."""
    own, wanted = picture[outside & tissue_mask(picture)], around[tissue_mask(around)]
    if len(own) < 0.02 * outside.size or not len(wanted):
        return picture
    gain = np.clip(_density(wanted).mean(0) / np.maximum(_density(own).mean(0), 0.01), 0.5, 2.0)
    return np.asarray(255 * 10 ** (-_density(picture) * gain), np.uint8)


def _density(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density by Beer and Lambert."""
    return np.asarray(-np.log10(np.maximum(pixels, 1).astype(np.float32) / 255), np.float32)
