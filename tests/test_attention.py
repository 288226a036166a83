"""Attention and the focal loss beside their equations, written slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tacit.errors import ConfigError, InputError
from tacit.parts.cbam import cbam
from tacit.parts.eca import eca, kernel
from tacit.parts.focal import LabelLossConfig, focal, label_loss
from tacit.parts.residual_attention import Hourglass, ResidualAttention
from tacit.parts.squeeze import squeeze


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def given(channels: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    x = torch.randn((2, channels, 5, 6), generator=torch.Generator().manual_seed(seed))
    return x, x.numpy().astype(np.float64)


def test_squeeze_and_excitation_is_its_equations() -> None:
    x, plain = given(32)
    module = squeeze(32)
    w1, b1, w2, b2 = (p.detach().numpy().astype(np.float64) for p in (module.fc1.weight, module.fc1.bias, module.fc2.weight, module.fc2.bias))
    assert w1.shape == (2, 32, 1, 1)  # C / r
    for n in range(2):
        z = np.array([plain[n, c].sum() / 30 for c in range(32)])  # Eq. 2
        inner = np.array([max(sum(w1[j, c, 0, 0] * z[c] for c in range(32)) + b1[j], 0) for j in range(2)])
        s = np.array([sigmoid(sum(w2[c, j, 0, 0] * inner[j] for j in range(2)) + b2[c]) for c in range(32)])  # Eq. 3
        assert np.allclose(module(x)[n].detach(), plain[n] * s[:, None, None], atol=1e-5)  # Eq. 4


@pytest.mark.parametrize(("channels", "size"), [(8, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_efficient_channel_attention_is_its_equations(channels: int, size: int) -> None:
    assert kernel(channels) == size and size % 2 == 1 and abs(size - (np.log2(channels) / 2 + 0.5)) <= 1
    x, plain = given(channels)
    module = eca(channels)
    w = module.conv.weight.detach().numpy().astype(np.float64)[0, 0]
    assert len(w) == size
    for n in range(2):
        z = np.pad(plain[n].mean((1, 2)), size // 2)
        s = np.array([sigmoid(sum(w[i] * z[c + i] for i in range(size))) for c in range(channels)])  # Eq. 9
        assert np.allclose(module(x)[n].detach(), plain[n] * s[:, None, None], atol=1e-5)


def test_cbam_is_its_equations() -> None:
    x, plain = given(32)
    module = cbam(32).eval()
    norm = module.spatial.conv.bn
    nn.init.uniform_(norm.weight), nn.init.normal_(norm.running_mean)
    w1, w2 = (p.detach().numpy().astype(np.float64)[..., 0, 0] for p in (module.channel.fc1.weight, module.channel.fc2.weight))
    w = module.spatial.conv.conv.weight.detach().numpy().astype(np.float64)[0]  # (2, 7, 7)
    assert w1.shape == (2, 32) and w.shape == (2, 7, 7)
    mean, var, gamma, beta = (float(p.detach()) for p in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    for n in range(2):
        by_mean, by_max = (w2 @ np.maximum(w1 @ z, 0) for z in (plain[n].mean((1, 2)), plain[n].max((1, 2))))
        refined = plain[n] * sigmoid(by_mean + by_max)[:, None, None]  # Eq. 2
        both = np.pad(np.stack([refined.mean(0), refined.max(0)]), ((0, 0), (3, 3), (3, 3)))
        place = np.array([[(w * both[:, r : r + 7, c : c + 7]).sum() for c in range(6)] for r in range(5)])
        place = (place - mean) / np.sqrt(var + norm.eps) * gamma + beta
        assert np.allclose(module(x)[n].detach(), refined * sigmoid(place)[None], atol=1e-5)  # Eq. 3


def test_residual_attention_is_one_plus_mask_times_trunk() -> None:
    x, _ = given(8)
    module = ResidualAttention(8, 2).eval()
    with torch.no_grad():
        inner = module.before(x)
        mask = torch.sigmoid(module.soft(module.mask(inner)))
        assert torch.allclose(module(x), module.after((1 + mask) * module.trunk(inner)), atol=1e-6)
        assert float(mask.min()) > 0 and float(mask.max()) < 1
        nn.init.constant_(module.soft[-1].weight, 0.0), nn.init.constant_(module.soft[-1].bias, -100.0)  # a mask of nothing leaves the trunk
        assert torch.allclose(module(x), module.after(module.trunk(inner)), atol=1e-6)
    assert (len(module.before), len(module.trunk), len(module.after), len(module.mask.down)) == (1, 2, 1, 1)  # p, t, p, r


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 7), (28, 19)])
def test_a_mask_fits_maps_of_any_size(shape: tuple[int, int]) -> None:
    for depth in (1, 3):
        with torch.no_grad():
            assert Hourglass(4, depth).eval()(torch.rand(1, 4, *shape)).shape == (1, 4, *shape)


def test_focal_loss_is_its_closed_form() -> None:
    logits, target = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 1])
    p = np.exp([2.0, 0.0, -1.0])[0] / np.exp([2.0, 0.0, -1.0]).sum(), np.exp([0.5, 0.5, 3.0])[1] / np.exp([0.5, 0.5, 3.0]).sum()
    terms = [-a * (1 - q) ** 2 * np.log(q) for a, q in zip((0.25, 0.6), p, strict=True)]
    assert float(focal(logits, target, 2.0, torch.tensor([0.25, 0.6, 1.0]))) == pytest.approx(sum(terms) / 2, rel=1e-5)
    weighted = (3 * terms[0] + 1 * terms[1]) / 4
    assert float(focal(logits, target, 2.0, torch.tensor([0.25, 0.6, 1.0]), torch.tensor([3.0, 1.0, 9.0]))) == pytest.approx(weighted, rel=1e-5)


def test_focal_loss_without_focus_is_weighted_cross_entropy() -> None:
    logits, target, weight = torch.randn(40, 4), torch.randint(0, 4, (40,)), torch.tensor([0.2, 1.0, 3.0, 0.7])
    assert torch.allclose(focal(logits, target, 0.0, weight=weight), F.cross_entropy(logits, target, weight), atol=1e-6)
    assert torch.allclose(focal(logits, target, 0.0), F.cross_entropy(logits, target), atol=1e-6)
    alpha = torch.tensor([0.2, 1.0, 3.0, 0.7])
    each = F.cross_entropy(logits, target, reduction="none") * alpha[target]
    assert torch.allclose(focal(logits, target, 0.0, alpha), each.mean(), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_case_that_is_sure_has_a_slope_that_is_finite(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 0]), gamma).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_the_settings_choose_the_loss() -> None:
    logits, target = torch.randn(8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0])
    assert torch.equal(label_loss(LabelLossConfig(), logits, target), F.cross_entropy(logits, target))
    weights = (1.0, 2.0, 4.0)
    assert torch.equal(label_loss(LabelLossConfig(class_weights=weights), logits, target), F.cross_entropy(logits, target, torch.tensor(weights)))
    half = LabelLossConfig(kind="focal", gamma=1.0, alpha=0.5)
    assert torch.allclose(label_loss(half, logits, target), focal(logits, target, 1.0) / 2)
    assert torch.equal(label_loss(LabelLossConfig(kind="focal", alpha=weights), logits, target), focal(logits, target, 2.0, torch.tensor(weights)))
    with pytest.raises(ConfigError, match=r"loss.alpha holds 2 numbers, there are 3 classes"):
        label_loss(LabelLossConfig(kind="focal", alpha=(1.0, 2.0)), logits, target)
    for wrong in (target - 1, target.float(), target[:5]):
        with pytest.raises(InputError, match="wanted 8 whole numbers from 0 to 2"):
            label_loss(LabelLossConfig(), logits, wrong)
