"""A radiograph or a photograph in a DICOM file as `Image`: one frame, 8-bit RGB as its header says that it is shown.

Projections come in (CR, DX, MG, fundus photographs, visible light …). Slices of series, whole slides, films of several frames, reports and
markings are refused by name. Nothing of the patient is read out: no name, number or date reaches an `Image`, a history or an error.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError
from tacit.image import Image
from tacit.read.dicom import DAMAGE, Slice, in_words, read_header
from tacit.read.dicom_grey import shown_grey
from tacit.read.eight_bit import check_size
from tacit.read.elements import walk
from tacit.read.packed import decoded, decoded_colours, has_decoder
from tacit.read.volume import stored

SLICES = {"CT": "CT", "MR": "MR", "PT": "PET", "OPT": "OCT"}  # modalities whose files are slices
CLASSES = {  # of storage, PS3.4 B.5, whatever the modality says
    "1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.2.1": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR", "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.128": "PET", "1.2.840.10008.5.1.4.1.1.130": "PET", "1.2.840.10008.5.1.4.1.1.77.1.5.4": "OCT",
}  # fmt: skip
WHOLE_SLIDE, DIRECTORY = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.1.3.10"
NO_PICTURES = {"SEG": "a marking of another image", "RTDOSE": "a dose", "RWV": "a map of values"}
DETECTORS = ("CR", "DX", "MG", "IO", "PX", "RG", "RF", "XA", "RTIMAGE")  # X-rays: what is seen lies before the detector and is cast larger
ASKED = ("Modality", "SOPClassUID", "Rows", "Columns", "NumberOfFrames")
PLAUSIBLE_MM = (1e-5, 100.0)  # a pixel
READ_AS_SERIES = "give its folder to tacit audit, prepare or lungs, which read series"


def refusal(path: Path) -> ReadError | None:
    """Why a DICOM file is no picture, by its header; None where it is one, and where its header is damaged: whoever reads it says so."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        return _refused(path, _asked(path)) if path.stat().st_size else None
    except InvalidDicomError:
        return _no_dicom(path)
    except (*DAMAGE, BytesLengthException):
        return None


