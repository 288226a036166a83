"""Binary shapes in volumes, fast and equal to scipy.ndimage voxel by voxel: OpenCV does each slice, plain array steps join them.

All masks are uint8 0/1, (d, h, w). "Cross" is the 6-connected neighbourhood, the default of scipy's binary morphology.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def dilated(mask: Mask, times: int = 1) -> Mask:
    """Grown by the cross, `times` over; beyond the volume is empty. Equals scipy.ndimage.binary_dilation."""
    for _ in range(times):
        grown = np.empty_like(mask)
        for k in range(len(mask)):
            cv2.dilate(mask[k], CROSS, dst=grown[k], borderType=cv2.BORDER_CONSTANT, borderValue=0)
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        mask = grown
    return mask


def eroded(mask: Mask, times: int = 1, beyond: int = 0) -> Mask:
    """Shrunk by the cross, `times` over; beyond the volume is empty (0) or full (1). Equals scipy.ndimage.binary_erosion, border_value=beyond."""
    for _ in range(times):
        less = np.empty_like(mask)
        for k in range(len(mask)):
            cv2.erode(mask[k], CROSS, dst=less[k], borderType=cv2.BORDER_CONSTANT, borderValue=beyond)
        less[1:] &= mask[:-1]
        less[:-1] &= mask[1:]
        if not beyond:
            less[0] = 0
            less[-1] = 0
        mask = less
    return mask


def closed(mask: Mask, times: int = 1) -> Mask:
    """Gaps narrower than the cross filled; what touches the volume's edge stays. Equals scipy's dilation, then erosion with border_value=1."""
    return eroded(dilated(mask, times), times, beyond=1)


def opened(mask: Mask, times: int = 1) -> Mask:
    """Parts narrower than the cross taken away. Equals scipy.ndimage.binary_opening with iterations=times."""
    return dilated(eroded(mask, times), times)


def without_border_pieces(mask: Mask, flank_px: float = np.inf) -> Mask:
    """Each slice without its 4-connected pieces that touch the slice's edge.

    A piece that the edge cuts stays where it holds no corner and, along the edge, at least `flank_px` of
    background lie on both sides of each of its stretches: a lung cut by a narrow field of view, not the room.
    """
    ring = _ring(mask.shape[1], mask.shape[2])
    corners = [0, mask.shape[2] - 1, mask.shape[2] + mask.shape[1] - 2, 2 * mask.shape[2] + mask.shape[1] - 3]
    kept = np.ascontiguousarray(mask).copy()
    for plane in kept:
        edge = plane[ring]
        if edge.all():
            cv2.floodFill(plane, None, (0, 0), 0, flags=4)
            continue
        for start, stop, cut in _stretches(edge, corners, flank_px):
            if not cut:
                for at in range(start, stop):
                    row, col = int(ring[0][at % len(edge)]), int(ring[1][at % len(edge)])
                    if plane[row, col]:
                        cv2.floodFill(plane, None, (col, row), 0, flags=4)
    return kept


def _ring(h: int, w: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The edge's pixels clockwise from the top left corner, each once."""
    rows = np.r_[np.zeros(w, int), np.arange(1, h), np.full(w - 1, h - 1), np.arange(h - 2, 0, -1)]
    cols = np.r_[np.arange(w), np.full(h - 1, w - 1), np.arange(w - 2, -1, -1), np.zeros(h - 2, int)]
    return rows, cols


def _stretches(edge: NDArray[np.uint8], corners: list[int], flank: float) -> list[tuple[int, int, bool]]:
    """Runs of 1 along a ring that is not all 1: (start, stop, whether it is merely cut by the edge); stop may pass the ring's end."""
    n = len(edge)
    first = int(np.flatnonzero(edge == 0)[0])
    turned = np.roll(edge, -first).astype(np.int8)
    change = np.flatnonzero(np.diff(np.r_[turned, 0]))
    starts, stops = change[0::2] + 1, change[1::2] + 1
    found = []
    for k, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        before = start - (stops[k - 1] if k else stops[-1] - n)
        after = (starts[k + 1] if k + 1 < len(starts) else starts[0] + n) - stop
        holds_corner = any((c - first) % n in range(start, stop) for c in corners)
        found.append((int(start + first), int(stop + first), bool(not holds_corner and min(before, after) >= flank)))
    return found


def filled(mask: Mask, most_px: float = np.inf) -> Mask:
    """Each slice with its holes of at most `most_px` pixels filled (a hole is not 4-connected to the slice's edge)."""
    full = np.ascontiguousarray(mask).copy()
    for k in np.flatnonzero(mask.any((1, 2))):
        ground = 1 - cv2.copyMakeBorder(mask[k], 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(ground, connectivity=4)
        if count > 2:
            hole = stats[:, cv2.CC_STAT_AREA] <= most_px
            hole[[0, labels[0, 0]]] = False  # the mask itself, and what reaches the edge
            full[k] |= hole[labels[1:-1, 1:-1]].view(np.uint8)
    return full


def _distinct(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int32]:
    """The distinct pairs (n, 2) of two lists; neighbours are mostly equal, so few are left to be sorted."""
    codes = (a.astype(np.int64) << 32) | b
    codes = np.unique(codes[np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])]) if len(codes) else codes
    return np.stack([codes >> 32, codes & 0xFFFFFFFF], 1).astype(np.int32)


def pieces(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """6-connected pieces: labels (d, h, w) from 1, the largest first, and their sizes in voxels. The partition equals scipy.ndimage.label's."""
    labels = np.zeros(mask.shape, np.int32)
    links: list[NDArray[np.int32]] = []
    count = 0
    for k in range(len(mask)):
        if not mask[k].any():
            continue
        found, here = cv2.connectedComponents(mask[k], connectivity=4, ltype=cv2.CV_32S)
        np.add(here, count, out=labels[k], where=here > 0)
        count += found - 1
        if k and labels[k - 1].any():
            both = (mask[k] & mask[k - 1]).view(bool)
            links.append(_distinct(labels[k - 1][both], labels[k][both]))
    if count == 0:
        return labels, np.zeros(0, np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate(links) if links else np.zeros((0, 2), np.int32)
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count + 1, count + 1))
    _, group = connected_components(graph, directed=False)
    per_slice = sum((np.bincount(s.ravel(), minlength=count + 1) for s in labels), np.zeros(count + 1, np.int64))
    per_slice[0] = 0
    sizes = np.bincount(group, weights=per_slice).astype(np.int64)
    sizes[group[0]] = -1  # the background
    rank = np.empty(len(sizes), np.int32)
    order = np.argsort(-sizes, kind="stable")
    rank[order] = np.arange(1, len(sizes) + 1)
    table = rank[group]
    table[0] = 0
    for k in range(len(labels)):
        labels[k] = table[labels[k]]
    return labels, sizes[order][: len(sizes) - 1]
