"""A slide: a pyramid of pictures too large for memory, read region by region, at a level or at any µm per pixel.

SVS, NDPI, MRXS, SCN, VMS, BIF, DICOM and tiled TIFF by OpenSlide, their tiles decoded directly where that gives the same pixels;
flat TIFF, PNG, JPEG and BMP as a slide of one level. Label and macro images are never read: they show names and numbers of patients.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError
from tacit.read.picture import mpp_of_tags, read_picture
from tacit.read.slide_readers import (
    DICOM_SLIDE,
    DIRECT,
    DicomReader,
    OpenSlideReader,
    PictureReader,
    Reader,
    StripReader,
    nearest,
    volume_files,
    with_direct_tiles,
)
from tacit.read.slide_tiles import CACHE_BYTES, TileReader, direct_levels
from tacit.read.tree import SLIDES

MOST_AT_ONCE = 1 << 24  # pixels of a level that are held to be shrunk; more is done in parts
LEVEL_SLACK = 1.01  # a level may be this much coarser than wanted: scanners write 4.0005 for 4


class Slide:
    """An open slide. Rows and columns are level-0 pixels from its upper left corner, whatever the level that is read.

    path: the file. levels: (h, w) of each, finest first. downsamples: level-0 pixels a pixel of each level is wide.
    mpp: µm per level-0 pixel as the file states it, None where it does not.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path, self.levels, self.downsamples, self.mpp = path, reader.levels, reader.downsamples, reader.mpp
        self._reader = reader

    @property
    def shape(self) -> tuple[int, int]:
        """(h, w) of level 0."""
        return self.levels[0]

    def region(self, row: int, col: int, shape: tuple[int, int], level: int = 0) -> NDArray[np.uint8]:
        """`shape` (h, w) pixels of `level`, from level-0 (row, col) on: (h, w, 3) RGB, white outside the slide.

        On a coarse level the position is the nearest pixel of that level (formats left to OpenSlide: interpolated by it).
        Raises InputError for a level or a shape that cannot be, ReadError for a damaged part.
        """
        if not 0 <= level < len(self.levels):
            raise InputError(f"{self.path}: level {level} was asked for, it has levels 0 to {len(self.levels) - 1}")
        if min(shape) < 1:
            raise InputError(f"{self.path}: a region of {shape[0]}×{shape[1]} px was asked for, at least 1×1 is needed")
        return self._reader.read(level, int(row), int(col), (int(shape[0]), int(shape[1])))

    def scaled(self, row: int, col: int, shape: tuple[int, int], factor: float) -> NDArray[np.uint8]:
        """`shape` (h, w) pixels, each `factor` level-0 pixels wide, from level-0 (row, col) on: (h, w, 3) RGB.

        Taken from the coarsest level that is fine enough, averaged over areas; bilinear where level 0 is too coarse.
        """
        if not (math.isfinite(factor) and factor > 0):
            raise InputError(f"{self.path}: a pixel cannot be {factor} level-0 pixels wide; a positive number is needed")
        level = max((i for i, down in enumerate(self.downsamples) if down <= factor * LEVEL_SLACK), default=0)
        ratio = factor / self.downsamples[level]
        source = max(nearest(shape[0] * ratio), 1), max(nearest(shape[1] * ratio), 1)
        if source[0] * source[1] > MOST_AT_ONCE and max(shape) > 1:
            return self._scaled_in_halves(row, col, shape, factor)
        pixels = self.region(row, col, source, level)
        if source == tuple(shape):
            return pixels
        return np.asarray(cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR), np.uint8)

    def tile_at(self, um_per_px: float, row: int, col: int, size: int, *, mpp: float | None = None) -> NDArray[np.uint8]:
        """A square of `size` px at `um_per_px`, from level-0 (row, col) on: (size, size, 3) RGB.

        mpp: the slide's µm per pixel where its file states none. Raises InputError where nobody does.
        """
        return self.scaled(row, col, (size, size), um_per_px / stated_mpp(self, mpp))

    def overview(self, factor: float) -> NDArray[np.uint8]:
        """The whole slide, each pixel `factor` level-0 pixels wide: (ceil(h / factor), ceil(w / factor), 3) RGB."""
        return self.scaled(0, 0, (math.ceil(self.shape[0] / factor), math.ceil(self.shape[1] / factor)), factor)

    def close(self) -> None:
        """Lets go of the file. A `with` block does it."""
        self._reader.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _scaled_in_halves(self, row: int, col: int, shape: tuple[int, int], factor: float) -> NDArray[np.uint8]:
        axis = 0 if shape[0] >= shape[1] else 1
        first = shape[axis] // 2
        sizes = [(first, shape[1]), (shape[0] - first, shape[1])] if axis == 0 else [(shape[0], first), (shape[0], shape[1] - first)]
        step = nearest(first * factor)
        after = (row + step, col) if axis == 0 else (row, col + step)
        return np.concatenate([self.scaled(row, col, sizes[0], factor), self.scaled(*after, sizes[1], factor)], axis)


