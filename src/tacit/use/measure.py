"""Numbers of every gland and every image: sizes, shapes, and the density that grades a tumour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

LUMEN_LIGHT = 0.72  # a pixel is lumen where its darkest channel is brighter than this share of the picture's white
BINS = 24  # of the profile from a gland's edge inwards


def glands(labels: NDArray[np.int32], picture: NDArray[np.uint8], mpp: float | None, p: NDArray[np.float32]) -> pd.DataFrame:
    """One row a gland. labels (h, w) · picture (h, w, 3) RGB · mpp µm per px or None · p (h, w) gland probability.

    Columns: label, row, col (centre, px), area_px, perimeter_px, eccentricity and solidity (0–1), equivalent_diameter_px,
    lumen_share (0–1), border_thickness_px, haematoxylin (mean optical density), confidence (0–1), and the same lengths and
    areas in µm (empty where the spacing is not known).
    """
    import pandas as pd
    from skimage.measure import regionprops_table

    wanted = ("label", "centroid", "area", "perimeter", "eccentricity", "solidity", "equivalent_diameter_area")
    table = pd.DataFrame(regionprops_table(labels, properties=wanted)).rename(
        columns={
            "centroid-0": "row",
            "centroid-1": "col",
            "area": "area_px",
            "perimeter": "perimeter_px",
            "equivalent_diameter_area": "equivalent_diameter_px",
        }
    )
    count = int(labels.max()) + 1
    size = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    stain = haematoxylin(picture)
    bright = picture.min(-1) > LUMEN_LIGHT * np.quantile(picture.min(-1), 0.995)
    sure = np.clip(np.abs(2 * p - 1), 0, 1)
    columns = {
        "lumen_share": _mean(labels, bright, size),
        "border_thickness_px": _border_thickness(labels, stain, count),
        "haematoxylin": _mean(labels, stain, size),
        "confidence": _mean(labels, sure, size),
    }
    for name, values in columns.items():
        table[name] = values[table["label"].to_numpy(int)]
    um = mpp if mpp is not None else float("nan")
    for name in ("perimeter", "equivalent_diameter", "border_thickness"):
        table[f"{name}_um"] = table[f"{name}_px"] * um
    table["area_um2"] = table["area_px"] * um**2
    return table


def image_row(labels: NDArray[np.int32], table: pd.DataFrame, mpp: float | None, p: NDArray[np.float32]) -> dict[str, float | None]:
    """One image's statistics: glands, their share of the area, density per mm², medians, and the mean confidence of its pixels."""
    area_mm2 = labels.size * mpp**2 * 1e-6 if mpp else None
    some = len(table) > 0
    return {
        "height_px": labels.shape[0],
        "width_px": labels.shape[1],
        "mpp": mpp,
        "glands": len(table),
        "area_share": float((labels > 0).mean()),
        "glands_per_mm2": len(table) / area_mm2 if area_mm2 else None,
        "median_area_px": float(table["area_px"].median()) if some else None,
        "median_area_um2": float(table["area_um2"].median()) if some and mpp else None,
        "mean_solidity": float(table["solidity"].mean()) if some else None,
        "mean_lumen_share": float(table["lumen_share"].mean()) if some else None,
        "confidence": float(np.clip(np.abs(2 * p - 1), 0, 1).mean()),
    }


def haematoxylin(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Optical density along haematoxylin after unmixing from eosin (Ruifrok and Johnston 2001 vectors). (h, w)"""
    light = np.clip(np.arange(256, dtype=np.float32), 1, 255) / 255
    density = (-np.log10(light))[picture]
    stains = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    return (density @ np.linalg.pinv(stains)[:, 0].astype(np.float32)).astype(np.float32)


def _mean(labels: NDArray[np.int32], values: NDArray, size: NDArray) -> NDArray[np.float64]:
    return np.bincount(labels.ravel(), weights=values.ravel().astype(np.float64), minlength=len(size)) / size


def _border_thickness(labels: NDArray[np.int32], stain: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Depth in px at which nuclear stain has fallen half-way from its densest ring to the palest ring inside that."""
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    depth = cv2.distanceTransform(((labels > 0) & ~edge).astype(np.uint8), cv2.DIST_L2, 5)
    deepest = np.zeros(count)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    bin_width = np.maximum(deepest / BINS, 1e-6)
    index = np.minimum((depth / bin_width[labels]).astype(int), BINS - 1) + labels * BINS
    pixels = np.bincount(index.ravel(), minlength=count * BINS).reshape(count, BINS)
    sums = np.bincount(index.ravel(), weights=stain.ravel().astype(np.float64), minlength=count * BINS).reshape(count, BINS)
    profile = np.where(pixels > 0, sums / np.maximum(pixels, 1), np.nan)
    thickness = np.full(count, np.nan)
    for label in range(1, count):
        ring = profile[label]
        if np.isfinite(ring).sum() < 3:
            continue
        ring = np.interp(np.arange(BINS), np.flatnonzero(np.isfinite(ring)), ring[np.isfinite(ring)])
        top = int(ring[: BINS // 2].argmax())
        middle = (ring[top] + ring[top:].min()) / 2
        below = np.flatnonzero(ring[top:] <= middle)
        thickness[label] = (top + below[0]) * bin_width[label] if len(below) else deepest[label]
    return thickness
