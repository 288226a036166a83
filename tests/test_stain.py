from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import InputError
from tacit.phantom import tissue
from tacit.prepare.stain import estimate_stains, optical_density

STAINS = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]])
STAINS = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)


def test_density_of_known_light() -> None:
    assert optical_density(np.full((1, 1, 3), 255, np.uint8)).max() == 0
    assert optical_density(np.round(np.full((1, 1, 3), 255 * 10**-0.5)).astype(np.uint8))[0, 0, 0] == pytest.approx(0.5, abs=0.005)


def test_stains_that_were_mixed_are_found() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.gamma(1.0, 0.4, (200, 300, 2)) * (rng.random((200, 300, 2)) < 0.6)
    picture = np.clip(255 * 10 ** -(amounts @ STAINS), 0, 255).astype(np.uint8)
    found = estimate_stains([picture])
    assert np.degrees(np.arccos(np.clip((found * STAINS).sum(1), -1, 1))).max() < 4


def test_stains_of_a_drawing_are_near_those_it_was_given() -> None:
    pictures = [tissue.draw(np.random.default_rng(i), (200, 260), 1.2, tissue.TissueConfig(stain_jitter=0.0), stains=STAINS).picture for i in range(6)]
    found = estimate_stains(pictures)
    assert np.degrees(np.arccos(np.clip((found * STAINS).sum(1), -1, 1))).max() < 12


def test_glass_and_one_colour_are_errors() -> None:
    with pytest.raises(InputError, match="stained pixels"):
        estimate_stains([np.full((50, 50, 3), 250, np.uint8)])
    with pytest.raises(InputError, match="one colour"):
        estimate_stains([np.full((50, 50, 3), (200, 80, 120), np.uint8)])
