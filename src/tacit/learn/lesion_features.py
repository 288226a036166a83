"""Where a lesion network saw what → few numbers with a meaning: of a slice, and of a whole series.

COVID-19 in print: several foci of ground glass in both lungs, near the pleura, low and behind; a bacterial pneumonia: one consolidation in one lobe.
So: how much of the lung each kind fills, how surely, on which side, how near the pleura, how far back, how low, and in how many pieces.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.phantom.ct_lesion import KINDS

NAMES = tuple(name.replace("-", "_") for name in KINDS[1:])
COLUMNS = (
    *("lung", "height"),  # the slice's lung, share of the picture; its place in the series, 0 the first slice, 1 the last
    *(f"share_{n}" for n in NAMES),  # of the slice's lung, square root
    *(f"peak_{n}" for n in NAMES),  # the highest probability, as a mean over PEAK × PEAK px
    *("one_side", "other_side"),  # of the slice's lung, square root: lesions of the first and of the last columns
    *("foci", "depth", "back"),  # pieces; mean distance from the edge of the lung, share of the deepest; mean row, share of the lung's rows
)
PEAK = 5  # px
LEAST_PX = 6  # a smaller piece is no focus
RUN = 0.04  # a slice of a run holds at least this in one of its sides (square root of the share)
SERIES_COLUMNS = (
    *(f"volume_{n}" for n in NAMES),  # of all lung, square root
    *(f"most_{n}" for n in NAMES),  # in the slice that holds most of it, square root
    *(f"sure_{n}" for n in NAMES),  # the second highest peak: a single slice may err
    *("one_side", "other_side", "lesser_side"),  # of all lung, square root
    *("runs", "longest", "foci"),  # runs of slices with lesions, both sides together; the longest, share of the series; most foci of a slice
    *("depth", "back", "height", "tall"),  # means and the spread of the height, each weighted by the lesion
)


def slice_features(p: NDArray[np.float32]) -> NDArray[np.float32]:
    """p (s, 1 + kinds, h, w): normal lung and each kind of lesion → (s, len(COLUMNS))."""
    inside = p.sum(1) > 0.5
    columns = inside.sum((0, 1)).astype(float)
    middle = float(columns @ np.arange(len(columns)) / max(columns.sum(), 1))
    return np.stack([_of_slice(planes, lung, middle, s / max(len(p) - 1, 1)) for s, (planes, lung) in enumerate(zip(p, inside, strict=True))])


def _of_slice(p: NDArray[np.float32], lung: NDArray[np.bool_], middle: float, height: float) -> NDArray[np.float32]:
    h, w = lung.shape
    area = max(int(lung.sum()), 1)
    kinds = p[1:]
    any_kind = kinds.sum(0)
    seen = any_kind * (any_kind > 0.5)
    shares = [float((plane * (any_kind > 0.5)).sum()) / area for plane in kinds]
    peaks = [float(cv2.blur(plane, (PEAK, PEAK)).max()) for plane in kinds]
    first = np.arange(w) < middle
    sides = [float(seen[:, first].sum()) / area, float(seen[:, ~first].sum()) / area]
    count, _, stats, _ = cv2.connectedComponentsWithStats((any_kind > 0.5).astype(np.uint8), connectivity=8)
    foci = int((stats[1:count, cv2.CC_STAT_AREA] >= LEAST_PX).sum())
    depth, back = 0.0, 0.0
    if seen.any():
        deep = cv2.distanceTransform(cv2.copyMakeBorder(lung.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0), cv2.DIST_L2, 3)[1:-1, 1:-1]
        rows = np.flatnonzero(lung.any(1))
        depth = float((deep * seen).sum() / seen.sum() / max(deep.max(), 1))
        back = float((seen.sum(1) @ np.arange(h) / seen.sum() - rows[0]) / max(len(rows) - 1, 1)) if len(rows) else 0.0
    return np.array([area / lung.size, height, *np.sqrt(shares), *peaks, *np.sqrt(sides), foci, depth, back], np.float32)


def series_features(table: NDArray[np.floating]) -> NDArray[np.float32]:
    """The slices of a series (s, len(COLUMNS)) → (len(SERIES_COLUMNS),)."""
    rows = dict(zip(COLUMNS, np.asarray(table, np.float64).T, strict=True))
    lung = rows["lung"] / max(float(rows["lung"].sum()), 1e-9)
    whole = lambda name: float(np.sqrt((lung * rows[name] ** 2).sum()))
    volumes = [whole(f"share_{n}") for n in NAMES]
    most = [float(rows[f"share_{n}"].max()) for n in NAMES]
    sure = [float(np.sort(rows[f"peak_{n}"])[-min(2, len(lung))]) for n in NAMES]
    sides = [whole("one_side"), whole("other_side")]
    lengths = [n for side in ("one_side", "other_side") for n in _runs(rows[side] >= RUN)]
    amount = lung * (rows["one_side"] ** 2 + rows["other_side"] ** 2)
    weight = amount / max(float(amount.sum()), 1e-9)
    height = float(weight @ rows["height"])
    tall = float(np.sqrt(weight @ (rows["height"] - height) ** 2))
    where = [float(weight @ rows["depth"]), float(weight @ rows["back"]), height, tall]
    runs = [float(len(lengths)), max(lengths, default=0) / len(lung), float(rows["foci"].max())]
    return np.array([*volumes, *most, *sure, *sides, min(sides), *runs, *where], np.float32)


def _runs(held: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of True, those of one slice left out."""
    edges = np.flatnonzero(np.diff(np.r_[0, held.astype(np.int8), 0]))
    return [int(n) for n in edges[1::2] - edges[::2] if n > 1]
