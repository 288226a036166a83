"""Cases put on disk as a pipeline keeps them, and read back one by one: memory does not grow with their number."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from tacit.files import storage_error


class Shelf(Sequence[dict[str, NDArray[Any]]]):
    """put(arrays) appends a case; shelf[i] gives its arrays as views of the file. One file an array name; the folder goes when the shelf is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places: list[dict[str, tuple[int, tuple[int, ...], Any]]] = []  # case → name → offset in bytes, shape, type
        self.files: dict[str, BinaryIO] = {}
        self.views: dict[str, NDArray[np.uint8]] = {}
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise storage_error(folder, error) from error

    def put(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Appends a case. Raises StorageError where the disk is full."""
        placed = {}
        self.views.clear()
        for name, array in arrays.items():
            try:
                file = self.files.get(name) or self.files.setdefault(name, (self.folder / f"{name}.bin").open("wb"))
                placed[name] = (file.tell(), array.shape, array.dtype)
                file.write(np.ascontiguousarray(array).tobytes())
            except OSError as error:
                raise storage_error(self.folder / f"{name}.bin", error) from error
        self.places.append(placed)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, NDArray[Any]]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return {name: self._view(name, *place) for name, place in self.places[index].items()}

    def close(self) -> None:
        """Removes what was put."""
        self.views.clear()
        for file in self.files.values():
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _view(self, name: str, offset: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size == 0:
            return np.zeros(shape, dtype)
        if name not in self.views:
            self.files[name].flush()
            self.views[name] = np.memmap(self.folder / f"{name}.bin", np.uint8, "r")
        return self.views[name][offset : offset + size].view(dtype).reshape(shape)
