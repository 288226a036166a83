"""The rivals' parts against slow or closed forms: IIC's joint, DeepCluster's k-means, PiCIE's warps and prototypes, contrast's places, brought features."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import nn

from tacit.config import build
from tacit.errors import ConfigError, InputError, UsageError
from tacit.learn.cluster_maps import Centres, collapse_of, frame_of, planes
from tacit.learn.contrast_clusters import DenseclClusters, PixproClusters, placed_batches
from tacit.learn.deep_cluster import DeepCluster, lloyd
from tacit.learn.feature_clusters import FeatureClusters
from tacit.learn.iic import Iic, local_information
from tacit.learn.paired_views import grid_of, laid_on, pair_batches
from tacit.learn.picie import Picie, labels_of, prototype_loss
from tacit.learn.simsiam import Simsiam
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.cluster import nearest
from tacit.parts.weights import save_tensors
from tacit.prepare.views import ViewDraw

rng = np.random.default_rng


def drawn_frames(count: int = 3, shape: tuple[int, int] = (70, 90)) -> list[np.ndarray]:
    from tacit.phantom import tissue

    return [tissue.draw(rng([5, i]), shape, 2.5).picture for i in range(count)]


# IIC


def test_iics_information_equals_a_joint_written_by_hand() -> None:
    """Four pixels, two clusters, hard: three agree, one does not."""
    p = F.one_hot(torch.tensor([[[0, 0], [1, 1]]]), 2).permute(0, 3, 1, 2).float()
    q = F.one_hot(torch.tensor([[[0, 0], [1, 0]]]), 2).permute(0, 3, 1, 2).float()
    joint = np.array([[2, 0.5], [0.5, 1]]) / 4  # the mean of [[2, 0], [1, 1]] and its transpose
    rows = joint.sum(1, keepdims=True)
    expected = (joint * np.log(joint / (rows @ rows.T))).sum()
    assert float(local_information(p, q, 0)) == pytest.approx(expected, abs=1e-6)


def test_iics_information_equals_a_slow_loop_over_displacements() -> None:
    p, q = (torch.softmax(torch.from_numpy(rng(i).standard_normal((2, 3, 5, 4))), 1) for i in (0, 1))
    found = []
    for down, right in itertools.product((-1, 0, 1), repeat=2):
        joint, count = np.zeros((3, 3)), 0
        for n, row, col in itertools.product(range(2), range(5), range(4)):
            if 0 <= row + down < 5 and 0 <= col + right < 4:
                joint += np.outer(p[n, :, row, col], q[n, :, row + down, col + right])
                count += 1
        joint = (joint + joint.T) / 2 / count
        found.append((joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0)))).sum())
    assert float(local_information(p, q, 1)) == pytest.approx(np.mean(found), rel=1e-9)


def test_iics_information_is_log_k_where_views_agree_and_0_where_they_know_nothing() -> None:
    p = F.one_hot(torch.arange(16).reshape(1, 4, 4) % 4, 4).permute(0, 3, 1, 2).double()
    assert float(local_information(p, p, 0)) == pytest.approx(np.log(4), abs=1e-4)
    even = torch.full((1, 4, 4, 4), 0.25, dtype=torch.float64)
    assert float(local_information(p, even, 0)) == pytest.approx(0, abs=1e-6)


# DeepCluster


def test_deep_clusters_k_means_equals_scikit_learns_from_the_same_start() -> None:
    points = np.concatenate([rng(i).normal(3 * i, 1, (200, 4)) for i in range(4)]).astype(np.float32)
    start = points[[0, 250, 450, 700]]
    found = lloyd(points, start, 100)
    other = KMeans(4, init=start, n_init=1, max_iter=100, tol=0, algorithm="lloyd").fit(points)
    assert np.allclose(found, other.cluster_centers_, atol=1e-4)
    assert np.array_equal(nearest(points, found), other.labels_)


def test_an_empty_cluster_takes_half_of_the_largest() -> None:
    points = np.concatenate([rng(0).normal(0, 1, (300, 2)), rng(1).normal(9, 1, (50, 2))]).astype(np.float32)
    found = lloyd(points, np.array([[0, 0], [9, 9], [1e4, 1e4]], np.float32), 50)
    count = np.bincount(nearest(points, found), minlength=3)
    assert (count > 30).all() and count[1] == 50  # the far one is left as it is


def test_pseudo_classes_weigh_alike_whatever_their_size() -> None:
    method = DeepCluster(build(DeepCluster.Config, {"network": {"width": 4, "depth": 1}, "dimensions": 4})).eval()
    x, label = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 8, 8, dtype=torch.int64)
    label[0, 0, :4] = 1
    with torch.no_grad():
        each = F.cross_entropy(method(x), label, reduction="none")
        assert float(method.loss({"x": x, "label": label})["loss"]) == pytest.approx(float((each[label == 0].mean() + each[label == 1].mean()) / 2), rel=1e-4)


# PiCIE


class Pointwise(nn.Module):
    """Features of each pixel from that pixel alone: it moves exactly as the picture does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(torch.tanh(self.layer(x)), dim=1)


