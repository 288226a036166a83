"""Which trivial facts tell the class: the scanner's header, the times of the files, the sizes of the pictures (see `prepare.explore`)."""

from __future__ import annotations

from collections import defaultdict

from tacit.prepare.explore import Shortcut, shortcut
from tacit.use.audit_items import Item

HEADER = ("ConvolutionKernel", "KVP", "Manufacturer", "ManufacturerModelName", "SliceThickness", "StudyDate", "SeriesTime")


def shortcuts_of(items: list[Item], seed: int) -> list[Shortcut]:
    """One answer a kind of fact that can be judged: cases are series, or pictures where there is no series; groups are patients."""
    cases = _cases([i for i in items if i.keep and i.label])
    labels, groups = [c.label for c in cases], [c.patient or c.series or str(c.path) for c in cases]
    stats = [_stat(c) for c in cases]
    kinds: dict[str, dict[str, list[float | str | None]]] = {
        "header": {name: [_number(c.facts.get(f"header {name}")) for c in cases] for name in HEADER},
        "file times": {"changed": [s[0] for s in stats], "changed time of day": [None if s[0] is None else s[0] % 86400 for s in stats]},
        "sizes": {
            "height": _facts(cases, "height"),
            "width": _facts(cases, "width"),
            "bytes": [s[1] for s in stats],
            "spacing": [c.spacing or None for c in cases],
        },
        "grey levels": {name: _facts(cases, name) for name in ("grey_mean", "grey_sd", "contrast")},
    }
    found = [shortcut(name, {k: v for k, v in columns.items() if any(x is not None for x in v)}, labels, groups, seed=seed) for name, columns in kinds.items()]
    return [s for s in found if s is not None]


def _cases(items: list[Item]) -> list[Item]:
    by_series: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_series[item.series or str(item.path)].append(item)
    return [members[len(members) // 2] for members in by_series.values()]


def _facts(cases: list[Item], name: str) -> list[float | str | None]:
    return [c.facts.get(name) for c in cases]


def _stat(item: Item) -> tuple[float | None, float | None]:
    try:
        stat = item.path.stat()
    except OSError:
        return None, None
    return stat.st_mtime, float(stat.st_size)


def _number(value: float | str | None) -> float | str | None:
    """A number where the header's words are one (dates and times too)."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return str(value)
