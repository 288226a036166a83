"""A plane too large for memory, kept on disk as packed square blocks; a block that was never written is zero."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.files import storage_error


class Blocks:
    """Blocks (side, side) of a plane (h, w), smaller at its lower and right edge, each written at most once, in any order.

    path: the file that holds them; it is made anew. Raises StorageError where the disk refuses them.
    """

    def __init__(self, path: Path, shape: tuple[int, int], side: int, dtype: type, channels: int | None = None) -> None:
        self.path, self.shape, self.side, self.dtype = path, shape, side, np.dtype(dtype)
        self.down, self.across = -(-shape[0] // side), -(-shape[1] // side)
        self._ends = () if channels is None else (channels,)
        self._places: dict[tuple[int, int], tuple[int, int]] = {}  # block → offset, bytes
        self._end = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise storage_error(path, error) from error

    def __contains__(self, block: tuple[int, int]) -> bool:
        return block in self._places

    @property
    def bytes(self) -> int:
        """On disk."""
        return self._end

    def box(self, i: int, j: int) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of a block on the plane."""
        return i * self.side, j * self.side, min((i + 1) * self.side, self.shape[0]), min((j + 1) * self.side, self.shape[1])

    def write(self, i: int, j: int, block: NDArray) -> None:
        """Keeps a block; one that is all zero takes no room."""
        import imagecodecs

        if not block.any():
            return
        packed = imagecodecs.zstd_encode(np.ascontiguousarray(block, self.dtype).tobytes(), level=1)
        try:
            sent = 0
            while sent < len(packed):
                sent += os.pwrite(self._file, packed[sent:], self._end + sent)
        except OSError as error:
            raise storage_error(self.path, error) from error
        self._places[i, j] = (self._end, len(packed))
        self._end += len(packed)

    def read(self, i: int, j: int) -> NDArray:
        """The block, of its own shape."""
        import imagecodecs

        top, left, bottom, right = self.box(i, j)
        shape = (bottom - top, right - left, *self._ends)
        if (i, j) not in self._places:
            return np.zeros(shape, self.dtype)
        offset, count = self._places[i, j]
        return np.frombuffer(imagecodecs.zstd_decode(os.pread(self._file, count, offset)), self.dtype).reshape(shape)

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray:
        """A rectangle that lies within the plane. Raises InputError otherwise."""
        if not (0 <= top < bottom <= self.shape[0] and 0 <= left < right <= self.shape[1]):
            raise InputError(f"a window from ({top}, {left}) to ({bottom}, {right}): it must lie within the plane of {self.shape[0]}×{self.shape[1]} px")
        out = np.zeros((bottom - top, right - left, *self._ends), self.dtype)
        for i in range(top // self.side, -(-bottom // self.side)):
            for j in range(left // self.side, -(-right // self.side)):
                if (i, j) in self._places:
                    up, west, low, east = self.box(i, j)
                    r0, c0, r1, c1 = max(up, top), max(west, left), min(low, bottom), min(east, right)
                    out[r0 - top : r1 - top, c0 - left : c1 - left] = self.read(i, j)[r0 - up : r1 - up, c0 - west : c1 - west]
        return out

    def close(self) -> None:
        """Closes and deletes the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
