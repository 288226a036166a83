"""Numbers of the structures of one picture: how much of it they fill, in how many pieces, how sure; vessels' length and width, the heart's share of the chest."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.image import Image

LEAST_LUNG = 0.1  # of the larger lung's area, for the smaller one to count


def measured(p: NDArray[np.float32], classes: list[str], image: Image, network: Any) -> dict[str, float | int | None]:
    """p (k, h, w): probability of each class. Shares are of the field of view where the method knows one, else of the picture.

    confidence: mean |2p − 1| where a structure is or may be (p > 0.05), over the classes; far_from_drawing: above 1 it is farther
    from the drawings than 99% of them. Lengths in px, and in mm where the spacing is known.
    """
    field = network.field(image.pixels) if hasattr(network, "field") else np.ones(p.shape[1:], bool)
    mm = image.mm_per_px
    row: dict[str, float | int | None] = {"height_px": p.shape[1], "width_px": p.shape[2], "mpp": image.mpp, "mm_per_px": mm}
    for name, plane in zip(classes, p, strict=True):
        inside = plane > 0.5
        row[f"{name}_share"] = float(inside[field].mean()) if field.any() else 0.0
        row[f"{name}_area_px"] = int(inside.sum())
        row[f"{name}_area_mm2"] = float(inside.sum() * mm**2) if mm else None
        row[f"{name}_pieces"] = int(cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)[0]) - 1
    if "vessel" in classes:
        size = vessel_size(p[classes.index("vessel")] > 0.5)
        row |= size | {name.replace("_px", "_mm"): px * mm if px is not None and mm else None for name, px in size.items()}
    if "lungs" in classes and "heart" in classes:
        row["cardiothoracic_ratio"] = cardiothoracic_ratio(p[classes.index("lungs")] > 0.5, p[classes.index("heart")] > 0.5)
    row["confidence"] = float(np.mean([_sure(plane) for plane in p]))
    if hasattr(network, "far_from_drawing"):
        row["far_from_drawing"] = network.far_from_drawing(image.pixels)
    return row


def vessel_size(inside: NDArray[np.bool_]) -> dict[str, float | None]:
    """vessel_length_px: of the middle lines, steps along a diagonal count √2; vessel_width_px: area over length, None without vessels."""
    from skimage.morphology import skeletonize

    line = skeletonize(inside)
    straight = (line[1:] & line[:-1]).sum() + (line[:, 1:] & line[:, :-1]).sum()
    corner = (line[1:, 1:] & line[:-1, :-1] & ~line[1:, :-1] & ~line[:-1, 1:]).sum() + (line[1:, :-1] & line[:-1, 1:] & ~line[1:, 1:] & ~line[:-1, :-1]).sum()
    length = float(straight + np.sqrt(2) * corner)
    return {"vessel_length_px": length, "vessel_width_px": float(inside.sum() / length) if length else None}


def cardiothoracic_ratio(lungs: NDArray[np.bool_], heart: NDArray[np.bool_]) -> float | None:
    """The heart's greatest width over that of the chest between the lungs' outer sides, 0–1; None where one of them is not found."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(lungs.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas) or not heart.any():
        return None
    large = np.isin(pieces, 1 + np.flatnonzero(areas >= LEAST_LUNG * areas.max()))
    return _width(heart) / _width(large)


def _width(mask: NDArray[np.bool_]) -> float:
    columns = np.flatnonzero(mask.any(0))
    return float(columns[-1] - columns[0] + 1)


def _sure(plane: NDArray[np.float32]) -> float:
    seen = plane[plane > 0.05]
    return float(np.abs(2 * seen - 1).mean()) if len(seen) and seen.max() > 0.5 else 0.0
