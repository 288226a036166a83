"""Losses and the slow copy beside those of lightly, an independent implementation, for the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tacit.learn.dense_cl import correspondence
from tacit.learn.simclr import nt_xent
from tacit.parts.decoder import declare_torchvision_operators
from tacit.parts.head import follow, slow_copy
from test_pretraining import batch, made

declare_torchvision_operators()

from lightly.loss import NegativeCosineSimilarity, NTXentLoss  # noqa: E402
from lightly.models.utils import select_most_similar, update_momentum  # noqa: E402


@pytest.mark.parametrize(("n", "width", "temperature"), [(2, 3, 0.5), (6, 9, 0.1), (17, 128, 1.0)])
def test_simclrs_loss_and_its_gradient_are_lightlys(n: int, width: int, temperature: float) -> None:
    torch.manual_seed(n)
    views = torch.randn(2, n, width)
    ours, theirs = views.clone().requires_grad_(), views.clone().requires_grad_()
    mine, other = nt_xent(ours[0], ours[1], temperature), NTXentLoss(temperature=temperature)(theirs[0], theirs[1])
    mine.backward(), other.backward()
    assert float(mine.detach()) == pytest.approx(float(other.detach()), rel=1e-5)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_simclrs_whole_step_has_lightlys_loss() -> None:
    module, views = made("simclr").train(), batch(0)
    embedded = [copy.deepcopy(module).projector(copy.deepcopy(module).encoder(views[k])) for k in "ab"]
    assert float(module.loss(views)["loss"].detach()) == pytest.approx(float(NTXentLoss(temperature=0.5)(*embedded).detach()), rel=1e-5)


def test_simsiams_loss_is_lightlys_both_ways() -> None:
    module, views, loss = made("simsiam").train(), batch(0), NegativeCosineSimilarity()
    z = {k: module.projector(module.encoder(views[k])) for k in "ab"}
    p = {k: module.predictor(z[k]) for k in "ab"}
    wanted = 0.5 * (loss(p["a"], z["b"].detach()) + loss(p["b"], z["a"].detach()))
    wanted.backward()
    theirs = [w.grad.clone() for w in module.parameters()]
    module.zero_grad()
    found = module.loss(views)["loss"]
    found.backward()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), abs=1e-6)
    assert all(torch.allclose(w.grad, g, atol=1e-6) for w, g in zip(module.parameters(), theirs, strict=True))


def test_places_are_matched_as_lightly_matches_them() -> None:
    torch.manual_seed(4)
    f, other, values = torch.randn(3, 9, 6), torch.randn(3, 9, 6), torch.randn(3, 9, 5)
    c, _ = correspondence(f, other)
    assert torch.equal(values.gather(1, c[..., None].expand_as(values)), select_most_similar(f, other, values))
    assert len(set(c.flatten().tolist())) > 3


def test_densecls_losses_are_lightlys_over_its_matched_places() -> None:
    module, views = made("densecl").train(), batch(0, side=96)
    with torch.no_grad():
        f, slow = module.encoder.map(views["a"]), module.slow_encoder.map(views["b"])
        places, slow_places = f.flatten(2).transpose(1, 2), slow.flatten(2).transpose(1, 2)
        t = select_most_similar(places, slow_places, module.slow_dense_projector(slow_places))
        whole = module.projector(f.mean((2, 3))), module.slow_projector(slow.mean((2, 3)))
        found = module.loss(views)
        for name, keys, q, k in (("global", module.keys, *whole), ("dense", module.dense_keys, module.dense_projector(places).flatten(0, 1), t.flatten(0, 1))):
            peer = NTXentLoss(temperature=0.2, memory_bank_size=(20, 16))
            peer.memory_bank.bank, peer.memory_bank.bank_ptr = keys.clone(), torch.zeros(1, dtype=torch.int64)
            assert float(found[name]) == pytest.approx(float(peer(q, k)), rel=1e-5), name


def test_byols_loss_is_two_plus_two_lightlys_in_each_direction() -> None:
    module, views, loss = made("byol").train(), batch(0), NegativeCosineSimilarity()
    with torch.no_grad():
        p = {k: module.predictor(module.projector(module.encoder(views[k]))) for k in "ab"}
        z = {k: module.slow_projector(module.slow_encoder(views[k])) for k in "ab"}
    wanted = (2 + 2 * loss(p["a"], z["b"])) + (2 + 2 * loss(p["b"], z["a"]))
    assert float(module.loss(views)["loss"].detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_mocos_loss_is_lightlys_with_the_same_queue() -> None:
    module, views = made("moco").train(), batch(0)
    peer = NTXentLoss(temperature=0.2, memory_bank_size=(20, 16))
    peer.memory_bank.bank, peer.memory_bank.bank_ptr = module.keys.clone(), torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        q, k = module.projector(module.encoder(views["a"])), module.slow_projector(module.slow_encoder(views["b"]))
        wanted = peer(q, k)
    assert float(module.loss(views)["loss"].detach()) == pytest.approx(float(wanted), rel=1e-5)


def test_the_slow_copy_follows_as_lightlys() -> None:
    torch.manual_seed(0)
    fast = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    ours, theirs = slow_copy(fast), copy.deepcopy(fast)
    for k in range(6):
        with torch.no_grad():
            for p in fast.parameters():
                p.add_(torch.randn_like(p))
        follow(ours, fast, 0.9 + 0.01 * k)
        update_momentum(fast, theirs, 0.9 + 0.01 * k)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
