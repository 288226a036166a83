"""One append to an index: files in, rows out, in pieces that are on the disk before anybody is told so."""

from __future__ import annotations

import time
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
from tacit.report.track import Bar
from tacit.run import as_csv
from tacit.use.encoder import Encoder
from tacit.use.index_items import Cut, Item, Look, looks_of
from tacit.use.store import About, Store, quoted, vectors_of

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
    """`run` once. count: files added, there (unchanged), replaced (new content at a known path), filled (known, with new facts)."""

    place: Path
    store: Store | None  # None until the first rows of a new index are written
    about: About
    encoder: Encoder
    how: Cut
    commit_rows: int
    failures: list[tuple[object, str, str]]
    count: dict[str, int] = field(default_factory=lambda: {"added": 0, "there": 0, "replaced": 0, "filled": 0})
    written: int = 0  # rows
    warnings: tuple[str, ...] = ()
    _looks: list[Ready] = field(default_factory=list)
    _rows: list[tuple[Ready, Any]] = field(default_factory=list)  # with the vector
    _stale: dict[str, str] = field(default_factory=dict)  # path → its hash now, where rows of another content are left
    _unspaced: int = 0
    _committed: float = field(default_factory=time.monotonic)

    def run(self, items: list[Item], mpp: float | None) -> Store:
        """Appends the items. Raises InputError where none could be, KeyboardInterrupt after what was begun is written."""
        had, fills = _had(self.store, items), {}
        with Bar("indexing") as bar, HeldInterrupt() as interrupt:
            for number, item in enumerate(items):
                bar.advance(number, len(items))
                if interrupt.asked:
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
            if fills and self.store is not None:
                self.store.fill(_columns({"path": list(fills)}, list(fills.values())))
                self.count["filled"] = len(fills)
            write_atomic(self.place / "failures.csv", as_csv(("file", "reason", "remedy"), self.failures))
            if interrupt.asked:
                raise KeyboardInterrupt("repeat the command to go on")
        if self.store is None:
            raise InputError(f"none of the {len(items) or 'listed'} images could be indexed; the first: {self.failures[0][0]}: {self.failures[0][1]}")
        if self._unspaced and self.how.picture_um:
            self.warnings = (UNSPACED.format(self._unspaced, self.how.picture_um),)
        self._say(", ".join(f"{n} {what}" for what, n in self.count.items()) + f", {len(self.failures)} failed")
        return self.store

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
                self._unspaced += ready.look.mpp is None
                self._rows.append((ready, vector))
            else:
                remedy = "look at the picture; numbers too large for fp16 need an index with --precision fp32"
                self._fail(ReadError(ready.item.path, "its vector has numbers that are not finite", remedy))
        if len(self._rows) >= self.commit_rows or time.monotonic() - self._committed > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        """Writes the rows that wait; only then is it said, and only then go those that they replace."""
        if self._rows:
            if self.store is None:
                self.store = Store.create(self.place, self.about)
            self.store.add(_as_table(self._rows, self.about))
            self.written += len(self._rows)
            self._say(f"written: {len(self._rows)} rows, {self.written} by this command")
            for path in {str(ready.item.path) for ready, _ in self._rows} & self._stale.keys():
                self.store.delete(f"path = {quoted(path)} AND sha256 <> {quoted(self._stale.pop(path))}")
            self._rows = []
        self._committed = time.monotonic()

    def _fail(self, error: ReadError) -> None:
        self.failures.append((str(error.path), error.reason, error.remedy))

    def _say(self, line: str) -> None:
        try:
            with (self.place / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')}  {line}\n")
        except OSError as error:
            raise storage_error(self.place / "log.txt", error) from error


def _had(store: Store | None, items: list[Item]) -> dict[str, dict[str, Had]]:
    """path → hash → what the table holds of it, for the paths of the items alone."""
    found: dict[str, dict[str, Had]] = {}
    if store is None:
        return found
    paths = pa.array([str(i.path) for i in items])
    named = sorted({name for i in items for name in i.facts} & store.columns.keys())
    for batch in store.scan(["path", "sha256", "tiles", *named]):
        for row in batch.filter(pc.is_in(batch.column("path"), paths)).to_pylist():
            had = found.setdefault(row["path"], {}).setdefault(row["sha256"], Had(row["tiles"], {n: row[n] for n in named}))
            had.rows += 1
    return found


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
