"""Tiles of a TIFF decoded directly and put together: OpenSlide's pixels without its detour over a canvas with transparency.

Only what is known to decode alike is taken: 8-bit RGB in JPEG, in Aperio's JPEG 2000, deflated, LZW-packed or plain, tiles or
strips. Everything else is left to OpenSlide. Pages are read by what the TIFF says of them; pixels only of levels asked for.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError

CACHE_BYTES = 32 << 20  # decoded tiles kept for the next region; OpenSlide keeps as much
MOST_TILE_PIXELS = 1 << 26  # a header that claims more for one tile is not believed
JPEG, APERIO_YCBCR, APERIO_RGB = 7, 33003, 33005  # TIFF compression numbers
PACKED = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate"}
TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # of one value, by type
RGB, YCBCR = 2, 6  # TIFF photometric interpretations


@dataclass(frozen=True)
class TiledLevel:
    """Where the tiles of one page lie in the file and how they are decoded. Sizes are (h, w) in this page's pixels."""

    shape: tuple[int, int]
    tile: tuple[int, int]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]  # bytes
    decode: Callable[[bytes], NDArray[np.uint8]]
    strips: bool

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return -(-self.shape[1] // self.tile[1])

    def tile_shape(self, index: int) -> tuple[int, int]:
        """(h, w) as stored: tiles are padded at the edge, the last strip is short."""
        return (min(self.tile[0], self.shape[0] - index * self.tile[0]), self.tile[1]) if self.strips else self.tile


def direct_levels(path: Path) -> tuple[TiledLevel, ...]:
    """Every page of the TIFF at `path` that can be decoded directly, in file order; none where the file is no such TIFF.

    Raises ReadError where a page, or tiles of one, lie beyond the end of the file.
    """
    import tifffile

    _quiet(tifffile.logger())
    try:
        with tifffile.TiffFile(path) as file:
            pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
            found = [level for page in pages if (level := _level(page)) is not None]
            tables = [_table(file, page.offset) for page in pages]
    except (OSError, ValueError, RuntimeError, struct.error, IndexError, KeyError, TypeError, MemoryError, OverflowError, AttributeError):
        return ()  # whether OpenSlide or Pillow can make more of it, they say themselves
    size = path.stat().st_size
    if not pages:
        return ()
    if tables[-1][0] not in {0, *(page.offset for page in pages)} or max(end for _, end in tables) > size:  # OpenSlide would open it with fewer levels
        raise ReadError(path, f"cut short or damaged: a page or its description lies beyond its end at {size:,} bytes", "copy or download it again")
    for level in found:
        beyond = int((level.offsets + level.counts > size).sum())
        if beyond:
            raise ReadError(path, f"cut short: {beyond} of {len(level.offsets)} tiles lie beyond its end at {size:,} bytes", "copy or download it again")
    return tuple(found)


class TileReader:
    """Rectangles of the levels of one file, through a cache of decoded tiles. Several threads may read at once."""

    def __init__(self, path: Path, levels: dict[int, TiledLevel], cache_bytes: int = CACHE_BYTES) -> None:
        self.path, self.levels = path, levels
        self._file = os.open(path, os.O_RDONLY)
        self._cache: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._most_bytes, self._bytes = cache_bytes, 0
        self._lock = threading.Lock()

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """The rectangle at (row, col) of the level's own pixels, (h, w, 3), white outside. Raises ReadError for a damaged tile."""
        plan = self.levels[level]
        (h, w), (th, tw) = shape, plan.tile
        top, left, bottom, right = max(row, 0), max(col, 0), min(row + h, plan.shape[0]), min(col + w, plan.shape[1])
        whole = (bottom - top, right - left) == shape
        out = np.empty((h, w, 3), np.uint8) if whole else np.full((h, w, 3), 255, np.uint8)
        if bottom <= top or right <= left:
            return out
        for y in range(top // th, -(-bottom // th)):
            r0, r1 = max(y * th, top), min((y + 1) * th, bottom)
            for x in range(left // tw, -(-right // tw)):
                c0, c1 = max(x * tw, left), min((x + 1) * tw, right)
                tile = self.tile(level, y * plan.across + x)
                out[r0 - row : r1 - row, c0 - col : c1 - col] = tile[r0 - y * th : r1 - y * th, c0 - x * tw : c1 - x * tw]
        return out

    def tile(self, level: int, index: int) -> NDArray[np.uint8]:
        """One decoded tile (th, tw, 3), not to be written into. Raises ReadError."""
        key = (level, index)
        with self._lock:
            if (kept := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return kept
        tile = self._decode(self.levels[level], level, index)
        with self._lock:
            if key not in self._cache and tile.nbytes <= self._most_bytes:
                self._cache[key] = tile
                self._bytes += tile.nbytes
                while self._bytes > self._most_bytes:
                    self._bytes -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def close(self) -> None:
        """Closes the file; reading afterwards raises ReadError."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._cache.clear()

    def _decode(self, plan: TiledLevel, level: int, index: int) -> NDArray[np.uint8]:
        where = f"tile {index} of level {level}"
        count = int(plan.counts[index])
        try:
            packed = os.pread(self._file, count, int(plan.offsets[index]))  # no seek: threads and forked workers share the file
            if len(packed) != count:
                raise ReadError(self.path, f"{where} is cut short ({len(packed)} of {count} bytes)", "copy or download it again")
            tile = plan.decode(packed)
        except (OSError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise ReadError(self.path, f"{where} cannot be decoded ({(str(error).splitlines() or ['no reason given'])[0][:120]})") from error
        if tile.shape != (*plan.tile_shape(index), 3) or tile.dtype != np.uint8:
            raise ReadError(self.path, f"{where} holds {tile.shape} {tile.dtype}, expected {(*plan.tile_shape(index), 3)} uint8")
        return tile


def _level(page: Any) -> TiledLevel | None:
    """The page's plan, or None where it is not one of those that decode alike."""
    plain_rgb = page.samplesperpixel == 3 and page.bitspersample == 8 and page.planarconfig == 1 and page.dtype == np.uint8
    if not plain_rgb or page.fillorder != 1 or _number(page, "Orientation", 1) != 1 or page.imagedepth != 1:
        return None
    size = (page.imagelength, page.imagewidth)
    tile = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, size[0]), size[1])
    decode = _decoder(page, tile[1])
    if decode is None or min(*size, *tile) < 1 or tile[0] * tile[1] > MOST_TILE_PIXELS:
        return None
    offsets, counts = np.asarray(page.dataoffsets, np.int64), np.asarray(page.databytecounts, np.int64)
    tiles = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    if len(offsets) != tiles or len(counts) != tiles or not (counts > 0).all():  # an absent tile is filled by OpenSlide's rules
        return None
    return TiledLevel(size, tile, offsets, counts, decode, strips=not page.is_tiled)


def _decoder(page: Any, width: int) -> Callable[[bytes], NDArray[np.uint8]] | None:
    kind, colours = int(page.compression), int(page.photometric)
    if kind == JPEG and colours in (RGB, YCBCR):
        return partial(_jpeg, tables=page.jpegtables, colours="RGB" if colours == RGB else "YCBCR")
    if kind in (APERIO_RGB, APERIO_YCBCR):
        return partial(_jpeg2000, ycbcr=kind == APERIO_YCBCR)
    if kind in PACKED and colours == RGB and page.predictor in (1, 2):
        return partial(_packed, kind=PACKED[kind], width=width, differences=page.predictor == 2)
    return None


def _jpeg(packed: bytes, tables: bytes | None, colours: str) -> NDArray[np.uint8]:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg8_decode(packed, tables=tables, colorspace=colours, outcolorspace="RGB"))


def _jpeg2000(packed: bytes, ycbcr: bool) -> NDArray[np.uint8]:
    import imagecodecs

    pixels = np.asarray(imagecodecs.jpeg2k_decode(packed))
    return _ycbcr_to_rgb(pixels) if ycbcr else pixels


def _packed(packed: bytes, kind: str, width: int, differences: bool) -> NDArray[np.uint8]:
    import imagecodecs

    raw = packed if kind == "none" else imagecodecs.lzw_decode(packed) if kind == "lzw" else imagecodecs.zlib_decode(packed)
    pixels = np.frombuffer(raw, np.uint8).reshape(-1, width, 3)
    return np.asarray(imagecodecs.delta_decode(pixels, axis=1)) if differences else pixels


def _ycbcr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """JFIF's equations (ITU-R BT.601, full range) with their five decimals, in whole numbers."""
    y, cb, cr = (pixels[..., i].astype(np.int32) for i in range(3))
    cb -= 128
    cr -= 128
    red = y + (140_200 * cr + 50_000) // 100_000
    green = y + (-34_414 * cb - 71_414 * cr + 50_000) // 100_000
    blue = y + np.sign(cb) * ((177_200 * abs(cb) + 50_000) // 100_000)  # halves away from zero, as OpenSlide's table has it
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


def _table(file: Any, offset: int) -> tuple[int, int]:
    """Of the page whose table of tags is at `offset`: where the next table is said to be (0: none), and how far its values reach."""
    form, handle, reach = file.tiff, file.filehandle, 0
    handle.seek(offset)
    count = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))[0]
    for _ in range(count):
        entry = handle.read(form.tagsize)
        _, kind, values = struct.unpack(form.byteorder + ("HHQ" if form.is_bigtiff else "HHI"), entry[: -form.offsetsize])
        length = values * TAG_BYTES.get(kind, 0)
        if length > form.offsetsize:  # a shorter value stands in the table itself
            reach = max(reach, struct.unpack(form.offsetformat, entry[-form.offsetsize :])[0] + length)
    return struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0], reach


def _number(page: Any, tag: str, default: int) -> int:
    found = page.tags.get(tag)
    return default if found is None else int(found.value)


def _quiet(logger: logging.Logger) -> None:
    """Damaged files are reported as ReadError; without a handler the library would print them to stderr a second time."""
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
