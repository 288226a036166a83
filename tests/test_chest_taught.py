"""Lungs, heart and clavicles from drawings: the contract, seconds-long; figures on real radiographs where there are any."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tacit.config import build, parse_assignments
from tacit.errors import InputError, TacitError
from tacit.learn.chest_lessons import ChestLesson, ChestViewConfig, chest_batches
from tacit.learn.chest_taught import ChestTaught, ChestTaughtConfig, agreed_chests, drawn_chests, largest_pieces
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.parts.loss import soft_dice
from tacit.phantom.chest import draw
from tacit.use.model import load_model, save_model

TINY = [
    *("side=64", "finer=1", "pictures=8", "teachers=1", "network.width=8", "network.depth=4", "train.epochs=1", "train.steps=6", "train.batch=4"),
    *("student.epochs=1", "student.steps=4", "student.batch=4", "adapt.rounds=1"),
]

RADIOGRAPHS = ("phantom-chest", "lung-rule", "lung-mixture")


def made(*changes: str) -> ChestTaught:
    torch.manual_seed(0)
    return ChestTaught(build(ChestTaughtConfig, parse_assignments([*TINY, *changes])))


def real(method: ChestTaught, count: int) -> list[np.ndarray]:
    return [method.working(draw(np.random.default_rng([77, i]), (90 + i, 80)).picture) for i in range(count)]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_learns_from_no_picture_from_one_and_from_several(count: int) -> None:
    method = made()
    assert method.fit(real(method, count), Workshop()) is method
    for shape in ((40, 40), (133, 97)):
        picture = draw(np.random.default_rng(5), shape).picture
        p = method.probability(picture)
        assert p.shape == (3, *shape) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 and np.isfinite(p).all()
        assert 0 <= method.confidence(picture) <= 1 and method.far_from_drawing(picture) > 0


def test_seconds_of_learning_find_drawn_lungs_that_were_not_learnt_from() -> None:
    method = made("adapt.rounds=0", "pictures=50", "train.steps=80", "train.batch=6", "train.average=0.0")
    method.fit([], Workshop())
    found = []
    for seed in range(6):
        d = draw(np.random.default_rng([1234, seed]), (96, 96))
        found.append(dice(method.probability(d.picture)[0] > 0.5, d.planes[0] > 0))
    assert np.mean(found) > 0.7


@pytest.mark.parametrize("change", ["adapt.rounds=2", "adapt.rounds=0", "dice=0.0", "teachers=2", "adapt.drawn=0.0"])
def test_options_learn_something_else(change: str) -> None:
    pictures = real(made(), 2)
    plain, changed = (made(*more).fit(pictures, Workshop()) for more in ((), (change,)))
    assert any(not torch.equal(a, b) for a, b in zip(plain.state_dict().values(), changed.state_dict().values(), strict=True))
    assert np.isfinite(changed.probability(draw(np.random.default_rng(1), (50, 50)).picture)).all()


def test_same_seed_same_weights_and_another_seed_others() -> None:
    states = []
    for seed in (0, 0, 1):
        method = made()
        states.append(method.fit(real(method, 2), Workshop(seed=seed)).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_masks_present_absent_or_scrambled_give_equal_weights(tmp_path: Path) -> None:
    states = []
    for kind in ("present", "absent", "scrambled"):
        folder = tmp_path / kind
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        for i in range(2):
            d = draw(np.random.default_rng([3, i]), (80, 80))
            cv2.imwrite(str(folder / "images" / f"{i}.png"), d.picture)
            if kind != "absent":
                mask = d.planes[0] if kind == "present" else np.random.default_rng(i).permutation(d.planes[0].ravel()).reshape(80, 80)
                cv2.imwrite(str(folder / "masks" / f"{i}.png"), mask)
        method = made()
        pictures = [method.working(cv2.imread(str(p))) for p in sorted((folder / "images").glob("*.png"))]
        states.append(method.fit(pictures, Workshop()).state_dict())
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*(s.values() for s in states), strict=True))


@pytest.mark.parametrize("name", RADIOGRAPHS)
def test_saved_and_loaded_answers_alike(name: str, tmp_path: Path) -> None:
    method = made() if name == "phantom-chest" else STRUCTURES[name]()
    method.fit([method.working(draw(np.random.default_rng(i), (80, 80)).picture) for i in range(2)], Workshop())
    save_model(tmp_path / "model", name, method, {"images": 2}, card="a card")
    other, about = load_model(tmp_path, known=STRUCTURES)
    picture = draw(np.random.default_rng(9), (70, 90)).picture
    assert about["method"] == name and np.array_equal(method.probability(picture), other.probability(picture))


def test_a_finished_stage_is_not_learnt_again(tmp_path: Path) -> None:
    first = made()
    first.fit(real(first, 2), Workshop(folder=tmp_path))
    lines: list[str] = []
    again = made()
    again.fit(real(again, 2), Workshop(folder=tmp_path, say=lines.append))
    assert sum("already learnt" in line for line in lines) == 2
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))


def test_inverted_radiographs_answer_as_upright_ones() -> None:
    method = made()
    method.fit([], Workshop())
    picture = draw(np.random.default_rng(2), (64, 64)).picture
    assert np.abs(method.probability(255 - picture) - method.probability(picture)).max() < 0.1


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((64, 64), np.uint8),
        np.ones((4, 4), np.uint8),
        np.full((64, 64), np.inf),
        np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8),
    ],
    ids=["black", "tiny", "infinite", "colour"],
)
def test_what_is_no_radiograph_is_refused_by_all(picture: np.ndarray) -> None:
    for name in RADIOGRAPHS:
        method = STRUCTURES[name]()
        for ask in (method.working, method.probability):
            with pytest.raises(InputError) as caught:
                ask(picture)
            assert isinstance(caught.value, TacitError) and "\n" not in str(caught.value)


def test_pictures_unlike_chests_are_farther_and_less_sure_than_drawings() -> None:
    method = made("pictures=40", "train.steps=40", "adapt.rounds=0")
    method.fit([], Workshop())
    drawn = [draw(np.random.default_rng([8, i]), (64, 64)).picture for i in range(10)]
    stripes = np.tile((np.arange(64) % 9 * 28).astype(np.uint8), (64, 1))
    assert method.far_from_drawing(stripes) > np.mean([method.far_from_drawing(d) for d in drawn])
    assert method.confidence(stripes) < np.mean([method.confidence(d) for d in drawn])


def test_lessons_keep_picture_and_truth_together() -> None:
    plane = np.zeros((64, 64), np.uint8)
    plane[20:40, 10:30] = 255
    lesson = ChestLesson(np.where(plane > 0, 40, 200).astype(np.uint8), plane[..., None], np.full((64, 64, 1), 255, np.uint8))
    batch = chest_batches([lesson], 8, ChestViewConfig(shade=(0, 0), noise=(0, 0)), seed=0)(0)
    for x, target in zip(batch["x"][:, 0].numpy(), batch["target"][:, 0].numpy() > 0.5, strict=True):
        assert dice(x < np.quantile(x, target.mean()), target) > 0.9
    again = chest_batches([lesson], 8, ChestViewConfig(shade=(0, 0), noise=(0, 0)), seed=0)(0)
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    assert (batch["weight"] < 1).any()  # what lies beyond the picture's edge does not count


def test_drawn_lessons_are_the_drawings_in_the_frame() -> None:
    c = build(ChestTaughtConfig, parse_assignments([*TINY, "pictures=2"]))
    a, b = drawn_chests(c, Workshop(), 4), drawn_chests(c, Workshop(), 4)
    assert all((x.picture == y.picture).all() and (x.target == y.target).all() for x, y in zip(a, b, strict=True))
    assert a[0].target.shape == (64, 64, 3) and (a[0].picture != a[1].picture).any()


def test_only_the_largest_pieces_stay() -> None:
    p = np.zeros((1, 20, 40), np.float32)
    p[0, 2:12, 2:10], p[0, 2:12, 20:30], p[0, 16:18, 30:34] = 0.9, 0.8, 0.95
    kept = largest_pieces(p, (2,))
    assert not kept[0, 16:18, 30:34].any() and (kept[0, :14] == p[0, :14]).all()
    assert (largest_pieces(p, (3,)) == p).all()


def test_labels_are_snapped_where_it_is_asked_for() -> None:
    d = draw(np.random.default_rng(4), (64, 64))

    class Sees(torch.nn.Module):  # answers with the drawn truth, moved
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            moved = np.roll(d.planes, 2, axis=2).astype(np.float32) / 255 * 8 - 4
            return torch.nn.functional.interpolate(torch.from_numpy(moved)[None], x.shape[2:]) + 0 * next(self.parameters())

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

    plain, snapped = (
        agreed_chests([Sees()], [made().working(d.picture)], build(ChestTaughtConfig, parse_assignments([*TINY, f"adapt.snap={s}"])), Workshop(), "agree")[0]
        for s in ("false", "true")
    )
    assert (plain.target[..., 0] != snapped.target[..., 0]).any() and (plain.target[..., 1:] == snapped.target[..., 1:]).all()


def test_soft_dice_of_closed_form() -> None:
    target = torch.zeros(1, 2, 4, 4)
    target[:, :, :2] = 1
    sure = torch.where(target > 0, 30.0, -30.0)
    ones = torch.ones_like(target)
    assert float(soft_dice(sure, target, ones)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice(-sure, target, ones)) == pytest.approx(1 - 1 / 17, abs=1e-6)
    half = float(soft_dice(torch.zeros_like(target), target, ones))
    assert half == pytest.approx(1 - (2 * 4 + 1) / (16 * 0.25 + 8 + 1), abs=1e-6)


def test_on_real_radiographs_the_rule_reaches_its_known_figure(data: Path) -> None:
    place = data / "jsrt"
    if not place.is_dir():
        pytest.skip("no radiographs: TACIT_DATA holds no jsrt")
    names = json.loads((place / "folds.json").read_text())["fold1"][::12]
    rule, found = STRUCTURES["lung-rule"](), []
    for name in names:
        picture = cv2.imread(str(place / "images" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        left, right = (cv2.imread(str(next((place / "masks" / f"{side}_lung").glob(f"{name}.*"))), cv2.IMREAD_GRAYSCALE) for side in ("left", "right"))
        found.append(dice(rule.probability(picture)[0] > 0.5, (left | right) > 0))
    assert np.mean(found) > 0.86
