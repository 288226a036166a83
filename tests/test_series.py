from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scans import body, write_dicom, write_series
from tacit.errors import InputError
from tacit.read.dicom import read_headers
from tacit.read.series import Series, find_series

N = 20
STACK = body(N, 32)


def found(paths: list[Path]) -> list[Series]:
    slices, errors = read_headers(paths)
    assert not errors
    return find_series(slices)


def only(paths: list[Path]) -> Series:
    series = found(paths)
    assert len(series) == 1
    return series[0]


def turned(degrees: float) -> tuple[float, ...]:
    a = np.radians(degrees)
    return (np.cos(a), np.sin(a), 0.0, 0.0, 0.0, -1.0)  # coronal, turned about the body's axis


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), turned(0), turned(17), (0, 1, 0, 0, 0, -1), (0.6, 0.8, 0, -0.48, 0.36, 0.8)])
def test_slices_are_ordered_along_their_normal_whatever_names_and_order_say(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    names = [f"{k}.dcm" for k in np.random.default_rng(0).permutation(N)]
    paths = write_series(tmp_path, STACK, orientation=orientation, names=names)
    series = only(sorted(paths))
    assert [s.path for s in series.slices] == paths
    assert series.spacing_mm == pytest.approx(2, abs=1e-5) and series.defects.words == ""


def test_itk_puts_the_files_into_the_same_order(tmp_path: Path) -> None:
    import SimpleITK

    write_series(tmp_path, STACK, orientation=turned(30), names=[f"{k}.dcm" for k in np.random.default_rng(1).permutation(N)])
    theirs = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    assert [str(s.path) for s in only(sorted(tmp_path.iterdir())).slices] in (list(theirs), list(theirs)[::-1])


def test_missing_slices_are_counted(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK)
    d = only([p for k, p in enumerate(paths) if k not in (4, 9, 10, 15)]).defects
    assert (d.missing, d.duplicate, d.foreign, d.shuffled, d.spacing_uneven) == (4, 0, 0, 0, False)
    assert d.words == "4 missing"


def test_duplicates_are_left_out_and_said(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK)
    again = write_series(tmp_path / "again", STACK[3:5], places=[6.0, 8.0])
    series = only([*paths, *again])
    assert series.defects.duplicate == 2 and len(series.slices) == N and series.defects.missing == 0
    assert all(why.startswith("duplicate") for _, why in series.left_out)


def test_shuffled_numbers_are_counted_once_each(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK[:10])
    paths += write_series(tmp_path / "b", STACK[10:11], places=[20.0], InstanceNumber=2)
    paths += write_series(tmp_path / "c", STACK[11:], places=np.arange(11, N) * 2.0)
    for path in paths[11:]:
        assert path.exists()
    series = only(paths)
    assert [s.path for s in series.slices] == paths
    assert series.defects.shuffled >= 1 and paths[10] in [s.path for s in series.misplaced]


def test_falling_numbers_are_an_order_too(tmp_path: Path) -> None:
    assert only(write_series(tmp_path, STACK, places=np.arange(N)[::-1] * 2.0)).defects.shuffled == 0


def test_uneven_spacing_is_named(tmp_path: Path) -> None:
    places = np.cumsum([2.0, 2, 2, 2, 2.3, 2, 2, 1.8, 2, 2])
    d = only(write_series(tmp_path, STACK[:10], places=places)).defects
    assert d.spacing_uneven and not d.missing
    jitter = np.arange(10) * 2 + 0.02 * np.random.default_rng(0).uniform(-1, 1, 10)
    assert not only(write_series(tmp_path / "even", STACK[:10], places=jitter)).defects.spacing_uneven


def test_a_tilted_gantry_is_measured_and_nothing_else_is_wrong(tmp_path: Path) -> None:
    a = np.radians(12)
    lean = np.array([0, np.tan(a), 1.0])
    d = only(write_series(tmp_path, STACK, along=lean)).defects
    assert d.tilt_deg == pytest.approx(12, abs=0.02) and d.missing == 0 and not d.spacing_uneven


def test_small_differences_of_orientation_and_spacing_split_nothing_wherever_they_lie(tmp_path: Path) -> None:
    """Values on both sides of every rounding boundary are still one series."""
    rng = np.random.default_rng(0)
    for n, cosine in enumerate((0.0025, 0.0075, 0.0)):
        o = np.array([np.sqrt(1 - cosine**2), cosine, 0, -cosine, np.sqrt(1 - cosine**2), 0])
        paths = [
            write_series(
                tmp_path / str(n) / str(k), STACK[k : k + 1], places=[2.0 * k], orientation=tuple(o + 1e-6 * rng.standard_normal(6)),
                PixelSpacing=[float(f"{0.7675 + 1e-6 * rng.standard_normal():.8f}")] * 2, InstanceNumber=k,
            )[0]
            for k in range(N)
        ]  # fmt: skip
        series = only(paths)
        assert len(series.slices) == N and series.defects.words == "" and len(set(np.round(np.diff(series.offsets), 3))) == 1


def test_foreign_slices_are_left_out_with_the_reason(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK)
    odd = {
        "patient": write_series(tmp_path / "p", STACK[:1], places=[3.0], PatientID="P2"),
        "size": write_series(tmp_path / "s", body(1, 40), places=[5.0]),
        "orientation": write_series(tmp_path / "o", STACK[:1], orientation=turned(0)),
        "pixel spacing": write_series(tmp_path / "x", STACK[:1], places=[7.0], PixelSpacing=[0.9, 0.9]),
        "position": write_series(tmp_path / "n", STACK[:1], ImagePositionPatient=None),
        "localiser": write_series(tmp_path / "l", STACK[:1], places=[9.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    }
    series = only(paths + [p for ps in odd.values() for p in ps])
    reasons = {s.path.parent.name: why for s, why in series.left_out}
    assert [s.path for s in series.slices] == paths and series.defects.foreign == len(odd) and series.defects.mixed_orientations
    for what, (path,) in odd.items():
        assert what in reasons[path.parent.name]


def test_two_patients_in_one_tree_are_two_series(tmp_path: Path) -> None:
    a = write_series(tmp_path / "á b", STACK, SeriesInstanceUID="1.1", PatientID="A")
    b = write_series(tmp_path / "ö", STACK[:12], SeriesInstanceUID="1.2", PatientID="B")
    scout = write_dicom(
        tmp_path / "scout.dcm", np.zeros((20, 30), np.uint16), SeriesInstanceUID="1.3", PatientID="B", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    series = found(sorted([*a, *b, scout]))
    assert [(s.uid, s.patient, len(s.slices)) for s in series] == [("1.1", "A", N), ("1.2", "B", 12), ("1.3", "B", 1)]
    assert all(s.defects.words == "" for s in series)


def test_files_without_places_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    paths = write_series(tmp_path, STACK, ImagePositionPatient=None, names=[f"{9 * k % N:02d}.dcm" for k in range(N)])
    series = only(sorted(paths))
    assert [s.path for s in series.slices] == paths and series.spacing_mm is None and not series.located


def test_nothing_is_an_input_error() -> None:
    with pytest.raises(InputError, match="no DICOM"):
        find_series([])
