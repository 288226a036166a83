"""Masks against truth. The only place where truth is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.read.folder import count_masks, find_truth, read_grades, read_mask
from tacit.read.picture import SUFFIXES
from tacit.read.walk import is_run
from tacit.report.score import Tally, figures, interval, tally
from tacit.report.track import Bar
from tacit.use.evaluate_clusters import evaluate_clusters
from tacit.use.evaluate_points import evaluate_points
from tacit.use.evaluate_query import evaluate_query
from tacit.use.evaluate_structures import evaluate_structures

HEADLINE = ("miou", "dice_pooled", "object_f1", "object_dice")


def evaluate(
    predicted: str | Path,
    truth: str | Path | None = None,
    *,
    task: str = "segment",
    objects: bool = True,
    label: str = "label",
    k: int = 10,
    include_same_patient: bool = False,
    metric: str = "cosine",
    field: str | Path | None = None,
    classes: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores a folder of label maps against a folder of true ones, matched by name; with task="query" an index, see `evaluate_query`; with task="locate"
    points, see `evaluate_points`; with task="structures" vessels and organs, see `evaluate_structures`; with task="clusters" cluster maps, see `evaluate_clusters`.

    Gives {"task", "images", "figures", "interval", "by_class", "by_patient", "missing", "failures", "over"}; intervals are
    95% over patients where a `Grade.csv` names them, else over images. Truth of another size is a failure, never resized.
    When `predicted` is the masks folder of a run, the result is also kept in the run's tables/scores.json.
    """
    if task == "query":
        if truth is not None:
            raise UsageError(f"--task query takes an index alone, whose column --label is the truth; {truth} is one too many")
        return evaluate_query(predicted, label=label, k=k, include_same_patient=include_same_patient, metric=metric, draws=draws, seed=seed)
    if task == "locate":
        return evaluate_points(predicted, truth, draws=draws, seed=seed)
    if task == "structures":
        return evaluate_structures(predicted, truth, field=field, classes=classes, draws=draws, seed=seed)
    if task == "clusters":
        return evaluate_clusters(predicted, truth, field=field, classes=classes, draws=draws, seed=seed)
    if task != "segment":
        raise UsageError(f"--task {task!r} is unknown here; known: segment, structures, clusters, query, locate")
    if truth is None:
        raise UsageError("tacit evaluate MASKS needs TRUTH, the folder of true masks; of an index: tacit evaluate INDEX --task query")
    folder = Path(predicted)
    if is_run(folder):
        folder = folder / "masks"
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of masks; give OUT/masks of a segment run")
    masks = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES}
    if not masks:
        raise InputError(f"no masks in {folder}; give OUT/masks of a segment run")
    true = find_truth(Path(truth), list(masks))
    grades = read_grades(Path(truth))
    known = grades.set_index("name") if grades is not None else None
    rows, failures = [], []
    with Bar("scoring") as bar:
        for index, (name, path) in enumerate(true.items()):
            try:
                found = tally(*_pair(masks[name], path), objects=objects)
                patient, grade = (known["patient"].get(name), known["label"].get(name)) if known is not None else (None, None)
                rows.append({"name": name, "patient": patient, "label": grade, "tally": found})
            except ReadError as error:
                failures.append({"file": str(error.path), "reason": error.reason, "remedy": error.remedy})
            bar.advance(index + 1, len(true))
    if not rows:
        raise InputError(f"no mask could be scored: {failures[0]['file']}: {failures[0]['reason']}")
    return _kept(folder, _result(rows, sorted(set(masks) - set(true)), count_masks(Path(truth)) - len(true), failures, draws, seed))


def _pair(mask: Path, truth: Path) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A label map and its truth, of one size. Raises ReadError."""
    ours, theirs = read_mask(mask), read_mask(truth)
    if ours.shape != theirs.shape:
        raise ReadError(truth, f"the truth is {theirs.shape[0]}×{theirs.shape[1]} px, the mask {ours.shape[0]}×{ours.shape[1]}", "use the mask of this image")
    return ours, separated(theirs)


def separated(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """A truth with one value only is split into connected pieces; instance labels stay."""
    if truth.max() > 0 and len(np.unique(truth)) <= 2:
        return np.asarray(cv2.connectedComponents((truth > 0).astype(np.uint8), connectivity=8)[1], np.int32)
    return truth


def _result(rows: list[dict[str, Any]], missing: list[str], unscored: int, failures: list[dict[str, str]], draws: int, seed: int) -> dict[str, Any]:
    tallies = [r["tally"] for r in rows]
    patients = [r["patient"] if r["patient"] is not None else r["name"] for r in rows]
    over = "patients" if any(r["patient"] is not None for r in rows) else "images"
    result: dict[str, Any] = {
        "task": "segment",
        "images": len(rows),
        "figures": figures(tallies),
        "interval": {k: _interval(k, tallies, patients, draws, seed) for k in HEADLINE if k in figures(tallies)},
        "over": f"{len(set(patients))} {over}",
        "by_class": _by(rows, "label"),
        "by_patient": _by(rows, "patient"),
        "by_image": {r["name"]: figures([r["tally"]])["miou"] for r in rows},
        "missing": missing,
        "truth_without_mask": unscored,
        "failures": failures,
    }
    return result


def _interval(name: str, tallies: list[Tally], patients: list[Any], draws: int, seed: int) -> tuple[float, float]:
    return interval(tallies, patients, lambda drawn: figures(drawn)[name], draws=draws, seed=seed)


def _by(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, float]]:
    parts: dict[str, list[Tally]] = {}
    for row in rows:
        if row[key] is not None:
            parts.setdefault(str(row[key]), []).append(row["tally"])
    return {name: figures(part) | {"images": len(part)} for name, part in sorted(parts.items())}


def _kept(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    if folder.name == "masks" and is_run(folder.parent):
        write_atomic(folder.parent / "tables" / "scores.json", json.dumps(result, indent=1) + "\n")
    return result
