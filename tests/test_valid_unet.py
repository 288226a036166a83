"""The U-Net of valid convolutions, and overlap-tile joined without a seam."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import InputError
from tacit.parts.valid_unet import ValidUNet, ValidUNetConfig, legal_input, legal_output, legal_tile, margin, mirrored, overlap_tiled


def made(depth: int = 3, *, seed: int = 0, **settings: object) -> ValidUNet:
    """A network whose batch norms have seen something, so that their scales are not one."""
    torch.manual_seed(seed)
    network = ValidUNet(ValidUNetConfig(width=4, depth=depth, **settings), channels_out=2)
    side = legal_input(1, depth) + 2 * 2**depth
    for _ in range(3):
        network(torch.randn(2, network.config.channels_in, side, side))
    return network.eval()


@pytest.mark.parametrize("up", ["transposed", "repeat"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_the_answer_is_smaller_by_the_margin_and_by_nothing_else(depth: int, up: str) -> None:
    network = made(depth, up=up)
    for least in (1, 50, 77):
        h, w = legal_input(least, depth), legal_input(least + 9, depth)
        assert h >= least and network(torch.randn(1, 1, h, w)).shape == (1, 2, h - 2 * margin(depth), w - 2 * margin(depth))


def test_the_papers_network_has_the_papers_sizes() -> None:
    """Figure 1: 572 px in, 388 px out, about 31 million weights."""
    paper = ValidUNet(ValidUNetConfig(norm=False), channels_out=2)
    assert (legal_input(572, 4), legal_output(388, 4), 572 - 2 * margin(4)) == (572, 388, 388)
    assert sum(p.numel() for p in paper.parameters()) == pytest.approx(31.03e6, rel=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_size_between_the_legal_ones_is_refused_by_name(depth: int) -> None:
    network = made(depth)
    legal = {legal_input(n, depth) for n in range(1, 90)}
    for side in range(1, 90):
        if side not in legal:
            with pytest.raises(InputError, match=f"cannot take {side} px"):
                network(torch.randn(1, 1, side, side))


SIZES = [(1, 1), (1, 40), (2, 3), (7, 130), (64, 64), (97, 41), (101, 103)]


@pytest.mark.parametrize("settings_", [{}, {"up": "repeat"}, {"norm": False}, {"channels_in": 3}])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_joined_tiles_equal_the_whole_picture(size: tuple[int, int], settings_: dict) -> None:
    network = made(3, **settings_)
    picture = torch.randn(1, network.config.channels_in, *size)
    whole = overlap_tiled(network, picture, max(size))
    assert whole.shape == (1, 2, *size)
    for tile in (1, 12, 20, 33, 64):
        assert (overlap_tiled(network, picture, tile) - whole).abs().max() < 1e-5


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 80), st.integers(0, 4), st.integers(0, 99))
def test_joined_tiles_equal_one_plain_pass_over_the_mirrored_picture(h: int, w: int, tile: int, depth: int, seed: int) -> None:
    """The oracle pads with torch's own reflection, again and again where one is not enough, and runs the network once."""
    network = made(depth, seed=seed)
    picture = torch.randn(1, 1, h, w)
    edge = margin(depth)
    padded = picture
    for axis, length in ((2, h), (3, w)):
        wanted = legal_output(length, depth) + edge  # on the far side
        before, after = edge, wanted - length
        while before or after:
            most = padded.shape[axis] - 1
            a, b = (min(before, most), min(after, most)) if most else (before, after)
            pads = (0, 0, a, b) if axis == 2 else (a, b, 0, 0)
            padded = F.pad(padded, pads, mode="reflect" if most else "replicate")
            before, after = before - a, after - b
    with torch.no_grad():
        whole = network(padded)[:, :, :h, :w]
    assert (overlap_tiled(network, picture, tile) - whole).abs().max() < 1e-5


def test_several_pictures_at_once_are_several_pictures() -> None:
    network = made(2)
    pictures = torch.randn(3, 1, 30, 45)
    together = overlap_tiled(network, pictures, 20)
    assert all((together[i : i + 1] - overlap_tiled(network, pictures[i : i + 1], 20)).abs().max() < 1e-5 for i in range(3))


def test_a_pass_never_sees_more_than_a_tile_with_its_margin() -> None:
    network, seen = made(2), []
    network.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    overlap_tiled(network, torch.randn(1, 1, 150, 90), 40)
    assert max(max(s) for s in seen) <= 40 + 2 * margin(2) and len(seen) == 4 * 3


@given(st.integers(1, 300), st.integers(0, 6))
def test_tiles_are_legal_and_no_larger_than_asked_where_they_can_be(wanted: int, depth: int) -> None:
    tile = legal_tile(wanted, depth)
    assert legal_output(tile, depth) == tile >= 2**depth
    assert tile <= max(wanted, legal_output(2**depth, depth))


def test_mirrored_indices_are_numpys() -> None:
    import numpy as np

    for length in (2, 3, 10):
        assert mirrored(-25, 25 + length + 30, length).tolist() == np.pad(np.arange(length), (25, 30), mode="reflect").tolist()
    assert mirrored(-3, 7, 1).tolist() == [0] * 7


def test_what_cannot_be_tiled_is_refused() -> None:
    network = made(2)
    for picture, tile in ((torch.randn(1, 1, 9), 8), (torch.randn(1, 3, 9, 9), 8), (torch.randn(1, 1, 9, 9), 0), (torch.zeros(1, 1, 0, 9), 8)):
        with pytest.raises(InputError, match="overlap-tile wants"):
            overlap_tiled(network, picture, tile)
    with pytest.raises(InputError, match="evaluation mode"):
        overlap_tiled(network.train(), torch.randn(1, 1, 9, 9), 8)
