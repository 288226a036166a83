"""INPUT → what a distance looks at: pictures, tiles of slides, slices of series or whole series, each with a hash of its content and what is known of it.

Hashes come before pictures: the part of a large set that is looked at is drawn by them, and nothing else is decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256, sha256_of_ends
from tacit.image import Image
from tacit.prepare.tiles import grid
from tacit.prepare.tissue import slide_tissue
from tacit.read.facts import Facts
from tacit.read.slide import Slide, open_slide, stated_mpp
from tacit.run import Run
from tacit.use.classify_cases import prepared
from tacit.use.cohort import VOLUMES, Case, find_cohort
from tacit.use.encoder import digest
from tacit.use.index_items import LEAST_TISSUE, Cut, Item, find_items, looks_of
from tacit.use.volumes import find_volumes, first_failure

Kind = Literal["pictures", "tiles", "slices", "series"]
SERIES_BY = ("slice", "embedding")


@dataclass(frozen=True)
class Look:
    """One thing to look at. key: a hash of its content · case: the file or series that it is of · label: its folder below INPUT, or what a list says."""

    key: str
    name: str
    case: str
    label: str | None
    facts: Facts
    read: Callable[[], list[Image]]  # one picture; of a whole series all its slices


@dataclass(frozen=True)
class Found:
    """What INPUT holds. told: whether its labels are a list's; else they are names of folders."""

    name: str
    source: str
    kind: Kind
    looks: tuple[Look, ...]
    told: bool


def check_there(source: str | Path) -> None:
    """Raises InputError for a side that does not exist."""
    if not Path(source).exists() and not set("*?[") & set(str(source)):
        raise InputError(f"{source} does not exist; a side is a folder, a file, a glob in quotes, a zip or a list")


def find_set(
    source: str | Path, name: str, run: Run, cut: Cut, *, mpp: float | None, series_by: str, unit: str | None, gaps: str, steps: str | None = None
) -> Found:
    """Everything in `source` that can be looked at. Raises InputError for an empty side, and where pictures, slides and series are mixed.

    series_by: slice, or embedding: a series is one thing, the mean of its slices · unit: series, where folders of pictures are meant · steps: how
    series are prepared, instead of the usual way. What fails is a row of failures.csv.
    """
    if series_by not in SERIES_BY:
        raise UsageError(f"--series-by {series_by!r} is unknown; known are {', '.join(SERIES_BY)}")
    if unit not in (None, "picture", "series"):
        raise UsageError(f"--unit {unit!r} is unknown; known are picture, series")
    items, problem = _items(source, run, name) if unit != "series" else ([], None)
    cases = _series(source, run, unit, gaps, steps, frozenset(i.path for i in items))
    tiles = [i for i in items if i.whole]
    kinds = [k for k, there in (("series", cases), ("slides", tiles), ("pictures", len(items) > len(tiles))) if there]
    if len(kinds) > 1:
        raise InputError(f"{name} holds {' and '.join(kinds)}: modalities are mixed; give a folder of one kind, or say which are meant with --unit")
    if not kinds:
        if run.failures or problem is None:
            raise InputError(f"{name} ({source}) is an empty side: no picture, slide or series is there{first_failure(run)}")
        raise problem
    told = any(i.facts.get("label") is not None for i in items)
    root = Path(source) if Path(source).is_dir() else None
    if cases:
        looks = [look for case in cases for look in _of_case(case, root, series_by, run)]
        kind: Kind = "series" if series_by == "embedding" else "slices"
    elif tiles:
        looks, kind = [look for item in items for look in _of_slide(item, root, cut, mpp, run)], "tiles"
    else:
        looks, kind = [look for item in items for look in _of_picture(item, root, cut, mpp, run)], "pictures"
    if not looks:
        raise InputError(f"{name} ({source}) is an empty side: nothing in it can be looked at{first_failure(run)}")
    return Found(name, str(source), kind, tuple(looks), told)


def check_one_kind(sets: Sequence[Found]) -> None:
    """Raises InputError where one side has pictures and another one slides or series."""
    kinds = Counter(s.kind for s in sets)
    if len(kinds) > 1:
        said = ", ".join(f"{s.name} {s.kind}" for s in sets)
        raise InputError(f"modalities are mixed ({said}): a distance is between sets of one kind; give the sets as pictures, slides or series alike")


