"""The augmentations one by one: which are there, that each is alone and seen, and that the page has them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tacit.phantom import tissue
from tacit.prepare.views import PRESETS, ViewDraw, apply, draw_view
from tacit.use.augmentation_sheet import COLUMNS, alone, augmentation_sheet

SHAPE, SIZE = (120, 168), 64
PICTURE = tissue.draw(np.random.default_rng(3), SHAPE, 1.2).picture
OF = {
    "byol": ["original", "crop", "mirror", "brightness", "contrast", "saturation", "hue", "grey", "blur", "solarise"],
    "simclr": ["original", "crop", "mirror", "brightness", "contrast", "saturation", "hue", "grey", "blur"],
    "report": ["original", "crop", "mirror", "brightness", "contrast", "saturation", "hue", "grey", "blur", "solarise"],
    "histology": ["original", "crop", "mirror", "turn", "brightness", "contrast", "saturation", "blur", "stain"],
}
FIELDS = {"crop": "box", "mirror": "flip", "turn": "turns", "stain": "stain", "grey": "grey", "blur": "sigma", "solarise": "solarise"}


@pytest.mark.parametrize("views", PRESETS)
def test_each_augmentation_of_a_preset_has_its_panel(views: str) -> None:
    assert [each.name for each in alone(SHAPE, views, SIZE)] == OF[views]


@pytest.mark.parametrize("views", PRESETS)
def test_each_panel_differs_from_the_original_by_its_own_operation_alone_and_enough_to_be_seen(views: str) -> None:
    first, *others = alone(SHAPE, views, SIZE)
    as_it_is = apply(PICTURE, first.draw)
    top = (SHAPE[1] - SHAPE[0]) // 2
    assert np.array_equal(as_it_is, apply(PICTURE[:, top : top + SHAPE[0]].copy(), alone((SHAPE[0], SHAPE[0]), views, SIZE)[0].draw))
    for each in others:
        changed = {name for name in vars(first.draw) if getattr(first.draw, name) != getattr(each.draw, name)}
        assert changed == {FIELDS.get(each.name, "operations")}, each.name
        assert len(each.draw.operations) == (each.name not in FIELDS)
        assert np.abs(apply(PICTURE, each.draw) - as_it_is).mean() > 4 / 255, each.name


@pytest.mark.parametrize("views", PRESETS)
def test_strengths_are_the_ends_of_what_is_drawn_and_shares_how_often(views: str) -> None:
    """Over many draws of both views: none is stronger than the panel, the strongest come near it, and each comes as often as it says."""
    draws = [[draw_view(np.random.default_rng([k, view]), SHAPE, PRESETS[views][view]) for k in range(3000)] for view in (0, 1)]
    for each in alone(SHAPE, views, SIZE)[1:]:
        said = [float(part.rstrip("%")) / 100 for part in each.often.removeprefix("in ").split(" / ")]
        for share, drawn in zip(said if len(said) == 2 else said * 2, draws, strict=True):
            seen = [d.box != (0, 0, *SHAPE) if each.name == "crop" else _has(d, each.name) for d in drawn]
            assert np.mean(seen) == pytest.approx(share, abs=0.03), (each.name, share)
        if each.name in ("brightness", "contrast", "saturation", "hue"):
            neutral = 0.0 if each.name == "hue" else 1.0
            strengths = [abs(by - neutral) for drawn in draws for d in drawn for name, by in d.operations if name == each.name]
            shown = abs(each.draw.operations[0][1] - neutral)
            assert 0.97 * shown < max(strengths) <= shown + 1e-9
        if each.name == "blur":
            assert 0.97 * each.draw.sigma < max(d.sigma for drawn in draws for d in drawn) <= each.draw.sigma
        if each.name == "crop":
            area = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for drawn in draws for d in drawn]
            assert (each.draw.box[2] - each.draw.box[0]) ** 2 == pytest.approx(min(area), rel=0.1)


def test_the_sheet_holds_the_panels_and_words_below_them() -> None:
    drawn, size = augmentation_sheet(PICTURE, "histology", 200), 200
    panels = alone(SHAPE, "histology", size)
    height = (drawn.shape[0] - 6) // -(-len(panels) // COLUMNS)
    for at, each in enumerate(panels):
        top, left = 6 + at // COLUMNS * height, 6 + at % COLUMNS * (size + 6)
        shown = drawn[top : top + size, left : left + size]
        assert np.array_equal(shown, np.rint(np.clip(apply(PICTURE, each.draw), 0, 1) * 255).astype(np.uint8)), each.name
        below = drawn[top + size : top + height - 6, left : left + size]
        assert below.min() < 100 and (below == 255).mean() > 0.7, each.name  # letters on white


def test_small_views_are_enlarged_and_nothing_is_smoothed() -> None:
    drawn = augmentation_sheet(PICTURE, "byol", 22)
    shown = drawn[6 : 6 + 176, 6 : 6 + 176]
    small = np.rint(np.clip(apply(PICTURE, alone(SHAPE, "byol", 22)[0].draw), 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(shown, cv2.resize(small, (176, 176), interpolation=cv2.INTER_NEAREST))


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3)])
def test_pictures_of_odd_shapes_have_panels_too(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 200, np.uint8)
    assert augmentation_sheet(picture, "report", 16).ndim == 3


def _has(draw: ViewDraw, name: str) -> bool:
    if name in FIELDS:
        return bool(getattr(draw, FIELDS[name]))
    return name in dict(draw.operations)
