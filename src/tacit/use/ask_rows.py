"""Every labelled row of an index asks the index; were the nearest rows of its class? What `tacit evaluate` and `tacit compare` of an index count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.report.retrieval import per_query
from tacit.use.search import Search, codes_of, image_name
from tacit.use.store import Store

MOST_QUERIES = 10_000  # rows that ask; a seeded draw where more are labelled
AT_ONCE = 256


@dataclass(frozen=True)
class Asked:
    """What the rows of an index found, in an order that another index of the same images shares."""

    store: Store
    rows: NDArray[np.int64]  # (q,) places of the rows that asked
    names: list[str]  # (q,) their images: content, and of a tile its place
    files: list[str]  # (q,) their paths
    classes: NDArray[np.int64]  # (n,) of every row, in order of row_id; −1 = no label
    kinds: list[str]  # what the classes are called
    parts: list[NDArray[np.int64]]  # (n,) numbers each, rows with one of them in common may not find each other
    groups: NDArray[np.int64]  # (q,) drawn together for intervals: patients, or slides where none is known
    hits: NDArray[np.int64]  # (q, k) places, nearest first, −1 where there are fewer
    values: dict[str, NDArray[np.float64]]  # figure → (q,)

    @property
    def own(self) -> NDArray[np.int64]:
        """Classes of the rows that asked."""
        return self.classes[self.rows]


def ask(index: Any, *, label: str, k: int, level: str, metric: str, seed: int) -> Asked:
    """Asks with every labelled row, at most `MOST_QUERIES`. level: what may not be found, "image" or "patient". Raises TacitError."""
    store = Store.open(index)
    if label not in store.columns:
        texts = ", ".join(name for name in store.columns if name not in ("row_id", "path", "sha256", "row", "col", "side_px", "tiles"))
        raise UsageError(f"--label {label!r}: the index has no such column; it has {texts}")
    asking = Search(store, metric=metric, way="exact")
    if not 1 <= k < len(store):
        raise UsageError(f"--k {k}: expected 1 to {len(store) - 1}, for the index holds {len(store)} rows")
    classes, kinds = coded(store.read([label])[label].to_pylist())
    labelled = np.flatnonzero(classes >= 0)
    if len(kinds) < 2:
        raise InputError(f"the column {label!r} holds {len(kinds)} class{'es' * (len(kinds) != 1)} on {len(labelled)} rows; at least two are needed")
    held = store.read(["sha256", "row", "col", "path"])
    images = [image_name(*row) for row in zip(*(held[c].to_pylist() for c in ("sha256", "row", "col")), strict=True)]
    files = held["path"].to_pylist()
    labelled = np.array(sorted(labelled.tolist(), key=lambda i: (images[i], files[i])), np.int64)
    rows = labelled[np.sort(np.random.default_rng([seed, 8]).permutation(len(labelled))[:MOST_QUERIES])]
    parts = codes_of(asking, [level])
    hits = _hits(asking, rows, k, parts, classes)
    may = np.array([int(((classes == classes[q]) & ~forbidden(parts, q)).sum()) for q in rows.tolist()])
    values = per_query(at(hits, classes), classes[rows], may)
    return Asked(store, rows, [images[i] for i in rows], [files[i] for i in rows], classes, kinds, parts, _groups(asking, rows), hits, values)


def at(hits: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """values (n,) at the rows of hits (q, k); −1 where there is no hit."""
    return np.asarray(np.where(hits >= 0, values[np.maximum(hits, 0)], -1))


def forbidden(parts: list[NDArray[np.int64]], query: int) -> NDArray[np.bool_]:
    """Rows (n,) that a row may not find."""
    out = np.zeros(len(parts[0]), bool)
    for codes in parts:
        if codes[query] >= 0:
            out |= codes == codes[query]
    return out


def coded(names: list[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """A number for each name in alphabetical order, −1 for None, and the names."""
    kinds = sorted({str(n) for n in names if n is not None})
    number = {name: i for i, name in enumerate(kinds)}
    return np.array([-1 if n is None else number[str(n)] for n in names], np.int64), kinds


def _hits(asking: Search, queries: NDArray[np.int64], k: int, parts: list[NDArray[np.int64]], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of the k nearest labelled rows of each query, none of its own image, slide or patient."""
    vectors = asking.store.vectors()
    search = asking.exact()
    found = []
    for first in range(0, len(queries), AT_ONCE):
        q = queries[first : first + AT_ONCE]
        apart = [(codes, np.where(codes[q] >= 0, codes[q], -2)) for codes in parts]
        found.append(search.search(vectors[q], k, allowed=classes >= 0, apart=apart)[0])
    return np.concatenate(found)


def _groups(asking: Search, queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is drawn together for intervals: the patient, or where none is known the slide, numbered apart."""
    patient, slide = (codes_of(asking, [level])[i][queries] for level, i in (("patient", 2), ("slide", 1)))
    return np.where(patient >= 0, patient, slide + patient.max(initial=0) + 1)
