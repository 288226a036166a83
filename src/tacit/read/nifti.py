"""NIfTI and MetaImage volumes: orientation and spacing kept, compressed files read to their end and their checksum checked.

nibabel stops decompressing when it has its voxels and never sees the CRC at the end of a gzip file, so that most single bit
flips pass as wrong voxels. Here the whole file is inflated first (libdeflate checks the CRC), then nibabel reads the header.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.read import pages

NIFTI_SUFFIXES, MHA_SUFFIXES = (".nii", ".nii.gz"), (".mha", ".mhd")
MOST_BYTES = 64 * 2**30  # a header that claims more is damaged
MHA_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
MM = {"meter": 1000.0, "micron": 0.001}  # any other unit is taken for millimetres, as everyone does
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_volume(path: Path) -> bool:
    """Whether a file is a volume: by its name, or a TIFF of several equal pages."""
    low = path.name.lower()
    return low.endswith(NIFTI_SUFFIXES + MHA_SUFFIXES) or (low.endswith(pages.SUFFIXES) and pages.is_stack(path))


def read_volume(path: Path) -> Image:
    """The volume (d, h, w) in the type it is stored in, scaled where its header says so (float32 then). Raises ReadError.

    The axes are the file's own, slowest first; `affine` says where they point, and `tacit.prepare.space.canonical` turns them.
    """
    if not is_volume(path):
        raise UsageError(f"{path} is no volume; known are {', '.join(NIFTI_SUFFIXES + MHA_SUFFIXES)} and TIFF files of several equal pages")
    try:
        if path.name.lower().endswith(pages.SUFFIXES):
            return pages.read_pages(path)
        return _nifti(path) if path.name.lower().endswith(NIFTI_SUFFIXES) else _metaimage(path)
    except ReadError:
        raise
    except PermissionError as error:
        raise ReadError(path, "no permission to read it", "change its permissions") from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, OverflowError, zlib.error, MemoryError) as error:
        raise ReadError(path, f"the file is damaged or cut short ({(str(error).splitlines() or [type(error).__name__])[0][:140]})") from error


def inflated(path: Path) -> bytes:
    """The bytes of a file, decompressed where it is gzip, with every checksum checked. Raises ReadError."""
    packed = path.read_bytes()
    if not packed:
        raise ReadError(path, "the file is empty (0 bytes)")
    if not packed.startswith(b"\x1f\x8b"):
        return packed
    import imagecodecs

    size = int.from_bytes(packed[-4:], "little")  # of the last member, modulo 4 GiB
    if 0 < size < 1032 * len(packed):  # deflate cannot do better
        try:
            found = bytes(imagecodecs.gzip_decode(packed, out=size))
            if len(found) == size and imagecodecs.deflate_crc32(found) == int.from_bytes(packed[-8:-4], "little"):
                return found  # the first member is the last one too
        except (imagecodecs.GzipError, imagecodecs.DeflateError, RuntimeError, ValueError):
            pass  # several members, or damage: the slow way tells
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise ReadError(path, f"the gzip data are damaged or cut short ({error})") from error


def _nifti(path: Path) -> Image:
    import nibabel

    content = inflated(path)
    kind = nibabel.Nifti2Header if content[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nibabel.Nifti1Header
    if len(content) < kind.sizeof_hdr:
        raise ReadError(path, f"no NIfTI header: {len(content)} bytes, at least {kind.sizeof_hdr} are needed")
    try:
        header = kind(content[: kind.sizeof_hdr], check=False)  # nibabel's check would silently make a spacing of 0 one of 1 mm
        magic = np.asarray(header["magic"]).tobytes()[:2]
        if magic == b"ni":
            raise ReadError(path, "a NIfTI header whose voxels lie in another file", "save header and voxels as one .nii.gz")
        if magic != b"n+" or int(header["sizeof_hdr"]) != kind.sizeof_hdr:
            raise ReadError(path, "no NIfTI file (its magic bytes are missing)")
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
        mm = MM.get(header.get_xyzt_units()[0], 1.0)
        affine = np.diag([mm, mm, mm, 1.0]) @ np.asarray(header.get_best_affine(), np.float64)
        slope, intercept = header.get_slope_inter()
        zooms = tuple(abs(float(z)) * mm for z in header.get_zooms()[:3])
    except (nibabel.spatialimages.HeaderDataError, nibabel.filebasedimages.ImageFileError) as error:
        raise ReadError(path, f"the NIfTI header is broken ({error})") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise ReadError(path, f"a volume of three axes was expected, the header says {shape}", "save one volume a file")
    if dtype.kind not in "iuf" or not np.isfinite(affine).all() or not np.isfinite(zooms).all() or min(zooms) <= 0:
        raise ReadError(path, f"the NIfTI header is broken (type {dtype}, spacing {zooms})")
    if offset < kind.sizeof_hdr:
        raise ReadError(path, f"the NIfTI header is broken: the voxels are said to begin at byte {offset}, within it")
    count = int(np.prod([int(n) for n in shape], dtype=object))
    wanted = count * dtype.itemsize
    if wanted > MOST_BYTES or offset + wanted > len(content):
        raise ReadError(path, f"the voxels are cut short or the header is broken: {shape} {dtype} needs {offset + wanted} bytes, the file holds {len(content)}")
    voxels = np.frombuffer(content, dtype, count, offset).reshape(shape[::-1])
    return _image(path, voxels, zooms, affine, slope, intercept)


def _image(path: Path, voxels: NDArray, zooms: tuple[float, ...], affine: NDArray[np.float64], slope: float | None, intercept: float | None) -> Image:
    """Native byte order, scaled where the header asks; zooms are (w, h, d) mm."""
    native = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    steps = [f"read {''.join(path.suffixes[-2:]).lower().lstrip('.') or 'volume'}"]
    if slope is not None and (slope, intercept or 0.0) != (1.0, 0.0) and np.isfinite([slope, intercept or 0.0]).all():
        whole = float(slope) == 1.0 and float(intercept or 0.0) == int(intercept or 0) and native.dtype.kind in "iu" and native.dtype.itemsize <= 2
        native = (native.astype(np.int32) + int(intercept or 0)) if whole else native.astype(np.float32) * np.float32(slope) + np.float32(intercept or 0)
        steps.append(f"scaled by {slope:g}, offset {intercept:g}")
    spacing = (zooms[2], zooms[1], zooms[0])
    return Image(native, "dhw", spacing, "metadata", "volume", path, tuple(steps), affine)


def _metaimage(path: Path) -> Image:
    content = inflated(path)
    end = content.find(b"ElementDataFile")
    if end < 0:
        raise ReadError(path, "no MetaImage header (ElementDataFile is missing)")
    line_end = content.find(b"\n", end)
    lines = content[: line_end if line_end >= 0 else len(content)].decode("latin-1").splitlines()
    header = {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines if "=" in line)}
    shape = tuple(int(n) for n in header["DimSize"].split())
    if len(shape) != 3 or min(shape) < 1 or header.get("ElementType") not in MHA_TYPES or int(header.get("ElementNumberOfChannels", 1)) != 1:
        raise ReadError(path, f"a grey volume of three axes was expected; the header says {header.get('DimSize')} of {header.get('ElementType')}")
    big = header.get("BinaryDataByteOrderMSB", header.get("ElementByteOrderMSB", "False")).lower() == "true"
    dtype = np.dtype((">" if big else "<") + MHA_TYPES[header["ElementType"]])
    where = header["ElementDataFile"]
    if where != "LOCAL" and (Path(where).name != where or not (path.parent / where).is_file()):
        raise ReadError(path, f"its voxels are said to lie in {where!r}, which is not beside it")
    body = content[line_end + 1 :] if where == "LOCAL" else inflated(path.parent / where)
    count = int(np.prod(shape, dtype=object))
    if count * dtype.itemsize > MOST_BYTES:
        raise ReadError(path, f"{shape} {dtype} are more voxels than can be meant")
    if header.get("CompressedData", "False").lower() == "true":
        packer = zlib.decompressobj()
        body = packer.decompress(body, count * dtype.itemsize + 1)
        if not packer.eof:
            raise ReadError(path, "the compressed voxels are cut short, or more than the header says")
    if count * dtype.itemsize != len(body):
        raise ReadError(path, f"{shape} {dtype} needs {count * dtype.itemsize} bytes, the file holds {len(body)}")
    zooms = tuple(float(v) for v in header.get("ElementSpacing", header.get("ElementSize", "1 1 1")).split())
    matrix = np.array([float(v) for v in header.get("TransformMatrix", "1 0 0 0 1 0 0 0 1").split()]).reshape(3, 3).T
    lps = np.eye(4)
    lps[:3, :3] = matrix * zooms
    lps[:3, 3] = [float(v) for v in header.get("Offset", header.get("Position", "0 0 0")).split()]
    if min(zooms) <= 0 or not np.isfinite(lps).all() or abs(np.linalg.det(lps)) < 1e-3 * np.prod(zooms):
        raise ReadError(path, f"its spacing {zooms} or its directions are no geometry")
    return _image(path, np.frombuffer(body, dtype).reshape(shape[::-1]), zooms, LPS_TO_RAS @ lps, None, None)


def write_nifti(path: Path, image: Image) -> None:
    """The volume as .nii.gz with its place and spacing. Atomic; equal volumes give equal files."""
    import nibabel

    affine = image.affine if image.affine is not None else np.diag([*(-1.0, -1.0, 1.0) * np.asarray((image.spacing_mm or (1.0, 1.0, 1.0))[::-1]), 1.0])
    kept = image.pixels.astype(np.uint8) if image.pixels.dtype == bool else image.pixels
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=3, mtime=0) as file:
        file.write(nibabel.Nifti1Image(kept.transpose(2, 1, 0), affine, dtype=kept.dtype).to_bytes())
    write_atomic(path, packed.getvalue())