@pytest.mark.parametrize(("flip", "turns"), itertools.product((False, True), range(4)))
def test_picies_warp_is_exact_for_mirrors_and_turns_and_so_is_its_inverse(flip: bool, turns: int) -> None:
    size, x = 12, torch.from_numpy(rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32))
    draw = ViewDraw((size, size), size, (0, 0, size, size), flip=flip, turns=turns)
    grid = torch.from_numpy(grid_of(draw))[None].expand(2, -1, -1, -1)
    seen = torch.rot90(x.flip(3) if flip else x, turns, (2, 3))  # view b of x
    assert torch.allclose(laid_on(x, grid), seen, atol=1e-5)
    f = Pointwise()
    assert torch.allclose(laid_on(f(x), grid), f(seen), atol=1e-5)  # G(f(x)) = f(G(x))
    back = torch.rot90(seen, -turns, (2, 3))
    assert torch.allclose(back.flip(3) if flip else back, x)


def test_picies_zoom_is_exact_on_what_bilinear_values_can_hold() -> None:
    """A plane over the picture, seen zoomed, turned and mirrored, has at each pixel of the view its value at that place."""
    rows, cols = np.mgrid[:16, :16].astype(np.float32)
    draw = ViewDraw((16, 16), 16, (3, 5, 11, 13), flip=True, turns=1)
    grid = torch.from_numpy(grid_of(draw))[None]
    places = torch.from_numpy(np.stack([rows, cols])[None])
    found = laid_on(places, grid)[0].numpy()
    expected = np.stack([(grid[0, ..., 1].numpy() + 1) * 8 - 0.5, (grid[0, ..., 0].numpy() + 1) * 8 - 0.5])
    assert np.allclose(found, expected, atol=1e-4)
    assert expected[0].min() >= 2.5 and expected[0].max() <= 10.5 and expected[1].min() >= 4.5 and expected[1].max() <= 12.5


def test_views_of_a_pair_show_the_same_spot() -> None:
    """Without colour shift and blur, b is a laid on its grid, up to resampling."""
    config = Picie.Config(size=32, colour=0.0)
    smooth = [np.asarray(np.stack([np.add.outer(np.arange(60), 2 * np.arange(50)) + 10 * c for c in range(3)], -1) % 200, np.uint8)]
    batch = pair_batches(smooth, config.model_copy(update={"train": config.train.model_copy(update={"batch": 6})}), 3, (1.0, 1.0))(0)
    off = (laid_on(batch["a"], batch["grid"]) - batch["b"]).abs()
    assert float(off.median()) < 0.1
    assert set(batch) == {"a", "b", "grid"} and batch["grid"].abs().max() <= 1


def test_picies_loss_equals_a_slow_loop() -> None:
    z = F.normalize(torch.from_numpy(rng(0).standard_normal((2, 4, 3, 3))), dim=1)
    centres = F.normalize(torch.from_numpy(rng(1).standard_normal((3, 4))), dim=1)
    y = labels_of(z, centres)
    total = []
    for n, row, col in itertools.product(range(2), range(3), range(3)):
        away = np.array([1 - float(z[n, :, row, col] @ mu) for mu in centres])
        assert int(y[n, row, col]) == int(away.argmin())
        total.append(-np.log(np.exp(-away[int(y[n, row, col])]) / np.exp(-away).sum()))
    assert float(prototype_loss(z, y, centres)) == pytest.approx(np.mean(total), rel=1e-9)


# contrast, and what is shared


def test_contrasts_places_are_means_of_pixels_and_views_say_where_they_were_cut() -> None:
    method = DenseclClusters(build(DenseclClusters.Config, {"size": 32, "network": {"width": 4, "depth": 2}, "dimensions": 6}))
    encoder = method.taught.encoder.eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, places = encoder.net(x), encoder.map(x)
    assert places.shape == (1, 6, 4, 4) and torch.allclose(places[0, :, 1, 2], whole[0, :, 8:16, 16:24].mean((1, 2)), atol=1e-5)
    batch = placed_batches(drawn_frames(2), method.config, 0)(0)
    assert batch["a"].shape == (8, 3, 32, 32) and batch["place_a"].shape == (8, 2, 3)
    with pytest.raises(ConfigError, match="no multiple of stride=8"):
        PixproClusters(build(PixproClusters.Config, {"size": 30}))


