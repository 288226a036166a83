"""TIFF files of several equal pages as volumes: a stack saved by a microscope or by ImageJ."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from tacit.errors import ReadError
from tacit.image import Image

SUFFIXES = (".tif", ".tiff")
MOST_VOXELS = 4_000_000_000
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    Pillow.DecompressionBombError,
    MemoryError,
)  # what Pillow raises
GREY = {"L": np.uint8, "1": np.uint8, "I;16": np.uint16, "I;16B": np.uint16, "I;16L": np.uint16, "I": np.int32, "F": np.float32}


def is_stack(path: Path) -> bool:
    """Whether a TIFF holds several pages of one size (a pyramid's pages shrink). False for what cannot be opened."""
    try:
        with warnings.catch_warnings(), Pillow.open(path) as file:
            warnings.simplefilter("ignore")
            if getattr(file, "n_frames", 1) < 2:
                return False
            first = file.size
            file.seek(1)
            return file.size == first
    except DAMAGE:
        return False


def read_pages(path: Path) -> Image:
    """The pages of a grey TIFF as a volume (d, h, w) in their own type; spacing unknown. Raises ReadError."""
    try:
        with warnings.catch_warnings(), Pillow.open(path) as file:
            warnings.simplefilter("ignore")
            count, (w, h), mode = getattr(file, "n_frames", 1), file.size, file.mode
            if mode not in GREY:
                raise ReadError(path, f"{count} pages of {mode} pixels where grey ones were expected", "save each page as a picture of its own")
            if count * h * w > MOST_VOXELS:
                raise ReadError(path, f"{count} pages of {h}×{w} px are too many")
            pixels = np.empty((count, h, w), GREY[mode])
            for k in range(count):
                file.seek(k)
                if file.size != (w, h):
                    raise ReadError(path, f"page {k + 1} is {file.size[1]}×{file.size[0]} px, the first {h}×{w}", "save the pages in one size")
                pixels[k] = np.asarray(file)
    except ReadError:
        raise
    except PermissionError as error:
        raise ReadError(path, "no permission to read it", "change its permissions") from error
    except DAMAGE as error:
        raise ReadError(path, f"the file is damaged or cut short ({(str(error).splitlines() or [''])[0][:140]})") from error
    return Image(pixels, "dhw", source=path, history=(f"read {count} pages",))
