from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import InputError
from tacit.phantom import tissue
from tacit.prepare.similar import near_pairs, psnr, ssim


def pair(seed: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    a = tissue.draw(rng, (120, 160), 1.0).picture[..., 1]
    return a, np.clip(a + noise * rng.standard_normal(a.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 1.0, 20.0, 120.0])
def test_ssim_and_psnr_are_scikit_images(noise: float) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    a, b = pair(1, noise)
    assert ssim(a, b) == pytest.approx(structural_similarity(a, b, data_range=255), abs=1e-4)
    if noise:
        assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    else:
        assert ssim(a, b) == pytest.approx(1) and psnr(a, b) == float("inf")


def test_flat_pictures_compare_as_scikit_image_does() -> None:
    from skimage.metrics import structural_similarity

    black, white = np.zeros((40, 40), np.uint8), np.full((40, 40), 255, np.uint8)
    assert ssim(black, white) == pytest.approx(structural_similarity(black, white, data_range=255), abs=1e-4)


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="one size"):
        ssim(np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8))


@pytest.mark.parametrize("most", [0, 1, 5, 8])
def test_near_pairs_are_those_of_brute_force(most: int) -> None:
    rng = np.random.default_rng(most)
    values = rng.integers(0, 2**64, 600, dtype=np.uint64)
    near = values[:200] ^ sum((np.uint64(1) << rng.integers(0, 64, 200, dtype=np.uint64)) for _ in range(4))
    values = np.concatenate([values, near, values[:5], np.zeros(30, np.uint64)])  # twins, copies and a crowd of equal ones
    counts = np.bitwise_count(values[:, None] ^ values[None])
    wanted = np.argwhere(np.triu(counts <= most, 1))
    pairs, distances = near_pairs(values, most)
    assert np.array_equal(pairs, wanted)
    assert np.array_equal(distances, counts[tuple(wanted.T)])


def test_no_near_pair_is_an_empty_answer() -> None:
    pairs, distances = near_pairs(np.array([0, 2**64 - 1], np.uint64))
    assert pairs.shape == (0, 2) and len(distances) == 0
    assert len(near_pairs(np.empty(0, np.uint64))[0]) == 0
