from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tacit.errors import ConfigError, InputError
from tacit.prepare.contrast import clahe, equalised, equalised_then_clahe, gamma, slab_maximum, window, window_uint8
from tacit.prepare.gate import GATES, count_at_maximum, entropy, graygate, percentile_range, rms_contrast, two_clusters
from tacit.prepare.smooth import perona_malik

GREY = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 120), dtype=np.uint8), (0, 0), 2)
DEEP = GREY.astype(np.uint16) * 16 + np.random.default_rng(1).integers(0, 16, GREY.shape, dtype=np.uint16)
HALF = np.zeros(GREY.shape, bool)
HALF[10:70, 30:100] = True


def test_a_window_is_linear_inside_and_flat_outside() -> None:
    hu = np.arange(-2000, 2000, 10, dtype=np.int16).reshape(8, 5, 10)
    want = ((hu.astype(float) + 1250) / 1500).clip(0, 1)
    assert np.allclose(window(hu, -500, 1500), want, atol=1e-6)
    assert (window_uint8(hu, -500, 1500) == np.rint(want * 255)).all() and window_uint8(hu, -500, 1500).dtype == np.uint8
    with pytest.raises(InputError, match="width must be positive"):
        window(hu, 0, 0)
    with pytest.raises(InputError, match="not finite"):
        window(np.array([np.nan]), 0, 1)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_equalised_levels_are_the_shares_of_the_pixels_below(picture: np.ndarray) -> None:
    out = equalised(picture)
    first = (picture == picture.min()).sum()
    if first < picture.size:
        want = np.array([[((picture <= v).sum() - first) / (picture.size - first) * 255 for v in row] for row in picture])
        assert np.abs(out - want).max() <= 0.5 + 1e-3
    else:
        assert (out == picture).all()
    assert np.abs(equalised(picture, np.ones(picture.shape, bool)).astype(int) - out).max() <= 1  # OpenCV scales in single precision


def test_equalising_16_bits_ranks_every_level() -> None:
    levels = np.random.default_rng(2).permutation(np.arange(0, 60000, 20, dtype=np.uint16)).reshape(50, 60)
    rank = np.argsort(np.argsort(levels.ravel())).reshape(levels.shape)
    assert (equalised(levels) == np.rint(rank / (levels.size - 1) * 65535)).all()


def test_only_masked_pixels_are_counted_and_changed() -> None:
    for picture in (GREY, DEEP):
        other = np.where(HALF, picture, picture.max() - picture)
        for change in (equalised, clahe, equalised_then_clahe):
            out = change(picture, mask=HALF)
            assert (out[~HALF] == picture[~HALF]).all() and (out[HALF] != picture[HALF]).any()
            assert (change(other, mask=HALF)[HALF] == out[HALF]).all()
        assert (equalised(picture, HALF)[HALF] == equalised(picture[10:70, 30:100]).ravel()).mean() > 0.99
        assert (clahe(picture, mask=~HALF & HALF) == picture).all()


@pytest.mark.parametrize("shape", [(96, 120), (97, 120), (101, 113), (40, 40)])
@pytest.mark.parametrize("clip", [0.5, 2.0, 40.0])
def test_clahe_with_a_full_mask_is_opencvs(shape: tuple[int, int], clip: float) -> None:
    for picture in (GREY, DEEP):
        picture = np.ascontiguousarray(np.pad(picture, 5, mode="symmetric")[: shape[0], : shape[1]])
        want = cv2.createCLAHE(clip, (8, 8)).apply(picture)
        assert (clahe(picture, clip=clip) == want).all()
        assert np.abs(clahe(picture, clip=clip, mask=np.ones(shape, bool)).astype(int) - want).max() <= 1


