"""What nested answers are worth: area, equal error, accuracy, how often each kind is missed, how many answers are sure, and all of it against the number of pairs.

Intervals are bootstrap percentiles over images, or patients where they are known: a pair counts as often as both its ends were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tacit.learn.pair_calibration import CalibrationConfig, LabelledPairs, Metric, Scored, nested
from tacit.learn.pair_decision import choose_threshold
from tacit.learn.pair_folds import blocks, draw_weights
from tacit.report.pair_score import Numbers, area, equal_error, errors_at

Figures = dict[str, Any]  # name → {"value": share, "interval": [low, high]}
LEVEL = (0.025, 0.975)


def figures(p: LabelledPairs, found: Scored, c: CalibrationConfig, seed: int) -> Figures:
    """auc, equal_error, accuracy, false_same, false_different, share_sure, accuracy_sure, always_one_answer of the pairs that could be scored.

    false_same: share of different pairs that were called same. false_different: share of same pairs that were called different.
    """
    good = np.flatnonzero(found.scored)
    q = p.only(good)
    distance, called, sure = found.distance[good], found.called_same[good], found.sure[good]

    def statistics(w: Numbers) -> dict[str, float]:
        right = w * (called == q.same)
        share = float((w * q.same).sum() / w.sum())
        return {
            "auc": area(distance, q.same, w),
            "equal_error": equal_error(distance, q.same, w)[0],
            **errors_at(called, q.same, w),
            "share_sure": float((w * sure).sum() / w.sum()),
            "accuracy_sure": float((right * sure).sum() / (w * sure).sum()) if (w * sure).sum() > 0 else float("nan"),
            "always_one_answer": max(share, 1 - share),
        }

    return _with_intervals(statistics(np.ones(len(good))), (statistics(w) for w in _draws(q, c, seed)))


def threshold_interval(p: LabelledPairs, held_out: Numbers, c: CalibrationConfig, seed: int) -> list[float]:
    """95% interval of the threshold that held-out distances (m,) give; nan among them is left out."""
    good = np.flatnonzero(~np.isnan(held_out))
    q, d = p.only(good), held_out[good]
    drawn = [choose_threshold(d, q.same, w, rule=c.rule) for w in _draws(q, c, seed)]
    return [float(x) for x in np.quantile(drawn, LEVEL)] if drawn else [float("nan")] * 2


def learning_curve(
    p: LabelledPairs, c: CalibrationConfig, *, metric: Metric, seed: int, last: Scored | None = None, advance: Callable[[int, int], None] | None = None
) -> list[Figures]:
    """A row for each number of pairs that taught: pairs, scored, auc and accuracy with their intervals. last: what all pairs taught, where it is known."""
    usual = pairs_that_taught(p, c, seed)
    sizes: list[int | None] = [n for n in sorted(set(c.curve)) if n < 0.9 * usual]
    rows = []
    for index, size in enumerate([*sizes, None]):
        found = last if size is None and last is not None else nested(p, c, metric=metric, seed=seed, most=size)
        if found.scored.any() and p.same[found.scored].any() and not p.same[found.scored].all():
            worth = figures(p, found, c, seed)
            rows.append({"pairs": size or usual, "scored": int(found.scored.sum()), "auc": worth["auc"], "accuracy": worth["accuracy"]})
        if advance is not None:
            advance(index + 1, len(sizes) + 1)
    return rows


def pairs_that_taught(p: LabelledPairs, c: CalibrationConfig, seed: int) -> int:
    """How many pairs taught what a held-out pair was judged by: the median over pairs. The rest shared a fold with it."""
    each = [(len(teaching), len(held_out)) for teaching, held_out in blocks(p.group[p.a], p.group[p.b], c.folds, np.random.default_rng([seed, 51]))]
    return int(np.median(np.repeat(*np.transpose(each)))) if each else 0


def _draws(q: LabelledPairs, c: CalibrationConfig, seed: int) -> Iterator[Numbers]:
    """Weights of pairs (m,), draws without one of the kinds left out."""
    rng = np.random.default_rng([seed, 52])
    return (w for w in draw_weights(q.group[q.a], q.group[q.b], c.draws, rng) if w[q.same].any() and w[~q.same].any())


def _with_intervals(values: dict[str, float], drawn: Iterator[dict[str, float]]) -> Figures:
    rows = list(drawn)
    found = {}
    for name, value in values.items():
        own = np.array([r[name] for r in rows])
        own = own[~np.isnan(own)]
        interval = [float(x) for x in np.quantile(own, LEVEL)] if len(own) else [float("nan")] * 2
        found[name] = {"value": value, "interval": interval}
    return found
