"""What COVNet's settings do, CSRNet, and the stages that they stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tacit.config import build
from tacit.errors import ConfigError, MissingError
from tacit.learn.covnet import Covnet, CovnetConfig
from tacit.learn.csrnet import DILATIONS, BackEndConfig, Csrnet, CsrnetConfig, back_end, front_end
from tacit.learn.series_models import series_model
from tacit.parts.backbone import Backbone, BackboneConfig, timm_network
from tacit.parts.batch_norm import SharedBatchNorm, own_statistics, share_batch_norm
from tacit.parts.stages import Stages
from tacit.parts.train import TrainConfig, fit
from tacit.parts.weights import save_tensors

SMALL = {"backbone": {"name": "test_resnet"}, "csr": {"width": 8}}


def made(**settings: Any) -> Covnet:
    torch.manual_seed(0)
    return Covnet(build(CovnetConfig, SMALL, settings))


def slices(b: int = 2, s: int = 3, side: int = 40) -> Tensor:
    return torch.rand((b, s, 1, side, side), generator=torch.Generator().manual_seed(5))


def batch() -> dict[str, Tensor]:
    return {"x": slices(), "label": torch.tensor([0, 1])}


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.named_buffers()}


def test_it_is_the_paper_in_four_lines() -> None:
    model = made().eval()
    x = slices()
    with torch.no_grad():
        rows = [[model.encoder.net.forward_features(one[None])[0].mean((1, 2)) for one in series] for series in x]
        pooled = torch.stack([torch.stack(series).max(0).values for series in rows])
        assert torch.allclose(model(x).logits, pooled @ model.head.weight.T + model.head.bias, atol=1e-5)
        assert torch.allclose(model(x).features, pooled, atol=1e-5)


def test_the_class_map_is_a_convolution_and_its_maximum() -> None:
    model = made(features="fcn").eval()
    x = slices()
    with torch.no_grad():
        maps = model.encoder(x.flatten(0, 1))
        classes = nn.functional.conv2d(maps, model.head.weight[:, :, None, None], model.head.bias)
        assert torch.allclose(model(x).logits, classes.amax((2, 3)).view(2, 3, 3).amax(1), atol=1e-5)


def test_batch_norm_by_case_is_what_training_would_see_of_that_series_alone() -> None:
    model, plain = made(batch_norm="per-case", attention="cbam"), made(attention="cbam")
    x = slices()
    with torch.no_grad():
        before = buffers(model)
        found = model.eval()(x).logits
        assert all(torch.equal(v, before[k]) for k, v in model.named_buffers())  # nothing is remembered
        assert not any(m.training for m in model.modules())
        plain.train()
        assert torch.allclose(found, torch.cat([plain(one[None]).logits for one in x]), atol=1e-5)
        assert not torch.allclose(found, plain.eval()(x).logits, atol=1e-4)


def test_norms_of_several_processes_answer_by_case_too() -> None:
    model, shared = made(batch_norm="per-case").eval(), made(batch_norm="per-case").eval()
    share_batch_norm(shared)
    assert any(isinstance(m, SharedBatchNorm) for m in shared.modules())
    with torch.no_grad():
        before = buffers(shared)
        assert torch.allclose(model(slices()).logits, shared(slices()).logits, atol=1e-5)
        assert all(torch.equal(v, before[k]) for k, v in shared.named_buffers())


def test_a_norm_comes_back_as_it_was_after_an_error() -> None:
    model = made()
    with pytest.raises(ZeroDivisionError), own_statistics(model):
        raise ZeroDivisionError
    assert all(m.training and m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("settings", [{}, {"attention": "cbam"}, {"features": "csr"}])
def test_recomputed_stages_learn_the_same(settings: dict[str, Any]) -> None:
    kept, again = made(**settings), made(**settings, recompute=True)
    assert sorted(kept.state_dict()) == sorted(again.state_dict())
    again.load_state_dict(kept.state_dict())
    for model in (kept, again):
        model.train()
        model.loss(batch())["loss"].backward()
    for (name, a), b in zip(kept.named_parameters(), again.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None and torch.allclose(a.grad, b.grad, atol=1e-6), name
    for (name, a), b in zip(kept.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_recomputed_stages_keep_less() -> None:
    kept = []
    for recompute in (False, True):
        model, held = made(attention="se", recompute=recompute).train(), 0

        def hold(x: Tensor) -> Tensor:
            nonlocal held
            held += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
            model.loss(batch())
        kept.append(held)
    assert kept[1] < 0.4 * kept[0]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_slices_at_once_change_no_answer(at_once: int) -> None:
    x = slices(2, 5)
    with torch.no_grad():
        assert torch.allclose(made().eval()(x).logits, made(slices_at_once=at_once).eval()(x).logits, atol=1e-5)


def test_a_grey_slice_in_three_channels_is_itself_three_times() -> None:
    x, model = slices(), made(channels_in=3).eval()
    with torch.no_grad():
        assert torch.equal(model(x).logits, model(x.expand(-1, -1, 3, -1, -1)).logits)


def test_weights_for_colours_are_summed_for_one_channel(tmp_path: Path) -> None:
    net = timm_network(BackboneConfig(name="resnet10t")).eval()
    save_tensors(tmp_path / "w.safetensors", net.state_dict())
    config = BackboneConfig(name="resnet10t", weights=str(tmp_path / "w.safetensors"))
    x = slices()[0]
    with torch.no_grad():
        expected = net(x.expand(-1, 3, -1, -1))
        assert torch.allclose(Backbone(config, 1).eval()(x), expected, atol=1e-5)
        assert torch.allclose(Stages(config, 1).eval()(x).mean((2, 3)), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet10t", "densenet121", "convnext_atto"])
def test_the_last_stages_map_is_the_networks_own(name: str, tmp_path: Path) -> None:
    net = timm_network(BackboneConfig(name=name), 1).eval()
    save_tensors(tmp_path / "w.safetensors", net.state_dict())
    stages = Stages(BackboneConfig(name=name, weights=str(tmp_path / "w.safetensors")), 1).eval()
    with torch.no_grad():
        assert torch.allclose(stages(slices()[0]), net.forward_features(slices()[0]), atol=1e-5)


@pytest.mark.parametrize(("kind", "count"), [("se", 4), ("cbam", 4), ("eca", 4), ("residual", 3)])
@pytest.mark.parametrize("name", ["resnet10t", "densenet121"])
def test_attention_follows_every_stage(kind: Any, count: int, name: str) -> None:
    stages = Stages(BackboneConfig(name=name), 1, attention=kind)
    assert len(stages.attention) == count and set(stages.attention) <= set(stages.net)
    seen: list[str] = []
    for key, module in stages.attention.items():
        module.register_forward_hook(lambda *_, key=key: seen.append(key))
    stages.eval()(slices()[0])
    assert seen == list(stages.attention)


def test_networks_without_stages_say_so_and_any_network_can_be_plain() -> None:
    for settings in ({"attention": "se"}, {"features": "csr"}, {"features": "fcn"}):
        with pytest.raises(ConfigError, match="not a row of convolutional stages"):
            Covnet(build(CovnetConfig, settings, {"backbone": {"name": "vit_tiny_patch16_224"}}))
    model = Covnet(build(CovnetConfig, {"backbone": {"name": "vit_tiny_patch16_224"}})).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.rand(1, 2, 1, 224, 224)).logits).all()
    with pytest.raises(ConfigError, match="did you mean 'resnet10t'"):
        series_model("covnet", {"backbone": {"name": "resnet10"}})


@pytest.mark.parametrize("kind", DILATIONS)
def test_a_back_end_sees_as_far_as_its_dilations_say(kind: Any) -> None:
    net = back_end(1, BackEndConfig(kind=kind, width=8))
    for layer in net:
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / 9 / layer.in_channels)
    impulse = torch.zeros(1, 1, 71, 71)
    impulse[..., 35, 35] = 1
    with torch.no_grad():
        seen = net(impulse)[0].amax(0) > 0
    reach = sum(DILATIONS[kind])
    rows, cols = torch.nonzero(seen, as_tuple=True)
    assert (int(rows.min()), int(rows.max()), int(cols.min()), int(cols.max())) == (35 - reach, 35 + reach) * 2
    step = min(DILATIONS[kind])
    expected = torch.zeros(71, dtype=torch.bool)
    expected[35 - reach : 35 + reach + 1 : step] = True  # a dilation of 2 or 4 alone leaves a grid
    if kind != "C":
        assert torch.equal(seen, expected[:, None] & expected[None])


def test_csrnet_begins_as_vgg16_does(tmp_path: Path) -> None:
    """Weights by name, and ten convolutions of timm's own network to the map at 1/8: a COVNet on vgg16 with features=csr is CSRNet slice by slice."""
    stages = Stages(BackboneConfig(name="vgg16"), 3, stride=8).eval()
    assert sum(isinstance(m, nn.Conv2d) for m in stages.modules()) == 10 and stages.width == 512
    save_tensors(tmp_path / "vgg.safetensors", {name.replace("_", "."): tensor for name, tensor in stages.net.state_dict().items()})
    net = Csrnet(CsrnetConfig(weights=str(tmp_path / "vgg.safetensors"))).eval()
    x = torch.rand(1, 3, 48, 56)
    with torch.no_grad():
        assert torch.allclose(net.front(x), stages(x), atol=1e-5)
        assert net(x).shape == (1, 1, 6, 7) and net.features(x).shape == (1, 64, 6, 7)
    assert sum(isinstance(m, nn.Conv2d) for m in net.front) == 10
    with pytest.raises(ConfigError, match=r"features.0.weight is missing or not"):
        Csrnet(CsrnetConfig(weights=str(tmp_path / "vgg.safetensors"), back=BackEndConfig(width=16)))
    with pytest.raises(MissingError, match="no such file"):
        Csrnet(CsrnetConfig(weights=str(tmp_path / "none")))


