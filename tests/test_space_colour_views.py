from __future__ import annotations

import cv2
import numpy as np
import pytest

from tacit.errors import InputError
from tacit.image import Image
from tacit.prepare.colour import lab_statistics, standardised, tissue_mask
from tacit.prepare.space import to_size, to_spacing
from tacit.prepare.views import colour_shift, view, view_matrix

RGB = np.random.default_rng(0).integers(0, 200, (60, 90, 3), dtype=np.uint8)


def test_spacing_changes_the_size_by_the_ratio_and_keeps_the_mean() -> None:
    small = to_spacing(RGB, 0.5, 1.5)
    assert small.shape == (20, 30, 3) and abs(small.mean() - RGB.mean()) < 1
    assert to_spacing(RGB, 2.0, 1.0).shape == (120, 180, 3)
    assert to_spacing(RGB[:1, :1], 0.1, 10).shape == (1, 1, 3)
    assert to_size(RGB, (60, 90)) is RGB


def test_shrinking_by_a_whole_number_is_the_box_mean() -> None:
    grey = RGB[..., 0].astype(np.float32)
    assert np.allclose(to_spacing(grey, 1, 3), grey.reshape(20, 3, 30, 3).mean((1, 3)), atol=1e-3)


def test_standardised_tissue_has_mean_zero_and_deviation_one_and_glass_does_not_count() -> None:
    x = standardised(RGB)
    assert x.shape == (3, 60, 90) and np.abs(x.mean((1, 2))).max() < 0.05 and np.abs(x.std((1, 2)) - 1).max() < 0.05
    glass = np.full((60, 400, 3), 250, np.uint8)
    assert np.allclose(lab_statistics(np.hstack([RGB, glass])), lab_statistics(RGB))
    assert tissue_mask(np.hstack([RGB, glass])).sum() == 60 * 90
    assert np.isfinite(standardised(np.full((9, 9, 3), 255, np.uint8))).all()


def test_a_view_shows_the_picture_where_its_matrix_says() -> None:
    rng = np.random.default_rng(4)
    smooth = cv2.GaussianBlur(RGB[..., 0].astype(np.float32), (0, 0), 4)
    for _ in range(20):
        matrix = view_matrix(rng, smooth.shape, 24)
        seen = view(smooth, matrix, 24)
        for row, col in ((3, 5), (12, 12), (20, 8)):
            x, y = matrix @ [col, row, 1]
            if 1 < x < 88 and 1 < y < 58:
                want = cv2.getRectSubPix(smooth, (1, 1), (float(x), float(y)))[0, 0]
                assert abs(seen[row, col] - want) < 1.5


def test_a_view_is_zoomed_by_no_more_than_asked_and_replays() -> None:
    for seed in range(30):
        matrix = view_matrix(np.random.default_rng(seed), (60, 90), 24, zoom=0.25)
        assert 1 / 1.2501 <= np.sqrt(abs(np.linalg.det(matrix[:, :2]))) <= 1.2501
        assert (matrix == view_matrix(np.random.default_rng(seed), (60, 90), 24, zoom=0.25)).all()


def test_no_colour_shift_is_no_change() -> None:
    x = standardised(RGB)
    assert np.allclose(colour_shift(np.random.default_rng(0), x, 0.0), x)


def test_an_image_knows_its_spacing_and_refuses_a_wrong_one() -> None:
    image = Image(RGB).with_mpp(0.5, "given")
    assert image.mpp == pytest.approx(0.5) and image.spacing_source == "given" and "0.5" in image.history[-1]
    assert image.after("cut", RGB[:30]).shape == (30, 90)
    with pytest.raises(InputError, match="2 positive numbers"):
        Image(RGB, spacing_mm=(0.1, 0.0))
    with pytest.raises(InputError, match="3 dimensions"):
        Image(RGB[..., 0])
