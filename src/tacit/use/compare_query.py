"""`tacit compare INDEX INDEX…`: which encoder's neighbours are of one class? The same rows ask every index; differences are paired over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import UsageError
from tacit.report.pair_score import area
from tacit.report.retrieval import accuracy
from tacit.use.ask_rows import Asked, ask, at
from tacit.use.evaluate_query import over, warnings_of

MOST_PAIRS = 20_000  # pairs of rows whose distances are scored; a seeded draw where there are more
Numbers = NDArray[np.float64]


def compare_indexes(
    indexes: Sequence[Path | str],
    *,
    label: str = "label",
    k: int = 10,
    include_same_patient: bool = False,
    metric: str = "cosine",
    draws: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row an index: its encoder, how many rows asked, and its figures, each {"value", "interval", "gain", "gain_interval"}.

    Figures: nearest (share of rows whose nearest row is of their class), majority@k, average_precision@k, and pair_auc (of two rows that may find each
    other: is the distance smaller where both are of one class? .5 is chance). gain: over the first index, its interval paired: the same draws of
    patients for both. Raises UsageError where two indexes hold different images, labels or patients, naming the difference.
    """
    level = "image" if include_same_patient else "patient"
    asked = [ask(index, label=label, k=k, level=level, metric=metric, seed=seed) for index in indexes]
    for path, other in zip(indexes[1:], asked[1:], strict=True):
        _check_same(indexes[0], asked[0], path, other, label)
    pairs = _pairs(asked[0], seed)
    weights = _draws(asked[0].groups, draws, seed)
    found = [{name: _drawn(figure, weights) for name, figure in _figures(a, k, pairs, metric).items()} for a in asked]
    rows = []
    for path, one, figures in zip(indexes, asked, found, strict=True):
        about = one.store.about
        rows.append(
            {
                "index": str(path),
                "encoder": about.encoder,
                "weights_hash": about.weights_hash,
                "numbers": about.width,
                "queries": len(one.rows),
                "excluded": level,
                "over": over(one),
                "figures": {name: _against(values, found[0][name]) for name, values in figures.items()},
                "warnings": warnings_of(one, include_same_patient),
            }
        )
    return rows


def _figures(asked: Asked, k: int, pairs: tuple[NDArray[np.int64], NDArray[np.int64]], metric: str) -> dict[str, Callable[[Numbers], float]]:
    """Each figure as a function of how often each row counts (q,)."""
    nearest = accuracy(at(asked.hits[:, :1], asked.classes), asked.own)
    mean = {"nearest": nearest, f"majority@{k}": asked.values["majority"], f"average_precision@{k}": asked.values["average_precision"]}
    figures: dict[str, Callable[[Numbers], float]] = {name: lambda w, v=v: float((w * v).sum() / w.sum()) for name, v in mean.items()}  # type: ignore[misc]
    a, b = pairs
    distance, same = _distances(asked, a, b, metric), asked.own[a] == asked.own[b]
    if same.any() and not same.all():
        figures["pair_auc"] = lambda w: area(distance, same, w[a] * w[b])
    return figures


def _pairs(asked: Asked, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (p,) and (p,) among the rows that asked, of pairs that may find each other."""
    n, rng = len(asked.rows), np.random.default_rng([seed, 12])
    if n * (n - 1) // 2 <= MOST_PAIRS:
        a, b = np.triu_indices(n, 1)
    else:
        a, b = rng.integers(0, n, (2, 4 * MOST_PAIRS))
        a, b = np.unique(np.sort(np.stack([a, b]), 0)[:, a != b], axis=1)
    apart = np.ones(len(a), bool)
    for codes in asked.parts:
        mine = codes[asked.rows]
        apart &= (mine[a] != mine[b]) | (mine[a] < 0)
    chosen = rng.permutation(np.flatnonzero(apart))[:MOST_PAIRS]
    return a[chosen], b[chosen]


def _distances(asked: Asked, a: NDArray[np.int64], b: NDArray[np.int64], metric: str) -> Numbers:
    vectors = asked.store.vectors()[asked.rows].astype(np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return np.concatenate([((vectors[a[i : i + 1024]] - vectors[b[i : i + 1024]]) ** 2).sum(1) for i in range(0, len(a), 1024)] or [np.zeros(0)])


def _draws(groups: NDArray[np.int64], draws: int, seed: int) -> Numbers:
    """How often each row counts (draws + 1, q): first every row once, then whole patients drawn with replacement."""
    _, code = np.unique(groups, return_inverse=True)
    rng, n = np.random.default_rng(seed), int(code.max()) + 1
    drawn = np.stack([np.bincount(rng.integers(0, n, n), minlength=n)[code] for _ in range(draws)])
    return np.concatenate([np.ones((1, len(groups))), drawn]).astype(np.float64)


def _drawn(figure: Callable[[Numbers], float], weights: Numbers) -> Numbers:
    return np.array([figure(w) for w in weights])


def _against(mine: Numbers, first: Numbers) -> dict[str, Any]:
    """The figure and what it gains over the first index's, with intervals of 95%."""
    gain = mine - first
    return {"value": float(mine[0]), "interval": _interval(mine[1:]), "gain": float(gain[0]), "gain_interval": _interval(gain[1:])}


def _interval(values: Numbers) -> list[float]:
    if np.isnan(values).all():
        return [float("nan"), float("nan")]
    return [float(v) for v in np.nanquantile(values, (0.025, 0.975))]


def _check_same(first: Path | str, a: Asked, path: Path | str, b: Asked, label: str) -> None:
    """Raises UsageError naming what differs between the rows of two indexes."""
    only_a, only_b = ([f for f, n in zip(x.files, x.names, strict=True) if n not in set(y.names)] for x, y in ((a, b), (b, a)))
    if only_a or only_b:
        example = Path((only_a or only_b)[0]).name
        raise UsageError(
            f"{first} and {path} cannot be compared: {len(only_a)} labelled rows are only in the first, {len(only_b)} only in the second (for example {example}); index the same images, at the same --tile-um, with both encoders"
        )
    for i, (own, other) in enumerate(zip(a.own, b.own, strict=True)):
        if a.kinds[own] != b.kinds[other]:
            raise UsageError(
                f"{first} and {path} cannot be compared: {label} of {Path(a.files[i]).name} is {a.kinds[own]} in the first, {b.kinds[other]} in the second"
            )
    if not np.array_equal(_first_places(a.groups), _first_places(b.groups)):
        raise UsageError(f"{first} and {path} cannot be compared: they name different patients; index with the same --patients")


def _first_places(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each row's group first occurs: equal for two groupings that are alike but for their numbers."""
    _, first, code = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(first[code])
