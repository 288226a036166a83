"""Slices → series: grouped by UID and geometry, ordered by position along the slice normal, with what is wrong counted.

Instance numbers are compared with the order by position, never trusted.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.read.dicom import Slice

SAME_MM = 0.02  # positions nearer than this are one position
UNEVEN = 0.05  # share of the slice spacing by which gaps may differ
HOLE = 1.5  # a gap wider than this many slice spacings has slices missing
TURN = 5e-3  # direction cosines nearer than this are one orientation
SAME_SPACING = 1e-3  # mm by which pixel spacings of one series may differ


@dataclass(frozen=True)
class Defects:
    """What is wrong with a series, counted in slices."""

    missing: int = 0
    duplicate: int = 0
    foreign: int = 0
    shuffled: int = 0
    spacing_uneven: bool = False
    tilt_deg: float = 0.0
    mixed_orientations: bool = False

    @property
    def words(self) -> str:
        """The defects in words, "" where there are none."""
        counted = [f"{n} {what}" for what in ("missing", "duplicate", "foreign", "shuffled") if (n := getattr(self, what))]
        counted += ["uneven spacing"] if self.spacing_uneven else []
        counted += [f"gantry tilt {self.tilt_deg:.1f}°"] if self.tilt_deg else []
        counted += ["mixed orientations"] if self.mixed_orientations else []
        return ", ".join(counted)


@dataclass(frozen=True)
class Series:
    """Slices of one series in order along their normal, what was left out of it and why, and its defects."""

    uid: str
    patient: str
    slices: tuple[Slice, ...]
    spacing_mm: float | None  # median distance of neighbouring slices
    left_out: tuple[tuple[Slice, str], ...] = ()
    misplaced: tuple[Slice, ...] = ()  # slices whose number disagrees with their position
    defects: Defects = field(default_factory=Defects)

    @property
    def located(self) -> bool:
        """Whether every slice states where it lies."""
        return all(s.position is not None and s.orientation is not None for s in self.slices)

    @property
    def offsets(self) -> NDArray[np.float64]:
        """Position of each slice along the normal, mm; counts from 0 where positions are unknown."""
        if not self.located:
            return np.arange(len(self.slices), dtype=float)
        normal = self.slices[0].normal
        return np.array([normal @ np.asarray(s.position) for s in self.slices])


def find_series(slices: list[Slice]) -> list[Series]:
    """The series among slices of any origin, the largest first. Raises InputError where there are none."""
    if not slices:
        raise InputError("no DICOM images were found")
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(one.series or str(one.path.parent), []).append(one)
    return sorted((_series(uid, group) for uid, group in groups.items()), key=lambda s: -len(s.slices))


def _series(uid: str, group: list[Slice]) -> Series:
    out: list[tuple[Slice, str]] = [(s, "foreign: a localiser") for s in group if s.localiser and not all(g.localiser for g in group)]
    rest = [s for s in group if s not in {o for o, _ in out}] if out else group
    main, others = _majority(rest)
    out += [(s, why) for s, why in others]
    mixed = any("orientation" in why for _, why in others)
    if not all(s.position is not None and s.orientation is not None for s in main):
        ordered = sorted(main, key=lambda s: (s.number is None, s.number or 0, s.path.name, s.frame))
        return Series(uid, main[0].patient, tuple(ordered), None, tuple(out), (), Defects(foreign=len(out), mixed_orientations=mixed))
    normal = main[0].normal
    along = sorted(main, key=lambda s: (float(normal @ np.asarray(s.position)), s.number or 0, s.path.name))
    ordered, twice = _once(along, normal)
    out += [(s, "duplicate: another slice lies at the same position") for s in twice]
    places = np.array([normal @ np.asarray(s.position) for s in ordered])
    gaps = np.diff(places)
    step = _step(gaps)
    astray = out_of_order([s.number for s in ordered])
    defects = Defects(
        missing=int(sum(max(round(g / step) - 1, 0) for g in gaps if g > HOLE * step)) if step else 0,
        duplicate=len(twice),
        foreign=sum(why.startswith("foreign") for _, why in out),
        shuffled=len(astray),
        spacing_uneven=bool(step and (np.abs(gaps / step - np.maximum(np.round(gaps / step), 1)) > UNEVEN).any()),
        tilt_deg=_tilt(ordered),
        mixed_orientations=mixed,
    )
    return Series(uid, ordered[0].patient, tuple(ordered), step, tuple(out), tuple(ordered[i] for i in astray), defects)


def _majority(group: list[Slice]) -> tuple[list[Slice], list[tuple[Slice, str]]]:
    """The slices that share the commonest patient, size, orientation and pixel spacing; the others with what differs."""
    looks: tuple[tuple[str, Callable[[Slice], Any], float], ...] = (
        ("another patient than", lambda s: s.patient, 0),
        ("another size than", lambda s: s.shape, 0),
        ("another orientation than", lambda s: s.orientation, TURN),
        ("another pixel spacing than", lambda s: s.spacing, SAME_SPACING),
        ("it states its position unlike", lambda s: s.position is not None, 0),
    )
    others: list[tuple[Slice, str]] = []
    for what, look, within in looks:
        kinds = _kinds([look(s) for s in group], within)
        common = Counter(kinds).most_common(1)[0][0]
        others += [(s, f"foreign: {what} most of its series") for s, kind in zip(group, kinds, strict=True) if kind != common]
        group = [s for s, kind in zip(group, kinds, strict=True) if kind == common]
    return group, others


def _kinds(values: list[Any], within: float) -> list[int]:
    """A number a value, the same for equal ones and for vectors that differ from the first of their kind by at most `within`."""
    firsts: list[Any] = []
    kinds = []
    for value in values:
        near = (k for k, one in enumerate(firsts) if one == value or (within and one and value and np.abs(np.subtract(one, value)).max() <= within))
        kind = next(near, len(firsts))
        firsts += [value] if kind == len(firsts) else []
        kinds.append(kind)
    return kinds


def _once(along: list[Slice], normal: NDArray[np.float64]) -> tuple[list[Slice], list[Slice]]:
    """Slices at distinct positions, and those that repeat one."""
    kept: list[Slice] = []
    twice: list[Slice] = []
    for one in along:
        here = float(normal @ np.asarray(one.position))
        if kept and abs(here - float(normal @ np.asarray(kept[-1].position))) < SAME_MM:
            twice.append(one)
        else:
            kept.append(one)
    return kept, twice


def _step(gaps: NDArray[np.float64]) -> float | None:
    """The spacing: median of the gaps, or the smallest common one where holes are many."""
    if not len(gaps):
        return None
    low = float(np.median(gaps[gaps <= np.median(gaps) * (1 + UNEVEN)]))
    return low if low > 0 else None


def out_of_order(numbers: list[int | None]) -> list[int]:
    """Indices of the fewest items to take away so that the numbers rise, or fall, throughout. Unknown numbers are passed over.

    >>> out_of_order([5, 4, 9, 3, 2])
    [2]
    """
    known = [(i, n) for i, n in enumerate(numbers) if n is not None]
    rising = _longest_rise([n for _, n in known])
    falling = _longest_rise([-n for _, n in known])
    kept = {known[k][0] for k in (rising if len(rising) >= len(falling) else falling)}
    return [i for i, _ in known if i not in kept]


def _longest_rise(numbers: list[int]) -> list[int]:
    """Indices of a longest strictly rising subsequence (patience sorting)."""
    tops: list[int] = []
    at: list[int] = []
    before: list[int] = []
    for i, number in enumerate(numbers):
        k = bisect.bisect_left(tops, number)
        tops[k : k + 1] = [number]
        at[k : k + 1] = [i]
        before.append(at[k - 1] if k else -1)
    chain, i = [], at[-1] if at else -1
    while i >= 0:
        chain.append(i)
        i = before[i]
    return chain[::-1]


def _tilt(ordered: list[Slice]) -> float:
    """Degrees between the slices' normal and the line through their corners; 0 below .1°."""
    if len(ordered) < 2:
        return 0.0
    line = np.asarray(ordered[-1].position, float) - np.asarray(ordered[0].position, float)
    length = float(np.linalg.norm(line))
    if length < SAME_MM:
        return 0.0
    normal = ordered[0].normal
    angle = float(np.degrees(np.arctan2(np.linalg.norm(np.cross(normal, line)), abs(normal @ line))))  # arccos is blind near 0
    return round(angle, 2) if angle >= 0.1 else 0.0
