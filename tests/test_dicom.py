from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from scans import group, write_dicom
from tacit.errors import ReadError
from tacit.read.dicom import read_header, read_headers
from tacit.read.volume import read_slice

SYNTAXES = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1,
]  # fmt: skip


def values(dtype: type = np.uint16, top: int = 4096, shape: tuple[int, ...] = (24, 31)) -> np.ndarray:
    low = -top // 2 if np.issubdtype(dtype, np.signedinteger) else 0
    return np.random.default_rng(1).integers(low, low + top, shape).astype(dtype)


def hu(path: Path) -> np.ndarray:
    return read_slice(read_header(path)[0])


def itk(path: Path) -> np.ndarray:
    import SimpleITK

    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_every_encoding_gives_the_values_that_were_written(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    stored = values()
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, bits_stored=12, RescaleIntercept=-1024)
    assert np.array_equal(hu(path), stored.astype(int) - 1024)
    if syntax not in (JPEGLSLossless,):
        assert np.array_equal(itk(path), stored.astype(int) - 1024)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (1, -1024), (0.5, -1000.5), (2, 7), (-1, 100), (1.37, -3.3), (1, -0.5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_slope_and_intercept_are_applied_and_rounded(tmp_path: Path, dtype: type, slope: float, intercept: float) -> None:
    stored = values(dtype, 200 if dtype is np.uint8 else 4096)
    path = write_dicom(tmp_path / "a.dcm", stored, RescaleSlope=slope, RescaleIntercept=intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(pydicom.dcmread(path).pixel_array, stored)
    assert np.array_equal(hu(path), np.rint(stored * float(slope) + intercept).astype(np.int16))


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda s: s.name)
def test_what_lies_above_the_stored_bits_is_not_part_of_the_value(tmp_path: Path, dtype: type, syntax: pydicom.uid.UID) -> None:
    """12 bits in 16: overlays and unextended signs above them, which ITK strips too (PS3.5 8.1.1)."""
    stored = values(dtype, 4096)
    spoilt = (stored.view(np.uint16) & 0xFFF) | 0x5000
    path = write_dicom(tmp_path / "a.dcm", spoilt.view(dtype), syntax=syntax, bits_stored=12)
    assert np.array_equal(hu(path), stored)


def test_values_beyond_int16_are_cut_off_and_not_wrapped(tmp_path: Path) -> None:
    stored = np.array([[0, 1, 40000, 65535]] * 4, np.uint16)
    assert hu(write_dicom(tmp_path / "a.dcm", stored)).tolist()[0] == [0, 1, 32767, 32767]
    assert hu(write_dicom(tmp_path / "b.dcm", stored, RescaleIntercept=-40000)).tolist()[0] == [-32768, -32768, 0, 25535]
    assert hu(write_dicom(tmp_path / "c.dcm", np.array([[70000, -70000]] * 4, np.int32))).tolist()[0] == [32767, -32768]


@pytest.mark.parametrize("signed", [False, True])
def test_monochrome1_is_turned_round_by_its_bits_so_that_slices_agree(tmp_path: Path, signed: bool) -> None:
    stored = values(np.int16 if signed else np.uint16, 4096)
    stored[0, 0] = 17
    path = write_dicom(
        tmp_path / "a.dcm", stored, bits_stored=12, PhotometricInterpretation="MONOCHROME1", Modality="DX", RescaleSlope=None, RescaleIntercept=None
    )
    turned = -1 - stored if signed else 4095 - stored
    assert np.array_equal(hu(path), turned)
    if not signed:
        assert np.array_equal(itk(path), turned)


def test_hounsfield_units_do_not_turn_round_with_the_display(tmp_path: Path) -> None:
    """Rescaling comes before display (PS3.3 C.11.1), so air is −1000 HU however it is shown."""
    stored = values()
    path = write_dicom(tmp_path / "a.dcm", stored, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=-1024)
    assert np.array_equal(hu(path), stored.astype(int) - 1024)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEG2000Lossless], ids=lambda s: s.name)
def test_an_enhanced_file_has_a_place_and_a_scale_for_each_frame(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    stored = values(shape=(3, 12, 14))
    places = [[1.0, 2.0, z] for z in (8.0, 4.0, 6.0)]
    frames = [
        group(PlanePositionSequence={"ImagePositionPatient": p}, PixelValueTransformationSequence={"RescaleSlope": i + 1, "RescaleIntercept": -5 * i})
        for i, p in enumerate(places)
    ]
    shared = group(PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, PixelMeasuresSequence={"PixelSpacing": [0.5, 0.6]})
    own = {"PerFrameFunctionalGroupsSequence": Sequence(frames), "SharedFunctionalGroupsSequence": Sequence([shared])}
    gone = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"))
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, **gone, **own)
    slices = read_header(path)
    assert [list(s.position or ()) for s in slices] == places
    assert {s.spacing for s in slices} == {(0.5, 0.6)} and [s.frame for s in slices] == [0, 1, 2]
    for i, one in enumerate(slices):
        assert np.array_equal(read_slice(one), stored[i].astype(int) * (i + 1) - 5 * i)


