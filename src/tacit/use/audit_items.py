"""One look at each thing an audit meets: pictures, stacks of pictures, DICOM series, volumes, slides. What it finds are `Item`s.

Pixels are seen once and let go: an item keeps hashes and a few numbers, so memory does not grow with the size of the images.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from tacit.errors import InputError, MissingError, ReadError
from tacit.image import Image
from tacit.prepare.contrast import window_uint8
from tacit.prepare.hashes import hashes
from tacit.prepare.sequence import Sequence, check, likely_missing, small
from tacit.read.dicom import Slice
from tacit.read.nifti import read_volume
from tacit.read.picture import read_picture
from tacit.read.series import Series
from tacit.read.slide import open_slide
from tacit.read.volume import read_slice

LEAST_STACK, MOST_STACK = 8, 3000  # pictures in a folder that may be one series
STACK_ALIKE = 0.5  # neighbours by name differ by less than this share of what strangers of the same folder do
CT_WINDOW = (-300.0, 1400.0)  # level and width, HU, of the 8-bit pictures that CT is hashed as

See = Callable[[str, NDArray[np.uint8]], None]  # told of every picture's grey values: (path, (h, w) 0–255)
Fail = Callable[[object, ReadError], None]


@dataclass
class Item:
    """One file (or frame) with all that an audit says of it."""

    path: Path
    kind: str
    patient: str = ""
    series: str = ""
    position: float | None = None  # mm along the series' normal, or rank where places are unknown
    spacing: str = ""  # mm, slowest axis first
    keep: bool = True
    reason: str = ""
    facts: dict[str, float | str] = field(default_factory=dict)  # shape, grey values, hashes, header
    label: str = ""
    split: str = ""

    def note(self, words: str, keep: bool | None = None) -> None:
        """Adds a reason, and says whether the item stays."""
        self.reason = f"{self.reason}; {words}" if self.reason else words
        self.keep = self.keep if keep is None else keep


@dataclass
class SeriesRow:
    """A line of tables/series.csv."""

    series: str
    patient: str
    kind: str
    slices: int
    missing: int = 0
    duplicate: int = 0
    foreign: int = 0
    shuffled: int = 0
    spacing_mm: float | None = None
    spacing_uneven: bool = False
    tilt_deg: float = 0.0
    words: str = ""


def look_at_pictures(folder_files: list[Path], see: See, fail: Fail) -> tuple[list[Item], SeriesRow | None]:
    """The pictures of one folder; where they are the slices of one stack, judged as a series too."""
    items, smalls = [], []
    files = sorted(folder_files, key=natural)
    may_be_stack = LEAST_STACK <= len(files) <= MOST_STACK
    for path in files:
        try:
            image = read_picture(path)
        except ReadError as error:
            fail(path, error)
            items.append(Item(path, "picture", keep=False, reason=f"unreadable: {error.reason}"))
            continue
        grey = _grey_as_stored(path, image)
        item = Item(path, "picture", spacing=_words(image.spacing_mm), facts=_facts(image.shape, grey) | hashes(grey))  # type: ignore[arg-type]
        items.append(item)
        see(str(path), grey)
        if may_be_stack:
            smalls.append(small(grey))
    good = [item for item in items if item.keep]
    same_size = len({(i.facts["height"], i.facts["width"]) for i in good}) == 1
    if not (may_be_stack and same_size and len(good) >= LEAST_STACK and _is_stack(smalls)):
        return items, None
    return items, _judge_stack(good, smalls)


def natural(path: Path) -> tuple[object, ...]:
    """Sort key in which slice-2 comes before slice-10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower()))


def _is_stack(smalls: list[NDArray[np.float32]]) -> bool:
    steps = np.array([np.abs(a - b).mean() for a, b in zip(smalls[:-1], smalls[1:], strict=True)])
    half = len(smalls) // 2
    strangers = np.array([np.abs(a - b).mean() for a, b in zip(smalls, smalls[half:] + smalls[:half], strict=True)])
    return bool(np.median(steps) < STACK_ALIKE * np.median(strangers))


def _judge_stack(items: list[Item], smalls: list[NDArray[np.float32]]) -> SeriesRow:
    name = str(items[0].path.parent)
    found = check(smalls, _numbered(items))
    _say(items, found)
    for rank, index in enumerate(found.order):
        items[index].position = float(rank)
    holes = _holes_in_names(items, found)
    for index, count in holes:
        items[index].note(f"missing: {count} {'slice' if count == 1 else 'slices'} after this one")
    for item in items:
        item.series = name
    return SeriesRow(name, "", "stack of pictures", len(items), sum(n for _, n in holes), *_counts(found))


