from __future__ import annotations

import numpy as np

from tacit.learn.lessons import Lesson
from tacit.learn.real_ground import ground, on_real_ground, sure_corners
from tacit.prepare.colour import lab_statistics

GREEN, PINK = (0, 160, 0), (220, 150, 190)


def lesson(gland: np.ndarray, inside: tuple[int, int, int], outside: tuple[int, int, int]) -> Lesson:
    picture = np.where(gland[..., None], np.uint8(inside), np.uint8(outside)).astype(np.uint8)
    target = np.repeat((gland * 255).astype(np.uint8)[..., None], 2, -1)
    return Lesson(picture, target, np.full(gland.shape, 255, np.uint8), lab_statistics(picture))


def disc(shape: tuple[int, int], radius: float) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - shape[0] / 2, cols - shape[1] / 2) < radius


def test_what_may_be_gland_never_enters_the_surroundings() -> None:
    real = lesson(disc((140, 160), 30), GREEN, PINK)
    corners = sure_corners(real)
    assert corners is not None
    around = ground(real, corners, (120, 180), np.random.default_rng(0))
    assert around.shape == (120, 180, 3)
    off = np.abs(around.astype(int) - PINK).max(-1)
    assert (off <= 6).mean() > 0.995 and (off > 40).sum() == 0  # 3% of a patch may be unsure; none of it is a visible gland


def test_a_drawn_gland_keeps_its_place_and_gets_real_surroundings_and_their_density() -> None:
    drawn = lesson(disc((100, 100), 25), (90, 60, 140), (200, 100, 180))
    real = lesson(disc((140, 160), 30), GREEN, PINK)
    made = on_real_ground([drawn], [real], np.random.default_rng(0))[0]
    assert np.array_equal(made.target, drawn.target)
    far = ~disc((100, 100), 31)
    assert np.abs(made.picture[far].astype(int) - PINK).max() <= 12  # a patch may bring a trace of the other colour

    def density(rgb: tuple[int, int, int]) -> np.ndarray:
        return -np.log10(np.asarray(rgb, float) / 255)

    gain = np.clip(density(PINK) / density((200, 100, 180)), 0.5, 2)
    wanted = 255 * 10 ** (-density((90, 60, 140)) * gain)
    assert np.abs(made.picture[50, 50] - wanted).max() <= 3


def test_without_sure_tissue_a_drawing_stays_as_it_is() -> None:
    drawn = lesson(disc((100, 100), 25), (90, 60, 140), (200, 100, 180))
    all_gland = lesson(np.ones((140, 160), bool), GREEN, PINK)
    assert on_real_ground([drawn], [all_gland], np.random.default_rng(0)) == [drawn]
    assert sure_corners(lesson(np.zeros((10, 10), bool), GREEN, PINK)) is None
