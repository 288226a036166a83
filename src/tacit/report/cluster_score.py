"""How clusters agree with classes: figures of contingency tables, (…, k clusters, c classes) counts of pixels; column 0 is the background.

Purity, normalised mutual information (arithmetic mean of the entropies) and adjusted Rand index (Hubert and Arabie 1985) are those of
scikit-learn, from the table alone, since a folder has more pixels than labels fit in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FIGURES = ("purity", "nmi", "ari")
AT_ONCE = 50  # bootstrap draws whose tables are in memory together


def agreement(table: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """purity, nmi and ari of tables (…, k, c), each (…)."""
    n = np.asarray(table, np.float64)
    total = n.sum((-2, -1))
    rows, columns = n.sum(-1), n.sum(-2)  # (…, k), (…, c)
    own, other = _entropy(rows), _entropy(columns)
    shared = np.maximum(own + other - _entropy(n.reshape(*n.shape[:-2], -1)), 0)
    mean = (own + other) / 2
    alone = ((n > 0).sum((-2, -1)) == 1) & (total > 0)  # one cluster, one class: they agree
    together, pairs_own, pairs_other, pairs = _pairs(n).sum((-2, -1)), _pairs(rows).sum(-1), _pairs(columns).sum(-1), _pairs(total)
    expected = pairs_own * pairs_other / np.maximum(pairs, 1)
    most = (pairs_own + pairs_other) / 2
    same = np.isclose(most, expected, rtol=1e-12, atol=0) | (most == 0)
    return {
        "purity": n.max(-1).sum(-1) / np.maximum(total, 1),
        "nmi": np.where(mean > 1e-12, shared / np.maximum(mean, 1e-12), np.where(alone, 1.0, 0.0)),
        "ari": np.where(same, 1.0, (together - expected) / np.where(same, 1.0, most - expected)),
    }


def intervals(tables: NDArray[np.int64], draws: int, seed: int) -> dict[str, list[float]]:
    """95% of each figure over images drawn with replacement; tables (n, k, c), majorities chosen anew in every draw."""
    rng, count = np.random.default_rng(seed), len(tables)
    flat = tables.reshape(count, -1).astype(np.float64)
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in FIGURES}
    for first in range(0, draws, AT_ONCE):
        chosen = rng.integers(0, count, (min(AT_ONCE, draws - first), count))
        times = np.stack([np.bincount(c, minlength=count) for c in chosen]).astype(np.float64)
        for name, values in agreement((times @ flat).reshape(-1, *tables.shape[1:])).items():
            found[name].append(values)
    return {name: [float(q) for q in np.quantile(np.concatenate(values), (0.025, 0.975))] for name, values in found.items()}


def dice(table: NDArray[np.int64], column: int, chosen: NDArray[np.bool_]) -> float:
    """Dice of the union of the chosen clusters (k,) with a class; 1 where both are empty."""
    both, answer, true = table[chosen, column].sum(), table[chosen].sum(), table[:, column].sum()
    return float(2 * both / (answer + true)) if answer + true else 1.0


def best_single(table: NDArray[np.int64], column: int) -> NDArray[np.bool_]:
    """The one cluster (as flags, (k,)) with the highest Dice with a class; the first of equals."""
    scores = 2 * table[:, column] / np.maximum(table.sum(1) + table[:, column].sum(), 1)
    return np.arange(len(table)) == int(scores.argmax())


def best_union(table: NDArray[np.int64], column: int) -> NDArray[np.bool_]:
    """The clusters (flags, (k,)) whose union has the highest Dice with a class.

    Dice is a ratio of two sums over the clusters, so the best set are those whose share of the class is above some level:
    only k unions need be tried, in order of that share.
    """
    inside, size = table[:, column].astype(np.float64), table.sum(1).astype(np.float64)
    order = np.argsort(-inside / np.maximum(size, 1), kind="stable")
    scores = 2 * np.cumsum(inside[order]) / np.maximum(np.cumsum(size[order]) + inside.sum(), 1)
    chosen = np.zeros(len(table), bool)
    chosen[order[: int(scores.argmax()) + 1]] = True
    return chosen


def on_others(tables: NDArray[np.int64], column: int, choose: Any, fold: NDArray[np.bool_]) -> tuple[NDArray[np.float64], list[NDArray[np.bool_]]]:
    """Each image's Dice (n,) with a class, by the clusters that `choose` takes on the other fold's pixels; and those of both folds.

    fold (n,): which images are scored by what is chosen on the rest, and the other way round; both need one image at least.
    """
    chosen = [choose(tables[~fold].sum(0), column), choose(tables[fold].sum(0), column)]
    return np.array([dice(t, column, chosen[0] if first else chosen[1]) for t, first in zip(tables, fold, strict=True)]), chosen


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of (…, m) counts, in nats."""
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    return np.asarray(-(share * np.log(np.where(share > 0, share, 1.0))).sum(-1))


def _pairs(n: NDArray[np.float64]) -> NDArray[np.float64]:
    return n * (n - 1) / 2
