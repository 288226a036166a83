"""Pieces that were numbered block by block, as tables: which are one, how large, what they touch first, whose they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max


class Column:
    """A column that grows."""

    def __init__(self, dtype: type, fill: int, length: int = 0) -> None:
        self.fill, self.length = fill, length
        self._held: NDArray = np.full(max(length, 1024), fill, dtype)

    @property
    def values(self) -> NDArray:
        """(length,), to be written into."""
        return self._held[: self.length]

    def grow(self, count: int) -> None:
        """`count` more rows of what it is filled with."""
        if self.length + count > len(self._held):
            more = np.full(max(len(self._held), count), self.fill, self._held.dtype)
            self._held = np.concatenate([self._held, more])
        self.length += count


class Forest:
    """Numbers from 1, joined in pairs (union-find); number 0 stays alone. Tarjan 1975, with path halving."""

    def __init__(self) -> None:
        self._parent = Column(np.int64, 0, 1)

    def grow(self, count: int) -> int:
        """`count` more numbers, each alone; gives the first of them."""
        first = self._parent.length
        self._parent.grow(count)
        self._parent.values[first:] = np.arange(first, first + count)
        return first

    def join(self, a: NDArray, b: NDArray) -> None:
        """a[k] and b[k] become one, for every k."""
        if len(a) == 0:
            return
        parent = self._parent.values
        for x, y in np.unique(np.stack([a, b], 1), axis=0).tolist():
            x, y = self._root(parent, x), self._root(parent, y)
            if x != y:
                parent[max(x, y)] = min(x, y)

    def roots(self) -> NDArray[np.int64]:
        """Of every number the smallest that it is joined to."""
        parent = self._parent.values.copy()
        while True:
            up = parent[parent]
            if np.array_equal(up, parent):
                return parent
            parent = up

    @staticmethod
    def _root(parent: NDArray, x: int) -> int:
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = int(parent[x])
        return x


class Rest:
    """What no core reached, and the background, piece by piece. Numbers below `cores` are cores' regions, from `cores` on these pieces; 0 is nothing."""

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._forest = Forest()
        self._area, self._hole, self._open = Column(np.int64, 0, 1), Column(np.bool_, 0, 1), Column(np.bool_, 0, 1)
        self._key, self._to, self._last = Column(np.int64, NEVER, 1), Column(np.int64, 0, 1), Column(np.int64, 0, 1)
        self._core_area, self._core_last = np.zeros(cores, np.int64), np.zeros(cores, np.int64)

    def saw_cores(self, grown: NDArray[np.int32], block: int) -> None:
        """Counts the pixels of cores' regions in a block."""
        there: NDArray
        if self.cores > grown.size:  # a table longer than the block is not walked through
            there, number = np.unique(grown, return_counts=True)
        else:
            count = np.bincount(grown.ravel(), minlength=self.cores)
            there, number = np.flatnonzero(count), count[count > 0]
        self._core_area[there] += number
        self._core_last[there] = block

    def add(self, area: NDArray, is_hole: bool, block: int) -> int:
        """New pieces with their pixels in this block; gives the number of the first."""
        first = self._forest.grow(len(area))
        for column in (self._area, self._hole, self._open, self._key, self._to, self._last):
            column.grow(len(area))
        self._area.values[first:], self._hole.values[first:], self._last.values[first:] = area, is_hole, block
        return first - 1 + self.cores

    def join(self, a: NDArray, b: NDArray) -> None:
        """Pieces of one kind that lie side by side over a border are one."""
        both = (a >= self.cores) & (b >= self.cores)
        a, b = self._own(a[both]), self._own(b[both])
        alike = self._hole.values[a] == self._hole.values[b]
        self._forest.join(a[alike], b[alike])

    def touch(self, piece: NDArray, other: NDArray, key: NDArray[np.int64]) -> None:
        """`piece` touches `other` at the place and side that `key` orders; of each piece the first counts: of background any gland, else a core's region."""
        is_piece = piece >= self.cores
        piece, other, key = self._own(piece[is_piece]), other[is_piece], key[is_piece]
        is_background = (other >= self.cores) & self._hole.values[np.where(other >= self.cores, self._own(other), 0)]
        counts = (other > 0) & ~is_background & (self._hole.values[piece] | (other < self.cores))
        piece, other, key = piece[counts], other[counts], key[counts]
        order = np.lexsort((key, piece))
        piece, other, key = piece[order], other[order], key[order]
        first = np.ones(len(piece), bool)
        first[1:] = piece[1:] != piece[:-1]
        piece, other, key = piece[first], other[first], key[first]
        sooner = key < self._key.values[piece]
        self._key.values[piece[sooner]], self._to.values[piece[sooner]] = key[sooner], other[sooner]

    def open(self, line: NDArray) -> None:
        """Pieces along the plane's edge, or beside a block that is all background, are no holes."""
        self._open.values[self._own(line[line >= self.cores])] = True

    def open_to_nothing(self, framed: NDArray[np.int32]) -> None:
        """Opens what meets a block of nothing over the upper or left border; framed as in `regions`."""
        for theirs, ours in ((framed[0, 1:], framed[1, 1:]), (framed[1:, 0], framed[1:, 1])):
            self.open(theirs[ours == 0])
            self.open(ours[theirs == 0])

    def resolved(self, hole_px: float, gland_px: float) -> tuple[NDArray[np.int32], int, NDArray[np.int64]]:
        """Number → label; how many labels; of each label (from 0) the last block that holds some of it."""
        root = self._forest.roots()
        n = len(root)
        area = np.bincount(root, weights=self._area.values, minlength=n)
        is_open = np.bincount(root, weights=self._open.values, minlength=n) > 0
        hole = self._hole.values
        order = np.lexsort((self._key.values, root))
        first = order[np.searchsorted(root[order], root)]  # of every piece the part that touches first
        key, to = self._key.values[first], self._to.values[first]
        own = np.arange(n) + (self.cores - 1)  # gland numbers: cores' regions as they are, pieces by their root
        gland = np.where(key < NEVER, to, own[root])
        gland[hole] = 0
        gland[0] = 0
        filled = hole & ~is_open[root] & (area[root] < hole_px) & (key < NEVER)
        above = to[filled]
        gland[filled] = np.where(above < self.cores, above, gland[np.maximum(self._own(above), 0)])
        return self._labels(np.concatenate([np.arange(self.cores), gland[1:]]), gland_px)

    def _labels(self, gland: NDArray[np.int64], gland_px: float) -> tuple[NDArray[np.int32], int, NDArray[np.int64]]:
        area = np.concatenate([self._core_area, self._area.values[1:]])
        last = np.concatenate([self._core_last, self._last.values[1:]])
        area[0] = 0
        total = np.bincount(gland, weights=area, minlength=len(gland))
        keep = (total >= max(gland_px, 1)) & (np.arange(len(gland)) > 0)
        number = np.where(keep, np.cumsum(keep), 0)
        lut = number[gland].astype(np.int32)
        count = int(keep.sum())
        last_block = np.zeros(count + 1, np.int64)
        np.maximum.at(last_block, lut, last)
        return lut, count, last_block

    def _own(self, number: NDArray) -> NDArray:
        """Numbers of the plane as rows of the tables, which begin with a row for nothing."""
        return number - self.cores + 1
