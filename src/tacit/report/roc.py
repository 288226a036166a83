"""How well a distance parts pairs of one kind from pairs of two kinds: the errors at every threshold, the area under the ROC curve, the equal error rate.

A pair is called same where its distance is at most the threshold. `same` is (n,) bool; `weight` (n,) says how often each pair counts, as in a
draw of a bootstrap. Rates are shares from 0 to 1, nan where there is no pair of the kind that they are a share of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]
BELOW = 1e-9  # how far the first threshold lies below the smallest distance


@dataclass(frozen=True)
class Thresholds:
    """All (k,), threshold rising: one that calls every pair different, then each distance that occurs."""

    threshold: Numbers
    false_same: Numbers  # share of different pairs that are called same
    false_different: Numbers  # share of same pairs that are called different
    accuracy: Numbers  # share of all pairs that are called right


def thresholds(distance: Numbers, same: Truth, weight: Numbers | None = None) -> Thresholds:
    """The errors at every threshold that tells pairs apart."""
    w = np.ones(len(distance)) if weight is None else weight
    order = np.argsort(distance, kind="stable")
    d, is_same, w = distance[order], same[order], w[order]
    last = np.flatnonzero(np.r_[np.diff(d) > 0, True]) if len(d) else np.zeros(0, np.int64)  # of each run of equal distances
    right_same = np.r_[0.0, np.cumsum(w * is_same)[last]]
    wrong_same = np.r_[0.0, np.cumsum(w * ~is_same)[last]]
    n_same, n_different = float((w * is_same).sum()), float((w * ~is_same).sum())
    return Thresholds(
        threshold=np.r_[d[0] - BELOW, d[last]] if len(d) else np.zeros(1),
        false_same=_share(wrong_same, n_different),
        false_different=_share(n_same - right_same, n_same),
        accuracy=_share(right_same + n_different - wrong_same, n_same + n_different),
    )


def area(distance: Numbers, same: Truth, weight: Numbers | None = None) -> float:
    """The probability that a same pair is closer than a different one, ties half: 1 parts them all, .5 is chance."""
    found = thresholds(distance, same, weight)
    return float(np.trapezoid(1 - found.false_different, found.false_same))


def equal_error(found: Thresholds) -> tuple[float, float]:
    """(rate, threshold) where both kinds of error are as frequent, on the straight line between two points of the curve."""
    gap = found.false_same - found.false_different  # rises from -1 to 1
    if np.isnan(gap).any():
        return float("nan"), float("nan")
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    part = float(-gap[before] / step) if step > 0 else 0.0
    rate, threshold = (v[before] + part * (v[after] - v[before]) for v in (found.false_same, found.threshold))
    return float(rate), float(threshold)


def best_threshold(found: Thresholds) -> tuple[float, float]:
    """(threshold, accuracy) with the highest accuracy; of several the one in the middle, half way to the next distance."""
    best = np.flatnonzero(found.accuracy >= np.nanmax(found.accuracy) - 1e-12)
    at = int(best[len(best) // 2])
    above = found.threshold[min(at + 1, len(found.threshold) - 1)]
    return float((found.threshold[at] + above) / 2), float(found.accuracy[at])


def errors_at(called_same: Truth, same: Truth, weight: Numbers | None = None) -> dict[str, float]:
    """accuracy, false_same and false_different of answers."""
    w = np.ones(len(same)) if weight is None else weight
    n_same, n_different = float((w * same).sum()), float((w * ~same).sum())
    return {
        "accuracy": float(_share((w * (called_same == same)).sum(), float(w.sum()))),
        "false_same": float(_share((w * (called_same & ~same)).sum(), n_different)),
        "false_different": float(_share((w * (~called_same & same)).sum(), n_same)),
    }


def _share(part: Numbers, whole: float) -> Numbers:
    return np.asarray(part / whole if whole > 0 else np.full(np.shape(part), np.nan))
