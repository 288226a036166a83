"""Tiles: where they lie, that joining gives back the picture without seams, and that memory does not know the slide's height."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import ConfigError, InputError
from tacit.phantom import tissue as drawn_tissue
from tacit.prepare.tiles import Grid, Join, cut, grid, window
from tacit.prepare.tissue import Tissue
from tacit.read.slide import Slide, open_slide
from tacit.read.slide_readers import PictureReader


def slide_of(picture: np.ndarray, mpp: float | None = 1.0) -> Slide:
    return Slide(Path("drawn.png"), PictureReader(picture, mpp))


def joined(plan: Grid, tiles: object, channels: int | None = 3) -> np.ndarray:
    bands: list[np.ndarray] = []

    def write(row: int, band: np.ndarray) -> None:
        assert row == sum(len(b) for b in bands)
        bands.append(band)

    with Join(plan, write, channels=channels) as join:
        for row, col, tile in tiles:
            join.add(row, col, tile)
    return np.concatenate(bands)


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 150), w=st.integers(1, 150), size=st.integers(1, 60), share=st.floats(0, 0.9), stripes=st.integers(1, 3), seed=st.integers(0, 99))
def test_joining_the_tiles_themselves_gives_the_picture(h: int, w: int, size: int, share: float, stripes: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    slide = slide_of(picture)
    plan = grid(slide, 1.0, size, int(size * share))
    edges = np.unique(np.linspace(0, w, stripes + 1).astype(int))
    parts = []
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        stripe = plan.stripe(int(left), int(right))
        parts.append(joined(stripe, ((r, c, tile / np.float32(255)) for r, c, tile in cut(slide, stripe))))
    assert np.abs(np.concatenate(parts, 1) - picture / 255).max() < 1e-5


def test_a_real_pyramid_comes_back_from_its_tiles(tmp_path: Path) -> None:
    picture = drawn_tissue.draw(np.random.default_rng(1), (500, 700), 1.0).picture
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(64, 64), photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER", metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        plan = grid(slide, 0.5, 128, 32)
        assert np.abs(joined(plan, ((r, c, t / np.float32(255)) for r, c, t in cut(slide, plan))) - picture / 255).max() < 1e-5
        half = grid(slide, 1.0, 128, 32)
        assert half.shape == (250, 350) and half.level0.max() == 2 * (350 - 128)
        whole = cv2.resize(picture, (350, 250), interpolation=cv2.INTER_AREA)
        assert np.abs(joined(half, cut(slide, half)) - whole).max() < 1e-3


def test_regular_windows_sum_to_one_and_have_no_edge() -> None:
    for size, overlap in ((64, 16), (64, 32), (33, 8), (10, 0)):
        step, total = size - overlap, np.zeros(size * 6)
        for i in range(5):
            total[i * step : i * step + size] += np.sqrt(np.diag(window(size, overlap)))
        np.testing.assert_allclose(total[overlap : 4 * step], 1, atol=1e-6)
    assert np.abs(np.diff(window(64, 32)[32])).max() < 0.06 and (window(64, 32) > 0).all()


def test_disagreeing_neighbours_meet_without_a_seam() -> None:
    plan = grid(slide_of(np.zeros((64, 200, 3), np.uint8)), 1.0, 64, 32)
    tiles = [(r, c, np.full((64, 64), float(i % 2), np.float32)) for i, (r, c) in enumerate(plan.places.tolist())]
    whole = joined(plan, tiles, channels=None)
    assert whole.shape == (64, 200) and np.abs(np.diff(whole, axis=1)).max() < 0.06 and whole.min() == 0 and whole.max() == 1


def test_a_row_is_handed_on_as_soon_as_no_later_tile_can_touch_it() -> None:
    plan = grid(slide_of(np.zeros((400, 90, 3), np.uint8)), 1.0, 40, 10)
    handed: list[int] = []
    join = Join(plan, lambda row, band: handed.append(row + len(band)))
    for row, col in plan.places.tolist():
        join.add(row, col, np.ones((40, 40)))
        assert (handed[-1] if handed else 0) == row
    join.close()
    assert handed[-1] == 400


def peak(height: int, tissue_rows: int | None = None) -> int:
    """Peak bytes while tiles of a slide that is only a plan are joined."""
    plan = grid(Slide(Path("plan"), _Tall(height)), 1.0, 128, 32)
    if tissue_rows is not None:
        plan = Grid(plan.places[plan.places[:, 0] >= height - tissue_rows], plan.shape, 128, 32, 1.0, 1.0, plan.columns)
    prediction = np.ones((128, 128), np.float32)
    rows = 0

    def write(row: int, band: np.ndarray) -> None:
        nonlocal rows
        rows += len(band)

    tracemalloc.start()
    with Join(plan, write) as join:
        for row, col in plan.places:
            join.add(int(row), int(col), prediction)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == height
    return most


class _Tall:
    """A slide that says how high it is and holds nothing."""

    def __init__(self, height: int) -> None:
        self.levels, self.downsamples, self.mpp = ((height, 600),), (1.0,), 1.0


def test_memory_does_not_depend_on_the_height() -> None:
    assert peak(20_000) < 1.05 * peak(1_000)
    assert peak(20_000, tissue_rows=500) < 1.05 * peak(1_000, tissue_rows=500)  # a long way without tissue


def test_tiles_lie_where_the_tissue_is() -> None:
    slide = slide_of(np.zeros((800, 1000, 3), np.uint8), mpp=0.5)
    mask = np.zeros((100, 125), bool)
    mask[40:60, 50:80] = True  # level-0 rows 320–480, columns 400–640
    plan = grid(slide, 1.0, 40, 0, tissue=Tissue(mask, 8.0), least_tissue=0.5)
    assert plan.factor == 2.0 and len(plan) == 6
    assert sorted(map(tuple, plan.level0.tolist())) == [(320, 400), (320, 480), (320, 560), (400, 400), (400, 480), (400, 560)]
    assert len(grid(slide, 1.0, 40, 0, tissue=Tissue(mask, 8.0), least_tissue=0.0)) == 6
    assert len(grid(slide, 1.0, 40, 0)) == 10 * 13
    empty = grid(slide, 1.0, 40, tissue=Tissue(np.zeros_like(mask), 8.0))
    assert len(empty) == 0 and not joined(empty, [], channels=2).any()


def test_a_grid_needs_a_spacing_and_sizes_that_can_be() -> None:
    unknown = slide_of(np.zeros((90, 90, 3), np.uint8), mpp=None)
    with pytest.raises(InputError, match=r"--mpp, or in a list"):
        grid(unknown, 1.0, 32)
    assert len(grid(unknown, 1.0, 32, mpp=0.5)) == 4
    for size, overlap in ((0, 0), (32, 32), (32, -1)):
        with pytest.raises(ConfigError, match="overlap"):
            grid(slide_of(np.zeros((90, 90, 3), np.uint8)), 1.0, size, overlap)
    with pytest.raises(ConfigError, match="least_tissue"):
        grid(unknown, 1.0, 32, mpp=1.0, least_tissue=1.5)


def test_what_cannot_be_joined_is_refused() -> None:
    plan = grid(slide_of(np.zeros((90, 90, 3), np.uint8)), 1.0, 32, 8)
    join = Join(plan, lambda row, band: None, channels=2)
    with pytest.raises(InputError, match=r"expected \(32, 32, 2\)"):
        join.add(0, 0, np.zeros((32, 32)))
    join.add(24, 0, np.zeros((32, 32, 2)))
    with pytest.raises(InputError, match="row by row"):
        join.add(0, 0, np.zeros((32, 32, 2)))
    with pytest.raises(InputError, match="stripe"):
        plan.stripe(50, 200)


def test_a_real_slide_is_joined_from_its_tiles(data: Path) -> None:
    with open_slide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        plan = grid(slide, slide.mpp, 512, 64)
        whole = joined(plan, ((r, c, t[..., 0] / np.float32(255)) for r, c, t in cut(slide, plan)), channels=None)
        assert np.abs(whole - slide.region(0, 0, slide.shape)[..., 0] / 255).max() < 1e-5
