"""The ways into a slide: OpenSlide, directly decoded tiles, a flat picture in memory, a DICOM slide by wsidicom.

Each gives rectangles of one level, and is chosen by `tacit.read.slide.open_slide`. Rows and columns come in level-0 pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.errors import MissingError, ReadError
from tacit.read.picture import PLAUSIBLE_MPP
from tacit.read.slide_tiles import TiledLevel, TileReader

DIRECT = ("aperio", "generic-tiff")  # OpenSlide's names of the formats whose tiles are plain TIFF tiles
DICOM_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage


class Reader(Protocol):
    """One opened slide."""

    levels: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    mpp: float | None

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """(h, w, 3) RGB of the level, from level-0 (row, col) on, white outside."""

    def close(self) -> None:
        """Lets go of the file."""


class OpenSlideReader:
    """Whatever OpenSlide opens. Raises ReadError where it does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slide = self._open()
        self.levels = tuple((int(h), int(w)) for w, h in self._slide.level_dimensions)
        self.downsamples = tuple(float(d) for d in self._slide.level_downsamples)
        self.vendor = str(self._slide.properties.get("openslide.vendor", ""))
        self.mpp = _mean_mpp(self._slide.properties.get("openslide.mpp-y"), self._slide.properties.get("openslide.mpp-x"))

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Reader`. Between the pixels of a coarse level OpenSlide interpolates."""
        import openslide

        try:
            return on_white(np.asarray(self._slide.read_region((col, row), level, shape[::-1])))
        except openslide.OpenSlideError as error:
            self._slide.close()
            self._slide = self._open()  # after one error OpenSlide answers every call on this handle with it
            raise ReadError(self.path, f"a part of this slide cannot be decoded ({_line(error)})") from error

    def close(self) -> None:
        """Closes OpenSlide's handle."""
        self._slide.close()

    def _open(self) -> Any:
        import openslide

        try:
            return openslide.OpenSlide(self.path)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise ReadError(self.path, f"OpenSlide cannot open this slide ({_line(error)})", "copy it again with all files that belong to it") from error


class DirectReader:
    """Levels whose tiles are decoded directly, the rest by OpenSlide. Positions go to the level's nearest pixel."""

    def __init__(self, slide: OpenSlideReader, tiles: TileReader) -> None:
        self._slide, self._tiles = slide, tiles
        self.levels, self.downsamples, self.mpp = slide.levels, slide.downsamples, slide.mpp

    @property
    def direct(self) -> tuple[int, ...]:
        """The levels that are decoded directly."""
        return tuple(self._tiles.levels)

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Reader`."""
        if level not in self._tiles.levels:
            return self._slide.read(level, row, col, shape)
        down = self.downsamples[level]
        return self._tiles.read(level, nearest(row / down), nearest(col / down), shape)

    def close(self) -> None:
        """Closes both."""
        self._tiles.close()
        self._slide.close()


class StripReader:
    """A flat TIFF whose strips or tiles are decoded as they are needed: one level."""

    def __init__(self, tiles: TileReader, mpp: float | None) -> None:
        self._tiles = tiles
        self.levels: tuple[tuple[int, int], ...] = (tiles.levels[0].shape,)
        self.downsamples: tuple[float, ...] = (1.0,)
        self.mpp = mpp

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Reader`."""
        return self._tiles.read(level, row, col, shape)

    def close(self) -> None:
        """Closes the file."""
        self._tiles.close()