def test_clahe_of_a_volume_is_clahe_of_its_slices_and_of_one_pixel_is_possible() -> None:
    volume = np.stack([GREY, 255 - GREY, GREY // 2])
    mask = np.stack([HALF, ~HALF, HALF])
    assert (clahe(volume, mask=mask)[1] == clahe(255 - GREY, mask=~HALF)).all()
    assert (equalised_then_clahe(volume)[0] == clahe(equalised(volume)[0])).all()
    assert equalised(volume).max() == 255 and equalised(volume)[2].max() < 255  # one histogram for all
    one = np.zeros(GREY.shape, bool)
    one[95, 0] = True
    assert (clahe(GREY, mask=one) != GREY).sum() <= 1


@pytest.mark.parametrize("bad", [GREY.astype(np.int16), GREY.astype(np.float32), np.zeros((20, 20, 3), np.uint8), np.zeros(20, np.uint8)])
def test_what_clahe_cannot_take_is_said(bad: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"uint8 or uint16|grey plane"):
        clahe(bad)


def test_unfit_settings_of_clahe_are_said() -> None:
    with pytest.raises(InputError, match="tiles between"):
        clahe(GREY, tiles=200)
    with pytest.raises(InputError, match="clip must be"):
        clahe(GREY, clip=0)
    with pytest.raises(InputError, match="mask must be boolean"):
        equalised(GREY, HALF[:4])


def test_gamma_is_the_power_of_the_share() -> None:
    for picture, top in ((GREY, 255), (DEEP, 65535)):
        assert (gamma(picture, 0.5) == np.rint((picture / top) ** 0.5 * top)).all()
        assert (gamma(picture, 1.0) == picture).all()
    assert np.allclose(gamma(np.array([0.25, 1.0], np.float32), 0.5), [0.5, 1.0])
    for bad, exponent in ((np.array([2.0]), 1), (GREY, 0), (GREY.astype(np.int16), 1)):
        with pytest.raises(InputError):
            gamma(bad, exponent)


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 12))
@settings(max_examples=40)
def test_a_slab_is_the_maximum_of_its_slices(slices: int, step: int, depth: int) -> None:
    volume = np.random.default_rng(depth).integers(-1000, 1000, (depth, 3, 4)).astype(np.int16)
    out = slab_maximum(volume, slices=slices, step=step)
    for i, z in enumerate(range(0, depth, step)):
        near = [k for k in range(depth) if -((slices - 1) // 2) <= k - z <= slices // 2]
        assert (out[i] == volume[near].max(0)).all()
    assert len(out) == -(-depth // step) and out.dtype == volume.dtype


def test_a_slab_in_millimetres_counts_its_slices() -> None:
    volume = np.random.default_rng(0).normal(size=(20, 4, 4))
    assert (slab_maximum(volume, thickness_mm=10, spacing_mm=2) == slab_maximum(volume, slices=5)).all()
    assert (slab_maximum(volume, thickness_mm=0.1, spacing_mm=2) == volume).all()
    for wrong in ({}, {"slices": 0}, {"slices": 3, "thickness_mm": 4}, {"thickness_mm": 4}, {"thickness_mm": -1, "spacing_mm": 1}, {"slices": 2, "step": 0}):
        with pytest.raises(InputError):
            slab_maximum(volume, **wrong)


@pytest.mark.parametrize("conductance", ["exponential", "quotient"])
@pytest.mark.parametrize("shape", [(9, 11), (5, 6, 7)])
def test_diffusion_is_the_plain_sum_over_neighbours(shape: tuple[int, ...], conductance: str) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    want = image.copy()
    for _ in range(3):
        old = want.copy()
        for at in np.ndindex(*shape):
            for axis in range(len(shape)):
                for side in (-1, 1):
                    near = list(at)
                    near[axis] += side
                    if 0 <= near[axis] < shape[axis]:
                        d = old[tuple(near)] - old[at]
                        c = np.exp(-((d / 0.8) ** 2)) if conductance == "exponential" else 1 / (1 + (d / 0.8) ** 2)
                        want[at] += d * c / (2 * len(shape))
    out = perona_malik(image, kappa=0.8, steps=3, conductance=conductance)
    assert np.allclose(out, want, atol=1e-5)


@pytest.mark.parametrize("spacing", [None, (5.0, 1.0, 1.0)])
def test_diffusion_keeps_range_and_mean_and_does_nothing_in_no_steps(spacing: tuple[float, ...] | None) -> None:
    image = np.random.default_rng(0).uniform(-1000, 400, (8, 9, 10)).astype(np.float32)
    out = perona_malik(image, kappa=500, steps=30, spacing=spacing)
    assert image.min() <= out.min() and out.max() <= image.max() and out.std() < image.std() / 2
    assert out.mean(dtype=np.float64) == pytest.approx(image.mean(dtype=np.float64), abs=0.01)
    assert (perona_malik(image, kappa=1, steps=0) == image).all()


def test_open_diffusion_fades_a_wave_by_the_closed_form() -> None:
    wave = np.cos(np.pi * (np.arange(16) + 0.5) * 3 / 16)[None].repeat(4, 0)
    fade = (1 - 2 * 0.2 * (1 - np.cos(np.pi * 3 / 16))) ** 12
    assert np.allclose(perona_malik(wave, kappa=1e6, steps=12, rate=0.2), wave * fade, atol=1e-5)
    apart = (1 - 2 * 0.2 / 9 * (1 - np.cos(np.pi * 3 / 16))) ** 12  # at thrice the spacing the flow is a ninth
    assert np.allclose(perona_malik(wave, kappa=1e6, steps=12, rate=0.2, spacing=(1, 3)), wave * apart, atol=1e-5)


def test_noise_goes_and_the_edge_stays() -> None:
    step = np.where(np.arange(60) < 30, 0.0, 100.0)[None].repeat(40, 0)
    noisy = step + np.random.default_rng(0).normal(0, 5, step.shape)
    out = perona_malik(noisy, kappa=20, steps=30)
    assert np.abs(out - step).mean() < 0.3 * np.abs(noisy - step).mean()
    assert (out[:, 30] - out[:, 29]).min() > 80


def test_unfit_settings_of_diffusion_are_said() -> None:
    for wrong in ({"kappa": 0}, {"kappa": 1, "rate": 0.3}, {"kappa": 1, "steps": -1}, {"kappa": 1, "spacing": (1,)}, {"kappa": 1, "conductance": "none"}):
        with pytest.raises(ConfigError):
            perona_malik(np.zeros((4, 4)), **wrong)
    with pytest.raises(InputError, match="finite"):
        perona_malik(np.full((4, 4), np.nan), kappa=1)


def test_gate_numbers_of_known_images() -> None:
    image = np.array([[0, 255], [255, 255]], np.uint8)
    assert count_at_maximum(image) == 3 and graygate(image, 2) and not graygate(image, 3)
    assert rms_contrast(image) == pytest.approx(np.sqrt(3) / 4)
    assert entropy(image) == pytest.approx(-(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75)))
    assert entropy(np.arange(256, dtype=np.uint8)) == pytest.approx(8) and entropy(np.arange(256.0)) == pytest.approx(8)
    assert entropy(np.full((3, 3), 7.0)) == 0 and percentile_range(np.arange(101.0)) == pytest.approx(98)
    for number in GATES.values():
        assert np.isfinite(number(GREY))
        with pytest.raises(InputError, match="pixels and without NaN"):
            number(np.empty((0, 3)))


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=14).filter(lambda v: len(set(v)) > 1))
def test_two_clusters_are_the_best_of_all_splits(values: list[int]) -> None:
    x = np.array(values, float)
    inside = lambda t: x[x <= t].var() * (x <= t).sum() + x[x > t].var() * (x > t).sum()
    best = min(inside(t) for t in np.unique(x)[:-1])
    assert inside(two_clusters(x)) == pytest.approx(best, abs=1e-6)
    with pytest.raises(InputError, match="two different"):
        two_clusters(np.full(4, 3.0))
