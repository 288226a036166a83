"""Figures of a distance, against scikit-learn and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from tacit.errors import InputError
from tacit.report.pair_score import area, best_threshold, equal_error, errors_at, thresholds


def drawn(seed: int, n: int = 60, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.4
    distance = rng.normal(np.where(same, 0.8, 1.2), 0.4)
    return np.round(distance, 1) if ties else distance, same, rng.integers(0, 4, n).astype(float)


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_and_its_area_equal_scikit_learns(seed: int) -> None:
    distance, same, weight = drawn(seed)
    for w in (None, weight):
        assert area(distance, same, w) == pytest.approx(roc_auc_score(same, -distance, sample_weight=w))
        false_same, true_same, _ = roc_curve(same, -distance, sample_weight=w, drop_intermediate=False)
        ours = thresholds(distance, same, w)
        assert set(zip(ours.false_same.round(9), (1 - ours.false_different).round(9))) == set(zip(false_same.round(9), true_same.round(9)))


def test_a_weight_is_a_pair_counted_so_often() -> None:
    distance, same, weight = drawn(3)
    times = weight.astype(int)
    d, s = np.repeat(distance, times), np.repeat(same, times)
    for figure in (area, best_threshold, equal_error):
        assert figure(distance, same, weight) == pytest.approx(figure(d, s))
    assert errors_at(distance < 1, same, weight) == pytest.approx(errors_at(d < 1, s))


@pytest.mark.parametrize("apart", [0.5, 1.0, 2.0])
def test_the_equal_error_of_two_normal_kinds_is_the_closed_form(apart: float) -> None:
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    rate, threshold = equal_error(np.r_[quantiles, quantiles + apart], np.arange(8000) < 4000)
    assert rate == pytest.approx(norm.cdf(-apart / 2), abs=1e-3) and threshold == pytest.approx(apart / 2, abs=5e-3)


def test_kinds_that_lie_apart_are_parted_in_the_middle() -> None:
    distance, same = np.array([0.1, 0.2, 0.6, 0.9]), np.array([True, True, False, False])
    assert equal_error(distance, same) == (0.0, pytest.approx(0.4))
    assert best_threshold(distance, same) == (1.0, pytest.approx(0.4))
    assert area(distance, same) == 1


def test_the_best_threshold_is_no_worse_than_any() -> None:
    distance, same, weight = drawn(5, ties=False)
    best, at = best_threshold(distance, same, weight)
    tried = [errors_at(distance <= t, same, weight)["accuracy"] for t in np.linspace(-1, 3, 2001)]
    assert best == pytest.approx(max(tried)) and errors_at(distance <= at, same, weight)["accuracy"] == pytest.approx(best)


def test_one_kind_alone_has_no_rates() -> None:
    assert np.isnan(area(np.array([0.1, 0.2]), np.array([True, True])))
    assert np.isnan(equal_error(np.array([0.1, 0.2]), np.array([False, False]))[0])
    with pytest.raises(InputError, match="finite"):
        thresholds(np.array([np.nan]), np.array([True]))
