"""What a square millimetre of tissue and a tile of an index cost: CPU seconds of `tacit segment`, CPU seconds and bytes of `tacit index` on made slides of two sizes.

    python benchmarks/slides_cost.py        writes benchmarks/results/slides_cost.json

The larger slide has sixteen times the area of the smaller; what is given is their difference by the area or tiles that it has more, so that neither imports nor
the start of a process count. Drawn tissue edge to edge at 0.5 µm per px, JPEG tiles, three levels. `segment`: the default network with
its twelve looks, taught very briefly: the time does not depend on what it learnt. `index`: the default encoder, tiles of 256 µm. One thread.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import tifffile

from provenance import ROOT, stamp
from tacit.phantom import tissue

RESULT = ROOT / "benchmarks" / "results" / "slides_cost.json"
WORK = ROOT / "benchmarks" / "work" / "slides-cost"
MPP, TILE = 0.5, 1024
SIZES = (2048, 8192)
BRIEF = ["draw.pictures=6", "train.epochs=1", "train.steps=2", "train.batch=2", "student.epochs=1", "student.steps=2", "student.batch=2"]


def make(size: int) -> Path:
    place = WORK / f"slides-{size}" / f"{size}.svs"
    if place.is_file():
        return place.parent
    place.parent.mkdir(parents=True, exist_ok=True)
    drawn = [tissue.draw(np.random.default_rng([13, k]), (TILE, TILE), MPP).picture for k in range(3)]
    order = np.random.default_rng(13).integers(0, 3, (size // TILE, size // TILE))
    level = np.concatenate([np.concatenate([drawn[k] for k in row], 1) for row in order])
    with tifffile.TiffWriter(place, bigtiff=True) as file:
        for k in range(3):
            per_cm = (1e4 / MPP / 4**k,) * 2
            file.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                metadata=None,
                subfiletype=int(k > 0),
                resolution=per_cm,
                resolutionunit="CENTIMETER",
            )
            level = cv2.resize(level, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return place.parent


def cpu_of(command: list[str]) -> float:
    """User and system seconds of a command and of the processes that it begins."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "tacit", *command], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def segment() -> dict[str, Any]:
    rows = []
    for size in SIZES:
        out = WORK / "out"
        shutil.rmtree(out, ignore_errors=True)
        cpu = cpu_of(["segment", str(make(size)), "-o", str(out), "--model", str(learnt())])
        rows.append((float(pd.read_csv(out / "tables" / "slides.csv")["tissue_mm2"].sum()), cpu))
    area, seconds = (np.array(rows[1]) - np.array(rows[0])).tolist()
    return {
        "mm2": [round(r[0], 2) for r in rows],
        "cpu_s": [round(r[1], 1) for r in rows],
        "cpu_s_per_mm2": round(seconds / area, 3),
    }


def index() -> dict[str, Any]:
    rows = []
    for size in SIZES:
        out = WORK / "index"
        shutil.rmtree(out, ignore_errors=True)
        cpu = cpu_of(["index", str(make(size)), "-o", str(out)])
        said = subprocess.run([sys.executable, "-m", "tacit", "index", str(out), "--list", "--json"], check=True, capture_output=True, text=True).stdout
        rows.append((int(json.loads(said)["rows"]), cpu, size_of(out)))
    tiles, seconds, size = (np.array(rows[1]) - np.array(rows[0])).tolist()
    return {
        "tiles": [r[0] for r in rows],
        "cpu_s": [round(r[1], 1) for r in rows],
        "cpu_s_per_tile": round(seconds / tiles, 5),
        "bytes_per_tile": round(size / tiles),
    }


def learnt() -> Path:
    place = WORK / "learnt"
    if not (place / "model" / "weights.safetensors").is_file():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "tacit", "segment", str(make(SIZES[0])), "-o", str(place), *(w for s in BRIEF for w in ("--set", s))], check=True)
    return place


def main() -> None:
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else {}
    for name, job in (("segment", segment), ("index", index)):
        if name not in rows:
            rows[name] = job()
            print(name, rows[name], flush=True)
            RESULT.write_text(json.dumps({"threads": 1, "mpp": MPP, "rows": rows, **stamp(0)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
