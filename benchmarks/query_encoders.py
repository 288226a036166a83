"""What each encoder's distances are worth on real H&E: one row an encoder and seed, each in a file of its own. Resumable.

    python benchmarks/query_encoders.py ROW…  [--seeds 0 1 2]
    python benchmarks/query_encoders.py --list | --table

Scored on patches of GlaS (query_patches.py) at two scales: is the nearest patch of the same tissue (gland, stroma), of the same grade (benign,
malignant gland), with the same image and with the same patient left out, and does the distance part same from different pairs (area under the ROC
curve, other patients only). Intervals: bootstrap over patients. Rows that learn do so on unlabelled tiles of GlaS and, where it is there, HER2ST.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from provenance import stamp
from query_patches import DATA, MPP, ROOT, Patches, glas_patches
from tacit.image import Image
from tacit.read.picture import read_picture
from tacit.use.encoder import Encoder, find_encoder

RESULTS = ROOT / "benchmarks" / "results" / "query"
WORK = ROOT / "benchmarks" / "work" / "query"
SCALES = (0.5, 1.0)
TILE, TILE_MPP = 192, 1.24  # px and µm per px of the tiles that pretraining sees
STEPS = 1400  # about half an hour on a core
LEARN = ["--set", "size=112", "--set", "train.epochs=1", "--set", f"train.steps={STEPS}", "--set", "train.batch=32"]
ROWS: dict[str, list[str]] = {
    "colour": [],
    "random": [],
    "texture": [],
    "phantom": [],
    "phantom+texture": [],
    "simclr": ["--method", "simclr", "--set", "views=histology", *LEARN],
    "simsiam": ["--method", "simsiam", "--set", "views=histology", *LEARN],
    "byol-report": ["--method", "byol", "--preset", "report", "--backbone", "resnet18", *LEARN],
    "phantom-byol": ["--method", "phantom-byol", "--mpp", str(TILE_MPP)],
    "byol-histology": ["--method", "byol", "--preset", "histology", *LEARN],
}
FLOOR = "texture"
DRAWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    if asked.list:
        print("\n".join(ROWS))
    for row in asked.rows:
        for seed in asked.seeds:
            if not result_file(row, seed).exists():
                run(row, seed)
    if asked.table or asked.rows:
        print(table())


def run(row: str, seed: int) -> None:
    started, before = time.time(), time.process_time()
    embed, learnt_seconds = encoder(row, seed)
    taught_in = (time.time() - started, time.process_time() - before + learnt_seconds)
    record: dict[str, Any] = {"row": row, "seconds": round(taught_in[0]), "cpu_seconds": round(taught_in[1]), **stamp(seed)}
    for scale in SCALES:
        patches = glas_patches(scale=scale)
        vectors = unit(embed(patches))
        floor = unit(features_of(find_encoder(FLOOR))(patches)) if row != FLOOR else None
        record[f"scale {scale:g}"] = {"patches": len(patches), **judge(vectors, floor, patches)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    result_file(row, seed).write_text(json.dumps(record, indent=1) + "\n")


def encoder(row: str, seed: int) -> tuple[Any, float]:
    """A function patches → vectors, and the CPU seconds that learning took in another process."""
    if row == "colour":
        return lambda patches: standard(np.stack([colour(p) for p in patches.pictures])), 0.0
    if row == "random":
        import torch

        from tacit.parts.backbone import Backbone, BackboneConfig
        from tacit.use.encoder import _through

        torch.manual_seed(seed)
        network = Backbone(BackboneConfig()).eval()
        through = _through(network, network, 128, "cpu")
        return lambda patches: standard(through(patches.pictures)), 0.0
    if row in ("texture", "phantom", "phantom+texture"):
        return features_of(find_encoder(row, seed=seed)), 0.0
    place = WORK / f"{row}-{seed}"
    command = [sys.executable, "-m", "tacit", "pretrain", str(tiles()), "-o", str(place), "--seed", str(seed), *ROWS[row]]
    before = os.times().children_user
    subprocess.run([*command, *(["--resume"] if (place / "run.json").exists() else [])], check=True)
    return features_of(find_encoder(model=place)), os.times().children_user - before


def features_of(found: Encoder) -> Any:
    return lambda patches: found.features([Image(p).with_mpp(patches.mpp, "given") for p in patches.pictures])


def tiles() -> Path:
    """Unlabelled tiles of 192 px at 1.24 µm/px: every GlaS image, and tissue of the HER2ST sections."""
    place = WORK / "tiles"
    if (place / "done").exists():
        return place / "images"
    (place / "images").mkdir(parents=True, exist_ok=True)
    for path in sorted((DATA / "images").glob("*.jpg")):
        _cut(place, path, MPP, 1.0)
    for path in sorted((DATA.parent / "her2st").rglob("*.jpg")):
        _cut(place, path, 0.78, 0.15)
    (place / "done").touch()
    return place / "images"


def _cut(place: Path, path: Path, mpp: float, share: float) -> None:
    picture = read_picture(path).pixels
    zoom = mpp / TILE_MPP
    small = cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng([7, *path.stem.encode()])
    rows, cols = (np.unique(np.linspace(0, n - TILE, max(-(-n // TILE), 1)).astype(int)) for n in small.shape[:2])
    for row in rows.tolist():
        for col in cols.tolist():
            tile = small[row : row + TILE, col : col + TILE]
            if (tile.min(2) < 220).mean() > 0.5 and rng.random() < share:
                cv2.imwrite(str(place / "images" / f"{path.stem}-{row}-{col}.png"), cv2.cvtColor(tile, cv2.COLOR_RGB2BGR))


def colour(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """32 numbers: mean, SD and quantiles of RGB and Lab."""
    values = np.concatenate([picture.reshape(-1, 3), cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).reshape(-1, 3)], 1).astype(float)
    return np.concatenate([values.mean(0), values.std(0), *np.quantile(values, (0.1, 0.5, 0.9), axis=0)])[:32]


def standard(values: NDArray) -> NDArray:
    return (values - values.mean(0)) / (values.std(0) + 1e-6)


def unit(values: NDArray) -> NDArray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def judge(vectors: NDArray, floor: NDArray | None, patches: Patches) -> dict[str, Any]:
    """Every figure of one encoder: value, 95% interval over patients, and what it gains over the floor with its paired interval."""
    found = {}
    for task, labels, use in (("tissue", patches.tissue, np.ones(len(patches), bool)), ("grade", patches.grade, patches.tissue == "gland")):
        label, patient, image = labels[use], patches.patient[use], patches.image[use]
        chosen = None if floor is None else floor[use]
        for name, figure, group in (
            ("nearest, other image", _nearest, image),
            ("nearest, other patient", _nearest, patient),
            ("pair AUC, other patient", _pairs, patient),
        ):
            mine = figure(vectors[use], label, group)
            theirs = figure(chosen, label, group) if chosen is not None else None
            found[f"{task}: {name}"] = _with_interval(mine, theirs, patient)
        majority = max(np.mean(label == each) for each in set(label))
        found[f"{task}: majority"] = {"value": round(float(majority), 4)}
    return found


def _nearest(vectors: NDArray, label: NDArray, group: NDArray) -> Any:
    similarity = np.where(group[:, None] == group[None], -np.inf, vectors @ vectors.T)
    right = label[similarity.argmax(1)] == label
    return lambda weight: float((right * weight).sum() / weight.sum())


def _pairs(vectors: NDArray, label: NDArray, patient: NDArray) -> Any:
    similarity = vectors @ vectors.T
    a, b = np.triu_indices(len(vectors), 1)
    other = patient[a] != patient[b]
    a, b = a[other], b[other]
    score = similarity[a, b]
    order = np.argsort(score, kind="stable")
    a, b, same = a[order], b[order], label[a[order]] == label[b[order]]
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # of each run of equal scores
    return lambda weight: _area(np.add.reduceat(weight[a] * weight[b] * same, starts), np.add.reduceat(weight[a] * weight[b] * ~same, starts))


def _area(same: NDArray, different: NDArray) -> float:
    """Area under the ROC curve from the weights of same and different pairs at rising similarity; ties count half."""
    if not same.sum() or not different.sum():
        raise ValueError("pairs of one kind alone")
    below = np.cumsum(different) - different / 2
    return float((same * below).sum() / (same.sum() * different.sum()))


def _with_interval(mine: Any, theirs: Any, patient: NDArray) -> dict[str, Any]:
    names, number = np.unique(patient, return_inverse=True)
    rng, ones = np.random.default_rng(0), np.ones(len(patient))
    values, gains = [], []
    for _ in range(DRAWS):
        weight = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[number].astype(float)
        try:
            value = mine(weight)
            gain = value - theirs(weight) if theirs is not None else 0.0
        except ValueError:  # a draw of patients with one kind of pair alone
            continue
        values.append(value)
        gains.append(gain)
    record = {"value": round(mine(ones), 4), "interval": [round(float(q), 4) for q in np.quantile(values, (0.025, 0.975))]}
    if theirs is not None:
        record |= {"gain": round(mine(ones) - theirs(ones), 4), "gain_interval": [round(float(q), 4) for q in np.quantile(gains, (0.025, 0.975))]}
    return record


def result_file(row: str, seed: int) -> Path:
    return RESULTS / f"{row.replace('+', '-and-')}-{seed}.json"


def table() -> str:
    """Mean over seeds of every figure that is there."""
    lines = []
    for scale in SCALES:
        lines.append(f"scale {scale:g} ({MPP / scale:.2f} µm per px), mean of the seeds that were run; [95% over patients, first seed]")
        lines.append(
            f"{'':<18}{'seeds':>5}  "
            + "".join(f"{h:>24}" for h in ("tissue 1-NN image", "1-NN patient", "pair AUC", "grade 1-NN image", "1-NN patient", "pair AUC"))
        )
        for row in ROWS:
            runs = [json.loads(result_file(row, s).read_text())[f"scale {scale:g}"] for s in range(9) if result_file(row, s).exists()]
            if not runs:
                continue
            cells = []
            for key in (k for k in runs[0] if ":" in k and "majority" not in k):
                low, high = runs[0][key]["interval"]
                cells.append(f"{np.mean([r[key]['value'] for r in runs]):>10.3f} [{low:.2f}, {high:.2f}]")
            lines.append(f"{row:<18}{len(runs):>5}  " + "".join(f"{c:>24}" for c in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
