"""Labels of a slide, block by block → a pyramidal tiled TIFF, outlines in level-0 pixels for QuPath, and a row of numbers a gland.

A gland that several blocks hold is measured in parts whose sums are added, and its outline is the union of its parts, which lie on whole pixels
and so fit exactly. It is written as soon as the last block that holds some of it is done: no more than a row of blocks is waited for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.files import storage_error
from tacit.prepare.regions import Regions, gland_and_core
from tacit.prepare.scratch import Blocks
from tacit.use.outlines import along_pixels, feature, simplified

LEAST_SIDE = 1024  # px; the coarsest level's longer side is no more
MOST_SMALL = 65535  # labels up to this are written in 16 bits
COLUMNS = (
    "label",
    "row",
    "col",
    "area_um2",
    "perimeter_um",
    "equivalent_diameter_um",
    "eccentricity",
    "solidity",
    "confidence",
)  # row, col: centre, level-0 px


@dataclass
class _Gland:
    """What is known of a gland so far: sums over its pixels, and the outlines of its parts."""

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(7))  # pixels, r, c, rr, cc, rc, |2p − 1|
    parts: list[Any] = field(default_factory=list)


def write_glands(regions: Regions, p: Blocks, zoom: int, factor: float, mpp: float, place: Path, name: str, told: Callable[[dict[str, Any]], None]) -> None:
    """Writes a FeatureCollection to `place` and tells of each gland's row (`COLUMNS`).

    factor: level-0 pixels a label pixel is wide. mpp: µm per level-0 pixel. p, zoom: as of `find_regions`.
    """
    open_: dict[int, _Gland] = {}
    blocks, written = regions.blocks, 0
    try:
        with place.open("w", encoding="utf-8") as file:
            file.write('{"type": "FeatureCollection", "features": [')
            for i in range(blocks.down):
                for j in range(blocks.across):
                    if (i, j) not in blocks:
                        continue
                    labels = regions.lut[blocks.read(i, j)]
                    there = _measure(labels, p, zoom, blocks.box(i, j), open_)
                    for label in there[regions.last_block[there] == i * blocks.across + j].tolist():
                        row, shape = _finished(label, open_.pop(label), factor, mpp)
                        if shape is not None:
                            file.write((",\n" if written else "\n") + json.dumps(feature(shape, label, row, name), allow_nan=False))
                            written += 1
                        told(row)
            file.write("\n]}\n")
    except OSError as error:
        raise storage_error(place, error) from error


def _measure(labels: NDArray[np.int32], p: Blocks, zoom: int, box: tuple[int, int, int, int], open_: dict[int, _Gland]) -> NDArray[np.int64]:
    """Adds a block's pixels to the glands' sums and parts; gives the labels that are there."""
    from scipy.ndimage import find_objects

    rows, cols = np.nonzero(labels)
    there, at = np.unique(labels[rows, cols], return_inverse=True)
    if not len(there):
        return there.astype(np.int64)
    sure = np.abs(2 * gland_and_core(p, box, zoom)[0][rows, cols].astype(np.float64) / 4080 - 1)
    r, c = (rows + box[0]).astype(np.float64), (cols + box[1]).astype(np.float64)
    weights = (None, r, c, r * r, c * c, r * c, sure)
    sums = np.stack([np.bincount(at, weights=w, minlength=len(there)) for w in weights], 1)
    local = np.zeros(labels.shape, np.int32)
    local[rows, cols] = at + 1
    for k, crop in enumerate(find_objects(local)):
        gland = open_.setdefault(int(there[k]), _Gland())
        gland.sums += sums[k]
        gland.parts.append(along_pixels(local[crop] == k + 1, box[0] + crop[0].start, box[1] + crop[1].start))
    return there.astype(np.int64)


def _finished(label: int, gland: _Gland, factor: float, mpp: float) -> tuple[dict[str, Any], Any]:
    """A gland's row and its outline in level-0 pixels."""
    from shapely import affinity, normalize
    from shapely.ops import unary_union

    n, r, c, rr, cc, rc, sure = gland.sums.tolist()
    whole = gland.parts[0] if len(gland.parts) == 1 else unary_union(gland.parts)
    shape = simplified(normalize(whole.simplify(0)))  # the same points in the same order, however many parts it came in
    a, b, d = rr / n - (r / n) ** 2 + 1 / 12, cc / n - (c / n) ** 2 + 1 / 12, rc / n - r * c / n**2
    root = float(np.hypot((a - b) / 2, d))
    small, large = (a + b) / 2 - root, (a + b) / 2 + root
    um = factor * mpp
    row = {
        "label": label,
        "row": (r / n + 0.5) * factor,
        "col": (c / n + 0.5) * factor,
        "area_um2": n * um**2,
        "perimeter_um": _length(whole) * um,
        "equivalent_diameter_um": 2 * float(np.sqrt(n / np.pi)) * um,
        "eccentricity": float(np.sqrt(max(1 - small / large, 0))),
        "solidity": min(n / whole.convex_hull.area, 1.0),
        "confidence": sure / n,
    }
    return row, None if shape is None else affinity.scale(shape, factor, factor, origin=(0, 0))


