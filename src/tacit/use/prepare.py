"""`tacit prepare`: pictures and volumes after a recipe of steps, as PNG and NIfTI, each with the history of what was done to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tacit.cases import Cases
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.prepare.stain_normalise import lab_look, macenko, reinhard, stain_look
from tacit.prepare.steps import SEEN_FIRST, Step, apply, recipe
from tacit.read.folder import find_cases, named_files
from tacit.read.nifti import write_nifti
from tacit.read.picture import read_picture
from tacit.read.volume import Gaps
from tacit.report.picture import png
from tacit.report.track import Bar
from tacit.run import Run, as_csv, command_line, open_run
from tacit.use.device import prepare_device
from tacit.use.volumes import find_volumes

HEADER = ("name", "file", "source", "shape", "spacing_mm", "history")


@dataclass(frozen=True)
class PrepareResult:
    """What a run came to."""

    folder: Path
    written: int
    failed: int


def prepare_images(
    source: str | Path,
    out: str | Path,
    *,
    steps: str,
    target: str | Path | None = None,
    mpp: float | None = None,
    gaps: Gaps = "refuse",
    threads: int = 1,
    overwrite: bool = False,
) -> PrepareResult:
    """Writes images/<name>.png or .nii.gz after the steps (see `tacit.prepare.steps`), tables/prepared.csv and the failures.

    steps: a recipe such as "window=-500:1500,he+clahe", a preset ("covnet"), and for tissue also reinhard and macenko, which bring
    colours to those of `target` (a picture or folder; else of the input itself). Raises TacitError; one item's failure is a row.
    """
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100")
    wanted = _with_stains(steps, source, target)
    prepare_device("cpu", threads)
    if not Path(source).exists() and not any(c in str(source) for c in "*?["):
        raise InputError(f"{source} does not exist; INPUT is a picture, volume, folder, glob, zip or list")
    settings = {"prepare": {"input": str(source), "steps": steps, "target": str(target) if target else None, "mpp": mpp, "gaps": gaps}}
    reads = chain(named_files(source), named_files(target) if target else ())
    command = command_line("prepare", source, out, prepare_images.__kwdefaults__, steps=steps, target=target, mpp=mpp, gaps=gaps, threads=threads)
    with open_run(out, command=command, settings=settings, reads=reads, overwrite=overwrite) as run:
        rows: list[tuple[Any, ...]] = []
        with Bar("preparing") as bar:
            for index, total, name, path, read in _items(source, run, mpp, gaps):
                try:
                    image = apply(read(), wanted)
                    file = _write(run.folder / "images", name, image)
                    spacing = "×".join(f"{s:.6g}" for s in image.spacing_mm or ())
                    rows.append((name, file, str(path), "×".join(map(str, image.pixels.shape)), spacing, "; ".join(image.history)))
                except ReadError as error:
                    run.fail(error.path, error)
                except InputError as error:
                    run.fail(path, ReadError(path, str(error).removeprefix(f"{path.stem}: "), "leave the step or the file out"))
                bar.advance(index + 1, total)
        if not rows:
            raise InputError(f"nothing in {source} could be prepared; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}")
        write_atomic(run.folder / "tables" / "prepared.csv", as_csv(HEADER, rows))
        run.record |= {"images": len(rows)}
        return PrepareResult(Path(out), len(rows), len(run.failures))


def _with_stains(text: str, source: str | Path, target: str | Path | None) -> list[Step]:
    """The recipe, with the two steps that need to have seen the target's colours."""
    steps: list[Step] = []
    for word in (w.strip() for w in text.split(",") if w.strip()):
        if word not in SEEN_FIRST:
            steps += recipe(word)
            continue
        pictures = [read_picture(path).pixels for _, path in list(find_cases(target if target is not None else source))[:12]]
        if word == "reinhard":
            wanted = lab_look(pictures)
            steps.append(Step(word, lambda i, look=wanted: _coloured(i, "Reinhard", lambda p: reinhard(p, look))))  # type: ignore[misc]
        else:
            stains = stain_look(pictures)
            steps.append(Step(word, lambda i, look=stains: _coloured(i, "Macenko", lambda p: macenko(p, look))))  # type: ignore[misc]
    return steps or recipe(text)


def _coloured(image: Image, words: str, change: Callable[[np.ndarray], np.ndarray]) -> Image:
    if image.axes != "hwc":
        raise InputError(f"{image.name}: {words} is a step for colour pictures")
    return image.after(f"colours by {words}", change(image.pixels))


def _items(source: str | Path, run: Run, mpp: float | None, gaps: Gaps) -> Iterator[tuple[int, int, str, Path, Callable[[], Image]]]:
    """(index, total, name, path, reader) of every picture, then of every volume."""
    cases: Cases | None = None
    volumes = []
    try:
        cases = find_cases(source, unpack_to=run.folder / "input")
    except InputError as error:
        problem = error
    try:
        volumes = find_volumes(source, run, gaps=gaps, but=frozenset(path for _, path in cases or ()))
    except InputError as error:
        if cases is None:
            raise (error if run.failures else problem) from None
    total = len(cases or ()) + len(volumes)
    for index, (name, path) in enumerate(cases or ()):
        yield index, total, name, path, lambda path=path: _picture(path, mpp)  # type: ignore[misc]
    for index, volume in enumerate(volumes, len(cases or ())):
        yield index, total, volume.name, volume.paths[0], volume.read


def _picture(path: Path, mpp: float | None) -> Image:
    image = read_picture(path)
    return image.with_mpp(mpp, "given") if mpp and image.spacing_mm is None else image


def _write(folder: Path, name: str, image: Image) -> str:
    if image.axes == "dhw":
        write_nifti(folder / f"{name}.nii.gz", image)
        return f"images/{name}.nii.gz"
    write_atomic(folder / f"{name}.png", png(image.pixels))
    return f"images/{name}.png"
