"""What `benchmarks/few_labels.py` starts from, learnt without any label on the train parts, and kept below benchmarks/work/few_labels.

    python benchmarks/few_labels_starts.py [SET…] [--methods local-discrimination simsiam densecl pixpro]

Pretraining is `tacit pretrain` with the settings below, a few minutes of one core. The drawn start is the network that benchmarks/vessels.py and
benchmarks/chest.py have taught (run those first); nothing is learnt again here.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import torch

import tacit
from chest import DATA as CHESTS
from chest import WORK as CHEST_WORK
from chest import folds
from tacit.learn.chest_taught import ChestTaught
from tacit.learn.fundus_taught import FundusTaught
from tacit.parts.weights import load_into
from tacit.use.model import save_model
from vessels import SETS, photographs
from vessels import WORK as VESSEL_WORK

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "few_labels"
JOBS = ("jsrt", *SETS)
BACKBONE = "resnet10t"
PRETRAINING: dict[tuple[str, str], list[str]] = {  # method, kind of picture → settings; a view shows all of a chest, a quarter of a retina's side (of 512 px)
    ("local-discrimination", "jsrt"): ["size=128", "train.epochs=1", "train.steps=240"],
    ("local-discrimination", "vessels"): ["size=128", "views.crop=[0.24, 0.28]", "train.epochs=1", "train.steps=150", "train.schedule=poly"],
    ("simsiam", "jsrt"): ["size=128", "train.epochs=1", "train.steps=200", "train.batch=16"],
    ("simsiam", "vessels"): ["size=128", "train.epochs=1", "train.steps=200", "train.batch=16"],
    ("densecl", "jsrt"): ["size=128", "train.epochs=1", "train.steps=320", "train.batch=16"],  # as many minutes as SimSiam's
    ("densecl", "vessels"): ["size=128", "train.epochs=1", "train.steps=320", "train.batch=16"],
    ("pixpro", "jsrt"): ["size=128", "train.epochs=1", "train.steps=160", "train.batch=16"],  # likewise
    ("pixpro", "vessels"): ["size=128", "train.epochs=1", "train.steps=160", "train.batch=16"],
}
METHODS = tuple(sorted({method for method, _ in PRETRAINING}))


def kind(job: str) -> str:
    return "jsrt" if job == "jsrt" else "vessels"


def train_files(job: str) -> list[Path]:
    """The unlabelled images of the train part; retinas are learnt from all three sets' train parts together."""
    if job == "jsrt":
        return [CHESTS / "images" / f"{name}.jpg" for name in folds()["fold1"]]
    return [i.folder / "images" / (i.name + i.suffix) for name in SETS for i in photographs(name, "train")]


def pretrained(job: str, method: str) -> Path:
    """The OUT of `tacit pretrain` on the train part, made now where it is not there."""
    job = kind(job)
    out = WORK / "starts" / f"{job}-{method}"
    if (out / "run.json").exists() and json.loads((out / "run.json").read_text())["status"] == "finished":
        return out
    files = WORK / "starts" / f"{job}.csv"
    files.parent.mkdir(parents=True, exist_ok=True)
    files.write_text("path\n" + "".join(f"{path}\n" for path in train_files(job)))
    backbone = None if method == "local-discrimination" else BACKBONE
    wall = time.monotonic()
    tacit.pretrain(files, out, method=method, backbone=backbone, set=PRETRAINING[method, job], resume=out.exists())
    print(f"{job} {method}: {time.monotonic() - wall:.0f} s", flush=True)
    return out


def drawn(job: str, seed: int = 0) -> Path:
    """The network that drawings and the unlabelled train part have taught with the same seed, as a run's model folder."""
    out = WORK / "starts" / f"{job}-drawn-{seed}"
    if not (out / "model" / "model.json").exists():
        network = ChestTaught() if job == "jsrt" else FundusTaught()
        taught = CHEST_WORK / f"phantom-chest-seed{seed}" / "student-1" if job == "jsrt" else VESSEL_WORK / f"{job}-seed{seed}" / "student-2"
        if not (taught / "done.safetensors").exists():
            raise SystemExit(f"{taught} is not there; run benchmarks/{'chest.py phantom-chest' if job == 'jsrt' else f'vessels.py {job}'} first")
        load_into(network, taught / "done.safetensors")
        save_model(
            out / "model",
            "phantom-chest" if job == "jsrt" else "phantom-fundus",
            network,
            {"images": 124 if job == "jsrt" else len(photographs(job, "train")), "seed": seed},
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=", ".join(JOBS))
    parser.add_argument("--methods", nargs="*", default=["local-discrimination"], choices=METHODS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for job in options.jobs or JOBS:
        drawn(job)
        for method in options.methods:
            pretrained(job, method)


if __name__ == "__main__":
    main()
