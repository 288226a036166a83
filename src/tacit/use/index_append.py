"""One append to an index: files in, rows out, in pieces that are on the disk before anybody is told so."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tacit.errors import InputError, ReadError
from tacit.files import sha256, sha256_of_ends, storage_error, write_atomic
from tacit.interrupt import HeldInterrupt
from tacit.read.facts import Facts
from tacit.read.slide import is_slide
from tacit.report.track import Bar
from tacit.run import as_csv
from tacit.use.encoder import Encoder
from tacit.use.index_items import Cut, Item, Look, looks_of
from tacit.use.index_lock import gate
from tacit.use.store import About, Store, holds_table, quoted, vectors_of

AT_ONCE, AT_ONCE_PX = 32, 8_000_000  # looks, and pixels of them, that are encoded together
COMMIT_ROWS, COMMIT_SECONDS = 512, 10.0  # rows are written when so many wait, or after so long
UNSPACED = "{} pictures state no spacing and were taken as they are, others at {:g} µm per px; give it with --mpp, or compare them only with their like"


@dataclass(frozen=True)
class Ready:
    """A look on its way into the table: its file, the file's hash, how many rows the file will have, the look."""

    item: Item
    digest: str
    tiles: int
    look: Look


@dataclass
class Had:
    """What the table holds of one content of a path."""

    tiles: int
    facts: Facts
    rows: int = 0


