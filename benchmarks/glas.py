"""Quality on GlaS: learn on the 85 train images without labels, score train and testA. Resumable; one JSON file a row.

    python benchmarks/glas.py ROW…  [--seeds 0 1 2] [--minutes-left 60]
    python benchmarks/glas.py --list

Needs the images below TACIT_DATA (or ../shared/data). A finished row is never run again; delete its file to repeat it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from provenance import COMMIT

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "glas"
RESULTS = ROOT / "benchmarks" / "results" / "glas"
WORK = ROOT / "benchmarks" / "work"

SHORT = ["teachers=1", "train.epochs=6", "student.epochs=6", "draw.pictures=300", "data.um_per_px=3.72", "data.size=64"]  # ablations: one teacher, coarse
TEACHER = [w for c in SHORT[:3] for w in ("--set", f"teacher.{c}")] + ["--set", "teacher.data.um_per_px=3.72", "--set", "teacher.data.size=64"]
ROWS: dict[str, list[str]] = {
    "haematoxylin": ["--method", "haematoxylin"],
    "phantom": [],
    "phantom-fast": ["--budget", "fast"],
    "mssg-paper": ["--method", "mssg-paper"],
    "mssg": ["--method", "mssg"],
    # MSSG, part by part
    "mssg-random": ["--method", "mssg-paper", "--set", "steps=0", "--set", "prior=false"],
    "mssg-border-only": ["--method", "mssg-paper", "--set", "prior=false"],
    "mssg-paper-no-spatial": ["--method", "mssg-paper", "--set", "spatial=0.0"],
    "mssg-paper-iic": ["--method", "mssg-paper", "--set", "loss=iic"],
    "mssg-paper-cures": ["--method", "mssg-paper", "--set", "cue=haematoxylin", "--set", "padding=reflect"],
    "mssg-no-diffusion": ["--method", "mssg", "--set", "diffusion=0.0"],
    "mssg-no-omission": ["--method", "mssg", "--set", "omission_rounds=0"],
    "mssg-robust-loss": ["--method", "mssg", "--set", "q=0.7"],
    "mssg-as-published": [
        "--method",
        "mssg",
        "--set",
        "q=0.0",
        "--set",
        "folder_net=false",
        "--set",
        "border.cue=grey",
        "--set",
        "border.padding=zeros",
        "--set",
        "border.clusters=5",
        "--set",
        "border.hole_um2=5766",
    ],
    "mssg-from-haematoxylin": ["--method", "mssg", "--set", "proposals=haematoxylin"],
    "mssg-from-phantom": ["--method", "mssg", "--set", "proposals=phantom", *TEACHER],
}
ABLATIONS: dict[str, list[str]] = {
    "short": [],
    "short-no-adaptation": ["adapt.rounds=0"],
    "short-two-rounds": ["adapt.rounds=2"],
    "short-cross-entropy": ["q=0.02"],
    "short-diffusion": ["adapt.diffusion=0.1"],
    "short-pseudo-only": ["adapt.drawn=0.0"],
    "short-mostly-drawn": ["adapt.drawn=0.75"],
    "short-three-teachers": ["teachers=3"],
    "short-few-drawings": ["draw.pictures=60"],
    "short-no-solid": ["tissue.solid=0.0"],
    "short-no-other-stain": ["tissue.other_stain=0.0"],
    "short-no-distractors": [
        "tissue.stroma.other_tissue=0.0",
        "tissue.stroma.outside=0.0",
        "tissue.stroma.vessels=0.0",
        "tissue.stroma.mucin_lake=0.0",
        "tissue.stroma.buds=0.0",
        "tissue.stroma.follicle=0.0",
    ],
    "short-low-share": ["tissue.share=[0.1, 0.4]"],
    "short-wide": ["network.width=32"],
    "short-one-look": ["tissue.malignant=0.0"],
    "short-real-ground": ["adapt.ground=real"],
    "short-colours-matched": ["draw.colours=matched"],
    "short-stop-agreement": ["stop=agreement"],
}
for _name, _changes in ABLATIONS.items():
    ROWS[_name] = [word for change in [*SHORT, *_changes] for word in ("--set", change)]


def folders() -> dict[str, Path]:
    """The two halves as lists, so that no image is copied; truth stays where it is."""
    WORK.mkdir(parents=True, exist_ok=True)
    lists = {}
    for part in ("train", "testA"):
        lists[part] = WORK / f"{part}.csv"
        pd.DataFrame({"path": [str(p) for p in sorted((DATA / "images").glob(f"{part}_*.jpg"))]}).to_csv(lists[part], index=False)
    return lists


def tacit(*words: object) -> dict[str, float]:
    """Runs the command; gives CPU and wall seconds."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "tacit", *map(str, words)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "wall": time.monotonic() - clock}


def score(run: Path) -> dict[str, Any]:
    from tacit import evaluate

    found = evaluate(run / "masks", DATA / "masks")
    return {k: found[k] for k in ("images", "figures", "interval", "over", "by_class")}


def row(name: str, seed: int, lists: dict[str, Path]) -> None:
    place = RESULTS / f"{name}-seed{seed}.json"
    if place.exists():
        print(f"{place.name}: done before")
        return
    out = WORK / f"{name}-seed{seed}"
    words = ["--mpp", 0.62, "--seed", seed, *ROWS[name]]
    again = ["--resume"] if (out / "run.json").exists() else []
    learn = tacit("segment", lists["train"], "-o", out, *words, *again)
    on_test = WORK / f"{name}-seed{seed}-testA"
    apply = tacit("segment", lists["testA"], "-o", on_test, "--model", out, "--mpp", 0.62, "--overwrite")
    record = json.loads((out / "run.json").read_text())
    result = {
        "row": name,
        "seed": seed,
        "command": f"tacit segment TRAIN -o OUT {' '.join(map(str, words))}",
        "seconds": {"learn_and_apply_train": learn, "apply_testA": apply, "learning_run": record["seconds"]},
        "versions": record["versions"],
        "commit": COMMIT,
        "train": score(out),
        "testA": score(on_test),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(place)
    print(
        f"{name} seed {seed}: train {result['train']['figures']['miou']:.3f}  testA {result['testA']['figures']['miou']:.3f}  in {learn['wall']:.0f} s",
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
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    lists = folders()
    for seed in options.seeds:
        for name in options.rows or ROWS:
            row(name, seed, lists)


if __name__ == "__main__":
    main()