def _say(items: list[Item], found: Sequence) -> None:
    for item, finding in zip(items, found.findings, strict=True):
        if finding.kind:
            item.note(finding.words, keep=False if finding.kind in ("duplicate", "foreign") else None)


def _counts(found: Sequence) -> tuple[int, int, int]:
    return found.count("duplicate"), found.count("foreign"), found.count("shuffled")


def _numbered(items: list[Item]) -> list[float] | None:
    """The last number of each name where they rise throughout: where the slices are said to lie."""
    numbers = [re.findall(r"\d+", item.path.stem) for item in items]
    last = [float(n[-1]) for n in numbers if n]
    return last if len(last) == len(items) and all(a < b for a, b in zip(last[:-1], last[1:], strict=True)) else None


def _holes_in_names(items: list[Item], found: Sequence) -> list[tuple[int, int]]:
    """(index before a hole, slices missing) where the last numbers of the names skip, against their usual step; a foreign slice's name is no hole."""
    numbers = [[int(n) for n in re.findall(r"\d+", item.path.stem)] for item in items]
    if not all(numbers):
        return []
    placed = [(numbers[i][-1], i) for i in sorted(found.order, key=lambda i: numbers[i][-1])]
    steps = np.diff([n for n, _ in placed])
    if not len(steps) or np.median(steps) <= 0:
        return []
    usual = float(np.median(steps))
    taken = {n[-1] for n in numbers}
    absent = [sum(round(placed[k][0] + j * usual) not in taken for j in range(1, round(s / usual))) for k, s in enumerate(steps)]
    return [(placed[k][1], count) for k, count in enumerate(absent) if count]


def look_at_series(series: Series, see: See, fail: Fail) -> tuple[list[Item], SeriesRow]:
    """A DICOM series: its slices by position, each hashed; geometry is judged by the header, then belonging by the pixels."""
    items: dict[tuple[Path, int], Item] = {}
    smalls, seen, places = [], [], []
    offsets = series.offsets
    for one, offset in zip(series.slices, offsets, strict=True):
        item = items[one.path, one.frame] = _slice_item(one, series, float(offset))
        try:
            grey = _grey_of(one)
        except ReadError as error:
            fail(one.path, error)
            item.note(f"unreadable: {error.reason}", keep=False)
            continue
        item.facts |= _facts(one.shape, grey) | hashes(grey)
        see(str(one.path), grey)
        smalls.append(small(grey))
        seen.append(item)
        places.append(float(offset))
    for one in series.misplaced:
        items[one.path, one.frame].note(f"shuffled: instance number {one.number} disagrees with its position")
    for one, why in series.left_out:
        items[one.path, one.frame] = _slice_item(one, series, None)
        items[one.path, one.frame].note(why, keep=False)
    found = check(smalls, places)
    _say(seen, found)
    holes = _holes_in_places(series)
    for index, count in holes:
        one = series.slices[index]
        items[one.path, one.frame].note(f"missing: {count} {'slice' if count == 1 else 'slices'} after this one")
    duplicate, foreign, shuffled = _counts(found)
    d = series.defects
    row = SeriesRow(
        series.uid,
        series.patient,
        "dicom",
        len(series.slices) + len(series.left_out),
        d.missing,
        d.duplicate + duplicate,
        d.foreign + foreign,
        len({id(items[s.path, s.frame]) for s in series.misplaced} | {id(i) for i, f in zip(seen, found.findings, strict=True) if f.kind == "shuffled"}),
        series.spacing_mm,
        d.spacing_uneven,
        d.tilt_deg,
        d.words,
    )
    if d.mixed_orientations:
        row.words = row.words or "mixed orientations"
    return list(items.values()), row


def _grey_of(one: Slice) -> NDArray[np.uint8]:
    """A slice or a radiograph by its values, a photograph in colours by Pillow's grey of what it shows. Raises ReadError."""
    if one.samples > 1:
        return np.asarray(Pillow.fromarray(read_picture(one.path).pixels).convert("L"))
    return _windowed(read_slice(one), one.header.get("Modality", ""))


def _slice_item(one: Slice, series: Series, position: float | None) -> Item:
    step = (series.spacing_mm or 0.0, *(one.spacing or ()))
    item = Item(one.path, "dicom", one.patient, series.uid, None if position is None else round(position, 3), _words(step if one.spacing else None))
    item.facts |= {f"header {k}": v for k, v in one.header.items()}
    return item


