from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from tacit.errors import InputError
from tacit.report.classes import one_area
from tacit.report.models import HARD, SOFT, beside, with_votes
from tacit.report.paired_tests import area_test, holm, right_test


def scores(rng: np.random.Generator, n: int, step: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two scores with something in common, and the class; step rounds them, so that there are ties."""
    y = rng.random(n) < 0.4
    common = rng.normal(size=n)
    a, b = (y * gain + common + rng.normal(size=n) for gain in (1.0, 0.6))
    return (np.round(a / step) * step, np.round(b / step) * step, y) if step else (a, b, y)


def by_hand(a: np.ndarray, b: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """DeLong 1988, equations 3 to 6 pair by pair: the difference of the areas and its standard error."""
    parts = []
    for score in (a, b):
        psi = np.array([[1.0 if u > v else 0.5 if u == v else 0.0 for v in score[~y]] for u in score[y]])
        parts.append((psi.mean(1), psi.mean(0), psi.mean()))
    m, n = int(y.sum()), int((~y).sum())
    s10, s01 = np.cov(parts[0][0], parts[1][0]), np.cov(parts[0][1], parts[1][1])
    s = s10 / m + s01 / n
    return float(parts[1][2] - parts[0][2]), float(np.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1]))


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_delong_is_what_pairs_counted_one_by_one_say(step: float) -> None:
    for seed in range(5):
        a, b, y = scores(np.random.default_rng(seed), 60, step)
        found = area_test(a, b, y, np.arange(60))
        difference, se = by_hand(a, b, y)
        assert found.difference == pytest.approx(difference, abs=1e-12) and found.se == pytest.approx(se, rel=1e-9)
        assert found.difference == pytest.approx(one_area(b, y) - one_area(a, y), abs=1e-12)
        assert found.p == pytest.approx(2 * (1 - norm.cdf(abs(difference) / se)), rel=1e-6)


def test_copies_of_a_patients_cases_make_nothing_surer() -> None:
    a, b, y = scores(np.random.default_rng(1), 50)
    once = area_test(a, b, y, np.arange(50))
    thrice = area_test(np.tile(a, 3), np.tile(b, 3), np.tile(y, 3), np.tile(np.arange(50), 3))
    assert (thrice.difference, thrice.se, thrice.p) == pytest.approx((once.difference, once.se, once.p))
    assert area_test(np.tile(a, 3), np.tile(b, 3), np.tile(y, 3), np.arange(150)).se < 0.7 * once.se  # as it would be for so many patients
    right_a, right_b = (a > 0) == y, (b > 0.3) == y
    assert right_test(np.tile(right_a, 3), np.tile(right_b, 3), np.tile(np.arange(50), 3)) == right_test(right_a, right_b, np.arange(50))


def test_the_error_of_patients_with_cases_on_both_sides_is_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(80), 4)
    y = rng.random(320) < 0.5
    own = rng.normal(size=80)[patients]
    a, b = y + own + rng.normal(size=320), 0.5 * y + 2 * rng.normal(size=320)
    found = area_test(a, b, y, patients)
    rows = [np.flatnonzero(patients == g) for g in range(80)]
    drawn = []
    for _ in range(600):
        d = np.concatenate([rows[g] for g in rng.integers(0, 80, 80)])
        drawn.append(one_area(b[d], y[d]) - one_area(a[d], y[d]))
    assert found.se == pytest.approx(np.std(drawn), rel=0.12)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    p_area, p_right = [], []
    for seed in range(300):
        rng = np.random.default_rng([3, seed])
        y = rng.random(60) < 0.5
        a, b = (y + rng.normal(size=60) for _ in range(2))
        p_area.append(area_test(a, b, y, np.arange(60)).p)
        p_right.append(right_test((a > 0.5) == y, (b > 0.5) == y, np.arange(60))[2])
    assert 0.02 < np.mean(np.array(p_area) < 0.05) < 0.09 and 0.4 < np.mean(p_area) < 0.6
    assert np.mean(np.array(p_right) < 0.05) < 0.08  # exact: never too often


def test_mcnemar_is_exact() -> None:
    a, b = np.array([1] * 9 + [0] * 2 + [1] * 20, bool), np.array([0] * 9 + [1] * 2 + [1] * 20, bool)
    assert right_test(a, b, np.arange(31)) == (9, 2, pytest.approx(binomtest(2, 11, 0.5).pvalue))
    flips = [sum(signs) for signs in itertools.product((1, -1), repeat=11)]  # every way in which they might have fallen
    assert right_test(a, b, np.arange(31))[2] == pytest.approx(np.mean(np.abs(flips) >= 7))
    assert right_test(a, a, np.arange(31)) == (0, 0, 1.0)


def test_what_cannot_be_tested_is_said() -> None:
    a = np.array([0.1, 0.9, 0.8])
    with pytest.raises(InputError, match="3 of 3"):
        area_test(a, a, np.ones(3, bool), np.arange(3))
    assert np.isnan(area_test(a, a[::-1], np.array([True, False, False]), np.arange(3)).p)  # one patient of a class
    same = area_test(np.r_[a, 0.3], np.r_[a, 0.3], np.array([True, False, True, False]), np.arange(4))
    assert (same.difference, same.p) == (0.0, 1.0)


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    p = np.random.default_rng(4).random(7) ** 3
    subsets = [list(c) for size in range(1, 8) for c in itertools.combinations(range(7), size)]
    closed = [max(min(len(s) * min(p[s]), 1.0) for s in subsets if i in s) for i in range(7)]
    assert holm(list(p)) == pytest.approx(closed)
    found = holm([0.02, float("nan"), 0.03])
    assert found[0] == pytest.approx(0.04) and np.isnan(found[1]) and found[2] == pytest.approx(0.04)


def test_votes() -> None:
    models = {name: np.array(p) for name, p in {"a": [[0.9, 0.1], [0.6, 0.4]], "b": [[0.4, 0.6], [0.1, 0.9]], "c": [[0.4, 0.6], [0.7, 0.3]]}.items()}
    found = with_votes(models)
    assert np.allclose(found[SOFT], [[1.7 / 3, 1.3 / 3], [1.4 / 3, 1.6 / 3]]) and np.allclose(found[HARD], [[1 / 3, 2 / 3], [2 / 3, 1 / 3]])
    tied = with_votes({k: models[k] for k in "ab"})[HARD]
    assert np.allclose(tied, 0.5) and tied.argmax(1).tolist() == [0, 1]  # named by the larger mean


def test_gains_are_paired() -> None:
    rng = np.random.default_rng(5)
    y = (rng.random(200) < 0.5).astype(np.int64)
    one = 1 / (1 + np.exp(-(2 * y - 1 + 1.5 * rng.normal(size=200))))
    other = np.clip(one + 0.02 * (2 * y - 1), 0, 1)  # a little better on every case
    figures, gains = beside({"x": np.stack([1 - one, one], 1), "y": np.stack([1 - other, other], 1)}, y, ("no", "yes"), np.arange(200))
    (gain,) = gains
    assert gain["auc"] == pytest.approx(figures["y"]["auc"] - figures["x"]["auc"], abs=2e-4) and gain["auc_interval"][0] > 0 and gain["delong_p"] < 0.01
    wide = figures["y"]["interval"]["auc"]
    assert gain["auc_interval"][1] - gain["auc_interval"][0] < 0.5 * (wide[1] - wide[0])  # as no interval of the two alone could say
    assert gain["patients_first_better"] == 0 and gain["mcnemar_p_holm"] == gain["mcnemar_p"]
    for row in figures["x"]["classes"]:
        assert row["f1_interval"][0] < row["f1"] < row["f1_interval"][1]