class PictureReader:
    """A flat picture held in memory: one level."""

    def __init__(self, pixels: NDArray[np.uint8], mpp: float | None) -> None:
        self._pixels = pixels
        self.levels: tuple[tuple[int, int], ...] = ((pixels.shape[0], pixels.shape[1]),)
        self.downsamples: tuple[float, ...] = (1.0,)
        self.mpp = mpp

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Reader`."""
        out, (r0, c0, r1, c1) = _white_around(row, col, shape, self.levels[0])
        if r1 > r0 and c1 > c0:
            out[r0 - row : r1 - row, c0 - col : c1 - col] = self._pixels[r0:r1, c0:c1]
        return out

    def close(self) -> None:
        """Lets go of the pixels."""
        self._pixels = np.empty((0, 0, 3), np.uint8)


class DicomReader:
    """A DICOM slide that OpenSlide does not take, by the optional package wsidicom. Raises MissingError, ReadError."""

    def __init__(self, path: Path) -> None:
        try:
            import wsidicom
        except ImportError as error:
            raise MissingError(f"{path}: OpenSlide does not take this DICOM slide, and wsidicom is not installed; pip install tacit[dicom-slides]") from error
        self.path = path
        # AttributeError: pydicom raises it where a tag is read that the file does not have, and wsidicom lets it through
        self._errors = (wsidicom.errors.WsiDicomError, OSError, ValueError, KeyError, AttributeError, NotImplementedError, RuntimeError)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._slide = wsidicom.WsiDicom.open(volume_files(path) or [path])
        except self._errors as error:
            raise ReadError(path, f"wsidicom cannot open this DICOM slide ({_line(error)})") from error
        pyramid = list(self._slide.pyramid)
        self._numbers = [level.level for level in pyramid]
        self.levels = tuple((int(level.size.height), int(level.size.width)) for level in pyramid)
        self.downsamples = tuple(self.levels[0][0] / h for h, _ in self.levels)
        spacing = pyramid[0].pixel_spacing  # mm
        self.mpp = _mean_mpp(spacing.height * 1000, spacing.width * 1000) if spacing is not None else None

    def read(self, level: int, row: int, col: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """See `Reader`."""
        down = self.downsamples[level]
        row, col = nearest(row / down), nearest(col / down)
        out, (r0, c0, r1, c1) = _white_around(row, col, shape, self.levels[level])
        if r1 > r0 and c1 > c0:
            try:
                part = self._slide.read_region((c0, r0), self._numbers[level], (c1 - c0, r1 - r0))
            except self._errors as error:
                raise ReadError(self.path, f"a part of this DICOM slide cannot be decoded ({_line(error)})") from error
            out[r0 - row : r1 - row, c0 - col : c1 - col] = np.asarray(part.convert("RGB"))
        return out

    def close(self) -> None:
        """Closes the files."""
        self._slide.close()


def with_direct_tiles(slide: OpenSlideReader, pages: Sequence[TiledLevel], cache_bytes: int) -> Reader:
    """The slide with every level decoded directly whose tiles were found, and found to come out as OpenSlide's."""
    tiled = [page for page in pages if not page.strips]
    plans = {i: fit[0] for i, shape in enumerate(slide.levels) if len(fit := [page for page in tiled if page.shape == shape]) == 1}
    tiles = TileReader(slide.path, plans, cache_bytes)
    tiles.levels = {level: plan for level, plan in plans.items() if _alike(slide, tiles, level)}
    if tiles.levels:
        return DirectReader(slide, tiles)
    tiles.close()
    return slide


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB with what is transparent laid on white. (h, w, 4) → (h, w, 3)"""
    clear = rgba[..., 3] < 255
    rgb = np.ascontiguousarray(rgba[..., :3])
    if clear.any():
        alpha = rgba[clear][:, 3:].astype(np.uint16)
        rgb[clear] = (rgb[clear] * alpha + 255 * (255 - alpha) + 127) // 255
    return rgb


def nearest(position: float) -> int:
    """The nearest whole number, halves upwards."""
    return math.floor(position + 0.5)


def _alike(slide: OpenSlideReader, tiles: TileReader, level: int) -> bool:
    """Whether the fullest tile that OpenSlide can be asked for without interpolation has the same pixels both ways."""
    plan, down = tiles.levels[level], slide.downsamples[level]
    (h, w), (th, tw) = plan.shape, plan.tile
    for index in np.argsort(-plan.counts, kind="stable")[:64].tolist() + [0]:
        row, col = index // plan.across * th, index % plan.across * tw
        if (row * down).is_integer() and (col * down).is_integer():
            shape = (min(th, h - row), min(tw, w - col))
            try:
                ours = tiles.read(level, row, col, shape)
                return bool(np.array_equal(ours, slide.read(level, int(row * down), int(col * down), shape)))
            except ReadError:
                return False  # OpenSlide says what is wrong when that tile is wanted
    return False


def _white_around(row: int, col: int, shape: tuple[int, int], whole: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """A white (h, w, 3) and the part (top, left, bottom, right) of the level that will cover it."""
    inside = max(row, 0), max(col, 0), min(row + shape[0], whole[0]), min(col + shape[1], whole[1])
    return np.full((*shape, 3), 255, np.uint8), inside


def _mean_mpp(down: object, across: object) -> float | None:
    """The geometric mean of both spacings, µm; None where one is missing or no microscope's."""
    try:
        values = float(str(down)), float(str(across))
    except ValueError:
        return None
    plausible = all(PLAUSIBLE_MPP[0] <= v <= PLAUSIBLE_MPP[1] for v in values)
    return math.sqrt(values[0] * values[1]) if plausible else None


def volume_files(path: Path) -> list[Path]:
    """The DICOM files of `path`'s folder that are levels of the same slide: one series, volume images, no label, no overview. In order."""
    import pydicom

    def series_and_kind(file: Path) -> tuple[str, bool]:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "ImageType"])
        return str(header.get("SeriesInstanceUID", "")), "VOLUME" in header.get("ImageType", [])

    levels: list[Path] = []
    try:
        wanted = series_and_kind(path)[0]
    except (pydicom.errors.InvalidDicomError, OSError):
        return levels
    for other in sorted(path.parent.glob(f"*{path.suffix}")):
        try:
            if series_and_kind(other) == (wanted, True):
                levels.append(other)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue  # some other file in this folder
    return levels


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
