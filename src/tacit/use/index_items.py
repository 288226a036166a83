"""INPUT → items to index, each a picture or a whole slide with what is known of it, and the pictures that are looked at, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image as Pillow

from tacit.errors import InputError, ReadError, UsageError
from tacit.image import Image
from tacit.prepare.tiles import Grid, grid
from tacit.prepare.tissue import slide_tissue
from tacit.read.facts import Facts, facts_of, read_facts
from tacit.read.folder import LIST_SUFFIXES, find_cases, pictures_of_manifest, read_list
from tacit.read.picture import read_picture
from tacit.read.slide import Slide, is_slide, open_slide, stated_mpp

LARGE_PX = 16_000_000  # a picture of more pixels is cut into tiles like a slide
LEAST_TISSUE = 0.5  # share of a tile
LEAST_SEEN, MOST_NARROW = 16, 32  # px that the shorter side must keep at the encoder's spacing; longer over shorter side
NOT_FACTS = frozenset(("path", "keep", "reason", "kind", "sha256"))
RESERVED = ("row_id", "vector", "row", "col", "side_px", "tiles", "path", "sha256")


@dataclass(frozen=True)
class Item:
    """A file to index. facts: patient, site, label, slide and any further columns, as far as they are known."""

    path: Path  # absolute
    mpp: float | None  # by the list
    facts: Facts

    @cached_property
    def whole(self) -> bool:
        """Whether it is cut into tiles: a slide, or a very large picture."""
        if is_slide(self.path):
            return True
        try:
            with Pillow.open(self.path) as file:
                return file.size[0] * file.size[1] > LARGE_PX
        except Pillow.DecompressionBombError:
            return True
        except (OSError, SyntaxError, ValueError):
            return False  # read_picture will say what is wrong with it


@dataclass(frozen=True)
class Look:
    """One picture as the encoder sees it, and where it lies: level-0 row, column and side in px for a tile, None for a picture."""

    image: Image
    place: tuple[int, int, int] | None
    mpp: float | None  # µm per level-0 px


@dataclass(frozen=True)
class Cut:
    """How slides become tiles: `px` a side at `um_per_px`, where at least half is tissue."""

    um_per_px: float
    px: int
    picture_um: float | None  # µm per px to which the encoder brings pictures that state theirs


def find_items(source: str | Path, unpack_to: Path | None, patients: str | Path | None = None) -> tuple[list[Item], list[ReadError]]:
    """Items in order of their paths (of a list: in its order), and what cannot become one. Raises InputError where there is none.

    source: a picture or slide, a folder, a glob, a zip (unpacked below `unpack_to`), or a CSV/Parquet list with a column path. patients: a table
    of names and patients, which comes before what the list says; else a `Grade.csv` beside or above the folder counts.
    """
    problems: list[ReadError] = []
    if Path(source).suffix.lower() in LIST_SUFFIXES and Path(source).exists():
        items = _listed(Path(source))
    else:
        cases = find_cases(source, unpack_to=unpack_to, slides=True)
        known = cases.table[["patient", "label"]].to_dict("records")
        items = [Item(path.absolute(), None, {k: v for k, v in told.items() if v is not None}) for (_, path), told in zip(cases, known, strict=True)]
    if patients is not None:
        items = _with_patients(items, Path(patients))
    return _each_once(items, problems), problems


def looks_of(item: Item, given_mpp: float | None, how: Cut, done: frozenset[tuple[int, int]] = frozenset()) -> tuple[int, Iterator[Look | ReadError]]:
    """How many looks an item has in all, and the looks themselves but those at the places that are `done`, each read when it is wanted.

    A tile that cannot be decoded comes as its error; the others go on. Raises ReadError where there is nothing to look at.
    """
    if not item.whole:
        return 1, iter([_picture(item, given_mpp, how)])
    slide = open_slide(item.path)
    try:
        mpp = stated_mpp(slide, given_mpp if given_mpp is not None else item.mpp)
        plan = grid(slide, how.um_per_px, how.px, mpp=mpp, tissue=slide_tissue(slide, mpp=mpp), least_tissue=LEAST_TISSUE)
        if not len(plan):
            raise ReadError(item.path, "no tissue was found on it", "look at it; glass and very pale stains have none")
    except ReadError:
        slide.close()
        raise
    except InputError as error:
        slide.close()
        raise ReadError(item.path, str(error).removeprefix(f"{item.path} ").split(";")[0], "give it with --mpp, or in a list with a column mpp") from error
    return len(plan), _tiles(slide, plan, mpp, done)


def _tiles(slide: Slide, plan: Grid, mpp: float, done: frozenset[tuple[int, int]]) -> Iterator[Look | ReadError]:
    side = max(round(plan.size * plan.factor), 1)
    with slide:
        for row, col in plan.level0.tolist():
            if (row, col) in done:
                continue
            try:
                tile = slide.scaled(row, col, (plan.size, plan.size), plan.factor)
            except ReadError as error:
                yield error
                continue
            yield Look(Image(tile, source=slide.path).with_mpp(plan.um_per_px, "metadata"), (row, col, side), mpp)


def _picture(item: Item, given_mpp: float | None, how: Cut) -> Look:
    if not item.path.exists():
        raise ReadError(item.path, "the file does not exist", "correct the list")
    image = read_picture(item.path)
    mpp = given_mpp if given_mpp is not None else item.mpp
    if image.spacing_mm is None and mpp is not None:
        image = image.with_mpp(mpp, "given")
    return Look(seeable(image, how.picture_um), None, image.mpp)


def seeable(image: Image, um_per_px: float | None) -> Image:
    """The image itself, if enough of it is left at the encoder's spacing. Raises ReadError."""
    h, w = image.shape
    if max(h, w) > MOST_NARROW * min(h, w):
        raise ReadError(image.source, f"{h}×{w} px is a strip, not a field", f"give pictures at most {MOST_NARROW} times as long as wide")
    zoom = image.mpp / um_per_px if image.mpp and um_per_px else 1.0
    if min(h, w) * zoom < LEAST_SEEN:
        what = f"{h}×{w} px is too small: at the encoder's {um_per_px:.3g} µm per px {min(h, w) * zoom:.1f} px of it are left, {LEAST_SEEN} are needed"
        raise ReadError(image.source, what, "check --mpp, or give a larger field")
    return image


