"""An open index that can be asked: which rows are nearest, among those allowed, apart from the query's own image, slide, patient or site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.parts.nearest import METRICS, Metric, Nearest
from tacit.use.store import EXACT_ROWS, Store, quoted

LEVELS = ("image", "slide", "patient", "site")  # each includes those before it
WAYS = ("auto", "exact", "approximate")
PROBED, REFINED = 0.05, 20  # share of the approximate index's cells that are looked into; hits per wanted one whose distance is computed
VERIFIED = 100  # rows that recall is measured on
Keys = dict[str, str | None]  # level → what it is called; None where it is not known


@dataclass(frozen=True)
class Found:
    """rows: row_id (q, k), nearest first, −1 where there are fewer · distances (q, k), infinite there."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


class Search:
    """Asks a store. way: exact, approximate (LanceDB's index), or auto: exact up to a million rows and where there is no other."""

    def __init__(self, store: Store, *, metric: str = "cosine", way: str = "auto") -> None:
        if metric not in METRICS:
            raise UsageError(f"--metric {metric!r} is unknown; known are {', '.join(METRICS)}")
        if way not in WAYS:
            raise UsageError(f"--search {way!r} is unknown; known are {', '.join(WAYS)}")
        if not len(store):
            raise InputError(f"the index {store.folder} is empty; fill it with: tacit index FOLDER -o {store.folder}")
        self.store, self.metric, self.way = store, metric, way
        if way == "auto":
            self.way = "approximate" if len(store) > EXACT_ROWS and metric == "cosine" and store.has_approximate else "exact"
        if self.way == "approximate" and not store.has_approximate:
            raise UsageError(f"{store.folder} has no approximate index; build it with: tacit index FOLDER -o {store.folder} --approximate")
        if self.way == "approximate" and metric != "cosine":
            raise UsageError("the approximate index was built for cosine; use --metric cosine or --search exact")
        self._exact: Nearest | None = None
        self._names: dict[str, tuple[NDArray[np.int64], dict[str, int]]] = {}

    def nearest(self, vectors: NDArray, k: int, *, where: str | None = None, apart: list[str] | None = None, keys: list[Keys] | None = None) -> Found:
        """The k nearest rows of each vector (q, width), which is as the store holds them.

        where: SQL over the columns, applied before anything is ranked. apart: levels by which rows may not be the query's own; keys: what each
        query's image, slide, patient and site are called, a name that is not known parts nothing.
        """
        levels = _with_lower(apart or [])
        named = keys or [{} for _ in vectors]
        if self.way == "approximate":
            return self._approximate(vectors, k, where, levels, named)
        allowed = None
        if where:
            chosen = self.store.read(["row_id"], where)["row_id"].to_numpy()
            allowed = np.isin(self.store.row_ids(), chosen)
        apart_by = []
        for level in levels:
            rows, known = self.codes(level)
            apart_by.append((rows, np.array([known.get(key.get(level) or "", -2) for key in named], np.int64)))
        places, distances = self.exact().search(vectors, k, allowed=allowed, apart=apart_by)
        return Found(np.where(places >= 0, self.store.row_ids()[places], -1), distances)

    def exact(self) -> Nearest:
        """All vectors, read once."""
        if self._exact is None:
            metric: Metric = "euclidean" if self.metric == "euclidean" else "cosine"
            self._exact = Nearest(self.store.vectors(), metric)
        return self._exact

    def codes(self, level: str) -> tuple[NDArray[np.int64], dict[str, int]]:
        """A number for each row's name at a level, −1 where it has none, in order of row_id, and the numbers by name."""
        if level not in self._names:
            names = pa.array(_named(self._columns(level), level), pa.string())
            coded = names.dictionary_encode()
            rows = np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int64)
            self._names[level] = rows, {name: i for i, name in enumerate(coded.dictionary.to_pylist())}
        return self._names[level]

    def recall(self, k: int, *, seed: int = 0) -> tuple[float, int]:
        """Share of the k exactly nearest rows that the approximate index finds, over some rows of the index, and how many rows were asked."""
        exact = Search(self.store, metric=self.metric, way="exact")
        asked = np.sort(np.random.default_rng([seed, 5]).permutation(len(self.store))[:VERIFIED])
        vectors = self.store.vectors()[asked]
        true, ours = exact.nearest(vectors, k).rows, self.nearest(vectors, k).rows
        hits = [np.isin(a[a >= 0], b).mean() for a, b in zip(true, ours, strict=True)]
        return float(np.mean(hits)), len(asked)

    def _columns(self, level: str, where: str | None = None) -> pa.Table:
        wanted = {"image": ["sha256", "row", "col"], "slide": ["slide", "path"], "patient": ["patient"], "site": ["site"]}[level]
        return self.store.read(wanted, where)

    def _approximate(self, vectors: NDArray, k: int, where: str | None, levels: list[str], keys: list[Keys]) -> Found:
        rows, far = np.full((len(vectors), k), -1, np.int64), np.full((len(vectors), k), np.inf)
        for i, (vector, key) in enumerate(zip(vectors, keys, strict=True)):
            parts = [f"({where})"] if where else []
            parts += [_other_than(level, key[level]) for level in levels if key.get(level)]
            table = self.store.approximately(vector, k, " AND ".join(parts) or None, PROBED, REFINED)
            ids = table["row_id"].to_numpy()
            order = np.argsort(ids, kind="stable")
            found = np.array(table["vector"].to_pylist(), vector.dtype).reshape(len(ids), -1)[order]
            best, distances = Nearest(found).search(vector[None], k)
            rows[i], far[i] = np.where(best[0] >= 0, ids[order][best[0]] if len(ids) else -1, -1), distances[0]
        return Found(rows, far)


