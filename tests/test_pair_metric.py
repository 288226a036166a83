"""The metric from few pairs: closed forms, few pairs, many features."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.learn.pair_metric import PairMetric, distances, find_ground, fit_metric, unit, vectors
from tacit.report.pair_score import area

Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def two_kinds(seed: int, pairs: int, *, images: int = 120, features: int = 20, nuisance: float = 2.0) -> Case:
    """Images of two kinds whose difference lies in one direction of many, under nuisance in others: features, kind, a, b, same."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, images)
    mixing = rng.normal(size=(3, features))
    x = rng.normal(size=(images, features)) + nuisance * rng.normal(size=(images, 3)) @ mixing
    x[:, :4] += 2.4 * kind[:, None]
    a, b = rng.integers(0, images, (2, 4 * pairs))
    other = np.flatnonzero(a != b)[:pairs]
    a, b = a[other], b[other]
    return x, kind, a, b, kind[a] == kind[b]


def fitted(x: np.ndarray, a: np.ndarray, b: np.ndarray, same: np.ndarray, shrinkage: float = 0.3, dims: int = 64) -> PairMetric:
    seen = np.unique(np.r_[a, b])
    ground = find_ground(x[seen], dims)
    return fit_metric(ground(x), a, b, same, shrinkage=shrinkage).after(ground)


def test_distances_are_two_less_twice_the_cosine() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 7))
    a, b = np.arange(9), np.arange(1, 10)
    cosine = [float(x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])) for i, j in zip(a, b)]
    assert distances(vectors(x, None), a, b) == pytest.approx(2 - 2 * np.array(cosine))
    assert pytest.approx(0.705) == 2 - 2 * 0.6475  # the report's threshold


def test_the_whitening_is_the_inverse_covariance_inside_same_pairs() -> None:
    rng = np.random.default_rng(1)
    spread = rng.normal(size=(5, 5))
    centres = 4 * rng.normal(size=(40_000, 5))
    x = np.concatenate([centres + rng.normal(size=(40_000, 5)) @ spread, centres + rng.normal(size=(40_000, 5)) @ spread])
    a, b = np.arange(40_000), np.arange(40_000, 80_000)
    a, b, same = np.r_[a, a[:-1]], np.r_[b, b[1:]], np.arange(79_999) < 40_000
    metric = fit_metric(x, a, b, same, shrinkage=0.0)
    difference = x[a[same]] - x[b[same]]
    assert metric.white @ metric.white.T == pytest.approx(np.linalg.inv(difference.T @ difference / 40_000), rel=1e-6)  # of this sample
    assert metric.white @ metric.white.T == pytest.approx(np.linalg.inv(2 * spread.T @ spread), rel=0.06, abs=0.01)  # of the normal law
    round_one = fit_metric(x, a, b, same, shrinkage=1.0)
    gram = round_one.white @ round_one.white.T
    assert gram == pytest.approx(gram[0, 0] * np.eye(5), abs=1e-9)


def test_what_is_kept_is_the_positive_part_of_the_difference_of_mean_products() -> None:
    x, _, a, b, same = two_kinds(2, 60, features=6)
    metric = fit_metric(x, a, b, same, shrinkage=0.2)
    u = unit(x @ metric.white)
    slow = np.zeros((6, 6))
    for i, j, s in zip(a, b, same):
        product = (np.outer(u[i], u[j]) + np.outer(u[j], u[i])) / 2
        slow += product / same.sum() if s else -product / (~same).sum()
    values, axes = np.linalg.eigh(slow)
    assert metric.kept @ metric.kept.T == pytest.approx(axes @ np.diag(np.maximum(values, 0)) @ axes.T, abs=1e-9)


@pytest.mark.parametrize(("pairs", "least"), [(20, 0.12), (60, 0.25), (200, 0.35)])
def test_few_pairs_find_what_raw_distances_do_not_show(pairs: int, least: float) -> None:
    gains = []
    for seed in range(5):
        x, kind, a, b, same = two_kinds(seed, pairs, images=500)
        metric = fitted(x, a, b, same)
        i, j = np.random.default_rng(99).integers(0, 500, (2, 3000))
        new = (i != j) & ~np.isin(i, np.r_[a, b]) & ~np.isin(j, np.r_[a, b])
        i, j = i[new], j[new]
        truth = kind[i] == kind[j]
        gains.append(area(distances(vectors(x, metric), i, j), truth) - area(distances(vectors(x, None), i, j), truth))
    assert np.mean(gains) > least


@pytest.mark.parametrize("features", [3, 2000])
def test_twenty_pairs_are_enough_for_any_number_of_features(features: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, features)) * np.geomspace(1e-6, 1e6, features)
    x[:, 0] = 7.0  # never varies
    a, b = np.arange(20), np.arange(20, 40)
    metric = fitted(x, a, b, np.arange(20) < 2)
    found = distances(vectors(x, metric), a, b)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 4
    assert np.array_equal(found, distances(vectors(x, fitted(x, a, b, np.arange(20) < 2)), a, b))


def test_images_that_are_all_alike_have_no_distance() -> None:
    x = np.ones((12, 5))
    metric = fitted(x, np.arange(6), np.arange(6, 12), np.arange(6) < 3)
    assert np.array_equal(distances(vectors(x, metric), np.arange(6), np.arange(6, 12)), np.zeros(6))


def test_the_ground_is_standardised_and_its_axes_are_uncorrelated() -> None:
    for n, p in ((50, 8), (10, 40)):  # more images than features, and fewer
        x = np.random.default_rng(5).normal(size=(n, p)) * np.arange(1, p + 1)
        z = find_ground(x, 6)(x)
        covariance = z.T @ z / n
        assert z.shape == (n, 6) and covariance == pytest.approx(np.diag(np.diag(covariance)), abs=1e-9)
        standard = (x - x.mean(0)) / x.std(0)
        assert np.diag(covariance) == pytest.approx(np.sort(np.linalg.eigvalsh(standard.T @ standard / n))[::-1][:6])
