"""How many micrometres a pixel is, estimated from the size of nuclei where nobody says.

Nuclei stand out from their surroundings in the red channel, which haematoxylin absorbs. Their typical half-width in pixels
is measured at a fixed apparent size (the picture is zoomed until it fits, so that the filters see the same nucleus at any
scan), and compared with the half-width that the same measurement finds on drawn tissue of known spacing. Nothing is fitted
to a real data set. One picture alone is uncertain (cells differ); a folder is meant.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

APPARENT_PX = 3.5  # half-width at which nuclei are measured
SURROUND_PX = 20.0  # SD of the Gaussian that is a nucleus's surroundings, at that size
NUCLEUS_UM = 5.5  # half-width that this measurement finds on drawn tissue (benchmarks/scale.py)
SIDES = (60, 2400)  # px; a zoomed picture stays between them


def estimate_mpp(pictures: list[NDArray[np.uint8]]) -> float:
    """µm per pixel of pictures (h, w, 3) RGB from one scanner: the mean over their middle half. Raises InputError without nuclei."""
    widths = [w for w in map(nucleus_half_width, pictures) if w is not None]
    if not widths:
        raise InputError("the spacing is not stated and no nuclei were found to estimate it from; give it with --mpp")
    logs = np.sort(np.log(widths))
    quarter = len(logs) // 4
    return float(NUCLEUS_UM / np.exp(logs[quarter : len(logs) - quarter].mean()))


def nucleus_half_width(picture: NDArray[np.uint8]) -> float | None:
    """Typical half-width of the nuclei in px of `picture` (h, w, 3) RGB; None where fewer than 20 are found."""
    density = -np.log10(np.clip(picture[..., 0].astype(np.float32), 1, 255) / 255)
    zoom, width = 1.0, None
    for _ in range(6):
        h, w = round(density.shape[0] * zoom), round(density.shape[1] * zoom)
        if min(h, w) < SIDES[0] or max(h, w) > SIDES[1]:
            break
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        seen = _half_width(density if zoom == 1 else cv2.resize(density, (w, h), interpolation=how))
        if seen is None:
            break
        width = seen / zoom
        zoom *= (APPARENT_PX / seen) ** 0.8
        if abs(np.log(APPARENT_PX / seen)) < 0.02:
            break
    return width


def _half_width(density: NDArray[np.float32]) -> float | None:
    """Mean depth of the dark spots' middles, each weighted by its area, in px."""
    from skimage.filters import threshold_otsu

    contrast = cv2.GaussianBlur(density, (0, 0), 1.0) - cv2.GaussianBlur(density, (0, 0), SURROUND_PX)
    spots = (contrast > max(float(threshold_otsu(contrast)), 0.02)).astype(np.uint8) if np.ptp(contrast) > 1e-6 else np.zeros(density.shape, np.uint8)
    depth = cv2.distanceTransform(spots, cv2.DIST_L2, 5)
    middles = depth[(depth == cv2.dilate(depth, np.ones((3, 3), np.uint8))) & (depth > 1)]
    return float(np.average(middles, weights=middles**2)) if len(middles) > 20 else None
