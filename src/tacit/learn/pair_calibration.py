"""Everything that labelled pairs teach, and an honest score of it: metric, threshold and sureness are learnt anew for every block that is held out.

`learn` is the whole recipe; `nested` runs it on the pairs that share no image (no patient) with the held-out ones and answers for those. So no threshold and no
shrinkage is ever chosen on the pairs that score it. Inside `learn` the threshold comes from distances that are held out once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, Count, Positive, Share
from tacit.learn.pair_decision import Decision, Rule, learn_decision
from tacit.learn.pair_folds import Chosen, blocks, draw_weights
from tacit.learn.pair_metric import PairMetric, distances, find_ground, fit_metric, vectors
from tacit.report.pair_score import Numbers, Truth, area

Metric = Literal["linear", "raw"]
CHOICE_DRAWS, SURE_DRAWS = 60, 100  # of the bootstrap, behind the choice of a shrinkage and behind each edge of sureness


class CalibrationConfig(Config):
    folds: Count = 10  # of images or patients; each block of two is held out once
    inner_folds: Count = 8  # of those that teach
    rule: Rule = "equal"  # threshold: equal = both kinds of error as frequent; accuracy = most answers right
    dims: Count = 100  # principal axes that the metric sees
    prior: Annotated[float, Field(ge=0)] = 30.0  # pairs: what the raw distance counts beside the metric's from so many
    shrinkage: Share = 0.3  # of the covariance inside same pairs towards round
    others: tuple[Share, ...] = (0.1, 0.6)  # shrinkages that are taken, as the raw metric is, where they are clearly better
    clearly: Positive = 3.0  # standard errors over images or patients
    sure_error: Share = 0.1  # most that may be wrong among sure answers
    draws: Count = 500  # of the bootstrap
    least: Count = 10  # labelled pairs
    curve: tuple[int, ...] = (10, 20, 50, 100, 200, 500)  # numbers of pairs at which the curve is measured


@dataclass(frozen=True)
class LabelledPairs:
    """features (n, p) of images; pairs (a[i], b[i]) of them, (m,), with same[i]; group (n,): each image's patient, or the image itself."""

    features: NDArray[np.float64]
    a: Chosen
    b: Chosen
    same: Truth
    group: NDArray[np.int64]

    def only(self, chosen: Chosen) -> LabelledPairs:
        """The pairs with these indices, the images as they are."""
        return LabelledPairs(self.features, self.a[chosen], self.b[chosen], self.same[chosen], self.group)

    @property
    def both_kinds(self) -> bool:
        """Whether there are two same pairs and a different one, the least that a metric can be learnt from."""
        return bool(self.same.sum() >= 2 and (~self.same).any())


@dataclass(frozen=True)
class Learnt:
    """What pairs taught. metric: None = raw; shrinkage: its own, None = raw. held_out: (m,) distances from metrics that had not seen the pair, nan where none could be learnt."""

    metric: PairMetric | None
    shrinkage: float | None
    decision: Decision
    held_out: Numbers


@dataclass(frozen=True)
class Scored:
    """Nested answers for every pair, (m,). scored: whether there was a block to learn from; the others hold nan and False."""

    distance: Numbers
    called_same: Truth
    sure: Truth
    p_same: Numbers
    scored: Truth


def learn(p: LabelledPairs, c: CalibrationConfig, *, metric: Metric, seed: int) -> Learnt:
    """Metric and decision from pairs of both kinds. A pure function of its arguments."""
    raw = distances(vectors(p.features, None), p.a, p.b)
    if metric == "raw" or not p.both_kinds:
        return Learnt(None, None, _decision(p, raw, c, seed), raw)
    seen = np.unique(np.r_[p.a, p.b])
    ground = find_ground(p.features[seen], c.dims)
    on_ground = LabelledPairs(ground(p.features[seen]), np.searchsorted(seen, p.a), np.searchsorted(seen, p.b), p.same, p.group[seen])
    candidates: dict[float | None, Numbers] = _held_out(on_ground, raw, c, seed) | {None: raw}
    chosen = _choose(p, candidates, c, seed)
    held_out = candidates[chosen]
    good = np.flatnonzero(~np.isnan(held_out))
    decision = _decision(p.only(good), held_out[good], c, seed)
    if chosen is None:
        return Learnt(None, None, decision, held_out)
    fitted = fit_metric(on_ground.features, on_ground.a, on_ground.b, p.same, shrinkage=chosen)
    return Learnt(fitted.after(ground, raw=c.prior / len(p.same)), chosen, decision, held_out)


