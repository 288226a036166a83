from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tacit.prepare.local_views import LocalViewConfig, local_views

PLAIN = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0}


def smooth(shape: tuple[int, int] = (90, 120)) -> np.ndarray:
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]]
    waves = [127 + 110 * np.sin(rows / a + cols / b) for a, b in ((11.0, 17.0), (23.0, -13.0), (-19.0, 29.0))]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_the_second_view_laid_on_the_first_is_the_first(seed: int) -> None:
    seen = local_views(np.random.default_rng(seed), smooth(), 64, LocalViewConfig(**PLAIN))
    laid = F.grid_sample(torch.from_numpy(seen.b)[None], torch.from_numpy(seen.grid)[None], align_corners=False)[0].numpy()
    inner = seen.inside.astype(bool)
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    assert inner.mean() > 0.8
    assert np.abs(laid - seen.a)[:, inner].mean() < 0.02  # of an SD of about 1.5: what two bilinear samplings blur


def test_the_way_there_and_back_is_exact() -> None:
    """A quarter turn alone: pixel (row, col) of a lies at (col, side − 1 − row) of b or its like, a whole pixel to 1e-5."""
    for seed in range(8):
        seen = local_views(np.random.default_rng(seed), smooth(), 32, LocalViewConfig(own_turn=0.0, **PLAIN))
        places = (seen.grid + 1) * 16 - 0.5
        assert np.abs(places - places.round()).max() < 1e-4 and seen.inside.all()
        assert len({tuple(p) for p in places.round().astype(int).reshape(-1, 2).tolist()}) == 32 * 32


def test_views_follow_from_the_generator_and_colours_differ() -> None:
    one, two = (local_views(np.random.default_rng(4), smooth(), 48) for _ in range(2))
    assert np.array_equal(one.a, two.a) and np.array_equal(one.grid, two.grid)
    assert not np.allclose(np.sort(one.a.ravel()), np.sort(one.b.ravel()), atol=0.05)
