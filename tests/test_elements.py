"""The quick walk over a header says what pydicom says, or leaves the file to it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from scans import write_dicom
from tacit.errors import ReadError
from tacit.read.dicom import Slice, read_header, read_header_by_pydicom
from tacit.read.elements import walk

STORED = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10)


def walked(path: Path) -> bool:
    with path.open("rb") as file:
        return walk(file) is not None


def nested(undefined: bool) -> Sequence:
    inner, outer = Dataset(), Dataset()
    inner.PatientID, inner.Rows = "INNER", 99  # must not be taken for the file's own
    outer.ReferencedImageSequence = Sequence([inner, inner])
    outer.Columns = 98
    found = Sequence([outer])
    for dataset in (inner, outer):
        dataset.is_undefined_length_sequence_item = undefined
    found.is_undefined_length = outer["ReferencedImageSequence"].value.is_undefined_length = undefined
    return found


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [True, False])
def test_plain_files_are_walked_and_equal_pydicoms(tmp_path: Path, syntax: pydicom.uid.UID, undefined: bool) -> None:
    tags = {
        "ReferencedStudySequence": nested(undefined),
        "ConvolutionKernel": ["I31f", "3"],
        "KVP": "120.0",
        "Manufacturer": "ACME ",
        "SeriesTime": "101112.50",
    }
    path = write_dicom(tmp_path / "a.dcm", STORED, syntax=syntax, RescaleSlope="0.5", RescaleIntercept="-1024", InstanceNumber="7", **tags)
    assert walked(path)
    ours, theirs = read_header(path), read_header_by_pydicom(path)
    assert ours == theirs and ours[0].header == theirs[0].header and ours[0].shape == (12, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"syntax": ExplicitVRBigEndian},
        {"syntax": DeflatedExplicitVRLittleEndian},
        {"SpecificCharacterSet": "ISO_IR 192", "PatientID": "Müller"},
        {"NumberOfFrames": "1"},
    ],
    ids=["big endian", "deflated", "not ascii", "frames"],
)
def test_whatever_is_unusual_is_left_to_pydicom(tmp_path: Path, changes: dict) -> None:
    path = write_dicom(tmp_path / "a.dcm", STORED, **changes)
    assert not walked(path)
    assert read_header(path) == read_header_by_pydicom(path)


def test_a_header_cut_anywhere_is_never_read_as_something_else(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "a.dcm", STORED, ReferencedStudySequence=nested(True)).read_bytes()
    for end in range(0, len(whole), 7):
        assert walk(io.BytesIO(whole[:end])) is None or end > len(whole) - STORED.nbytes - 1
        (tmp_path / "b.dcm").write_bytes(whole[:end])
        assert said(read_header, tmp_path / "b.dcm") == said(read_header_by_pydicom, tmp_path / "b.dcm")


def said(read: Callable[[Path], list[Slice]], path: Path) -> object:
    try:
        return read(path)
    except ReadError as error:
        return error.reason


def test_real_files_are_read_alike(data) -> None:
    for path in sorted((data / "covid-ct-md" / "dicom" / "P001").glob("*.dcm"))[::8]:
        assert read_header(path) == read_header_by_pydicom(path)
