"""The contract: what every network that classifies a series must do, small, in seconds, on one thread."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tacit.errors import ConfigError, InputError, ReadError, TrainingError
from tacit.learn.series_models import MODELS, PRESETS, series_config, series_model
from tacit.parts.series import batched
from tacit.parts.train import TrainConfig, fit
from tacit.parts.weights import load_into, save_tensors

TINY: dict[str, dict[str, Any]] = {
    "covnet": {"backbone": {"name": "test_resnet"}, "csr": {"width": 8}},
    "c3d": {"width": 4, "side": 32},
    "p3d": {"width": 4, "blocks": [1, 1, 1, 1]},
    "conv-lstm": {"side": 32, "patch": 8, "hidden": [6, 5], "kernel": 3},
}
SIDE = 40  # px
LENGTHS = (4, 1, 3)
SLIDES = """01_pure_resnet 02_densenet_selftrans 03_COVNet 03_senet 04_resnet_plus 01_COVNet-50 02_COVNet-18 03_COVNet-34 04_COVNet-50-dropout-only
    05_COVNet-FCN 06_COVNet-CSR 06_COVNet-CSR_inf 07_COVNet-50-CBAM 08_COVNet-50-ECA 09_COVNet-CSR-Gate 10_COVNet-CSR-Focal 11_COVNet-CSR-Focal-CBAM"""


def alike(name: str) -> str:
    """Equal settings are tested once."""
    return repr(series_config(name, TINY[PRESETS[name][0]])[1])


DIFFERENT = list({alike(name): name for name in reversed(PRESETS)}.values())[::-1]
NETWORKS = ("02_COVNet-18", "c3d", "p3d", "conv-lstm")  # one of each kind


def made(name: str, *settings: dict[str, Any], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return series_model(name, TINY[PRESETS[name][0]], *settings)


def warm(model: nn.Module) -> Any:
    """A few passes, so that running statistics are of these pictures and not of none."""
    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(**inputs())
    return model.eval()


def inputs() -> dict[str, Tensor]:
    """Three series of 4, 1 and 3 slices; what fills them up is not a number."""
    x = torch.rand((3, 4, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(3))
    present = torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]
    x[~present] = float("nan")
    return {"x": x, "present": present}


def batch() -> dict[str, Tensor]:
    return inputs() | {"label": torch.tensor([0, 2, 1])}


def longer() -> dict[str, Tensor]:
    """The same series with more filled up: in front, in the middle and behind."""
    old = batch()
    at = torch.tensor([1, 2, 4, 5])
    x, present = torch.full((3, 8, 1, SIDE, SIDE), 1e6), torch.zeros(3, 8, dtype=torch.bool)
    x[:, at], present[:, at] = old["x"], old["present"]
    return {"x": x, "present": present, "label": old["label"]}


def test_every_name_of_the_slides_is_there_and_every_kind_has_one_that_is_small() -> None:
    assert set(SLIDES.split()) <= set(PRESETS)
    assert {kind for kind, _ in PRESETS.values()} == set(MODELS)
    assert {"covnet-small", "c3d-small", "p3d-small", "conv-lstm-small"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_the_presets_themselves_answer_a_series_of_one_slice_and_say_what_they_look_at(name: str) -> None:
    if name in ("01_COVNet-50", "09_COVNet-CSR-Gate"):
        assert PRESETS[name] == PRESETS[{"01_COVNet-50": "03_COVNet", "09_COVNet-CSR-Gate": "06_COVNet-CSR"}[name]]  # they differ in what is round them
        return
    model = series_model(name).eval()
    with torch.no_grad():
        answer = model(torch.rand(1, 1, 1, 64, 64))
    assert answer.logits.shape == (1, 3) and torch.isfinite(answer.logits).all()
    assert answer.features.shape == (1, model.head.in_features)
    if answer.evidence is not None:
        assert answer.evidence.shape == (1, 1, 3) and torch.allclose(answer.evidence[:, 0], answer.logits, atol=1e-5)
    else:
        assert PRESETS[name][0] in ("c3d", "p3d")


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_answer_does_not_depend_on_what_fills_the_batch_up(name: str) -> None:
    model = warm(made(name))
    old, new = inputs(), longer()
    with torch.no_grad():
        first, second = model(**old), model(new["x"], new["present"])
        alone = [model(old["x"][i : i + 1, :n]) for i, n in enumerate(LENGTHS)]
    assert torch.isfinite(first.logits).all() and torch.isfinite(first.features).all()
    assert torch.allclose(first.logits, second.logits, atol=1e-5)
    assert torch.allclose(first.logits, torch.cat([a.logits for a in alone]), atol=1e-5)
    if first.evidence is not None:
        assert torch.equal(torch.isnan(first.evidence).any(2), ~old["present"])
        assert torch.allclose(first.evidence[old["present"]], second.evidence[new["present"]], atol=1e-5)
        assert torch.allclose(first.evidence[2, :3], alone[2].evidence[0], atol=1e-5)


@pytest.mark.parametrize("name", DIFFERENT)
def test_neither_does_the_loss_nor_what_is_learnt(name: str) -> None:
    losses, states = [], []
    for told in (batch(), longer()):
        model = made(name)
        fit(model, lambda step, told=told: told, TrainConfig(epochs=1, steps=1, average=0.0, precision="fp32", optimizer="sgd"), seed=1)
        torch.manual_seed(2)
        losses.append(float(model.train().loss(told)["loss"].detach()))
        states.append(model.state_dict())
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)
    for key, value in states[0].items():
        assert torch.allclose(value, states[1][key], atol=1e-5, rtol=1e-3), key


@pytest.mark.parametrize("name", DIFFERENT)
def test_gradients_reach_every_weight(name: str) -> None:
    model = made(name, seed=1)  # CBAM with 2 hidden channels is silent where neither is positive, as with seed 0
    fit(model, lambda step: batch(), TrainConfig(epochs=1, steps=2, average=0.0, precision="fp32"), seed=0)  # zero-initialised gates open
    model.train().zero_grad()
    model.loss(batch())["loss"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", [*NETWORKS, "05_COVNet-FCN", "10_COVNet-CSR-Focal"])
def test_one_batch_is_learnt_by_heart(name: str) -> None:
    model = made(name, {"dropout": 0.0} if name in ("c3d", "p3d") else {})
    train = TrainConfig(epochs=1, steps=60, lr={"c3d": 1e-3, "conv-lstm": 0.1}.get(name, 3e-3), average=0.0, precision="fp32", weight_decay=0.0)
    first = float(model.train().loss(batch())["loss"].detach())
    fit(model, lambda step: batch(), train, seed=0)
    model.train()
    assert float(model.loss(batch())["loss"].detach()) < 0.1 * first
    assert model(**inputs()).logits.argmax(1).tolist() == batch()["label"].tolist()


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_order_of_a_batch_does_not_matter(name: str) -> None:
    model, told = warm(made(name)), batch()
    turned = {k: v.flip(0) for k, v in told.items()}
    with torch.no_grad():
        assert torch.allclose(model(told["x"], told["present"]).logits, model(turned["x"], turned["present"]).logits.flip(0), atol=1e-5)
        assert float(model.loss(told)["loss"]) == pytest.approx(float(model.loss(turned)["loss"]), rel=1e-4)


@pytest.mark.parametrize("name", DIFFERENT)
def test_saved_and_loaded_answers_alike(name: str, tmp_path: Path) -> None:
    model, other = warm(made(name)), made(name, seed=1).eval()
    save_tensors(tmp_path / "w.safetensors", model.state_dict())
    load_into(other, tmp_path / "w.safetensors")
    with torch.no_grad():
        assert torch.equal(model(**inputs()).logits, other(**inputs()).logits)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_seed_same_weights_and_another_seed_others(name: str) -> None:
    states = []
    for seed in (0, 0, 1):
        model = made(name, seed=seed)
        fit(model, lambda step: batch(), TrainConfig(epochs=1, steps=3, average=0.0), seed=seed)
        states.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_slice_that_is_not_finite_stops_with_the_step(name: str) -> None:
    told = batch()
    told["x"][0, 1, 0, 3, 3] = float("nan")
    with pytest.raises(TrainingError, match="at step 0"):
        fit(made(name), lambda step: told, TrainConfig(epochs=1, steps=2), seed=0)


@pytest.mark.parametrize("name", ["02_COVNet-18", "01_pure_resnet", "05_COVNet-FCN", "06_COVNet-CSR"])
def test_a_covnets_answer_does_not_depend_on_the_order_of_slices_and_a_conv_lstms_does(name: str) -> None:
    x, order = torch.rand(1, 5, 1, SIDE, SIDE), torch.tensor([3, 0, 4, 2, 1])
    covnet, memory = warm(made(name)), made("conv-lstm").eval()
    with torch.no_grad():
        assert torch.allclose(covnet(x).logits, covnet(x[:, order]).logits, atol=1e-5)
        assert torch.allclose(covnet(x).evidence[:, order], covnet(x[:, order]).evidence, atol=1e-5)
        assert not torch.allclose(memory(x).logits, memory(x[:, order]).logits, atol=1e-4)


def test_evidence_is_the_answer_of_the_slice_alone_and_of_the_series_so_far() -> None:
    x = torch.rand(1, 4, 1, SIDE, SIDE)
    for name in ("02_COVNet-18", "05_COVNet-FCN", "06_COVNet-CSR", "01_pure_resnet", "06_COVNet-CSR_inf"):
        model = warm(made(name))
        with torch.no_grad():
            evidence = model(x).evidence[0]
            alone = torch.cat([model(x[:, i : i + 1]).logits for i in range(4)])
        assert torch.allclose(evidence, alone, atol=1e-5) == (name != "06_COVNet-CSR_inf")  # whose batch norm looks at all slices
    model = made("conv-lstm").eval()
    with torch.no_grad():
        assert torch.allclose(model(x).evidence[0], torch.cat([model(x[:, : i + 1]).logits for i in range(4)]), atol=1e-5)


def test_a_mean_over_slices_is_the_mean_of_their_answers() -> None:
    model = warm(made("01_pure_resnet"))
    with torch.no_grad():
        answer = model(**inputs())
    assert torch.allclose(answer.logits, answer.evidence.nanmean(1), atol=1e-5)


def test_series_of_unlike_length_become_one_batch() -> None:
    series = [torch.rand(n, 1, SIDE, SIDE) for n in LENGTHS]
    x, present = batched(series)
    assert x.shape == (3, 4, 1, SIDE, SIDE) and present.sum(1).tolist() == list(LENGTHS)
    assert all(torch.equal(one[there], own) for one, there, own in zip(x, present, series, strict=True))
    for wrong in ([], [series[0], torch.rand(2, 1, SIDE, SIDE + 1)], [series[0], torch.rand(0, 1, SIDE, SIDE)], [torch.rand(SIDE, SIDE)]):
        with pytest.raises(InputError, match="alike but for their slices"):
            batched(wrong)


@pytest.mark.parametrize("kind", MODELS)
def test_input_that_does_not_fit_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    model = series_model(kind, TINY[kind])
    with pytest.raises(InputError, match="wanted \\(series, slices, 1"):
        model(torch.rand(1, 2, 2, SIDE, SIDE))
    with pytest.raises(InputError, match="series 1 of the batch has no slice"):
        model(torch.rand(2, 2, 1, SIDE, SIDE), torch.tensor([[True, False], [False, False]]))
    with pytest.raises(InputError, match="one true or false a slice"):
        model(torch.rand(2, 2, 1, SIDE, SIDE), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="from 0 to 2"):
        model.loss(batch() | {"label": torch.tensor([0, 1, 3])})
    with pytest.raises(ConfigError, match=r"loss.class_weights holds 2 numbers, there are 3 classes"):
        series_model(kind, TINY[kind], {"loss": {"class_weights": [1.0, 2.0]}}).loss(batch())
    save_tensors(tmp_path / "w", {"nothing": torch.zeros(1)})
    with pytest.raises(ReadError, match="another network"):
        load_into(model, tmp_path / "w")


def test_unknown_names_and_settings_name_what_is_known() -> None:
    with pytest.raises(ConfigError, match="06_COVNet-CSR_inf"):
        series_model("06_COVNet-CRS")
    with pytest.raises(ConfigError, match="attention"):
        series_model("covnet", {"atention": "se"})


def test_every_preset_has_a_row_on_its_page_and_the_pages_python_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "series_models.md").read_text()
    assert [name for name in PRESETS if f"`{name}`" not in page] == []
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code.group(1), names)
    answer = names["answer"]
    assert (tuple(answer.logits.shape), tuple(answer.evidence.shape), tuple(answer.features.shape)) == ((2, 3), (2, 12, 3), (2, 512))