def _length(shape: Any) -> float:
    """Of an outline along pixels, in pixels: the path through the middles of the pixels' edges, which cuts the corners of stairs."""
    from shapely import get_coordinates, segmentize

    total = 0.0
    for part in getattr(shape, "geoms", [shape]):
        for ring in (part.exterior, *part.interiors):
            points = get_coordinates(segmentize(ring, 1.0))
            middles = (points[:-1] + points[1:]) / 2
            total += float(np.hypot(*(middles - np.roll(middles, 1, 0)).T).sum())
    return total


def write_labels(regions: Regions, place: Path, scratch: Path, um_per_px: float, factor: float) -> None:
    """The labels as a tiled TIFF with halved levels (nearest), deflated; 16 bits where the numbers fit, else 32."""
    import tifffile

    dtype = np.dtype(np.uint16 if regions.count <= MOST_SMALL else np.uint32)
    level, halves, side = regions.blocks, list[Blocks](), regions.blocks.side
    read: Callable[[int, int], NDArray | None] = lambda i, j: regions.lut[level.read(i, j)].astype(dtype) if (i, j) in level else None
    big = level.shape[0] * level.shape[1] * dtype.itemsize > 2**31
    try:
        with tifffile.TiffWriter(place, bigtiff=big) as file:
            for number in range(32):
                shape, um = (halves[-1] if halves else level).shape, um_per_px * 2**number
                last = max(shape) <= LEAST_SIDE
                tiles = _tiles(shape, side, read, dtype)
                if not last:
                    half = Blocks(scratch.with_suffix(f".level{number + 1}"), (-(-shape[0] // 2), -(-shape[1] // 2)), side // 2, dtype.type)
                    tiles = _halving(tiles, -(-shape[1] // side), half)
                said = f"Tacit: {regions.count} objects, 0 is background; a pixel is {factor:g} level-0 px wide" if number == 0 else None
                file.write(
                    (_packed(tile, side, dtype) for tile in tiles), shape=shape, dtype=dtype, tile=(side, side), compression="zlib", photometric="minisblack",
                    subfiletype=int(number > 0), metadata=None, description=said, software="Tacit", resolution=(1e4 / um, 1e4 / um), resolutionunit="CENTIMETER",
                )  # fmt: skip
                if last:
                    return
                halves.append(half)
                read = partial(_of_four, half)
    except OSError as error:
        raise storage_error(place, error) from error
    finally:
        for half in halves:
            half.close()


def _tiles(shape: tuple[int, int], side: int, read: Callable[[int, int], NDArray | None], dtype: np.dtype) -> Iterator[NDArray | None]:
    """A level's tiles in reading order; None where one is all background."""
    for i in range(-(-shape[0] // side)):
        for j in range(-(-shape[1] // side)):
            tile = read(i, j)
            yield tile if tile is not None and tile.any() else None


def _halving(tiles: Iterator[NDArray | None], across: int, half: Blocks) -> Iterator[NDArray | None]:
    """The tiles as they come; every second pixel of each is a block of the next level."""
    for number, tile in enumerate(tiles):
        if tile is not None:
            half.write(number // across, number % across, tile[::2, ::2])
        yield tile


def _of_four(level: Blocks, i: int, j: int) -> NDArray | None:
    """A tile of a level that is kept as blocks of half its side."""
    if not any((2 * i + a, 2 * j + b) in level for a in (0, 1) for b in (0, 1)):
        return None
    side = 2 * level.side
    return level.window(i * side, j * side, min((i + 1) * side, level.shape[0]), min((j + 1) * side, level.shape[1]))


def _packed(tile: NDArray | None, side: int, dtype: np.dtype) -> bytes:
    """A tile deflated, background up to `side`."""
    import imagecodecs

    if tile is None:
        return _empty(side, dtype.itemsize)
    whole = np.zeros((side, side), dtype)
    whole[: tile.shape[0], : tile.shape[1]] = tile
    return bytes(imagecodecs.zlib_encode(whole.tobytes(), level=6))


@lru_cache
def _empty(side: int, item_bytes: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.zlib_encode(bytes(side * side * item_bytes), level=6))
