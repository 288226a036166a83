"""The contract: what every way to segment must do, on drawings, in seconds, on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import TINY, TINY_MSSG
from tacit.config import build, parse_assignments
from tacit.errors import ReadError, TrainingError
from tacit.learn.methods import FAST, METHODS
from tacit.learn.mssg import BorderConfig, BorderNet
from tacit.learn.workshop import Workshop
from tacit.parts.train import TrainConfig, fit
from tacit.parts.weights import load_into, save_tensors
from tacit.phantom import tissue

SMALL = {"phantom": TINY, "mssg": TINY_MSSG, "mssg-paper": ["channels=8", "steps=6"], "haematoxylin": []}
LEARNING = ("phantom", "mssg")


def made(name: str) -> Any:
    kind = METHODS[name]
    torch.manual_seed(0)
    return kind(build(kind.Config, parse_assignments(SMALL[name])))


def pictures(method: Any, count: int = 3) -> list[np.ndarray]:
    return [tissue.draw(np.random.default_rng([5, i]), (60 + 7 * i, 84), method.um_per_px).picture for i in range(count)]


def batch_for(name: str, size: int = 32) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(1)
    planes = 4 if name == "mssg" else 2
    target = (torch.from_numpy(rng.random((2, planes, size, size))) > 0.5).float()
    return {"x": torch.from_numpy(rng.standard_normal((2, 3, size, size)).astype(np.float32)), "target": target, "weight": torch.ones(2, 1, size, size)}


def test_every_method_has_a_fast_budget_that_its_config_knows() -> None:
    assert set(FAST) == set(METHODS)
    for name, preset in FAST.items():
        build(METHODS[name].Config, preset)


@pytest.mark.parametrize("name", METHODS)
def test_fit_then_probability_of_any_size(name: str) -> None:
    method = made(name)
    method.fit(pictures(method), Workshop())
    for shape in ((16, 16), (41, 97)):
        p = method.probability(tissue.draw(np.random.default_rng(0), shape, method.um_per_px).picture)
        assert p.shape == (2, *shape) and p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1
        assert np.isfinite(p).all()


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_weights_and_another_seed_others(name: str) -> None:
    states = []
    for seed in (0, 0, 1):
        method = made(name)
        method.fit(pictures(method), Workshop(seed=seed))
        states.append(method.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    if name in LEARNING:
        assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_answers_alike(name: str, tmp_path: Path) -> None:
    method = made(name)
    method.fit(pictures(method), Workshop())
    save_tensors(tmp_path / "w.safetensors", method.state_dict())
    other = METHODS[name](method.config)
    load_into(other, tmp_path / "w.safetensors")
    picture = pictures(method, 1)[0]
    assert np.array_equal(method.probability(picture), other.eval().probability(picture))


@pytest.mark.parametrize("name", METHODS)
def test_an_answer_does_not_depend_on_the_images_before(name: str) -> None:
    method = made(name)
    method.fit(pictures(method), Workshop())
    a, b = pictures(method, 2)
    first = method.probability(a)
    method.probability(b)
    assert np.array_equal(first, method.probability(a))


@pytest.mark.parametrize("name", LEARNING)
def test_the_loss_falls_and_gradients_reach_every_weight(name: str) -> None:
    method, batch = made(name).train(), batch_for(name)
    first = method.loss(batch)["loss"]
    fit(method, lambda step: batch, TrainConfig(epochs=1, steps=2, average=0.0, precision="fp32"), seed=0)  # zero-initialised gates open
    method.train().zero_grad()
    method.loss(batch)["loss"].backward()
    silent = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert silent == []
    train = TrainConfig(epochs=1, steps=25, lr=3e-3, average=0.0, precision="fp32")
    fit(method, lambda step: batch, train, seed=0)
    method.train()
    assert float(method.loss(batch)["loss"].detach()) < 0.9 * float(first.detach())


@pytest.mark.parametrize("name", LEARNING)
def test_input_that_is_not_finite_stops_with_the_step(name: str) -> None:
    batch = batch_for(name)
    batch["x"][0, 0, 3, 3] = float("nan")
    with pytest.raises(TrainingError, match="at step 0"):
        fit(made(name), lambda step: batch, TrainConfig(epochs=1, steps=2), seed=0)


@pytest.mark.parametrize("name", LEARNING)
def test_the_order_of_a_batch_does_not_change_its_loss(name: str) -> None:
    method, batch = made(name).eval(), batch_for(name)
    turned = {k: v.flip(0) for k, v in batch.items()}
    with torch.no_grad():
        assert float(method.loss(batch)["loss"]) == pytest.approx(float(method.loss(turned)["loss"]), rel=1e-5)


@pytest.mark.parametrize("name", LEARNING)
def test_weights_of_another_network_are_refused(name: str, tmp_path: Path) -> None:
    save_tensors(tmp_path / "w", {"nothing": torch.zeros(1)})
    with pytest.raises(ReadError, match="another network"):
        load_into(made(name), tmp_path / "w")


@pytest.mark.parametrize("loss", ["argmax", "iic"])
def test_the_border_nets_own_loss_falls(loss: str) -> None:
    torch.manual_seed(0)
    net = BorderNet(BorderConfig(channels=8, loss=loss))
    x = {"x": torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 24, 24)).astype(np.float32))}
    first = float(net.loss(x)["loss"].detach())
    fit(net, lambda step: x, TrainConfig(epochs=1, steps=30, optimizer="sgd", lr=0.05, schedule="constant", average=0, precision="fp32"), seed=0)
    assert float(net.train().loss(x)["loss"].detach()) < first


@pytest.mark.parametrize("change", ["stop=agreement", "draw.colours=matched", "adapt.diffusion=0.1", "adapt.rounds=2", "adapt.rounds=0"])
def test_the_phantom_methods_options_learn_and_answer(change: str) -> None:
    kind = METHODS["phantom"]
    torch.manual_seed(0)
    plain, changed = (kind(build(kind.Config, parse_assignments([*TINY, "train.epochs=2", "student.epochs=2", *more]))) for more in ([], [change]))
    for method in (plain, changed):
        method.fit(pictures(method), Workshop())
    p = changed.probability(pictures(changed, 1)[0])
    assert np.isfinite(p).all()
    if change != "stop=agreement":  # which may well keep the last epoch
        assert any(not torch.equal(a, b) for a, b in zip(plain.state_dict().values(), changed.state_dict().values(), strict=True))


def test_the_drawings_range_of_shares_is_remembered() -> None:
    method = made("phantom")
    method.fit(pictures(method), Workshop())
    low, high = method.drawn_share.tolist()
    assert 0 <= low < high <= 1


def test_a_network_that_collapses_says_so() -> None:
    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def loss(self, batch: object) -> dict[str, torch.Tensor]:
            return {"loss": (self.w**2).sum(), "share": torch.tensor(0.999)}

    said: list[str] = []
    Workshop(say=said.append).train("flat", Flat(), lambda step: {}, TrainConfig(epochs=1, steps=2, precision="fp32"), seed=0)
    assert any("everything gland: it has collapsed" in line for line in said)


def test_the_weights_that_a_judge_likes_most_are_kept_and_survive_a_restart(tmp_path: Path) -> None:
    class One(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def loss(self, batch: object) -> dict[str, torch.Tensor]:
            return {"loss": ((self.w - 5) ** 2).sum()}

    module = One()
    train = TrainConfig(epochs=6, steps=5, lr=0.5, schedule="constant", average=0.0, precision="fp32", optimizer="sgd", momentum=0.0, weight_decay=0.0)
    seen: list[float] = []

    def judge(m: torch.nn.Module) -> float:
        seen.append(float(m.w.detach()))
        return -abs(seen[-1] - 4.0) + 10

    Workshop(folder=tmp_path).train("s", module, lambda step: {}, train.model_copy(update={"lr": 0.03}), seed=0, best_by=judge)
    assert float(module.w.detach()) == min(seen, key=lambda w: abs(w - 4)) and abs(seen[-1] - 4) > abs(float(module.w.detach()) - 4) - 1e-9
    again, shop = One(), Workshop(folder=tmp_path)
    shop.train("s", again, lambda step: {}, train, seed=0, best_by=judge)
    assert torch.equal(again.w, module.w)
    assert shop.chosen["s"] == {"score": max(-abs(w - 4) + 10 for w in seen), "step": 5 * (1 + seen.index(float(module.w.detach())))}
    seen.clear()
    Workshop().train("s", One(), lambda step: {}, train, seed=0, best_by=judge, every=12)
    assert len(seen) == 3  # after 12, 24 and all 30 steps