@pytest.mark.parametrize("how", ["raw", "scaled", "unit", "whitened", "components"])
def test_centres_lay_points_as_they_say(how: str) -> None:
    points = (rng(0).standard_normal((500, 4)) * (1, 2, 3, 4) + 1).astype(np.float32)
    centres = Centres(3, 4, how).fit(points, 0)  # type: ignore[arg-type]
    laid = centres.laid(points)
    if how in ("unit", "whitened"):
        assert np.allclose(np.linalg.norm(laid, axis=1), 1, atol=1e-5)
    if how == "scaled":
        assert np.allclose(laid.std(0), 1, atol=1e-3) and np.allclose(laid.mean(0), 0, atol=1e-4)
    if how == "components":
        assert np.allclose(np.cov(laid.T), np.diag(np.diag(np.cov(laid.T))), atol=1e-2) and (np.diff(laid.std(0)) < 0).all()
    assert np.array_equal(centres.of(points.reshape(50, 10, 4)).ravel(), nearest(laid, centres.centres.numpy()))
    assert float(centres.share.sum()) == pytest.approx(1)


def test_features_that_have_become_one_and_clusters_that_hold_all_are_named() -> None:
    with pytest.raises(InputError, match="2 clusters were asked of the features of 50 pixels, but all features have become one"):
        Centres(2, 3, "raw").fit(np.ones((50, 3), np.float32), 0)
    with pytest.raises(InputError, match=r"20 clusters were asked .* they are 12 different ones"):
        Centres(20, 3, "raw").fit(rng(0).standard_normal((12, 3)).astype(np.float32), 0)
    assert collapse_of(torch.tensor([0.99, 0.01]))[0].startswith("collapsed: one of 2 clusters holds 99.0%")
    assert collapse_of(torch.tensor([0.6, 0.4])) == []


def test_a_picture_smaller_than_a_crop_is_refused_and_a_plane_is_where_its_cluster_is() -> None:
    with pytest.raises(InputError, match="the picture is 40×90 px, smaller than the crops of 64 px"):
        Iic().working(np.zeros((40, 90, 3), np.uint8))
    assert frame_of(np.zeros((64, 96), np.uint8), 32).shape == (32, 48, 3)
    labels = np.array([[0, 1], [2, 2]])
    found = planes(labels, 4, (8, 8, 3))
    assert found.shape == (4, 8, 8) and (found.sum(0) == 1).all() and found[1, :3, 5:].all() and not found[3].any() and found[2, 5:].all()


# features that the user brings


def test_brought_weights_decide_the_features(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = Backbone(BackboneConfig(name="resnet10t")).eval()
    save_tensors(tmp_path / "w.safetensors", net.net.state_dict())
    made = FeatureClusters(build(FeatureClusters.Config, {"network": {"name": "resnet10t", "weights": str(tmp_path / "w.safetensors")}, "side": 64}))
    frame = made.working(drawn_frames(1)[0])
    found = made.maps(frame)
    assert found.shape[:2] == (16, -(-frame.shape[1] // 4))
    x = torch.from_numpy(((frame / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose(2, 0, 1).astype(np.float32))[None]
    with torch.no_grad():
        first = F.normalize(net.net.forward_intermediates(x, intermediates_only=True)[0], dim=1)
        expected = F.interpolate(first, found.shape[:2], mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert np.allclose(found[..., : expected.shape[-1]], expected, atol=1e-5)


def test_a_transformer_gives_the_map_of_its_last_layer() -> None:
    made = FeatureClusters(build(FeatureClusters.Config, {"network": {"name": "vit_tiny_patch16_224"}, "side": 64}))
    frame = made.working(drawn_frames(1)[0])
    assert made.maps(frame).shape == (14, 14, 192)
    made.fit([frame], Workshop())
    assert made.probability(drawn_frames(1)[0]).shape == (2, 70, 90)


def test_features_of_a_run_are_those_of_its_network_and_others_are_refused() -> None:
    torch.manual_seed(1)
    pretrained = Simsiam(build(Simsiam.Config, {"backbone": {"name": "resnet10t"}, "size": 32}))
    made = FeatureClusters.of_run("simsiam", pretrained, {"clusters": 3, "side": 64})
    assert made.config.of == "simsiam" and made.CLASSES == ("cluster-1", "cluster-2", "cluster-3")
    assert all(torch.equal(a, b) for a, b in zip(made.inner.state_dict().values(), pretrained.state_dict().values(), strict=True))
    rival = Iic(build(Iic.Config, {"size": 32, "side": 64, "network": {"width": 4, "depth": 2}}))
    again = FeatureClusters.of_run("iic", rival, {"clusters": 5})
    frame = again.working(drawn_frames(1)[0])
    assert np.array_equal(again.maps(frame), rival.maps(frame))
    with pytest.raises(UsageError, match="a run of haematoxylin, whose features cannot be clustered"):
        FeatureClusters.of_run("haematoxylin", rival, {})
