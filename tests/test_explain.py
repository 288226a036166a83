"""Maps lie where the sign is; histograms count what the layers hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tacit.errors import ConfigError
from tacit.learn.explain import BINS, feature_histograms, grad_cam, occlusion
from tacit.learn.series_models import series_model
from tacit.parts.train import TrainConfig, fit
from tacit.report.class_figures import features_plot

SIDE = 64
SMALL: dict[str, dict[str, Any]] = {
    "covnet-small": {"backbone": {"name": "test_resnet"}},
    "06_COVNet-CSR": {"backbone": {"name": "test_resnet"}, "csr": {"width": 16}},
    "05_COVNet-FCN": {"backbone": {"name": "test_resnet"}},
    "c3d-small": {"width": 4, "side": 32, "dropout": 0.0},
    "p3d-small": {"width": 8, "blocks": [1, 1, 1, 1], "dropout": 0.0},
    "conv-lstm-small": {"side": 64, "patch": 8, "hidden": [8, 8]},
}


def toy(rng: np.random.Generator, label: int, slices: int = 3) -> tuple[torch.Tensor, tuple[int, int]]:
    """Grey noise; where label is 1, in one quarter of all slices a bright square, and its middle (row, col)."""
    x = rng.normal(0, 0.3, (slices, 1, SIDE, SIDE)).astype(np.float32)
    row, col = (int(v) for v in rng.integers(10, 22, 2) + 32 * rng.integers(0, 2, 2))
    if label:
        x[:, :, row - 6 : row + 6, col - 6 : col + 6] += 2.5
    return torch.from_numpy(x), (row, col)


@pytest.fixture(scope="module")
def taught() -> Any:
    """A network by name, taught to find the squares."""
    made: dict[str, torch.nn.Module] = {}

    def network(name: str) -> torch.nn.Module:
        if name not in made:
            torch.manual_seed(0)
            made[name] = series_model(name, SMALL[name], {"classes": 2})

            def batch(step: int) -> dict[str, torch.Tensor]:
                rng = np.random.default_rng([7, step])
                labels = rng.integers(0, 2, 8)
                return {"x": torch.stack([toy(rng, int(label))[0] for label in labels]), "label": torch.from_numpy(labels)}

            steps, rate = (60, 1e-2) if name in ("covnet-small", "conv-lstm-small") else (30, 3e-3)
            fit(made[name], batch, TrainConfig(epochs=1, steps=steps, lr=rate, average=0.0, precision="fp32"), seed=0)
        return made[name]

    return network


@pytest.mark.parametrize("name", ["covnet-small", "05_COVNet-FCN", "p3d-small", "conv-lstm-small"])
def test_grad_cam_points_at_the_sign(name: str, taught: Any) -> None:
    network, rng, hits, right = taught(name), np.random.default_rng(1), [], []
    for _ in range(15):
        x, (row, col) = toy(rng, 1)
        with torch.no_grad():
            right.append(int(network(x[None]).logits.argmax()) == 1)
        found = grad_cam(network, x, 1)
        assert found.shape == (3, SIDE, SIDE) and found.min() >= 0 and found.max() in (0.0, 1.0)
        _, r, c = np.unravel_index(found.argmax(), found.shape)
        near = abs(r - row) <= 12 and abs(c - col) <= 12 if name == "conv-lstm-small" else (r < 32, c < 32) == (row < 32, col < 32)
        hits.append(found.max() > 0 and near)  # the other networks' last maps are 2 × 2
    assert np.mean(right) >= 0.9 and np.mean(hits) >= 0.8


@pytest.mark.parametrize("name", ["covnet-small", "c3d-small"])
def test_hiding_the_sign_costs_most(name: str, taught: Any) -> None:
    network, rng, hits = taught(name), np.random.default_rng(2), []
    for _ in range(5):
        x, (row, col) = toy(rng, 1)
        found = occlusion(network, x, 1)
        assert found.shape == (3, SIDE, SIDE) and found.max() == 1
        _, r, c = np.unravel_index(found.argmax(), found.shape)
        hits.append(abs(r - row) <= 12 and abs(c - col) <= 12)
    assert np.mean(hits) >= 0.8


def test_a_long_series_is_looked_at_in_parts_and_has_the_map_of_the_whole() -> None:
    torch.manual_seed(0)
    parted = series_model("covnet-small", SMALL["covnet-small"], {"classes": 2, "slices_at_once": 2}).eval()
    whole = series_model("covnet-small", SMALL["covnet-small"], {"classes": 2}).eval()
    whole.load_state_dict(parted.state_dict())
    x, _ = toy(np.random.default_rng(0), 1, 7)
    assert np.allclose(grad_cam(parted, x, 1), grad_cam(whole, x, 1), atol=1e-5)


def test_grad_cam_by_hand() -> None:
    """After a mean over places and a linear layer, the gradient of a map is its weight: the map's weighted sum, positive parts."""
    torch.manual_seed(1)
    network: Any = series_model("covnet-small", SMALL["covnet-small"], {"classes": 2}).eval()
    x, _ = toy(np.random.default_rng(0), 1, 1)
    with torch.no_grad():
        maps = network.maps(x)
        wanted = torch.einsum("nfhw,f->nhw", maps, network.head.weight[1]).clamp_min(0)
        wanted = torch.nn.functional.interpolate(wanted[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].numpy()
    found = grad_cam(network, x, 1)
    assert np.allclose(found, wanted / max(wanted.max(), 1e-12), atol=1e-5)


def test_what_comes_after_the_maps_is_the_answer() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 1, SIDE, SIDE)
    for name in ("covnet-small", "06_COVNet-CSR", "05_COVNet-FCN"):
        network: Any = series_model(name, SMALL[name]).eval()
        with torch.no_grad():
            assert torch.allclose(network.answered(network.maps(x[0]), torch.ones(1, 3, dtype=torch.bool)).logits, network(x).logits, atol=1e-6)


def test_a_transformer_has_no_last_map_and_says_so() -> None:
    network = series_model("covnet-small", {"backbone": {"name": "test_vit"}})
    with pytest.raises(ConfigError, match="explain=occlusion"):
        grad_cam(network, torch.rand(1, 1, 160, 160), 0)


@pytest.mark.parametrize("name", ["covnet-small", "06_COVNet-CSR", "c3d-small"])
def test_histograms_count_what_layers_hold(name: str) -> None:
    torch.manual_seed(0)
    network = series_model(name, SMALL[name])
    cases = [toy(np.random.default_rng(i), i, 2 + i)[0] for i in range(2)]
    found = feature_histograms(network, cases)
    assert len(found) >= 4
    for counts, edges in found.values():
        assert counts.shape == (2, BINS) and edges.shape == (BINS + 1,) and (counts.sum(1) > 0).all()
    assert not any(layer._forward_hooks for layer in network.modules())
    plot = features_plot({"one": found, "two": found}, ("a", "b"))
    assert plot[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_histogram_holds_what_a_layer_gave_before_the_next_one_changed_it_in_place() -> None:
    torch.manual_seed(0)
    network = series_model("covnet-small", {"backbone": {"name": "resnet18"}})
    found = feature_histograms(network, [torch.randn(1, 1, SIDE, SIDE)])
    assert found["bn1"][1][0] < 0 and found["act1"][1][0] == 0
