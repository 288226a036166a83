"""The header of a DICOM file, one `Slice` a frame; pixels stay on the disk until `tacit.read.volume` wants them.

Positions are millimetres in the patient's frame (left, posterior, superior), as ImagePositionPatient gives them (DICOM PS3.3 C.7.6.2).
"""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError
from tacit.read.elements import Elements, walk

TAGS = (
    "PatientID", "PatientName", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "Modality", "ImageType", "InstanceNumber",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness",
    "GantryDetectorTilt", "StudyDate", "SeriesTime", "ConvolutionKernel", "KVP", "Manufacturer", "ManufacturerModelName", "WindowCenter", "WindowWidth",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
DAMAGE = (  # what pydicom and its decoders raise on damaged files
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, MemoryError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
DICOMS, MARKER = (".dcm", ".dicom", ".ima"), b"DICM"
SHOWN = ("Modality", "ConvolutionKernel", "KVP", "Manufacturer", "ManufacturerModelName", "SliceThickness", "StudyDate", "SeriesTime")


@dataclass(frozen=True)
class Slice:
    """One frame of one file, by its header."""

    path: Path
    frame: int
    series: str
    patient: str
    shape: tuple[int, int]  # (h, w)
    position: tuple[float, float, float] | None  # mm
    orientation: tuple[float, ...] | None  # direction cosines of a row, then of a column
    spacing: tuple[float, float] | None  # mm between rows, between columns
    number: int | None  # InstanceNumber, which may lie
    slope: float
    intercept: float
    inverted: bool  # MONOCHROME1: small is bright; never for CT, whose Hounsfield units come before the display (PS3.3 C.11.1)
    syntax: str  # transfer syntax UID
    signed: bool
    bits: int  # allocated
    bits_stored: int
    high_bit: int
    samples: int
    uid: str
    localiser: bool
    header: dict[str, str] = field(hash=False, compare=False)  # what may betray the label: scanner, kernel, date …
    offset: int = -1  # of the pixel bytes in the file, -1 where they are compressed

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector across the slice."""
        o = np.asarray(self.orientation)
        across = np.cross(o[:3], o[3:])
        return across / np.linalg.norm(across)


def read_headers(paths: Iterable[Path], *, told: Callable[[int, int], None] = lambda done, total: None) -> tuple[list[Slice], list[ReadError]]:
    """The frames of every DICOM image among `paths`, and one error a file that is none or is damaged."""
    slices: list[Slice] = []
    errors: list[ReadError] = []
    files = list(paths)
    for index, path in enumerate(files):
        try:
            slices += read_header(path)
        except ReadError as error:
            errors.append(error)
        told(index + 1, len(files))
    return slices, errors


def read_header(path: Path) -> list[Slice]:
    """One `Slice` a frame. Raises ReadError for what is no DICOM image, is cut short, or is a report."""
    try:
        with path.open("rb") as file:
            quick = walk(file)
            if quick is not None:
                _check_held(file, quick.offset, quick.stated)
                return _frames(path, quick, quick.offset, quick.stated)
    except OSError:
        pass  # the long way has the words for it
    return read_header_by_pydicom(path)


def read_header_by_pydicom(path: Path) -> list[Slice]:
    """What `read_header` gives, the long way: any transfer syntax, any character set, several frames."""
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_tags().values()))
            return _frames(path, header, *_pixel_place(file, header))
    except InvalidDicomError as error:
        raise ReadError(path, "not a DICOM file (no DICM marker)") from error
    except PermissionError as error:
        raise ReadError(path, "no permission to read it", "change its permissions") from error
    except ReadError:
        raise
    except (*DAMAGE, BytesLengthException) as error:
        raise ReadError(path, f"the DICOM header is damaged ({in_words(error)})") from error


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its suffix or, whatever that says, by its marker."""
    if path.suffix.lower() in DICOMS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == MARKER
    except OSError:
        return False  # whoever reads it says what is wrong


def in_words(error: Exception) -> str:
    """The first line of an error without what it quotes: that may be a patient's name or date."""
    first = (str(error).splitlines() or [""])[0] or type(error).__name__
    return re.sub(r"""(['"]).*?(\1|$)""", "…", first)[:120]


def _pixel_place(file: Any, header: Any) -> tuple[int, int]:
    """Where uncompressed little-endian pixels begin and how many bytes they are; (−1, 0) for other pixels. Raises ReadError when cut short."""
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    if syntax is None or not syntax.is_transfer_syntax or syntax.is_compressed or not syntax.is_little_endian or syntax.is_deflated:
        return -1, 0
    at = file.tell()
    tag = file.read(12)
    if len(tag) < 12 or tag[:4] != b"\xe0\x7f\x10\x00":
        return -1, 0
    start = at + (8 if syntax.is_implicit_VR else 12)
    stated = int.from_bytes(tag[4:8] if syntax.is_implicit_VR else tag[8:12], "little")
    _check_held(file, start, stated)
    return start, stated


def _check_held(file: Any, start: int, stated: int) -> None:
    held = os.fstat(file.fileno()).st_size - start
    if stated > held:
        raise ReadError(Path(file.name), f"the pixels are cut short: {held} of {stated} bytes")


def _frames(path: Path, header: Any, offset: int, stated: int) -> list[Slice]:
    if _value(header, "Rows") is None or _value(header, "Columns") is None:
        kind = getattr(header.get("SOPClassUID", ""), "name", "") or "no image"
        raise ReadError(path, f"a DICOM object without pixels ({kind})", "nothing to do: reports and markings are left out")
    count = int(_value(header, "NumberOfFrames") or 1)
    first = _slice(path, header, offset)
    wanted = first.shape[0] * first.shape[1] * first.samples * count * first.bits // 8
    if _value(header, "PhotometricInterpretation") == "YBR_FULL_422":
        wanted = wanted * 2 // 3  # two neighbours share their colour
    if offset >= 0 and stated < wanted:
        raise ReadError(path, f"the header states {stated} bytes of pixels, its {count} × {first.shape[0]} × {first.shape[1]} values need {wanted}")
    if count == 1:
        return [first]
    return [replace(first, frame=i, **_frame_geometry(header, i)) for i in range(count)]


def _slice(path: Path, h: Any, offset: int) -> Slice:
    spacing = _numbers(h, "PixelSpacing", 2) or _numbers(h, "ImagerPixelSpacing", 2)
    shared = _numbers_of_groups(h, "SharedFunctionalGroupsSequence", 0)
    syntax = h.syntax if isinstance(h, Elements) else getattr(h.file_meta, "TransferSyntaxUID", "")
    return Slice(
        path=path,
        frame=0,
        series=str(_value(h, "SeriesInstanceUID") or ""),
        patient=str(_value(h, "PatientID") or _value(h, "PatientName") or ""),
        shape=(int(_value(h, "Rows")), int(_value(h, "Columns"))),
        position=_numbers(h, "ImagePositionPatient", 3) or shared.get("position"),
        orientation=_numbers(h, "ImageOrientationPatient", 6) or shared.get("orientation"),
        spacing=spacing or shared.get("spacing"),
        number=_whole(_value(h, "InstanceNumber")),
        slope=float(_value(h, "RescaleSlope") or shared.get("slope") or 1.0),
        intercept=float(_value(h, "RescaleIntercept") or shared.get("intercept") or 0.0),
        inverted=str(_value(h, "PhotometricInterpretation")) == "MONOCHROME1" and _value(h, "Modality") != "CT",
        syntax=str(syntax),
        signed=int(_value(h, "PixelRepresentation") or 0) == 1,
        bits=(bits := int(_value(h, "BitsAllocated") or 16)),
        bits_stored=(stored := min(max(int(_value(h, "BitsStored") or bits), 1), bits)),
        high_bit=min(max(int(_value(h, "HighBit") or 0), stored - 1), bits - 1),
        samples=int(_value(h, "SamplesPerPixel") or 1),
        uid=str(_value(h, "SOPInstanceUID") or ""),
        localiser="LOCALIZER" in [str(v).upper() for v in (_value(h, "ImageType") or [])],
        header={name: str(value) for name in SHOWN if (value := _value(h, name)) not in (None, "")},
        offset=offset,
    )


@lru_cache
def _tags() -> dict[str, Any]:
    """The tag of each keyword: looking them up anew for every file took a sixth of the time."""
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return {name: Tag(tag_for_keyword(name) or 0) for name in TAGS}


def _value(h: Any, name: str) -> Any:
    if isinstance(h, Elements):
        return h.get(name)
    element = h.get(_tags()[name])
    return None if element is None else element.value


def _whole(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):  # absent, empty or words: it only ever confirms an order
        return None


def _numbers(h: Any, name: str, count: int) -> Any:
    values = _value(h, name)
    if values is None or isinstance(values, str) or len(values) != count:
        return None
    found = tuple(float(v) for v in values)
    if count == 6 and np.linalg.norm(np.cross(found[:3], found[3:])) < 0.5:
        return None  # no two directions
    return found if np.isfinite(found).all() and (name.endswith(("Position", "Patient")) or min(found) > 0) else None


def _numbers_of_groups(h: Any, name: str, index: int) -> dict[str, Any]:
    """Geometry and scale in a multi-frame file's functional groups."""
    groups = _value(h, name)
    if not groups or index >= len(groups):
        return {}
    group, found = groups[index], {}
    plans = (
        ("PlanePositionSequence", "ImagePositionPatient", 3, "position"),
        ("PlaneOrientationSequence", "ImageOrientationPatient", 6, "orientation"),
        ("PixelMeasuresSequence", "PixelSpacing", 2, "spacing"),
    )
    for sequence, tag, count, key in plans:
        if group.get(sequence) and (value := _numbers(group[sequence].value[0], tag, count)):
            found[key] = value
    if group.get("PixelValueTransformationSequence"):
        rescale = group["PixelValueTransformationSequence"].value[0]
        found |= {"slope": float(rescale.get("RescaleSlope") or 1), "intercept": float(rescale.get("RescaleIntercept") or 0)}
    return found


def _frame_geometry(h: Any, index: int) -> dict[str, Any]:
    """What a frame states itself; a place that all frames share is none."""
    own = _numbers_of_groups(h, "PerFrameFunctionalGroupsSequence", index)
    return {"position": None, **own, "number": index + 1}
