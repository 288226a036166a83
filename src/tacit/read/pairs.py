"""A list of pairs of images → `Pair`s: a,b or a,b,label, with a header or none, by comma or semicolon.

Labels are for judging and for what a user asks for by name; nothing here hands them to training.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from tacit.errors import InputError

LABELS = {"": None, "0": 0, "1": 1, "0.0": 0, "1.0": 1}  # tables with gaps write whole numbers as 1.0


@dataclass(frozen=True)
class Pair:
    """Two image files. label: 1 = of one kind, 0 = of two kinds, None = not known."""

    a: Path
    b: Path
    label: int | None = None


def read_pairs(path: str | Path, root: str | Path | None = None, *, must_exist: bool = True) -> list[Pair]:
    """The pairs that the CSV at `path` names, in its order; relative names are below `root`, or else below the CSV's folder.

    A first row that names no file is the header; columns a, b and label are then found by name, else the first two or three count.
    Raises InputError naming the line: a row of another length, a label other than 0 or 1, images that are not there (where they must exist).
    """
    path = Path(path)
    folder = path.parent if root is None else Path(root)
    rows = _rows(path)
    at: tuple[int, int, int | None] = (0, 1, 2)
    width: int | None = None  # cells of a row, where a header says so
    if rows and _is_header(rows[0][1], folder):
        names = [cell.lower() for cell in rows[0][1]]
        width = len(names)
        at = (names.index("a"), names.index("b"), names.index("label") if "label" in names else None) if {"a", "b"} <= set(names) else (0, 1, 2)
        rows = rows[1:]
    if not rows:
        raise InputError(f"{path} holds no pairs; expected rows a,b or a,b,label (1 = same, 0 = different)")
    pairs, missing = [], []
    for line, cells in rows:
        if not (len(cells) == width if width else len(cells) in (2, 3)):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, expected {width or '2 or 3: a,b or a,b,label'}; correct this line")
        pair = Pair(folder / cells[at[0]], folder / cells[at[1]], _label(path, line, cells, at[2]))
        missing += [(line, p) for p in (pair.a, pair.b) if must_exist and not p.is_file()]
        pairs.append(pair)
    if missing:
        line, absent = missing[0]
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(f"{path}, line {line}: there is no image {absent}{more}; correct the name, or give the images' folder with --root")
    return pairs


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line, cells) of each row that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the pairs {path} cannot be read ({getattr(error, 'strerror', None) or error}); expected a CSV in UTF-8: a,b,label") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True)
    try:
        return [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: no valid CSV ({error}); correct this line") from error


def _is_header(cells: list[str], folder: Path) -> bool:
    names = cells[:2]
    return len(cells) > 1 and not any(Path(n).suffix or (folder / n).is_file() for n in names) and (len(cells) < 3 or cells[2] not in LABELS)


def _label(path: Path, line: int, cells: list[str], at: int | None) -> int | None:
    cell = cells[at] if at is not None and at < len(cells) else ""
    if cell not in LABELS:
        raise InputError(f"{path}, line {line}: label {cell!r}, expected 1 (same), 0 (different) or nothing")
    return LABELS[cell]
