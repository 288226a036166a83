"""The lesion network and what is counted from its maps, on drawn patients: seconds, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tacit.config import build
from tacit.image import Image
from tacit.learn.lesion_features import COLUMNS, NAMES, SERIES_COLUMNS, series_features, slice_features
from tacit.learn.lesion_lessons import LUNG, OUTSIDE, LesionLesson, LesionViewConfig, drawn_lesson, lesion_batches, lesson_of
from tacit.learn.lesion_taught import LesionTaught, LesionTaughtConfig
from tacit.learn.pooling import fit_pool, pooled, pooled_out_of_fold
from tacit.learn.temperature import fit_temperature, negative_log_likelihood, warmed
from tacit.learn.workshop import Workshop
from tacit.phantom import ct
from tacit.phantom.ct_config import CtConfig
from tacit.phantom.ct_lesion import CONSOLIDATION
from tacit.prepare.lung import find_lungs
from tacit.prepare.lung_hull import hulls
from tacit.prepare.steps import SERIES, apply, recipe
from tacit.use.draw_ct import image_of
from tacit.use.taught import SHIPPED, taught, weights_file

TINY = {
    "ct": {"matrix": 64, "slice_mm": [8.0, 9.0]},
    "patients": 2,
    "side": 32,
    "network": {"width": 8, "depth": 2},
    "train": {"epochs": 1, "steps": 3, "batch": 4},
}
SMALL = CtConfig(matrix=96, slice_mm=(4.5, 5.0))


@pytest.fixture(scope="module")
def cap() -> ct.Scan:
    return ct.draw_scan(np.random.default_rng([3, 1]), label="CAP", config=SMALL)


@pytest.fixture(scope="module")
def lessons() -> list[LesionLesson]:
    return [drawn_lesson(SMALL, 0, index) for index in range(2)]


def test_a_lesson_is_prepared_as_the_verb_prepares_a_volume(cap: ct.Scan) -> None:
    lesson = lesson_of(image_of(cap), cap.lungs, cap.lesions)
    assert np.array_equal(lesson.stack, apply(image_of(cap), recipe(SERIES)).pixels)
    assert lesson.truth.shape == lesson.stack.shape and lesson.truth.dtype == np.uint8
    assert set(np.unique(lesson.truth)) == {OUTSIDE, LUNG, 1 + CONSOLIDATION}


def test_truth_lies_where_the_lesion_is_seen(cap: ct.Scan) -> None:
    """A lesion drawn as a block of one density is found again by its grey level alone."""
    hu = np.where(cap.lungs > 0, -850, np.minimum(cap.hu, -400)).astype(np.int16)
    hu[:2] = 200  # so that it reads as a chest
    hu[cap.lesions > 0] = 500
    lesson = lesson_of(Image(hu, "dhw", cap.grid.spacing_mm, "given", "ct", None, (), cap.grid.affine), cap.lungs, cap.lesions)
    bright = lesson.stack > 200  # of 255: between −400 and 500 HU
    sick = lesson.truth >= 2
    assert sick.any() and 2 * (bright & sick).sum() / (bright.sum() + sick.sum()) > 0.85


def test_the_hull_keeps_a_consolidation_that_the_lungs_lose(cap: ct.Scan) -> None:
    mask = find_lungs(image_of(cap)).mask
    around = hulls(mask, cap.grid.spacing_mm[1:])
    sick = cap.lesions > 0
    assert (mask[sick] > 0).mean() < 0.6 < 0.97 < around[sick].mean()
    assert around[mask > 0].all() and around.sum() < 2.5 * (mask > 0).sum()
    assert not hulls(np.zeros_like(mask), (2.0, 2.0)).any()


def test_a_batch_is_a_pure_function_of_its_step(lessons: list[LesionLesson]) -> None:
    batches = lesion_batches(lessons, 6, 48, LesionViewConfig(), 0)
    one, again, other = batches(3), batches(3), batches(4)
    assert one["x"].shape == (6, 3, 48, 48) and one["target"].shape == (6, 48, 48) and one["x"].dtype == torch.float32
    assert torch.equal(one["x"], again["x"]) and torch.equal(one["target"], again["target"]) and not torch.equal(one["x"], other["x"])
    all_sick = lesion_batches(lessons, 8, 48, LesionViewConfig(sick=1.0, shift=0.0, zoom=0.0), 0)(0)
    assert (all_sick["target"] >= 2).flatten(1).any(1).float().mean() > 0.8  # a small focus may fall between the pixels of a small view


def test_a_view_without_change_is_the_slice(lessons: list[LesionLesson]) -> None:
    still = LesionViewConfig(zoom=0.0, stretch=0.0, turn=0.0, shift=0.0, contrast=0.0, light=0.0, noise=(0.0, 0.0), sick=0.0)
    batch = lesion_batches(lessons[:1], 8, lessons[0].stack.shape[1], still, 0)(0)
    for x, target in zip(batch["x"].numpy(), batch["target"].numpy(), strict=True):
        found = [
            any(
                np.array_equal(target, turn(lessons[0].truth[s])) and np.abs(x[1] * 255 - turn(lessons[0].stack[s])).max() < 0.6
                for turn in (np.asarray, np.fliplr)
            )
            for s in range(len(lessons[0].stack))
        ]
        assert any(found)


def test_it_learns_draws_alone_and_is_a_pure_function_of_settings_and_seed(tmp_path: Path) -> None:
    config = build(LesionTaughtConfig, TINY)
    a = LesionTaught(config).fit(Workshop(0, folder=tmp_path / "a"))
    b = LesionTaught(config).fit(Workshop(0))
    c = LesionTaught(config).fit(Workshop(1))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.state_dict().values(), c.state_dict().values(), strict=True))
    again = LesionTaught(config).fit(Workshop(0, folder=tmp_path / "a"))  # finished before: nothing is drawn
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), again.state_dict().values(), strict=True))


def test_answers_have_the_shapes_and_ranges_that_are_promised(lessons: list[LesionLesson]) -> None:
    torch.manual_seed(0)
    network = LesionTaught(build(LesionTaughtConfig, TINY)).eval()
    for stack in (lessons[0].stack[:5], lessons[0].stack[:1], np.full((2, 60, 90), 42, np.uint8)):
        p, maps, table = network.probability(stack), network.maps(stack), network.features(stack)
        assert p.shape == (len(stack), 4, *stack.shape[1:]) and p.dtype == np.float32 and p.min() >= 0 and p.sum(1).max() <= 1 + 1e-5
        assert maps.shape == stack.shape and maps.dtype == np.float32 and np.allclose(maps, p[:, 1:].sum(1), atol=1e-4)
        assert table.shape == (len(stack), len(COLUMNS)) and table.dtype == np.float32 and np.isfinite(table).all()
        assert series_features(table).shape == (len(SERIES_COLUMNS),) and np.isfinite(series_features(table)).all()


def planes(foci: list[tuple[int, int, int, int]], slices: int = 12, side: int = 64) -> np.ndarray:
    """p (s, 4, h, w) of two lungs with square foci (kind, first slice, row, column), 8 px and 3 slices each."""
    p = np.zeros((slices, 4, side, side), np.float32)
    p[:, 0, 10:54, 6:28] = p[:, 0, 10:54, 36:58] = 1
    for kind, first, row, col in foci:
        p[first : first + 3, 0, row : row + 8, col : col + 8] = 0
        p[first : first + 3, kind, row : row + 8, col : col + 8] = 1
    return p


def test_features_say_how_much_of_which_kind_and_where() -> None:
    many = slice_features(planes([(1, 2, 40, 6), (1, 2, 12, 50), (1, 7, 44, 50)]))
    at = dict(zip(COLUMNS, many[2], strict=True))
    lung = 2 * 44 * 22
    assert at["lung"] == pytest.approx(lung / 64**2) and at["height"] == pytest.approx(2 / 11)
    assert at["share_ground_glass"] == pytest.approx(np.sqrt(128 / lung)) and at["share_consolidation"] == 0 and at["peak_ground_glass"] == pytest.approx(1)
    assert at["one_side"] == at["other_side"] == pytest.approx(np.sqrt(64 / lung)) and at["foci"] == 2
    assert 0 < at["depth"] < 0.5 and at["back"] == pytest.approx(((43.5 + 15.5) / 2 - 10) / 43)
    assert dict(zip(COLUMNS, many[0], strict=True))["foci"] == 0
    whole = dict(zip(SERIES_COLUMNS, series_features(many), strict=True))
    assert whole["volume_ground_glass"] == pytest.approx(np.sqrt(3 * 192 / (12 * lung))) and whole["runs"] == 3 and whole["longest"] == pytest.approx(3 / 12)
    assert whole["lesser_side"] == pytest.approx(np.sqrt(3 * 64 / (12 * lung))) and whole["foci"] == 2
    one = dict(zip(SERIES_COLUMNS, series_features(slice_features(planes([(2, 4, 20, 40)]))), strict=True))
    assert one["lesser_side"] == 0 and one["runs"] == 1 and one["volume_consolidation"] > 0 == one["volume_ground_glass"] and one["sure_consolidation"] == 1
    none = dict(zip(SERIES_COLUMNS, series_features(slice_features(planes([]))), strict=True))
    assert none["runs"] == none["volume_ground_glass"] == none["sure_consolidation"] == 0 and len(NAMES) == 3
    empty = slice_features(np.zeros((3, 4, 32, 32), np.float32))
    assert np.isfinite(empty).all() and np.isfinite(series_features(empty)).all()


def test_a_pool_believes_the_witness_who_knows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 120)
    knows = 0.15 + 0.55 * np.eye(3)[np.where(rng.random(120) < 0.9, labels, rng.integers(0, 3, 120))]
    knows /= knows.sum(1, keepdims=True)
    guesses = rng.dirichlet(np.ones(3), 120)
    p = np.stack([guesses, knows])
    weights = fit_pool(p, labels)
    assert weights.shape == (2,) and weights[1] > 1 > 0.3 > weights[0] >= 0
    mean = negative_log_likelihood(p.mean(0), labels)
    parts = [(np.flatnonzero(np.arange(120) % 4 != k), np.flatnonzero(np.arange(120) % 4 == k)) for k in range(4)]
    found = pooled_out_of_fold(p, labels, parts)
    assert np.allclose(found.sum(1), 1) and negative_log_likelihood(found, labels) < 0.8 * mean
    other = labels.copy()
    other[parts[0][1]] = (other[parts[0][1]] + 1) % 3  # the held-out labels decide nothing about their own answers
    assert np.array_equal(pooled_out_of_fold(p, other, parts)[parts[0][1]], found[parts[0][1]])
    alone = knows[None]
    assert np.array_equal(pooled_out_of_fold(alone, other, parts)[parts[0][1]], pooled_out_of_fold(alone, labels, parts)[parts[0][1]])  # one witness, too
    assert np.allclose(pooled(alone, fit_pool(alone, labels)), warmed(knows, fit_temperature(knows, labels)))


def test_the_weights_come_with_tacit_and_mark_a_lesion_of_a_fresh_patient() -> None:
    network = taught("lesions")
    assert (SHIPPED / weights_file("lesions", network.config, 0)).is_file()
    one = ct.draw_scan(np.random.default_rng([78, 2]), label="CAP", split="fresh")
    lesson = lesson_of(image_of(one), one.lungs, one.lesions)
    maps = network.maps(lesson.stack)
    assert lesson.truth[np.unravel_index(int(maps.argmax()), maps.shape)] >= 2
    well = ct.draw_scan(np.random.default_rng([78, 3]), label="normal", split="fresh")
    quiet = series_features(network.features(apply(image_of(well), recipe(SERIES)).pixels))
    sick = series_features(network.features(lesson.stack))
    name = SERIES_COLUMNS.index("volume_consolidation")
    assert sick[name] > 2 * quiet[name]