def test_csrnet_learns_a_density() -> None:
    torch.manual_seed(0)
    net = Csrnet(CsrnetConfig(back=BackEndConfig(width=8, batch_norm=True), channels_in=1))
    x = torch.zeros(1, 1, 64, 64)
    x[..., 16:32, 24:40] = 1
    told = {"x": x, "density": nn.functional.avg_pool2d(x, 8)}
    first = net.loss(told)["loss"]
    assert float(first.detach()) == pytest.approx(float((net(x) - told["density"]).detach().pow(2).sum() / 2), rel=1e-5)
    fit(net, lambda step: told, TrainConfig(epochs=1, steps=60, lr=3e-3, average=0.0, precision="fp32"), seed=0)
    assert float(net.train().loss(told)["loss"].detach()) < 0.2 * float(first.detach())
    with pytest.raises(ConfigError, match="not a density"):
        Csrnet(CsrnetConfig(density=False, back=BackEndConfig(width=8))).loss(told)


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_published_numbers_of_weights() -> None:
    """ResNets with 1,000 classes: 11.69, 21.80 and 25.56 M; SE-ResNet-50 28.09 M; DenseNet-169 14.15 M; CSRNet 16.26 M."""
    colours = {"channels_in": 3, "classes": 1000}
    published = {
        "02_COVNet-18": 11_689_512,
        "03_COVNet-34": 21_797_672,
        "01_COVNet-50": 25_557_032,
        "03_senet": 28_088_024,
        "02_densenet_selftrans": 14_149_480,
    }
    assert {name: weights(series_model(name, colours)) for name in published} == published
    assert weights(front_end(3, 64)) == 7_635_264  # VGG-16's ten
    assert weights(Csrnet()) == 16_263_489


def test_a_stage_of_resnet50_gives_what_the_back_end_of_csrnet_takes() -> None:
    stages = Stages(BackboneConfig(name="resnet50"), 1, stride=8)
    assert stages.width == 512 and stages(torch.rand(1, 1, 64, 64)).shape == (1, 512, 8, 8)
    assert "layer3" not in stages.net
