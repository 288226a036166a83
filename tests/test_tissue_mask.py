"""Tissue on an overview: drawn shapes of known place and colour, ink, glass, holes, crumbs, dark ground; real slides."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from tacit.errors import InputError
from tacit.prepare.tissue import Tissue, find_pen, find_tissue, has_dark_ground, slide_tissue
from tacit.read.slide import open_slide

GLASS, EOSIN, NUCLEI = (243, 240, 244), (222, 150, 190), (110, 75, 150)
INK = {"blue": (35, 50, 170), "pure blue": (20, 20, 205), "green": (25, 130, 70), "black": (25, 22, 28)}


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    rows, cols = np.indices(shape)
    return np.hypot(rows - centre[0], cols - centre[1]) <= radius


def glass(shape: tuple[int, int] = (300, 400), seed: int = 0, colour: tuple[int, ...] = GLASS) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1.5, (*shape, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


def stained(picture: np.ndarray, where: np.ndarray, seed: int = 1) -> np.ndarray:
    """Tissue of two colours, speckled, at `where`."""
    rng = np.random.default_rng(seed)
    speckled = np.where(rng.random((*where.shape, 1)) < 0.3, NUCLEI, EOSIN) + rng.normal(0, 4, (*where.shape, 3))
    return np.where(where[..., None], np.clip(speckled, 0, 255), picture).astype(np.uint8)


def wrong_inside(found: np.ndarray, truth: np.ndarray, border: int = 2) -> int:
    """Pixels that differ further than `border` px from the truth's outline."""
    square = np.ones((2 * border + 1,) * 2, np.uint8)
    sure = cv2.erode(truth.astype(np.uint8), square) == cv2.dilate(truth.astype(np.uint8), square)
    return int(((found != truth) & sure).sum())


def test_a_drawn_piece_is_found_to_the_pixel() -> None:
    truth = disc((300, 400), (150, 200), 90)
    found = find_tissue(stained(glass(), truth))
    assert wrong_inside(found, truth) == 0
    assert (found & truth).sum() / (found | truth).sum() > 0.985


def test_holes_are_filled_or_kept_by_choice() -> None:
    piece, small, large = disc((300, 400), (150, 200), 90), disc((300, 400), (120, 180), 7), disc((300, 400), (170, 220), 25)
    picture = stained(glass(), piece & ~small & ~large)
    for fill, truth in {0: piece & ~small & ~large, 300: piece & ~large, math.inf: piece}.items():
        assert wrong_inside(find_tissue(picture, fill_px=fill), truth) == 0


def test_a_bay_at_the_border_is_no_hole() -> None:
    frame = np.ones((300, 400), bool)
    frame[100:200, :50] = False
    assert wrong_inside(find_tissue(stained(glass(), frame), fill_px=math.inf), frame) == 0


def test_crumbs_go_by_area() -> None:
    piece, crumb = disc((300, 400), (150, 200), 60), disc((300, 400), (40, 50), 10)
    picture = stained(glass(), piece | crumb)
    assert wrong_inside(find_tissue(picture, least_px=600), piece) == 0
    assert wrong_inside(find_tissue(picture, least_px=100), piece | crumb) == 0


def test_what_is_a_crumb_on_a_slide_is_tissue_on_a_small_cut_out(tmp_path: Path) -> None:
    piece, crumb = disc((300, 400), (150, 200), 60), disc((300, 400), (40, 50), 10)  # 20,000 µm² at 8 µm per px
    shown = stained(glass(), piece | crumb)
    for name, picture in (("slide", shown), ("cut out", shown[10:75, 15:95])):  # .33 mm²
        tifffile.imwrite(tmp_path / f"{name}.tif", np.kron(picture, np.ones((4, 4, 1), np.uint8)), tile=(256, 256), photometric="rgb")
    with open_slide(tmp_path / "slide.tif") as slide:
        assert wrong_inside(slide_tissue(slide, mpp=2.0).mask, piece) == 0
    with open_slide(tmp_path / "cut out.tif") as slide:
        assert wrong_inside(slide_tissue(slide, mpp=2.0).mask, crumb[10:75, 15:95]) == 0


