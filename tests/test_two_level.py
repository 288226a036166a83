from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from tacit.config import build
from tacit.errors import InputError
from tacit.learn.case_answers import evenly
from tacit.learn.case_network import CaseNetworkConfig
from tacit.learn.lesion_taught import LesionNetworkConfig, LesionTaughtConfig
from tacit.learn.second_level import SecondLevel, SecondLevelConfig, resampled
from tacit.learn.slice_network import SliceNetwork
from tacit.learn.slice_texture import SliceTexture, SliceTextureConfig
from tacit.learn.table_classifier import TableConfig
from tacit.learn.temperature import fit_temperature, negative_log_likelihood, reliability, warmed
from tacit.learn.two_level import TwoLevel, TwoLevelConfig
from tacit.learn.workshop import Workshop
from tacit.parts.weights import load_into, save_tensors
from tacit.prepare.slice_lung import slice_lungs
from tacit.prepare.twins import twin
from tacit.report.classes import area, figures, macro_f1

NETWORK = LesionTaughtConfig(side=32, network=LesionNetworkConfig(width=8, depth=2))  # not taught here: a witness who knows nothing
TABLE = TableConfig(c=(1.0,), gamma=(0.1, 1.0), rounds=(20,), depth=(2,), folds=3)


def slice_of(rng: np.random.Generator, ill: bool, side: int = 96) -> np.ndarray:
    """An oval body with two dark lungs on a dark ground; where it is ill, fine bright grain in a part of one lung."""
    grey = np.full((side, side), 20, np.float32)
    middle = side // 2
    cv2.ellipse(grey, (middle, middle), (int(0.44 * side), int(0.36 * side)), 0, 0, 360, 170.0, -1)
    for x in (-1, 1):
        cv2.ellipse(grey, (middle + int(x * 0.2 * side), middle), (int(0.13 * side), int(0.25 * side)), 0, 0, 360, 50.0, -1)
    if ill:
        spot = np.zeros_like(grey)
        cv2.circle(spot, (middle + int(0.2 * side), middle + int(rng.integers(-8, 9))), int(0.1 * side), 1.0, -1)
        grey += spot * 60 * (rng.random((side, side)) > 0.5)
    return np.clip(grey + 6 * rng.normal(size=grey.shape), 0, 255).astype(np.uint8)


def test_a_series_is_brought_to_one_length() -> None:
    curve = np.linspace(0, 1, 9)[:, None] * np.array([[1.0, -1.0]]) + np.array([[0.0, 1.0]])
    for how in ("nearest", "linear", "area", "cubic"):
        found = resampled(curve, 5, how)  # type: ignore[arg-type]
        assert found.shape == (5, 2) and np.allclose(found.sum(1), 1) and (np.diff(found[:, 0]) > 0).all()
        assert np.allclose(resampled(curve, 9, how), curve, atol=1e-9)  # type: ignore[arg-type]
    assert np.array_equal(resampled(curve[:1], 4, "linear"), np.repeat(curve[:1], 4, axis=0))
    with pytest.raises(InputError, match="slices, classes"):
        SecondLevel().rows([np.zeros((0, 2))])


def test_the_second_level_finds_a_short_lesion_that_the_mean_hides() -> None:
    rng = np.random.default_rng(0)

    def series(ill: bool) -> np.ndarray:
        n = int(rng.integers(20, 60))
        p = 0.3 + 0.15 * rng.random(n)
        if ill:
            start = int(rng.integers(0, n - 3))
            p[start : start + 3] = 0.9
        else:
            p += 0.5 * 3 / n  # as much in the mean
        return np.stack([1 - p, p], 1)

    y = np.arange(80) % 2
    curves = [series(bool(label)) for label in y]
    level = SecondLevel(SecondLevelConfig(table=TABLE))
    level.fit(curves[:50], y[:50], np.arange(50), 0)
    p = level.probabilities(curves[50:])[:, 1]
    assert roc_auc_score(y[50:], p) > 0.95 > 0.75 > abs(roc_auc_score(y[50:], [c[:, 1].mean() for c in curves[50:]]) - 0.5) + 0.5


def test_warmth_is_found_again() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in true])
    sharp = warmed(true, 0.5)  # twice too sure
    t = fit_temperature(sharp, labels)
    assert t == pytest.approx(2.0, rel=0.1)
    assert negative_log_likelihood(warmed(sharp, t), labels) < negative_log_likelihood(sharp, labels)
    assert reliability(warmed(sharp, t), labels)[1] < 0.03 < reliability(sharp, labels)[1]
    assert np.array_equal(warmed(sharp, t).argmax(1), sharp.argmax(1)) and np.allclose(warmed(sharp, 1.0), sharp, atol=1e-5)


