"""PixPro: its pairs of places by hand and by a slow loop, its propagation and loss against slow loops and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit.learn.pix_pro import Pixpro, PixproConfig, consistency, positives
from tacit.parts.backbone import BackboneConfig
from tacit.prepare.place import place
from tacit.prepare.views import PRESETS, ViewDraw, draw_view, to_picture
from test_pretraining import batch

SIDE = 96  # px: maps of 3 × 3 places


def awake(module: Pixpro) -> Pixpro:
    """The ends of a ResNet's blocks begin at gain 0, which no gradient passes; here at 1."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bn2.weight"):
                weight.fill_(1.0)
    return module


def small(**changes: object) -> Pixpro:
    torch.manual_seed(0)
    return Pixpro(PixproConfig(**({"backbone": BackboneConfig(name="resnet10t"), "hidden": 24, "projection": 12, "size": SIDE} | changes))).train()


def places(*draws: ViewDraw) -> Tensor:
    return torch.from_numpy(np.stack([place(draw) for draw in draws]))


def pairs_of(mask: Tensor) -> set[tuple[int, int]]:
    return {(i, j) for i, j in mask.nonzero().tolist()}


def test_two_boxes_that_overlap_one_mirrored_by_hand() -> None:
    a = ViewDraw((100, 100), 8, (0, 0, 40, 40))  # middles (10, 10) (10, 30) (30, 10) (30, 30), a place's diagonal 20·√2
    b = ViewDraw((100, 100), 8, (0, 20, 40, 60), flip=True)  # middles (10, 50) (10, 30) (30, 50) (30, 30)
    assert pairs_of(positives(places(a), places(b), (2, 2), 0.7)[0]) == {(1, 1), (3, 3)}
    beside = {(0, 1), (2, 3), (1, 0), (1, 3), (3, 1), (3, 2)}  # 20 px apart: 1/√2 = .707 of a diagonal
    assert pairs_of(positives(places(a), places(b), (2, 2), 0.71)[0]) == {(1, 1), (3, 3)} | beside
    unmirrored = ViewDraw((100, 100), 8, (0, 20, 40, 60))
    assert pairs_of(positives(places(a), places(unmirrored), (2, 2), 0.7)[0]) == {(1, 0), (3, 2)}
    away = ViewDraw((100, 100), 8, (60, 60, 100, 100))
    assert not positives(places(a), places(away), (2, 2), 0.7).any()


def test_pairs_of_random_views_are_those_of_a_slow_loop() -> None:
    near, (h, w), found = 0.7, (3, 3), 0
    config = PRESETS["histology"][0].model_copy(update={"size": SIDE, "scale": (0.1, 1.0)})
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = (draw_view(rng, (200, 150), config) for _ in range(2))
        mask = positives(places(a), places(b), (h, w), near)[0]
        step = SIDE / h
        middles = [to_picture(np.array([((i + 0.5) * step - 0.5, (j + 0.5) * step - 0.5) for i in range(h) for j in range(w)]), d) for d in (a, b)]
        diagonal = max(math.hypot((d.box[2] - d.box[0]) / h, (d.box[3] - d.box[1]) / w) for d in (a, b))
        for i, p in enumerate(middles[0]):
            for j, q in enumerate(middles[1]):
                assert bool(mask[i, j]) == (math.dist(p, q) / diagonal <= near), (seed, i, j)
        found += int(mask.sum())
    assert found > 50


def test_propagation_is_a_slow_loops() -> None:
    module, x = small(sharpness=2.0), torch.randn(2, 5, 12)
    found = module.propagate(x).detach()
    g = module.transform
    assert len(g) == 1  # one layer and nothing else, as by default
    for n in range(2):
        for i in range(5):
            y = torch.zeros(12)
            for j in range(5):
                cosine = float(x[n, i] @ x[n, j] / (x[n, i].norm() * x[n, j].norm()))
                y += max(cosine, 0.0) ** 2 * (g[0].weight.detach() @ x[n, j] + g[0].bias.detach())
            assert torch.allclose(found[n, i], y, atol=1e-4)


def test_consistency_is_a_slow_loops_and_pictures_without_pairs_count_as_nothing() -> None:
    torch.manual_seed(1)
    y, x, pairs = torch.randn(3, 4, 6), torch.randn(3, 4, 6), torch.rand(3, 4, 4) < 0.4
    pairs[1] = False
    total = 0.0
    for n in (0, 2):
        cosines = [float(torch.cosine_similarity(y[n, i], x[n, j], dim=0)) for i in range(4) for j in range(4) if pairs[n, i, j]]
        total -= sum(cosines) / len(cosines)
    assert float(consistency(y, x, pairs)) == pytest.approx(total / 3, abs=1e-6)


def identity(module: Pixpro) -> Pixpro:
    with torch.no_grad():
        module.transform[0].weight.copy_(torch.eye(12))
        module.transform[0].bias.zero_()
    return module


def same_views() -> dict[str, Tensor]:
    views = batch(0, 4, SIDE)
    return views | {"b": views["a"], "place_b": views["place_a"]}


def test_the_loss_of_a_view_with_itself() -> None:
    alone = identity(small(sharpness=1e5)).loss(same_views())  # no place is smoothed by another, so each meets itself
    assert float(alone["loss"].detach()) == pytest.approx(-2, abs=1e-4) and float(alone["overlap"]) == 1
    module = identity(small())
    with torch.no_grad():
        x = module.projector(module.encoder.map(same_views()["a"]).flatten(2).transpose(1, 2).flatten(0, 1))
    wanted = 0.0
    for own in x.split(9):
        unit = torch.nn.functional.normalize(own, dim=1)
        wanted -= 2 * float(torch.cosine_similarity((unit @ unit.T).clamp_min(0) ** 2 @ own, own, dim=1).mean()) / 4
    assert float(module.loss(same_views())["loss"].detach()) == pytest.approx(wanted, abs=1e-4)
    assert -2 < wanted < -0.5


def test_views_apart_teach_nothing() -> None:
    views = batch(0, 4, SIDE)
    apart = small().loss(views | {"place_b": views["place_a"] + torch.tensor([0.0, 0.0, 10.0 * SIDE])})
    assert float(apart["loss"].detach()) == 0 and float(apart["overlap"]) == 0


def test_every_weight_learns_and_the_slow_copy_follows_without_a_gradient() -> None:
    module = awake(small(layers=2, rising=False, momentum=0.9))
    module.loss(batch(0, 4, SIDE))["loss"].backward()
    for name, weight in module.named_parameters():
        if name.startswith("slow_"):
            assert weight.grad is None and not weight.requires_grad, name
        else:
            assert weight.grad is not None and float(weight.grad.abs().sum()) > 0, name
    before, fast = module.slow_projector[0].weight.clone(), module.projector[0].weight
    with torch.no_grad():
        fast.add_(1.0)
    module.after_step(0.5)
    assert torch.allclose(module.slow_projector[0].weight, 0.9 * before + 0.1 * fast, atol=1e-6)


def test_a_root_of_the_likeness_keeps_finite_slopes() -> None:
    module, x = small(sharpness=0.5), torch.randn(2, 6, 12, requires_grad=True)
    module.propagate(x).square().sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("name", "size", "said"), [("test_vit", 160, "a map"), ("vit_tiny_patch16_224", 64, "takes no views of size=64")])
def test_a_network_without_a_map_is_refused_before_anything_is_read(name: str, size: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Pixpro(PixproConfig(backbone=BackboneConfig(name=name), size=size))
