"""Landmarks: a CSV `image,point,row,col` → points by image, in px; more columns may stand beside them."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

from tacit.errors import InputError

HEADER = ("image", "point", "row", "col")
Places = dict[str, dict[str, tuple[float, float]]]  # image → point → row, col in px, the middle of the first pixel is (0, 0)


def read_points(path: str | Path) -> Places:
    """The points that the CSV at `path` names, in its order. Raises InputError naming the line."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of points ({str(error).splitlines()[0]}); expected a CSV {','.join(HEADER)}") from error
    first = text.splitlines()[0] if text.strip() else ""
    rows = list(csv.reader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ","))
    names = [cell.strip().lower() for cell in rows[0]] if rows else []
    if missing := [name for name in HEADER if name not in names]:
        what = f"has no column {missing[0]} in its first line ({first[:60]!r})" if first else "is empty"
        raise InputError(f"{path} {what}; expected the header {','.join(HEADER)}")
    places: Places = {}
    for line, cells in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InputError(f"{path}, line {line}: {len(cells)} cells, the header has {len(names)}; correct this line")
        row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
        points = places.setdefault(row["image"], {})
        if row["point"] in points:
            raise InputError(f"{path}, line {line}: point {row['point']!r} of {row['image']} is named a second time")
        points[row["point"]] = (_number(path, line, "row", row["row"]), _number(path, line, "col", row["col"]))
    if not places:
        raise InputError(f"{path} holds no points below its header {','.join(names)}")
    return places


def points_of(places: Places, image: str | Path) -> dict[str, tuple[float, float]] | None:
    """The points of an image, which the list names by its path, the end of its path, its file name or its stem; None where it does not.

    The name that agrees with most of the path counts: first the whole of it, then the longest end, then a file name in another folder, which must be
    the only one. Raises InputError where two names fit equally well.
    """
    for fits in (_same, _ending, _elsewhere):
        found = {key: fits(Path(key), Path(image)) for key in places}
        best = [key for key, parts in found.items() if parts and parts == max(found.values())]
        if len(best) > 1:
            raise InputError(
                f"{image} could be {' or '.join(map(repr, best[:3]))} in the list of points; name it there by as much of its path as tells it from the others"
            )
        if best:
            return places[best[0]]
    return None


def _same(key: Path, image: Path) -> int:
    """1 where the name is the very path."""
    return int(key == image or Path(os.path.abspath(key)) == Path(os.path.abspath(image)))


def _ending(key: Path, image: Path) -> int:
    """Twice the number of parts of the name where the path ends with it; one less where only its suffix is left out, 0 where it does not."""
    whole, parts = Path(os.path.abspath(image)).parts, key.parts
    if whole[-len(parts) :] == parts:
        return 2 * len(parts)
    return 2 * len(parts) - 1 if (*whole[-len(parts) : -1], image.stem) == parts else 0


def _elsewhere(key: Path, image: Path) -> int:
    """How many parts at the end of the two agree, where the file names do: lists are often written on another machine."""
    if key.name != image.name and key.name != image.stem:
        return 0
    there, here = key.parts[-2::-1], Path(os.path.abspath(image)).parts[-2::-1]
    return 1 + next((n for n, (a, b) in enumerate(zip(there, here, strict=False)) if a != b), min(len(there), len(here)))


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {name} is {text!r}; expected px from the picture's upper left corner, for example 120.5")
    return value
