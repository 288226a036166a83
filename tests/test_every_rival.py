"""The contract of the rivals: what every method that answers with clusters must do, on drawings, in seconds, on one thread; truth reaches none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import tacit
from tacit.config import build
from tacit.errors import InputError, ReadError, TrainingError
from tacit.learn.cluster_maps import COLLAPSED
from tacit.learn.rivals import FAST, LEARNT_BEFORE_K, RIVALS
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.parts.train import TrainConfig, fit
from tacit.parts.weights import load_into, save_tensors
from tacit.phantom import tissue

NETWORK = {"network": {"width": 4, "depth": 2}, "side": 40}
STEPS = {"train": {"steps": 3, "batch": 2}, "size": 32, "dimensions": 8}
SMALL: dict[str, dict[str, Any]] = {
    "random-features": NETWORK,
    "colour-clusters": {"side": 40},
    "iic": NETWORK | STEPS,
    "deep-cluster": NETWORK | STEPS | {"rounds": 2},
    "picie": NETWORK | STEPS | {"rounds": 2, "clustered": 2},
    "feature-clustering": {"side": 40, "channels": 8, "steps": 4},
    "densecl-clusters": NETWORK | STEPS | {"densecl": {"projection": 8, "grid": 4, "queue": 16}},
    "pixpro-clusters": NETWORK | STEPS | {"pixpro": {"projection": 8, "hidden": 8}},
    "k-means": {"network": {"name": "resnet10t"}, "side": 40},
}
FLAT_IS_REFUSED = ("random-features", "colour-clusters", "deep-cluster", "feature-clustering")  # a flat picture has one feature, so no two clusters
BORDERS_TELL = ("picie", "densecl-clusters", "pixpro-clusters", "k-means")  # a flat picture has other features at its border, by which it is parted
LEARNING = ("iic", "deep-cluster", "picie", "densecl-clusters", "pixpro-clusters")


def made(name: str, clusters: int = 3) -> Any:
    torch.manual_seed(0)
    return RIVALS[name](build(RIVALS[name].Config, SMALL[name], {"clusters": clusters}))


def pictures(count: int = 3) -> list[np.ndarray]:
    return [tissue.draw(np.random.default_rng([5, i]), (60 + 7 * i, 84), 2.5).picture for i in range(count)]


def fitted(name: str, seed: int = 0, clusters: int = 3) -> Any:
    method = made(name, clusters)
    return method.fit([method.working(p) for p in pictures()], Workshop(seed=seed))


def batch_for(name: str) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(2, 3, 32, 32, generator=g) for _ in range(2))
    line = torch.linspace(-1 + 1 / 32, 1 - 1 / 32, 32)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None].expand(2, -1, -1, -1)
    label = (a[:, 0] > 0).long()
    place = torch.eye(2, 3)[None].expand(2, -1, -1) * 30
    return {"x": a, "a": a, "b": b, "grid": grid, "label": label, "y1": label, "y2": label, "place_a": place, "place_b": place}


def learner(name: str) -> Any:
    method = made(name)
    return getattr(method, "taught", method)


def test_every_rival_is_known_and_has_a_fast_budget() -> None:
    assert set(FAST) == set(RIVALS) == set(SMALL) and set(RIVALS) <= set(STRUCTURES) and set(LEARNT_BEFORE_K) <= set(RIVALS)
    for name, preset in FAST.items():
        build(RIVALS[name].Config, preset)


@pytest.mark.parametrize("name", RIVALS)
def test_every_pixel_of_any_picture_has_one_cluster(name: str) -> None:
    method = fitted(name)
    assert method.CLASSES == ("cluster-1", "cluster-2", "cluster-3") and method.FILLS and method.UNNAMED
    for shape in ((41, 97), (90, 60)):
        p = method.probability(tissue.draw(np.random.default_rng(0), shape, 2.5).picture)
        assert p.shape == (3, *shape) and p.dtype == np.float32 and set(np.unique(p)) <= {0.0, 1.0} and (p.sum(0) == 1).all()
    assert method.probability(np.zeros((50, 70), np.uint16)).shape == (3, 50, 70)


@pytest.mark.parametrize("name", RIVALS)
def test_same_seed_same_weights_and_another_seed_others(name: str) -> None:
    states = [fitted(name, seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


@pytest.mark.parametrize("name", RIVALS)
def test_saved_and_loaded_answers_alike_and_remembers_no_picture(name: str, tmp_path: Path) -> None:
    method = fitted(name)
    save_tensors(tmp_path / "w.safetensors", method.state_dict())
    other = RIVALS[name](method.config)
    load_into(other, tmp_path / "w.safetensors")
    a, b = pictures(2)
    first = other.eval().probability(a)
    assert np.array_equal(method.probability(a), first)
    other.probability(b)
    assert np.array_equal(other.probability(a), first)


@pytest.mark.parametrize("name", LEARNING)
def test_the_loss_falls(name: str) -> None:
    method, batch = learner(name), batch_for(name)
    torch.manual_seed(3)
    fit(method, lambda step: batch, TrainConfig(epochs=1, steps=10, lr=3e-3, average=0.0, precision="fp32"), seed=0)  # a queue is full by then
    first = float(method.train().loss(batch)["loss"].detach())
    fit(method, lambda step: batch, TrainConfig(epochs=1, steps=30, lr=3e-3, average=0.0, precision="fp32"), seed=0)
    assert float(method.train().loss(batch)["loss"].detach()) < first


@pytest.mark.parametrize("name", LEARNING)
def test_input_that_is_not_finite_stops_with_the_step(name: str) -> None:
    batch = batch_for(name)
    batch["a"][0, 0, 3, 3] = float("nan")  # x of DeepCluster too
    with pytest.raises(TrainingError, match="at step 0"):
        fit(learner(name), lambda step: batch, TrainConfig(epochs=1, steps=2), seed=0)


@pytest.mark.parametrize("name", LEARNING)
def test_a_stage_that_is_done_is_not_done_again_and_ends_alike(name: str, tmp_path: Path) -> None:
    method = made(name)
    frames = [method.working(p) for p in pictures()]
    method.fit(frames, Workshop(folder=tmp_path))
    said: list[str] = []
    again = made(name).fit(frames, Workshop(folder=tmp_path, say=said.append))
    assert any("already learnt" in line for line in said)
    assert all(torch.equal(a, b) for a, b in zip(method.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", RIVALS)
def test_one_picture_is_enough_and_flat_ones_are_named(name: str) -> None:
    method = made(name, 2)
    one = method.fit([method.working(pictures(1)[0])], Workshop())
    assert one.probability(pictures(1)[0]).shape == (2, 60, 84)
    flat, picture = made(name, 2), np.full((64, 80, 3), 180, np.uint8)
    if name in FLAT_IS_REFUSED:
        with pytest.raises(InputError, match="2 clusters were asked of the features of 2000 pixels, but all features have become one"):
            flat.fit([flat.working(picture)], Workshop())
        return
    said = flat.fit([flat.working(picture)], Workshop()).warnings()
    largest = float(flat.probability(picture).mean((1, 2)).max())
    if name in BORDERS_TELL:
        assert largest < COLLAPSED and said == []
    else:
        assert largest == 1 and said == ["collapsed: one of 2 clusters holds 100.0% of the pixels; the others say nothing (try another --seed)."]


@pytest.mark.parametrize("name", RIVALS)
def test_a_cluster_that_takes_all_is_said(name: str) -> None:
    method = made(name, 2)
    share = getattr(method, "centres", method).share
    for shares, told in (([1.0, 0.0], True), ([0.6, 0.4], False)):
        with torch.no_grad():
            share.copy_(torch.tensor(shares))
        assert [line.startswith("collapsed: one of 2 clusters holds 100.0%") for line in method.warnings()] == [True] * told


def test_truth_never_reaches_a_rival(tmp_path: Path) -> None:
    """Masks present, absent and scrambled give equal weights, whatever the method."""
    for name in RIVALS:
        found = []
        for kind in ("present", "absent", "scrambled"):
            folder = tmp_path / name / kind
            (folder / "images").mkdir(parents=True)
            for i, picture in enumerate(pictures()):
                Pillow.fromarray(picture).save(folder / "images" / f"t{i}.png")
                if kind != "absent":
                    (folder / "masks").mkdir(exist_ok=True)
                    labels = tissue.draw(np.random.default_rng([5, i]), picture.shape[:2], 2.5).labels
                    labels = np.random.default_rng(0).permutation(labels.ravel()).reshape(labels.shape) if kind == "scrambled" else labels
                    Pillow.fromarray(labels.astype(np.uint16)).save(folder / "masks" / f"t{i}.png")
                    shutil.copy(folder / "masks" / f"t{i}.png", folder / "images" / f"t{i}_anno.png")
            settings = [f"{k}={v}" for k, v in flat_settings(SMALL[name] | {"clusters": 2}).items()]
            done = tacit.segment(folder, tmp_path / name / f"{kind}-out", method=name, set=settings)
            assert done.images == 3
            found.append((tmp_path / name / f"{kind}-out" / "model" / "weights.safetensors").read_bytes())
        assert found[0] == found[1] == found[2], name


def flat_settings(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def test_a_picture_too_small_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    for i, picture in enumerate([*pictures(2), pictures(1)[0][:20, :30]]):
        Pillow.fromarray(picture).save(tmp_path / f"t{i}.png")
    settings = [f"{k}={v}" for k, v in flat_settings(SMALL["iic"]).items()]
    done = tacit.segment(tmp_path, tmp_path / "o", method="iic", set=settings)
    assert (done.images, done.failed) == (2, 1)
    assert "the picture is 20×30 px, smaller than the crops of 32 px" in (tmp_path / "o" / "failures.csv").read_text()
    assert not (tmp_path / "o" / "geojson").exists()  # nobody has named these clusters
    with pytest.raises(ReadError, match="another network"):
        load_into(made("picie"), tmp_path / "o" / "model" / "weights.safetensors")


def test_features_of_a_run_are_clustered_anew(tmp_path: Path) -> None:
    for i, picture in enumerate(pictures(2)):
        Pillow.fromarray(picture).save(tmp_path / f"t{i}.png")
    settings = [f"{k}={v}" for k, v in flat_settings(SMALL["densecl-clusters"]).items()]
    tacit.segment(tmp_path, tmp_path / "a", method="densecl-clusters", set=settings)
    tacit.segment(tmp_path / "t0.png", tmp_path / "b", method="k-means", model=tmp_path / "a", set=["clusters=5"])
    tacit.segment(tmp_path / "t0.png", tmp_path / "c", model=tmp_path / "b")
    tacit.segment(tmp_path / "t0.png", tmp_path / "d", method="k-means", model=tmp_path / "b")  # a clustering that is there is applied
    masks = [(tmp_path / o / "masks" / "t0.png").read_bytes() for o in ("b", "c", "d")]
    assert masks[0] == masks[1] == masks[2]
    with Pillow.open(tmp_path / "b" / "masks" / "t0.png") as file:
        assert set(np.unique(np.asarray(file))) <= {1, 2, 3, 4, 5}
