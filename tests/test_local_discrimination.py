from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import tacit
from tacit.config import build
from tacit.errors import ConfigError
from tacit.learn.local_discrimination import (
    LocalDiscrimination,
    LocalDiscriminationConfig,
    assignment_entropy,
    cell_window,
    discriminate,
    imbalance,
    regions,
)
from tacit.parts.train import TrainConfig, fit
from tacit.parts.vgg_unet import VggUNet, VggUNetConfig

SMALL = LocalDiscriminationConfig(network=VggUNetConfig(width=8), dimensions=6, clusters=4, grid=4)


def batch(size: int = 32, n: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    x = torch.randn(2 * n, 3, size, size)
    rows, cols = torch.meshgrid(*[(torch.arange(size) + 0.5) * 2 / size - 1] * 2, indexing="ij")
    same = torch.stack([cols, rows], -1).expand(2 * n, size, size, 2)
    return {"a": x, "b": x + 0.1 * torch.randn_like(x), "grid": same, "inside": torch.ones(2 * n, size, size), "mix": torch.rand(2 * n)}


def test_patch_discrimination_equals_its_definition_written_as_loops() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(5, 4, dtype=torch.float64), dim=1) for _ in range(2))
    v, total = torch.cat([a, b]), 0.0
    for i in range(10):
        e = {k: math.exp(float(v[i] @ v[k]) / 0.1) for k in range(10) if k != i}
        p = {k: e[k] / sum(e.values()) for k in e}
        partner = (i + 5) % 10
        total += math.log(p[partner]) + sum(math.log(1 - p[k]) for k in p if k != partner)
    assert float(discriminate(a, b, 0.1)) == pytest.approx(-total / 10, rel=1e-6)


def test_a_mixture_is_told_from_others_by_its_own_share() -> None:
    """Two mixtures, λ = .3 and .65 of the first picture, all from the network's own embeddings by loops."""
    method, given = LocalDiscrimination(SMALL).eval(), batch()
    given["a"] = given["a"] * torch.tensor([0.3, 2.0, 1.0, 0.1])[:, None, None, None] + torch.tensor([1.0, -2.0, 0.0, 3.0])[:, None, None, None]
    given["mix"] = torch.tensor([0.1 / 0.6, 0.9, 0.45 / 0.6, 0.0])  # of .2 to .8; every second one counts

    def embedded(x: torch.Tensor) -> np.ndarray:
        v = method(x[None])[0][0].double().numpy()  # (d, 32, 32)
        means = [v[:, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].mean((1, 2)) for i in range(4) for j in range(4)]
        return np.stack([m / np.linalg.norm(m) for m in means])  # (16, d)

    def by_hand(picture: tuple[float, float], target: tuple[float, float]) -> float:
        a, seen, wanted = given["a"], [], []
        for n in range(2):
            seen.append(embedded(picture[n] * a[2 * n] + (1 - picture[n]) * a[2 * n + 1]))
            t = target[n] * embedded(a[2 * n]) + (1 - target[n]) * embedded(a[2 * n + 1])
            wanted.append(t / np.linalg.norm(t, axis=1, keepdims=True))
        v, total = np.concatenate([*seen, *wanted]), 0.0
        for i in range(64):
            e = np.exp(v @ v[i] / 0.1)
            e[i] = 0
            p, partner = e / e.sum(), (i + 32) % 64
            total += np.log(p[partner]) + sum(np.log(1 - p[k]) for k in range(64) if k not in (i, partner))
        return float(-total / 64)

    with torch.no_grad():
        mixture = float(method.losses(given)[0]["mixture"])
        right, swapped = (0.3, 0.65), (0.7, 0.35)
        assert mixture == pytest.approx(by_hand(right, right), rel=1e-4)
        for wrong in ((right, swapped), (swapped, right), (swapped, swapped)):
            assert by_hand(*wrong) != pytest.approx(mixture, rel=1e-3)


def test_no_gradient_flows_through_the_second_factor() -> None:
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(3, 4, dtype=torch.float64), dim=1).requires_grad_() for _ in range(2))
    discriminate(a, b, 0.5).backward()
    v = torch.cat([a, b]).detach()
    own = torch.zeros_like(v)
    for i in range(6):
        w = v[i].clone().requires_grad_()
        logits = torch.stack([w @ v[k] / 0.5 for k in range(6) if k != i])
        p, partner = torch.softmax(logits, 0), [k for k in range(6) if k != i].index((i + 3) % 6)
        (-(p[partner].log() + sum((1 - p[k]).log() for k in range(5) if k != partner)) / 6).backward()
        own[i] = w.grad
    assert torch.allclose(torch.cat([a.grad, b.grad]), own, atol=1e-10)


def test_region_discrimination_by_hand() -> None:
    """Two pictures of two pixels, one a cluster, embeddings e1 and e2: prototypes are e1 and e2, so the loss is −log(e⁵ / (e⁵ + 1)) at T = .2."""
    v = torch.eye(2).reshape(1, 2, 1, 2).expand(2, 2, 1, 2)
    m = torch.eye(2).reshape(1, 2, 1, 2).expand(2, 2, 1, 2)
    assert float(regions(v, m, 0.2)) == pytest.approx(-math.log(math.exp(5) / (math.exp(5) + 1)), rel=1e-5)


