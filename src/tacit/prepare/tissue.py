"""Where the tissue is on a slide: Otsu's threshold on the saturation of its overview, without glass, pen and crumbs.

Otsu 1979, "A threshold selection method from gray-level histograms": stained tissue is saturated, glass is not. Ink of a marker
pen is refused by its colour: in optical density, stains of pathology absorb green at least as well as red, blue and green ink do
not, and black ink absorbs everything. On a dark ground (fluorescence) tissue is what shines, smoothed to join the nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.prepare.stain import optical_density
from tacit.read.slide import Slide, stated_mpp

OVERVIEW_UM = 8.0  # µm per px of the picture that tissue is looked for in
LEAST_UM2, FILL_UM2 = 40_000.0, 20_000.0  # a smaller piece is a crumb; a smaller hole is filled
LEAST_SHARE = 0.01  # of the slide's area: no piece this large is a crumb, however small the cut-out that was scanned or exported
SATURATION = (0.05, 0.2)  # Otsu's threshold is held between: below is tinted glass, above is never glass
LEAST_CONTRAST = 0.04  # of saturation, between the means of Otsu's two classes; less is one class
DARK = 64  # grey level; a picture whose median pixel is darker in every channel has a dark ground
GLOW_PX, LEAST_GLOW = 3.0, 0.7  # SD of the smoothing that joins nuclei, and between Otsu's two classes a factor of two, in ln
INK = 0.5  # optical density in red of coloured ink, at least
INK_GREEN, INK_BLUE = 0.6, 0.25  # green or blue ink absorbs less than this share of its red in green or in blue
BLACK, GREY = 55, 30  # grey levels: black ink has every channel below the first, and all within the second
LEAST_INK_PX, EDGE_PX = 30, 2  # a smaller spot is no pen's; round a line ink and ground mix


@dataclass(frozen=True)
class Tissue:
    """A mask (h, w) over a slide from its upper left corner on, each pixel `factor` level-0 pixels wide."""

    mask: NDArray[np.bool_]
    factor: float

    def share(self, rows: NDArray, cols: NDArray, size: float) -> NDArray[np.float64]:
        """Share of tissue in squares of `size` level-0 pixels at level-0 (rows, cols) (n,), exact to parts of a mask pixel. (n,)

        What lies outside the mask is no tissue.
        """
        top, left = np.asarray(rows, float) / self.factor, np.asarray(cols, float) / self.factor
        side = size / self.factor
        area = self._area(top + side, left + side) - self._area(top, left + side) - self._area(top + side, left) + self._area(top, left)
        return area / side**2

    @cached_property
    def _integral(self) -> NDArray[np.float64]:
        return np.asarray(cv2.integral(self.mask.astype(np.uint8), sdepth=cv2.CV_64F))

    def _area(self, row: NDArray, col: NDArray) -> NDArray[np.float64]:
        """Mask pixels above and left of a point: bilinear between the integral's entries, which is exact."""
        h, w = self.mask.shape
        row, col = np.clip(row, 0, h), np.clip(col, 0, w)
        r, c = np.minimum(row.astype(np.int64), h - 1), np.minimum(col.astype(np.int64), w - 1)
        down, right, total = row - r, col - c, self._integral
        upper = total[r, c] * (1 - right) + total[r, c + 1] * right
        lower = total[r + 1, c] * (1 - right) + total[r + 1, c + 1] * right
        return np.asarray(upper * (1 - down) + lower * down, np.float64)


def slide_tissue(
    slide: Slide, *, mpp: float | None = None, um_per_px: float = OVERVIEW_UM, least_um2: float = LEAST_UM2, fill_um2: float = FILL_UM2, refuse_pen: bool = True
) -> Tissue:
    """The tissue of a slide, looked for at `um_per_px`; see `find_tissue`. Pieces below `least_um2` and LEAST_SHARE of the slide are dropped.

    Raises InputError where nobody states the spacing.
    """
    factor = max(um_per_px / stated_mpp(slide, mpp), 1.0)
    pixel_um2 = (factor * stated_mpp(slide, mpp)) ** 2
    picture = slide.overview(factor)
    least_px = min(least_um2 / pixel_um2, LEAST_SHARE * picture.shape[0] * picture.shape[1])
    mask = find_tissue(picture, least_px=least_px, fill_px=fill_um2 / pixel_um2, refuse_pen=refuse_pen)
    return Tissue(mask, factor)