def open_slide(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> Slide:
    """The slide at `path`, to be closed or used in a `with` block.

    cache_bytes: decoded tiles that are kept for the next region. Raises ReadError for a file that is missing, empty, cut
    short or no slide, MissingError for a DICOM slide that needs an optional package.
    """
    path = Path(path)
    head = _first_bytes(path)
    if _known_to_openslide(path):
        slide = OpenSlideReader(path)
        try:
            return Slide(path, with_direct_tiles(slide, direct_levels(path), cache_bytes) if slide.vendor in DIRECT else slide)
        except ReadError:
            slide.close()
            raise
    if head[128:132] == b"DICM":
        if DICOM_SLIDE not in head:
            raise ReadError(path, "a DICOM file, but no slide (its class is not VL Whole Slide Microscopy)", "read it as a series")
        return Slide(path, DicomReader(path))
    return Slide(path, _flat(path, cache_bytes))


def is_slide(path: Path) -> bool:
    """Whether a file is a whole slide rather than a picture: by its suffix, as a TIFF with tiles and levels or of many pixels, as the first
    of a DICOM slide's files. What cannot be looked at is none."""
    suffix = path.suffix.lower()
    if suffix in SLIDES:
        return True
    try:
        if suffix in (".dcm", ".dicom") and DICOM_SLIDE in _first_bytes(path):
            return path == min(volume_files(path), default=None)
        if suffix in (".tif", ".tiff") and _known_to_openslide(path):
            with contextlib.closing(OpenSlideReader(path)) as reader:
                return len(reader.levels) > 1 or math.prod(reader.levels[0]) > MOST_AT_ONCE
    except ReadError:
        pass  # whoever reads it says what is wrong
    return False


def stated_mpp(slide: Slide, given: float | None = None) -> float:
    """µm per level-0 pixel: the file's, else `given`. Raises InputError naming both ways to give it; it is never guessed."""
    if given is not None and not (math.isfinite(given) and 0.01 < given < 100):
        raise InputError(f"--mpp {given}: expected µm per pixel between 0.01 and 100")
    mpp = slide.mpp if slide.mpp is not None else given
    if mpp is None:
        raise InputError(f"{slide.path} does not state how many µm a pixel is; give it with --mpp, or in a list with the columns path and mpp")
    return mpp


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise ReadError(path, "the file does not exist", "check the path") from error
    except IsADirectoryError as error:
        raise ReadError(path, "this is a folder, not a slide", "give the slide's file (for MRXS the .mrxs beside the folder)") from error
    except OSError as error:
        raise ReadError(path, f"it cannot be opened ({error.strerror or error})", "check its permissions") from error
    if not head:
        raise ReadError(path, "the file is empty (0 bytes)")
    return head


def _known_to_openslide(path: Path) -> bool:
    import openslide

    try:
        return openslide.OpenSlide.detect_format(path) is not None
    except openslide.OpenSlideError as error:
        raise ReadError(path, f"OpenSlide cannot look into it ({error})") from error


def _flat(path: Path, cache_bytes: int) -> Reader:
    """One level from a flat picture: by strips where a TIFF's decode directly, else whole in memory."""
    pages = direct_levels(path)
    if pages and len(pages[0].offsets) > 1:
        shape, mpp = _flat_tiff(path)
        if shape == pages[0].shape:
            return StripReader(TileReader(path, {0: pages[0]}, cache_bytes), mpp)
    try:
        image = read_picture(path)
    except ReadError as error:
        raise ReadError(path, f"no slide that OpenSlide knows, and as a picture: {error.reason}", error.remedy) from error
    return PictureReader(image.pixels, image.mpp)


def _flat_tiff(path: Path) -> tuple[tuple[int, int] | None, float | None]:
    """(h, w) and µm per pixel of a TIFF's first page; None for (h, w) where the pages are not one picture and its previews."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if isinstance(page, tifffile.TiffPage)]
        first = pages[0]
        if any(page.imagewidth >= first.imagewidth for page in pages[1:]):
            return None, None
        resolution, unit = first.tags.get("XResolution"), first.tags.get("ResolutionUnit")
        per_unit = resolution.value[0] / resolution.value[1] if resolution is not None and resolution.value[1] else None
        mpp = mpp_of_tags(first.description, int(unit.value) if unit is not None else None, per_unit)
        return (first.imagelength, first.imagewidth), mpp
