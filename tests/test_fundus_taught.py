"""The network taught by drawn vessels: beats its floor on drawings, takes any input or refuses it by name, sees no truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tacit.config import build, parse_assignments
from tacit.errors import ConfigError, InputError, TacitError
from tacit.learn.classical.vessel_filters import VesselFilters, VesselFiltersConfig
from tacit.learn.fundus_taught import FundusTaught, FundusTaughtConfig, draw_lessons, lesson_of, plane_of
from tacit.learn.lessons import seen
from tacit.learn.predict import mean_probability
from tacit.learn.structures import FAST, STRUCTURES
from tacit.learn.vessel_free import candidate_contrast, vessel_free
from tacit.learn.workshop import Workshop
from tacit.parts.train import TrainConfig, fit
from tacit.phantom.fundus import FundusConfig, draw
from tacit.prepare.frame import even_light, field_of
from tacit.use.model import load_model, save_model

TINY = [  # the smallest run that still does every step
    "diameter=128",
    "draw.pictures=4",
    "network.width=4",
    "network.depth=2",
    "crop.size=32",
    "adapt.rounds=1",
    "train.epochs=1",
    "train.steps=3",
    "train.batch=4",
    "student.epochs=1",
    "student.steps=3",
    "student.batch=4",
]


def made(*changes: str) -> FundusTaught:
    torch.manual_seed(0)
    return FundusTaught(build(FundusTaughtConfig, parse_assignments([*TINY, *changes])))


def photographs(count: int = 3, side: int = 150, seed: int = 0, **changes: object) -> list:
    return [draw(np.random.default_rng([seed, i]), (side, side + 10 * i), None, FundusConfig(**changes)) for i in range(count)]


def learnt(method: FundusTaught, count: int = 3, seed: int = 0) -> FundusTaught:
    return method.fit([method.working(d.picture) for d in photographs(count)], Workshop(seed=seed))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def test_the_taught_network_beats_the_filters_on_drawings_with_distractors() -> None:
    small = ["diameter=200", "draw.pictures=24", "network.width=8", "network.depth=3", "crop.size=64", "adapt.rounds=0"]
    method = FundusTaught(build(FundusTaughtConfig, parse_assignments([*small, "train.epochs=1", "train.steps=180", "train.batch=8"])))
    filters = VesselFilters(build(VesselFiltersConfig, {"diameter": 200}))
    unseen = photographs(6, 220, seed=9, contrast=(0.2, 0.4), distractors=1.0)
    method.fit([], Workshop())
    ours, floor = (np.mean([dice(m.probability(d.picture)[0] > 0.5, d.labels > 0) for d in unseen]) for m in (method, filters))
    assert ours > floor + 0.03, (ours, floor)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_it_learns_from_none_one_or_several_photographs(count: int) -> None:
    method = learnt(made(), count)
    d = photographs(1, 170)[0]
    p = method.probability(d.picture)
    outside = cv2.dilate(d.picture.max(-1), np.ones((9, 9), np.uint8)) == 0
    assert p.shape == (1, *d.picture.shape[:2]) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 and not p[0][outside].any()
    assert np.isfinite(method.far_from_drawing(d.picture))


def test_same_seed_same_weights_and_another_seed_others() -> None:
    a, b, c = (learnt(made(), seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.values(), c.values(), strict=True))


@pytest.mark.parametrize("masks", ["absent", "present", "scrambled"])
def test_masks_beside_the_images_change_no_weight(masks: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i, d in enumerate(photographs()):
        Pillow.fromarray(d.picture).save(tmp_path / "images" / f"f{i}.png")
        if masks != "absent":
            (tmp_path / "manual1").mkdir(exist_ok=True)
            truth = ((d.labels > 0) * 255).astype(np.uint8)
            truth = np.random.default_rng(0).permutation(truth.ravel()).reshape(truth.shape) if masks == "scrambled" else truth
            Pillow.fromarray(truth).save(tmp_path / "manual1" / f"f{i}.png")
    method = made()
    pictures = [method.working(np.asarray(Pillow.open(p))) for p in sorted((tmp_path / "images").iterdir())]
    method.fit(pictures, Workshop(folder=tmp_path / "run"))
    reference = learnt(made())
    assert all(torch.equal(x, y) for x, y in zip(method.state_dict().values(), reference.state_dict().values(), strict=True))


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = learnt(made())
    first = made("adapt.rounds=0")
    first.fit([first.working(d.picture) for d in photographs()], Workshop(folder=tmp_path))
    said: list[str] = []
    again = made()
    again.fit([again.working(d.picture) for d in photographs()], Workshop(folder=tmp_path, say=said.append))
    assert "teacher: already learnt" in said
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["phantom-fundus", "vessel-filters"])
def test_saved_and_loaded_answers_alike(name: str, tmp_path: Path) -> None:
    method = made() if name == "phantom-fundus" else STRUCTURES[name]()
    pictures = photographs()
    method.fit([method.working(d.picture) for d in pictures], Workshop())
    save_model(tmp_path / "model", name, method, {"images": 3}, card="A model.")
    other, about = load_model(tmp_path, STRUCTURES)
    assert about["method"] == name and np.array_equal(method.eval().probability(pictures[0].picture), other.probability(pictures[0].picture))


def test_every_vessel_method_has_a_fast_budget_that_its_config_knows() -> None:
    assert set(FAST) == set(STRUCTURES)
    for name, preset in FAST.items():
        build(STRUCTURES[name].Config, preset)


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (np.zeros((150, 150, 3), np.uint8), "black"),
        (np.full((30, 30, 3), 90, np.uint8), "too small"),
        (np.full((150, 150, 3), np.nan), "not finite"),
        (np.zeros((150, 150, 2), np.uint8), "photograph"),
    ],
)
def test_pictures_that_cannot_be_used_are_refused_by_name(picture: np.ndarray, says: str) -> None:
    method = made()
    for ask in (method.working, method.probability, method.far_from_drawing):
        with pytest.raises(InputError, match=says):
            ask(picture)


def test_grey_where_colour_was_learnt_is_refused_and_grey_where_grey_was_learnt_is_not() -> None:
    colour, grey = learnt(made()), made()
    pictures = [d.picture for d in photographs()]
    with pytest.raises(InputError, match="grey") as caught:
        colour.probability(pictures[0][..., 1])
    assert isinstance(caught.value, TacitError)
    grey.fit([grey.working(p[..., 1]) for p in pictures], Workshop())
    assert grey.probability(pictures[0][..., 1]).shape == (1, *pictures[0].shape[:2])
    assert grey.probability(pictures[0]).max() <= 1  # colour holds a green


def test_settings_that_cannot_be_are_refused() -> None:
    for change in ("q=0", "diameter=10", "draw.real=1.5", "adapt.rounds=-1", "fundus.width=[5.0, 3.0]", "network.chanels_in=1"):
        with pytest.raises(ConfigError):
            made(change)
    with pytest.raises(InputError, match="channels_in"):
        made("network.channels_in=3").fit([], Workshop())


def test_the_loss_falls_and_gradients_reach_every_weight() -> None:
    method = made().train()
    d = photographs(1)[0]
    lesson = lesson_of(method.working(d.picture), np.zeros((164, 164), np.float32))
    x = torch.from_numpy(seen(lesson.picture, None))[None, :, 20:84, 20:84]
    batch = {"x": x, "target": (x < -1).float(), "weight": torch.ones_like(x)}
    first = float(method.loss(batch)["loss"].detach())
    method.loss(batch)["loss"].backward()
    assert [n for n, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    fit(method, lambda step: batch, TrainConfig(epochs=1, steps=40, lr=1e-2, average=0.0, precision="fp32"), seed=0)
    assert float(method.train().loss(batch)["loss"].detach()) < 0.7 * first


def test_the_vessels_of_a_photograph_are_taken_out_and_the_rest_is_left() -> None:
    d = draw(np.random.default_rng(3), (300, 300), None, FundusConfig(contrast=(0.4, 0.4), distractors=0.0, noise=(2.0, 2.0)))
    mask = d.labels > 0
    bare = vessel_free(d.picture, mask, np.random.default_rng(0))
    field, far = field_of(d.picture, 6), cv2.dilate(mask.astype(np.uint8), np.ones((13, 13), np.uint8)) == 0
    assert (bare[far] == d.picture[far]).all() and (bare.any(-1) == d.picture.any(-1)).all()
    contrast_before, contrast_after = (even_light(p)[mask & field].mean() for p in (d.picture, bare))
    assert contrast_before < -0.08 and abs(contrast_after) < 0.25 * abs(contrast_before)
    grain = [float(np.std(cv2.Laplacian(bare[..., 1].astype(np.float32), cv2.CV_32F)[where & field])) for where in (mask, far)]
    assert grain[0] == pytest.approx(grain[1], rel=0.5)  # no smooth scars


def test_the_contrast_of_candidates_is_measured() -> None:
    contrast = np.zeros((60, 60), np.float32)
    contrast[:, 20:30] = -0.2
    low, high = candidate_contrast(contrast, (contrast < 0).astype(np.float32), np.ones((60, 60), bool))
    assert (low, high) == pytest.approx((0.2, 0.2))
    assert candidate_contrast(contrast, np.zeros((60, 60), np.float32), np.ones((60, 60), bool)) == (0.08, 0.45)


def test_lessons_teach_nothing_outside_the_field_and_their_truth_is_the_drawings() -> None:
    method = made("draw.real=1.0")
    c = method.config
    square = method.working(photographs(1)[0].picture)
    lessons = draw_lessons(c, Workshop(), [square], [np.where(field_of(square), 0.2, 0).astype(np.float32)])
    assert len(lessons) == 4
    for lesson in lessons:
        assert lesson.picture.ndim == 2 and set(np.unique(lesson.target)) <= {0, 255} and lesson.statistics is None
        assert 0.4 < (lesson.weight > 0).mean() < 0.9 and (lesson.target[..., 0] > 0).any()
        dark = seen(lesson.picture, None)[0]
        on, off = (lesson.target[..., 0] > 0) & (lesson.weight > 0), (lesson.target[..., 0] == 0) & (lesson.weight > 0)
        assert dark[on].mean() < dark[off].mean() - 0.5


def test_the_share_of_vessel_is_settled_over_the_set_and_not_picture_by_picture() -> None:
    pictures = [made().working(d.picture) for d in photographs()]
    shares = {}
    for settle in ("true", "false"):
        method = made(f"adapt.settle={settle}", "filters.share=0.2", "train.steps=30", "student.steps=30").fit(pictures, Workshop())
        above = [(mean_probability([method], plane_of(p))[0] > 0.5)[field_of(p)] for p in pictures]
        shares[settle] = (float(np.concatenate(above).mean()), [float(a.mean()) for a in above])
    assert shares["true"][0] == pytest.approx(0.2, abs=0.02) and np.ptp(shares["true"][1]) > 1e-3
    assert shares["false"][0] != pytest.approx(0.2, abs=0.005)
