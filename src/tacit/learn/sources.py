"""What features are learnt from, item by item: pictures, and tiles of tissue from whole slides, each slide as often as the others.

An item is a pure function of (seed, epoch, index), so that a run can be resumed and shared by processes. Memory does not grow with the
number of slides: of each a bit a tile is kept (some kilobytes), and a few are open at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive, Share
from tacit.errors import ReadError
from tacit.prepare.tiles import grid
from tacit.prepare.tissue import slide_tissue
from tacit.read.slide import Slide, open_slide

MOST_HELD = 2 << 30  # bytes of decoded pictures kept; more are read again when they are drawn
OPEN = 8  # slides open at a time; an epoch goes through groups of so many
CACHE_BYTES = 4 << 20  # decoded tiles kept of each
TRIES = 8  # other tiles of a slide that are tried in place of a damaged one


class Source(Protocol):
    """Items by index; an epoch shows each once, in an order of its own."""

    def __len__(self) -> int: ...

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The indices of an epoch."""

    def item(self, index: int, seed: int, epoch: int) -> NDArray[np.uint8]:
        """(h, w, 3) RGB. Raises ReadError."""


class Pictures:
    """Pictures by index, decoded when they are asked for; the latest stay in memory up to a limit."""

    def __init__(self, paths: list[Path], read: Callable[[Path], NDArray[np.uint8]], most_bytes: int = MOST_HELD) -> None:
        self.paths, self.read, self.most, self.held = paths, read, most_bytes, 0
        self.kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        picture = self.read(self.paths[index])
        self.kept[index] = picture
        self.held += picture.nbytes
        while self.held > self.most and len(self.kept) > 1:
            self.held -= self.kept.popitem(last=False)[1].nbytes
        return picture

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Source`."""
        return np.random.default_rng([seed, 61, epoch]).permutation(len(self))

    def item(self, index: int, seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Source`."""
        return self[index]


class TilesConfig(Config):
    um_per_px: Positive = 0.5  # of the tiles that are cut from slides
    size: Count = 256  # px of a tile; views are cut from it
    per_slide: Count = 256  # tiles of each slide in an epoch
    least_tissue: Share = 0.5  # of a tile


@dataclass(frozen=True)
class Places:
    """Where the tissue of a slide is: a bit for each tile of its grid, row by row, packed."""

    path: Path
    bits: NDArray[np.uint8]
    columns: int  # tiles in a row of the grid
    canvas: tuple[int, int]  # (h, w) of the slide at the tiles' spacing, px
    factor: float  # level-0 pixels a tile's pixel is wide

    def tiles(self) -> NDArray[np.int64]:
        """The numbers of the tiles with tissue."""
        return np.flatnonzero(np.unpackbits(self.bits))

    def corner(self, tile: int, size: int) -> tuple[int, int]:
        """Level-0 (row, col) of a tile's upper left corner; the last of a row or column ends with the slide."""
        at = (min(cell * size, max(length - size, 0)) for cell, length in zip(divmod(tile, self.columns), self.canvas, strict=True))
        row, col = (int(np.floor(place * self.factor + 0.5)) for place in at)
        return row, col


