from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tacit.errors import ReadError
from tacit.read.nifti import is_volume, read_volume
from tacit.read.pages import read_pages


def save(path: Path, pages: list[np.ndarray]) -> Path:
    first, *rest = [Pillow.fromarray(p) for p in pages]
    first.save(path, save_all=True, append_images=rest)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_equal_pages_are_a_volume(tmp_path: Path, dtype: type) -> None:
    pages = list(np.random.default_rng(0).integers(0, 255, (5, 20, 30)).astype(dtype))
    image = read_volume(save(tmp_path / "stack.tif", pages))
    assert image.axes == "dhw" and image.pixels.dtype == dtype and np.array_equal(image.pixels, pages)


def test_one_page_and_a_pyramid_are_no_volume(tmp_path: Path) -> None:
    one, half = np.zeros((40, 40), np.uint8), np.zeros((20, 20), np.uint8)
    assert not is_volume(save(tmp_path / "one.tif", [one])) and not is_volume(save(tmp_path / "pyramid.tif", [one, half]))


def test_a_stack_that_is_cut_short_or_uneven_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", [np.zeros((40, 40), np.uint8)] * 3)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ReadError, match=r"damaged|cut short"):
        read_pages(path)
    uneven = save(tmp_path / "b.tif", [np.zeros((40, 40), np.uint8)] * 2 + [np.zeros((40, 41), np.uint8)])
    with pytest.raises(ReadError, match="page 3"):
        read_volume(uneven)
    colour = save(tmp_path / "c.tif", [np.zeros((40, 40, 3), np.uint8)] * 2)
    with pytest.raises(ReadError, match="grey"):
        read_volume(colour)
