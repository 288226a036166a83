"""Distances of all sides of a question, or of candidates to one target, each with what is known of it; as one answer for people and machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tacit.parts.gaussian_wasserstein import gaussians, label_distances
from tacit.report.track import Bar
from tacit.use.distance import Distance, How, Labelled, otdd
from tacit.use.distance_certainty import Certainty, certainty, split_half


@dataclass(frozen=True)
class Pair:
    """Two sets by their places, their distance and its certainty."""

    a: int
    b: int
    distance: Distance
    sure: Certainty


@dataclass(frozen=True)
class DistanceResult:
    """What a run came to. matrix (n, n): OTDD, the root, 0 on the diagonal, None where it was not asked · interval, p_value, at_half, solver (n, n) ·
    split_half (n,) · label_distance: a dict a pair of sets: a, b, labels_a, labels_b, matrix · ranking: rows from near to far, of --to."""

    names: list[str]
    matrix: list[list[float | None]]
    interval: list[list[list[float] | None]]
    split_half: list[float]
    p_value: list[list[float | None]]
    at_half: list[list[float | None]]
    solver: list[list[str | None]]
    label_distance: list[dict[str, Any]]
    sets: list[dict[str, Any]]
    features: dict[str, Any]
    ranking: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0
    notes: tuple[str, ...] = ()
    folder: Path | None = None
    following: str | None = None  # the command that a ranking suggests

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints: the seven names of the page, and more beside them."""
        return {name: value for name, value in vars(self).items() if name not in ("folder", "following", "notes")} | {"notes": list(self.notes)}


def measured(sets: Sequence[Labelled], wanted: Sequence[tuple[int, int]], how: How, *, bootstraps: int, permutations: int, seed: int) -> list[Pair]:
    """The pairs of places that are wanted, each with distance and certainty."""
    pairs = []
    with Bar("transporting") as bar:
        for i, (a, b) in enumerate(wanted):
            found = otdd(sets[a], sets[b], how)
            sure = certainty(sets[a], sets[b], found.value, how, bootstraps=bootstraps, permutations=permutations, seed=seed)
            pairs.append(Pair(a, b, found, sure))
            bar.advance(i + 1, len(wanted))
    return pairs


def every(n: int) -> list[tuple[int, int]]:
    """All pairs of n places."""
    return list(combinations(range(n), 2))


def halves_of(sets: Sequence[Labelled], how: How, seed: int) -> list[float]:
    """The distance of two halves of each set."""
    return [split_half(s, how, seed) for s in sets]


def answer(made: Sequence[Labelled], pairs: Sequence[Pair], halves: Sequence[float], **more: Any) -> DistanceResult:
    """The pairs as matrices."""
    n = len(made)
    matrix = _square(n, None, 0.0)
    interval, p_value, at_half, solver = _square(n, None, [0.0, 0.0]), _square(n, None, 1.0), _square(n, None, None), _square(n, None, None)
    for i in range(n):
        at_half[i][i] = halves[i]
    labels = [_labels(made[i], made[i], _within(made[i])) for i in range(n)]
    for pair in pairs:
        for i, j in ((pair.a, pair.b), (pair.b, pair.a)):
            matrix[i][j], interval[i][j], p_value[i][j] = pair.distance.value, list(pair.sure.interval), pair.sure.p_value
            at_half[i][j], solver[i][j] = pair.sure.at_half, pair.distance.solver
        labels.append(_labels(made[pair.a], made[pair.b], pair.distance.labels))
    return DistanceResult([s.name for s in made], matrix, interval, list(halves), p_value, at_half, solver, labels, **more)


def _square(n: int, empty: Any, diagonal: Any) -> list[list[Any]]:
    return [[diagonal if i == j else empty for j in range(n)] for i in range(n)]


def _labels(a: Labelled, b: Labelled, matrix: Any) -> dict[str, Any]:
    return {"a": a.name, "b": b.name, "labels_a": list(a.classes), "labels_b": list(b.classes), "matrix": np.asarray(matrix).tolist()}


def _within(a: Labelled) -> Any:
    own = gaussians(a.x, a.y, len(a.classes))
    found = np.sqrt(label_distances(own, own))
    np.fill_diagonal(found, 0.0)
    return found