def find_places(path: Path, c: TilesConfig, mpp: float | None = None) -> Places:
    """The tissue of the slide at `path`. mpp: µm per pixel where the file states none. Raises ReadError, also where nobody states it
    or no tile has tissue."""
    with open_slide(path, cache_bytes=CACHE_BYTES) as slide:
        if slide.mpp is None and mpp is None:
            raise ReadError(path, "it does not state how many µm a pixel is", "give it with --mpp, or in a list with the columns path and mpp")
        plan = grid(slide, c.um_per_px, c.size, mpp=mpp, tissue=slide_tissue(slide, mpp=mpp), least_tissue=c.least_tissue)
    if not len(plan):
        raise ReadError(
            path, f"no tile of {c.size} px at {c.um_per_px:g} µm per px holds {c.least_tissue:.0%} tissue", "lower tiles.least_tissue or leave it out"
        )
    down, across = (-(-max(length, c.size) // c.size) for length in plan.shape)
    rows, cols = -(-plan.places // c.size).T
    cells = np.zeros(down * across, np.uint8)
    cells[rows * across + cols] = 1
    return Places(path, np.packbits(cells), across, plan.shape, plan.factor)


class Tiles:
    """Tiles of tissue: in an epoch `per_slide` of each slide, anew drawn among all that it has; the epoch goes through a few slides at a time."""

    def __init__(self, places: list[Places], c: TilesConfig, told: Callable[[Path, ReadError], None] = lambda path, error: None) -> None:
        self.places, self.c, self.told = places, c, told
        self.open: OrderedDict[int, Slide] = OrderedDict()
        self.drawn: OrderedDict[tuple[int, int, int], NDArray[np.int64]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.places) * self.c.per_slide

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Source`."""
        rng = np.random.default_rng([seed, 63, epoch])
        slides = rng.permutation(len(self.places))
        groups = [slides[first : first + OPEN] for first in range(0, len(slides), OPEN)]
        tiles = [rng.permutation((group[:, None] * self.c.per_slide + np.arange(self.c.per_slide)).ravel()) for group in groups]
        return np.concatenate(tiles) if tiles else np.zeros(0, np.int64)

    def item(self, index: int, seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Source`. A damaged tile is told of, and another one of its slide is shown."""
        number, nth = divmod(index, self.c.per_slide)
        chosen, slide = self._chosen(number, seed, epoch), self._slide(number)
        for again in range(TRIES):
            row, col = self.places[number].corner(int(chosen[(nth + again) % len(chosen)]), self.c.size)
            try:
                return slide.scaled(row, col, (self.c.size, self.c.size), self.places[number].factor)
            except ReadError as error:
                damage = error
                self.told(self.places[number].path, error)
        raise damage

    def close(self) -> None:
        """Closes the slides that are open."""
        while self.open:
            self.open.popitem()[1].close()

    def _chosen(self, number: int, seed: int, epoch: int) -> NDArray[np.int64]:
        """The tiles of a slide in an epoch; where it has fewer than wanted they come again."""
        key = (number, seed, epoch)
        if key not in self.drawn:
            order = np.random.default_rng([seed, 64, epoch, number]).permutation(self.places[number].tiles())
            self.drawn[key] = np.resize(order, self.c.per_slide)
            if len(self.drawn) > 2 * OPEN:
                self.drawn.popitem(last=False)
        return self.drawn[key]

    def _slide(self, number: int) -> Slide:
        if number not in self.open:
            if len(self.open) >= OPEN:
                self.open.popitem(last=False)[1].close()
            self.open[number] = open_slide(self.places[number].path, cache_bytes=CACHE_BYTES)
        self.open.move_to_end(number)
        return self.open[number]


class Both:
    """Pictures and tiles in one epoch, the pictures scattered among the tiles."""

    def __init__(self, pictures: Pictures, tiles: Tiles) -> None:
        self.pictures, self.tiles = pictures, tiles

    def __len__(self) -> int:
        return len(self.pictures) + len(self.tiles)

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """See `Source`."""
        is_picture = np.zeros(len(self), bool)
        is_picture[np.random.default_rng([seed, 65, epoch]).permutation(len(self))[: len(self.pictures)]] = True
        merged = np.empty(len(self), np.int64)
        merged[is_picture], merged[~is_picture] = self.pictures.order(seed, epoch), self.tiles.order(seed, epoch) + len(self.pictures)
        return merged

    def item(self, index: int, seed: int, epoch: int) -> NDArray[np.uint8]:
        """See `Source`."""
        if index < len(self.pictures):
            return self.pictures.item(index, seed, epoch)
        return self.tiles.item(index - len(self.pictures), seed, epoch)