def codes_of(asking: Search, levels: list[str]) -> list[NDArray[np.int64]]:
    """The rows' numbers at the levels and all below the highest, lowest first."""
    return [asking.codes(level)[0] for level in _with_lower(levels)]


def check_apart(store: Store, exclude: list[str]) -> list[str]:
    """The levels, checked to be known words and to be known of at least one row. Raises UsageError."""
    for level in exclude:
        if level not in LEVELS:
            raise UsageError(f"--exclude {level!r} is unknown; known are {', '.join(LEVELS)}")
        if level in ("patient", "site") and not store.count(f"{level} IS NOT NULL"):
            how = "a column site in a list" if level == "site" else "--patients CSV, or a column patient in a list"
            raise UsageError(f"--exclude {level}: the index knows no {level} of any image; index the images again with {how}")
    return list(exclude)


def _with_lower(levels: list[str]) -> list[str]:
    """The levels and all below the highest."""
    return list(LEVELS[: max((LEVELS.index(level) for level in levels), default=-1) + 1])


def _named(table: pa.Table, level: str) -> list[str | None]:
    """What each row is called at a level. A picture that belongs to no slide is its own."""
    columns: list[list[Any]] = [table[name].to_pylist() for name in table.column_names]
    if level == "image":
        return [image_name(*row) for row in zip(*columns, strict=True)]
    if level == "slide":
        return [slide or path for slide, path in zip(*columns, strict=True)]
    return columns[0]


def image_name(sha256: str, row: int | None = None, col: int | None = None) -> str:
    """What an image is called: by its content, and for a tile by its place."""
    return sha256 if row is None else f"{sha256} {row} {col}"


def _other_than(level: str, name: str | None) -> str:
    """SQL that is true for rows which a name does not part."""
    text = name or ""
    if level == "image":
        digest, *place = text.split(" ")
        same = f"sha256 = {quoted(digest)}" + (f" AND row = {place[0]} AND col = {place[1]}" if place else "")
        return f"NOT ({same})"
    if level == "slide":
        return f"(coalesce(slide, path) <> {quoted(text)})"
    return f"({level} IS NULL OR {level} <> {quoted(text)})"
