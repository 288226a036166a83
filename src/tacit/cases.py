"""The table that flows beside the images: one row an image, with its patient, label and split where they are known."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tacit.errors import InputError
from tacit.files import sha256

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("name", "path", "patient", "label", "split", "mpp")


@dataclass(frozen=True)
class Cases:
    """A pandas table with the columns of `COLUMNS`; unknown values are None. `name` is unique and safe as a file name."""

    table: pd.DataFrame
    skipped: tuple[tuple[str, str], ...] = ()  # (path, why) of files that are no input: masks, tables, hidden files

    def __post_init__(self) -> None:
        absent = [c for c in COLUMNS if c not in self.table.columns]
        if absent:
            raise InputError(f"a table of cases needs the columns {', '.join(COLUMNS)}; missing: {', '.join(absent)}")

    @classmethod
    def of(cls, paths: list[Path], skipped: tuple[tuple[str, str], ...] = (), **columns: list[object]) -> Cases:
        """Cases from file paths, named by their stems; stems that repeat get their folder's name in front."""
        import pandas as pd

        names = _unique_names(paths)
        blank: list[object] = [None] * len(paths)
        table = pd.DataFrame({"name": names, "path": [str(p) for p in paths]})
        for column in COLUMNS[2:]:
            table[column] = pd.Series(columns.get(column, blank), dtype="float64" if column == "mpp" else "object")
        return cls(table, skipped)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        """(name, path) of every image, in the table's order."""
        for name, path in zip(self.table["name"], self.table["path"], strict=True):
            yield name, Path(path)

    @property
    def why_skipped(self) -> str:
        """The commonest reasons why files are no input, each with its count; "" where none was skipped."""
        return ", ".join(f"{count} × {why}" for why, count in Counter(why for _, why in self.skipped).most_common(4))

    def where(self, keep: list[bool]) -> Cases:
        """The rows for which `keep` is true."""
        return Cases(self.table[keep].reset_index(drop=True), self.skipped)

    def hashes(self, told: Callable[[int, int], None] = lambda done, total: None, digest: Callable[[Path], str] = sha256) -> dict[str, str]:
        """name → `digest` of the file, "unreadable" where it cannot be read. told(done, total) hears of the progress."""
        found: dict[str, str] = {}
        for name, path in self:
            told(len(found), len(self))
            try:
                found[name] = digest(path)
            except OSError:
                found[name] = "unreadable"
        return found

    @staticmethod
    def fingerprint(hashes: dict[str, str]) -> str:
        """16 hex digits that change when any file's bytes or name change; the order does not matter."""
        lines = "\n".join(f"{name} {digest}" for name, digest in sorted(hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _short(name: str) -> str:
    """A name that still fits a file system after a suffix is added."""
    if len(name.encode()) <= 180:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _stem(path: Path) -> str:
    """The name without its suffix; numbers are none: DICOM files are often named by a UID, 1.2.840.113619.2."""
    return path.name if path.suffix[1:].isdigit() else path.stem


def _unique_names(paths: list[Path]) -> list[str]:
    names = [_short(_stem(p)) for p in paths]
    if len(set(names)) < len(names):
        repeated = {n for n in names if names.count(n) > 1}
        names = [_short(f"{p.parent.name}_{_stem(p)}") if n in repeated else n for n, p in zip(names, paths, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{i:05d}_{n}" for i, n in enumerate(names)]
    return names
