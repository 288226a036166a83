"""DenseCL: the dense loss against a slow loop, places matched by hand, both queues."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.errors import ConfigError
from tacit.learn.dense_cl import Densecl, DenseclConfig, correspondence, info_nce
from tacit.parts.backbone import BackboneConfig
from tacit.parts.queue import enqueue
from test_pretraining import batch

SIDE = 96  # px: maps of 3 × 3 places


def awake(module: Densecl) -> Densecl:
    """The ends of a ResNet's blocks begin at gain 0, which no gradient passes; here at 1."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bn2.weight"):
                weight.fill_(1.0)
    return module


def small(**changes: object) -> Densecl:
    torch.manual_seed(0)
    return Densecl(DenseclConfig(**({"backbone": BackboneConfig(name="resnet10t"), "projection": 12, "queue": 10, "size": SIDE} | changes))).train()


def test_the_dense_loss_with_a_correspondence_written_by_hand() -> None:
    torch.manual_seed(1)
    match = [2, 0, 3, 1]
    f = torch.eye(4)[None] + 0.1 * torch.rand(1, 4, 4)
    other = torch.zeros_like(f)
    for i, j in enumerate(match):
        other[0, j] = 3.0 * f[0, i]  # its length says nothing
    c, cosine = correspondence(f, other)
    assert c.tolist() == [match] and torch.allclose(cosine, torch.ones(1, 4), atol=1e-6)
    r, t, negatives = (F.normalize(torch.randn(n, 5), dim=1) for n in (4, 4, 7))
    total = 0.0
    for i, j in enumerate(match):
        positive = math.exp(float(r[i] @ t[j]) / 0.2)
        total -= math.log(positive / (positive + sum(math.exp(float(r[i] @ negative) / 0.2) for negative in negatives)))
    assert float(info_nce(r, t[c[0]], negatives, 0.2)) == pytest.approx(total / 4, rel=1e-5)


def by_hand(module: Densecl, views: dict[str, Tensor]) -> tuple[float, float, Tensor]:
    """The global loss, the dense loss and the mean dense keys, place by place."""
    with torch.no_grad():
        f, other = module.encoder.map(views["a"]), module.slow_encoder.map(views["b"])  # (n, f, 3, 3)
        whole = dense = 0.0
        means = []
        for n in range(len(f)):
            q, k = (F.normalize(head(m[n].mean((1, 2))), dim=0) for head, m in ((module.projector, f), (module.slow_projector, other)))
            whole += nce(q, k, module.keys)
            spots = [(i, j) for i in range(3) for j in range(3)]
            keys = {s: module.slow_dense_projector(other[n][:, s[0], s[1]]) for s in spots}
            means.append(F.normalize(sum(keys.values()) / 9, dim=0))
            for i, j in spots:
                here = f[n][:, i, j]
                like = max(spots, key=lambda s: float(F.cosine_similarity(here, other[n][:, s[0], s[1]], dim=0)))
                dense += nce(F.normalize(module.dense_projector(here), dim=0), F.normalize(keys[like], dim=0), module.dense_keys) / 9
    return whole / len(f), dense / len(f), torch.stack(means)


def nce(q: Tensor, k: Tensor, keys: Tensor) -> float:
    positive = math.exp(float(q @ k) / 0.2)
    return -math.log(positive / (positive + sum(math.exp(float(q @ key) / 0.2) for key in keys)))


def test_both_losses_and_the_keys_are_those_of_a_slow_loop() -> None:
    module, views = small(), batch(0, 4, SIDE)
    whole, dense, means = by_hand(module, views)
    found = module.loss(views)
    assert float(found["global"]) == pytest.approx(whole, rel=1e-4) and float(found["dense"]) == pytest.approx(dense, rel=1e-4)
    assert float(found["loss"].detach()) == pytest.approx(0.5 * whole + 0.5 * dense, rel=1e-4)
    module.after_step(0.0)
    assert torch.allclose(module.dense_keys[:4], means, atol=1e-5)
    for share, wanted in ((0.0, whole), (1.0, dense), (0.3, 0.7 * whole + 0.3 * dense)):
        assert float(small(dense=share).loss(views)["loss"].detach()) == pytest.approx(wanted, rel=1e-4)


def test_both_queues_keep_the_newest_keys() -> None:
    module, seen = small(), []
    for step in range(3):
        module.loss(batch(step, 4, SIDE))
        seen.append(module._fresh)
        module.after_step(0.0)
    for keys, at, which in ((module.keys, module.at, 0), (module.dense_keys, module.dense_at, 1)):
        newest = torch.cat([fresh[which] for fresh in seen])[-10:]
        assert int(at) == 2 and torch.allclose(torch.cat([keys[2:], keys[:2]]), newest, atol=1e-6)
        assert torch.allclose(keys.norm(dim=1), torch.ones(10), atol=1e-5)


def test_a_queue_goes_round_its_end_and_takes_the_newest_of_too_many() -> None:
    keys, at = torch.zeros(4, 1), torch.zeros((), dtype=torch.int64)
    enqueue(keys, at, torch.tensor([[1.0], [2.0], [3.0]]))
    assert keys[:, 0].tolist() == [1, 2, 3, 0] and int(at) == 3
    enqueue(keys, at, torch.tensor([[4.0], [5.0]]))
    assert keys[:, 0].tolist() == [5, 2, 3, 4] and int(at) == 1
    enqueue(keys, at, torch.arange(10.0, 16.0)[:, None])
    assert sorted(keys[:, 0].tolist()) == [12, 13, 14, 15]


def test_a_large_map_is_averaged_down_to_the_grid_and_a_small_one_stays() -> None:
    x = torch.randn(2, 3, 128, 128)  # a map of 4 × 4
    module = small(grid=2).eval()
    whole, places = module._seen(module.encoder, x)
    seen = module.encoder.map(x)
    assert torch.allclose(places[:, 1], seen[:, :, :2, 2:].mean((2, 3)), atol=1e-5)  # row by row
    assert torch.allclose(whole, module.features(x), atol=1e-5) and places.shape[1] == 4
    assert small(grid=7).eval()._seen(module.encoder, x)[1].shape[1] == 16


def test_every_weight_learns_and_none_of_the_slow_copy() -> None:
    module = awake(small())
    module.loss(batch(0, 4, SIDE))["loss"].backward()
    for name, weight in module.named_parameters():
        if name.startswith("slow_"):
            assert weight.grad is None and not weight.requires_grad, name
        else:
            assert weight.grad is not None and float(weight.grad.abs().sum()) > 0, name


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ConfigError, match="use a convolutional one"):
        Densecl(DenseclConfig(backbone=BackboneConfig(name="test_vit"), size=160))
