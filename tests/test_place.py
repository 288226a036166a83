"""Where a view was cut, against pictures whose values are their own coordinates."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.learn.byol import ByolConfig
from tacit.learn.pix_pro import PixproConfig
from tacit.learn.pretraining import METHODS, views_of
from tacit.phantom import tissue
from tacit.prepare.place import place
from tacit.prepare.views import PRESETS, ViewDraw, apply, draw_view


def test_a_mirrored_box_by_hand() -> None:
    found = place(ViewDraw((100, 120), 8, (10, 20, 50, 100), flip=True))
    assert found.tolist() == [[40, 0, 10], [0, -80, 100]]
    assert found.dtype == np.float32
    turned = place(ViewDraw((100, 120), 8, (10, 20, 50, 100), turns=1))  # against the clock: the right edge becomes the upper one
    assert turned.tolist() == [[0, 40, 10], [-80, 0, 100]]


@pytest.mark.parametrize("preset", ["byol", "histology"])
def test_a_view_of_coordinates_shows_the_places_that_are_said(preset: str) -> None:
    h, w = 150, 200
    row, col = np.mgrid[0:h, 0:w].astype(np.float32) + 0.5
    seen_turns = set()
    for seed in range(25):
        config = PRESETS[preset][0].model_copy(update={"size": 40})
        draw = draw_view(np.random.default_rng(seed), (h, w), config)
        draw = ViewDraw(draw.shape, draw.size, draw.box, draw.flip, draw.turns)  # its geometry alone
        seen_turns.add((draw.flip, draw.turns))
        at = (np.arange(40) + 0.5) / 40
        u, v = np.meshgrid(at, at, indexing="ij")
        said = np.einsum("rk,kij->rij", place(draw), np.stack([u, v, np.ones_like(u)]))
        for values, wanted in zip((row, col), said, strict=True):
            shown = apply(values / 200, draw) * 200
            assert np.abs(shown - wanted)[8:-8, 8:-8].max() < 0.1  # px; at the edge a view repeats what it ends with
    assert len(seen_turns) == (8 if preset == "histology" else 2)


def test_views_that_say_their_places_are_those_of_other_methods() -> None:
    picture = tissue.draw(np.random.default_rng(0), (72, 96), 2.0).picture
    plain = views_of(ByolConfig(size=32))(np.random.default_rng(3), picture)
    placed = views_of(PixproConfig(size=32))(np.random.default_rng(3), picture)
    assert set(plain) == {"a", "b"} and set(placed) == {"a", "b", "place_a", "place_b"}
    assert all(np.array_equal(plain[k], placed[k]) for k in "ab")
    for k in "ab":
        corners = placed[f"place_{k}"] @ np.array([[0, 0, 1], [1, 1, 1]], np.float32).T
        assert corners.min() >= 0 and (corners.max(1) <= (72, 96)).all() and np.ptp(corners, axis=1).min() > 0
    assert [name for name, kind in METHODS.items() if getattr(kind.Config(), "placed", False)] == ["pixpro"]
