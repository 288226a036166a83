"""From distances of labelled pairs to a decision: the threshold, the probability of "same", and the distances at which the answer is sure.

The distances must be held out: from a metric that did not see the pair. threshold: the highest accuracy on them. p_same: a
logistic curve (Platt 1999, with his softened targets). Sure: at most `sure_error` of the pairs that far on one side were of the other kind, counted with
one more pair of each kind (Laplace), so that few pairs never make sure; between the two edges the answer is forced and not sure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.report.roc import Numbers, Truth, best_threshold, thresholds

FARTHEST = 4.0  # 2 − 2·cos of opposite vectors
STEPS = 60  # of Newton; a dozen are enough


@dataclass(frozen=True)
class Decision:
    """Distances on the scale 2 − 2·cos. At most `threshold`: same. At most `sure_same`, or at least `sure_different`: surely so; None = never."""

    threshold: float
    sure_same: float | None = None
    sure_different: float | None = None
    level: float | None = None  # p_same = 1 / (1 + exp(slope · distance − level)); None where it was not learnt
    slope: float | None = None

    def same(self, distance: Numbers) -> Truth:
        """Whether pairs are called same."""
        return np.asarray(distance <= self.threshold)

    def sure(self, distance: Numbers) -> Truth:
        """Whether the answer is sure."""
        near = distance <= self.sure_same if self.sure_same is not None else np.zeros(len(distance), bool)
        far = distance >= self.sure_different if self.sure_different is not None else np.zeros(len(distance), bool)
        return np.asarray(near | far)

    def p_same(self, distance: Numbers) -> Numbers | None:
        """The probability of "same", at the calibration pairs' share of same pairs."""
        if self.level is None or self.slope is None:
            return None
        return np.asarray(1 / (1 + np.exp(np.clip(self.slope * distance - self.level, -500, 500))))


def learn_decision(distance: Numbers, same: Truth, *, sure_error: float, rule: str = "sweep") -> Decision:
    """The decision from held-out distances (m,) and labels of at least one pair of each kind."""
    level, slope = fit_logistic(distance, same)
    threshold = best_distance(distance, same, None, rule)
    near, far = _edges(distance, same, sure_error)
    return Decision(
        threshold=threshold,
        sure_same=None if near is None else min(near, threshold),
        sure_different=None if far is None else max(far, float(np.nextafter(threshold, 9))),
        level=level,
        slope=slope,
    )


def best_distance(distance: Numbers, same: Truth, weight: Numbers | None = None, rule: str = "sweep") -> float:
    """The threshold with the highest accuracy on these pairs, from 0 to 4."""
    if rule == "logistic":
        level, slope = fit_logistic(distance, same, weight)
        return float(np.clip(level / slope if slope > 1e-9 else (FARTHEST if level > 0 else 0), 0, FARTHEST))
    if rule == "eer":
        from tacit.report.roc import equal_error
        return equal_error(thresholds(distance, same, weight))[1]
    return float(np.clip(best_threshold(thresholds(distance, same, weight))[0], 0, FARTHEST))


def fit_logistic(distance: Numbers, same: Truth, weight: Numbers | None = None) -> tuple[float, float]:
    """(level, slope ≥ 0) of p_same = 1 / (1 + exp(slope · distance − level)), by Newton's method."""
    w = np.ones(len(distance)) if weight is None else weight
    n_same, n_different = float(w[same].sum()), float(w[~same].sum())
    target = np.where(same, (n_same + 1) / (n_same + 2), 1 / (n_different + 2))
    middle, spread = float(distance.mean()), max(float(distance.std()), 1e-9)
    x = np.column_stack([np.ones(len(distance)), -(distance - middle) / spread])
    beta = np.array([np.log((n_same + 1) / (n_different + 1)), 0.0])
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        hessian = x.T @ (x * (w * p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (w * (target - p)) - 1e-6 * beta)
        beta = beta + np.clip(step, -2, 2)
        if float(np.abs(step).max()) < 1e-9:
            break
    if beta[1] <= 0:  # the closer, the less alike: distances say nothing, the share of same pairs is all that is known
        return float(np.log((n_same + 1) / (n_different + 1))), 0.0
    return float(beta[0] + beta[1] * middle / spread), float(beta[1] / spread)


def _edges(distance: Numbers, same: Truth, sure_error: float) -> tuple[float | None, float | None]:
    """The largest distance below which, and the smallest above which, few enough held-out pairs were of the other kind."""
    order = np.argsort(distance, kind="stable")
    d, s = distance[order], same[order]
    counts = np.arange(1, len(d) + 1)
    last = np.r_[np.diff(d) > 0, True]
    first = np.r_[True, np.diff(d) > 0]
    near = np.flatnonzero(last & ((np.cumsum(~s) + 1) / (counts + 2) <= sure_error))
    far = np.flatnonzero(first & ((np.cumsum(s[::-1])[::-1] + 1) / (counts[::-1] + 2) <= sure_error))
    return (float(d[near[-1]]) if len(near) else None), (float(d[far[0]]) if len(far) else None)
