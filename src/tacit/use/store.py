"""An index on disk: one LanceDB table of vectors with where each comes from, and in its metadata what made them.

Columns: row_id (counts up) · vector · path, sha256 (of the file) · slide, row, col, side_px (level-0 px; a picture has none)
· tiles (rows that its file has when it is whole) · mpp (µm per level-0 px) · patient, site, label · any more columns of the list.
A write is there whole or not at all, also when the process is killed; who may write is said in index_lock.py, readers are never locked out.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tacit.errors import InputError, StorageError, UsageError
from tacit.use.bucket import bucket_error, connect_bucket, in_bucket

TABLE = "images"
KINDS = {"fp16": pa.float16(), "fp32": pa.float32()}
FIXED = [
    *((name, pa.string()) for name in ("path", "sha256", "slide", "patient", "site", "label")),
    *((name, pa.int64()) for name in ("row_id", "row", "col", "side_px", "tiles")),
    ("mpp", pa.float64()),
]
LEAST_APPROXIMATE, ROWS_A_CELL, LEAST_PROBED = 1000, 4000, 8  # rows, rows, cells
TIDY_EVERY, MANY_PIECES = 128, 64  # changes of the table after which it is looked whether there are so many pieces that they should be joined into larger ones
EXACT_ROWS = 1_000_000  # above it the approximate index is built and used
STALE = timedelta(hours=1)  # versions that a reader may still hold are kept so long
SHARED, OF_TASK = 1 << 62, 28  # row_ids of a run that several processes share: from SHARED on, and 2**OF_TASK for each task of it, until index_settle.py


@dataclass(frozen=True)
class About:
    """What all vectors of an index have in common."""

    encoder: str  # its name
    asked: dict[str, str | None]  # encoder, model, weights: how it is found again
    weights_hash: str
    preprocessing: dict[str, Any]
    preprocessing_hash: str
    width: int
    precision: str  # fp16 or fp32
    tile_um: float  # side of a slide's tiles
    normalisation: dict[str, Any]  # {"name": "none"}, or "standard" with mean and sd

    def normalised(self, vectors: NDArray[np.float32]) -> NDArray:
        """Vectors (n, width) of the encoder as the index holds them."""
        if self.normalisation["name"] == "standard":
            mean, sd = (np.asarray(self.normalisation[name], np.float32) for name in ("mean", "sd"))
            vectors = np.asarray((vectors - mean) / sd, np.float32)
        with np.errstate(over="ignore"):
            return vectors.astype(np.float16 if self.precision == "fp16" else np.float32)


class Store:
    """An open index. `Store.open` to read it; a holder of one of the locks of index_lock.py may also change it."""

    def __init__(self, folder: Path | str, table: Any, about: About) -> None:
        self.folder, self.about, self._table = folder, about, table  # folder: text where it is a place in a bucket
        self._read: tuple[NDArray[np.int64], NDArray] | None = None
        self._last_id: int | None = None
        self._synced = _pieces(folder)
        self._looked = int(table.version) // TIDY_EVERY

    @classmethod
    def open(cls, index: str | Path) -> Store:
        """index: a folder, or s3://bucket/prefix. Raises InputError where there is no index or it cannot be read, MissingError where no storage answers."""
        place: Path | str = in_bucket(index) or Path(index)
        if isinstance(place, Path) and not place.is_dir():
            raise InputError(f"the index {place} does not exist; make one with: tacit index FOLDER -o {place}")
        if isinstance(place, Path) and not cls.lies_in(place):
            raise InputError(f"{place} is no index of Tacit (it holds no {TABLE}.lance); give the folder that `tacit index` wrote")
        with _told(place):
            table = _connect(place).open_table(TABLE)
            held = (table.schema.metadata or {}).get(b"tacit")
        try:
            told = json.loads(held or b"")
            about = About(**{f.name: told[f.name] for f in fields(About)})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{place} holds a table that is no index of Tacit: its metadata do not say which encoder made it") from error
        return cls(place, table, about)

    @staticmethod
    def lies_in(index: str | Path) -> bool:
        """Whether a folder holds an index's table. What is named in a bucket can be nothing else."""
        return in_bucket(index) is not None or (Path(index) / f"{TABLE}.lance").is_dir()

    @classmethod
    def create(cls, folder: Path, about: About) -> Store:
        """An empty index in a folder that has none."""
        schema = pa.schema([*FIXED, ("vector", vectors_of(about))], metadata={"tacit": json.dumps(asdict(about))})
        with _told(folder):
            return cls(folder, _connect(folder).create_table(TABLE, schema=schema), about)

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Every column but the vectors, with its type."""
        return {f.name: f.type for f in self._table.schema if f.name != "vector"}

    def __len__(self) -> int:
        with _told(self.folder):
            return int(self._table.count_rows())

    def scan(self, columns: list[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """The columns of all rows, or of those for which `where` (SQL over the columns) is true, in batches of some thousand."""
        with _told(self.folder, where):
            query = self._table.search().select(columns)
            yield from (query.where(where) if where else query).to_batches(8192)

    def read(self, columns: list[str], where: str | None = None) -> pa.Table:
        """The columns in order of row_id, as one table."""
        wanted = list(dict.fromkeys([*columns, "row_id"]))
        schema = pa.schema([(c, self.columns[c]) for c in wanted])
        batches = list(self.scan(wanted, where))
        table = pa.Table.from_batches([b.select(wanted) for b in batches]) if batches else schema.empty_table()
        return table.sort_by("row_id").select(columns)

    def count(self, where: str) -> int:
        """How many rows there are for which `where` is true."""
        with _told(self.folder, where):
            return int(self._table.count_rows(where))

    def vectors(self) -> NDArray:
        """(n, width) in order of row_id, read once, when they are first wanted."""
        return self._held()[1]

    def row_ids(self) -> NDArray[np.int64]:
        """(n,) in the order of `vectors`, rising."""
        return self._held()[0]

    def _held(self) -> tuple[NDArray[np.int64], NDArray]:
        if self._read is None:
            n, kind = len(self), np.float16 if self.about.precision == "fp16" else np.float32
            out, ids, at = np.empty((n, self.about.width), kind), np.empty(n, np.int64), 0
            for batch in self.scan(["row_id", "vector"]):
                end = at + batch.num_rows
                out[at:end] = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(-1, self.about.width)
                ids[at:end] = batch.column("row_id").to_numpy()
                at = end
            if at != n or not all(np.isfinite(out[i : i + 65536]).all() for i in range(0, n, 65536)):
                raise InputError(f"the index {self.folder} is damaged: {at} of {n} vectors can be read, or some are not finite; make it anew")
            if not (ids[1:] > ids[:-1]).all():  # rows that were filled later have moved
                order = np.argsort(ids, kind="stable")
                ids, out = ids[order], out[order]
            self._read = ids, out
        return self._read

    @property
    def has_approximate(self) -> bool:
        """Whether LanceDB's approximate index was built."""
        with _told(self.folder):
            return any("vector" in index.columns for index in self._table.list_indices())

    def build_approximate(self) -> None:
        """Builds LanceDB's approximate index for cosine: cells of ROWS_A_CELL rows, in them each vector as a byte for every 8 numbers."""
        from lancedb.index import IvfPq

        rows, width = len(self), self.about.width
        if rows < LEAST_APPROXIMATE:
            raise UsageError(f"--approximate: the index holds {rows} rows, at least {LEAST_APPROXIMATE} are needed; exact search is fast there")
        codes = next(width // n for n in (8, 4, 2, 1) if width % n == 0)
        with _told(self.folder):
            kind = IvfPq(distance_type="cosine", num_partitions=_cells(rows), num_sub_vectors=codes)
            self._table.create_index("vector", config=kind, replace=True)
        self._to_disk()

    def approximately(self, vector: NDArray, k: int, where: str | None, probed: float, refined: int) -> pa.Table:
        """row_id and vector of about the k nearest rows, by the approximate index; rows added since it was built are looked at one by one."""
        cells = max(round(_cells(len(self)) * probed), LEAST_PROBED)
        with _told(self.folder, where):
            query = self._table.search(vector.astype(np.float32)).distance_type("cosine").nprobes(cells).refine_factor(refined).limit(k)
            return (query.where(where, prefilter=True) if where else query).select(["row_id", "vector"]).to_arrow()

    def add(self, rows: pa.Table, first: int | None = None) -> None:
        """Appends rows (without row_id). When this returns they are on the disk. New columns are empty in earlier rows.

        first: the row_id of the first of them; None = the next one, which is known as long as nobody else adds rows.
        """
        self._widen(rows.schema)
        with _told(self.folder):
            start = self._next_id() if first is None else first
            rows = rows.append_column("row_id", pa.array(np.arange(start, start + rows.num_rows)))
            self._table.add(rows)
            self._last_id = start + rows.num_rows - 1
            changes = int(self._table.version) // TIDY_EVERY
        self._to_disk()
        self._read = None
        if changes > self._looked:
            self._looked = changes
            self.tidy()

    def refresh(self) -> Store:
        """Sees what others have written since."""
        with _told(self.folder):
            self._table.checkout_latest()
        self._read = self._last_id = None
        return self

    def ids(self, where: str) -> NDArray[np.int64]:
        """row_ids (n,) of the rows for which `where` is true, rising; one that is there twice twice."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(b.column("row_id").to_numpy() for b in self.scan(["row_id"], where))]))

    def renumber(self, where: str, row_id: str) -> None:
        """Gives the rows for which `where` is true the row_id that the SQL `row_id` says, all at once or none."""
        with _told(self.folder):
            self._table.update(where=where, values_sql={"row_id": row_id})
        self._to_disk()
        self._read = self._last_id = None

    def delete_copies(self, row_id: int) -> None:
        """Deletes all rows of a row_id but the first that was written."""
        with _told(self.folder):
            held = self._table.search().where(f"row_id = {row_id}").with_row_id(True).select(["row_id"]).to_arrow()["_rowid"].to_pylist()
            self._table.delete(f"_rowid IN ({', '.join(map(str, sorted(held)[1:]))})")
        self._to_disk()
        self._read = None

    def fill(self, rows: pa.Table) -> None:
        """Replaces columns of all rows of the paths that `rows` names: a column path, and those that change."""
        self._widen(rows.schema)
        with _told(self.folder):
            self._table.merge_insert("path").when_matched_update_all().execute(rows)
        self._to_disk()

    def delete(self, where: str) -> int:
        """Deletes the rows for which `where` is true and says how many there were."""
        with _told(self.folder, where):
            count = int(self._table.count_rows(where))
            if count:
                self._table.delete(where)
        self._to_disk()
        self._read = None
        return count

    def tidy(self) -> None:
        """Joins small pieces and drops versions that nobody can hold any more, where there are many."""
        if len(_pieces(self.folder)) > MANY_PIECES:
            with _told(self.folder), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                self._table.optimize(cleanup_older_than=STALE)
            self._to_disk()

    def _next_id(self) -> int:
        if self._last_id is None:
            self._last_id = max((int(np.max(b.column("row_id").to_numpy())) for b in self.scan(["row_id"]) if b.num_rows), default=-1)
        return self._last_id + 1

    def _widen(self, schema: pa.Schema) -> None:
        known = self.columns | {"vector": None}
        for field in schema:
            if field.name in known and field.name != "vector" and field.type != known[field.name]:
                raise UsageError(f"the column {field.name!r} holds {known[field.name]} in the index and {field.type} now; rename it in the list")
        new = [f for f in schema if f.name not in known]
        if new:
            with _told(self.folder):
                self._table.add_columns(new)

    def _to_disk(self) -> None:
        """Waits until what was written would survive a power cut."""
        now = _pieces(self.folder)
        for path in now - self._synced:
            with contextlib.suppress(FileNotFoundError):
                _sync(path)
        for name in ("data", "_versions", "_deletions", "_transactions"):
            with contextlib.suppress(FileNotFoundError):
                _sync(Path(self.folder) / f"{TABLE}.lance" / name)
        self._synced = now


def vectors_of(about: About) -> pa.DataType:
    """The type of the vectors' column."""
    return pa.list_(KINDS[about.precision], about.width)


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def holds_table(folder: Path) -> bool:
    """Whether a table was ever finished there; a folder that a killed process left without one counts as empty."""
    return any((folder / f"{TABLE}.lance" / "_versions").glob("*.manifest"))


def _cells(rows: int) -> int:
    return max(rows // ROWS_A_CELL, 1)


def _connect(place: Path | str) -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # its warnings of small tables and empty cells are no news to a user
    import lancedb

    return connect_bucket(place) if isinstance(place, str) else lancedb.connect(str(place))


@contextlib.contextmanager
def _told(folder: Path | str, where: str | None = None) -> Iterator[None]:
    """LanceDB's errors in our words."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        if isinstance(folder, str) and (told := bucket_error(folder, error)) is not None:
            raise told from error
        said = " ".join(str(error).split(", /")[0].split())[:300]
        if "os error 28" in str(error) or "No space left" in str(error):
            raise StorageError(f"cannot write the index {folder}: the disk is full; free space and repeat the command, what was written stays") from error
        if where is not None and isinstance(error, ValueError):
            raise UsageError(f"--where {where!r} cannot be understood: {said}") from error
        if "os error 13" in str(error) or "os error 30" in str(error):
            raise StorageError(f"cannot write the index {folder}: {said}; change its permissions") from error
        if isinstance(folder, str):
            raise InputError(f"the index {folder} cannot be read ({said}); check the network and the bucket, or copy INDEX there again") from error
        raise InputError(f"the index {folder} is damaged ({said}); make it anew from the images") from error


def _pieces(folder: Path | str) -> set[Path]:
    """The files of a table on a disk, those of its data, versions and deletions."""
    place = Path(folder) / f"{TABLE}.lance"
    return {Path(e.path) for name in ("data", "_versions", "_deletions") if (place / name).is_dir() for e in os.scandir(place / name)}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
