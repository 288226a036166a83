"""Who may write to an index: one command alone, or the parts of one command side by side. Readers need no lock.

.lock         held exclusively by a command that writes alone, shared by the parts of one command for as long as they work
.part-i-of-n  held by the process that does this part, so that nobody does it twice at a time
.gate         held for the moment of a change of the table
.shared.json  what the parts have in common, and which of them are done; gone when all are
The kernel frees what a killed process held.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from tacit.errors import OutputError, UsageError
from tacit.files import locked, opened_lock, storage_error, taken, write_atomic
from tacit.use.bucket import refuse_bucket
from tacit.use.index_settle import settle
from tacit.use.store import TABLE, About, Store, holds_table

GATE, SHARED_BY, BEGUN = ".gate", ".shared.json", "begun"
OWN = (f"{TABLE}.lance", ".lock", GATE, SHARED_BY, BEGUN, "log.txt", "failures.csv", "input")
OF_PARTS = (".part-", "failures-")  # what names of files of a part begin with
BUSY = "the index {} is being written by another process; wait for it"


@dataclass(frozen=True)
class Shared:
    """What the parts of one command have in common. work: a hash of the files and of how they are looked at."""

    about: About
    work: str
    parts: int
    done: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """One of the parts at work, inside `sharing`."""

    folder: Path
    number: int
    about: About  # as the first part to begin has it
    lock: IO[str]

    def finish(self, last: Callable[[], None]) -> None:
        """Says that this part is done. Where all are, and nobody works any more, `last` is done with the index alone, and the rest tidied away."""
        with locked(self.folder / GATE):
            held = _read(self.folder)
            if held is None:
                return
            held = replace(held, done=tuple(sorted({*held.done, self.number})))
            write_atomic(self.folder / SHARED_BY, json.dumps(asdict(held)))
            fcntl.flock(self.lock, fcntl.LOCK_UN)
            if len(held.done) == held.parts and taken(self.lock):
                last()
                _clear(self.folder)


def gate(folder: Path) -> contextlib.AbstractContextManager[None]:
    """One part at a time changes the table; the others wait."""
    return locked(folder / GATE)


@contextlib.contextmanager
def writing(folder: str | Path) -> Iterator[Path]:
    """Locks the index folder (made where it is not there) against other writers, and settles what parts that never ended have left. Raises OutputError."""
    place = _made(folder)
    with opened_lock(place / ".lock") as lock:
        if not taken(lock):
            raise OutputError(BUSY.format(place))
        if (place / SHARED_BY).exists():
            _settle(place)
        yield place


@contextlib.contextmanager
def sharing(folder: str | Path, mine: Shared, part: int) -> Iterator[Part]:
    """Joins the other parts of the same command, or begins with them. Raises OutputError where another command writes, UsageError where it is by another encoder."""
    place = _made(folder)
    with opened_lock(place / ".lock") as lock, opened_lock(place / f".part-{part}-of-{mine.parts}") as own:
        with locked(place / GATE):
            held = _read(place)
            if taken(lock):
                if held is None or _unlike(held, mine):
                    _settle(place)
                    held = mine
                    write_atomic(place / SHARED_BY, json.dumps(asdict(mine)))
            if not taken(lock, shared=True) or held is None:
                raise OutputError(BUSY.format(place))
            if told := _unlike(held, mine):
                raise told
            if not taken(own):
                raise OutputError(f"part {part}/{mine.parts} of this command is being done by another process; wait for it, or give another --shard")
            if holds_table(place) and (told := _other_vectors(Store.open(place).about, held.about, "the index was made meanwhile")):
                raise told
        yield Part(place, part, held.about, lock)


@contextlib.contextmanager
def helping(folder: Path) -> Iterator[None]:
    """A process that does a task for a part: as long as it works nobody writes alone, also when the part itself was killed. Raises OutputError."""
    with opened_lock(folder / ".lock") as lock:
        if not taken(lock, shared=True):
            raise OutputError(BUSY.format(folder))
        yield


def _unlike(held: Shared, mine: Shared) -> UsageError | None:
    """Why a command may not join the parts that are at work."""
    if told := _other_vectors(held.about, mine.about, "another command is writing to the index"):
        return told
    if (held.work, held.parts) != (mine.work, mine.parts):
        return OutputError("parts of another command (other files, options or number of parts) are writing to the index; wait for them")
    return None


def _other_vectors(held: About, mine: About, what: str) -> UsageError | None:
    """Why vectors of two makers may not lie in one table."""
    known, asked = ({**asdict(about), "normalisation": about.normalisation["name"]} for about in (held, mine))
    for name in ("weights_hash", "preprocessing_hash", "tile_um", "precision", "normalisation"):
        if known[name] != asked[name]:
            return UsageError(
                f"{what} by {held.encoder} ({name.replace('_', ' ')} {known[name]}), asked for is {mine.encoder} ({asked[name]}); "
                "their vectors cannot be compared: use the same encoder and options, or make another index"
            )
    return None


def _settle(place: Path) -> None:
    """What parts that never ended have written stays, with row_ids as if one process had."""
    if holds_table(place):
        settle(Store.open(place))
    _clear(place)


def _clear(place: Path) -> None:
    try:
        shutil.rmtree(place / BEGUN, ignore_errors=True)
        (place / SHARED_BY).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(place, error) from error


def _read(place: Path) -> Shared | None:
    try:
        told = json.loads((place / SHARED_BY).read_text(encoding="utf-8"))
        return Shared(About(**told["about"]), told["work"], told["parts"], tuple(told["done"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made(folder: str | Path) -> Path:
    """The folder, which may hold nothing but an index."""
    refuse_bucket(folder)
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise OutputError(f"the index {place} is a file; give a folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
        foreign = sorted(p.name for p in place.iterdir() if not _own(p.name))
    except OSError as error:
        raise storage_error(place, error) from error
    if foreign and not (place / f"{TABLE}.lance").is_dir():
        raise OutputError(f"{place} holds {foreign[0]} and is no index of Tacit; give an empty or new folder, or an index to append to")
    return place


def _own(name: str) -> bool:
    """Whether Tacit wrote it; `.….part` is what another process is just writing, or was when it was killed (`write_atomic`)."""
    return name in OWN or name.startswith(OF_PARTS) or (name.startswith(".") and name.endswith(".part"))