def _holes_in_places(series: Series) -> list[tuple[int, int]]:
    step = series.spacing_mm
    if not step or not series.located:
        return []
    gaps = np.diff(series.offsets)
    return [(i, round(float(g) / step) - 1) for i, g in enumerate(gaps) if g > 1.5 * step]


def look_at_volume(path: Path, see: See, fail: Fail) -> tuple[list[Item], SeriesRow | None]:
    """A NIfTI or MetaImage volume, its slices judged by their pixels; the middle slice stands for it among near twins."""
    try:
        image = read_volume(path)
    except ReadError as error:
        fail(path, error)
        return [Item(path, "volume", keep=False, reason=f"unreadable: {error.reason}")], None
    planes = image.pixels
    flat = len(np.unique(planes[len(planes) // 2])) <= 8  # a mask: nothing to judge
    middle = _windowed(planes[len(planes) // 2], "CT" if planes.min() < -500 else "")
    item = Item(path, "volume", series=str(path), spacing=_words(image.spacing_mm), facts=_facts(image.shape, middle) | hashes(middle))  # type: ignore[arg-type]
    see(str(path), middle)
    if flat:
        item.kind = "mask"
        item.note("a mask or a volume of a few values, not an image", keep=False)
        return [item], None
    smalls = [small(plane) for plane in planes]
    found = check(smalls)
    for kind in ("duplicate", "foreign", "shuffled"):
        where = [i + 1 for i, f in enumerate(found.findings) if f.kind == kind]
        if where:
            item.note(f"{kind}: slices {', '.join(map(str, where[:12]))}{' …' if len(where) > 12 else ''}")
    holes = likely_missing(smalls, found.order)
    if holes:
        item.note(f"missing: perhaps {sum(n for _, n in holes)} slices, after {', '.join(str(i + 1) for i, _ in holes[:12])}")
    step = image.spacing_mm[0] if image.spacing_mm else None
    return [item], SeriesRow(str(path), "", "volume", len(planes), sum(n for _, n in holes), *_counts(found), step)


def look_at_slide(path: Path, fail: Fail) -> Item:
    """A slide by its levels and spacing; its label and macro pictures are never read."""
    try:
        with open_slide(path) as slide:
            h, w = slide.levels[0]
            item = Item(path, "slide", spacing=f"{slide.mpp / 1000:.6g}×{slide.mpp / 1000:.6g}" if slide.mpp else "")
            item.facts = {"height": h, "width": w, "levels": len(slide.levels)}
            if not slide.mpp:
                item.note("no spacing stated: give it with --mpp")
            return item
    except (ReadError, InputError, MissingError) as error:
        found = error if isinstance(error, ReadError) else ReadError(path, str(error))
        fail(path, found)
        return Item(path, "slide", keep=False, reason=f"unreadable: {found.reason}")


def _grey_as_stored(path: Path, image: Image) -> NDArray[np.uint8]:
    """What Pillow makes grey of the file itself, so that hashes are those of any other program; 16 bit and floats as Tacit reads them."""
    if any("scaled" in step for step in image.history):
        return np.ascontiguousarray(image.pixels[..., 0])
    if len(image.history) > 1:
        with Pillow.open(path) as file:
            return np.asarray(file.convert("L"))
    return np.asarray(Pillow.fromarray(image.pixels).convert("L"))


def _windowed(values: NDArray, modality: str) -> NDArray[np.uint8]:
    """8 bit: CT by one fixed window, anything else by its own 1st to 99th percentile."""
    if modality == "CT":
        level, width = CT_WINDOW
    else:
        low, high = np.percentile(values, [1, 99])
        level, width = (low + high) / 2, max(float(high - low), 1e-6)
    return window_uint8(values, level, width)


def _facts(shape: Iterable[int], grey: NDArray[np.uint8]) -> dict[str, float | str]:
    size = tuple(shape)
    low, high = np.percentile(grey, [1, 99])
    return {
        "height": size[-2],
        "width": size[-1],
        "grey_mean": round(float(grey.mean()), 3),
        "grey_sd": round(float(grey.std()), 3),
        "contrast": float(high - low),
    }


def _words(spacing: tuple[float, ...] | None) -> str:
    return "×".join(f"{s:.6g}" for s in spacing) if spacing else ""
