from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import tacit.learn.ct_encoder as module
from tacit.learn.ct_encoder import CtEncoder, CtEncoderConfig, drawn_slices, slice_batches
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import BackboneConfig
from tacit.parts.train import TrainConfig
from tacit.parts.weights import load_tensors
from tacit.phantom.ct_config import CtConfig
from tacit.use.taught import drawn_backbone

SMALL = CtEncoderConfig(
    ct=CtConfig(covid_share=(0.1, 0.15), cap_share=(0.06, 0.1)),
    backbone=BackboneConfig(name="test_resnet"),
    slices=24,
    a_patient=4,
    matrix=72,
    size=64,
    train=TrainConfig(epochs=3, steps=40, batch=16, lr=6e-3, average=0.0, precision="fp32"),
)


@pytest.fixture(scope="module")
def lessons() -> list:
    return drawn_slices(SMALL, Workshop())


def test_a_view_moves_the_lesions_with_the_slice(lessons: list) -> None:
    batch = slice_batches(lessons, SMALL, 0)(3)
    assert batch["x"].shape == (16, 3, 64, 64) and batch["place"].shape == (16, 3, 64, 64) and batch["lung"].shape == (16, 64, 64)
    assert torch.equal(batch["x"][:, 0], batch["x"][:, 2]) and torch.equal(slice_batches(lessons, SMALL, 0)(3)["x"], batch["x"])
    ill = batch["place"].amax(1) > 0
    assert ill.any() and (batch["lung"][ill] > 0).float().mean() > 0.97  # lesions lie in lungs
    consolidation = batch["place"][:, 1] > 0
    well = (batch["lung"] > 0) & ~ill
    assert batch["x"][:, 0][consolidation].mean() > batch["x"][:, 0][well].mean() + 0.5  # and are denser, wherever the view took them
    assert (batch["lung"].sum((1, 2)) < 64 * 64).all()


def test_it_learns_to_tell_slices_with_a_lesion(lessons: list) -> None:
    network = CtEncoder(SMALL)
    batches = slice_batches(lessons, SMALL, 0)
    shop = Workshop()
    shop.train("ct", network, batches, SMALL.train, seed=0)
    fresh = slice_batches(lessons, SMALL, 1)
    told, truth = [], []
    with torch.no_grad():
        for step in range(6):
            batch = fresh(step)
            told.append(1 - network.kind(network(batch["x"])).softmax(1)[:, 0].numpy())
            truth.append((batch["place"].amax((1, 2, 3)) > 0).numpy())
    assert roc_auc_score(np.concatenate(truth), np.concatenate(told)) > 0.72


def test_the_loss_counts_kind_share_and_place_by_hand() -> None:
    network = CtEncoder(SMALL)
    place = torch.zeros(1, 3, 64, 64)
    place[0, 1, :32, :32] = 1  # a quarter of the view is consolidation
    batch = {"x": torch.randn(1, 3, 64, 64), "place": place, "lung": torch.ones(1, 64, 64)}
    network.eval()
    found = network.loss(batch)
    features, maps = network(batch["x"]), network.encoder.map(batch["x"])
    assert found["kind"].item() == pytest.approx(-network.kind(features).log_softmax(1)[0, 2].item(), abs=1e-5)
    off = (network.share(features)[0] - torch.tensor([0.0, 0.5, 0.0])).abs()
    assert found["share"].item() == pytest.approx(torch.where(off < 1, 0.5 * off**2, off - 0.5).mean().item(), abs=1e-5)
    cells = torch.zeros(1, 3, 2, 2)
    cells[0, 1, 0, 0] = 1
    p = network.place(maps).sigmoid()
    assert found["place"].item() == pytest.approx(-(cells * p.log() + (1 - cells) * (1 - p).log()).mean().item(), abs=1e-5)


def test_the_backbone_is_taught_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        module, "CtEncoderConfig", lambda backbone: SMALL.model_copy(update={"backbone": backbone, "train": TrainConfig(epochs=1, steps=1, batch=4)})
    )
    path = drawn_backbone("test_resnet")
    tensors, _ = load_tensors(path)
    assert path.parent == tmp_path and set(tensors) == set(CtEncoder(SMALL).encoder.net.state_dict())
    before = path.stat().st_mtime_ns
    assert drawn_backbone("test_resnet") == path and path.stat().st_mtime_ns == before