@pytest.mark.parametrize("ink", INK)
def test_pen_is_refused_and_tissue_beside_it_kept(ink: str) -> None:
    truth = disc((300, 400), (150, 140), 80)
    picture = stained(glass(), truth)
    pen = np.zeros((300, 400), np.uint8)
    cv2.line(pen, (300, 20), (340, 280), 1, 14)
    cv2.line(pen, (10, 145), (130, 145), 1, 8)  # across the tissue
    drawn = np.where(pen[..., None] == 1, np.array(INK[ink]), picture).astype(np.uint8)
    drawn = np.clip(cv2.GaussianBlur(drawn, (0, 0), 0.7) + np.random.default_rng(3).normal(0, 2, drawn.shape), 0, 255).astype(np.uint8)
    found = find_tissue(drawn, fill_px=1e4)
    assert wrong_inside(found, truth & (pen == 0), border=3) == 0
    assert wrong_inside(find_pen(drawn), pen == 1, border=3) == 0
    if ink != "black":  # black ink is not saturated
        assert find_tissue(drawn, refuse_pen=False)[100, 312]


def test_stains_are_no_ink() -> None:
    for colour in (EOSIN, NUCLEI, (70, 45, 120), (150, 110, 70), (95, 60, 40), (200, 60, 120), (140, 155, 190)):  # last: pale haematoxylin of IHC
        assert not find_pen(glass(colour=colour)).any(), colour


def test_bare_glass_holds_no_tissue_and_a_full_field_nothing_else() -> None:
    for colour in (GLASS, (255, 255, 255), (236, 232, 215), (200, 200, 205)):
        assert not find_tissue(glass(colour=colour)).any(), colour
    assert find_tissue(glass(colour=EOSIN)).all()
    assert not find_tissue(glass(colour=INK["green"])).any()


def test_a_vignette_of_the_lamp_is_no_tissue() -> None:
    truth = disc((300, 400), (150, 200), 70)
    shade = 1 - 0.25 * (np.hypot(*(np.indices((300, 400)) - np.array([150, 200])[:, None, None])) / 250) ** 2
    assert wrong_inside(find_tissue((stained(glass(), truth) * shade[..., None]).astype(np.uint8)), truth) == 0


def test_on_a_dark_ground_tissue_is_what_shines() -> None:
    truth = disc((300, 400), (150, 200), 80)
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 6, (300, 400, 3)).astype(np.uint8)
    picture[..., 2] = np.where(truth & (rng.random((300, 400)) < 0.3), 220, picture[..., 2])
    assert has_dark_ground(picture) and not has_dark_ground(glass())
    found = find_tissue(picture)
    assert wrong_inside(found, truth, border=10) == 0
    assert not find_tissue(rng.integers(0, 6, (300, 400, 3)).astype(np.uint8)).any()


def test_only_rgb_is_looked_at() -> None:
    with pytest.raises(InputError, match="RGB of 8 bits"):
        find_tissue(np.zeros((50, 50), np.uint8))


def test_the_share_of_tissue_is_exact_to_parts_of_a_pixel() -> None:
    mask = np.random.default_rng(2).random((23, 31)) < 0.4
    fine = np.kron(mask, np.ones((8, 8)))  # factor 8: level-0 pixels
    tissue = Tissue(mask, 8.0)
    rng = np.random.default_rng(3)
    rows, cols = rng.integers(-20, 180, 50), rng.integers(-20, 240, 50)
    padded = np.pad(fine, 100)
    truth = [padded[100 + r : 100 + r + 37, 100 + c : 100 + c + 37].mean() for r, c in zip(rows, cols, strict=True)]
    np.testing.assert_allclose(tissue.share(rows, cols, 37), truth, atol=1e-9)


def test_real_slides(data: Path) -> None:
    with open_slide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        tissue = slide_tissue(slide)
        assert tissue.mask.shape == (186, 139) and tissue.factor == pytest.approx(8 / 0.499)
        assert 0.2 < tissue.mask.mean() < 0.45
    with open_slide(data / "slides" / "TCGA-CR-7395-01A-01-TS1.svs") as slide:
        with pytest.raises(InputError, match="--mpp"):
            slide_tissue(slide)
        assert 0.45 < slide_tissue(slide, mpp=2.0).mask.mean() < 0.75
