"""C3D, P3D and ConvLSTM beside their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tacit.errors import ConfigError
from tacit.image import Image
from tacit.learn.c3d import C3d, C3dConfig
from tacit.learn.conv_lstm import ConvLstm, ConvLstmCell, ConvLstmConfig
from tacit.learn.fixed_length import of_length, of_side
from tacit.learn.p3d import BLOCKS, P3d, P3dBlock, P3dConfig
from tacit.prepare.resample import How, to_length


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("how", ["nearest", "linear", "area", "cubic"])
@pytest.mark.parametrize(("slices", "length"), [(7, 16), (30, 16), (16, 16), (1, 16), (37, 5)])
def test_a_series_is_resampled_as_the_preparation_does(how: How, slices: int, length: int) -> None:
    volume = np.random.default_rng(0).random((slices, 6, 5)).astype(np.float32)
    x, present = torch.zeros(2, slices + 3, 1, 6, 5), torch.zeros(2, slices + 3, dtype=torch.bool)
    present[:, 1] = present[0, 3 : slices + 2] = True
    x[0, present[0], 0] = torch.from_numpy(volume)
    expected = to_length(Image(volume, "dhw"), length, how).pixels
    assert np.allclose(of_length(x, present, length, how)[0, :, 0].numpy(), expected, atol=1e-5)


def test_a_side_that_fits_is_untouched_and_a_plane_stays_a_plane() -> None:
    x = torch.rand(2, 3, 1, 20, 20)
    assert of_side(x, 20) is x
    ramp = torch.linspace(0, 1, 64)[None, None, None, :, None].expand(1, 1, 1, 64, 48)
    made = of_side(ramp, 16)[0, 0, 0]
    assert made.shape == (16, 16) and torch.allclose(made[2:-2].diff(dim=0), torch.tensor(4 / 63), atol=1e-4) and float(made.diff(dim=1).abs().max()) < 1e-5


def test_c3d_has_the_published_layers_and_weights() -> None:
    """Fig. 3; 487 sports: 80 M weights, 321 MB as Qiu et al. count them."""
    with torch.device("meta"):
        model = C3d(C3dConfig(channels_in=3, classes=487))
    assert [(m.in_channels, m.out_channels, m.kernel_size) for m in model.convolutions if isinstance(m, nn.Conv3d)] == [
        (a, b, (3, 3, 3)) for a, b in zip((3, 64, 128, 256, 256, 512, 512, 512), (64, 128, 256, 256, 512, 512, 512, 512), strict=True)
    ]
    assert model.fc6.in_features == 8192
    shapes = sum(27 * a * b + b for a, b in zip((3, 64, 128, 256, 256, 512, 512, 512), (64, 128, 256, 256, 512, 512, 512, 512), strict=True))
    assert weights(model) == shapes + (8192 + 1) * 4096 + 4097 * 4096 + 4097 * 487 == 79_991_015
    assert weights(model) * 4 / 1e6 == pytest.approx(321, rel=0.01)


@pytest.mark.parametrize(("length", "side"), [(16, 16), (16, 112), (33, 40), (32, 47)])
def test_c3d_can_be_built_for_other_lengths_and_sides(length: int, side: int) -> None:
    model = C3d(C3dConfig(length=length, side=side, width=1)).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 1, 50, 60)).logits.shape == (1, 3)


def layers(model: P3d) -> int:
    """Convolutions and linear layers on the way through, short cuts apart."""
    found = [name for name, m in model.named_modules() if isinstance(m, (nn.Conv3d, nn.Linear)) and ".side." not in name]
    return len(found)


@pytest.mark.parametrize("kind", ["c3d", "p3d"])
def test_gradients_in_half_precision_are_near_those_in_single_and_not_what_lay_in_memory(kind: str) -> None:
    """Of the convolutions: torch's own in bf16 on a processor come from memory that nobody wrote."""
    torch.manual_seed(0)
    model = C3d(C3dConfig(width=4, side=32, dropout=0.0)) if kind == "c3d" else P3d(P3dConfig(width=4, blocks=(1, 1, 1, 1), dropout=0.0))
    told = {"x": torch.rand(3, 5, 1, 40, 40), "label": torch.tensor([0, 1, 2])}
    found: list[torch.Tensor] = []
    for half, lies in ((False, 0.0), (True, 0.0), (True, float("nan")), (True, 1e30)):
        rubbish = [torch.full((2**n,), lies, dtype=of) for n in range(6, 18) for of in (torch.bfloat16, torch.float32)]
        del rubbish
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            loss = model.loss(told)["loss"]
        loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None and p.ndim == 5]))
    assert torch.equal(found[1], found[2]) and torch.equal(found[1], found[3])
    assert float(torch.cosine_similarity(found[0], found[1], 0)) > 0.9


