"""From distances of labelled pairs to a decision: the threshold, the probability of "same", and the distances at which the answer is sure.

The distances must be held out: from a metric that did not see the pair. The threshold is where both kinds of error are as frequent ("equal"), or where
most answers are right ("accuracy"): the first leans on all distances, not on a few round the best one, and was right more often on patients that had not
been seen (LOG.md). p_same is a logistic curve (Platt 1999, with his softened targets). An answer is sure where, of the held-out pairs at that distance
or beyond, at most `sure_error` were of the other kind, counted with one more pair of each kind (Laplace), so that few pairs never make sure; and that
in nine of ten bootstrap draws of images or patients, since of many edges that fit the widest fits by luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tacit.report.pair_score import Numbers, Truth, best_threshold, equal_error

Rule = Literal["equal", "accuracy"]

FARTHEST = 4.0  # 2 − 2·cos of opposite vectors
HOLDS = 0.9  # share of bootstrap draws in which an edge must hold
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


def learn_decision(distance: Numbers, same: Truth, *, sure_error: float, rule: Rule = "equal", draws: Sequence[Numbers] = ()) -> Decision:
    """The decision from held-out distances (m,) and labels of at least one pair of each kind. draws: weights (m,) of bootstrap draws; none = the pairs as they are."""
    level, slope = fit_logistic(distance, same)
    threshold = choose_threshold(distance, same, rule=rule)
    near, far = _edges(distance, same, sure_error, draws or [np.ones(len(distance))])
    return Decision(
        threshold=threshold,
        sure_same=None if near is None else min(near, threshold),
        sure_different=None if far is None else max(far, float(np.nextafter(threshold, 9))),
        level=level,
        slope=slope,
    )


def choose_threshold(distance: Numbers, same: Truth, weight: Numbers | None = None, *, rule: Rule = "equal") -> float:
    """The threshold by that rule, from 0 to 4."""
    found = equal_error(distance, same, weight)[1] if rule == "equal" else best_threshold(distance, same, weight)[1]
    return float(np.clip(found, 0, FARTHEST))


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


def _edges(distance: Numbers, same: Truth, sure_error: float, draws: Sequence[Numbers]) -> tuple[float | None, float | None]:
    """The largest distance below which, and the smallest above which, few enough held-out pairs were of the other kind in HOLDS of the draws."""
    order = np.argsort(distance, kind="stable")
    d, s = distance[order], same[order]
    last, first = np.r_[np.diff(d) > 0, True], np.r_[True, np.diff(d) > 0]
    found = np.empty((len(draws), 2))
    for row, weight in zip(found, draws, strict=True):
        w = weight[order]
        wrong_below, below = np.cumsum(w * ~s), np.cumsum(w)
        wrong_above, above = np.cumsum((w * s)[::-1])[::-1], np.cumsum(w[::-1])[::-1]
        near = np.flatnonzero(last & ((wrong_below + 1) / (below + 2) <= sure_error))
        far = np.flatnonzero(first & ((wrong_above + 1) / (above + 2) <= sure_error))
        row[:] = d[near[-1]] if len(near) else -np.inf, d[far[0]] if len(far) else np.inf
    low = float(np.quantile(found[:, 0], 1 - HOLDS, method="lower"))
    high = float(np.quantile(found[:, 1], HOLDS, method="higher"))
    return (low if np.isfinite(low) else None), (high if np.isfinite(high) else None)
