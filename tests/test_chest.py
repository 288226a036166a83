"""Drawn chests, radiographs made alike, and the snap: exact truth on drawings and closed forms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tacit.errors import ConfigError, InputError
from tacit.phantom import chest, thorax
from tacit.phantom.chest import CLASSES, ChestConfig, draw
from tacit.prepare.radiograph import bone_is_dark, chest_frame, grey_levels, planes_of, ranked
from tacit.prepare.snap import SnapConfig, inner_and_lower, snapped
from tacit.use.draw import draw_sheet


def one(seed: int, shape: tuple[int, int] = (128, 128), **changes):
    return draw(np.random.default_rng(seed), shape, config=ChestConfig(**changes))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_drawn_chest_is_a_pure_function_of_its_generator() -> None:
    np.random.seed(1)
    a = one(3)
    np.random.seed(2)
    b = one(3)
    assert (a.picture == b.picture).all() and (a.planes == b.planes).all() and a.parameters == b.parameters
    assert (one(4).picture != a.picture).any()


@pytest.mark.parametrize("shape", [(64, 64), (97, 140), (300, 256)])
def test_any_size(shape: tuple[int, int]) -> None:
    d = one(1, shape)
    assert d.picture.shape == (*shape, 3) and d.picture.dtype == np.uint8
    assert d.labels.shape == shape and d.planes.shape == (3, *shape) and set(np.unique(d.planes)) == {0, 255}
    assert all(np.isfinite(v) for v in d.parameters.values())


def test_planes_hold_what_labels_cannot_and_parameters_tell_the_truth() -> None:
    for seed in range(8):
        d = one(seed)
        lungs, heart, clavicles = d.planes > 0
        assert (lungs & clavicles).any()  # clavicles cross the lungs
        assert (d.labels == np.where(clavicles, 3, np.where(heart, 2, np.where(lungs, 1, 0)))).all()
        for name, plane in zip(CLASSES, d.planes, strict=True):
            assert d.parameters[f"share_{name}"] == pytest.approx((plane > 0).mean())


def test_a_drawn_chest_is_built_like_a_chest() -> None:
    for seed in range(12):
        d = one(seed)
        lungs, heart, clavicles = d.planes > 0
        _, _, sizes, middles = cv2.connectedComponentsWithStats(lungs.astype(np.uint8))
        two = np.argsort(-sizes[1:, cv2.CC_STAT_AREA])[:2] + 1
        left, right = sorted(middles[two, 0])
        column, row = np.nonzero(heart)[1].mean(), np.nonzero(heart)[0].mean()
        assert left < column < right and (lungs & heart).sum() < 0.05 * heart.sum()
        assert row > np.nonzero(lungs)[0].mean() > np.nonzero(clavicles)[0].mean()
        assert column > (left + right) / 2 - 4  # the patient's left is on the right


def test_lungs_are_darker_than_heart_and_bones_are_white() -> None:
    darker = []
    for seed in range(12):
        d = one(seed, labels=0.0, frame=0.0, tubes=0.0)
        lungs, heart, clavicles = d.planes > 0
        grey = d.picture[..., 0].astype(float)
        darker.append((grey[lungs & ~clavicles].mean() < grey[heart].mean(), grey[lungs & ~clavicles].mean() < grey[clavicles].mean()))
    assert np.mean(darker, axis=0).min() > 0.9


def test_wide_hearts_are_wide() -> None:
    small, large = (np.mean([one(s, heart_width=(w, w), heart_size=(1.0, 1.0)).parameters["share_heart"] for s in range(6)]) for w in (0.8, 1.25))
    assert large > 1.3 * small


def test_the_frame_goes_there_and_back() -> None:
    frame = thorax.Frame(np.array([[40.0, -3.0, 60.0], [2.0, 90.0, 10.0]]), (120, 128))
    x, y = frame.fields()
    point = np.array([[0.3, 0.6]])
    col, row = frame.pixels(point)[0] / 16
    assert float(x[round(row), round(col)]) == pytest.approx(0.3, abs=0.02) and float(y[round(row), round(col)]) == pytest.approx(0.6, abs=0.01)


# radiographs made alike


def test_ranks_forget_any_rising_curve_depth_and_polarity() -> None:
    grey = one(5, (64, 64)).picture[..., 0]
    base = chest_frame(grey, 64)
    assert (chest_frame(grey.astype(np.uint16) ** 2 + 500, 64) == base).all()
    assert (chest_frame(np.sqrt(grey.astype(np.float64)), 64) == base).all() and (chest_frame(np.repeat(grey[..., None], 3, 2), 64) == base).all()
    assert np.abs(chest_frame((255 - grey.astype(np.float64)) / 255, 64).astype(int) - base).max() <= 1  # MONOCHROME1
    assert bone_is_dark(ranked(-grey.astype(np.float32))) and not bone_is_dark(ranked(grey.astype(np.float32)))


def test_ranks_against_scipy() -> None:
    from scipy.stats import rankdata

    values = np.random.default_rng(0).integers(0, 9, (20, 30)).astype(np.float32)
    slow = (rankdata(values, "average").reshape(values.shape) - 0.5) / values.size
    assert (ranked(values) == np.rint(255 * slow)).all()


def test_planes_are_standardised() -> None:
    x = planes_of(ranked(np.random.default_rng(0).random((64, 64)).astype(np.float32)))
    assert x.shape == (2, 64, 64) and abs(float(x[0].mean())) < 0.01 and float(x[0].std()) == pytest.approx(1, abs=0.01) and np.abs(x[1]).max() <= 3


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (np.zeros((64, 64), np.uint8), "one grey level"),
        (np.full((64, 64), np.nan), "not finite"),
        (np.ones((8, 64)), "at least 32 px"),
        (np.random.default_rng(0).random((40, 400)), "at most 3 to 1"),
        (np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8), "coloured"),
        (np.zeros((64, 64, 4), np.uint8), r"\(h, w\) or \(h, w, 3\)"),
        (np.zeros((64,), np.uint8), r"\(h, w\) or \(h, w, 3\)"),
    ],
    ids=["black", "nan", "tiny", "strip", "colour", "channels", "line"],
)
def test_what_is_no_radiograph_is_refused_by_name(picture: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        chest_frame(picture, 64)


def test_a_grey_picture_stored_as_rgb_is_taken() -> None:
    assert grey_levels(one(0).picture).shape == (128, 128)


# the snap


def test_the_snap_mends_outlines_on_the_inner_and_lower_side() -> None:
    before, after = [], []
    for seed in range(10):
        d = one(seed, opacity=0.0, noise=(0.0, 0.005), vessels=(0.0, 0.05), lung=(0.05, 0.2))
        true = d.planes[0] > 0
        moved = np.roll(np.roll(true, -2, 0), 2, 1) & true | np.roll(true, 2, 1)  # the heart's side of one lung bitten, of the other spilt
        soft = cv2.GaussianBlur(moved.astype(np.float32), (0, 0), 1.0)
        before.append(dice(soft > 0.5, true))
        after.append(dice(snapped(soft, chest_frame(d.picture, 128), SnapConfig()) > 0.5, true))
    assert np.mean(after) > np.mean(before) + 0.003


def test_the_snap_leaves_the_outer_side_and_empty_masks_alone() -> None:
    d = one(2)
    soft = cv2.GaussianBlur((d.planes[0] > 0).astype(np.float32), (0, 0), 1.0)
    ranks = chest_frame(d.picture, 128)
    changed = snapped(soft, ranks) != soft
    assert changed.any() and not (changed & ~inner_and_lower(soft > 0.5)).any()
    for flat in (np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)):
        assert (snapped(flat, chest_frame(d.picture, 64)) == flat).all()


def test_a_sheet_of_chests_keeps_every_structure_whole(tmp_path: Path) -> None:
    draw_sheet("chest", tmp_path / "o", count=2, shape=(60, 80), set=["opacity=0.0"])
    for name in CLASSES:
        plane = cv2.imread(str(tmp_path / "o" / "planes" / name / "chest_0001.png"), cv2.IMREAD_UNCHANGED)
        again = draw(np.random.default_rng([0, 1]), (60, 80), 1.0, ChestConfig(opacity=0.0))
        assert (plane == again.planes[CLASSES.index(name)]).all()
    assert (tmp_path / "o" / "figures" / "sheet.png").exists()
    with pytest.raises(ConfigError, match="opacity"):
        draw_sheet("chest", tmp_path / "p", count=1, set=["opacty=0.0"])


def test_the_generator_is_known_by_name() -> None:
    from tacit.phantom import generator

    assert generator("chest") is chest
