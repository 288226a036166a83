"""PNG, JPEG, BMP, TIFF and DICOM files as `Image`: 8-bit RGB whatever was stored, with the spacing that the file states."""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from tacit.errors import ReadError
from tacit.image import Image
from tacit.read.dicom import is_dicom
from tacit.read.dicom_picture import read_dicom_picture
from tacit.read.eight_bit import MOST_PIXELS, check_size, to_8_bit

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
PLAUSIBLE_MPP = (0.05, 5.0)  # µm/px; screens and printers (72–600 dpi) write 42–353 µm/px, which says nothing of the tissue


def read_picture(path: Path) -> Image:
    """The picture at `path`, (h, w, 3) uint8 RGB.

    Grey is repeated, CMYK and palettes are converted, transparency is laid on white, 16 bits become 8 by the bit depth in
    use; each conversion is a line of the history. Orientation tags are not applied: pixels stay where they are stored.
    Radiographs and photographs in DICOM files are shown as the file says (read/dicom_picture.py).
    Raises ReadError for a file that is empty, damaged, animated, a slice of a series, or too small or too large to be looked at.
    """
    if path.suffix.lower() not in SUFFIXES and is_dicom(path):
        return read_dicom_picture(path)
    try:
        if path.stat().st_size == 0:
            raise ReadError(path, "the file is empty (0 bytes)")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # large pictures are refused below by our own bound; a tag that is passed over is no matter
            with Pillow.open(path) as file:
                check_size(path, (file.size[1], file.size[0]))
                _check_frames(path, file)
                mpp = _stated_mpp(file)
                pixels, steps = _as_rgb(file)
    except ReadError:
        raise
    except Pillow.DecompressionBombError as error:
        raise ReadError(path, f"too large to decode ({error})", "cut it into tiles or read it as a slide") from error
    except UnidentifiedImageError as error:
        if _claimed_pixels(path) > MOST_PIXELS:
            raise ReadError(path, f"its header claims {_claimed_pixels(path):,} px, more than {MOST_PIXELS:,}: too large, or a decompression bomb") from error
        raise ReadError(path, "not a picture that can be recognised (its content fits no known format)") from error
    except FileNotFoundError as error:
        raise ReadError(path, "there is no such file", "correct its name or folder") from error
    except PermissionError as error:
        raise ReadError(path, "no permission to read it", "change its permissions") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, MemoryError, OverflowError, IndexError, KeyError, TypeError) as error:
        raise ReadError(path, f"the file is damaged or cut short ({_first_line(error)})") from error
    image = Image(pixels, source=path, history=(f"read {path.suffix.lower().lstrip('.')}", *steps))
    return image.with_mpp(mpp, "metadata") if mpp else image


def _claimed_pixels(path: Path) -> int:
    """Height times width in a PNG's header, 0 for anything else."""
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or not head.startswith(b"\x89PNG"):
        return 0
    width, height = struct.unpack(">II", head[16:24])
    return int(width) * int(height)


def _check_frames(path: Path, file: Pillow.Image) -> None:
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and not (file.format == "TIFF" and _is_pyramid(file, frames)):
        raise ReadError(path, f"{frames} frames where one picture was expected", "save the wanted frame as a file of its own")


def _is_pyramid(file: Pillow.Image, frames: int) -> bool:
    """Whether every further TIFF page is a smaller copy of the first (previews, not other pictures)."""
    widths = []
    for index in range(frames):
        file.seek(index)
        widths.append(file.size[0])
    file.seek(0)
    return all(later < widths[0] for later in widths[1:])


def _as_rgb(file: Pillow.Image) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    mode = file.mode
    if mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        grey, step = to_8_bit(np.asarray(file))
        return np.repeat(grey[..., None], 3, axis=2), (step, "grey repeated to RGB")
    if mode == "RGB":
        return np.asarray(file, np.uint8).copy(), ()
    if mode in ("RGBA", "LA", "PA") or "transparency" in file.info:
        clear = file.convert("RGBA")
        ground = Pillow.new("RGBA", clear.size, "white")
        ground.alpha_composite(clear)
        return np.asarray(ground.convert("RGB"), np.uint8).copy(), (f"{mode} laid on white",)
    return np.asarray(file.convert("RGB"), np.uint8).copy(), (f"{mode} converted to RGB",)


def mpp_of_tags(description: str, unit: int | None, per_unit: float | None) -> float | None:
    """µm per pixel by a TIFF's OME-XML or, failing that, its pixels per inch (unit 2) or cm (3); None where it can be no microscope's."""
    size, named = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', description), re.search(r'PhysicalSizeXUnit="([^"]+)"', description)
    mpp: float | None = None
    if size and (named is None or named.group(1) in ("µm", "um", "&#181;m")):
        mpp = float(size.group(1))
    elif unit in (2, 3) and per_unit:
        mpp = (25_400.0 if unit == 2 else 10_000.0) / per_unit if per_unit > 0 else None
    return mpp if mpp and PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1] else None


def _stated_mpp(file: Pillow.Image) -> float | None:
    """µm per pixel from OME-XML or the resolution tags, where it can be a microscope's."""
    tags = getattr(file, "tag_v2", {})
    text = str(tags.get(270, "")).encode("latin-1", "ignore").decode("utf-8", "ignore")  # Pillow reads the tag as latin-1
    if 282 in tags or 270 in tags:
        return mpp_of_tags(text, tags.get(296), float(tags[282]) if tags.get(282) else None)
    dpi = float(file.info["dpi"][0]) if "dpi" in file.info else 0.0
    return mpp_of_tags("", 2, dpi) if dpi > 0 else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
