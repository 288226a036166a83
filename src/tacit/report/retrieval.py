"""How good a retrieval is: figures from the classes of the first k hits of each query, intervals over patients, and what chance would give.

Every function is pure. hits: classes of the hits of each query as numbers (q, k), nearest first, −1 where there are fewer; own: the query's
class (q,). Acc@k, mMV@k and mAP@k are the words of image search in histopathology (Chen et al. 2021, arXiv 2107.13587); average precision is
over the relevant hits among the first k. nDCG: Järvelin and Kekäläinen 2002, gains 0 and 1. Robustness index: PathoROB (Kömen et al. 2025,
arXiv 2507.17845).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Classes = NDArray[np.int64]
FIGURES = ("acc", "majority", "average_precision", "ndcg")


def per_query(hits: Classes, own: Classes, relevant: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The four figures of each query, (q,) each. relevant (q,): how many rows that might have been found have the query's class."""
    return {
        "acc": accuracy(hits, own),
        "majority": majority(hits, own),
        "average_precision": average_precision(hits, own),
        "ndcg": ndcg(hits, own, relevant),
    }


def accuracy(hits: Classes, own: Classes) -> NDArray[np.float64]:
    """1 where any hit has the query's class (Acc@k)."""
    return (hits == own[:, None]).any(1).astype(np.float64)


def majority(hits: Classes, own: Classes) -> NDArray[np.float64]:
    """1 where the class of most hits is the query's (mMV@k); of classes with equally many hits the one that comes first counts."""
    same = (hits[:, :, None] == hits[:, None, :]) & (hits >= 0)[:, None, :]
    votes = np.where(hits >= 0, same.sum(2), -1)
    winner = np.take_along_axis(hits, votes.argmax(1)[:, None], 1)[:, 0]  # argmax takes the first
    return (winner == own).astype(np.float64)


def average_precision(hits: Classes, own: Classes) -> NDArray[np.float64]:
    """Mean over the relevant hits of the precision down to each; 0 where none is relevant (mAP@k is its mean over the queries)."""
    good = hits == own[:, None]
    precision = good.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    count = good.sum(1)
    return np.asarray(np.where(count > 0, (precision * good).sum(1) / np.maximum(count, 1), 0.0))


def ndcg(hits: Classes, own: Classes, relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """Discounted gain over the best that could be had; 0 where nothing relevant exists."""
    discount = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    gain = ((hits == own[:, None]) * discount).sum(1)
    best = np.concatenate([[0.0], discount.cumsum()])[np.minimum(relevant, hits.shape[1])]
    return np.asarray(np.where(best > 0, gain / np.where(best > 0, best, 1), 0.0))


def robustness(hits: Classes, own: Classes, sites: Classes, own_site: Classes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits of the same class from another site, and those plus hits of another class from the same site, counted for each query (q,).

    The robustness index is the sum of the first over the sum of the second: 1 = classes rule, 0 = sites rule. Unknown sites are −1 and count as neither.
    """
    known = (hits >= 0) & (sites >= 0) & (own_site >= 0)[:, None]
    same_class, same_site = hits == own[:, None], sites == own_site[:, None]
    good = (known & same_class & ~same_site).sum(1).astype(np.float64)
    return good, good + (known & ~same_class & same_site).sum(1)


def ratio_interval(
    top: NDArray[np.float64], bottom: NDArray[np.float64], groups: NDArray, *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(top) / sum(bottom), (q,) each, whole groups (patients) drawn with replacement."""
    _, code = np.unique(groups, return_inverse=True)
    tops, bottoms = np.bincount(code, top), np.bincount(code, bottom)
    rng, n = np.random.default_rng(seed), len(tops)
    values = []
    for _ in range(draws):
        drawn = np.bincount(rng.integers(0, n, n), minlength=n)
        below = drawn @ bottoms
        values.append(float(drawn @ tops / below) if below > 0 else np.nan)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2]) if not np.isnan(values).all() else (np.nan, np.nan)
    return float(low), float(high)


def chance(
    classes: Classes, queries: NDArray[np.int64], forbidden: Callable[[int], NDArray[np.bool_]], k: int, *, rounds: int = 20, seed: int = 0
) -> dict[str, float]:
    """The figures of hits drawn blindly from the rows that each query may find: means over queries and rounds.

    classes (n,) of all rows, queries: rows that ask, forbidden(row): (n,) rows that it may not find.
    """
    rng, found = np.random.default_rng([seed, 9]), dict.fromkeys(FIGURES, 0.0)
    for row in queries.tolist():
        may = np.flatnonzero(~forbidden(row))
        if not len(may):
            continue
        drawn = np.full((rounds, k), -1, np.int64)
        for i in range(rounds):
            chosen = rng.choice(may, min(k, len(may)), replace=False)
            drawn[i, : len(chosen)] = classes[chosen]
        own = np.full(rounds, classes[row])
        good = np.full(rounds, (classes[may] == classes[row]).sum())
        for name, values in per_query(drawn, own, good).items():
            found[name] += float(values.mean()) / len(queries)
    return found
