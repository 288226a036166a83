"""Drawn fundus photographs: exact truth, a pure function of the generator, vessels as they are built."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tacit.phantom import generator
from tacit.phantom.fundus import CHANNELS, FundusConfig, draw
from tacit.phantom.vessel_tree import Habit, grow

CALM = {"distractors": 0.0, "noise": (0.0, 0.0), "patchy": (0.0, 0.0), "reflex": 0.0, "contrast": (0.4, 0.4)}


def one(seed: int, shape: tuple[int, int] = (270, 270), background: np.ndarray | None = None, **changes: object):
    return draw(np.random.default_rng(seed), shape, None, FundusConfig(**changes), background=background)


def flat(side: int = 270, level: int = 128) -> np.ndarray:
    rows, cols = np.ogrid[:side, :side]
    inside = np.hypot(rows - side / 2, cols - side / 2) < side / 2 - 4
    return np.where(inside[..., None], level, 0).repeat(3, -1).astype(np.uint8)


def test_a_drawing_is_a_pure_function_of_its_generator() -> None:
    np.random.seed(1)
    a = one(3)
    np.random.seed(2)
    b = one(3)
    assert (a.picture == b.picture).all() and (a.labels == b.labels).all() and a.parameters == b.parameters
    assert (one(4).picture != a.picture).any()


@pytest.mark.parametrize("shape", [(96, 96), (150, 301), (300, 151)])
def test_any_size(shape: tuple[int, int]) -> None:
    d = one(1, shape)
    assert d.picture.shape == (*shape, 3) and d.picture.dtype == np.uint8 and d.labels.shape == shape and d.labels.dtype == np.int32
    assert all(np.isfinite(v) for v in d.parameters.values())


def test_labels_count_trees_without_gaps_and_parameters_tell_the_truth() -> None:
    for seed in range(6):
        d = one(seed)
        assert (np.unique(d.labels) == np.arange(d.labels.max() + 1)).all() and d.parameters["trees"] == d.labels.max() > 0
        field = d.picture.any(-1)
        assert not (d.labels > 0)[~field].any()
        assert d.parameters["share"] == pytest.approx((d.labels > 0).sum() / field.sum(), rel=0.02)


def test_on_a_flat_ground_the_truth_is_exactly_what_was_darkened() -> None:
    """Nothing but vessels changes an even retina: every dark pixel lies on the mask or within its blur, every pixel of the mask is darker."""
    ground = flat()
    d = one(5, background=ground, **CALM, soft=(0.2, 0.2), wall=(0.8, 0.8), thin=(1.0, 1.0), artery=(1.0, 1.0))
    inside = ground.any(-1)
    darkened = (d.picture[..., 1] < 126) & inside
    mask = d.labels > 0
    assert mask[inside].mean() > 0.03 and darkened[mask].mean() > 0.99
    assert not darkened[inside & (cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)].any()
    deep = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    drop = 1 - d.picture[deep].astype(float) / 128
    assert np.median(drop[:, 0]) / np.median(drop[:, 1]) == pytest.approx(float(CHANNELS[0]), abs=0.08)


def test_the_contrast_that_is_asked_for_is_drawn() -> None:
    for contrast in (0.15, 0.45):
        d = one(2, background=flat(), **CALM | {"contrast": (contrast, contrast)}, thin=(1.0, 1.0), artery=(1.0, 1.0), wall=(1.0, 1.0), soft=(0.2, 0.2))
        wide = cv2.erode((d.labels > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        assert 1 - np.median(d.picture[..., 1][wide]) / 128 == pytest.approx(contrast, abs=0.06)


def test_the_wanted_share_bounds_what_is_covered_and_the_thinnest_go_first() -> None:
    few, many = (one(7, share=(s, s)) for s in (0.04, 0.2))
    assert few.parameters["share"] < 0.07 < many.parameters["share"]
    widest = [cv2.distanceTransform((d.labels > 0).astype(np.uint8), cv2.DIST_L2, 5).max() for d in (few, many)]
    assert widest[0] == pytest.approx(widest[1], rel=0.4)


def test_vessels_grow_thin_by_murrays_law_and_never_grow_wider() -> None:
    habit = Habit(bend=0.01, most_bend=0.05, parting=8.0, taper=0.0, least=1.0, asymmetry=0.8, spread=1.0)
    branches = grow(np.random.default_rng(0), np.array([270.0, 270.0]), 0.3, 6.0, habit, 1, True, 540.0)
    assert len(branches) > 20 and all((np.diff(b.widths) <= 1e-9).all() for b in branches)
    starts = {tuple(np.round(b.points[0], 6)): [] for b in branches}
    for b in branches:
        starts[tuple(np.round(b.points[0], 6))].append(b.widths[0])
    parted = 0
    for b in branches:
        children = starts.get(tuple(np.round(b.points[-1], 6)), [])
        if len(children) == 2:
            assert sum(w**3 for w in children) == pytest.approx(b.widths[-1] ** 3)
            parted += 1
    assert parted > 5
    steps = np.concatenate([np.hypot(*np.diff(b.points, axis=0).T) for b in branches])
    assert steps == pytest.approx(3.0)
    turns = np.concatenate([np.diff(np.unwrap(np.arctan2(*np.diff(b.points, axis=0).T))) for b in branches if len(b.points) > 3])
    assert np.abs(turns).max() <= 0.05 + 1e-9


def test_it_is_a_generator_like_the_others() -> None:
    module = generator("fundus")
    assert module.CLASSES == ("vessel",) and module.CONFIG is FundusConfig
    d = module.draw(np.random.default_rng(0), (120, 120), 1.0, FundusConfig(), stains=None)
    assert (d.labels > 0).any()
