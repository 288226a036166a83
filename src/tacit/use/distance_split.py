"""One set in two: by a gate, by a step of preparation, or by what a table says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tacit.errors import InputError, ReadError, UsageError
from tacit.prepare.gate import GATES, two_clusters
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.distance_change import check
from tacit.use.distance_features import as_picture
from tacit.use.distance_input import Found, Look

MOST_VALUES = 12  # of a column; more, where they are numbers, are parted at a threshold


def check_split(by: str) -> None:
    """Raises UsageError for a gate or a step that is not known."""
    kind, _, what = by.partition(":")
    if kind == "gate" and what and what not in GATES:
        raise UsageError(f"--split-by {by!r}: the gate {what!r} is unknown; known are {', '.join(GATES)}")
    if kind == "prepare":
        if not what:
            raise UsageError("--split-by prepare: needs a step, e.g. prepare:he or prepare:clahe")
        check(what, "--split-by")


def split(found: Found, by: str, run: Run) -> tuple[list[Found], str | None]:
    """The parts of a set, and the candidate that is done to the last one (of prepare: both hold the same pictures).

    gate or gate:NAME: the number of each picture, parted between two clusters; prepare:STEPS; else a column of the list, Grade.csv or labels.
    Raises InputError where there is nothing to part.
    """
    kind, _, what = by.partition(":")
    if kind == "prepare":
        return [replace(found, name="original"), replace(found, name=what)], what
    if kind == "gate":
        name = what or next(iter(GATES))
        return _at_threshold(found, name, _numbers(found, GATES[name], run)), None
    return _by_column(found, by), None


def _numbers(found: Found, gate: Callable[[np.ndarray], float], run: Run) -> list[tuple[Look, float]]:
    numbers = []
    with Bar("gating") as bar:
        for i, look in enumerate(found.looks):
            try:
                numbers.append((look, float(np.mean([gate(np.round(as_picture(p).pixels.mean(2)).astype(np.uint8)) for p in look.read()]))))
            except ReadError as error:
                run.fail(look.name, error)
            bar.advance(i + 1, len(found.looks))
    return numbers


def _at_threshold(found: Found, name: str, numbers: list[tuple[Look, float]]) -> list[Found]:
    values = np.array([v for _, v in numbers])
    if len(set(values.tolist())) < 2:
        raise InputError(f"--split-by: {name} is the same for all {len(values)} looks of {found.name}, so nothing can be parted")
    threshold = two_clusters(values)
    return [
        replace(found, name=f"{name} {'above' if high else 'up to'} {threshold:.4g}", looks=tuple(look for look, v in numbers if (v > threshold) == high))
        for high in (False, True)
    ]


def _by_column(found: Found, column: str) -> list[Found]:
    known = sorted({name for look in found.looks for name, value in look.facts.items() if value is not None})
    if column not in known:
        said = f"it has {', '.join(known)}" if known else "give INPUT as a list, or --labels CSV, with that column"
        raise InputError(f"--split-by {column!r} is no gate, no prepare:STEP and no column that is known of {found.name}; {said}")
    told = [(look, look.facts[column]) for look in found.looks if look.facts.get(column) is not None]
    counts = Counter(value for _, value in told)
    if len(counts) < 2:
        raise InputError(f"--split-by {column}: all {len(told)} looks of {found.name} have the one value {next(iter(counts))!r}")
    if len(counts) > MOST_VALUES:
        numbers = [(look, float(v)) for look, v in told if isinstance(v, (int, float))]
        if len(numbers) < len(told):
            raise InputError(f"--split-by {column} has {len(counts)} values; at most {MOST_VALUES} are expected, or numbers")
        return _at_threshold(found, column, numbers)
    return [replace(found, name=f"{column} {value}", looks=tuple(look for look, v in told if v == value)) for value in sorted(counts, key=str)]
