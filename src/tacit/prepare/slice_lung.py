"""Lungs on a single CT slice without Hounsfield units: a threshold relative to the picture, so that JPEGs cut from papers can be looked at too.

Ours: body = the largest bright region, holes filled; lungs = what is darker than Otsu's threshold of the body's inside, away from its edge; at most the
two largest pieces. Where that gives no plausible lung the answer is None and the picture is listed, never dropped.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 192  # px at which it is looked for
LEAST, MOST = 0.04, 0.75  # share of the picture that lungs fill
PIECE = 0.012  # share of the picture below which a piece is no lung
EDGE = 0.01  # share of the side by which a lung keeps away from the body's edge
SOFT = 1.0  # SD of the blur before thresholds, px
CLOSED = 0.04  # share of the side: vessels and small lesions inside a lung belong to it


def slice_lungs(picture: NDArray) -> NDArray[np.bool_] | None:
    """The lungs of a slice (h, w) or (h, w, 3) uint8, dark as in a lung window, (h, w); None where none can be found."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.GaussianBlur(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), (0, 0), SOFT)
    bright = small > _otsu(small)
    body = _filled(_largest(bright, 1))
    inside = cv2.erode(body.astype(np.uint8), _disc(EDGE)).astype(bool)
    if not inside.any():
        return None
    dark = inside & (small < _otsu(small[inside][:, None]))
    pieces = _largest(dark, 2)
    lungs = cv2.morphologyEx(pieces.astype(np.uint8), cv2.MORPH_CLOSE, _disc(CLOSED)).astype(bool) & body
    lungs = _filled(lungs)
    if not LEAST <= lungs.mean() <= MOST:
        return None
    return np.asarray(cv2.resize(lungs.astype(np.uint8), (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_NEAREST), bool)


def _otsu(values: NDArray[np.uint8]) -> float:
    return float(cv2.threshold(np.ascontiguousarray(values), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0])


def _largest(mask: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """The `most` largest pieces of a mask that are large enough to be a lung."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))[:most]
    return np.isin(labels, [i for i in order if stats[i, cv2.CC_STAT_AREA] >= PIECE * mask.size])


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with its holes."""
    padded = np.pad(mask.astype(np.uint8), 1)
    outside = padded.copy()
    cv2.floodFill(outside, None, (0, 0), 2)
    return (outside != 2)[1:-1, 1:-1]


def _disc(share: float) -> NDArray[np.uint8]:
    r = max(round(share * SIDE), 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * r + 1, 2 * r + 1)), np.uint8)
