"""One network from pixels to classes: what it learns, from whom, and that neither kill, padding nor order changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tacit.config import build
from tacit.errors import ConfigError, InputError
from tacit.learn.case_batches import Drawn, ViewsConfig, case_batches, normalised, varied
from tacit.learn.case_learner import CaseLearner, balanced_weights
from tacit.learn.end_to_end import EndToEnd, EndToEndConfig
from tacit.learn.pseudo_label import PseudoLabelConfig, pseudo_label_loss, ramp
from tacit.learn.search_space import nested, widened
from tacit.learn.series_models import series_config
from tacit.learn.workshop import Workshop
from tacit.parts.focal import LabelLossConfig
from tacit.parts.train import TrainConfig
from tacit.parts.weights import load_into, save_tensors

TINY: dict[str, Any] = {
    "unit": "series",
    "size": 32,
    "slices": 6,
    "members": 2,
    "network": {"backbone": {"name": "test_resnet"}},
    "train": {"epochs": 2, "steps": 3, "batch": 2, "checkpoint_every": 2, "precision": "fp32"},
}


def config(*settings: dict[str, Any]) -> EndToEndConfig:
    return build(EndToEndConfig, TINY, *settings)


def series(rng: np.random.Generator, ill: bool, side: int = 64, slices: int | None = None) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Noisy slices with two dark fields; where ill, one slice holds a bright spot of 8 px, whose place (slice, row, col) comes with it."""
    count = slices or int(rng.integers(4, 9))
    stack = rng.normal(150, 18, (count, side, side))
    for plane in stack:
        for x in (0.3, 0.7):
            cv2.ellipse(plane, (int(x * side), side // 2), (int(0.15 * side), int(0.3 * side)), 0, 0, 360, 60, -1)
    stack = np.stack([cv2.GaussianBlur(plane, (0, 0), 1.0) for plane in stack]) + rng.normal(0, 6, (count, side, side))
    place = (int(rng.integers(count)), int(rng.integers(side // 3, 2 * side // 3)), int(side * (0.3, 0.7)[int(rng.integers(2))]))
    if ill:
        cv2.circle(stack[place[0]], (place[2], place[1]), side // 16, 220, -1)
    return stack.clip(0, 255).astype(np.uint8), place


def cohort(count: int, seed: int, network: EndToEnd, side: int = 64) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 2
    return [network.kept(series(rng, bool(label), side)[0]) for label in y], y


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(x, b[name]) for name, x in a.items())


@pytest.fixture(scope="module")
def taught() -> tuple[EndToEnd, np.ndarray, np.ndarray]:
    """A small COVNet at 64 px, taught on 60 series, half of them with the sign in one slice; its answers out of fold and the truth (0 = well)."""
    settings = {"size": 64, "slices": 8, "train": {"epochs": 4, "steps": 12, "batch": 8, "lr": 1e-2}}
    network = EndToEnd(config(settings, {"classes": ["well", "worse"]}))
    cases, y = cohort(60, 0, network)
    p, _ = network.fit(cases, y, np.arange(60), Workshop())
    return network, p, y


def test_a_sign_in_one_slice_is_learnt(taught: Any) -> None:
    network, p, y = taught
    assert roc_auc_score(y, p[:, 1]) >= 0.9
    new, truth = cohort(20, 5, network)
    answers = network.answers(new)
    assert (answers.p.argmax(1) == truth).mean() >= 0.85
    assert (answers.low <= answers.p + 1e-12).all() and (answers.p <= answers.high + 1e-12).all() and np.allclose(answers.p.sum(1), 1)


def test_evidence_and_maps_lie_on_the_sign(taught: Any) -> None:
    network, _, _ = taught
    rng = np.random.default_rng(9)
    hits, slices = [], []
    for _ in range(12):
        stack, (s, _, col) = series(rng, True)
        case = network.kept(stack)
        curve, found = network.answers([case]).slices[0], network.maps(case)
        assert found.shape == case["slices"].shape and found.dtype == np.float32 and found.min() >= 0 and found.max() == pytest.approx(1)
        at = np.unravel_index(found.argmax(), found.shape)
        s = int(case["stands"][s])
        hits.append(at[0] == s and (at[2] < 32) == (col < 32))  # the last map is 2 × 2: the slice and the lung
        slices.append(case["stands"][curve[:, 1].argmax()] == s)
    assert np.mean(slices) >= 0.8 and np.mean(hits) >= 0.8


def test_labels_without_meaning_score_at_chance() -> None:
    network = EndToEnd(config({"train": {"epochs": 3, "steps": 10}}))
    cases, _ = cohort(40, 1, network, 32)
    p, _ = network.fit(cases, np.random.default_rng(3).permutation(np.arange(40) % 2), np.arange(40), Workshop())
    y = np.random.default_rng(3).permutation(np.arange(40) % 2)
    assert 0.2 < roc_auc_score(y, p[:, 1]) < 0.8  # 3 SDs of chance with 20 a side


@pytest.mark.parametrize("votes", [1, 2])
def test_a_killed_fit_goes_on_to_equal_weights(votes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tacit.learn.case_network as module

    def fitted(folder: Path | None) -> EndToEnd:
        network = EndToEnd(config({"vote_epochs": votes}))
        cases, y = cohort(8, 2, network, 32)
        network.fit(cases, y, np.arange(8), Workshop(3, folder=folder), unlabelled=cases[:3])
        return network

    whole, made = fitted(None), module.case_batches

    def breaking(*args: Any) -> Any:
        batch = made(*args)

        def at(step: int) -> Any:
            if step == 5:
                raise RuntimeError("killed")
            return batch(step)

        return at

    with monkeypatch.context() as patch:
        patch.setattr(module, "case_batches", breaking)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(tmp_path)
    assert equal(whole.state_dict(), fitted(tmp_path).state_dict())


def test_same_seed_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        network = EndToEnd(config())
        cases, y = cohort(8, 2, network, 32)
        network.fit(cases, y, np.arange(8), Workshop(seed))
        return network.state_dict()

    first = weights(0)
    assert equal(first, weights(0)) and not equal(first, weights(1))


@pytest.mark.parametrize("model", ["covnet-small", "c3d-small", "p3d-small", "conv-lstm-small"])
def test_every_kind_takes_any_length_answers_alone_as_among_others_and_is_kept(model: str, tmp_path: Path) -> None:
    small = {"c3d-small": {"width": 4, "side": 32}, "p3d-small": {"width": 4, "blocks": [1, 1, 1, 1]}, "conv-lstm-small": {"side": 32, "hidden": [4, 4]}}
    settings: dict[str, Any] = {**TINY, "model": model, "network": small.get(model, TINY["network"])}
    network = EndToEnd(build(EndToEndConfig, settings))
    rng = np.random.default_rng(1)
    stacks = [series(rng, i % 2 == 1, 40, n)[0] for i, n in enumerate((1, 3, 9, 2, 6, 4))]
    cases = [network.kept(stack) for stack in stacks]
    assert [len(case["slices"]) for case in cases] == [1, 3, 6, 2, 6, 4]
    network.fit(cases, np.arange(6) % 2, np.arange(6), Workshop())
    answers = network.answers(cases)
    assert [curve.shape for curve in answers.slices] == [(n, 2) for n in (1, 3, 9, 2, 6, 4)] and all(np.allclose(c.sum(1), 1) for c in answers.slices)
    for i in (2, 0):
        assert np.allclose(network.answers([cases[i]]).p[0], answers.p[i], atol=1e-6)
    if model in ("c3d-small", "p3d-small"):
        assert np.allclose(answers.slices[2], answers.slices[2][0])  # they mix slices, so each says what the case says
    for case in cases:
        found = network.maps(case)
        assert found.shape == (len(case["slices"]), 32, 32) and np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
    save_tensors(tmp_path / "w.safetensors", network.state_dict())
    again = EndToEnd(network.config)
    load_into(again, tmp_path / "w.safetensors")
    assert np.allclose(again.answers(cases).p, answers.p, atol=1e-6)


def test_a_picture_is_a_series_of_one_slice() -> None:
    network = EndToEnd(config({"unit": "picture", "pictures": 4}))
    rng = np.random.default_rng(0)
    cases = [network.kept(series(rng, i % 2 == 1, 40, 1)[0]) for i in range(8)]
    batches = []
    whole = case_batches(Drawn(cases, np.arange(8), 4, np.arange(8) % 2), ViewsConfig(), 0)
    batches.append(whole(0))
    assert batches[0]["x"].shape == (4, 1, 1, 32, 32)
    p, told = network.fit(cases, np.arange(8) % 2, np.arange(8), Workshop())
    assert p.shape == (8, 2) and told[0] == {"cases": 4, "left_out": 4, "class_weights": (1.0, 1.0), "unlabelled": 0}


def test_batches_are_functions_of_their_step_and_show_every_case_once_a_round() -> None:
    rng = np.random.default_rng(0)
    cases = [{"slices": np.full((int(rng.integers(1, 4)), 16, 16), 10 * i, np.uint8)} for i in range(7)]
    quiet = ViewsConfig(flip=0, shift=0, zoom=0, turn=0, grey=0)
    batch = case_batches(Drawn(cases, np.arange(7), 3, np.arange(7) + 0), quiet, 5)
    seen = np.concatenate([batch(step)["label"].numpy() for step in range(7)])
    assert sorted(seen[:7]) == sorted(seen[7:14]) == sorted(seen[14:]) == list(range(7)) and not np.array_equal(seen[:7], seen[7:14])
    one, other = batch(4), batch(4)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for row, label in enumerate(one["label"]):
        own = cases[int(label)]["slices"]
        assert int(one["present"][row].sum()) == len(own)
        assert torch.allclose(one["x"][row, : len(own)], normalised(own), atol=1e-5)


def test_a_view_is_one_for_all_slices_and_never_upside_down() -> None:
    plane = np.zeros((3, 1, 32, 32), np.float32)
    plane[:, :, 4:8, 4:8] = 1
    sides = []
    for seed in range(12):
        seen = varied(torch.from_numpy(plane), ViewsConfig(grey=0), np.random.default_rng(seed))
        assert torch.equal(seen[0], seen[2])
        row, col = np.argwhere(seen[0, 0].numpy() > 0.5).mean(0)
        assert row < 16
        sides.append(col < 16)
    assert {True, False} == set(map(bool, sides))


def test_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])
    assert balanced_weights(labels, 3) == pytest.approx((9 / 18, 9 / 6, 9 / 3))
    assert sum(balanced_weights(labels, 3)[label] for label in labels) == pytest.approx(9)
    learner = CaseLearner(Logits(3), LabelLossConfig(), TrainConfig(), 1, PseudoLabelConfig())
    x = torch.tensor([[2.0, 1.0, 0.0], [0.5, 0.1, 0.2]])
    each = -torch.log_softmax(x, 1)[[0, 1], [2, 0]]
    batch = {"x": x, "present": None, "label": torch.tensor([2, 0])}
    assert float(learner.loss(batch)["loss"].detach()) == pytest.approx(float(each.mean()))
    learner.weights = balanced_weights(labels, 3)
    assert float(learner.loss(batch)["loss"].detach()) == pytest.approx(float((3.0 * each[0] + 0.5 * each[1]) / 2))
    alone = {"x": x[:1], "present": None, "label": torch.tensor([2])}
    assert float(learner.loss(alone)["loss"].detach()) == pytest.approx(float(3.0 * each[0]))  # a rare class counts more in a batch of its own too


class Logits(torch.nn.Module):
    """What is given is the answer, but for one weight."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(classes))

    def forward(self, x: torch.Tensor, present: Any = None) -> Any:
        from tacit.parts.series import Answer

        return Answer(x * self.scale, None, x)


def test_the_ramp_is_lees_equation_16() -> None:
    assert [ramp(t, 100, 600, 3.0) for t in (0, 99.9, 100, 225, 350, 600, 1000)] == pytest.approx([0, 0, 0, 0.75, 1.5, 3, 3])
    assert ramp(0.5, 0.5, 0.5, 2.0) == 2.0 and ramp(0.49, 0.5, 0.5, 2.0) == 0.0


def test_pseudo_labels_are_the_networks_own_answers_above_the_confidence() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.1, 0.0], [0.0, 4.0]], requires_grad=True)
    sure = torch.softmax(logits, 1).max(1).values
    loss = pseudo_label_loss(logits, 0.9)
    assert float(loss.detach()) == pytest.approx(float(-(sure[0].log() + sure[2].log()).detach() / 3))
    loss.backward()
    assert logits.grad is not None and not logits.grad[1].any() and logits.grad[0, 0] < 0 < logits.grad[0, 1]
    learner = CaseLearner(Logits(2), LabelLossConfig(), TrainConfig(), 1, PseudoLabelConfig(start=0.2, full=0.6, weight=3.0, confidence=0.9))
    batch = {"x": torch.zeros(1, 2), "present": None, "label": torch.tensor([0]), "unlabelled": logits.detach(), "unlabelled_present": None}
    for progress, alpha in ((0.1, 0.0), (0.4, 1.5), (0.7, 3.0)):
        learner.before_step(progress)
        assert float(learner.loss(batch)["loss"].detach()) == pytest.approx(np.log(2) + alpha * float(loss.detach()), rel=1e-5)


def test_unlabelled_cases_teach_only_by_answers_that_are_sure() -> None:
    def weights(unlabelled: list[dict[str, np.ndarray]], **pseudo: float) -> dict[str, torch.Tensor]:
        network = EndToEnd(config({"pseudo": {"start": 0.3, **pseudo}}))
        cases, y = cohort(8, 2, network, 32)
        network.fit(cases, y, np.arange(8), Workshop(), unlabelled=unlabelled)
        return network.state_dict()

    others, _ = cohort(4, 8, EndToEnd(config()), 32)
    alone = weights([])
    assert equal(alone, weights(others, confidence=1.0))  # none is surer than sure: neither weights nor running statistics know of them
    assert equal(alone, weights(others, confidence=0.0, weight=0.0))
    assert equal(alone, weights(others, start=1.0, full=1.0, confidence=0.0))  # before T1
    assert not equal(alone, weights(others, confidence=0.0))


def test_the_weights_of_the_last_epochs_vote() -> None:
    network = EndToEnd(config({"vote_epochs": 2, "train": {"epochs": 3}}))
    cases, y = cohort(8, 2, network, 32)
    network.fit(cases, y, np.arange(8), Workshop())
    learner = network.members[0]
    assert isinstance(learner, CaseLearner)
    plans = [EndToEnd(config({"train": {"epochs": 3, "schedule": "constant"}, "vote_epochs": votes})) for votes in (3, 1)]
    for plan in plans:
        plan.fit(cases, y, np.arange(8), Workshop())
    shorter = EndToEnd(config({"train": {"epochs": 2, "schedule": "constant"}}))
    shorter.fit(cases, y, np.arange(8), Workshop())
    voters = plans[0].members[0]
    assert isinstance(voters, CaseLearner) and len(voters.earlier) == 2
    assert equal(voters.earlier[1].state_dict(), shorter.members[0].network.state_dict())  # type: ignore[union-attr,arg-type]
    assert equal(voters.network.state_dict(), plans[1].members[0].network.state_dict())  # type: ignore[union-attr,arg-type]
    x = normalised(cases[0]["slices"])
    with torch.no_grad():
        each = [net(x[None]).logits[0].double().softmax(0).numpy() for net in (*voters.eval().earlier, voters.network)]
    assert np.allclose(voters.probabilities(x)[0], np.mean(each, axis=0))


def test_settings_come_from_the_networks_name_and_yours_are_laid_over() -> None:
    c = build(EndToEndConfig, {"model": "10_COVNet-CSR-Focal", "train": {"epochs": 3}})
    assert (c.loss.kind, c.loss.alpha) == ("focal", 0.25)
    assert (c.train.epochs, c.train.lr, c.train.batch) == (3, 1e-4, 2)
    c = build(EndToEndConfig, {"model": "c3d", "loss": {"kind": "focal"}})
    assert (c.train.optimizer, c.train.schedule, c.loss.kind, c.loss.gamma) == ("sgd", "halving", "focal", 2.0)
    again = build(EndToEndConfig, c.model_dump(mode="json"))
    assert again == c
    for wrong, said in (
        ({"model": "covnet-smal"}, "covnet-small"),
        ({"network": {"dropot": 0.2}}, "dropout"),
        ({"train": {"epoch": 3}}, "epochs"),
        ({"network": {"classes": 4}}, "classes come from --labels"),
        ({"network": {"train": {"epochs": 4}}}, "leave out network"),
        ({"members": 1}, "members"),
        ({"size": 8}, "size"),
    ):
        with pytest.raises(ConfigError, match=said):
            build(EndToEndConfig, wrong)
    with pytest.raises(ConfigError, match="at most all epochs can vote"):
        EndToEnd(config({"vote_epochs": 3}))
    with pytest.raises(ConfigError, match=r"train\.average=0"):
        EndToEnd(config({"vote_epochs": 2, "train": {"average": 0.5}}))
    with pytest.raises(InputError, match="at least two different"):
        EndToEnd(config({"classes": ["a"]}))


def test_a_search_may_change_settings_that_there_are() -> None:
    space, own = widened(EndToEnd.SEARCH, EndToEnd.whole(config({"network": {"dropout": 0.25}})))
    assert set(space) == set(EndToEnd.SEARCH) == set(own) and (own["network.attention"], own["network.dropout"]) == ("none", 0.25)
    other, _ = widened(EndToEnd.SEARCH, EndToEnd.whole(build(EndToEndConfig, {"model": "c3d-small"})))
    assert "network.attention" not in other and "train.lr" in other
    searched = build(EndToEndConfig, config().model_dump(mode="json"), nested({"network.attention": "se"}))
    assert series_config(searched.model, searched.network)[1].attention == "se"  # type: ignore[attr-defined]
    found = build(EndToEndConfig, {"model": "10_COVNet-CSR-Focal"}, nested({"train.lr": 0.002, "loss.kind": "cross-entropy", "size": 96}))
    assert (found.train.lr, found.train.epochs, found.loss.kind, found.loss.alpha, found.size) == (0.002, 30, "cross-entropy", 0.25, 96)