@dataclass
class Append:
    """`run` once where this process writes alone; else `take` for one task of many. count: files added, there (unchanged), replaced (new content at a
    known path), filled (known, with new facts)."""

    place: Path
    store: Store | None  # None until the first rows of a new index are written
    about: About
    encoder: Encoder
    how: Cut
    commit_rows: int
    failures: list[tuple[object, str, str]]
    count: dict[str, int] = field(default_factory=lambda: {"added": 0, "there": 0, "replaced": 0, "filled": 0})
    written: int = 0  # rows
    next_id: int | None = None  # of the next row where others write too; None: this process writes alone and counts up
    unspaced: int = 0  # pictures that state no spacing
    interrupt: HeldInterrupt = field(default_factory=HeldInterrupt)
    _looks: list[Ready] = field(default_factory=list)
    _rows: list[tuple[Ready, Any]] = field(default_factory=list)  # with the vector
    _stale: dict[str, str] = field(default_factory=dict)  # path → its hash now, where rows of another content are left
    _committed: float = field(default_factory=time.monotonic)

    @property
    def warnings(self) -> tuple[str, ...]:
        return unspaced_warning(self.unspaced, self.how)

    def run(self, items: list[Item], mpp: float | None) -> Store:
        """Appends the items. Raises InputError where none could be, KeyboardInterrupt after what was begun is written."""
        with Bar("indexing") as bar, self.interrupt:
            fills = self.take(items, mpp, had_of(self.store, items), lambda number: bar.advance(number, len(items)))
            if fills and self.store is not None:
                fill(self.store, fills)
                self.count["filled"] = len(fills)
            write_failures(self.place / "failures.csv", self.failures)
            if self.interrupt.asked:
                raise KeyboardInterrupt
        if self.store is None:
            raise none_indexed(len(items), self.failures)
        say(self.place, ", ".join(f"{n} {what}" for what, n in self.count.items()) + f", {len(self.failures)} failed")
        return self.store

    def take(self, items: Sequence[Item], mpp: float | None, had: Known, advance: Callable[[int], None]) -> dict[str, Facts]:
        """Writes what is missing of the items. Gives, by path, all facts of files that were there and are known better now."""
        fills, number = {}, 0
        for group in groups_of(items):
            for item in group:
                advance(number)
                number += 1
                if self.interrupt.asked:
                    break
                mine = had.get(str(item.path), {})
                kind = self._take(item, mpp, mine)
                if kind:
                    self.count[kind] += 1
                told: Facts = {k: v for k, v in item.facts.items() if v is not None}
                if kind == "there" and any(one.facts.get(k) != v for one in mine.values() for k, v in told.items()):
                    fills[str(item.path)] = next(iter(mine.values())).facts | told
            self._encode()
        self._commit()
        return fills

    def _take(self, item: Item, mpp: float | None, had: dict[str, Had]) -> str:
        """Takes one file up. Gives what became of it: added, there, replaced, or "" where it failed."""
        path = str(item.path)
        try:
            digest = sha256_of_ends(item.path) if item.whole else sha256(item.path)
        except OSError as error:
            self._fail(ReadError(path, f"it cannot be read ({error.strerror or error})", "check that the file is there and may be read"))
            return ""
        if had.keys() - {digest}:
            self._stale[path] = digest
        mine = had.get(digest)
        if mine is not None and mine.rows >= mine.tiles:
            return "there"
        missed: list[ReadError] = []
        try:
            total, looks = looks_of(item, mpp, self.how, self._places(path, digest) if mine else frozenset())
            for look in looks:
                if self.interrupt.asked:
                    return ""
                if isinstance(look, ReadError):
                    missed.append(look)
                    continue
                self._looks.append(Ready(item, digest, total, look))
                if len(self._looks) >= min(AT_ONCE, self.commit_rows) or sum(r.look.image.pixels.size // 3 for r in self._looks) >= AT_ONCE_PX:
                    self._encode()
        except ReadError as error:
            self._fail(error)
            return ""
        if missed:
            self._fail(
                ReadError(path, f"{len(missed)} of its {total} tiles cannot be decoded ({missed[0].reason})", "copy the slide again; the others are indexed")
            )
        return "replaced" if path in self._stale else "added"

    def _places(self, path: str, digest: str) -> frozenset[tuple[int, int]]:
        """Rows and columns of the tiles that are there already."""
        if self.store is None:
            return frozenset()
        table = self.store.read(["row", "col"], f"path = {quoted(path)} AND sha256 = {quoted(digest)}")
        return frozenset(zip(table["row"].to_pylist(), table["col"].to_pylist(), strict=True))

    def _encode(self) -> None:
        """Vectors of the looks that wait; one look that cannot be encoded does not take the others with it."""
        if not self._looks:
            return
        looks, self._looks = self._looks, []
        try:
            vectors = self.encoder.features([r.look.image for r in looks])
        except (MemoryError, cv2.error) as error:
            if len(looks) == 1:
                self._fail(ReadError(looks[0].item.path, f"it is too large for this machine's memory ({type(error).__name__})", "cut it into tiles"))
                return
            for one in looks:
                self._looks = [one]
                self._encode()
            return
        for ready, vector in zip(looks, self.about.normalised(vectors), strict=True):
            if np.isfinite(vector).all():
                self.unspaced += ready.look.mpp is None
                self._rows.append((ready, vector))
            else:
                remedy = "look at the picture; numbers too large for fp16 need an index with --precision fp32"
                self._fail(ReadError(ready.item.path, "its vector has numbers that are not finite", remedy))
        if len(self._rows) >= self.commit_rows or time.monotonic() - self._committed > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        """Writes the rows that wait; only then is it said, and only then go those that they replace."""
        if self._rows:
            with self._turn() as store:
                store.add(_as_table(self._rows, self.about), self.next_id)
                self.written += len(self._rows)
                if self.next_id is not None:
                    self.next_id += len(self._rows)
                say(self.place, f"written: {len(self._rows)} rows, {self.written} by this {'command' if self.next_id is None else 'task'}")
                for path in {str(ready.item.path) for ready, _ in self._rows} & self._stale.keys():
                    store.delete(f"path = {quoted(path)} AND sha256 <> {quoted(self._stale.pop(path))}")
            self._rows = []
        self._committed = time.monotonic()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[Store]:
        """The table as it is now, made where there is none, while nobody else changes it."""
        with contextlib.nullcontext() if self.next_id is None else gate(self.place):
            if self.store is None:
                there = self.next_id is not None and holds_table(self.place)
                self.store = Store.open(self.place) if there else Store.create(self.place, self.about)
            elif self.next_id is not None:
                self.store.refresh()
            yield self.store

    def _fail(self, error: ReadError) -> None:
        self.failures.append((str(error.path), error.reason, error.remedy))


Known = dict[str, dict[str, Had]]  # path → hash → what the table holds of it


def groups_of(items: Sequence[Item]) -> list[list[Item]]:
    """Items that are encoded together: a slide alone, else at most AT_ONCE pictures in a row.

    A network's numbers differ in their last digit with the size of a batch, so batches end where they end for every process that shares the work.
    """
    found: list[list[Item]] = []
    room = 0
    for item in items:
        if room == 0 or is_slide(item.path):
            found.append([])
            room = AT_ONCE
        found[-1].append(item)
        room = 0 if is_slide(item.path) else room - 1
    return found


def had_of(store: Store | None, items: Sequence[Item], where: str | None = None) -> Known:
    """What the table holds of the paths of the items, and only of those; of its rows for which `where` is true."""
    found: Known = {}
    if store is None:
        return found
    paths = pa.array([str(i.path) for i in items])
    named = sorted({name for i in items for name in i.facts} & store.columns.keys())
    for batch in store.scan(["path", "sha256", "tiles", *named], where):
        for row in batch.filter(pc.is_in(batch.column("path"), paths)).to_pylist():
            had = found.setdefault(row["path"], {}).setdefault(row["sha256"], Had(row["tiles"], {n: row[n] for n in named}))
            had.rows += 1
    return found


def fill(store: Store, fills: dict[str, Facts]) -> None:
    """Writes facts of files whose rows are there, by path."""
    store.fill(_columns({"path": list(fills)}, list(fills.values())))


def unspaced_warning(unspaced: int, how: Cut) -> tuple[str, ...]:
    """What is to be said of pictures without a spacing."""
    return (UNSPACED.format(unspaced, how.picture_um),) if unspaced and how.picture_um else ()


def none_indexed(items: int, failures: Sequence[tuple[object, str, str]]) -> InputError:
    """No row came of any file."""
    return InputError(f"none of the {items or 'listed'} images could be indexed; the first: {failures[0][0]}: {failures[0][1]}")


def write_failures(place: Path, failures: Sequence[tuple[object, str, str]]) -> None:
    """failures.csv."""
    write_atomic(place, as_csv(("file", "reason", "remedy"), list(failures)))


def say(place: Path, line: str) -> None:
    """A line of the index's log."""
    try:
        with (place / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')}  {line}\n")
    except OSError as error:
        raise storage_error(place / "log.txt", error) from error


def _as_table(rows: list[tuple[Ready, Any]], about: About) -> pa.Table:
    """Rows as the table takes them, without row_id."""
    vectors = np.stack([vector for _, vector in rows])
    table = {
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vectors_of(about)),
        "path": pa.array([str(r.item.path) for r, _ in rows]),
        "sha256": pa.array([r.digest for r, _ in rows]),
        "slide": pa.array([r.item.facts.get("slide") or (r.item.path.stem if r.look.place else None) for r, _ in rows], pa.string()),
        **{name: pa.array([r.look.place[i] if r.look.place else None for r, _ in rows], pa.int64()) for i, name in enumerate(("row", "col", "side_px"))},
        "tiles": pa.array([r.tiles for r, _ in rows], pa.int64()),
        "mpp": pa.array([r.look.mpp for r, _ in rows], pa.float64()),
    }
    return _columns(table, [{k: v for k, v in r.item.facts.items() if k != "slide"} for r, _ in rows])


def _columns(first: dict[str, Any], facts: list[Facts]) -> pa.Table:
    """A table of the columns `first` and one more for each fact; a fact that nobody knows makes no column."""
    known = [n for n in dict.fromkeys(n for f in facts for n in f) if any(f.get(n) is not None for f in facts)]
    more = {}
    for name in known:
        values = [f.get(name) for f in facts]
        text = any(isinstance(v, str) for v in values)
        more[name] = pa.array([v if v is None or not text else str(v) for v in values], pa.string() if text else pa.float64())
    return pa.table(first | more)