def _series(source: str | Path, run: Run, unit: str | None, gaps: str, steps: str | None, but: frozenset[Path]) -> list[Case]:
    if unit == "picture":
        return []
    if unit == "series":
        return find_cohort(source, run, unit="series", steps=steps, gaps=gaps)
    try:
        found = find_volumes(source, run, gaps=gaps, but=but)  # type: ignore[arg-type]
    except InputError:
        return []
    return [Case(v.name, "series", v.paths, v.read, steps or VOLUMES, gaps) for v in found]


def _items(source: str | Path, run: Run, name: str) -> tuple[list[Item], InputError | None]:
    try:
        items, problems = find_items(source, run.folder / "input" / digest(name))
    except InputError as error:
        return [], error
    for problem in problems:
        run.fail(problem.path, problem)
    return items, None


def _folder(path: Path, root: Path | None, own: bool) -> str | None:
    """The first folder below INPUT that a thing lies in; own: its last folder is itself, not a class."""
    if root is None:
        return None
    parts = path.absolute().relative_to(root.absolute()).parts[:-1] if path.absolute().is_relative_to(root.absolute()) else ()
    return parts[0] if len(parts) > (1 if own else 0) else None


def _label(facts: Facts, path: Path, root: Path | None, own: bool = False) -> str | None:
    told = facts.get("label")
    return str(told) if told is not None else _folder(path, root, own)


def _of_picture(item: Item, root: Path | None, cut: Cut, mpp: float | None, run: Run) -> list[Look]:
    def read() -> list[Image]:
        look = next(looks_of(item, mpp, cut)[1])
        if isinstance(look, ReadError):
            raise look
        return [look.image]

    try:
        key = sha256(item.path)
    except OSError as error:
        run.fail(item.path, ReadError(item.path, f"it cannot be read ({error.strerror or error})"))
        return []
    return [Look(key, item.path.name, str(item.path), _label(item.facts, item.path, root), item.facts, read)]


def _of_slide(item: Item, root: Path | None, cut: Cut, mpp: float | None, run: Run) -> list[Look]:
    """A look a tile of tissue, as `tacit index` cuts them."""
    try:
        with open_slide(item.path) as slide:
            own = stated_mpp(slide, mpp if mpp is not None else item.mpp)
            plan = grid(slide, cut.um_per_px, cut.px, mpp=own, tissue=slide_tissue(slide, mpp=own), least_tissue=LEAST_TISSUE)
        key = sha256_of_ends(item.path)
    except ReadError as error:
        run.fail(item.path, error)
        return []
    except (InputError, OSError) as error:
        run.fail(item.path, ReadError(item.path, str(error).split(";")[0], "give its µm per pixel with --mpp, or leave it out"))
        return []

    def read(row: int, col: int) -> list[Image]:
        tile = _opened(str(item.path)).scaled(row, col, (plan.size, plan.size), plan.factor)
        return [Image(tile, source=item.path).with_mpp(plan.um_per_px, "metadata")]

    label = _label(item.facts, item.path, root)
    return [
        Look(f"{key} {row} {col}", f"{item.path.name} {row},{col}", str(item.path), label, item.facts, lambda r=row, c=col: read(r, c))  # type: ignore[misc]
        for row, col in plan.level0.tolist()
    ]


@lru_cache(maxsize=4)
def _opened(path: str) -> Slide:
    return open_slide(path)


def _of_case(case: Case, root: Path | None, series_by: str, run: Run) -> list[Look]:
    """A look a slice of a prepared series, or one of all its slices."""
    stack = prepared(case, run)
    if stack is None:
        return []

    def read(first: int, last: int) -> list[Image]:
        return [Image(np.repeat(plane[..., None], 3, 2), source=case.paths[0]) for plane in case.prepared()[first:last]]

    label = _label({}, case.paths[0], root, own=len(case.paths) > 1)
    if series_by == "embedding":
        return [Look(case.digest, case.name, case.name, label, {}, lambda: read(0, len(stack)))]
    return [
        Look(f"{case.digest} {i}", f"{case.name} slice {i + 1}", case.name, label, {}, lambda i=i: read(i, i + 1))  # type: ignore[misc]
        for i in range(len(stack))
    ]
