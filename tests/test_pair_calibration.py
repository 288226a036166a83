"""Splits without leaks, thresholds by their rules, and scores that hold for pairs that took no part."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from tacit.learn.pair_calibration import CalibrationConfig, LabelledPairs, learn, nested
from tacit.learn.pair_decision import choose_threshold, fit_logistic, learn_decision
from tacit.learn.pair_folds import blocks, draw_weights
from tacit.learn.pair_metric import distances, vectors
from tacit.learn.pair_worth import figures, learning_curve, threshold_interval
from tacit.report.pair_score import area
from test_pair_metric import two_kinds

QUICK = CalibrationConfig(folds=6, inner_folds=4, draws=60, dims=16, curve=(10, 20))


def labelled(seed: int, pairs: int = 80, *, by_patient: bool = False, **options: float) -> LabelledPairs:
    x, _, a, b, same = two_kinds(seed, pairs, **options)  # type: ignore[arg-type]
    return LabelledPairs(x, a, b, same, np.arange(len(x)) // (12 if by_patient else 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1, max_size=60), st.integers(1, 12), st.integers(0, 9))
def test_every_pair_is_held_out_once_from_pairs_without_its_groups(ends: list[tuple[int, int]], folds: int, seed: int) -> None:
    a, b = np.array(ends).T
    seen: list[int] = []
    for teaching, held_out in blocks(a, b, folds, np.random.default_rng(seed)):
        assert not {*a[teaching], *b[teaching]} & {*a[held_out], *b[held_out]}
        seen += held_out.tolist()
    assert sorted(seen) == list(range(len(a)))


def test_a_bootstrap_draw_counts_pairs_as_their_groups_were_drawn() -> None:
    a, b = np.array([0, 0, 1, 2]), np.array([1, 0, 2, 2])
    drawn = np.random.default_rng(3).integers(0, 3, 3)
    times = [int((drawn == g).sum()) for g in range(3)]
    weight = next(draw_weights(a, b, 1, np.random.default_rng(3)))
    assert weight.tolist() == [times[0] * times[1], times[0], times[1] * times[2], times[2]]


@pytest.mark.parametrize("by_patient", [False, True])
def test_no_pair_has_a_say_in_its_own_answer(by_patient: bool) -> None:
    p = labelled(1, 60, by_patient=by_patient)
    before = nested(p, QUICK, metric="linear", seed=0)
    for k in (0, 7, 31):
        same = p.same.copy()
        same[k] = not same[k]
        touched = (p.group[p.a] == p.group[p.a[k]]) | (p.group[p.b] == p.group[p.b[k]])
        after = nested(dataclasses.replace(p, same=same), QUICK, metric="linear", seed=0)
        assert (after.distance[k], after.called_same[k], after.sure[k]) == (before.distance[k], before.called_same[k], before.sure[k])
        assert not np.array_equal(after.distance[~touched], before.distance[~touched])  # but in others'


def test_shuffled_labels_score_about_half() -> None:
    found = []
    for seed in range(8):
        p = labelled(seed, 100)
        shuffled = dataclasses.replace(p, same=np.random.default_rng(seed).permutation(p.same))
        answers = nested(shuffled, QUICK, metric="linear", seed=0)
        found.append(area(answers.distance[answers.scored], shuffled.same[answers.scored]))
    assert 0.42 < np.mean(found) < 0.56


def test_the_nested_score_promises_no_more_than_new_images_give() -> None:
    told, true = [], []
    for seed in range(4):
        x, kind, a, b, same = two_kinds(seed, 150, images=600)
        p = LabelledPairs(x, a, b, same, np.arange(600))
        answers = nested(p, QUICK, metric="linear", seed=0)
        told.append((answers.called_same == same)[answers.scored].mean())
        learnt = learn(p, QUICK, metric="linear", seed=0)
        i, j = np.random.default_rng(9).integers(0, 600, (2, 4000))
        new = (i != j) & ~np.isin(i, np.r_[a, b]) & ~np.isin(j, np.r_[a, b])
        i, j = i[new], j[new]
        true.append((learnt.decision.same(distances(vectors(x, learnt.metric), i, j)) == (kind[i] == kind[j])).mean())
    assert np.mean(true) > 0.85
    assert -0.12 < np.mean(told) - np.mean(true) < 0.03  # it is of a metric from fewer pairs: those that touch neither held-out fold


def test_learning_lifts_the_nested_area_and_raw_stays_raw() -> None:
    p = labelled(2, 120)
    linear, raw = (nested(p, QUICK, metric=m, seed=0) for m in ("linear", "raw"))  # type: ignore[arg-type]
    assert area(linear.distance[linear.scored], p.same[linear.scored]) > area(raw.distance[raw.scored], p.same[raw.scored]) + 0.05
    assert raw.distance[raw.scored] == pytest.approx(distances(vectors(p.features, None), p.a, p.b)[raw.scored])
    assert learn(p, QUICK, metric="raw", seed=0).metric is None


def test_equal_pairs_teach_the_same_twice() -> None:
    p = labelled(3, 60)
    one, two = (learn(p, QUICK, metric="linear", seed=4) for _ in range(2))
    assert one.metric is not None and two.metric is not None
    assert np.array_equal(one.metric.kept, two.metric.kept) and one.decision == two.decision
    told = [repr(figures(p, nested(p, QUICK, metric="linear", seed=4), QUICK, 4)) for _ in range(2)]
    assert told[0] == told[1]


def test_features_that_already_tell_are_left_raw() -> None:
    rng = np.random.default_rng(6)
    kind = rng.integers(0, 20, 200)  # many kinds, each a direction of its own: few pairs cannot teach what raw distances know
    x = 3 * np.eye(20)[kind] + 0.3 * rng.normal(size=(200, 20))
    a, b = rng.integers(0, 200, (2, 3000))
    keep = np.r_[np.flatnonzero((kind[a] == kind[b]) & (a != b))[:8], np.flatnonzero(kind[a] != kind[b])[:8]]
    p = LabelledPairs(x, a[keep], b[keep], (kind[a] == kind[b])[keep], np.arange(200))
    learnt = learn(p, QUICK, metric="linear", seed=0)
    i, j = rng.integers(0, 200, (2, 2000))
    i, j = i[i != j], j[i != j]
    assert area(distances(vectors(x, learnt.metric), i, j), kind[i] == kind[j]) > 0.9


def test_the_logistic_curve_equals_scikit_learns() -> None:
    rng = np.random.default_rng(7)
    same = rng.random(80) < 0.4
    d, w = rng.normal(np.where(same, 0.7, 1.1), 0.3), rng.integers(1, 4, 80).astype(float)
    level, slope = fit_logistic(d, same, w)
    high, low = (w[same].sum() + 1) / (w[same].sum() + 2), 1 / (w[~same].sum() + 2)
    target = np.where(same, high, low)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000)
    theirs.fit(np.r_[d, d][:, None], np.arange(160) < 80, sample_weight=np.r_[w * target, w * (1 - target)])
    assert (level, -slope) == pytest.approx((theirs.intercept_[0], theirs.coef_[0, 0]), rel=1e-3)
    assert fit_logistic(-d, same)[1] == 0  # the closer, the less alike: nothing is known


def test_the_rules_choose_what_they_say() -> None:
    d, same = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]), np.array([1, 1, 0, 1, 0, 0, 0], bool)
    assert choose_threshold(d, same, rule="accuracy") == pytest.approx(0.25)
    equal = choose_threshold(d, same, rule="equal")
    assert 0.3 <= equal < 0.4
    assert choose_threshold(d + 5, same) == 4.0


def test_sure_is_what_few_held_out_pairs_contradict() -> None:
    rng = np.random.default_rng(8)
    same = np.arange(300) < 150
    d = rng.normal(np.where(same, 0.8, 1.4), 0.3)
    found = learn_decision(d, same, sure_error=0.1)
    assert found.sure_same is not None and found.sure_different is not None
    near, far = d <= found.sure_same, d >= found.sure_different
    assert (~same[near]).mean() <= 0.1 and same[far].mean() <= 0.1
    for step, wrong in ((d[d > found.sure_same], lambda t: ~same[d <= t]), (d[d < found.sure_different], lambda t: same[d >= t])):
        tried = [t for t in step if (t <= found.threshold) == (found.sure_same < t)]
        assert all((wrong(t).sum() + 1) / (len(wrong(t)) + 2) > 0.1 for t in tried if t <= found.threshold) or found.sure_same == found.threshold
    few = learn_decision(np.array([0.1, 0.2, 0.8, 0.9]), np.array([True, True, False, False]), sure_error=0.1)
    assert few.sure_same is None and few.sure_different is None and not few.sure(np.array([0.0, 4.0])).any()
    assert found.sure_same <= found.threshold < found.sure_different
    draws = list(draw_weights(np.arange(300), np.arange(300), 100, rng))
    shy = learn_decision(d, same, sure_error=0.1, draws=draws)
    assert shy.sure_same is not None and shy.sure_different is not None and shy.sure_same < found.sure_same and shy.sure_different > found.sure_different
    alone = [learn_decision(d, same, sure_error=0.1, draws=[w]).sure_same for w in draws]
    assert sum(edge is not None and edge >= min(shy.sure_same, shy.threshold) for edge in alone) >= 90
    assert np.array_equal(found.sure(d), near | far)


def test_the_interval_covers_the_threshold_and_shrinks_with_more_images() -> None:
    widths = []
    for pairs in (40, 400):
        p = labelled(9, pairs, images=800)
        raw = learn(p, CalibrationConfig(draws=200), metric="raw", seed=0)
        low, high = threshold_interval(p, raw.held_out, CalibrationConfig(draws=200), 0)
        assert low <= raw.decision.threshold <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_more_pairs_are_worth_more() -> None:
    p = labelled(10, 160, images=320)
    rows = learning_curve(p, QUICK, metric="linear", seed=0)
    assert [r["pairs"] for r in rows[:2]] == [10, 20] and rows[-1]["pairs"] > 50
    assert rows[-1]["auc"]["value"] > rows[0]["auc"]["value"]
    for row in rows:
        assert row["auc"]["interval"][0] <= row["auc"]["value"] <= row["auc"]["interval"][1]


def test_pairs_across_the_only_two_patients_cannot_be_scored() -> None:
    p = labelled(11, 40)
    two = dataclasses.replace(p, group=np.arange(len(p.group)) % 2)
    across = two.group[two.a] != two.group[two.b]
    assert across.any() and np.array_equal(nested(two, QUICK, metric="linear", seed=0).scored, ~across)
    assert learn(two, QUICK, metric="linear", seed=0).metric is not None  # inside, images are held out instead
