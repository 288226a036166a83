"""Grey levels made more telling: window, histogram equalisation (HE), CLAHE, gamma, and the maximum over a slab.

CLAHE: Zuiderveld 1994, "Contrast limited adaptive histogram equalization" (Graphics Gems IV). OpenCV does the work where it
can; with a mask only the masked pixels are counted and changed, which OpenCV does not offer and is done here by the same rule.
HE counts a volume as a whole; CLAHE takes a volume (d, h, w) slice by slice along its first axis. Colour pictures are refused:
give one plane, for example the lightness.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

Mask = NDArray[np.bool_] | None


def window(hu: NDArray, level: float, width: float) -> NDArray[np.float32]:
    """Levels of any shape and unit (HU in CT), clipped to level ± width/2, as float32 from 0 to 1.

    This is DICOM's LINEAR_EXACT. Raises InputError for a width that is not positive and for values that are not finite.

    >>> window(np.array([-1250, -500, 250, 3000]), -500, 1500).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    if not width > 0:
        raise InputError(f"a window's width must be positive, it is {width}; the chest's lung window is level -500, width 1500")
    if np.issubdtype(hu.dtype, np.floating) and not np.isfinite(hu).all():
        raise InputError("the image to window holds values that are not finite; replace them, for example by -1024 HU")
    scaled = hu.astype(np.float32)
    scaled -= np.float32(level - width / 2)
    scaled *= np.float32(1 / width)
    return np.asarray(np.clip(scaled, 0, 1, out=scaled), np.float32)


def window_uint8(hu: NDArray, level: float, width: float) -> NDArray[np.uint8]:
    """`window` as grey levels 0–255, rounded to the nearest. Raises as `window` does."""
    return np.rint(window(hu, level, width) * np.float32(255)).astype(np.uint8)


def equalised(picture: NDArray, mask: Mask = None) -> NDArray:
    """HE: every grey level becomes its share among the counted pixels, the lowest becoming 0 and the highest the type's maximum.

    picture: uint8 or uint16, of any shape; mask: same shape, only its pixels are counted and changed. An image of one level,
    and one whose mask is empty, comes back as it is. Raises InputError for other types or a mask of another shape.
    """
    top = _top(picture)
    _check_mask(picture, mask)
    if picture.dtype == np.uint8 and mask is None and picture.ndim <= 3 and picture.size:
        return np.asarray(cv2.equalizeHist(np.ascontiguousarray(picture).reshape(picture.shape[0], -1))).reshape(picture.shape)
    counted = picture if mask is None else picture[mask]
    counts = _histogram(counted, top)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        return picture.copy()
    first = counts[present[0]]
    table = np.rint((np.cumsum(counts) - first) * (top / (counted.size - first))).clip(0, top).astype(picture.dtype)
    return _changed(picture, mask, table)


def clahe(picture: NDArray, *, clip: float = 2.0, tiles: int = 8, mask: Mask = None) -> NDArray:
    """CLAHE with tiles × tiles tiles; a level's count is clipped at `clip` times the mean count of a level in a tile.

    picture: uint8 or uint16, (h, w) or (d, h, w); without a mask the result is OpenCV's. The least limit is one pixel a level:
    16 bits hold 65,536 levels, so a tile of n pixels limits no lower than clip = 65,536 / n; window to 8 bits for a gentler hand.
    mask: same shape, only its pixels are counted and changed; a tile without any has no say in its neighbours' pixels.
    Raises InputError for other types or shapes, a clip that is not positive, or more tiles than pixels a side.
    """
    _top(picture)
    _check_mask(picture, mask)
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[-1] in (3, 4)):
        raise InputError(f"CLAHE wants one grey plane (h, w) or a volume (d, h, w), this is {picture.shape}; give the lightness of a colour picture")
    if not clip > 0 or not 1 <= tiles <= min(picture.shape[-2:]):
        raise InputError(f"CLAHE with clip {clip} and {tiles} tiles a side on {picture.shape}: clip must be positive, tiles between 1 and the shorter side")
    if picture.ndim == 3:
        masks = [None] * len(picture) if mask is None else list(mask)
        return np.stack([clahe(p, clip=clip, tiles=tiles, mask=m) for p, m in zip(picture, masks, strict=True)])
    if mask is None:
        return np.asarray(cv2.createCLAHE(clip, (tiles, tiles)).apply(np.ascontiguousarray(picture)))
    return _masked_clahe(picture, mask, clip, tiles)


def equalised_then_clahe(picture: NDArray, *, clip: float = 2.0, tiles: int = 8, mask: Mask = None) -> NDArray:
    """HE, then CLAHE of what it gave, both within the mask. Takes and raises what `clahe` does."""
    return clahe(equalised(picture, mask), clip=clip, tiles=tiles, mask=mask)


def gamma(picture: NDArray, exponent: float) -> NDArray:
    """Levels, as shares of the type's maximum, to the power `exponent`: below 1 lifts the dark. Same type and shape.

    picture: uint8, uint16, or floating from 0 to 1. Raises InputError for other types, floats outside 0–1, or an exponent ≤ 0.
    """
    if not exponent > 0:
        raise InputError(f"gamma's exponent must be positive, it is {exponent}; below 1 lifts the dark, above 1 deepens it")
    if np.issubdtype(picture.dtype, np.floating):
        if picture.size and not (picture.min() >= 0 and picture.max() <= 1):
            raise InputError(f"gamma wants floats from 0 to 1, these go from {picture.min()} to {picture.max()}; window them first")
        return np.power(picture, np.asarray(exponent, picture.dtype))
    top = _top(picture)
    return _changed(picture, None, np.rint((np.arange(top + 1) / top) ** exponent * top).astype(picture.dtype))


