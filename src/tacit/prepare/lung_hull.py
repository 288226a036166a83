"""The region of a CT in which lung disease can lie: the lungs, with what is as dense as the chest wall and touches it.

An air threshold cuts off a consolidation under the pleura: of drawn ones it kept a seventh. The convex hull of each lung in each slice, a few millimetres
wider, holds them; it also holds the hollow of the heart, some mediastinum and diaphragm. Liao et al. 2019 (arXiv 1711.08324, "preprocessing") take hulls for nodules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.image import Image
from tacit.prepare.lung import LEFT, RIGHT, find_lungs

Region = Literal["air", "hull"]
MARGIN_MM = 5.0  # beyond the hull


def lung_region(image: Image, region: Region = "air") -> NDArray[np.bool_]:
    """Where lung is, (d, h, w), of a CT (canonical axes for "hull"): "air" as morphology finds it, "hull" around it. Raises InputError as find_lungs."""
    mask = find_lungs(image).mask
    if region == "air":
        return mask > 0
    assert image.spacing_mm is not None  # find_lungs asked for it
    return hulls(mask, image.spacing_mm[1:])


def hulls(mask: NDArray[np.uint8], px_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """The convex hull of each side (1, 2) of a mask (d, h, w) in each slice, MARGIN_MM wider. px_mm: rows, columns."""
    reach = [max(round(MARGIN_MM / mm), 1) for mm in px_mm]
    wider = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach[1] + 1, 2 * reach[0] + 1))
    found = np.zeros(mask.shape, np.uint8)
    for plane, kept in zip(mask, found, strict=True):
        for side in (RIGHT, LEFT):
            points = cv2.findNonZero((plane == side).view(np.uint8))
            if points is not None:
                cv2.fillConvexPoly(kept, cv2.convexHull(points), 1)
        cv2.dilate(kept, wider, dst=kept)
    return found > 0


def alone(image: Image, region: NDArray[np.bool_], outside: float, words: str) -> Image:
    """The image cut to the box of a region (d, h, w) that is not empty, `outside` beyond the region; it keeps its place in the patient."""
    kept = [np.flatnonzero(region.any(tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(int(k[0]), int(k[-1]) + 1) for k in kept)
    affine = image.affine
    if affine is not None:
        affine = affine.copy()
        affine[:, 3] += affine[:, :3] @ [float(b.start) for b in box[::-1]]
    inside = np.where(region[box], image.pixels[box], np.asarray(outside).astype(image.pixels.dtype))
    return replace(image.after(words, inside), affine=affine)
