"""One command of `tacit index` whose files are shared out: to processes of this machine, to parts on many, to Ray.

join the other parts → tasks of files in a fixed order (index_task.py) → an engine (engines.py) → the last part to end settles row_ids and joins pieces.
The rows are those of one process, with the same row_ids, whoever wrote them and when.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tacit.errors import ReadError
from tacit.report.track import Bar
from tacit.use.engines import Asked, Lost, shared_out
from tacit.use.index_append import fill, had_of, none_indexed, say, unspaced_warning, write_failures
from tacit.use.index_items import Cut, Item
from tacit.use.index_lock import Part, Shared, gate, sharing
from tacit.use.index_settle import settle
from tacit.use.index_task import By, IndexTask, Outcome, index_files, tasks_of
from tacit.use.store import SHARED, About, Store, holds_table


@dataclass
class Done:
    """What this part came to."""

    in_index: int = 0  # rows
    rows: int = 0
    count: dict[str, int] = field(default_factory=lambda: {"added": 0, "there": 0, "replaced": 0, "filled": 0})
    failures: list[tuple[object, str, str]] = field(default_factory=list)
    unspaced: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sharing:
    """How files are looked at, and by whom."""

    by: By
    cut: Cut
    mpp: float | None
    commit_rows: int
    asked: Asked
    part: tuple[int, int] | None  # which, of how many; None: all


def index_shared(place: Path, items: list[Item], problems: list[ReadError], about: About, how: Sharing, last: Callable[[Store], None]) -> Done:
    """Appends this part of the items. last: what is done with the whole index when all parts are done. Raises TacitError, and KeyboardInterrupt when all
    that was begun is written."""
    number, parts = how.part or (0, 1)
    done = Done(failures=[(e.path, e.reason, e.remedy) for e in problems] if number == 0 else [])
    with sharing(place, Shared(about, _hash(items, how.mpp), parts), number) as joined:
        tasks = _tasks(items, joined, parts, how)
        total, at = sum(len(t.items) for t in tasks), 0
        say(place, f"part {number}/{parts}: {total} files in {len(tasks)} tasks")
        fills: dict[str, Any] = {}
        with Bar("indexing") as bar, contextlib.closing(shared_out(index_files, tasks, how.asked, how.by.device)) as results:
            for task, outcome in results:
                _collect(done, fills, task, outcome)
                at += len(task.items)
                bar.advance(at, total)
        if fills:
            with gate(place):
                fill(Store.open(place), fills)
            done.count["filled"] = len(fills)
        write_failures(failures_file(place, how.part), done.failures)
        say(place, f"part {number}/{parts}: " + ", ".join(f"{n} {what}" for what, n in done.count.items()) + f", {len(done.failures)} failed")
        joined.finish(lambda: _end(place, last))
    if not holds_table(place) and tasks:
        raise none_indexed(total, done.failures)
    done.in_index = len(Store.open(place)) if holds_table(place) else 0
    done.warnings = unspaced_warning(done.unspaced, how.cut)
    return done


def failures_file(place: Path, part: tuple[int, int] | None = None) -> Path:
    """Where failures of a part are listed."""
    return place / (f"failures-{part[0]}-of-{part[1]}.csv" if part else "failures.csv")


def _tasks(items: list[Item], joined: Part, parts: int, how: Sharing) -> list[IndexTask]:
    """This part's tasks. Rows of an earlier attempt at the same command are found by each task itself."""
    place = joined.folder
    mine = [(k, some) for k, some in enumerate(tasks_of(items, parts)) if k % parts == joined.number]
    had = had_of(Store.open(place) if holds_table(place) else None, [i for _, some in mine for i in some], f"row_id < {SHARED}")
    return [
        IndexTask(
            k, some, {p: had[p] for i in some if (p := str(i.path)) in had}, str(place.absolute()), joined.about, how.by, how.cut, how.mpp, how.commit_rows
        )
        for k, some in mine
    ]


def _collect(done: Done, fills: dict[str, Any], task: IndexTask, outcome: Outcome | Lost) -> None:
    if isinstance(outcome, Lost):
        remedy = "use fewer --workers, then repeat the command; what was written stays"
        done.failures += [(str(i.path), outcome.reason, remedy) for i in task.items]
        return
    if outcome.error is not None:
        raise outcome.error
    for what, n in outcome.count.items():
        done.count[what] += n
    done.rows += outcome.rows
    done.unspaced += outcome.unspaced
    done.failures += outcome.failures
    fills |= outcome.fills


def _end(place: Path, last: Callable[[Store], None]) -> None:
    if holds_table(place):
        store = Store.open(place)
        settle(store)
        last(store)


def _hash(items: list[Item], mpp: float | None) -> str:
    """Of the files, what is known of them and the spacing, so that only parts of one command work side by side."""
    told = json.dumps([mpp, [[str(i.path), i.mpp, i.facts] for i in items]], sort_keys=True, default=str)
    return sha256(told.encode()).hexdigest()
