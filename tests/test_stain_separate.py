from __future__ import annotations

import numpy as np
import pytest
from skimage.color import separate_stains

from tacit.errors import InputError
from tacit.phantom import tissue
from tacit.prepare.colour import tissue_mask
from tacit.prepare.stain import RUIFROK, as_light, compose, draw_stain_jitter, optical_density, separate, stain_jitter, stain_matrix
from tacit.prepare.stain_normalise import StainLook, lab_look, macenko, reinhard, stain_look

OTHER = np.array([[0.55, 0.78, 0.30], [0.20, 0.93, 0.30]])
OTHER = OTHER / np.linalg.norm(OTHER, axis=1, keepdims=True)


def mixed(seed: int = 0, strength: float = 0.25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.gamma(1.0, strength, (90, 120, 2)) * (rng.random((90, 120, 2)) < 0.6)).clip(0, 0.9).astype(np.float32)


def slide(seed: int) -> np.ndarray:
    return tissue.draw(np.random.default_rng(seed), (160, 200), 1.2).picture


@pytest.mark.parametrize("stains", [RUIFROK, OTHER])
def test_amounts_that_were_mixed_come_back(stains: np.ndarray) -> None:
    amounts = mixed()
    found = separate(compose(amounts, stains), stains)
    assert found.shape == amounts.shape and np.abs(found - amounts).mean() < 0.005
    light = compose(amounts, stains).min(-1) > 60  # where one grey level is a small density
    assert np.abs(found - amounts)[light].max() < 0.02


def test_amounts_are_those_of_skimage() -> None:
    picture = slide(0)
    across = np.cross(*RUIFROK)
    basis = np.stack([*RUIFROK, across / np.linalg.norm(across)])
    peer = separate_stains(np.maximum(picture, 1) / 255, np.linalg.inv(basis))  # it divides densities by log(1e-6) both ways
    ours = separate(picture)
    inside = (ours > 0.02).all(-1)
    assert np.abs(peer[..., :2] - ours * -np.log(10) / np.log(1e-6))[inside].max() < 1e-4


def test_a_single_stain_has_no_part_of_the_other_and_glass_has_none() -> None:
    for i in (0, 1):
        amounts = np.zeros((4, 5, 2), np.float32)
        amounts[..., i] = 0.6
        assert np.abs(separate(compose(amounts))[..., 1 - i]).max() < 0.02
    assert separate(np.full((3, 3, 3), 255, np.uint8)).max() == 0


def test_light_and_density_are_inverse() -> None:
    levels = np.arange(1, 256, dtype=np.uint8).reshape(5, 17, 3)
    assert (as_light(optical_density(levels)) == levels).all()


def test_a_stain_matrix_scales_the_amounts_it_is_told_to() -> None:
    amounts = np.random.default_rng(0).uniform(0, 1, (50, 2))
    density = amounts @ OTHER + 0.1 * np.cross(*OTHER)  # and some of neither
    matrix = stain_matrix((1.3, 0.7), (0.02, -0.01), OTHER)
    want = (amounts * [1.3, 0.7] + [0.02, -0.01]) @ OTHER + 0.1 * np.cross(*OTHER)
    assert np.allclose(density @ matrix[:, :3].T + matrix[:, 3], want, atol=1e-5)
    assert np.allclose(stain_matrix((1, 1)), np.eye(3, 4), atol=1e-6)


def test_jitter_replays_stays_in_range_and_none_changes_nothing() -> None:
    picture = slide(1)
    assert (stain_jitter(np.random.default_rng(3), picture) == stain_jitter(np.random.default_rng(3), picture)).all()
    assert (stain_jitter(np.random.default_rng(3), picture) != stain_jitter(np.random.default_rng(4), picture)).any()
    assert (stain_jitter(np.random.default_rng(3), picture, gain=0, shift=0) == np.maximum(picture, 1)).all()
    for seed in range(50):
        gains, shifts = draw_stain_jitter(np.random.default_rng(seed), 0.2, 0.02)
        assert np.abs(np.array(gains) - 1).max() <= 0.2 and np.abs(shifts).max() <= 0.02
    amounts = separate(compose(mixed(strength=0.1)))
    gains, _ = draw_stain_jitter(np.random.default_rng(5), 0.2, 0.0)
    shaken = separate(stain_jitter(np.random.default_rng(5), compose(mixed(strength=0.1)), shift=0.0))
    assert np.abs(shaken - amounts * gains).mean() < 0.005


def test_macenko_brings_the_same_tissue_in_other_stains_back() -> None:
    amounts = mixed(1)
    here, there = compose(amounts, RUIFROK), compose(amounts * [1.3, 0.8], OTHER)
    look = stain_look([here], RUIFROK)
    back = macenko(there, look, stain_look([there], OTHER))
    assert np.abs(back.astype(int) - here).mean() < 2.5
    assert np.allclose(stain_look([back], RUIFROK).strong, look.strong, rtol=0.05)
    guessed = macenko(there, stain_look([here]))
    assert np.abs(guessed.astype(int) - here).mean() < 0.3 * np.abs(there.astype(int) - here).mean()


def test_macenko_to_its_own_look_keeps_the_amounts_and_glass_stays_white() -> None:
    picture = compose(mixed(2))
    own = stain_look([picture])
    assert isinstance(own, StainLook)
    assert np.abs(macenko(picture, own, own).astype(int) - picture).mean() < 2
    glass = np.hstack([picture, np.full((90, 40, 3), 255, np.uint8)])
    assert (macenko(glass, stain_look([slide(0)]))[:, 120:] == 255).all()


def test_reinhard_moves_the_tissue_to_the_target_and_leaves_glass() -> None:
    picture, target = slide(2), lab_look([slide(3), slide(4)])
    moved = reinhard(picture, target)
    glass = ~tissue_mask(picture)
    assert (moved[glass] == picture[glass]).all()
    assert np.abs(reinhard(picture, lab_look([picture])).astype(int) - picture).max() <= 1
    gentle = lab_look([picture]) + [[-4, 3, -3], [0.5, 0.2, 0.2]]  # near enough that few colours are cut off
    now = np.stack([f(cv[~glass], axis=0) for cv in [lab(reinhard(picture, gentle))] for f in (np.mean, np.std)])
    assert np.abs(now - gentle).max() < 0.5


def lab(picture: np.ndarray) -> np.ndarray:
    from skimage.color import rgb2lab

    return rgb2lab(picture)


def test_what_stains_cannot_be_told_from_is_said() -> None:
    with pytest.raises(InputError, match="RGB pictures"):
        separate(np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="one colour"):
        separate(slide(0), np.array([RUIFROK[0], RUIFROK[0] * 2]))
    with pytest.raises(InputError, match="two optical-density vectors"):
        compose(mixed(), np.eye(3))
    with pytest.raises(InputError, match=r"\(h, w, 2\)"):
        compose(np.zeros((4, 4, 3)))
    white = np.full((40, 40, 3), 250, np.uint8)
    for bad in (lambda: stain_look([white]), lambda: stain_look([white], RUIFROK), lambda: lab_look([white]), lambda: reinhard(white, np.zeros((2, 3)))):
        with pytest.raises(InputError, match=r"stained|tissue"):
            bad()
    with pytest.raises(InputError, match="absent"):
        stain_look([compose(mixed() * [1, 0])], RUIFROK)
