"""Peak memory of `tacit classify fit` and `predict` at N, 4 N and 16 N cases, each in a process of its own; and of one DICOM series of 150 slices of 512 × 512.

python benchmarks/classify_memory.py          prints a table, writes benchmarks/results/classify_memory.json

Cases: series of twelve drawn slices of 96 px as folders of pictures, two classes. Small grids (as in the tests), two members taught by 200 slices, no twins: the number of cases is
what varies. The DICOM series, taken from `benchmarks/classify_speed.py`, needs COVID-CT-MD below TACIT_DATA (or ../shared/data).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

import classify_speed
from interleaved import write

N, SLICES, SIDE = 24, 12, 96
BRIEF = [
    "members=2", "inner=2", "rows=200", "texture.side=64", "texture.words=16", "texture.samples=3000", "first.c=[1.0]", "first.gamma=[0.1]", "first.rounds=[20]",
    "first.depth=[2]", "second.table.c=[1.0]", "second.table.gamma=[0.1]", "second.table.rounds=[20]", "second.table.depth=[2]",
]  # fmt: skip
JOB = """
import json, sys
import torch
torch.set_num_threads(1)
import tacit
verb, options = sys.argv[1], json.loads(sys.argv[2])
getattr(tacit, verb)(options.pop("source"), options.pop("out"), **options)
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def peak(verb: str, cache: Path, **options: object) -> float:
    """MB at the highest, of a process that does this and no more."""
    environment = {**os.environ, "TACIT_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", JOB, verb, json.dumps(options, default=str)], capture_output=True, text=True, check=True, env=environment)
    return round(int(done.stdout.split()[-1]) / 1024, 1)


def more_cases(folder: Path, first: int, last: int) -> None:
    """Series with grain where they are ill."""
    for i in range(first, last):
        rng = np.random.default_rng(i)
        (folder / f"c{i:04d}").mkdir(parents=True)
        for s in range(SLICES):
            grey = np.full((SIDE, SIDE), 60, np.float32) + 8 * rng.normal(size=(SIDE, SIDE)) + (i % 2) * 50 * (rng.random((SIDE, SIDE)) > 0.7)
            cv2.imwrite(str(folder / f"c{i:04d}" / f"{s:02d}.png"), np.clip(grey, 0, 255).astype(np.uint8))


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        cases, labels, cache = Path(place) / "cases", Path(place) / "labels.csv", Path(place) / "cache"
        made = 0
        for count in (N, 4 * N, 16 * N):
            more_cases(cases, made, count)
            made = count
            with labels.open("w", newline="") as file:
                csv.writer(file).writerows([("case", "class", "patient"), *((f"c{i:04d}", "ill" if i % 2 else "well", i) for i in range(count))])
            run = Path(place) / f"run{count}"
            fit = peak("classify_fit", cache, source=cases, out=run, labels=labels, twins=False, set=BRIEF)
            found[f"{count} series"] = {"fit_mb": fit, "predict_mb": peak("classify_predict", cache, source=cases, out=Path(place) / f"said{count}", model=run)}
            print(count, found[f"{count} series"], flush=True)
        if classify_speed.DATA.is_file():
            dicom = classify_speed.series()
            found["one DICOM series, 150 × 512 × 512"] = {"predict_mb": peak("classify_predict", cache, source=dicom, out=Path(place) / "one", model=run)}
    rows = [found[f"{N * times} series"] for times in (1, 4, 16)]
    growth = {name: round(max(r[name] for r in rows) / rows[0][name] - 1, 4) for name in ("fit_mb", "predict_mb")}
    print(found, growth)
    write("classify_memory", found, ["xgboost-cpu"], growth=growth)


if __name__ == "__main__":
    main()
