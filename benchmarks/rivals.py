"""The rivals on one table: each method learns on the train part without labels and is scored on it and on the test part. Resumable; one JSON file a row and seed.

    python benchmarks/rivals.py [METHOD…] [--set glas | jsrt | drive] [--clusters 2 5] [--seeds 0]
    python benchmarks/rivals.py --list

glas: 85 train, 60 testA · jsrt: fold 1, fold 2, lungs · drive: train, test, vessels in the field of view. Each row is two commands of `tacit segment`, as
`tacit compare --methods` runs them, and is scored as there: clusters without names are named by the truth of the scored pictures. Needs the images below
TACIT_DATA (or ../shared/data). A finished row is never run again; delete its file to repeat it. One core; a GlaS row that learns took 3 to 10 minutes on a busy one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from provenance import stamp
from tacit.files import write_atomic
from tacit.read.folder import read_grades
from tacit.report.methods import of_method
from tacit.report.score import figures
from tacit.use.method_rows import Row, cost, make, on_test, plan
from tacit.use.score_masks import score_masks

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
RESULTS = ROOT / "benchmarks" / "results" / "rivals"
WORK = ROOT / "benchmarks" / "work"
RIVALS = ("colour-clusters", "random-features", "feature-clustering", "picie", "iic", "deep-cluster", "densecl-clusters", "pixpro-clusters")
METHODS = {"glas": (*RIVALS, "haematoxylin"), "jsrt": (*RIVALS, "lung-rule"), "drive": (*RIVALS, "vessel-filters")}
OPTIONS = {"glas": ["--mpp", "0.62"], "jsrt": [], "drive": []}
SETTINGS = {"glas": [], "jsrt": [], "drive": ["side=256"]}  # a vessel is a pixel or two of 128


@dataclass(frozen=True)
class Parts:
    """Pictures of a set, as lists, and where their truth lies."""

    train: Path
    test: Path
    truth: Path
    field: Path | None = None


def lists(name: str, parts: dict[str, list[Path]]) -> dict[str, Path]:
    """The parts as lists, so that no image is copied."""
    WORK.mkdir(parents=True, exist_ok=True)
    found = {}
    for part, paths in parts.items():
        found[part] = WORK / f"{name}{part}.csv"
        pd.DataFrame({"path": [str(p) for p in paths]}).to_csv(found[part], index=False)
    return found


def glas() -> Parts:
    found = lists("", {part: sorted((DATA / "glas" / "images").glob(f"{part}_*.jpg")) for part in ("train", "testA")})
    return Parts(found["train"], found["testA"], DATA / "glas" / "masks")


def jsrt() -> Parts:
    from chest import folds, truth

    place = WORK / "rivals-jsrt-truth"
    for name in (n for part in folds().values() for n in part):
        if not (place / f"{name}.png").exists():
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / f"{name}.png"), truth(name)[0].astype(np.uint8))
    found = lists(
        "rivals-jsrt-", {part: [DATA / "jsrt" / "images" / f"{n}.jpg" for n in folds()[fold]] for part, fold in (("train", "fold1"), ("test", "fold2"))}
    )
    return Parts(found["train"], found["test"], place)


def drive() -> Parts:
    from vessels import photographs

    place = WORK / "rivals-drive"
    for image in (i for part in ("train", "test") for i in photographs("drive", part)):
        for kind in ("manual1", "fov"):
            (place / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / kind / f"{image.name}.png"), image.mask(kind).astype(np.uint8))
    found = lists("rivals-drive-", {p: [i.folder / "images" / (i.name + i.suffix) for i in photographs("drive", p)] for p in ("train", "test")})
    return Parts(found["train"], found["test"], place / "manual1", place / "fov")


SETS = {"glas": glas, "jsrt": jsrt, "drive": drive}


def scored(run: Path, parts: Parts, patients: dict[str, str], groups: dict[str, str], things: bool) -> dict[str, Any]:
    """The figures of a run, and each picture's mIoU."""
    found = score_masks(run, parts.truth, parts.field, things=things)
    tallies = found.tallies
    own = of_method([tallies], {p: patients.get(p, p) for p in tallies}, groups)
    each = {name: round(figures([t])["miou"], 4) for name, t in tallies.items()}
    return own | {"naming": found.how, "clusters": list(found.names or ()), "by_image": each, "failed": [f"{e.path}: {e.reason}" for e in found.failures]}


def finished(run: Path) -> bool:
    """Whether a run is done."""
    return (run / "run.json").exists() and json.loads((run / "run.json").read_text())["status"] == "finished"


def one(set_: str, row: Row, parts: Parts, things: bool) -> None:
    place = RESULTS / f"{set_}-{row.folder.name}.json"
    if place.exists():
        print(f"{place.name}: done before")
        return
    error = None if finished(row.folder) and finished(on_test(row)) else make(row, str(parts.train), str(parts.test))
    if error is not None:
        print(f"{row.name}: {error}", flush=True)
        return
    grades = read_grades(parts.truth)
    facts = {c: dict(zip(grades["name"], grades[c], strict=True)) if grades is not None else {} for c in ("patient", "label")}
    record = json.loads((row.folder / "run.json").read_text())
    result = {
        "set": set_,
        "row": row.label,
        **stamp(row.seed),
        "command": f"tacit segment TRAIN -o OUT {' '.join(w if str(WORK) not in w else 'OUT-OF-K2' for w in row.words)}",
        **cost(row),
        "warnings": record.get("warnings", []),
        "train": scored(row.folder, parts, facts["patient"], facts["label"], False),
        "test": scored(on_test(row), parts, facts["patient"], facts["label"], things),
    }
    write_atomic(place, json.dumps(result, indent=1) + "\n")
    print(
        f"{set_} {row.name}: train {result['train']['figures']['miou']['mean']:.3f}  test {result['test']['figures']['miou']['mean']:.3f}  "
        f"in {result['seconds']:.0f} s, {result['peak_mb']:.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*")
    parser.add_argument("--set", default="glas", choices=SETS)
    parser.add_argument("--clusters", nargs="+", type=int, default=[2, 5])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--no-objects", action="store_true", help="score pixels alone: objects of testA take minutes")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(METHODS[options.set]))
        return
    if not DATA.is_dir():
        sys.exit(f"no images at {DATA}; set TACIT_DATA")
    parts, methods = SETS[options.set](), options.methods or METHODS[options.set]
    out = WORK / ("rivals" if options.set == "glas" else f"rivals-{options.set}-runs")
    changes = [f"{m}.{s}" for m in methods if m in RIVALS for s in SETTINGS[options.set]]
    for seed in options.seeds:
        rows = plan(out, methods, [seed], options.clusters, OPTIONS[options.set], changes)
        for row in sorted(rows, key=lambda r: r.label.endswith("k=5")):  # all of two clusters first
            one(options.set, row, parts, not options.no_objects)


if __name__ == "__main__":
    main()