def test_reliability_by_hand() -> None:
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [0.42, 0.58]])
    rows, error = reliability(p, np.array([0, 1, 1, 1]))
    assert rows == [(pytest.approx(0.565), 1.0, 2), (pytest.approx(0.95), 0.5, 2)]
    assert error == pytest.approx(0.5 * 0.435 + 0.5 * 0.45)


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 90)
    p = rng.random((90, 3)) + 0.6 * np.eye(3)[labels]
    p /= p.sum(1, keepdims=True)
    found = figures(p, labels, ("a", "b", "c"), np.arange(90) // 3)
    precision, recall, f1, support = precision_recall_fscore_support(labels, p.argmax(1))
    for j, row in enumerate(found["classes"]):
        assert row["support"] == support[j] and row["auc"] == pytest.approx(roc_auc_score(labels == j, p[:, j]), abs=1e-4)
        assert (row["precision"], row["recall"], row["f1"]) == (
            pytest.approx(precision[j], abs=1e-4),
            pytest.approx(recall[j], abs=1e-4),
            pytest.approx(f1[j], abs=1e-4),
        )
    assert found["macro_f1"] == pytest.approx(f1.mean(), abs=1e-4) and macro_f1(p, labels) == pytest.approx(f1.mean())
    assert found["patients"] == 30 and found["interval"]["auc"][0] < found["auc"] < found["interval"]["auc"][1]
    tied = np.round(p, 1)
    assert area(tied, labels) == pytest.approx(np.mean([roc_auc_score(labels == j, tied[:, j]) for j in range(3)]))
    assert area(tied[:, :2], labels % 2) == pytest.approx(np.mean([roc_auc_score(labels % 2 == j, tied[:, j]) for j in range(2)]))
    assert np.isnan(area(p[:5], np.full(5, 7)))
    by_hand = figures(np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]), np.array([0, 1, 0, 1]), ("a", "b"), np.arange(4))
    assert by_hand["confusion"] == [[1, 1], [0, 2]] and [row["f1"] for row in by_hand["classes"]] == [0.6667, 0.8] and by_hand["accuracy"] == 0.75


def test_lungs_of_a_slice_and_its_twins() -> None:
    picture = slice_of(np.random.default_rng(0), False)
    lungs = slice_lungs(picture)
    assert lungs is not None
    true = np.zeros((96, 96), np.uint8)
    for x in (-1, 1):
        cv2.ellipse(true, (48 + int(x * 0.2 * 96), 48), (int(0.13 * 96), int(0.25 * 96)), 0, 0, 360, 1, -1)
    assert 2 * (lungs & (true > 0)).sum() / (lungs.sum() + true.sum()) > 0.9
    ring, ground, only = (twin(picture, kind) for kind in ("ring only", "background only", "lung only"))
    assert ring is not None and ground is not None and only is not None
    assert not ring[9:-9, 9:-9].any() and np.array_equal(ring[:9], picture[:9])
    assert not only[~lungs].any() and not ground[lungs].any() and np.array_equal(only + ground, picture)
    assert twin(np.full((64, 64), 130, np.uint8), "lung only") is None and slice_lungs(np.zeros((64, 64), np.uint8)) is None


def test_texture_knows_no_label_and_is_told_by_place() -> None:
    rng = np.random.default_rng(0)
    texture = SliceTexture(SliceTextureConfig(side=64, words=12, samples=2000)).fit([slice_of(rng, i % 2 == 0) for i in range(6)], 0)
    left, right = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint8)
    grain = np.random.default_rng(1).integers(0, 255, (64, 32)).astype(np.uint8)
    left[:, :32], right[:, 32:] = grain, grain
    a, b = texture.blocks(left), texture.blocks(right)
    assert a["patterns"].shape == (3 * 4 * 59,) and a["words"].shape == (4 * 12,) and all(np.isfinite(v).all() for v in a.values())
    assert np.abs(a["patterns"] - b["patterns"]).max() > 0.3
    assert np.array_equal(texture.blocks(np.repeat(left[..., None], 3, axis=2))["words"], a["words"])