def slab_maximum(volume: NDArray, *, slices: int | None = None, thickness_mm: float | None = None, spacing_mm: float | None = None, step: int = 1) -> NDArray:
    """Maximum intensity projection over a slab round every `step`-th slice, cut off at the ends. (d, h, w) → (ceil(d/step), h, w).

    Give the slab's thickness in `slices`, or in mm together with the spacing of slices (rounded to the nearest count, at least
    one). An even slab reaches one slice further up. Raises InputError for another shape or a thickness that is unclear.
    """
    if volume.ndim != 3 or step < 1:
        raise InputError(f"a slab wants a volume (d, h, w) and a step of at least 1; it got shape {volume.shape}, step {step}")
    if (slices is None) == (thickness_mm is None) or (thickness_mm is not None and spacing_mm is None):
        raise InputError("say how thick the slab is once: slices=…, or thickness_mm=… with spacing_mm=… between slices")
    if thickness_mm is not None and spacing_mm is not None:
        if not (thickness_mm > 0 and spacing_mm > 0):
            raise InputError(f"thickness_mm {thickness_mm} and spacing_mm {spacing_mm} must be positive")
        slices = max(round(thickness_mm / spacing_mm), 1)
    if slices is None or slices < 1:
        raise InputError(f"a slab is at least one slice thick, it got {slices}")
    below, above = (slices - 1) // 2, slices // 2 + 1
    middles = range(0, len(volume), step)
    out = np.empty((len(middles), *volume.shape[1:]), volume.dtype)
    for i, z in enumerate(middles):
        np.max(volume[max(z - below, 0) : z + above], axis=0, out=out[i])
    return out


def _top(picture: NDArray) -> int:
    if picture.dtype not in (np.uint8, np.uint16):
        raise InputError(f"grey levels must be uint8 or uint16, these are {picture.dtype}; bring HU to grey levels with a window first")
    return int(np.iinfo(picture.dtype).max)


def _check_mask(picture: NDArray, mask: Mask) -> None:
    if mask is not None and (mask.shape != picture.shape or mask.dtype != bool):
        raise InputError(f"the mask must be boolean and of the image's shape {picture.shape}, it is {mask.dtype} {mask.shape}")


def _histogram(levels: NDArray, top: int) -> NDArray[np.int64]:
    return np.bincount(levels.ravel(), minlength=top + 1)


def _changed(picture: NDArray, mask: Mask, table: NDArray) -> NDArray:
    if mask is None:
        return np.asarray(np.take(table, picture))
    out = picture.copy()
    out[mask] = table[picture[mask]]
    return out


def _masked_clahe(picture: NDArray, mask: NDArray[np.bool_], clip: float, tiles: int) -> NDArray:
    """A table of levels for every tile; a pixel lies between the four nearest tiles' tables, by distance, the empty ones left out."""
    h, w = picture.shape
    uneven = int(h % tiles > 0 or w % tiles > 0)
    tall, wide = h // tiles + uneven, w // tiles + uneven  # as in OpenCV, the picture is mirrored to whole tiles, both sides or neither
    border = ((0, tall * tiles - h), (0, wide * tiles - w))
    padded, inside = np.pad(picture, border, mode="reflect"), np.pad(mask, border, mode="reflect")
    top = _top(picture)
    tables = np.zeros((tiles, tiles, top + 1), np.float32)
    filled = np.zeros((tiles, tiles), bool)
    for r in range(tiles):
        for c in range(tiles):
            place = np.s_[r * tall : (r + 1) * tall, c * wide : (c + 1) * wide]
            levels = padded[place][inside[place]]
            filled[r, c] = levels.size > 0
            if levels.size:
                tables[r, c] = _clipped_table(_histogram(levels, top), clip)
    rows, cols = np.nonzero(mask)
    level = picture[rows, cols]
    total, weight = np.zeros((2, len(rows)), np.float32)
    for above, r_share in _neighbours(rows, tall, tiles):
        for beside, c_share in _neighbours(cols, wide, tiles):
            share = r_share * c_share * filled[above, beside]
            total += share * tables[above, beside, level]
            weight += share  # a pixel's own tile is never empty, so the sum is at least 1/4
    out = picture.copy()
    out[rows, cols] = np.rint(total / weight).clip(0, top).astype(picture.dtype)
    return out


def _neighbours(position: NDArray, side: int, tiles: int) -> list[tuple[NDArray, NDArray[np.float32]]]:
    """The two tiles, along one axis, between whose middles each position lies, with their shares."""
    place = position.astype(np.float32) / side - np.float32(0.5)
    low = np.floor(place).astype(np.int64)
    share = (place - low).astype(np.float32)
    return [(np.maximum(low, 0), np.float32(1) - share), (np.minimum(low + 1, tiles - 1), share)]


def _clipped_table(counts: NDArray[np.int64], clip: float) -> NDArray[np.float32]:
    """A tile's levels: counts above the limit are shared out evenly, the remainder one each at even distances, then summed up."""
    levels, pixels = len(counts), int(counts.sum())
    limit = max(int(clip * pixels / levels), 1)
    excess = int(np.maximum(counts - limit, 0).sum())
    counts = np.minimum(counts, limit) + excess // levels
    left = excess % levels
    if left:
        counts[: left * max(levels // left, 1) : max(levels // left, 1)] += 1
    scaled = np.cumsum(counts) * np.float32((levels - 1) / pixels)
    return np.rint(scaled).clip(0, levels - 1).astype(np.float32)