@pytest.mark.parametrize("depth", BLOCKS)
def test_p3d_has_the_published_number_of_layers(depth: int) -> None:
    with torch.device("meta"):
        assert layers(P3d(P3dConfig(layers=depth))) == depth


def test_p3d_199_is_as_large_as_published() -> None:
    """261 MB as the paper says, with 487 sports."""
    with torch.device("meta"):
        model = P3d(P3dConfig(channels_in=3, classes=487))
    assert weights(model) * 4 / 1e6 == pytest.approx(261, rel=0.03)
    kinds = [block.kind for stage in model.stages for block in stage]
    assert kinds[:7] == ["A", "B", "C", "A", "B", "C", "A"] and kinds[-3:] == ["flat"] * 3 and kinds.count("flat") == 3


def test_p3ds_blocks_are_their_equations() -> None:
    x = torch.rand(1, 8, 4, 6, 6)
    for kind, equation in {
        "A": lambda s, t, y: t(s(y)),
        "B": lambda s, t, y: s(y) + t(y),
        "C": lambda s, t, y: s(y) + t(s(y)),
        "flat": lambda s, t, y: s(y),
    }.items():
        block = P3dBlock(8, 2, kind, 1).eval()
        with torch.no_grad():
            expected = torch.relu(x + block.widen(equation(block.plane, block.across, block.narrow(x))))
            assert torch.allclose(block(x), expected, atol=1e-6)
    for name, place in (("plane", (0, 1, 1)), ("across", (1, 0, 0))):  # S reaches within the slice, T across slices
        impulse = torch.zeros(1, 2, 5, 7, 7)
        impulse[:, :, 2, 3, 3] = 1
        with torch.no_grad():
            where = torch.nonzero(getattr(P3dBlock(8, 2, "A", 1).eval(), name)[0](impulse)[0].abs().amax(0))
        assert [int(abs(where[:, i] - c).max()) for i, c in enumerate((2, 3, 3))] == list(place)


@pytest.mark.parametrize(("length", "slices"), [(16, 30), (1, 1), (9, 4)])
def test_p3d_takes_any_length_and_size(length: int, slices: int) -> None:
    model = P3d(P3dConfig(length=length, width=4, blocks=(1, 1, 1, 1))).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.rand(1, slices, 1, 33, 50)).logits).all()


def test_a_cell_is_its_equations_place_by_place() -> None:
    """Eq. 3 of Shi et al. by plain loops over places, channels and taps."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    cell = ConvLstmCell(2, 2, 4, 3)
    nn.init.normal_(cell.peephole)
    x = torch.from_numpy(rng.standard_normal((1, 3, 2, 4, 4)).astype(np.float32))
    with torch.no_grad():
        found = cell(x, torch.ones(1, 3, dtype=torch.bool)).numpy()[0]
    w_x, b, w_h = cell.from_input.weight.detach().numpy(), cell.from_input.bias.detach().numpy(), cell.from_state.weight.detach().numpy()
    w_ci, w_cf, w_co = cell.peephole.detach().numpy()
    h, c = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))

    def conv(w: np.ndarray, z: np.ndarray) -> np.ndarray:
        made, wide = np.zeros((len(w), 4, 4)), np.pad(z, ((0, 0), (1, 1), (1, 1)))
        for o in range(len(w)):
            for row in range(4):
                for col in range(4):
                    made[o, row, col] = sum(w[o, k, i, j] * wide[k, row + i, col + j] for k in range(len(z)) for i in range(3) for j in range(3))
        return made

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-z))

    for t in range(3):
        gates = conv(w_x, x[0, t].numpy()) + conv(w_h, h) + b[:, None, None]
        i, f = sigmoid(gates[:2] + w_ci * c), sigmoid(gates[2:4] + w_cf * c)
        c = f * c + i * np.tanh(gates[4:6])
        h = sigmoid(gates[6:] + w_co * c) * np.tanh(c)
        assert np.allclose(found[t], h, atol=1e-5)


def test_conv_lstm_takes_slices_of_any_size_and_its_settings_must_fit() -> None:
    model = ConvLstm(ConvLstmConfig(side=32, patch=8, hidden=(3,), kernel=3)).eval()
    with torch.no_grad():
        assert torch.isfinite(model(torch.rand(1, 2, 1, 50, 41)).logits).all()
    for wrong in ({"side": 30, "patch": 4}, {"kernel": 4}):
        with pytest.raises(ConfigError, match="multiple of patch, kernel odd"):
            ConvLstm(ConvLstmConfig(**wrong))