@pytest.mark.parametrize(("unit", "lesions"), [("picture", True), ("series", False), ("series", True)])
def test_members_learn_answer_and_are_kept(unit: str, lesions: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    y = np.arange(24) % 2

    def stack(ill: bool) -> np.ndarray:
        if unit == "picture":
            return slice_of(rng, ill)[None]
        count = int(rng.integers(5, 9))
        return np.stack([slice_of(rng, ill and s in (2, 3)) for s in range(count)])

    config = TwoLevelConfig(
        unit=unit,
        lesions=lesions,
        lesion_network=NETWORK,
        members=3,
        inner=2,
        texture=SliceTextureConfig(side=64, words=16, samples=3000),
        first=TABLE,
        second=SecondLevelConfig(length=4, table=TABLE),
    )  # type: ignore[arg-type]
    network = TwoLevel(config)
    stacks = [stack(bool(label)) for label in y]
    network.look([s[0] for s in stacks], 0)
    cases = [network.kept(s) for s in stacks]
    p, chosen = network.fit(cases, y, np.arange(24), Workshop())
    assert roc_auc_score(y, p[:, 1]) > 0.9 and len(chosen) == 3 == int(network.used)
    assert (network.lesions is not None) == (network.maps(cases[0]) is not None) == ("lesions" in chosen[0]) == (unit == "series" and lesions)
    new = [network.kept(stack(bool(label))) for label in y[:8]]
    answers = network.answers(new)
    assert (answers.p.argmax(1) == y[:8]).mean() >= 0.75
    assert (answers.low <= answers.p + 1e-12).all() and (answers.p <= answers.high + 1e-12).all() and np.allclose(answers.p.sum(1), 1)
    assert [len(s) for s in answers.slices] == [len(next(iter(case.values()))) for case in new]
    maps = network.maps(new[0])
    assert maps is None or (maps.shape == (len(answers.slices[0]), 96, 96) and maps.min() >= 0 and maps.max() <= 1)
    save_tensors(tmp_path / "w.safetensors", network.state_dict())
    again = TwoLevel(config)
    load_into(again, tmp_path / "w.safetensors")
    assert np.array_equal(again.answers(new).p, answers.p)


NET = {"model": "covnet-small", "size": 32, "pictures": 8, "network": {"backbone": {"name": "test_resnet"}}, "train": {"epochs": 2, "steps": 20, "lr": 5e-3}}


@pytest.mark.parametrize(("unit", "witness"), [("series", "network"), ("series", "both"), ("picture", "network")])
def test_a_network_may_classify_the_slices(unit: str, witness: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    y = np.arange(16) % 2

    def stack(ill: bool) -> np.ndarray:
        planes = [np.clip(100 + 10 * rng.normal(size=(48, 48)), 0, 255) for _ in range(1 if unit == "picture" else 4)]
        for plane in planes:
            plane[:, :24] += 80 * ill
        return np.stack(planes).clip(0, 255).astype(np.uint8)

    c = build(
        TwoLevelConfig,
        {"unit": unit, "witness": witness, "lesions": False, "members": 2, "inner": 2, "slice_network": NET, "first": TABLE.model_dump()},
        {"second": {"length": 4, "table": TABLE.model_dump()}, "texture": {"side": 32, "words": 8, "samples": 500}},
    )
    assert c.slice_network.train.batch == 2 and c.slice_network.train.average == 0.0  # COVNet's own, where nothing else is said
    network, stacks = TwoLevel(c), [stack(bool(label)) for label in y]
    network.look([s[0] for s in stacks], 0)
    cases = [network.kept(s) for s in stacks]
    assert cases[0]["pixels"].shape == (len(stacks[0]), 32, 32) and ("patterns" in cases[0]) == (witness == "both")
    shop = Workshop(0, folder=tmp_path / "checkpoints")
    p, chosen = network.fit(cases, y, np.arange(16), shop)
    assert roc_auc_score(y, p[:, 1]) > 0.9
    assert (
        {"network of slices"} <= set(chosen[0])
        and ("network of series" in chosen[0]) == (unit == "series")
        and ("texture of slices" in chosen[0]) == (witness == "both")
    )
    inner = {"member0-0", "member0-1", "member1-0", "member1-1"} if unit == "series" else set()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"member0", "member1"} | inner  # out of fold inside each member
    new = [network.kept(stack(bool(label))) for label in y[:6]]
    answers = network.answers(new)
    assert (answers.p.argmax(1) == y[:6]).all() and all(np.allclose(s.sum(1), 1) for s in answers.slices)
    maps = network.maps(new[1])
    assert maps is not None and maps.shape == new[1]["pixels"].shape and maps.min() >= 0 and maps.max() == 1
    resumed = TwoLevel(c)
    resumed.look([s[0] for s in stacks], 0)
    assert np.allclose(resumed.fit(cases, y, np.arange(16), shop)[0], p, atol=1e-6)  # from what lies in the folder
    save_tensors(tmp_path / "w.safetensors", network.state_dict())
    again = TwoLevel(c)
    load_into(again, tmp_path / "w.safetensors")
    assert np.allclose(again.answers(new).p, answers.p)


def test_a_slice_is_classified_without_its_neighbours() -> None:
    network = SliceNetwork(build(CaseNetworkConfig, NET), 2)
    stack = np.random.default_rng(0).integers(0, 255, (5, 32, 32)).astype(np.uint8)
    whole = network.probabilities({"pixels": stack})
    assert np.allclose(whole[2:3], network.probabilities({"pixels": stack[2:3]}), atol=1e-6) and np.ptp(whole[:, 0]) > 0


def test_slices_are_taken_evenly() -> None:
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4] and evenly(9, 3).tolist() == [0, 4, 8] and evenly(1, 4).tolist() == [0]
