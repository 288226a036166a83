"""The few elements of a DICOM header that Tacit asks for, walked over in one read: for plain uncompressed little-endian files only.

pydicom builds an object for every element and takes most of the time of reading a series; a walk that looks at a tag and a length and goes
on takes about a sixth of its time (benchmarks/reading.py, "its headers alone"). Whatever is unusual — another transfer syntax, several frames, bytes that are not
ASCII, a value that does not parse, a header longer than `MOST` — is left to pydicom: `walk` says None, never a guess. DICOM PS3.5
chapter 7 has the encoding, PS3.10 the beginning of the file.
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

MOST = 1 << 16  # bytes of a header that is walked
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UN", b"UR", b"UT", b"SV", b"UV")  # VRs whose length has four bytes
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = 0x7FE00010
DEEPEST = 8  # nested sequences
NUMBERS, WHOLE, SHORT, WORDS = "numbers", "whole", "short", "words"
WANTED: dict[int, tuple[str, str]] = {
    0x00080008: ("ImageType", WORDS), 0x00080016: ("SOPClassUID", WORDS), 0x00080018: ("SOPInstanceUID", WORDS), 0x00080020: ("StudyDate", WORDS),
    0x00080031: ("SeriesTime", WORDS), 0x00080060: ("Modality", WORDS), 0x00080070: ("Manufacturer", WORDS), 0x00081090: ("ManufacturerModelName", WORDS),
    0x00100010: ("PatientName", WORDS), 0x00100020: ("PatientID", WORDS), 0x00180050: ("SliceThickness", WORDS), 0x00180060: ("KVP", WORDS),
    0x00181164: ("ImagerPixelSpacing", NUMBERS), 0x00181210: ("ConvolutionKernel", WORDS), 0x0020000E: ("SeriesInstanceUID", WORDS),
    0x00200013: ("InstanceNumber", WHOLE), 0x00200032: ("ImagePositionPatient", NUMBERS), 0x00200037: ("ImageOrientationPatient", NUMBERS),
    0x00280002: ("SamplesPerPixel", SHORT), 0x00280004: ("PhotometricInterpretation", WORDS), 0x00280010: ("Rows", SHORT), 0x00280011: ("Columns", SHORT),
    0x00280030: ("PixelSpacing", NUMBERS), 0x00280100: ("BitsAllocated", SHORT), 0x00280101: ("BitsStored", SHORT), 0x00280102: ("HighBit", SHORT),
    0x00280103: ("PixelRepresentation", SHORT), 0x00281052: ("RescaleIntercept", NUMBERS), 0x00281053: ("RescaleSlope", NUMBERS),
}  # fmt: skip
LEFT_TO_PYDICOM = {0x00280008, 0x52009229, 0x52009230}  # number of frames, functional groups


class Elements(dict[str, Any]):
    """keyword → value of the elements found; `syntax`, and where the pixels begin and how many bytes they are."""

    syntax = ""
    offset = -1
    stated = 0


def walk(file: BinaryIO) -> Elements | None:
    """The elements up to the pixels of a file open at its beginning; None where pydicom has to look."""
    head = file.read(MOST)
    if head[128:132] != b"DICM":
        return None
    try:
        syntax, at = _syntax(head)
        if syntax not in (EXPLICIT, IMPLICIT):
            return None
        return _elements(head, at, syntax)
    except (struct.error, ValueError, UnicodeDecodeError, IndexError):
        return None


def _syntax(head: bytes) -> tuple[str, int]:
    """Transfer syntax UID of the file's meta information, which is always explicit, and where it ends."""
    at, found = 132, ""
    while head[at : at + 2] == b"\x02\x00":
        tag, start, length = _next(head, at, implicit=False)
        if tag == 0x00020010:
            found = head[start : start + length].decode("ascii").rstrip("\x00 ")
        at = start + length
    return found, at


def _elements(head: bytes, at: int, syntax: str) -> Elements | None:
    found, implicit, before = Elements(), syntax == IMPLICIT, 0
    found.syntax = syntax
    while True:
        tag, start, length = _next(head, at, implicit)
        if tag <= before or tag in LEFT_TO_PYDICOM:
            return None
        before = tag
        if tag == PIXELS:
            if length == UNDEFINED or "Rows" not in found or "Columns" not in found:
                return None
            found.offset, found.stated = start, length
            return found
        if length == UNDEFINED:
            at = _beyond(head, start, implicit, 0)
            continue
        at = start + length
        if at > len(head):
            return None
        if tag in WANTED:
            name, kind = WANTED[tag]
            found[name] = _value(head[start:at], kind)


def _next(head: bytes, at: int, implicit: bool) -> tuple[int, int, int]:
    """Tag, place of the value and its length, of the element at `at`. Raises struct.error at the end of what was read."""
    group, element = struct.unpack_from("<HH", head, at)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, at + 8, struct.unpack_from("<I", head, at + 4)[0]
    if head[at + 4 : at + 6] in LONG:
        return tag, at + 12, struct.unpack_from("<I", head, at + 8)[0]
    return tag, at + 8, struct.unpack_from("<H", head, at + 6)[0]


def _beyond(head: bytes, at: int, implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends."""
    if depth > DEEPEST:
        raise ValueError("sequences too deep")
    while True:
        tag, start, length = _next(head, at, implicit)
        if tag == SEQUENCE_END:
            return start
        if tag != ITEM:
            raise ValueError("no item in a sequence")
        at = start + length
        if length == UNDEFINED:
            at = start
            while True:
                tag, start, length = _next(head, at, implicit)
                if tag == ITEM_END:
                    at = start
                    break
                at = _beyond(head, start, implicit, depth + 1) if length == UNDEFINED else start + length


def _value(raw: bytes, kind: str) -> Any:
    """Raises ValueError for what does not parse."""
    if kind == SHORT:
        return struct.unpack("<H", raw)[0]
    text = raw.decode("ascii").rstrip("\x00 ")
    if not text.strip():
        return None
    parts = text.split("\\")
    if kind == NUMBERS:
        numbers = [float(part) for part in parts]
        return numbers if len(numbers) > 1 else numbers[0]
    if kind == WHOLE:
        return int(text)
    return [part.strip() for part in parts] if len(parts) > 1 else text.strip()
