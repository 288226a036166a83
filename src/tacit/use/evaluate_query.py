"""`tacit evaluate INDEX --task query`: every labelled row asks the index; are the nearest rows of its class? The same patient is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.report.retrieval import FIGURES, chance, per_query, ratio_interval, robustness
from tacit.use.search import Search, codes_of
from tacit.use.store import Store

MOST_QUERIES, MOST_BLIND = 10_000, 500  # rows that ask, and of them those that chance is drawn for; seeded draws where there are more
AT_ONCE = 256


def evaluate_query(
    index: str | Path,
    *,
    label: str = "label",
    k: int = 10,
    include_same_patient: bool = False,
    metric: str = "cosine",
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Acc@k, mMV@k, mAP@k and nDCG@k of an index for the classes in its column `label`, and the robustness index where sites are known.

    Gives {"task", "queries", "k", "label", "excluded", "figures", "interval", "chance", "commonest_class", "classes", "over", "warnings"}; intervals
    are 95% over patients, over images where none is known. include_same_patient: only the same image is left out. Raises TacitError.
    """
    store = Store.open(index)
    if label not in store.columns:
        texts = ", ".join(name for name in store.columns if name not in ("row_id", "path", "sha256", "row", "col", "side_px", "tiles"))
        raise UsageError(f"--label {label!r}: the index has no such column; it has {texts}")
    asking = Search(store, metric=metric, way="exact")
    if not 1 <= k < len(store):
        raise UsageError(f"--k {k}: expected 1 to {len(store) - 1}, for the index holds {len(store)} rows")
    names = store.read([label])[label].to_pylist()
    classes, kinds = _coded(names)
    labelled = np.flatnonzero(classes >= 0)
    if len(kinds) < 2:
        raise InputError(f"the column {label!r} holds {len(kinds)} class{'es' * (len(kinds) != 1)} on {len(labelled)} rows; at least two are needed")
    patients_known = bool(store.count("patient IS NOT NULL"))
    levels = ["image"] if include_same_patient else ["patient"]
    warnings = _warnings(store, len(labelled), patients_known, include_same_patient)
    queries = np.sort(np.random.default_rng([seed, 8]).permutation(labelled)[:MOST_QUERIES])
    parts = codes_of(asking, levels)
    hits = _hits(asking, queries, k, parts, classes)
    own = classes[queries]
    may = np.array([int(((classes == classes[q]) & ~_forbidden(parts, q)).sum()) for q in queries.tolist()])
    values = per_query(classes_at(hits, classes), own, may)
    groups = _groups(asking, queries)
    ones = np.ones(len(queries))
    figures = {f"{name}@{k}": float(values[name].mean()) for name in FIGURES}
    interval = {f"{name}@{k}": ratio_interval(values[name], ones, groups, draws=draws, seed=seed) for name in FIGURES}
    if store.count("site IS NOT NULL"):
        sites, _ = _coded(store.read(["site"])["site"].to_pylist())
        good, either = robustness(classes_at(hits, classes), own, classes_at(hits, sites), sites[queries])
        if either.sum() > 0:
            figures[f"robustness@{k}"] = float(good.sum() / either.sum())
            interval[f"robustness@{k}"] = ratio_interval(good, either, groups, draws=draws, seed=seed)
    blind = queries if len(queries) <= MOST_BLIND else np.sort(np.random.default_rng([seed, 10]).permutation(queries)[:MOST_BLIND])
    unlabelled = classes < 0
    by_chance = chance(classes, blind, lambda q: _forbidden(parts, q) | unlabelled, k, seed=seed)
    counts = np.bincount(own, minlength=len(kinds))
    return {
        "task": "query",
        "queries": len(queries),
        "k": k,
        "label": label,
        "excluded": levels[0],
        "figures": figures,
        "interval": interval,
        "chance": {f"{name}@{k}": value for name, value in by_chance.items()},
        "commonest_class": float(counts.max() / counts.sum()),
        "classes": {name: int(n) for name, n in zip(kinds, counts, strict=True)},
        "over": f"{len(np.unique(groups))} {'patients' if patients_known else 'images'}",
        "warnings": warnings,
    }


def classes_at(hits: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """values (n,) at the rows of hits (q, k); −1 where there is no hit."""
    return np.asarray(np.where(hits >= 0, values[np.maximum(hits, 0)], -1))


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


def _forbidden(parts: list[NDArray[np.int64]], query: int) -> NDArray[np.bool_]:
    """Rows (n,) that a row may not find."""
    out = np.zeros(len(parts[0]), bool)
    for codes in parts:
        if codes[query] >= 0:
            out |= codes == codes[query]
    return out


def _groups(asking: Search, queries: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is drawn together for intervals: the patient, or where none is known the slide, numbered apart."""
    patient, slide = (codes_of(asking, [level])[i][queries] for level, i in (("patient", 2), ("slide", 1)))
    return np.where(patient >= 0, patient, slide + patient.max(initial=0) + 1)


def _coded(names: list[Any]) -> tuple[NDArray[np.int64], list[str]]:
    """A number for each name in alphabetical order, −1 for None, and the names."""
    kinds = sorted({str(n) for n in names if n is not None})
    number = {name: i for i, name in enumerate(kinds)}
    return np.array([-1 if n is None else number[str(n)] for n in names], np.int64), kinds


def _warnings(store: Store, labelled: int, patients_known: bool, include_same_patient: bool) -> list[str]:
    said = []
    if labelled < len(store):
        said.append(f"{len(store) - labelled} of {len(store)} rows have no label; they neither ask nor are found")
    if include_same_patient:
        said.append("hits from the query's own patient count: figures are better than on a new patient")
    elif not patients_known:
        said.append("no patient is known: only the same image and slide are left out; figures are better than on a new patient")
    elif unknown := store.count("patient IS NULL"):
        said.append(f"{unknown} rows have no patient: of their own only image and slide are left out")
    return said
