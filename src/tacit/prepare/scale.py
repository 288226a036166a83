"""How many micrometres a pixel is, estimated from the size of nuclei where nobody says.

Nuclei stand out from their surroundings in the red channel, which haematoxylin absorbs. All pictures of a folder are zoomed
alike until the typical half-width of their nuclei is a fixed number of pixels, so that the filters see the same nucleus at any
scan; the zoom then tells the spacing, by the half-width that the same measurement finds on drawn tissue of known spacing.
Nothing is fitted to a real data set. One picture alone is uncertain (cells differ); a folder is meant.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

APPARENT_PX = 4.0  # half-width at which nuclei are measured
SURROUND_PX = 20.0  # SD of the Gaussian that is a nucleus's surroundings, at that size
NUCLEUS_UM = 5.1  # half-width that this measurement finds on drawn tissue (benchmarks/scale.py)
SIDES = (50, 2400)  # px; a zoomed picture has its sides between them, or is passed over
LEAST_NUCLEI = 16  # in a picture that has a say


def estimate_mpp(pictures: list[NDArray[np.uint8]]) -> float:
    """µm per pixel of pictures (h, w, 3) RGB from one scanner. Raises InputError where no nuclei are found."""
    densities = [-np.log10(np.clip(p[..., 0].astype(np.float32), 1, 255) / 255) for p in pictures]
    zoom, width = 1.0, None
    for _ in range(10):
        seen = typical_half_width(densities, zoom)
        if seen is None:
            break
        width = seen / zoom
        if abs(np.log(APPARENT_PX / seen)) < 0.01:
            break
        zoom *= (APPARENT_PX / seen) ** 0.8
    if width is None:
        raise InputError("the spacing is not stated and no nuclei were found to estimate it from; give it with --mpp")
    return float(NUCLEUS_UM / width)


def typical_half_width(densities: list[NDArray[np.float32]], zoom: float) -> float | None:
    """Geometric mean over pictures of their nuclei's half-width, px after zooming; a picture weighs by the root of its number of nuclei."""
    found = [one for density in densities if (one := _half_width(density, zoom)) is not None]
    if not found:
        return None
    widths, counts = np.array(found).T
    return float(np.exp(np.average(np.log(widths), weights=np.sqrt(counts))))


def _half_width(density: NDArray[np.float32], zoom: float) -> tuple[float, int] | None:
    """Mean depth of the dark spots' middles in px after zooming, each weighted by its area, and how many there are."""
    from skimage.filters import threshold_otsu

    h, w = round(density.shape[0] * zoom), round(density.shape[1] * zoom)
    if min(h, w) < SIDES[0] or max(h, w) > SIDES[1]:
        return None
    zoomed = density if zoom == 1 else cv2.resize(density, (w, h), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    contrast = cv2.GaussianBlur(zoomed, (0, 0), 1.0) - cv2.GaussianBlur(zoomed, (0, 0), SURROUND_PX)
    if np.ptp(contrast) < 1e-6:
        return None
    spots = (contrast > max(float(threshold_otsu(contrast)), 0.02)).astype(np.uint8)
    depth = cv2.distanceTransform(spots, cv2.DIST_L2, 5)
    middles = depth[(depth == cv2.dilate(depth, np.ones((3, 3), np.uint8))) & (depth > 1)]
    return (float(np.average(middles, weights=middles**2)), len(middles)) if len(middles) >= LEAST_NUCLEI else None
