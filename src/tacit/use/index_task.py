"""A few files of an index's input, from the files to rows of the table: what each of several processes does, here, in a shard or under Ray.

Its row_ids begin at a number that the task alone has, so no two processes give the same; a task that is begun anew after a kill sees what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from tacit.errors import ReadError, TacitError, UsageError
from tacit.files import locked
from tacit.read.facts import Facts
from tacit.read.slide import is_slide
from tacit.use.device import prepare_device
from tacit.use.encoder import Encoder, find_encoder
from tacit.use.index_append import Append, Known, groups_of, had_of
from tacit.use.index_items import Cut, Item
from tacit.use.index_lock import BEGUN, helping
from tacit.use.store import OF_TASK, SHARED, About, Store, holds_table

MOST, LEAST_TASKS = 16, 32  # groups of pictures in a task; tasks of a part, where there are enough pictures


@dataclass(frozen=True)
class By:
    """How an encoder is found again by another process."""

    encoder: str
    model: str | None
    weights: str | None
    device: str
    threads: int


@dataclass(frozen=True)
class IndexTask:
    """Plain values, so that it can be sent to another process."""

    number: int  # among all tasks of the command, whoever does them
    items: tuple[Item, ...]
    had: Known  # what the table held of them before the command began
    folder: str
    about: About
    by: By
    how: Cut
    mpp: float | None
    commit_rows: int

    @property
    def first_id(self) -> int:
        return SHARED + (self.number << OF_TASK)


@dataclass(frozen=True)
class Outcome:
    """What came of a task. error: what stops the others too, such as a full disk."""

    count: dict[str, int] = field(default_factory=dict)  # added, there, replaced
    rows: int = 0
    failures: tuple[tuple[object, str, str], ...] = ()
    fills: dict[str, Facts] = field(default_factory=dict)
    unspaced: int = 0
    error: TacitError | None = None


def tasks_of(items: Sequence[Item], parts: int) -> list[tuple[Item, ...]]:
    """The items in their order, a slide alone, pictures in groups that are encoded together; the same for every part, whoever asks."""
    groups = groups_of(items)
    most = min(max(len(groups) // (LEAST_TASKS * parts), 1), MOST)
    found: list[list[Item]] = []
    room = 0
    for group in groups:
        slide = is_slide(group[0].path)
        if room == 0 or slide:
            found.append([])
            room = most
        found[-1] += group
        room = 0 if slide else room - 1
    return [tuple(one) for one in found]


def index_files(task: IndexTask) -> Outcome:
    """Writes what is missing of a task's files. What is wrong with one of them is a failure, so that the others go on."""
    folder = Path(task.folder)
    try:
        with helping(folder), locked(folder / BEGUN / f"{task.number}.lock"):  # whoever began it before and is cut off has ended when this is free
            store = Store.open(folder) if holds_table(folder) else None
            mine = f"row_id >= {task.first_id} AND row_id < {task.first_id + (1 << OF_TASK)}"
            begun = int(store.ids(mine).max(initial=task.first_id - 1)) + 1 if store else task.first_id
            had = _joined(task.had, had_of(store, task.items, mine)) if begun > task.first_id else task.had
            encoder = _encoder(task.by, task.about.weights_hash, task.about.preprocessing_hash)
            append = Append(folder, store, task.about, encoder, task.how, task.commit_rows, [], next_id=begun)
            fills = append.take(task.items, task.mpp, had, lambda number: None)
    except ReadError as error:
        return Outcome(failures=((error.path, error.reason, error.remedy),))
    except TacitError as error:
        return Outcome(error=error)
    return Outcome(append.count, append.written, tuple(append.failures), fills, append.unspaced)


@lru_cache(maxsize=1)
def _encoder(by: By, weights_hash: str, preprocessing_hash: str) -> Encoder:
    """The encoder, kept for the next task of this process. Raises UsageError where another one is found here than where the command began."""
    found = find_encoder(by.encoder, model=by.model, weights=by.weights, device=prepare_device(by.device, by.threads))
    if (found.weights_hash, found.preprocessing_hash) != (weights_hash, preprocessing_hash):
        raise UsageError(
            f"this process finds {found.name} {found.weights_hash}, the index is made by {weights_hash}; install the same Tacit and weights on all machines"
        )
    return found


def _joined(one: Known, two: Known) -> Known:
    """What the table holds, from two looks at different rows of it."""
    found: Known = {path: dict(contents) for path, contents in one.items()}
    for path, contents in two.items():
        for digest, had in contents.items():
            mine = found.setdefault(path, {})
            rows = had.rows + (mine[digest].rows if digest in mine else 0)
            mine[digest] = type(had)(had.tiles, had.facts, rows)
    return found