def test_entropy_and_balance_at_their_ends() -> None:
    even, one = torch.full((1, 4, 2, 2), 0.25), torch.zeros(1, 4, 2, 2)
    one[:, 0] = 1
    assert float(imbalance(even)) == pytest.approx(0, abs=1e-6) and float(imbalance(one)) == pytest.approx(math.log(4), abs=1e-5)
    assert float(assignment_entropy(torch.full((1, 1, 2, 2), 0.5))) == pytest.approx(1) and float(assignment_entropy(one)) < 1e-3


def test_clusters_are_shares_and_embeddings_are_unit_vectors_of_any_size() -> None:
    method = LocalDiscrimination(SMALL).eval()
    v, m = method(torch.randn(2, 3, 37, 50))
    assert v.shape == (2, 6, 37, 50) and m.shape == (2, 4, 37, 50)
    assert torch.allclose(v.norm(dim=1), torch.ones(2, 37, 50), atol=1e-5) and torch.allclose(m.sum(1), torch.ones(2, 37, 50), atol=1e-5)


def test_the_paper_s_network_has_its_channels_and_its_weights() -> None:
    maps = VggUNet(VggUNetConfig()).maps(torch.zeros(1, 3, 64, 64))
    assert [tuple(m.shape[1:]) for m in maps] == [(16, 64, 64), (32, 32, 32), (64, 16, 16), (128, 8, 8), (128, 4, 4)]
    count = sum(p.numel() for p in LocalDiscrimination().parameters())
    assert count == pytest.approx(1.43e6, rel=0.005)  # the paper's 1.43 M


def test_a_cell_s_mean_passes_over_what_the_other_view_does_not_show() -> None:
    method = LocalDiscrimination(SMALL)
    v = F.normalize(torch.randn(1, 6, 16, 16), dim=1)
    inside = torch.ones(1, 1, 16, 16)
    inside[..., :2, :] = 0
    f = method.cells(v, inside)
    by_hand = F.normalize(v[0, :, 2:4, 0:4].mean((1, 2)), dim=0)
    assert torch.allclose(f[0, 0], by_hand, atol=1e-5)
    assert method.seen_cells(inside).all()
    inside[..., :3, :] = 0
    assert not method.seen_cells(inside)[0, :4].any()


def test_the_window_is_one_in_the_middle_of_every_cell() -> None:
    window = cell_window((9, 9), 3, 0.25, torch.device("cpu"))[0, 0]
    assert torch.allclose(window[1::3, 1::3], torch.ones(3, 3)) and float(window[0, 0]) == pytest.approx(math.exp(-2 * 0.5 * (1 / 3 / 0.25) ** 2))


def test_more_clusters_than_a_view_has_pixels_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clusters=50177: expected at most 50176, the pixels of a view of size=224"):
        tacit.pretrain(tmp_path / "no folder", tmp_path / "o", method="local-discrimination", set=["clusters=50177"])
    with pytest.raises(ConfigError, match="dimensions=101: expected at most 100"):
        build(LocalDiscriminationConfig, {"size": 10, "dimensions": 101})
    assert build(LocalDiscriminationConfig, {"size": 10, "clusters": 100}).clusters == 100
    with pytest.raises(ConfigError, match="clusters=9217: expected at most 9216"):
        tacit.segment(tmp_path / "no folder", tmp_path / "o", shape_prior="simulated:vessels", set=["local.clusters=9217"])
    assert not (tmp_path / "o").exists()


def test_the_loss_falls_and_the_second_stage_begins_at_its_share() -> None:
    torch.manual_seed(0)
    method = LocalDiscrimination(SMALL).train()
    optimizer, given, first = torch.optim.Adam(method.parameters(), 3e-3), batch(), None
    for _ in range(12):
        values = method.loss(given)
        first = first or float(values["loss"].detach())
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
    assert float(values["loss"].detach()) < 0.9 * first and "regions" not in values and 1 <= float(values["clusters"]) <= 4
    method.before_step(0.1)
    assert not method.second_stage
    method.before_step(0.2)
    values = method.loss(given)
    assert method.second_stage and {"regions", "entropy", "imbalance"} <= set(values) and torch.isfinite(values["loss"])


def test_a_run_killed_in_its_second_stage_resumes_to_equal_weights(tmp_path: Path) -> None:
    train = TrainConfig(epochs=1, steps=6, batch=4, average=0.0, schedule="constant", checkpoint_every=3, precision="fp32")

    def made() -> LocalDiscrimination:
        torch.manual_seed(0)
        return LocalDiscrimination(SMALL)

    def killed(done: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    whole = fit(made(), lambda step: batch(), train, seed=0)
    with pytest.raises(KeyboardInterrupt):
        fit(made(), lambda step: batch(), train, seed=0, folder=tmp_path, after_step=killed)
    again = fit(made(), lambda step: batch(), train, seed=0, folder=tmp_path)
    assert all(torch.equal(x, y) for x, y in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
