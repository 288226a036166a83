"""INPUT → the cases of `tacit classify`: DICOM series, volume files, folders of slices, single pictures; each read and prepared when it is wanted, once.

A prepared case is a stack of slices (s, h, w) uint8. A series' is kept in the cache by the hash of the case's files and of the recipe, so that a second look, or a
second run, decodes nothing. A cohort is never in memory as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256, write_atomic
from tacit.image import Image
from tacit.prepare.steps import SERIES, apply, recipe
from tacit.read.folder import find_cases
from tacit.read.picture import read_picture
from tacit.read.tree import find_files
from tacit.run import Run
from tacit.use.case_names import folder_of
from tacit.use.encoder import digest
from tacit.use.taught import cache_folder
from tacit.use.volumes import find_volumes, first_failure

Unit = Literal["picture", "series"]
Stack = NDArray[np.uint8]
SIZE = 224  # px a side of a prepared slice
VOLUMES = SERIES  # of Hounsfield units: the slides' preparation for COVNet, with the lungs' hulls
PREPARED = 1  # raised when a step of preparation changes what it gives, so that no older stack is taken from the cache
OVERSHOOT = 0.5  # of the range: what an interpolation behind a window may add
FOLDERS = "size=224:224"  # of pictures that somebody has windowed


@dataclass(frozen=True)
class Case:
    """A case by name; `paths` are the files that it is made of."""

    name: str
    unit: Unit
    paths: tuple[Path, ...]
    read: Callable[[], Image]
    steps: str  # the recipe that prepares it
    gaps: str = "refuse"  # how it is read where slices are missing

    @property
    def place(self) -> Path:
        """Where it lies: its file, or the folder that holds all of its files."""
        return self.paths[0] if len(set(self.paths)) == 1 else folder_of(self.paths)

    @cached_property
    def digest(self) -> str:
        """What changes when any of its files does; "unreadable" where one cannot be read."""
        try:
            return digest([sha256(p) for p in self.paths])
        except OSError:
            return "unreadable"

    def prepared(self) -> Stack:
        """Its slices (s, h, w) uint8; those of a series from the cache where they are there. Raises ReadError and InputError naming the case."""
        if self.unit == "picture" or self.digest == "unreadable":  # as quickly read as kept; or about to be told of
            return _stack(apply(self.read(), recipe(self.steps)))
        place = cache_folder() / "prepared" / f"{digest([PREPARED, self.gaps, self.steps, self.digest])}.npy"
        kept = _kept(place)
        if kept is not None:
            return kept
        stack = _stack(apply(self.read(), recipe(self.steps)))
        write_atomic(place, _as_npy(stack))
        return stack


def find_cohort(source: str | Path, run: Run, *, unit: str | None = None, steps: str | None = None, gaps: str = "refuse") -> list[Case]:
    """Every case that `source` names, sorted by name. unit: picture or series, where pictures in folders could be either (None: series where INPUT's
    folders hold two or more pictures each, most of them). steps: a recipe instead of the usual one. Raises InputError where there is none, UsageError.
    """
    if unit not in (None, "picture", "series"):
        raise UsageError(f"--unit {unit!r} is unknown; known are picture, series")
    pictures = _pictures(source, run)
    found = _volumes(source, run, steps, gaps, frozenset(pictures)) if unit != "picture" else []
    if not found and not pictures and not Path(source).exists() and not set("*?[") & set(str(source)):
        raise InputError(f"{source}: there is no such file or folder")
    if not found and not pictures:
        raise InputError(f"{source} holds no case: wanted are DICOM series, .nii, .mha, folders of slices, or pictures{first_failure(run)}")
    folders: dict[Path, list[Path]] = {}
    for path in pictures:
        folders.setdefault(path.parent, []).append(path)
    many = [f for f, members in folders.items() if len(members) > 1]
    if unit == "series" or (unit is None and len(many) > 1 and 2 * len(many) > len(folders) and Path(source) not in folders):
        found += [_slices(folder, members, steps) for folder, members in folders.items()]
    elif pictures:
        found += [Case(p.stem, "picture", (p,), lambda p=p: _grey(p), steps or FOLDERS) for p in pictures]  # type: ignore[misc]
    units = {case.unit for case in found}
    if len(units) > 1:
        raise InputError(f"{source} holds series and single pictures; give them apart, or say which are meant with --unit series or --unit picture")
    names = [case.name for case in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(
            f"{source}: {names.count(twice[0])} cases are called {twice[0]!r}; names of cases must differ, as labels are found by them (slices in a folder a case: --unit series)"
        )
    return sorted(found, key=lambda case: case.name)


def _volumes(source: str | Path, run: Run, steps: str | None, gaps: str, but: frozenset[Path]) -> list[Case]:
    try:
        found = find_volumes(source, run, gaps=gaps, but=but)  # type: ignore[arg-type]
    except InputError:
        return []
    return [Case(v.name, "series", v.paths, v.read, steps or VOLUMES, gaps) for v in found]


def _pictures(source: str | Path, run: Run) -> list[Path]:
    place = Path(source)
    if place.is_dir():
        return find_files(place).of("picture")
    try:
        return [path for _, path in find_cases(source, unpack_to=run.folder / "input")]
    except InputError:
        return []


def _slices(folder: Path, members: list[Path], steps: str | None) -> Case:
    ordered = sorted(members, key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)])
    return Case(folder.name, "series", tuple(ordered), lambda: _stacked(folder, ordered), steps or FOLDERS)


def _stacked(folder: Path, ordered: list[Path]) -> Image:
    """Pictures of one size as a volume, in the order of the numbers in their names."""
    slices = [_grey(p).pixels for p in ordered]
    odd = [p for p, s in zip(ordered, slices, strict=True) if s.shape != slices[0].shape]
    if odd:
        raise ReadError(odd[0], f"{len(odd)} of {len(ordered)} slices have another size than the first", "give slices of one size")
    return Image(np.stack(slices), "dhw", None, source=folder, history=(f"{len(slices)} pictures in the order of their names",))


def _grey(path: Path) -> Image:
    image = read_picture(path)
    grey = np.round(image.pixels.astype(np.float32).mean(2)).astype(np.uint8)
    return Image(grey, "hw", source=path, history=(*image.history, "grey"))


def _stack(image: Image) -> Stack:
    pixels = image.pixels
    if not np.isfinite(pixels).all():
        raise InputError(f"{image.name}: {int((~np.isfinite(pixels)).sum())} pixels are not finite; export the series anew")
    pixels = pixels[None] if image.axes == "hw" else pixels.mean(2)[None] if image.axes == "hwc" else pixels
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        top = 1.0 if pixels.dtype.kind == "f" and high <= 1 + OVERSHOOT else 255.0
        if low < -OVERSHOOT * top or high > (1 + OVERSHOOT) * top:
            raise InputError(f"{image.name}: prepared values go from {low:g} to {high:g}; 0 to 255, or 0 to 1, are expected: add window=-500:1500 to --steps")
        pixels = np.clip(np.round(255 / top * pixels), 0, 255)
    return np.ascontiguousarray(pixels.astype(np.uint8))


def _kept(place: Path) -> Stack | None:
    """What the cache holds; None where it holds nothing that can be read."""
    try:
        kept = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.ndim == 3 and kept.dtype == np.uint8 else None


def _as_npy(stack: Stack) -> bytes:
    import io

    file = io.BytesIO()
    np.save(file, stack, allow_pickle=False)
    return file.getvalue()
