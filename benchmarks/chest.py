"""Quality on JSRT: learn on the radiographs of fold 1 without labels, score fold 2 (van Ginneken's split). Resumable; one JSON file a row and seed.

    python benchmarks/chest.py [ROW…] [--seeds 0 1 2]
    python benchmarks/chest.py --list

Needs the images below TACIT_DATA (or ../shared/data). A finished row is never run again; delete its file to repeat it. The rows `copy-one-mask` and
`mean-atlas` use the labels of fold 1: they are floors of the table, no methods.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from provenance import stamp
from tacit.config import build, parse_assignments
from tacit.files import write_atomic
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "jsrt"
RESULTS = ROOT / "benchmarks" / "results" / "chest"
WORK = ROOT / "benchmarks" / "work" / "chest"
CLASSES = ("lungs", "heart", "clavicles")
Predict = Callable[[str], np.ndarray]  # name → (k, h, w) bool

METHODS: dict[str, tuple[str, list[str], str]] = {  # row → method, settings, what it learns from
    "rule-dark": ("lung-rule", ["steps=dark"], "nothing"),
    "rule-inside": ("lung-rule", ["steps=inside"], "nothing"),
    "rule-hull": ("lung-rule", ["steps=hull"], "nothing"),
    "rule": ("lung-rule", [], "nothing"),
    "mixture-not-shared": ("lung-mixture", [], "nothing"),
    "mixture": ("lung-mixture", [], "fold1"),
    "drawing-only": ("phantom-chest", [], "nothing"),
    "phantom-chest": ("phantom-chest", [], "fold1"),
    "phantom-chest-one-image": ("phantom-chest", [], "one"),
    "phantom-chest-two-rounds": ("phantom-chest", ["adapt.rounds=2"], "fold1"),
    "phantom-chest-snap": ("phantom-chest", ["adapt.snap=true"], "fold1"),
    "phantom-chest-transductive": ("phantom-chest", [], "fold2"),
}
SEEDED = tuple(n for n, (method, _, _) in METHODS.items() if method == "phantom-chest")
ROWS = ("copy-one-mask", "mean-atlas", *METHODS)


@cache
def folds() -> dict[str, list[str]]:
    return json.loads((DATA / "folds.json").read_text())


@cache
def picture(name: str) -> np.ndarray:
    return cv2.imread(str(DATA / "images" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE)


@cache
def truth(name: str) -> np.ndarray:
    """Lungs, heart and clavicles as a reader drew them, (3, h, w). For scores and for the two floors, nothing else."""

    def mask(part: str) -> np.ndarray:
        return cv2.imread(str(next((DATA / "masks" / part).glob(f"{name}.*"))), cv2.IMREAD_GRAYSCALE) > 0

    return np.stack([mask("left_lung") | mask("right_lung"), mask("heart"), mask("left_clavicle") | mask("right_clavicle")])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def scored(predict: Predict, names: list[str], classes: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    """Dice of every image, by class: mean, 95% bootstrap interval over images, least, how many below .8."""
    found: dict[str, Any] = {}
    each = np.array([[dice(p, t) for p, t in zip(predict(name), truth(name), strict=False)] for name in names])
    for k, name in enumerate(classes):
        values = each[:, k]
        means = np.sort([values[rng.integers(0, len(values), len(values))].mean() for _ in range(2000)])
        worst = [names[i] for i in np.argsort(values)[:3]]
        found[name] = {
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "least": float(values.min()),
            "below_0.8": int((values < 0.8).sum()),
            "interval": [float(means[49]), float(means[1949])],
            "worst": worst,
        }
    return found


def copied(names: list[str]) -> np.ndarray:
    """The labelled image of fold 1 whose masks, copied as they are, agree best with the others of fold 1 (lungs)."""
    small = {n: np.stack([cv2.resize(p.astype(np.uint8), (64, 64), interpolation=cv2.INTER_AREA) for p in truth(n)]) > 0 for n in names}
    best = max(names, key=lambda n: sum(dice(small[n][0], small[m][0]) for m in names if m != n))
    return truth(best)


def floors(row: str) -> Predict:
    known = folds()["fold1"]
    if row == "copy-one-mask":
        fixed = copied(known)
    else:  # clavicles hardly overlap, so each structure gets the area that it has on average
        mean = np.mean([truth(n) for n in known], axis=0)
        areas = np.mean([truth(n).mean((1, 2)) for n in known], axis=0)
        fixed = np.stack([plane > np.quantile(plane, 1 - area) for plane, area in zip(mean, areas, strict=True)])
    return lambda name: fixed


def method_of(row: str, seed: int) -> tuple[Any, Predict]:
    """A method that has learnt what its row says, and its answers. Stages are kept, so that a row that was stopped goes on, and rows share teachers."""
    name, changes, source = METHODS[row]
    kind = STRUCTURES[name]
    extra = ["adapt.rounds=0"] if row == "drawing-only" else []
    method = kind(build(kind.Config, parse_assignments([*changes, *extra])))
    names = {"nothing": [], "fold1": folds()["fold1"], "one": folds()["fold1"][:1], "fold2": folds()["fold2"]}[source]
    learnt = [method.working(picture(n)) for n in names]
    place = WORK / f"{row}-seed{seed}"
    if name == "phantom-chest":
        for k in range(method.config.teachers):
            _share(WORK / f"teachers-seed{seed}" / f"teacher-{k + 1}", place / f"teacher-{k + 1}")
        if row == "phantom-chest-two-rounds":
            _share(WORK / f"phantom-chest-seed{seed}" / "student-1", place / "student-1")
    torch.manual_seed(seed)
    method.fit(learnt, Workshop(seed=seed, folder=place if name == "phantom-chest" else None, say=lambda line: print("  " + line, flush=True)))
    return method, lambda n: method.probability(picture(n)) > 0.5


def _share(kept: Path, link: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(kept, target_is_directory=True)


def sureness(method: Any, lungs: dict[str, float]) -> dict[str, Any]:
    """What the confidence is worth: rank correlation with Dice, and the images that it names."""
    from scipy.stats import spearmanr

    sure = {n: method.confidence(picture(n)) for n in lungs}
    named = [n for n in lungs if method.is_doubtful(picture(n))]
    rest = [v for n, v in lungs.items() if n not in named]
    return {
        "spearman": float(spearmanr(list(sure.values()), list(lungs.values())).statistic),
        "named": len(named),
        "dice_of_named": float(np.mean([lungs[n] for n in named])) if named else None,
        "dice_of_others": float(np.mean(rest)) if rest else None,
        "far_from_drawing": float(np.median([method.far_from_drawing(picture(n)) for n in lungs])),
    }


def row(name: str, seed: int) -> None:
    place = RESULTS / f"{name}-seed{seed}.json"
    if place.exists():
        print(f"{place.name}: done before")
        return
    clock, cpu = time.monotonic(), time.process_time()
    method, predict = (None, floors(name)) if name in ROWS[:2] else method_of(name, seed)
    learning = {"wall": time.monotonic() - clock, "cpu": time.process_time() - cpu}
    classes = CLASSES if method is None else method.CLASSES
    test = folds()["fold2"]
    clock = time.monotonic()
    answers = {n: predict(n) for n in test}
    applying = (time.monotonic() - clock) / len(test)
    found = scored(lambda n: answers[n], test, classes, np.random.default_rng(0))
    result = {
        "row": name,
        "seed": seed,
        "uses_labels": method is None,
        "command": f"python benchmarks/chest.py {name} --seeds {seed}",
        "settings": [] if method is None else METHODS[name][1],
        "learns_from": "labels of fold 1" if method is None else METHODS[name][2],
        "images": len(test),
        "found": found,
        "seconds": {"learning_this_time": learning, "an_image": applying},
        **stamp(),
    }
    if hasattr(method, "confidence"):
        result["confidence"] = sureness(method, {n: dice(answers[n][0], truth(n)[0]) for n in test})
    write_atomic(place, json.dumps(result, indent=1) + "\n")
    print(
        f"{name} seed {seed}: "
        + "; ".join(f"{k} {v['mean']:.3f} [{v['interval'][0]:.3f}, {v['interval'][1]:.3f}] least {v['least']:.3f}" for k, v in found.items()),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return
    if not DATA.is_dir():
        sys.exit(f"no JSRT images at {DATA}; set TACIT_DATA")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for seed in options.seeds:
        for name in options.rows or ROWS:
            if seed == options.seeds[0] or name in SEEDED:
                row(name, seed)


if __name__ == "__main__":
    main()
