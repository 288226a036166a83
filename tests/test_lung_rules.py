"""Lungs by rule and by mixture: on drawings, and against a slow plain version."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tacit.learn.classical.lung_mixture import LungMixture, LungMixtureConfig, posterior, two_ellipses
from tacit.learn.classical.lung_rule import STEPS, LungRule, LungRuleConfig, below_two_means, lungs_by_rule, outer_hull
from tacit.learn.workshop import Workshop
from tacit.phantom.chest import ChestConfig, draw
from tacit.prepare.radiograph import chest_frame

CLEAR = ChestConfig(opacity=0.0, noise=(0.0, 0.004), frame=0.0, tubes=0.0, lung=(0.05, 0.15), shading=(0.0, 0.05), rib=(0.03, 0.1))


def clear(seed: int):
    return draw(np.random.default_rng([9, seed]), (128, 128), config=CLEAR)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_every_step_of_the_rule_comes_nearer_to_drawn_lungs() -> None:
    found = {s: [] for s in STEPS}
    for seed in range(12):
        d = clear(seed)
        for step in STEPS:
            found[step].append(dice(lungs_by_rule(chest_frame(d.picture, 128), LungRuleConfig(steps=step)), d.planes[0] > 0))
    means = [float(np.mean(found[s])) for s in STEPS]
    assert means[1] > means[0] + 0.1 and means[2] > means[1] and means[3] > 0.8


def test_air_outside_that_a_thin_bridge_joins_to_a_lung_is_left_out() -> None:
    rows, cols = np.mgrid[:128, :128]
    lungs = np.minimum(np.hypot((rows - 64) / 38, (cols - 38) / 18), np.hypot((rows - 64) / 38, (cols - 90) / 18)) < 1
    outside = (cols < 8) | (cols > 119) | (rows < 6)
    bridge = (rows > 60) & (rows < 64) & (cols < 25)
    ranks = np.where(lungs | outside | bridge, 40, 200).astype(np.uint8)
    found = lungs_by_rule(ranks, LungRuleConfig(steps="inside"))
    assert dice(found, lungs) > 0.97 and not (found & outside).any()


def test_two_means_against_sklearn() -> None:
    from sklearn.cluster import KMeans

    values = np.concatenate([np.random.default_rng(0).normal(0, 1, 300), np.random.default_rng(1).normal(6, 2, 500)]).astype(np.float32)
    labels = KMeans(2, n_init=5, random_state=0).fit_predict(values[:, None])
    low = labels == labels[values.argmin()]
    assert (below_two_means(values) == low).mean() > 0.995
    assert not below_two_means(np.zeros(5, np.float32)).any()


def test_the_hull_fills_bites_of_the_outer_side_only() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 8:30] = True
    bitten = mask.copy()
    bitten[20:30, 8:14] = False  # by a rib
    bitten[30:50, 24:30] = False  # by the heart
    filled = outer_hull(bitten)
    assert filled[20:30, 8:14].all() and not filled[32:50, 25:30].any()
    mirrored = outer_hull(bitten[:, ::-1])
    assert (mirrored[:, ::-1] == filled).all()


def test_the_mixtures_em_equals_a_slow_plain_version() -> None:
    rng = np.random.default_rng(0)
    x, prior = rng.standard_normal((2, 5, 6)).astype(np.float32), rng.random((3, 5, 6)).astype(np.float32) + 0.1
    prior /= prior.sum(0)
    beta, steps = 0.7, 3
    r = [[float(prior[k, i, j]) for i in range(5) for j in range(6)] for k in range(3)]
    pixels = [[float(x[f, i, j]) for f in range(2)] for i in range(5) for j in range(6)]
    base = [list(row) for row in r]
    for _ in range(steps):
        means = [[sum(w * p[f] for w, p in zip(r[k], pixels)) / sum(r[k]) for f in range(2)] for k in range(3)]
        spreads = [[max(sum(w * (p[f] - means[k][f]) ** 2 for w, p in zip(r[k], pixels)) / sum(r[k]), 0.05) for f in range(2)] for k in range(3)]
        for n, p in enumerate(pixels):
            like = [
                base[k][n] ** beta * math.prod(math.exp(-((p[f] - means[k][f]) ** 2) / (2 * spreads[k][f])) / math.sqrt(spreads[k][f]) for f in range(2))
                for k in range(3)
            ]
            for k in range(3):
                r[k][n] = like[k] / sum(like)
    assert np.allclose(posterior(x, prior, beta, steps).reshape(3, -1), np.array(r), atol=1e-5)


def test_the_mixture_finds_drawn_lungs_better_than_its_ellipses() -> None:
    drawings = [clear(s) for s in range(10)]
    method = LungMixture(LungMixtureConfig(side=64))
    method.fit([method.working(d.picture) for d in drawings], Workshop())
    start = two_ellipses(128)[0] > 0.5
    found = [dice(method.probability(d.picture)[0] > 0.5, d.planes[0] > 0) for d in drawings]
    assert np.mean(found) > np.mean([dice(start, d.planes[0] > 0) for d in drawings]) + 0.05


@pytest.mark.parametrize("kind", [LungRule, LungMixture])
def test_the_seat(kind: type) -> None:
    method = kind()
    small = [method.working(clear(s).picture) for s in range(3)]
    assert method.fit(small, Workshop()) is method
    again = kind().fit(small, Workshop())
    assert all(torch.equal(a, b) for a, b in zip(method.state_dict().values(), again.state_dict().values(), strict=True))
    picture = draw(np.random.default_rng(0), (97, 150)).picture
    p = method.probability(picture)
    assert p.shape == (len(kind.CLASSES), 97, 150) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 and np.isfinite(p).all()
    kind().fit([], Workshop()).probability(picture)
