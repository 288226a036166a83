"""`tacit evaluate INDEX --task query`: every labelled row asks the index; are the nearest rows of its class? The same patient is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tacit.report.retrieval import FIGURES, chance, ratio_interval, robustness
from tacit.use.ask_rows import Asked, ask, at, coded, forbidden
from tacit.use.store import Store

MOST_BLIND = 500  # rows for which chance is drawn


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
    level = "image" if include_same_patient else "patient"
    asked = ask(index, label=label, k=k, level=level, metric=metric, seed=seed)
    ones = np.ones(len(asked.rows))
    figures = {f"{name}@{k}": float(asked.values[name].mean()) for name in FIGURES}
    interval = {f"{name}@{k}": ratio_interval(asked.values[name], ones, asked.groups, draws=draws, seed=seed) for name in FIGURES}
    if asked.store.count("site IS NOT NULL"):
        sites, _ = coded(asked.store.read(["site"])["site"].to_pylist())
        good, either = robustness(at(asked.hits, asked.classes), asked.own, at(asked.hits, sites), sites[asked.rows])
        if either.sum() > 0:
            figures[f"robustness@{k}"] = float(good.sum() / either.sum())
            interval[f"robustness@{k}"] = ratio_interval(good, either, asked.groups, draws=draws, seed=seed)
    counts = np.bincount(asked.own, minlength=len(asked.kinds))
    return {
        "task": "query",
        "queries": len(asked.rows),
        "k": k,
        "label": label,
        "excluded": level,
        "figures": figures,
        "interval": interval,
        "chance": {f"{name}@{k}": value for name, value in _by_chance(asked, k, seed).items()},
        "commonest_class": float(counts.max() / counts.sum()),
        "classes": {name: int(n) for name, n in zip(asked.kinds, counts, strict=True)},
        "over": over(asked),
        "warnings": warnings_of(asked, include_same_patient),
    }


def over(asked: Asked) -> str:
    """What intervals are drawn over, in words."""
    return f"{len(np.unique(asked.groups))} {'patients' if _patients_known(asked.store) else 'images'}"


def warnings_of(asked: Asked, include_same_patient: bool) -> list[str]:
    """What makes the figures better, or of fewer rows, than a reader would think."""
    store, said = asked.store, []
    if unlabelled := int((asked.classes < 0).sum()):
        said.append(f"{unlabelled} of {len(store)} rows have no label; they neither ask nor are found")
    if include_same_patient:
        said.append("hits from the query's own patient count: figures are better than on a new patient")
    elif not _patients_known(store):
        said.append("no patient is known: only the same image and slide are left out; figures are better than on a new patient")
    elif unknown := store.count("patient IS NULL"):
        said.append(f"{unknown} rows have no patient: of their own only image and slide are left out")
    return said


def _by_chance(asked: Asked, k: int, seed: int) -> dict[str, float]:
    blind = asked.rows if len(asked.rows) <= MOST_BLIND else np.sort(np.random.default_rng([seed, 10]).permutation(asked.rows)[:MOST_BLIND])
    unlabelled = asked.classes < 0
    return chance(asked.classes, blind, lambda q: forbidden(asked.parts, q) | unlabelled, k, seed=seed)


def _patients_known(store: Store) -> bool:
    return bool(store.count("patient IS NOT NULL"))
