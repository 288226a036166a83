"""What a tracker is: something beside metrics.csv that keeps how a run went. One file a tracker, its package imported only when it is asked for.

Begun once, sent points of curves while a run learns, and finished once with what the run came to. A tracker whose store lies in OUT is `local`:
it may be begun again, and then its store is empty. One whose store lies elsewhere says which points it has. Pixels leave this machine with
none of them: what goes elsewhere are numbers, settings, hashes and the model, plots, and tables that name no case.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PLOTS = ("worth", "tuning", "gate")  # figures/ that are drawn from numbers alone
CASE_COLUMNS = ("case", "image", "name", "file", "path", "slide", "volume", "patient")
PROJECT = "tacit"


@dataclass(frozen=True)
class Point:
    """A value of metrics.csv. place: of its stage and step among those of the file, from 0, in order of writing."""

    place: int
    curve: str  # stage/name
    step: int
    value: float


@dataclass(frozen=True)
class About:
    """What is known when a run begins."""

    key: str  # the same for a run that is resumed
    verb: str
    command: str
    settings: dict[str, Any]
    facts: dict[str, Any]  # versions, machine


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    status: str  # "finished", or how it stopped
    figures: dict[str, float] = field(default_factory=dict)  # numbers of run.json: final/…
    folder: Path = Path()  # with tables/, figures/, report.html
    data: str = ""  # fingerprint of what was read
    hashes: tuple[str, ...] = ()  # of every file that was read, sorted, without names
    model: Path | None = None

    def tables(self, local: bool) -> list[Path]:
        """tables/*.csv; those that name cases stay here."""
        return [p for p in sorted((self.folder / "tables").glob("*.csv")) if local or not _names_cases(p)]

    def pictures(self, local: bool) -> list[Path]:
        """figures/; pictures of the data stay here."""
        found = sorted(p for p in (self.folder / "figures").glob("*") if p.suffix in (".png", ".jpg"))
        return [p for p in found if local or p.stem in PLOTS]

    def pages(self, local: bool) -> list[Path]:
        """report.html, which shows the data and so stays here."""
        return [p for p in [self.folder / "report.html"] if local and p.is_file()]


class Tracker(Protocol):
    """Made with the folder that is its own and what is known of the run; touches neither disk nor package before `begin`."""

    local: bool

    def begin(self) -> None:
        """Opens the store; a local one anew."""

    def has(self, point: Point) -> bool:
        """Whether the store had this point before this sitting."""

    def send(self, points: list[Point]) -> None:
        """Keeps points, which come in order and only once."""

    def finish(self, outcome: Outcome) -> None:
        """Keeps what the run came to and closes the store."""


def curve_name(stage: str, name: str) -> str:
    """The name of a curve, the same for every tracker: letters, digits, and the signs that all of them take.

    >>> curve_name("byol", "pair accuracy (uses labels)")
    'byol/pair_accuracy_uses_labels'
    """
    return re.sub(r"[^\w./-]+", "_", f"{stage}/{name}", flags=re.ASCII).strip("_")


def _names_cases(table: Path) -> bool:
    with table.open(encoding="utf-8", newline="") as file:
        return bool(set(next(csv.reader(file), [])) & set(CASE_COLUMNS))
