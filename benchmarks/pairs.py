"""Pairs of images of two patients: what a metric and a threshold from so many labelled pairs are worth on patients that were not seen.

    python benchmarks/pairs.py          prints a table, writes benchmarks/results/pairs.json

GlaS patches (query_patches.py) at two scales, two questions: gland or stroma, benign or malignant gland. Patients are split in two halves, both kinds in at least
two patients of each; pairs of the first half calibrate, as `tacit pairs --calibrate --patients` does, pairs of the second are scored. Pairs are
always of two patients. "views": the threshold from no label, two views of an image against two images. Mean over the splits; interval: bootstrap
over patients, each draw the same for every split and every row.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from provenance import stamp
from query_patches import DATA, ROOT, glas_patches
from tacit.image import Image
from tacit.learn.pair_calibration import CalibrationConfig, LabelledPairs, learn, nested
from tacit.learn.pair_decision import Decision
from tacit.learn.pair_metric import distances, vectors
from tacit.report.pair_score import area
from tacit.use.encoder import DEFAULT_ENCODER, find_encoder
from tacit.use.pair_calibrate import pairs_of_views
from tacit.use.pair_images import two_views

ENCODERS = tuple(dict.fromkeys((DEFAULT_ENCODER, "texture")))
SCALES, SPLITS, SIZES, DRAWS, SCORED, SEED = (0.5, 1.0), 12, (20, 50, 100, 200), 300, 4000, 0
FIGURES = (
    "auc raw",
    "auc",
    "auc gain",
    "accuracy views",
    "accuracy raw",
    "accuracy",
    "share sure",
    "accuracy sure",
    "one answer for all",
    "auc promised",
    "accuracy promised",
)
Halves = tuple[NDArray[np.int64], NDArray[np.int64]]


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows, began = [], time.process_time()
    for scale in SCALES:
        patches = glas_patches(scale=scale)
        for name in ENCODERS:
            images, encoder = [Image(p).with_mpp(patches.mpp, "given") for p in patches.pictures], find_encoder(name)
            features = encoder.features(images).astype(np.float64)
            views = np.stack([encoder.features(two_views(image, "histology", np.random.default_rng([SEED, 55, k]))) for k, image in enumerate(images)])
            for question, kind, use in (
                ("gland or stroma", patches.tissue, np.ones(len(patches), bool)),
                ("benign or malignant", patches.grade, patches.tissue == "gland"),
            ):
                label_free = learn(pairs_of_views(views[use].astype(np.float64), SEED), CalibrationConfig(), metric="raw", seed=SEED).decision
                for size in SIZES:
                    found = score(features[use], kind[use], patches.patient[use], size, label_free)
                    rows.append({"mpp": patches.mpp, "encoder": name, "question": question, "pairs": size, **found})
                    print(line(rows[-1]), flush=True)
    record = {"rows": rows, "splits": SPLITS, "draws": DRAWS, "cpu_seconds": round(time.process_time() - began), **stamp(SEED)}
    (ROOT / "benchmarks" / "results" / "pairs.json").write_text(json.dumps(record, indent=1) + "\n")


def score(features: NDArray[np.float64], kind: NDArray, patient: NDArray, size: int, label_free: Decision) -> dict[str, Any]:
    """Every figure, {"value", "interval"}, of calibrating with `size` pairs."""
    names, number = np.unique(patient, return_inverse=True)
    c = CalibrationConfig()
    by_split = []
    for index, (first, second) in enumerate(halves(kind, patient)):
        a, b = drawn_pairs(first, patient, size, np.random.default_rng([SEED, 1, index]))
        p = LabelledPairs(features, a, b, kind[a] == kind[b], number)
        i, j = drawn_pairs(second, patient, SCORED, np.random.default_rng([SEED, 2, index]))
        by_split.append(answers(p, c, i, j, kind[i] == kind[j], number, label_free, promised=size == SIZES[-1]))
    rng = np.random.default_rng([SEED, 3])
    weights = [np.ones(len(names)), *(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)).astype(float) for _ in range(DRAWS))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # figures that this number of pairs does not have are nan throughout
        drawn = [np.nanmean([[s(w) for s in split] for split in by_split], axis=0) for w in weights]
        low, high = np.nanquantile(drawn[1:], (0.025, 0.975), axis=0)
    found = zip(FIGURES, drawn[0], low, high, strict=True)
    return {name: {"value": round(float(v), 4), "interval": [round(float(x), 4), round(float(y), 4)]} for name, v, x, y in found if np.isfinite(v)}


def halves(kind: NDArray, patient: NDArray) -> Iterator[Halves]:
    """Seeded halves of the patients, each kind in at least two of either."""
    rng, names, given = np.random.default_rng(SEED), np.unique(patient), 0
    while given < SPLITS:
        first = np.isin(patient, rng.permutation(names)[: len(names) // 2])
        if all(len(set(patient[half & (kind == each)])) >= 2 for half in (first, ~first) for each in set(kind)):
            yield np.flatnonzero(first), np.flatnonzero(~first)
            given += 1


def drawn_pairs(images: NDArray[np.int64], patient: NDArray, count: int, rng: np.random.Generator) -> Halves:
    """Up to `count` random pairs of two patients."""
    i, j = np.triu_indices(len(images), 1)
    a, b = images[i], images[j]
    other = rng.permutation(np.flatnonzero(patient[a] != patient[b]))[:count]
    return a[other], b[other]


def answers(
    p: LabelledPairs, c: CalibrationConfig, i: NDArray, j: NDArray, same: NDArray, number: NDArray, label_free: Decision, *, promised: bool
) -> list[Any]:
    """FIGURES of one split, each a function of the patients' weights."""
    linear, raw = (learn(p, c, metric=metric, seed=SEED) for metric in ("linear", "raw"))
    d, d_raw = (distances(vectors(p.features, found.metric), i, j) for found in (linear, raw))
    sure, right, right_raw = linear.decision.sure(d), linear.decision.same(d) == same, raw.decision.same(d_raw) == same
    told = nested(p, c, metric="linear", seed=SEED) if promised else None
    auc, auc_raw = (lambda w: area(d, same, weight(w))), (lambda w: area(d_raw, same, weight(w)))

    def weight(w: NDArray) -> NDArray:
        return w[number[i]] * w[number[j]]

    def share(what: NDArray, of: NDArray | None = None) -> Any:
        return lambda w: ratio((weight(w) * what * (1 if of is None else of)).sum(), (weight(w) * (1 if of is None else of)).sum())

    def fixed(value: float) -> Any:
        return lambda w: value

    return [
        auc_raw,
        auc,
        lambda w: auc(w) - auc_raw(w),
        share(label_free.same(d_raw) == same),
        share(right_raw),
        share(right),
        share(sure),
        share(right, sure),
        lambda w: max(share(same)(w), 1 - share(same)(w)),
        fixed(area(told.distance[told.scored], p.same[told.scored]) if told else np.nan),
        fixed(float((told.called_same == p.same)[told.scored].mean()) if told else np.nan),
    ]


def ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def line(row: dict[str, Any]) -> str:
    cells = [f"{name} {row[name]['value']:.3f} [{row[name]['interval'][0]:.2f}, {row[name]['interval'][1]:.2f}]" for name in FIGURES if name in row]
    return f"{row['mpp']:.2f} µm/px  {row['encoder']:<16} {row['question']:<20} {row['pairs']:>4} pairs  " + "  ".join(cells)


if __name__ == "__main__":
    main()
