"""Rows of figures as an aligned table."""

from __future__ import annotations

from typing import Any


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Plain text, a column per key of any row, numbers to three figures.

    >>> print(tabulate([{"run": "a", "miou": 0.75}, {"run": "b"}]))
    run  miou
    a    0.75
    b       –
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(row.get(c)) for c in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(r.get(c), (int, float, type(None))) for r in rows) for c in columns]
    lines = ["  ".join(cell.rjust(w) if n else cell.ljust(w) for cell, w, n in zip(line, widths, numeric, strict=True)).rstrip() for line in cells]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_cell(v) for v in value) + "]"
    return str(value)