def test_frames_without_places_of_their_own_are_not_all_at_one_place(tmp_path: Path) -> None:
    stored = values(shape=(5, 12, 14))
    slices = read_header(write_dicom(tmp_path / "a.dcm", stored))
    assert [s.position for s in slices] == [None] * 5
    assert np.array_equal(np.stack([read_slice(s) for s in slices]), stored)


def test_an_overlong_frame_count_is_an_error(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", values(shape=(2, 12, 14)), NumberOfFrames=3)
    slices, errors = read_headers([path])
    assert not slices and "bytes" in errors[0].reason


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda s: s.name)
def test_pixels_shorter_than_the_size_says_are_an_error_though_the_file_goes_on(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    path = write_dicom(tmp_path / "a.dcm", values(shape=(20, 20)), syntax=syntax, Rows=24, DataSetTrailingPadding=bytes(4000))
    with pytest.raises(ReadError, match="bytes"):
        hu(path)


def test_real_jpeg_lossless_files_are_pydicoms_and_itks_values(data: Path) -> None:
    for path in sorted((data / "covid-ct-md" / "dicom" / "P001").glob("*.dcm"))[:3]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = pydicom.dcmread(path).pixel_array.astype(int) - 1024
        assert np.array_equal(hu(path), wanted) and np.array_equal(itk(path), wanted)


def test_a_file_cut_anywhere_is_an_error_or_whole(tmp_path: Path) -> None:
    stored = values()
    for syntax in SYNTAXES:
        whole = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, bits_stored=12).read_bytes()
        for share in np.linspace(0, 1, 23, endpoint=False):
            (tmp_path / "cut.dcm").write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(ReadError) as caught:
                hu(tmp_path / "cut.dcm")
            assert caught.value.reason and "\n" not in str(caught.value)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_flipped_bits_end_in_an_answer_or_a_read_error_and_never_in_anything_else(tmp_path: Path, syntax: pydicom.uid.UID) -> None:
    whole = write_dicom(tmp_path / "a.dcm", values(), syntax=syntax, bits_stored=12, InstanceNumber=7).read_bytes()
    rng = np.random.default_rng(0)
    places = np.concatenate([np.arange(132, 900, 5), rng.integers(132, len(whole), 60)])
    path = tmp_path / "flipped.dcm"
    for place in places[places < len(whole)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            for one in read_header(path)[:2]:
                assert read_slice(one).dtype == np.int16
        except ReadError as error:
            assert error.reason


@pytest.mark.parametrize("told", [JPEG2000Lossless, RLELossless, JPEGLosslessSV1, ExplicitVRBigEndian, ImplicitVRLittleEndian], ids=lambda s: s.name)
def test_a_wrong_transfer_syntax_is_named(tmp_path: Path, told: pydicom.uid.UID) -> None:
    path = write_dicom(tmp_path / "a.dcm", values())
    whole = path.read_bytes()
    before, after = str(ExplicitVRLittleEndian).encode() + b"\0", str(told).encode()
    after += b"\0" * (len(after) % 2)
    at = whole.index(before)
    head = whole[: at - 2] + len(after).to_bytes(2, "little") + after
    path.write_bytes(head + whole[at + len(before) :])
    with pytest.raises(ReadError):
        hu(path)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    report = write_dicom(tmp_path / "report.dcm", values(), Rows=None, Columns=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    (tmp_path / "text.dcm").write_text("hello")
    (tmp_path / "empty.dcm").write_bytes(b"")
    colour = write_dicom(
        tmp_path / "colour.dcm", values(np.uint8, 255, (12, 36)), SamplesPerPixel=3, Columns=12, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    slices, errors = read_headers([report, tmp_path / "text.dcm", tmp_path / "empty.dcm", tmp_path / "gone.dcm", colour])
    assert [Path(str(e.path)).name for e in errors] == ["report.dcm", "text.dcm", "empty.dcm", "gone.dcm"]
    assert "without pixels" in errors[0].reason and "not a DICOM file" in errors[1].reason
    with pytest.raises(ReadError, match="colour"):
        read_slice(slices[0])


def test_errors_and_slices_do_not_quote_what_the_header_says_of_the_patient(tmp_path: Path) -> None:
    for n, tags in enumerate(
        ({"RescaleSlope": "Doe^Jane"}, {"InstanceNumber": "19700101x"}, {"NumberOfFrames": "Doe^Jane"}, {"PixelSpacing": ["Doe", "Jane"]})
    ):
        path = write_dicom(tmp_path / f"{n}.dcm", values())
        raw = path.read_bytes()
        name, text = next(iter(tags.items()))
        dataset = pydicom.dcmread(path)
        dataset.add_new(name, "LO", text)
        dataset.save_as(path)
        path.write_bytes(path.read_bytes())
        _, errors = read_headers([path])
        assert all("Doe" not in str(e) and "1970" not in str(e) for e in errors)
        assert raw


def test_a_bad_number_does_not_cost_a_good_picture(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", values(), InstanceNumber=None)
    dataset = pydicom.dcmread(path)
    dataset.add_new("InstanceNumber", "LO", "first")
    dataset.save_as(path)
    assert read_header(path)[0].number is None


def test_an_orientation_of_zeros_is_none(tmp_path: Path) -> None:
    assert read_header(write_dicom(tmp_path / "a.dcm", values(), ImageOrientationPatient=[0.0] * 6))[0].orientation is None
