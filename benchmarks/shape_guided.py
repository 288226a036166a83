"""Shape guidance on DRIVE (vessels) and JSRT (lungs): clusters alone, and each answer of the method by each prior. Resumable; one JSON file a run.

    python benchmarks/shape_guided.py [RUN…] [--seed 0]
    python benchmarks/shape_guided.py --list

Learnt on the unlabelled images of DRIVE's train part or JSRT's fold 1, scored on DRIVE's test part or JSRT's fold 2: Dice in the field of view, mean
over images with its bootstrap interval over images. `clusters alone` learns with no prior; its best cluster is chosen on the truth, an oracle that
no user has. Sizes are those of one core and minutes, not the paper's 100 epochs. Needs the images below TACIT_DATA (or ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import chest
import vessels
from provenance import stamp
from tacit.config import build, parse_assignments
from tacit.learn.shape_guided import ShapeGuided
from tacit.learn.workshop import Workshop
from tacit.report.score import interval
from tacit.report.track import Curves

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
RESULTS = ROOT / "benchmarks" / "results" / "shape_guided"
WORK = ROOT / "benchmarks" / "work" / "shape_guided"
PRIORS = DATA / "vessel-shape-priors"
SMALL = [
    "local.network.width=8",
]  # half the width, which one core teaches in minutes; the rest is as `tacit segment --shape-prior` has it
LUNGS = [
    "structure=lungs",
    "prior.source=simulated:lungs",
    "prior.scale=[0.9,1.1]",
    "side=96",
    "crop.size=96",
    "local.views.turn=15.0",
    "local.views.quarter_turns=false",
]
RUNS: dict[str, tuple[str, list[str]]] = {  # name → data, what differs
    "drive-simulated": ("drive", []),
    "drive-octa": ("drive", [f'prior.source="{PRIORS / "octa"}"']),
    "drive-dsa": ("drive", [f'prior.source="{PRIORS / "dsa"}"']),
    "drive-no-lead": ("drive", [f'prior.source="{PRIORS / "octa"}"', "lean=0.0"]),
    "drive-no-prior": ("drive", ["adversary=0.0"]),
    "jsrt-simulated": ("jsrt", LUNGS),
    "jsrt-no-prior": ("jsrt", [*LUNGS, "adversary=0.0"]),
    "drive-as-published": (
        "drive",
        [
            f'prior.source="{PRIORS / "octa"}"',
            "steady=0.0",
            "lean=0.0",
            "discriminator.standard=false",
            "discriminator.rate=0.05",
            "local.entropy=0.1",
            "local.train.lr=1e-3",
            "local.train.schedule=halving",
        ],
    ),
}
ANSWERS = {"clusters": "m_0", "embedding": "embedding", "agreement": "agreement", "refined": "refined"}
Truth = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]  # picture, truth, field


def learnt_from(data: str) -> list[NDArray[np.uint8]]:
    """Pictures without their truth."""
    if data == "drive":
        return [p.pixels for p in vessels.photographs("drive", "train")]
    return [chest.picture(name) for name in chest.folds()["fold1"]]


def scored_on(data: str) -> dict[str, Callable[[], Truth]]:
    """Name → picture, truth and field of the test part, read as they are needed."""
    if data == "drive":
        return {p.name: (lambda p=p: (p.pixels, p.mask("manual1"), p.mask("fov"))) for p in vessels.photographs("drive", "test")}
    return {n: (lambda n=n: (chest.picture(n), chest.truth(n)[0], np.ones(chest.truth(n)[0].shape, bool))) for n in chest.folds()["fold2"]}


def summed(each: dict[str, float]) -> dict[str, Any]:
    """Mean over images and its interval."""
    tallies = [{"dice": d, "images": 1.0} for d in each.values()]
    low, high = interval(tallies, list(each), lambda t: sum(x["dice"] for x in t) / sum(x["images"] for x in t))
    return {"dice": float(np.mean(list(each.values()))), "interval": [low, high], "each": {k: round(v, 4) for k, v in each.items()}}


def run(name: str, seed: int) -> None:
    place = RESULTS / f"{name}-seed{seed}.json"
    if place.exists():
        return
    data, changes = RUNS[name]
    method = ShapeGuided(build(ShapeGuided.Config, parse_assignments(SMALL), parse_assignments(changes)))
    folder, alone = WORK / f"{name}-seed{seed}", method.config.adversary == 0
    first = WORK / f"{data}-seed{seed}-patches"  # the first stage knows no prior: runs on the same pictures share it
    shared = first.exists() and not folder.exists() and method.config.local.train.lr == ShapeGuided.Config().local.train.lr
    if shared:
        shutil.copytree(first, folder / "patches")
    resumed = (folder / "shapes").exists()  # then the seconds are of the last sitting alone
    clock, wall = time.process_time(), time.monotonic()
    curves = Curves(folder / "metrics.csv")
    method.fit(
        [method.working(p) for p in learnt_from(data)], Workshop(seed=seed, folder=folder, curves=curves, say=lambda line: print(f"  {line}", flush=True))
    )
    spent = {"cpu": round(time.process_time() - clock, 1), "wall": round(time.monotonic() - wall, 1), "first_stage_shared": shared, "resumed": resumed}
    if not first.exists() and (folder / "patches").exists():
        shutil.copytree(folder / "patches", first)
    scores: dict[str, dict[str, float]] = {}
    for image, read in scored_on(data).items():
        picture, truth, field = read()
        frame = method.working(picture)
        if alone:
            likeliest = method.clusters(frame).argmax(0)
            answers = {f"cluster {k + 1}": (likeliest == k).astype(np.float32) for k in range(method.config.local.clusters)}
        else:
            answers = {row: method.answer(frame, which) for which, row in ANSWERS.items()}  # type: ignore[arg-type]
        for row, plane in answers.items():
            scores.setdefault(row, {})[image] = vessels.dice(method._back(plane, picture)[0] > 0.5, truth, field)
    rows = {row: summed(each) for row, each in scores.items()}
    if alone:
        best = max(rows, key=lambda row: rows[row]["dice"])
        rows = {"clusters alone, best cluster (oracle)": rows[best] | {"cluster": best}}
    for row, found in rows.items():
        print(f"{name} seed {seed} {row}: {found['dice']:.3f}", flush=True)
    facts = {"run": name, "data": data, "rows": rows, "warnings": [] if alone else method.warnings(), "seconds": spent}
    game = {"discriminator_loss": float(method.last_discriminator), "target_share": float(method.last_target)}
    settings = method.config.model_dump(mode="json")
    settings["prior"]["source"] = Path(settings["prior"]["source"]).name
    vessels.write(place, facts | {"game": game, "settings": settings} | stamp(seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help=", ".join(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(RUNS))
        return
    if unknown := [name for name in options.runs if name not in RUNS]:
        parser.error(f"unknown run {unknown[0]!r}; known are {', '.join(RUNS)}")
    if not DATA.is_dir():
        parser.error(f"no data at {DATA}; set TACIT_DATA")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in options.runs or RUNS:
        run(name, options.seed)


if __name__ == "__main__":
    main()
