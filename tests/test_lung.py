from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from tacit.errors import InputError
from tacit.image import Image
from tacit.prepare.lung import LEFT, RIGHT, LungConfig, find_lungs, lung_mask
from tacit.prepare.space import canonical


def chest(joined: bool = False, spacing: tuple[float, float, float] = (3.0, 2.0, 2.0)) -> tuple[Image, np.ndarray]:
    """A body with two ellipsoid lungs, a windpipe, a table, and room air; truth 1 right, 2 left. Rows to the back, columns to the left."""
    d, h, w = 50, 120, 160
    z, y, x = np.meshgrid(np.arange(d) * spacing[0], np.arange(h) * spacing[1], np.arange(w) * spacing[2], indexing="ij")

    def ellipsoid(cz: float, cy: float, cx: float, rz: float, ry: float, rx: float) -> np.ndarray:
        return ((z - cz) / rz) ** 2 + ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1

    hu = np.full((d, h, w), -1000.0)
    hu[((y - 115) / 95) ** 2 + ((x - 160) / 140) ** 2 <= 1] = 40
    hu[:, 107:109] = 100  # the table
    apart = 56 if joined else 66
    right, left = ellipsoid(75, 115, 160 - apart, 62, 60, 58), ellipsoid(75, 115, 160 + apart, 62, 60, 52)
    hu[right | left] = -820
    hu[ellipsoid(160, 100, 160, 40, 9, 9)] = -990  # windpipe
    truth = np.where(right, RIGHT, 0) + np.where(left & ~right, LEFT, 0)
    noise = 25 * np.random.default_rng(0).standard_normal(hu.shape)
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    return Image(np.int16(hu + noise), "dhw", spacing, "given", "ct", None, (), affine), truth.astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_drawn_lungs_are_found_apart_and_measured() -> None:
    image, truth = chest()
    found = find_lungs(image)
    for side, litres in ((RIGHT, found.right_litres), (LEFT, found.left_litres)):
        assert dice(found.mask == side, truth == side) > 0.98
        assert litres == pytest.approx((truth == side).sum() * 12e-6, rel=0.03)
    assert found.litres == found.right_litres + found.left_litres and found.warnings == ()


def test_lungs_that_touch_are_parted() -> None:
    image, truth = chest(joined=True)
    found = find_lungs(image)
    for side in (RIGHT, LEFT):
        assert dice(found.mask == side, truth == side) > 0.95


def test_the_answer_lies_in_the_images_own_axes_however_they_point() -> None:
    image, _ = chest()
    upright = find_lungs(image).mask
    matrix = image.affine.copy()
    matrix[:, 3] += matrix[:, 0] * (image.shape[2] - 1)
    matrix[:, 0] *= -1
    turned = matrix[:, [2, 0, 1, 3]]  # voxel axes (w, h, d) := (d, flipped w, h)
    other = replace(image, pixels=np.ascontiguousarray(image.pixels[:, :, ::-1].transpose(1, 2, 0)), spacing_mm=(2.0, 2.0, 3.0), affine=turned)
    assert np.array_equal(canonical(other)[0].pixels, image.pixels)
    assert np.array_equal(find_lungs(other).mask, upright[:, :, ::-1].transpose(1, 2, 0))


def test_a_lung_cut_by_a_narrow_view_is_kept_and_named() -> None:
    image, truth = chest()
    cut = replace(image, pixels=np.ascontiguousarray(image.pixels[:, 20:104, 10:70]))
    found = find_lungs(cut)
    wanted = truth[:, 20:104, 10:70]
    assert dice(found.mask == RIGHT, wanted == RIGHT) > 0.95 and not (found.mask == LEFT).any()
    assert any("one side" in w for w in found.warnings)


def plain_mask(hu: np.ndarray, spacing_mm: tuple[float, ...], c: LungConfig) -> np.ndarray:
    """The same pipeline, written with scipy alone. The scans here cut no lung, so all that touches the edge goes."""
    sd, sh, sw = spacing_mm
    air = hu <= c.air_hu
    for plane in air:
        labels, _ = ndimage.label(plane)
        edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        plane &= ~np.isin(labels, edge[edge > 0])
    air = ndimage.binary_opening(air, iterations=c.opening)
    labels, count = ndimage.label(air)
    sizes = ndimage.sum_labels(air, labels, range(1, count + 1))
    order = np.argsort(-sizes, kind="stable")[:2]
    least = max(c.least_litres * 1e6 / (sd * sh * sw), c.least_share * sizes[order[0]])
    kept = np.isin(labels, [i + 1 for i in order if sizes[i] >= least])
    steps = max(round(c.closing_mm / min(sh, sw)), 1)
    kept = ndimage.binary_erosion(ndimage.binary_dilation(kept, iterations=steps), iterations=steps, border_value=1)
    for plane in kept:
        holes, n = ndimage.label(ndimage.binary_fill_holes(plane) & ~plane)
        areas = ndimage.sum_labels(np.ones_like(plane), holes, range(1, n + 1)) * sh * sw / 100
        plane |= np.isin(holes, [i + 1 for i in range(n) if areas[i] <= c.hole_cm2])
    weights = sum((hu[k] > -200).sum(0) for k in range(len(kept)) if kept[k].any())
    middle = np.average(np.arange(kept.shape[2]), weights=weights)
    for plane, values in zip(kept, hu, strict=True):
        labels, n = ndimage.label(plane)
        for i in range(1, n + 1):
            piece = labels == i
            near = abs(np.nonzero(piece)[1].mean() - middle) * sw <= c.airway_mm
            if near and piece.sum() * sh * sw / 100 <= c.airway_cm2 and np.median(values[piece]) < c.airway_hu:
                plane[piece] = False
    return kept


def test_the_mask_is_that_of_plain_scipy_steps() -> None:
    image, _ = chest()
    assert np.array_equal(lung_mask(image.pixels, image.spacing_mm, LungConfig()), plain_mask(image.pixels, image.spacing_mm, LungConfig()))


def test_what_is_no_chest_ct_is_refused() -> None:
    image, _ = chest()
    with pytest.raises(InputError, match="Hounsfield"):
        find_lungs(replace(image, pixels=np.uint8(np.random.default_rng(0).integers(0, 255, image.shape))))
    with pytest.raises(InputError, match="no lungs"):
        find_lungs(replace(image, pixels=np.where(image.pixels < -500, -1000, 200).astype(np.int16)[:, :30]))
    with pytest.raises(InputError, match="spacing"):
        find_lungs(replace(image, spacing_mm=None))


@pytest.mark.parametrize("name", ["id001", "id002", "id003", "id004"])
def test_real_lungs_are_found_as_a_person_drew_them(data, name: str) -> None:
    from tacit.read.nifti import read_volume

    image, truth = (read_volume(data / "lung-masks" / f"{name}{end}.nii.gz") for end in ("", "_mask"))
    assert dice(find_lungs(image).mask > 0, truth.pixels > 0) >= 0.97


@pytest.mark.parametrize("name", ["P001", "cap001", "normal001"])
def test_real_series_hold_plausible_lungs_on_both_sides(data, name: str) -> None:
    from tacit.read.nifti import read_volume

    found = find_lungs(read_volume(data / "covid-ct-md" / "nifti" / f"{name}.nii.gz"))
    assert 2 <= found.litres <= 8 and min(found.right_litres, found.left_litres) > 0.3 * found.litres
