"""Which trivial facts tell the class: the scanner's header, the times of the files, the sizes of the pictures (see `prepare.explore`).

An audit asks it of every kind of fact; a classifier has a twin that knows all of them and no picture, `metadata_twin`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tacit.prepare.explore import LEAST_A_CLASS, Shortcut, shortcut
from tacit.read.marks import Marks, marks
from tacit.use.audit_items import Item
from tacit.use.cohort import Case

HEADER = ("ConvolutionKernel", "KVP", "Manufacturer", "ManufacturerModelName", "SliceThickness", "StudyDate", "SeriesTime")
METADATA = "metadata only"
Columns = dict[str, list[float | str | None]]  # fact → its value in each case


def shortcuts_of(items: list[Item], seed: int) -> list[Shortcut]:
    """One answer a kind of fact that can be judged: cases are series, or pictures where there is no series; groups are patients."""
    cases = _cases([i for i in items if i.keep and i.label])
    labels, groups = [c.label for c in cases], [c.patient or c.series or str(c.path) for c in cases]
    headers: list[Marks] = [{name: c.facts[f"header {name}"] for name in HEADER if f"header {name}" in c.facts} for c in cases]
    kinds = _kinds([c.path for c in cases], headers)
    kinds["sizes"] |= {"height": _facts(cases, "height"), "width": _facts(cases, "width"), "spacing": [c.spacing or None for c in cases]}
    kinds["grey levels"] = {name: _facts(cases, name) for name in ("grey_mean", "grey_sd", "contrast")}
    found = [shortcut(name, _known(columns), labels, groups, seed=seed) for name, columns in kinds.items()]
    return [s for s in found if s is not None]


def metadata_of(cases: Sequence[Case]) -> Columns:
    """What the files of cases tell without their pixels: what their headers say, their sizes in pixels, when they were changed, how many they are.

    Not their bytes: of a compressed file these depend on what the picture shows, disease included.
    """
    middle = [case.paths[len(case.paths) // 2] for case in cases]
    kinds = _kinds(middle, [marks(path) for path in middle])
    kinds["sizes"] = {"files": [float(len(case.paths)) for case in cases]}
    return _known({name: column for columns in kinds.values() for name, column in columns.items()})


def metadata_twin(cases: Sequence[Case], labels: list[str], groups: list[str], seed: int) -> dict[str, Any]:
    """How well the metadata alone tell the class, out of fold by patient, as the figures of the other twins; {"why": …} where that cannot be judged."""
    columns = metadata_of(cases)
    found = shortcut(METADATA, columns, labels, groups, seed=seed)
    if found is None:
        return {"why": f"no fact differs between cases, or fewer than two classes have {LEAST_A_CLASS} cases of two patients"}
    return {
        "auc": round(found.auc, 4),
        "interval": {"auc": [round(found.interval[0], 4), round(found.interval[1], 4)]},
        "cases": found.cases,
        "facts": list(found.features),
    }


def _kinds(paths: list[Path], headers: list[Marks]) -> dict[str, Columns]:
    stats = [_stat(path) for path in paths]
    names = dict.fromkeys(name for header in headers for name in header)
    return {
        "header": {name: [_number(header.get(name)) for header in headers] for name in names},
        "file times": {"changed": [s[0] for s in stats], "changed time of day": [None if s[0] is None else s[0] % 86400 for s in stats]},
        "sizes": {"bytes": [s[1] for s in stats]},
    }


def _known(columns: Columns) -> Columns:
    return {name: column for name, column in columns.items() if any(value is not None for value in column)}


def _cases(items: list[Item]) -> list[Item]:
    by_series: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_series[item.series or str(item.path)].append(item)
    return [members[len(members) // 2] for members in by_series.values()]


def _facts(cases: list[Item], name: str) -> list[float | str | None]:
    return [c.facts.get(name) for c in cases]


def _stat(path: Path) -> tuple[float | None, float | None]:
    try:
        stat = path.stat()
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
