from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import InputError, UsageError
from tacit.image import Image
from tacit.prepare.resample import isotropic, slice_weights, to_length, to_shape, to_spacing_mm


def ramp(shape: tuple[int, int, int] = (6, 8, 10), spacing: tuple[float, float, float] = (4.0, 2.0, 1.0)) -> Image:
    """Values are the depth of each voxel's centre in mm."""
    z = (np.arange(shape[0]) + 0.5) * spacing[0]
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    return Image(np.broadcast_to(z[:, None, None], shape).astype(np.float32).copy(), "dhw", spacing, "given", affine=affine)


@pytest.mark.parametrize("how", ["linear", "area", "cubic"])
@pytest.mark.parametrize("slices", [3, 12, 13])
def test_a_ramp_stays_a_ramp_inside(how: str, slices: int) -> None:
    made = to_length(ramp(), slices, how)
    wanted = (np.arange(slices) + 0.5) * 24 / slices
    inside = (wanted > 6.1) & (wanted < 17.9) if how == "cubic" else (wanted >= 2) & (wanted <= 22)
    assert made.pixels[inside, 3, 3] == pytest.approx(wanted[inside], abs=1e-4)
    assert made.spacing_mm == pytest.approx((24 / slices, 2, 1))


@pytest.mark.parametrize("how", ["nearest", "linear", "area", "cubic"])
@pytest.mark.parametrize("sizes", [(7, 3), (3, 7), (5, 5), (10, 4), (1, 4)])
def test_weights_sum_to_one(how: str, sizes: tuple[int, int]) -> None:
    for indices, weights in slice_weights(*sizes, how):
        assert sum(weights) == pytest.approx(1) and min(indices) >= 0 and max(indices) < sizes[0]


def test_area_keeps_the_mean_and_nearest_invents_nothing() -> None:
    rng = np.random.default_rng(0)
    image = Image(rng.integers(-1000, 1000, (9, 12, 15)).astype(np.int16), "dhw", (1.0, 1.0, 1.0), "given")
    small = to_shape(image, (3, 4, 5), "area")
    assert small.pixels.dtype == np.int16
    assert small.pixels.astype(float) == pytest.approx(image.pixels.reshape(3, 3, 4, 3, 5, 3).mean((1, 3, 5)), abs=1.5)  # rounded twice
    assert set(np.unique(to_shape(image, (5, 7, 31), "nearest").pixels)) <= set(np.unique(image.pixels))


def test_the_outer_faces_stay_where_they_are() -> None:
    image = ramp()
    for shape in ((3, 4, 5), (12, 16, 20)):
        made = to_shape(image, shape, "linear")
        for corner in ((-0.5, -0.5, -0.5), None):
            before = np.array([*(corner or np.array(image.shape[::-1]) - 0.5), 1.0])
            after = np.array([*(corner or np.array(shape[::-1]) - 0.5), 1.0])
            assert image.affine @ before == pytest.approx(made.affine @ after)


def test_isotropic_goes_both_ways_and_says_so() -> None:
    assert isotropic(ramp()).spacing_mm == pytest.approx((1, 1, 1)) and isotropic(ramp()).shape == (24, 16, 10)
    down = isotropic(ramp(), "coarsest")
    assert down.shape == (6, 4, 2) and "6×8×10 to 6×4×2" in down.history[-1]


def test_a_picture_is_brought_to_a_spacing() -> None:
    picture = Image(np.zeros((20, 30, 3), np.uint8), "hwc", (0.001, 0.001), "given")
    assert to_spacing_mm(picture, (0.002, 0.002)).pixels.shape == (10, 15, 3)


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(InputError, match="spacing is not known"):
        to_spacing_mm(Image(np.zeros((4, 4, 4), np.int16), "dhw"), (1, 1, 1))
    with pytest.raises(UsageError, match="positive sizes"):
        to_shape(ramp(), (3, 4))
    with pytest.raises(UsageError, match="interpolation"):
        to_shape(ramp(), (3, 4, 5), "magic")
