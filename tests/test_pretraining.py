"""BYOL, SimCLR, SimSiam, MoCo, BYOL with an autoencoder, and what DenseCL and PixPro share with them: losses against closed forms, the slow copies, the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tacit.errors import ConfigError, MissingError, ReadError, TrainingError
from tacit.learn.byol import PRESETS, Byol, ByolConfig
from tacit.learn.dense_cl import Densecl, DenseclConfig
from tacit.learn.moco import Moco, MocoConfig
from tacit.learn.phantom_byol import PhantomByol, PhantomByolConfig
from tacit.learn.phantom_encoder import PhantomEncoderConfig
from tacit.learn.pix_pro import Pixpro, PixproConfig
from tacit.learn.simclr import Simclr, SimclrConfig, nt_xent
from tacit.learn.simsiam import Simsiam, SimsiamConfig
from tacit.learn.vae_byol import VaeByol, VaeByolConfig
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.collapse import spread
from tacit.parts.head import follow, momentum_at, slow_copy
from tacit.parts.train import TrainConfig, fit
from tacit.parts.weights import load_into, save_tensors

SMALL = BackboneConfig(name="resnet10t")
SMALLEST = BackboneConfig(name="test_efficientnet")
TRAIN = TrainConfig(epochs=1, steps=6, batch=6, average=0.0, precision="fp32", lr=1e-3)


def made(name: str, backbone: BackboneConfig = SMALL) -> nn.Module:
    torch.manual_seed(0)
    byol = ByolConfig(backbone=backbone, hidden=32, projection=16, size=32, train=TRAIN)
    return {
        "byol": lambda: Byol(byol),
        "simclr": lambda: Simclr(SimclrConfig(backbone=backbone, projection=16, size=32, train=TRAIN)),
        "simsiam": lambda: Simsiam(SimsiamConfig(backbone=backbone, projection=32, bottleneck=8, size=32, train=TRAIN)),
        "moco": lambda: Moco(MocoConfig(backbone=backbone, projection=16, queue=20, size=32, train=TRAIN)),
        "vae-byol": lambda: VaeByol(VaeByolConfig(byol=byol, code=8, paint=8)),
        "densecl": lambda: Densecl(DenseclConfig(backbone=backbone, projection=16, queue=20, size=64, train=TRAIN)),
        "pixpro": lambda: Pixpro(PixproConfig(backbone=backbone, hidden=32, projection=16, size=64, train=TRAIN)),
        "phantom-byol": lambda: PhantomByol(PhantomByolConfig(encoder=PhantomEncoderConfig(width=4), hidden=32, projection=16, size=32, train=TRAIN)),
    }[name]()


OF_TIMM = ("byol", "simclr", "simsiam", "moco", "vae-byol", "densecl", "pixpro")
NAMES = (*OF_TIMM, "phantom-byol")
SIDES = {"densecl": 64, "pixpro": 64}  # px, for maps of more than one place; others 32


def batch(step: int, n: int = 6, side: int = 32) -> dict[str, torch.Tensor]:
    """Noise, and its mirror image with the places of both."""
    rng = torch.Generator().manual_seed(step)
    x = torch.rand(n, 3, side, side, generator=rng)
    place = torch.tensor([[side, 0.0, 0.0], [0.0, side, 0.0]]).expand(n, 2, 3)
    mirrored = torch.tensor([[side, 0.0, 0.0], [0.0, -side, side]]).expand(n, 2, 3)
    views = {"a": x + 0.1 * torch.rand(x.shape, generator=rng), "b": x.flip(3) + 0.1 * torch.rand(x.shape, generator=rng)}
    return views | {"place_a": place, "place_b": mirrored}


def batches(name: str) -> Callable[[int], dict[str, torch.Tensor]]:
    return lambda step: batch(step, side=SIDES.get(name, 32))


def test_nt_xent_is_the_plain_sum_over_pairs() -> None:
    torch.manual_seed(0)
    a, b, t = torch.randn(5, 7), torch.randn(5, 7), 0.3
    z = F.normalize(torch.cat([a, b]), dim=1)
    total = 0.0
    for i in range(10):
        j = (i + 5) % 10
        others = sum(math.exp(float(z[i] @ z[k]) / t) for k in range(10) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / t) / others)
    assert float(nt_xent(a, b, t)) == pytest.approx(total / 10, rel=1e-5)


def test_byols_loss_is_the_squared_distance_of_unit_vectors_both_ways() -> None:
    module = made("byol").train()
    views = batch(0)
    found = float(module.loss(views)["loss"].detach())
    with torch.no_grad():
        p = {k: F.normalize(module.predictor(module.projector(module.encoder(views[k]))), dim=1) for k in "ab"}
        z = {k: F.normalize(module.slow_projector(module.slow_encoder(views[k])), dim=1) for k in "ab"}
    wanted = (p["a"] - z["b"]).square().sum(1).mean() + (p["b"] - z["a"]).square().sum(1).mean()
    assert found == pytest.approx(float(wanted), rel=1e-4)


def test_simsiams_loss_and_its_stopped_gradient() -> None:
    module = made("simsiam").train()
    views = batch(0)
    found = module.loss(views)["loss"]
    with torch.no_grad():
        z = {k: module.projector(module.encoder(views[k])) for k in "ab"}
        wanted = -(F.cosine_similarity(module.predictor(z["a"]), z["b"]).mean() + F.cosine_similarity(module.predictor(z["b"]), z["a"]).mean()) / 2
    assert float(found.detach()) == pytest.approx(float(wanted), rel=1e-4)
    found.backward()
    assert module.encoder.net.conv1[0].weight.grad is not None


def test_the_slow_copy_follows_as_the_closed_form_says() -> None:
    fast, base = nn.Linear(3, 2), 0.9
    slow = slow_copy(fast)
    start = slow.weight.clone()
    wanted = start.clone()
    for k in range(5):
        with torch.no_grad():
            fast.weight.add_(0.1 * k)
        tau = momentum_at(base, k / 5, True)
        wanted = tau * wanted + (1 - tau) * fast.weight.detach()
        follow(slow, fast, tau)
    assert torch.allclose(slow.weight, wanted, atol=1e-6) and not slow.weight.requires_grad
    assert momentum_at(0.99, 0, True) == pytest.approx(0.99) and momentum_at(0.99, 1, True) == pytest.approx(1) and momentum_at(0.99, 0.7, False) == 0.99


def test_mocos_queue_keeps_the_newest_keys() -> None:
    module = made("moco").train()
    seen = []
    for step in range(5):
        module.loss(batch(step))
        seen.append(module._fresh.clone())
        module.after_step(0.0)
    newest = torch.cat(seen)[-20:]
    assert int(module.at) == 30 % 20
    assert torch.allclose(module.keys.sum(0), newest.sum(0), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_weights_and_the_loss_falls(name: str) -> None:
    def trained(steps: int) -> tuple[nn.Module, list[float]]:
        module, losses = made(name, SMALLEST), []

        class Watch:
            def log(self, step: int, values: dict[str, float]) -> None:
                losses.append(values["loss"])

            def advance(self, done: int, total: int) -> None: ...

        config = TRAIN.model_copy(update={"steps": steps, "lr": 3e-3})
        fit(module, lambda step: batches(name)(0), config, seed=1, tracker=Watch())  # one batch again and again
        return module, losses

    (a, losses), (b, _) = trained(21), trained(21)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert losses[-1] < losses[1 if name in ("moco", "densecl") else 0]  # their first keys are noise, and easy to tell from pictures


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_resumes_to_equal_weights(name: str, tmp_path: Path) -> None:
    whole = fit(made(name, SMALLEST), batches(name), TRAIN, seed=1)
    half = TRAIN.model_copy(update={"checkpoint_every": 3})

    def stops(step: int) -> dict[str, torch.Tensor]:
        if step == 4:
            raise RuntimeError("killed")
        return batches(name)(step)

    with pytest.raises(RuntimeError, match="killed"):
        fit(made(name, SMALLEST), stops, half, seed=1, folder=tmp_path)
    again = fit(made(name, SMALLEST), batches(name), half, seed=1, folder=tmp_path)
    for (key, x), y in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


@pytest.mark.parametrize("name", NAMES)
def test_weights_survive_saving_and_nan_stops_with_its_step(name: str, tmp_path: Path) -> None:
    module = made(name).eval()
    save_tensors(tmp_path / "w.safetensors", module.state_dict())
    torch.manual_seed(9)
    other = made(name)
    load_into(other, tmp_path / "w.safetensors")
    x = batches(name)(0)["a"]
    assert torch.equal(module.features(x), other.eval().features(x)) and module.features(x).shape[0] == 6
    bad = {k: v * float("nan") for k, v in batches(name)(0).items()}
    with pytest.raises(TrainingError, match="step 0"):
        fit(made(name), lambda step: bad, TRAIN, seed=0)


def test_signs_of_collapse() -> None:
    torch.manual_seed(0)
    alive, dead = spread(torch.randn(64, 32)), spread(torch.ones(64, 32) + 1e-4 * torch.randn(64, 32))
    assert float(alive["spread"]) == pytest.approx(1, abs=0.1) and float(alive["rank"]) > 25
    assert float(dead["spread"]) < 0.01


def test_a_backbone_takes_weights_of_a_file_and_says_what_does_not_fit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Backbone(SMALL)
    save_tensors(tmp_path / "w.safetensors", first.net.state_dict() | {"fc.weight": torch.zeros(10, first.width)})
    second = Backbone(BackboneConfig(name="resnet10t", weights=str(tmp_path / "w.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    with pytest.raises(ConfigError, match="do not fit"):
        Backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / "w.safetensors")))
    with pytest.raises(MissingError, match="no such file"):
        Backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / "absent.safetensors")))
    for bad in (float("nan"), float("inf")):
        save_tensors(tmp_path / "bad.safetensors", first.net.state_dict() | {"layer1.0.bn1.weight": torch.tensor([bad] * 2 + [1.0] * 62)})
        with pytest.raises(ReadError, match=r"layer1\.0\.bn1\.weight holds 2 values that are not finite"):
            Backbone(BackboneConfig(name="resnet10t", weights=str(tmp_path / "bad.safetensors")))
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        Backbone(BackboneConfig(name="resnet1"))


def test_group_norm_leaves_no_batch_statistics() -> None:
    torch.manual_seed(0)
    module = Byol(ByolConfig(backbone=BackboneConfig(name="resnet10t", group_norm=True), hidden=32, projection=16)).train()
    assert not any(isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)) for m in module.modules())
    x = batch(0)["a"]
    assert torch.allclose(module.features(x)[:2], module.features(x[:2]), atol=1e-4)


def test_the_reports_preset_is_what_its_code_ran() -> None:
    from tacit.config import build

    c = build(ByolConfig, PRESETS["report"])
    assert (c.backbone.name, c.hidden, c.projection, c.momentum, c.rising) == ("resnext50_32x4d", 2048, 512, 0.996, False)
    assert (c.train.optimizer, c.train.lr, c.train.weight_decay, c.train.batch, c.train.epochs) == ("sgd", 3e-4, 1.5e-6, 32, 30)
    assert np.isclose(c.train.momentum, 0.9)


@pytest.mark.parametrize("name", OF_TIMM)
def test_a_network_with_a_layer_after_the_mean_learns_too(name: str) -> None:
    module = made(name, BackboneConfig(name="mobilenetv3_small_050"))
    encoder = module.byol.encoder if isinstance(module, VaeByol) else module.encoder
    x = batch(0, side=SIDES.get(name, 32))
    assert encoder(x["a"]).shape == (6, encoder.width) and encoder.map(x["a"]).shape[1] == encoder.channels != encoder.width
    module.loss(x)["loss"].backward()
    reached = [p for p in encoder.net.blocks.parameters() if p.requires_grad]
    assert reached and all(p.grad is not None and torch.isfinite(p.grad).all() for p in reached)
