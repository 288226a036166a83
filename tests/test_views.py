from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import ConfigError, InputError
from tacit.parts.decoder import declare_torchvision_operators
from tacit.phantom import tissue
from tacit.prepare.colour_jitter import OPERATIONS, blurred, jittered, restained, solarised
from tacit.prepare.stain import as_light, optical_density, stain_matrix
from tacit.prepare.views import (
    IMAGENET_MEAN,
    IMAGENET_SD,
    PRESETS,
    ViewConfig,
    ViewDraw,
    apply,
    apply_to_map,
    draw_view,
    normalised,
    normalised_views,
    read_draw,
    to_picture,
    to_view,
    undo,
)

declare_torchvision_operators()
from torchvision.transforms import v2  # noqa: E402
from torchvision.transforms.v2 import functional as F  # noqa: E402

TISSUE = tissue.draw(np.random.default_rng(0), (150, 190), 1.2).picture
NOISE = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)  # every colour, black, white and grey among them
NOISE[:8] = NOISE[:8, :, :1]
NOISE[0, 0], NOISE[0, 1] = 0, 255
WITHIN = 2 / 255 + 1e-6
FACTORS = {"brightness": (0.0, 0.3, 1.0, 1.8), "contrast": (0.0, 0.4, 1.0, 1.8), "saturation": (0.0, 0.5, 1.0, 1.8), "hue": (-0.5, -0.13, 0.0, 0.2, 0.5)}


def chw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))


def hwc(x: torch.Tensor) -> np.ndarray:
    levels = x.numpy().transpose(1, 2, 0)
    return levels.astype(np.float32) / 255 if levels.dtype == np.uint8 else levels


def unit(picture: np.ndarray) -> np.ndarray:
    return picture.astype(np.float32) / np.float32(255)


def difference(ours: np.ndarray, theirs: torch.Tensor) -> float:
    return float(np.abs(ours - hwc(theirs)).max())


def draws(preset: str, count: int = 40, shape: tuple[int, int] = TISSUE.shape[:2], size: int = 64) -> Iterator[ViewDraw]:
    for seed in range(count):
        yield draw_view(np.random.default_rng(seed), shape, PRESETS[preset][seed % 2].model_copy(update={"size": size}))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("picture", [TISSUE, NOISE], ids=["tissue", "noise"])
def test_each_colour_operation_is_torchvisions(name: str, picture: np.ndarray) -> None:
    theirs = getattr(F, f"adjust_{name}")
    for factor in FACTORS[name]:
        ours = jittered(unit(picture), [(name, factor)])
        assert difference(ours, theirs(chw(unit(picture)), factor)) < 1e-4
        assert difference(ours, theirs(chw(picture), factor)) <= WITHIN


