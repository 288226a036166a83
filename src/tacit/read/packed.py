"""One frame of compressed DICOM pixels: JPEG, JPEG-LS and JPEG 2000 by imagecodecs, which answers damage with an error.

GDCM ends the whole process on some damaged JPEG-LS files (an exception that its C++ does not catch), so one bit could cost a night's audit.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError
from tacit.read.dicom import DAMAGE, Slice, in_words

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
END = b"\xff\xd9"  # of a JPEG, JPEG-LS or JPEG 2000 stream
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91))
BY_PILLOW = (*JPEG[:2], *JPEG_2000)  # colours whose space depends on more than the stream: pydicom tells Pillow which it is


def decoded(one: Slice) -> NDArray[Any]:
    """The stored values (h, w) of any encoding, in the machine's byte order. Raises ReadError."""
    import imagecodecs
    from pydicom.errors import BytesLengthException, InvalidDicomError

    codecs = (imagecodecs.Jpeg8Error, imagecodecs.JpeglsError, imagecodecs.Jpeg2kError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _by_imagecodecs(one) if one.syntax in JPEG + JPEG_LS + JPEG_2000 else _by_pydicom(one)
    except (*DAMAGE, *codecs, BytesLengthException, InvalidDicomError) as error:
        raise ReadError(one.path, f"the pixels cannot be decoded ({in_words(error)})") from error
    if found.shape != one.shape:
        raise ReadError(one.path, f"the decoded pixels are {found.shape}, the header says {one.shape}")
    return found


def decoded_colours(one: Slice, space: str) -> NDArray[Any]:
    """The values (h, w, 3) RGB of a picture in the colour space that its header names, 8 or 16 bit. Raises ReadError."""
    import imagecodecs
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if one.syntax in BY_PILLOW:
                _packed(one)  # whole, or it is refused
            found = _colours_of_jpeg_ls(one, space) if one.syntax in JPEG_LS else _by_pydicom(one, by_pillow=one.syntax in BY_PILLOW)
    except (*DAMAGE, imagecodecs.JpeglsError, BytesLengthException, InvalidDicomError) as error:
        raise ReadError(one.path, f"the pixels cannot be decoded ({in_words(error)})") from error
    if found.shape != (*one.shape, 3):
        raise ReadError(one.path, f"the decoded pixels are {found.shape}, the header says {(*one.shape, 3)}")
    return found


def has_decoder(syntax: str) -> bool:
    """Whether pixels of a transfer syntax (its UID) can be decoded here."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    if syntax in JPEG + JPEG_LS + JPEG_2000:
        return True
    try:
        return get_decoder(UID(syntax)).is_available
    except NotImplementedError:
        return False


def _by_pydicom(one: Slice, *, by_pillow: bool = False) -> NDArray[Any]:
    import pydicom
    from pydicom.pixels.utils import pixel_array

    whole = one.syntax == DEFLATED  # pydicom finds no pixels in such a file by its path
    found = pixel_array(pydicom.dcmread(one.path) if whole else one.path, index=one.frame, decoding_plugin="pillow" if by_pillow else "")
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _colours_of_jpeg_ls(one: Slice, space: str) -> NDArray[Any]:
    import imagecodecs
    from pydicom.pixels.processing import convert_color_space

    found: NDArray[Any] = imagecodecs.jpegls_decode(_packed(one))
    return np.asarray(convert_color_space(found, space, "RGB")) if space.startswith("YBR_FULL") else found


def _by_imagecodecs(one: Slice) -> NDArray[Any]:
    import imagecodecs

    packed = _packed(one)
    if one.syntax in JPEG_2000:
        found = imagecodecs.jpeg2k_decode(packed)
    else:
        found = (imagecodecs.jpegls_decode if one.syntax in JPEG_LS else imagecodecs.jpeg_decode)(packed)
    if found.dtype.itemsize * 8 > one.bits:
        raise ValueError(f"{found.dtype.itemsize * 8} bits were decoded, the header says {one.bits}")
    signed = found.dtype.kind == "i" or (one.signed and found.dtype.itemsize * 8 == one.bits)
    return found.view(f"i{found.dtype.itemsize}" if signed else f"u{found.dtype.itemsize}").astype(f"{'i' if one.signed else 'u'}{one.bits // 8}", copy=False)


def _packed(one: Slice) -> bytes:
    """The frame's stream. Raises ValueError where its end is missing."""
    import pydicom
    from pydicom.encaps import get_frame

    with one.path.open("rb") as file:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
        file.seek(12, 1)  # tag, VR and length of the pixels
        packed = get_frame(file, one.frame, number_of_frames=int(header.get("NumberOfFrames") or 1))
    if END not in packed[-16:]:  # decoders fill what is missing with grey
        raise ValueError(f"cut short after {len(packed)} bytes: its end marker is missing")
    return packed
