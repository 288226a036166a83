"""What is known of a distance besides its value: an interval, what two halves of one set are apart, and whether the sets differ at all.

Each number says how it was drawn. All draws follow from the content of the sets and a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tacit.parts.gaussian_wasserstein import gaussians, label_distances
from tacit.use.distance import How, Labelled, content_seed, otdd

RESAMPLED = 300  # samples a side of one resample: of larger sets m out of n
SPLITS = 5  # random halves, whose mean counts
LEVEL = 0.95


@dataclass(frozen=True)
class Certainty:
    """interval: 95% of the distance · p_value: of the permutation test · at_half: the distance of halves of the two sets, to lay beside split halves."""

    interval: tuple[float, float]
    p_value: float
    at_half: float


def certainty(a: Labelled, b: Labelled, value: float, how: How, *, bootstraps: int, permutations: int, seed: int) -> Certainty:
    """How sure the distance `value` of `a` to `b` is. The same with the two sets changed."""
    if _first(b, a):
        a, b = b, a
    at_half = float(np.mean([otdd(half(a, i, seed)[0], half(b, i, seed)[1], how, lone=True).value for i in range(SPLITS)]))
    return Certainty(interval(a, b, value, how, bootstraps, seed), p_value(a, b, how, permutations, seed), at_half)


def split_half(a: Labelled, how: How, seed: int) -> float:
    """The distance of two random halves of one set, the mean of five splits: what 0 looks like at half the samples."""
    return float(np.mean([otdd(*half(a, i, seed), how, lone=True).value for i in range(SPLITS)]))


def half(a: Labelled, number: int, seed: int) -> tuple[Labelled, Labelled]:
    """Two halves of a set; of each label about half is on either side."""
    order = np.random.default_rng(content_seed(a.keys, seed, 1, number)).permutation(len(a))
    order = order[np.argsort(a.y[order], kind="stable")]
    return a.rows(np.sort(order[::2])), a.rows(np.sort(order[1::2]))


def interval(a: Labelled, b: Labelled, value: float, how: How, bootstraps: int, seed: int) -> tuple[float, float]:
    """95% by the bootstrap: samples drawn again with replacement on both sides, labels' Gaussians anew each time.

    Of more than 300 samples a side m = 300 are drawn, and the spread is scaled by √(m / n) (Bickel, Götze and van Zwet 1997). Resamples repeat samples and so
    lie farther apart than the sets: the interval takes their spread about their own mean and lays it about the value.
    """
    rng = np.random.default_rng([*content_seed(a.keys, seed, 2), *content_seed(b.keys)])
    found = np.array([otdd(_again(a, rng), _again(b, rng), how, lone=True).value for _ in range(bootstraps)])
    n = 2 / (1 / len(a) + 1 / len(b))
    m = 2 / (1 / min(len(a), RESAMPLED) + 1 / min(len(b), RESAMPLED))
    low, high = np.quantile(found - found.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) * np.sqrt(m / n)
    return max(value + float(low), 0.0), value + float(high)


def p_value(a: Labelled, b: Labelled, how: How, permutations: int, seed: int) -> float:
    """Of the hypothesis that both sets were drawn from one: the share of random divisions of all samples that lie at least as far apart.

    At most 300 samples a side take part. Labels of the two sets are matched one to one where their Gaussians are nearest, since their names say nothing;
    each division has its labels' Gaussians taken anew. The least that it can be is 1 / (permutations + 1).
    """
    rng = np.random.default_rng([*content_seed(a.keys, seed, 3), *content_seed(b.keys)])
    a, b = _at_most(a, rng), _at_most(b, rng)
    y = matched(a, b)
    count = max(len(a.classes), int(y.max()) + 1)
    names = tuple(map(str, range(count)))
    x, labels, keys = np.concatenate([a.x, b.x]), np.concatenate([a.y, y]), a.keys + b.keys
    pool = Labelled("both", x, labels, names, keys)

    def apart(order: NDArray[np.int64]) -> float:
        return otdd(_compact(pool.rows(order[: len(a)])), _compact(pool.rows(order[len(a) :])), how, lone=True).squared

    observed = apart(np.arange(len(pool)))
    reached = sum(apart(rng.permutation(len(pool))) >= observed * (1 - 1e-12) for _ in range(permutations))
    return (1 + reached) / (1 + permutations)


def matched(a: Labelled, b: Labelled) -> NDArray[np.int64]:
    """The labels of `b` (m,) as those of `a` that they are nearest to, one to one; labels that are left over get numbers of their own."""
    far = label_distances(gaussians(a.x, a.y, len(a.classes), lone=True), gaussians(b.x, b.y, len(b.classes), lone=True))
    rows, columns = linear_sum_assignment(far)
    ours = dict(zip(columns.tolist(), rows.tolist(), strict=True))
    for label in range(len(b.classes)):
        ours.setdefault(label, len(a.classes) + label)
    return np.array([ours[int(label)] for label in b.y], np.int64)


def _compact(a: Labelled) -> Labelled:
    """With the labels that it has, and no others."""
    kept, y = np.unique(a.y, return_inverse=True)
    return Labelled(a.name, a.x, y.astype(np.int64), tuple(a.classes[int(k)] for k in kept), a.keys)


def _again(a: Labelled, rng: np.random.Generator) -> Labelled:
    return _compact(a.rows(rng.integers(0, len(a), min(len(a), RESAMPLED))))


def _at_most(a: Labelled, rng: np.random.Generator) -> Labelled:
    return a if len(a) <= RESAMPLED else _compact(a.rows(np.sort(rng.permutation(len(a))[:RESAMPLED])))


def _first(a: Labelled, b: Labelled) -> bool:
    """Whether `a` comes before `b` in an order that has nothing to do with names, so that draws are the same both ways round."""
    return content_seed(a.keys) < content_seed(b.keys)
