"""What a file tells of where it comes from, without its pixels: format, size, type, and what the scanner or the exporting program wrote into the header.

Such facts may betray a class as no picture should; no value of theirs is ever written out, only whether they do (see `use/shortcuts.py`).
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from pathlib import Path

from PIL import Image as Pillow

from tacit.errors import ReadError
from tacit.read.dicom import read_header
from tacit.read.nifti import NIFTI_SUFFIXES
from tacit.read.pages import DAMAGE
from tacit.read.tree import kind_of

SOFTWARE = 305  # the EXIF and TIFF tag of the program that wrote a file
META = ("DimSize", "ElementSpacing", "ElementType", "CompressedData", "Modality", "AnatomicalOrientation")  # of a MetaImage
HEAD = 1024  # bytes at a volume's beginning that hold its header

Marks = dict[str, float | str]


def marks(path: Path) -> Marks:
    """The facts of one file by name, numbers where they are numbers; {} for what cannot be read."""
    kind = kind_of(path)
    try:
        if kind == "dicom":
            return _of_dicom(path)
        if kind == "volume" and path.name.lower().endswith(NIFTI_SUFFIXES):
            return _of_nifti(_head(path))
        if kind == "volume" and path.suffix.lower() in (".mha", ".mhd"):
            return _of_metaimage(_head(path))
        return _of_picture(path)
    except (ReadError, zlib.error, *DAMAGE):
        return {}


def _of_dicom(path: Path) -> Marks:
    one = read_header(path)[0]
    h, w = one.shape
    found: Marks = {"format": "dicom", "height": h, "width": w, "bits stored": one.bits_stored, "samples": one.samples, "transfer syntax": one.syntax}
    if one.spacing:
        found["spacing"] = round(one.spacing[0], 5)
    return found | {"slope": one.slope, "intercept": one.intercept, "signed": float(one.signed)} | one.header


def _of_nifti(head: bytes) -> Marks:
    import nibabel

    kind = nibabel.Nifti2Header if head[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Header
    try:
        header = kind(head[: kind.sizeof_hdr], check=False)
        shape, zooms = header.get_data_shape(), header.get_zooms()
        found: Marks = {"format": kind.__name__, "data type": str(header.get_data_dtype())}
    except (nibabel.spatialimages.HeaderDataError, nibabel.wrapstruct.WrapStructError) as error:
        raise ValueError(str(error)) from error
    for name, value in zip(("width", "height", "slices"), shape, strict=False):
        found[name] = float(value)
    for name, value in zip(("spacing", "spacing of rows", "spacing of slices"), zooms, strict=False):
        found[name] = round(float(value), 5)
    for field in ("scl_slope", "scl_inter", "qform_code", "sform_code", "xyzt_units"):
        found[field] = str(header[field])
    return found | {"description": bytes(header["descrip"].tobytes()).rstrip(b"\0").decode("latin-1")}


def _of_metaimage(head: bytes) -> Marks:
    pairs = (line.partition("=") for line in head.decode("latin-1").splitlines() if "=" in line)
    stated = {key.strip(): value.strip() for key, _, value in pairs}
    found: Marks = {"format": "metaimage"}
    found.update({name: stated[name] for name in META if name in stated})
    for name, value in zip(("width", "height", "slices"), stated.get("DimSize", "").split(), strict=False):
        found[name] = float(value)
    return found


def _of_picture(path: Path) -> Marks:
    with warnings.catch_warnings(), Pillow.open(path) as file:
        warnings.simplefilter("ignore")
        w, h = file.size
        found: Marks = {"format": str(file.format), "mode": file.mode, "height": h, "width": w}
        if "dpi" in file.info:
            found["dpi"] = round(float(file.info["dpi"][0]), 1)
        tables = getattr(file, "quantization", None)
        if tables:
            found["jpeg quality"] = float(sum(tables[min(tables)]))  # the coarser, the larger
            found["progressive"] = float(bool(file.info.get("progressive")))
        found["software"] = str(file.getexif().get(SOFTWARE) or file.info.get("Software") or "")
        return found


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        begins = file.read(2)
        file.seek(0)
        if begins != b"\x1f\x8b":
            return file.read(HEAD)
        with gzip.open(file) as inside:
            return inside.read(HEAD)
