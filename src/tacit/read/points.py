"""Landmarks: a CSV `image,point,row,col` → points by image, in px; more columns may stand beside them."""

from __future__ import annotations

import csv
import io
import math
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
    """The points of an image, which the list names by path, file name or stem; None where it does not."""
    name = Path(image)
    wanted = (str(image), name.name, name.stem)
    for key, points in places.items():
        if key in wanted or Path(key).name == name.name or (not Path(key).suffix and Path(key).name == name.stem):
            return points
    return None


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}, line {line}: {name} is {text!r}; expected px from the picture's upper left corner, for example 120.5")
    return value