def nested(
    p: LabelledPairs, c: CalibrationConfig, *, metric: Metric, seed: int, most: int | None = None, advance: Callable[[int, int], None] | None = None
) -> Scored:
    """Every pair answered by what pairs without its images (patients) taught. most: teach from at most so many, drawn anew for each block."""
    m = len(p.same)
    found = Scored(np.full(m, np.nan), np.zeros(m, bool), np.zeros(m, bool), np.full(m, np.nan), np.zeros(m, bool))
    rng = np.random.default_rng([seed, 51])
    folded = list(blocks(p.group[p.a], p.group[p.b], c.folds, rng))
    for index, (teaching, held_out) in enumerate(folded):
        if most is not None and len(teaching) > most:
            teaching = np.sort(rng.permutation(teaching)[:most])
        from_these, to_judge = p.only(teaching), p.only(held_out)
        if from_these.both_kinds:
            learnt = learn(from_these, c, metric=metric, seed=seed)
            d = distances(vectors(p.features, learnt.metric), to_judge.a, to_judge.b)
            found.distance[held_out], found.scored[held_out] = d, True
            found.called_same[held_out], found.sure[held_out] = learnt.decision.same(d), learnt.decision.sure(d)
            found.p_same[held_out] = learnt.decision.p_same(d)
        if advance is not None:
            advance(index + 1, len(folded))
    return found


def _decision(p: LabelledPairs, distance: Numbers, c: CalibrationConfig, seed: int) -> Decision:
    draws = list(draw_weights(p.group[p.a], p.group[p.b], SURE_DRAWS, np.random.default_rng([seed, 57])))
    return learn_decision(distance, p.same, sure_error=c.sure_error, rule=c.rule, draws=draws)


def _held_out(p: LabelledPairs, raw: Numbers, c: CalibrationConfig, seed: int) -> dict[float | None, Numbers]:
    """For each shrinkage the distances of pairs by metrics that had not seen them; by images where patients are too few to be held out."""
    for group in (p.group, np.arange(len(p.group))):
        found: dict[float | None, Numbers] = {s: np.full(len(p.same), np.nan) for s in (c.shrinkage, *c.others)}
        for teaching, held_out in blocks(group[p.a], group[p.b], c.inner_folds, np.random.default_rng([seed, 53])):
            t, h = p.only(teaching), p.only(held_out)
            if t.both_kinds:
                for s, d in found.items():
                    fitted = fit_metric(p.features, t.a, t.b, t.same, shrinkage=float(s or 0))
                    counts = c.prior / len(teaching)
                    d[held_out] = (distances(vectors(p.features, fitted), h.a, h.b) + counts * raw[held_out]) / (1 + counts)
        scored = ~np.isnan(found[c.shrinkage])
        if scored.mean() >= 0.5 and p.same[scored].any() and not p.same[scored].all():
            return found
    return {}


def _choose(p: LabelledPairs, candidates: dict[float | None, Numbers], c: CalibrationConfig, seed: int) -> float | None:
    """The usual shrinkage, or the one that beats it by the most beyond `clearly` standard errors over groups; raw where nothing could be held out."""
    if c.shrinkage not in candidates:
        return None
    good = np.flatnonzero(~np.isnan(candidates[c.shrinkage]))
    q = p.only(good)
    weights = [w for w in draw_weights(q.group[q.a], q.group[q.b], CHOICE_DRAWS, np.random.default_rng([seed, 54])) if w[q.same].any() and w[~q.same].any()]
    usual = candidates[c.shrinkage][good]
    base, best = area(usual, q.same), 0.0
    chosen: float | None = c.shrinkage
    drawn = np.array([area(usual, q.same, w) for w in weights])
    for s, d in candidates.items():
        gain = area(d[good], q.same) - base
        if s == c.shrinkage or gain <= best:
            continue
        error = float(np.std(np.array([area(d[good], q.same, w) for w in weights]) - drawn)) if weights else np.inf
        if gain - c.clearly * error > best:
            best, chosen = gain - c.clearly * error, s
    return chosen
