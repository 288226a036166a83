"""Perceptual hashes of 64 bits — perception, average, difference and wavelet — equal bit by bit to those of the package imagehash.

Definitions: Zauner 2010 (average, DCT), Krawetz 2011–2013 (difference), imagehash's whash (Haar, with the largest
approximation taken away). All four share one decoding, one grey conversion and one pass of Pillow's Lanczos filter, which is
done as a matrix product in whole numbers. A hash is a uint64; its first bit is the top left one, as in imagehash's hex text.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

NAMES = ("phash", "ahash", "dhash", "whash")
SIDE = 8
DCT_SIDE = 32
PRECISION = 22  # bits of Pillow's filter coefficients
ROWS_AT_ONCE = 512
MOST_TALL, LEAST_SIDE = 1.5, 64  # taller or smaller pictures go to Pillow itself, which may filter their columns first
HALF = 0.7071067811865476  # Haar's coefficient, as PyWavelets has it


def hashes(picture: NDArray[np.uint8]) -> dict[str, int]:
    """The four hashes of a picture (h, w) grey or (h, w, 3) RGB, 8 bit; any size from 2 px."""
    grey = to_grey(picture)
    square, wide, large = _lanczos(grey, (SIDE, SIDE + 1, DCT_SIDE), (SIDE, SIDE, DCT_SIDE))
    return {"phash": _phash(large), "ahash": _packed(square > square.mean()), "dhash": _packed(wide[:, 1:] > wide[:, :-1]), "whash": _whash(grey)}


def as_hex(value: int) -> str:
    """16 hex digits, as imagehash prints them."""
    return f"{value:016x}"


def distance(a: int, b: int) -> int:
    """Hamming distance of two hashes, 0–64."""
    return (a ^ b).bit_count()


def to_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma by ITU-R 601 as Pillow rounds it, (h, w)."""
    if picture.ndim == 2:
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).convert("L"))


def _packed(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def _phash(large: NDArray[np.uint8]) -> int:
    from scipy.fft import dct

    low = dct(dct(large.astype(np.float64), axis=0, type=2), axis=1, type=2)[:SIDE, :SIDE]
    return _packed(low > np.median(low))


# Pillow's resampling


@lru_cache(maxsize=64)
def _filter(size: int, wanted: int) -> NDArray[np.float64]:
    """Lanczos weights (wanted, size) in units of 2^-22, rounded as Pillow rounds them."""
    scale = max(size / wanted, 1.0)
    reach = 3.0 * scale
    weights = np.zeros((wanted, size))
    for out in range(wanted):
        centre = (out + 0.5) * size / wanted
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        x = (np.arange(low, high) - centre + 0.5) / scale
        w = np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0.0)
        weights[out, low:high] = w / w.sum()
    return np.trunc(weights * (1 << PRECISION) + np.copysign(0.5, weights))


def _lanczos(grey: NDArray[np.uint8], widths: tuple[int, ...], heights: tuple[int, ...]) -> list[NDArray[np.uint8]]:
    """The picture at several sizes, each equal to Pillow's `resize(…, LANCZOS)`; one product along the rows serves all."""
    h, w = grey.shape
    if h > MOST_TALL * w or min(h, w) < LEAST_SIDE:
        return [_resized(grey, size) for size in zip(heights, widths, strict=True)]
    across = np.concatenate([_filter(w, n) if n != w else np.eye(w) * (1 << PRECISION) for n in widths]).T
    narrow = np.concatenate([_rounded(grey[r : r + ROWS_AT_ONCE].astype(np.float64) @ across) for r in range(0, h, ROWS_AT_ONCE)])
    found, at = [], 0
    for n, m in zip(widths, heights, strict=True):
        part = narrow[:, at : at + n]
        found.append(part.astype(np.uint8) if m == h else _rounded(_filter(h, m) @ part).astype(np.uint8))
        at += n
    return found


def _resized(grey: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(size[::-1], Image.Resampling.LANCZOS))


def _rounded(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of whole numbers (exact in float64) shifted back to grey levels, rounded half up, clipped."""
    return np.asarray(np.clip(np.floor((sums + (1 << (PRECISION - 1))) / (1 << PRECISION)), 0, 255))


# The wavelet hash


def _whash(grey: NDArray[np.uint8]) -> int:
    """Bits: is the Haar approximation of a block, less the picture's mean, above the median of the 64 blocks?

    imagehash takes the mean away by a full transform and its inverse, whose rounding decides where blocks are equal (black
    corners of a CT slice). Blocks of one value need only their own chain of roundings; any other near tie takes the long way.
    """
    side = 2 ** int(np.log2(min(grey.shape)))
    side = max(side, SIDE)
    pixels = _square(grey, side)
    if side == SIDE:
        return _long_whash(pixels)
    blocks, depth = cv2.LUT(pixels, HALF * (np.arange(256) / 255.0)), 0  # each level's values times HALF, before they are added
    while len(blocks) > SIDE:
        rows = blocks[0::2] + blocks[1::2]
        rows *= HALF
        blocks = rows[:, 0::2] + rows[:, 1::2]
        depth += 1
        if len(blocks) > SIDE:
            blocks *= HALF
    without = _without_mean(blocks)
    median = np.median(without)
    near = np.abs(without - median) < 1e-7
    if near.sum() <= 1:
        return _packed(without > median)
    n = side // SIDE
    tiles = pixels.reshape(SIDE, n, SIDE, n)
    flat = tiles.min((1, 3)) == tiles.max((1, 3))
    if not flat[near].all():
        return _long_whash(pixels)
    again = without.copy()
    for _ in range(2 * depth):
        again = HALF * again
    for _ in range(2 * depth):
        again = HALF * again + HALF * again
    settled = np.where(flat, again, without)
    return _packed(settled > np.median(settled))


def _square(grey: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return grey if grey.shape == (side, side) else _resized(grey, (side, side))


def _split(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """One level of Haar: approximation, and the details in the three directions."""
    low, high = HALF * x[1::2] + HALF * x[0::2], -HALF * x[1::2] + HALF * x[0::2]
    parts = []
    for half in (low, high):
        parts += [HALF * half[:, 1::2] + HALF * half[:, 0::2], -HALF * half[:, 1::2] + HALF * half[:, 0::2]]
    return tuple(parts)


def _joined(low_low: NDArray[np.float64], low_high: NDArray[np.float64], high_low: NDArray[np.float64], high_high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse of `_split`."""
    n = len(low_low)
    halves = []
    for a, d in ((low_low, low_high), (high_low, high_high)):
        half = np.empty((n, 2 * n))
        half[:, 0::2], half[:, 1::2] = HALF * a + HALF * d, HALF * a - HALF * d
        halves.append(half)
    whole = np.empty((2 * n, 2 * n))
    whole[0::2], whole[1::2] = HALF * halves[0] + HALF * halves[1], HALF * halves[0] - HALF * halves[1]
    return whole


def _without_mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Down to one coefficient, that one set to zero, and back up."""
    levels = []
    while len(x) > 1:
        x, *details = _split(x)
        levels.append(details)
    x = np.zeros_like(x)
    for details in reversed(levels):
        x = _joined(x, *details)
    return x


def _long_whash(pixels: NDArray[np.uint8]) -> int:
    x = _without_mean(pixels / 255.0)
    while len(x) > SIDE:
        x = _split(x)[0]
    return _packed(x > np.median(x))