def find_tissue(picture: NDArray[np.uint8], *, least_px: float = 600, fill_px: float = 300, refuse_pen: bool = True) -> NDArray[np.bool_]:
    """Tissue in an overview (h, w, 3) RGB, (h, w); nothing where there is only glass.

    least_px: smaller pieces are dropped. fill_px: smaller holes are filled, 0 keeps every hole, infinity fills all.
    refuse_pen: switch it off for stains that are as blue or green as ink (Masson's trichrome, Alcian blue).
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise InputError(f"tissue is looked for in RGB of 8 bits, (h, w, 3); the picture is {picture.shape} {picture.dtype}")
    if has_dark_ground(picture):
        return _without_crumbs(_filled(_shining(picture), fill_px), least_px)
    pen = find_pen(picture) if refuse_pen else np.zeros(picture.shape[:2], bool)
    stained = _stained(picture, pen)
    return _without_crumbs(_filled(stained, fill_px) & ~pen, least_px)


def has_dark_ground(picture: NDArray[np.uint8]) -> bool:
    """Whether light comes from the tissue (fluorescence) and not through it. picture (h, w, 3) RGB."""
    return bool(np.median(picture.max(-1)) < DARK)


def find_pen(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Ink of a blue, green or black marker pen with EDGE_PX round it. (h, w, 3) RGB → (h, w)"""
    red, green, blue = np.moveaxis(optical_density(picture), -1, 0)
    coloured = (red > INK) & ((green < INK_GREEN * red) | (blue < INK_BLUE * red))
    high, low = picture.max(-1), picture.min(-1)
    lines = _without_crumbs(coloured | ((high < BLACK) & (high - low < GREY)), LEAST_INK_PX)
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_PX + 1, 2 * EDGE_PX + 1))
    return np.asarray(cv2.dilate(lines.astype(np.uint8), around), bool)


def _stained(picture: NDArray[np.uint8], pen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    saturation = cv2.medianBlur(np.ascontiguousarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[..., 1]), 5)
    seen = saturation[~pen]
    if seen.size == 0:
        return np.zeros(pen.shape, bool)
    threshold, contrast = _otsu(seen)
    if contrast < LEAST_CONTRAST * 255:  # one class: all tissue or all glass
        return np.full(pen.shape, seen.mean() > SATURATION[1] * 255) & ~pen
    return np.asarray((saturation > np.clip(threshold, SATURATION[0] * 255, SATURATION[1] * 255)) & ~pen)


def _shining(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    glow = np.log1p(cv2.GaussianBlur(picture.max(-1).astype(np.float32), (0, 0), GLOW_PX))
    scale = 255 / np.log(256)
    levels = np.round(glow * scale).astype(np.uint8)
    threshold, contrast = _otsu(levels)
    return np.asarray(levels > threshold) if contrast >= LEAST_GLOW * scale else np.zeros(levels.shape, bool)


def _otsu(values: NDArray[np.uint8]) -> tuple[float, float]:
    """The threshold (values above it are the upper class) and the distance between the means of the two classes."""
    threshold, _ = cv2.threshold(values.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    upper = values > threshold
    return float(threshold), float(values[upper].mean() - values[~upper].mean()) if upper.any() and not upper.all() else 0.0


def _filled(mask: NDArray[np.bool_], most_px: float) -> NDArray[np.bool_]:
    """Holes of less than `most_px` filled; what touches the border of the picture is no hole."""
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    h, w = mask.shape
    left, top, width, height, area = boxes.T
    inside = (left > 0) & (top > 0) & (left + width < w) & (top + height < h)
    hole = inside & (area < most_px)
    hole[0] = False  # the mask itself
    return mask | hole[pieces]


def _without_crumbs(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    _, pieces, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    large = boxes[:, cv2.CC_STAT_AREA] >= least_px
    large[0] = False
    return np.asarray(large[pieces], bool)
