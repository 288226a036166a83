"""INPUT → volumes, one at a time: DICOM series, NIfTI and MetaImage files, whatever lies in a folder; what fails is listed and the rest goes on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tacit.errors import InputError, ReadError
from tacit.image import Image
from tacit.read.dicom import read_headers
from tacit.read.dicom_picture import refusal
from tacit.read.folder import is_mask, read_list, unpack
from tacit.read.nifti import is_volume, read_volume
from tacit.read.series import Series, find_series
from tacit.read.tree import find_files
from tacit.read.volume import Gaps, read_series
from tacit.run import Run
from tacit.use.case_names import case_names, folder_of

ONE_SLICE = "one slice only: its series has no other, and a volume wants two"
REMEDY = "add the other slices of the series, or leave it out; a radiograph or photograph is read as a picture (tacit prepare, tacit segment)"


@dataclass(frozen=True)
class Found:
    """A volume by name that can be read when it is wanted. paths: the files that it is made of."""

    name: str  # unique, safe as a file name (use/case_names.py)
    paths: tuple[Path, ...]
    read: Callable[[], Image]


def find_volumes(source: str | Path, run: Run, *, gaps: Gaps = "refuse", but: frozenset[Path] = frozenset()) -> list[Found]:
    """Every volume of a file, folder, zip, or manifest of an audit (rows with keep=true). Raises InputError where there is none.

    Below a folder, what lies in folders of masks is none. but: files that are read as pictures already.
    """
    place, kept = Path(source), None
    if place.suffix.lower() == ".zip":
        place = unpack(place, run.folder / "input" / hashlib.sha256(str(place.absolute()).encode()).hexdigest()[:16])  # two zips may have one name
    if place.suffix.lower() in (".csv", ".parquet"):
        kept = _listed(place)
        volumes, dicoms = [p for p in kept if is_volume(p)], [p for p in kept if not is_volume(p)]
    else:
        tree = find_files(place)
        for problem in tree.problems:
            run.fail(problem.path, problem)
        volumes, dicoms = [p for p in tree.of("volume") if not is_mask(p, place)], tree.of("dicom")
    shown = {p.absolute() for p in but}
    slices, errors = read_headers(p for p in dicoms if p.absolute() not in shown)
    for error in errors:
        run.fail(error.path, error)
    every = find_series(slices) if slices else []
    series = [s for s in every if len(s.slices) > 1]
    for one in (s for s in every if len(s.slices) == 1):
        if not but or refusal(one.slices[0].path) is not None:  # else the verb reads it as a picture
            run.fail(one.slices[0].path, ReadError(one.slices[0].path, ONE_SLICE, REMEDY))
    found = [Found("", (p,), lambda p=p: read_volume(p)) for p in volumes]  # type: ignore[misc]
    found += [Found("", tuple(s.path for s in one.slices), lambda one=one: read_series(one, gaps=gaps)) for one in series]  # type: ignore[misc]
    if not found:
        raise InputError(f"no volume in {source}: wanted are DICOM series, .nii, .nii.gz, .mha or .mhd{first_failure(run)}")
    names = case_names([_without_suffix(p) for p in volumes] + [(folder_of([s.path for s in one.slices]), _uid(one)) for one in series])
    return [replace(one, name=name) for one, name in zip(found, names, strict=True)]


def each_volume(found: list[Found], run: Run, told: Callable[[int, int], None]) -> Iterator[tuple[Found, Image]]:
    """The volumes in turn; one that cannot be read becomes a failure."""
    for index, one in enumerate(found):
        told(index, len(found))
        try:
            image = one.read()
        except ReadError as error:
            run.fail(error.path, error)
            continue
        except InputError as error:
            words, _, remedy = str(error).rpartition("; ")
            run.fail(one.paths[0].parent, ReadError(one.paths[0].parent, words or str(error), remedy or "repair the series"))
            continue
        if image.pixels.dtype not in (np.int16, np.int32, np.float32):
            image = replace(image, pixels=image.pixels.astype(np.int16 if image.pixels.dtype.kind in "iu" else np.float32))
        yield one, image


def first_failure(run: Run) -> str:
    """The first failure in words that end a message, "" where there is none."""
    return f"; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}" if run.failures else ""


def _without_suffix(path: Path) -> tuple[Path, str]:
    """A volume's path without its suffix, and the suffix."""
    suffix = next((s for s in (".nii.gz", ".nii", ".mha", ".mhd") if path.name.lower().endswith(s)), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)] or path.name), suffix.strip(".").replace(".", "")


def _uid(series: Series) -> str:
    """What tells a series from others in its folder."""
    return series.uid if series.slices[0].series else "unnamed"


def _listed(path: Path) -> list[Path]:
    table = read_list(path)
    if "kind" in table.columns:  # a manifest: this job takes its volumes and DICOM files
        table = table[table["kind"].isin(("volume", "dicom"))]
    paths = [p if p.is_absolute() else path.parent / p for p in map(Path, table["path"].astype(str))]
    return list({os.path.abspath(p): p for p in paths}.values())  # each once
