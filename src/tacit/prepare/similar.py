"""How alike two pictures are: SSIM, PSNR, and every near pair among very many hashes.

SSIM after Wang et al. 2004 (with the factor 2 on the covariance), as scikit-image computes it: 7×7 means, sample covariance,
the border left out. Near pairs by the pigeonhole: hashes that differ in at most k of 64 bits agree in one of k + 1 bands.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

WINDOW = 7
STRIP = 48  # rows at once
MOST_CANDIDATES = 4_000_000  # pairs compared at once


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8], *, data_range: float = 255.0) -> float:
    """Mean structural similarity of two grey 8-bit pictures (h, w), −1…1, 1 = equal. Within 1e-4 of scikit-image's default."""
    _same_shape(a, b, least=WINDOW)
    edge = WINDOW // 2
    rows = a.shape[0] - 2 * edge
    total = sum(_strip(a[r : r + STRIP + 2 * edge], b[r : r + STRIP + 2 * edge], data_range) for r in range(0, rows, STRIP))
    return float(total / (rows * (a.shape[1] - 2 * edge)))


def _strip(a: NDArray[np.uint8], b: NDArray[np.uint8], data_range: float) -> float:
    """Sum of the similarity of some rows, without the border; strips stay in the cache."""
    n = WINDOW * WINDOW
    c1, c2 = (0.01 * data_range) ** 2 * n * n, (0.03 * data_range) ** 2 * n * (n - 1)
    x, y = a.astype(np.uint16), b.astype(np.uint16)
    sum_x, sum_y = _sums(a), _sums(b)  # whole numbers throughout: 49²·255² fits 32 bits
    covariance, squares = n * _sums(x * y), n * (_sums(x * x) + _sums(y * y))
    means, mean_squares = sum_x * sum_y, sum_x * sum_x + sum_y * sum_y
    covariance -= means
    squares -= mean_squares
    top = _affine(covariance, 2, c2) * _affine(means, 2, c1)
    top /= _affine(squares, 1, c2) * _affine(mean_squares, 1, c1)
    return float(np.sum(top, dtype=np.float64))


def _sums(values: NDArray) -> NDArray[np.int32]:
    """Sums over the window where it lies within the rows and columns given."""
    edge = WINDOW // 2
    return np.asarray(cv2.boxFilter(values, cv2.CV_32S, (WINDOW, WINDOW), normalize=False))[edge:-edge, edge:-edge]


def _affine(values: NDArray[np.int32], gain: float, offset: float) -> NDArray[np.float32]:
    moved = values.astype(np.float32)
    moved *= np.float32(gain)
    moved += np.float32(offset)
    return moved


def psnr(a: NDArray, b: NDArray, *, data_range: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB of two pictures of one shape; infinite where they are equal."""
    _same_shape(a, b, least=1)
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def _same_shape(a: NDArray, b: NDArray, least: int) -> None:
    if a.shape != b.shape or min(a.shape[:2]) < least:
        raise InputError(f"two pictures of one size, at least {least} px a side, are compared; these are {a.shape} and {b.shape}")


def near_pairs(hashes: NDArray[np.uint64], most: int = 5) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Every pair of hashes at Hamming distance ≤ `most`: indices (n, 2) with first < second, sorted, and their distances (n,).

    Exact. Each pair is looked for in `most` + 1 bands of bits; memory is bounded by `MOST_CANDIDATES` pairs at a time.
    """
    values = np.ascontiguousarray(hashes, np.uint64)
    edges = np.linspace(0, 64, most + 2).astype(int)
    found: list[NDArray[np.intp]] = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        band = (values >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        found += _pairs_in_band(values, band, int(low), edges, most)
    if not found:
        return np.empty((0, 2), np.intp), np.empty(0, np.uint8)
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs, np.bitwise_count(values[pairs[:, 0]] ^ values[pairs[:, 1]])


def _pairs_in_band(values: NDArray[np.uint64], band: NDArray[np.uint64], low: int, edges: NDArray[np.intp], most: int) -> list[NDArray[np.intp]]:
    """Near pairs that agree in this band and in no earlier one, so that each is found once."""
    order = np.argsort(band, kind="stable")
    ordered, codes = band[order], values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    later = (np.repeat(starts + sizes, sizes) - np.arange(len(ordered)) - 1).astype(np.int64)  # members of the group after each item
    ends = np.cumsum(later)
    found, at = [], 0
    while at < len(later):
        upto = int(np.searchsorted(ends, (ends[at - 1] if at else 0) + MOST_CANDIDATES, "right"))
        upto = max(upto, at + 1)
        counts = later[at:upto]
        first = np.repeat(np.arange(at, upto), counts)
        second = first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        differ = codes[first] ^ codes[second]
        near = np.bitwise_count(differ) <= most
        first, second, differ = first[near], second[near], differ[near]
        for a, b in zip(edges[:-1], edges[1:], strict=True):
            if a >= low:
                break
            new = (differ >> np.uint64(a)) & np.uint64((1 << int(b - a)) - 1) != 0
            first, second, differ = first[new], second[new], differ[new]
        found.append(np.sort(np.stack([order[first], order[second]], 1), axis=1))
        at = upto
    return found
