from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from scans import body, group, write_dicom, write_series
from tacit.errors import InputError, ReadError
from tacit.image import Image
from tacit.read.dicom import read_headers
from tacit.read.nifti import read_volume, write_nifti
from tacit.read.series import find_series
from tacit.read.volume import Gaps, read_series

STACK = body(16, 40)
RAMP = np.int16(np.arange(12)[:, None, None] * 30 + np.arange(20)[None, :, None] * 3 + np.arange(24)[None, None, :])


def volume(paths: list[Path], gaps: Gaps = "refuse") -> Image:
    slices, _ = read_headers(paths)
    return read_series(find_series(slices)[0], gaps=gaps)


def itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and the affine in NIfTI's frame."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image), np.diag([-1, -1, 1, 1]) @ lps


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0.6, 0.8, 0, -0.48, 0.36, 0.8)])
def test_voxels_spacing_and_place_are_itks(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    paths = write_series(tmp_path, STACK, orientation=orientation, names=[f"{7 * k % 16:02d}.dcm" for k in range(16)])
    image, (pixels, affine) = volume(sorted(paths)), itk(tmp_path)
    assert np.array_equal(image.pixels, STACK) and image.pixels.dtype == np.int16
    assert image.spacing_mm == pytest.approx((2, 0.8, 0.7), abs=1e-4) and image.modality == "ct"
    if not np.allclose(affine[:3, 2], image.affine[:3, 2], atol=1e-3):  # ITK may count from the other end
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, len(STACK) - 1], [0, 0, 0, 1]])
        pixels = pixels[::-1]
    assert np.array_equal(pixels, STACK)
    assert image.affine == pytest.approx(affine, abs=1e-3)


def test_every_voxel_of_a_tilted_series_lies_where_its_slice_says(tmp_path: Path) -> None:
    lean = np.array([0, np.tan(np.radians(15)), 1.0])
    image = volume(write_series(tmp_path, STACK, along=lean))
    for k in (0, 7, 15):
        place = np.array([-40, -50, 30]) + lean * 2 * k + np.array([5 * 0.7, 3 * 0.8, 0])
        assert (image.affine @ [5, 3, k, 1])[:3] == pytest.approx(place * [-1, -1, 1], abs=1e-4)
    assert image.spacing_mm[0] == pytest.approx(2, abs=1e-5)


def test_gaps_are_refused_named_tolerated_or_filled_exactly(tmp_path: Path) -> None:
    paths = write_series(tmp_path, RAMP)
    holed = [p for k, p in enumerate(paths) if k not in (3, 7, 8)]
    with pytest.raises(InputError, match=r"3 missing among 9 slices.*interpolate"):
        volume(holed)
    tolerated = volume(holed, "tolerate")
    assert np.array_equal(tolerated.pixels, np.delete(RAMP, (3, 7, 8), 0)) and "3 missing" in tolerated.history[0]
    filled = volume(holed, "interpolate")
    assert np.array_equal(filled.pixels, RAMP) and filled.spacing_mm == pytest.approx((2, 0.8, 0.7))
    assert filled.affine == pytest.approx(volume(paths).affine, abs=1e-5)


def test_uneven_slices_are_laid_on_an_even_grid_whose_step_is_the_true_one(tmp_path: Path) -> None:
    places = np.array([0, 2, 4, 6.5, 8.5, 10.5, 13.1])
    levels = np.rint(places * 100)
    paths = write_series(tmp_path, np.int16(levels[:, None, None] * np.ones((1, 8, 9))), places=places)
    image = volume(paths, "interpolate")
    step = image.spacing_mm[0]
    assert step * (len(image.pixels) - 1) == pytest.approx(13.1, abs=1e-5)
    assert np.abs(image.pixels[:, 0, 0] - np.arange(len(image.pixels)) * step * 100).max() <= 0.5 + 1e-3
    ends = image.affine @ [0, 0, len(image.pixels) - 1, 1]
    assert ends[2] == pytest.approx(30 + 13.1, abs=1e-4)


def test_an_even_series_is_the_same_however_gaps_are_treated(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK)
    assert all(np.array_equal(volume(paths, gaps).pixels, STACK) for gaps in ("refuse", "tolerate", "interpolate"))


def test_an_enhanced_file_is_a_volume_in_order_of_its_places(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(16)
    frames = [group(PlanePositionSequence={"ImagePositionPatient": [0, 0, 2.5 * float(k)]}) for k in order]
    gone = dict.fromkeys(("ImagePositionPatient", "InstanceNumber"))
    for n, syntax in enumerate((None, RLELossless)):
        tags = {"PerFrameFunctionalGroupsSequence": Sequence(frames), "RescaleIntercept": -1024} | gone | ({"syntax": syntax} if syntax else {})
        path = write_dicom(tmp_path / f"{n}.dcm", np.uint16(STACK[order].astype(int) + 1024), **tags)
        image = volume([path])
        assert np.array_equal(image.pixels, STACK) and image.spacing_mm == (2.5, 0.8, 0.7)


def test_a_multi_frame_file_without_places_keeps_its_frames_and_claims_no_spacing(tmp_path: Path) -> None:
    image = volume([write_dicom(tmp_path / "a.dcm", np.uint16(STACK.astype(int) + 1024), RescaleIntercept=-1024)])
    assert np.array_equal(image.pixels, STACK) and image.spacing_mm is None and image.affine is None


def test_one_damaged_slice_is_named(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK, syntax=RLELossless)
    raw = bytearray(paths[5].read_bytes())
    paths[5].write_bytes(raw[: len(raw) - 900])
    with pytest.raises(ReadError, match=r"slice_005\.dcm"):
        volume(paths, "tolerate")


def test_names_in_utf8_with_spaces_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "Patientin Ä 日本 1"
    assert np.array_equal(volume(write_series(folder, STACK, names=[f"schnitt ü {k:02d}.dcm" for k in range(16)])).pixels, STACK)


def test_a_series_written_as_nifti_is_the_same_volume_at_the_same_place(tmp_path: Path) -> None:
    import nibabel

    image = volume(write_series(tmp_path, STACK, orientation=(0.6, 0.8, 0, -0.48, 0.36, 0.8)))
    write_nifti(tmp_path / "a.nii.gz", image)
    again = read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(again.pixels, STACK) and again.affine == pytest.approx(image.affine, abs=1e-4)
    assert nibabel.load(tmp_path / "a.nii.gz").affine == pytest.approx(image.affine, abs=1e-4)