def read_dicom_picture(path: Path) -> Image:
    """The picture in the DICOM file at `path`, (h, w, 3) uint8 RGB; each step from the stored values is a line of its history.

    Grey: modality LUT or rescale, VOI LUT or first window (where neither is stated the bits in use), MONOCHROME1 turned. Colours: RGB, YBR, palette.
    spacing_mm: PixelSpacing, else ImagerPixelSpacing, which is measured at the detector. Overlays, shutters and ICC profiles are not applied.
    Raises ReadError for what `refusal` names, and for files that are empty, damaged, too large or too small, or packed in a way that cannot be undone here.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        if path.stat().st_size == 0:
            raise ReadError(path, "the file is empty (0 bytes)")
        if (why := _refused(path, _asked(path))) is not None:
            raise why
        one = read_header(path)[0]
        check_size(path, one.shape)
        _check_decoder(one)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = _full_header(path)
            pixels, steps = _as_rgb(one, header)
            spacing, said = _spacing(one, header)
    except FileNotFoundError as error:
        raise ReadError(path, "the file does not exist", "check the path") from error
    except PermissionError as error:
        raise ReadError(path, "no permission to read it", "change its permissions") from error
    except InvalidDicomError as error:
        raise _no_dicom(path) from error
    except (*DAMAGE, BytesLengthException) as error:
        raise ReadError(path, f"the DICOM file is damaged ({in_words(error)})") from error
    modality = _modality(header)
    history = (f"read DICOM ({modality.upper()})", *steps, *said)
    return Image(pixels, "hwc", spacing, "metadata" if spacing else "unknown", modality.lower(), path, history)


def _no_dicom(path: Path) -> ReadError:
    return ReadError(path, "not a DICOM file (no DICM marker)", "give it its right suffix, or leave it out")


def _asked(path: Path) -> Any:
    """The few elements that tell pictures from other objects, the quick way where it can be gone."""
    import pydicom

    with path.open("rb") as file:
        quick = walk(file)
        if quick is not None:
            return quick
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(ASKED))


def _refused(path: Path, header: Any) -> ReadError | None:
    modality, kind = (
        str(header.get("Modality") or "").upper(),
        str(header.get("SOPClassUID") or getattr(getattr(header, "file_meta", None), "MediaStorageSOPClassUID", "")),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes the value
        frames = int(header.get("NumberOfFrames") or 1)
    if kind == WHOLE_SLIDE:
        return ReadError(path, "a whole slide, not a picture", "give it to tacit index, query or pretrain, which read slides")
    if kind in CLASSES or modality in SLICES:
        return ReadError(path, f"a slice of a {CLASSES.get(kind) or SLICES[modality]} series, not a picture", READ_AS_SERIES)
    if modality in NO_PICTURES:
        return ReadError(path, f"{NO_PICTURES[modality]} (modality {modality}), not a picture", "leave it out")
    if header.get("Rows") is None or header.get("Columns") is None:
        if not header.get("SOPClassUID") and kind != DIRECTORY:
            raise ValueError("the header states neither its class nor its size")
        return ReadError(path, f"a DICOM object without pixels ({_class_name(kind)})", "leave it out: reports, documents and markings are no pictures")
    if frames > 1:
        return ReadError(path, f"{frames} frames where one picture was expected", "save the wanted frame as a file of its own")
    return None


def _class_name(kind: str) -> str:
    from pydicom.uid import UID

    name = UID(kind).name if kind else ""
    return name if name and name != kind else "of an unknown class"


def _full_header(path: Path) -> Any:
    """Every element before the pixels. Raises ReadError where no pixels follow."""
    import pydicom

    with path.open("rb") as file:
        header = pydicom.dcmread(file, stop_before_pixels=True)
        deflated = header.file_meta.TransferSyntaxUID.is_deflated
        if not deflated and len(file.read(12)) < 12:
            raise ReadError(path, "it holds no pixels")
    return header


def _check_decoder(one: Slice) -> None:
    """Raises ReadError naming a way of packing that nothing here can undo."""
    from pydicom.uid import UID

    if not has_decoder(one.syntax):
        name = UID(one.syntax).name if one.syntax else "an unstated transfer syntax"
        raise ReadError(one.path, f"its pixels are packed as {name}, which cannot be undone here", "save it uncompressed (gdcmconv --raw)")


def _as_rgb(one: Slice, header: Any) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    from pydicom.pixels.processing import apply_color_lut

    if one.samples == 1:
        values = stored(decoded(one), one)[0]
        if header.PhotometricInterpretation == "PALETTE COLOR":
            colours = apply_color_lut(values.astype(np.uint16), header)
            return _eight(colours, int(header.RedPaletteColorLookupTableDescriptor[2])), ("palette to RGB",)
        grey, steps = shown_grey(values, header)
        return np.repeat(grey[..., None], 3, axis=2), (*steps, "grey repeated to RGB")
    if one.samples != 3:
        raise ReadError(one.path, f"{one.samples} values a pixel, expected 1 (grey) or 3 (colours)")
    space = str(header.PhotometricInterpretation)
    pixels = _eight(decoded_colours(one, space), one.bits_stored)
    return pixels, () if space == "RGB" else (f"{space} to RGB",)


def _eight(colours: NDArray, bits: int) -> NDArray[np.uint8]:
    if colours.dtype == np.uint8:
        return np.ascontiguousarray(colours)
    return np.round(np.clip(colours * (255 / ((1 << bits) - 1)), 0, 255)).astype(np.uint8)


def _spacing(one: Slice, header: Any) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """mm between rows and between columns, and where they are measured. One that can be no pixel's is passed over, and said."""
    if one.spacing is None:
        return None, ()
    if not all(PLAUSIBLE_MM[0] <= s <= PLAUSIBLE_MM[1] for s in one.spacing):
        return None, (f"spacing {one.spacing[0]:g} × {one.spacing[1]:g} mm passed over",)
    words = f"spacing metadata: {one.spacing[0]:.4g} × {one.spacing[1]:.4g} mm"
    if _modality(header) not in DETECTORS:
        return one.spacing, (words,)
    detector = header.get("ImagerPixelSpacing")
    same = detector is not None and np.allclose([float(v) for v in detector], one.spacing, rtol=1e-4)
    if header.get("PixelSpacing") is None or (same and not header.get("PixelSpacingCalibrationType")):
        return one.spacing, (f"{words} at the detector; the patient before it is magnified, so true lengths are shorter",)
    return one.spacing, (f"{words}, as PixelSpacing states it",)


def _modality(header: Any) -> str:
    """Upper case, "OT" (other) where it is not stated in the standard's letters."""
    name = str(header.get("Modality") or "").upper()
    return name if name.isalnum() and name.isascii() and len(name) <= 16 else "OT"