@given(st.permutations(OPERATIONS), st.floats(0, 2), st.floats(0, 2), st.floats(0, 2), st.floats(-0.5, 0.5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_operations_in_any_order_fused_are_torchvisions_one_by_one(order: list[str], b: float, c: float, s: float, h: float, grey: bool) -> None:
    factors = dict(zip(OPERATIONS, (b, c, s, h)))
    x = chw(unit(NOISE))
    for name in order:
        x = getattr(F, f"adjust_{name}")(x, factors[name])
    x = F.rgb_to_grayscale(x, 3) if grey else x
    operations = [(n, factors[n]) for n in order] + [("saturation", 0.0)] * grey
    before = unit(NOISE)
    off = np.abs(jittered(before, operations) - hwc(x))
    assert (before == unit(NOISE)).all()
    assert off.max() <= WITHIN


def test_grey_blur_and_solarise_are_torchvisions() -> None:
    for picture in (TISSUE, NOISE):
        assert difference(jittered(unit(picture), [("saturation", 0.0)]), F.rgb_to_grayscale(chw(unit(picture)), 3)) < 1e-5
        for whole in (picture, unit(picture)):
            assert difference(solarised(unit(picture)), F.solarize(chw(whole), 128 if whole.dtype == np.uint8 else 0.5)) < 1e-6
            for sigma in (0.1, 0.25, 0.7, 1.3, 2.0):
                assert difference(blurred(unit(picture), sigma), F.gaussian_blur(chw(whole), [23, 23], [sigma, sigma])) <= WITHIN
    assert (blurred(unit(NOISE), 0.0) == unit(NOISE)).all()


def test_crop_resample_mirror_and_turn_are_torchvisions() -> None:
    turned = 0
    for picture in (TISSUE, NOISE):
        for draw in draws("histology", 30, picture.shape[:2]):
            bare = replace(draw, stain=None, operations=(), grey=False, sigma=0.0, solarise=False)
            top, left, bottom, right = draw.box
            for kind in (picture, unit(picture)):
                theirs = F.resized_crop(chw(kind), top, left, bottom - top, right - left, [64, 64], antialias=True)
                theirs = F.horizontal_flip(theirs) if draw.flip else theirs
                theirs = torch.rot90(theirs, draw.turns, (1, 2))
                assert difference(apply(kind, bare), theirs) <= WITHIN
                turned += draw.turns > 0
    assert turned > 20


@pytest.mark.parametrize("preset", ["byol", "simclr", "report"])
def test_a_whole_view_is_torchvisions_for_the_same_draw(preset: str) -> None:
    for draw in draws(preset, 30):
        top, left, bottom, right = draw.box
        x = F.resized_crop(chw(TISSUE), top, left, bottom - top, right - left, [64, 64], antialias=True)
        x = F.to_dtype(F.horizontal_flip(x) if draw.flip else x, torch.float32, scale=True)
        for name, factor in draw.operations:
            x = getattr(F, f"adjust_{name}")(x, factor)
        x = F.rgb_to_grayscale(x, 3) if draw.grey else x
        x = F.gaussian_blur(x, [23, 23], [draw.sigma] * 2) if draw.sigma else x
        x = F.solarize(x, 0.5) if draw.solarise else x
        seen = apply(TISSUE, draw)
        assert np.abs(seen - hwc(x)).max() <= WITHIN
        theirs = F.normalize(x, list(IMAGENET_MEAN), list(IMAGENET_SD)).numpy()
        assert np.abs(normalised(seen) - theirs).max() <= WITHIN / min(IMAGENET_SD)


def test_draws_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    peer = v2.RandomResizedCrop(64)
    blank = [torch.zeros(3, 60, 400)]  # so long that some crops do not fit and the middle one is taken
    theirs = np.array([[p[k] for k in ("top", "left", "height", "width")] for p in (peer.make_params(blank) for _ in range(1500))])
    boxes = np.array([draw_view(np.random.default_rng(i), (60, 400)).box for i in range(1500)])
    ours = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 5 and np.abs(ours.std(0) - theirs.std(0)).max() < 5
    drawn = [draw_view(np.random.default_rng(i), (60, 60)) for i in range(1500)]
    assert np.mean([bool(d.operations) for d in drawn]) == pytest.approx(0.8, abs=0.04)
    assert np.mean([d.grey for d in drawn]) == pytest.approx(0.2, abs=0.04) and all(0.1 <= d.sigma <= 2 for d in drawn)
    first = [d.operations[0][0] for d in drawn if d.operations]
    assert all(first.count(name) / len(first) == pytest.approx(0.25, abs=0.05) for name in OPERATIONS)
    assert {d.turns for d in draws("histology")} == {0, 1, 2, 3} and not any(d.grey or "hue" in dict(d.operations) for d in draws("histology"))


def test_a_draw_replays_and_survives_being_written_down() -> None:
    for draw in draws("histology", 10):
        again = read_draw(json.loads(json.dumps(asdict(draw))))
        assert again == draw and (apply(TISSUE, again) == apply(TISSUE, draw)).all()
    assert list(draws("byol", 5)) == list(draws("byol", 5)) and len(set(draws("byol", 20))) == 20


def test_points_go_to_the_picture_and_back() -> None:
    for draw in draws("histology", 20):
        points = np.random.default_rng(0).uniform(-5, 70, (30, 2))
        assert np.allclose(to_view(to_picture(points, draw), draw), points)
    whole = ViewDraw((40, 40), 20, (0, 0, 40, 40))
    assert to_picture(np.array([[0, 0], [19, 10]]), whole).tolist() == [[0.5, 0.5], [38.5, 20.5]]  # the middle of 2 × 2 pixels


def test_a_view_shows_the_picture_where_its_points_say() -> None:
    rows, cols = np.mgrid[:150, :190].astype(np.float32)
    ramps = np.stack([rows, cols, np.zeros_like(rows)], axis=-1) / 190
    for draw in draws("histology", 20):
        bare = replace(draw, stain=None, operations=(), sigma=0.0)
        inner = np.array([[r, c] for r in (6, 30, 57) for c in (6, 40, 57)])
        seen = apply(ramps, bare)[inner[:, 0], inner[:, 1], :2] * 190
        assert np.abs(seen - to_picture(inner, draw)).max() < 0.15  # px: the antialiasing filter is sampled, so it is not quite even


def test_coordinates_seen_and_laid_back_are_where_they_were() -> None:
    for draw in draws("histology", 20):
        points = np.stack(np.meshgrid(np.arange(64), np.arange(64), indexing="ij"), -1).reshape(-1, 2)
        back, valid = undo(to_picture(points, draw).reshape(64, 64, 2), draw)
        top, left, bottom, right = draw.box
        assert valid.sum() == (bottom - top) * (right - left) and valid[top:bottom, left:right].all()
        wanted = np.stack(np.nonzero(valid), axis=1)
        inside = ((to_view(wanted, draw) >= 0) & (to_view(wanted, draw) <= 63)).all(1)  # the outermost half pixel is repeated
        assert np.abs(back[valid] - wanted)[inside].max() < 1e-3 * 190 and inside.mean() > 0.9
        assert (back[~valid] == 0).all()


def test_labels_seen_and_laid_back_are_the_labels() -> None:
    labels = tissue.draw(np.random.default_rng(0), (150, 190), 1.2).labels
    for draw in draws("histology", 10, size=256):  # no pixel of the picture is left out
        seen = apply_to_map(labels, draw)
        assert seen.shape == (256, 256) and seen.dtype == labels.dtype
        back, valid = undo(seen, draw)
        assert (back[valid] == labels[valid]).all() and back.dtype == labels.dtype


def test_a_coarse_map_covers_the_same_crop() -> None:
    draw = ViewDraw((30, 40), 64, (5, 10, 25, 30), flip=True, turns=1)
    coarse = np.arange(4).reshape(2, 2)
    back, valid = undo(coarse, draw)
    assert valid[5:25, 10:30].all() and (back[5:15, 10:20] == np.rot90(coarse, -1)[0, 1]).all()


def test_a_map_may_have_any_number_of_channels() -> None:
    draw = ViewDraw((30, 40), 64, (5, 10, 25, 30), flip=True, turns=1)
    many = np.random.default_rng(0).normal(size=(8, 8, 700)).astype(np.float32)
    back, _ = undo(many, draw)
    assert back.shape == (30, 40, 700) and np.allclose(back[..., 650], undo(many[..., 650], draw)[0], atol=1e-6)


def test_grey_and_deep_pictures_have_views_too() -> None:
    grey = TISSUE[..., 0]
    for draw in draws("report", 10):
        assert np.abs(apply(grey, draw)[..., None] - apply(np.repeat(grey[..., None], 3, -1), draw)).max() < 2e-3
        assert np.abs(apply(grey.astype(np.uint16) * 257, draw) - apply(unit(grey), draw)).max() < 1e-4
        assert normalised(apply(grey, draw)).shape == (3, 64, 64)
    still = grey.copy()
    still.flags.writeable = False
    assert (apply(still, draw) == apply(grey, draw)).all() and (apply(still[:, ::-1], draw) == apply(grey[:, ::-1].copy(), draw)).all()


def test_a_batch_of_views_is_the_views() -> None:
    for picture in (TISSUE, TISSUE[..., 0]):
        drawn = list(draws("histology", 6))
        batch = normalised_views(picture, drawn)
        assert batch.shape == (6, 3, 64, 64) and all(np.allclose(b, normalised(apply(picture, d)), atol=1e-5) for b, d in zip(batch, drawn))
    for wrong in ([], [drawn[0], replace(drawn[0], size=32)]):
        with pytest.raises(InputError, match="one size"):
            normalised_views(TISSUE, wrong)


def test_restained_pixels_are_those_of_the_density() -> None:
    matrix = stain_matrix((1.2, 0.8), (0.02, -0.01))
    want = as_light(cv2.transform(optical_density(TISSUE), matrix))
    assert np.abs(restained(unit(TISSUE), matrix) * 255 - want).max() <= 0.51


def test_what_views_cannot_be_made_of_is_said() -> None:
    draw = ViewDraw((90, 70), 32, (0, 0, 50, 50))
    with pytest.raises(InputError, match="drawn for a picture of 90×70"):
        apply(TISSUE, draw)
    with pytest.raises(InputError, match="uint8, uint16 or float32"):
        apply(NOISE.astype(np.int64), draw)
    with pytest.raises(InputError, match="does not fit"):
        ViewDraw((90, 70), 32, (0, 0, 91, 50))
    with pytest.raises(InputError, match="square"):
        undo(np.zeros((4, 5)), draw)
    with pytest.raises(InputError, match="float32 from 0 to 1"):
        jittered(NOISE, [])
    with pytest.raises(ConfigError, match="not known"):
        jittered(unit(NOISE), [("sharpness", 1.0)])
    with pytest.raises(ConfigError, match="turn from"):
        jittered(unit(NOISE), [("hue", 0.7)])
    with pytest.raises(ValueError, match="less than or equal to 1"):
        ViewConfig(grey=1.5)
