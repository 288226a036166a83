"""How well a distance tells pairs of one kind from pairs of two: the errors at every threshold, the area under the ROC curve, the equal error rate.

A pair is called same where its distance is at most the threshold. distance (n,) finite, same (n,) bool; weight (n,) says how often each pair counts,
as in a draw of a bootstrap. Rates are shares from 0 to 1, nan where there is no pair of the kind that they are a share of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

Numbers = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class Thresholds:
    """All (k,), threshold rising: one below every distance, then each distance that occurs."""

    threshold: Numbers
    false_same: Numbers  # share of different pairs that are called same
    false_different: Numbers  # share of same pairs that are called different
    accuracy: Numbers  # share of all pairs that are called right


def thresholds(distance: NDArray, same: NDArray, weight: NDArray | None = None) -> Thresholds:
    """The errors at every threshold that tells pairs apart. Raises InputError for distances that are not finite or too many."""
    distance, same = np.asarray(distance, float), np.asarray(same).astype(bool)
    if distance.shape != same.shape or distance.ndim != 1 or not len(distance) or not np.isfinite(distance).all():
        raise InputError(f"pairs are scored by finite distances and labels of the same number; these are {distance.shape} and {same.shape}")
    w = np.ones(len(distance)) if weight is None else np.asarray(weight, float)
    order = np.argsort(distance, kind="stable")
    d, is_same, w = distance[order], same[order], w[order]
    last = np.flatnonzero(np.r_[np.diff(d) > 0, True])  # of each run of equal distances, which are on one side
    right_same, wrong_same = np.r_[0.0, np.cumsum(w * is_same)[last]], np.r_[0.0, np.cumsum(w * ~is_same)[last]]
    n_same, n_different = float((w * is_same).sum()), float((w * ~is_same).sum())
    return Thresholds(
        threshold=np.r_[d[0] - 1, d[last]],
        false_same=_share(wrong_same, n_different),
        false_different=_share(n_same - right_same, n_same),
        accuracy=_share(right_same + n_different - wrong_same, n_same + n_different),
    )


def area(distance: NDArray, same: NDArray, weight: NDArray | None = None) -> float:
    """The probability that a same pair is closer than a different one, ties half: 1 parts them all, .5 is chance.

    >>> area(np.array([0.1, 0.5, 0.4, 0.9]), np.array([1, 1, 0, 0]))
    0.75
    """
    found = thresholds(distance, same, weight)
    return float(np.trapezoid(1 - found.false_different, found.false_same))


def best_threshold(distance: NDArray, same: NDArray, weight: NDArray | None = None) -> tuple[float, float]:
    """(accuracy, threshold) of the threshold that is right most often, half way to the next distance; of equals the smallest.

    Chosen on the very pairs that it is scored on, so it is no estimate for others.

    >>> best_threshold(np.array([0.1, 0.5, 0.4, 0.9]), np.array([1, 1, 0, 0]))
    (0.75, 0.25)
    """
    found = thresholds(distance, same, weight)
    k = int(np.argmax(found.accuracy))
    return float(found.accuracy[k]), _between(found.threshold, k)


def equal_error(distance: NDArray, same: NDArray, weight: NDArray | None = None) -> tuple[float, float]:
    """(rate, threshold) where both kinds of error are as frequent, on the straight line between two points of the curve; nan with one kind alone.

    >>> equal_error(np.array([0.1, 0.5, 0.4, 0.9]), np.array([1, 1, 0, 0]))
    (0.5, 0.45)
    """
    found = thresholds(distance, same, weight)
    gap = found.false_same - found.false_different  # rises from -1 to 1
    if np.isnan(gap).any():
        return float("nan"), float("nan")
    after = int(np.argmax(gap >= -1e-12))
    if gap[after] <= 1e-12:
        return float(found.false_same[after]), _between(found.threshold, after)
    part = -gap[after - 1] / (gap[after] - gap[after - 1])
    rate, threshold = (v[after - 1] + part * (v[after] - v[after - 1]) for v in (found.false_same, found.threshold))
    return float(rate), float(threshold)


def errors_at(called_same: NDArray, same: NDArray, weight: NDArray | None = None) -> dict[str, float]:
    """accuracy, false_same and false_different of answers (n,) bool."""
    w = np.ones(len(same)) if weight is None else weight
    n_same, n_different = float((w * same).sum()), float((w * ~same).sum())
    return {
        "accuracy": float(_share(np.asarray((w * (called_same == same)).sum()), float(w.sum()))),
        "false_same": float(_share(np.asarray((w * (called_same & ~same)).sum()), n_different)),
        "false_different": float(_share(np.asarray((w * (~called_same & same)).sum()), n_same)),
    }


def _between(threshold: Numbers, k: int) -> float:
    """Half way between a threshold and the next."""
    above = threshold[k + 1] if k + 1 < len(threshold) else threshold[k] + 1
    return float((threshold[k] + above) / 2)


def _share(part: Numbers, whole: float) -> Numbers:
    return np.asarray(part / whole if whole > 0 else np.full(np.shape(part), np.nan))