def _listed(place: Path) -> list[Item]:
    table = read_list(place)
    if "kind" in table.columns:  # an audit's manifest
        table = pictures_of_manifest(table, place, slides=True)
    return [_item(place.parent / path, facts) for path, facts in zip(table["path"].astype(str), facts_of(table, NOT_FACTS), strict=True)]


def _item(path: Path, facts: Facts) -> Item:
    mpp = facts.pop("mpp", None)
    if mpp is not None and not (isinstance(mpp, float) and 0.01 < mpp < 100):
        raise InputError(f"the list gives {path.name} mpp {mpp!r}: expected µm per pixel between 0.01 and 100, or nothing")
    return Item(path.absolute(), mpp, {f"list_{name}" if name in RESERVED else name: value for name, value in facts.items()})


def _with_patients(items: list[Item], table: Path) -> list[Item]:
    told = read_facts(table)
    known = told | {Path(name).stem: facts for name, facts in told.items()}
    found = [known.get(i.path.name, known.get(i.path.stem)) for i in items]
    if not any(found):
        raise UsageError(
            f"--patients {table} names none of the {len(items)} images; it names {', '.join(list(told)[:3])} …, the first image is {items[0].path.name}"
        )
    return [replace(i, facts=i.facts | {k: v for k, v in facts.items() if v is not None}) if facts else i for i, facts in zip(items, found, strict=True)]


def _each_once(items: list[Item], problems: list[ReadError]) -> list[Item]:
    """Every path once. One that is listed twice with different facts is a problem, not a guess."""
    found: dict[Path, Item] = {}
    torn: set[Path] = set()
    for item in items:
        first = found.setdefault(item.path, item)
        differ = next((k for k in sorted({*first.facts, *item.facts}) if first.facts.get(k) != item.facts.get(k)), None)
        if differ is not None and item.path not in torn:
            torn.add(item.path)
            values = f"{differ} {first.facts.get(differ)!r} and {item.facts.get(differ)!r}"
            problems.append(ReadError(item.path, f"the list names it twice, with {values}", "keep one of the two rows"))
    return [i for p, i in found.items() if p not in torn]
