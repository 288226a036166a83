"""How long a CT series of 150 DICOM slices takes `tacit classify predict --pipeline end-to-end` on one thread: preparing it, and COVNet-18's answer.

    python benchmarks/classify_speed.py     prints a table, writes benchmarks/results/classify_speed.json

The series: the normal chest of COVID-CT-MD below TACIT_DATA (or ../shared/data) at 512 × 512 with noise of its own, 150 slices of 2 mm, written as DICOM. Preparing is
reading, lungs, 1 mm, every fifth slice, 224 px, window, maximum over three, with an empty cache. Random weights take as long as taught ones. Jobs take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from interleaved import one_thread
from provenance import ROOT, stamp
from tacit.learn.end_to_end import EndToEnd, EndToEndConfig
from tacit.read.dicom_write import write_dicom_series
from tacit.read.nifti import read_volume
from tacit.run import open_run
from tacit.use.cohort import find_cohort

DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "covid-ct-md" / "nifti" / "normal001.nii.gz"
WORK = ROOT / "benchmarks" / "work" / "classify_speed"
SLICES, SIDE, ROUNDS = 150, 512, 5
MOST_S = {"prepare": 20.0, "answer of one network": 15.0}  # CPU seconds


def series() -> Path:
    """The DICOM folder."""
    image = read_volume(DATA)
    rng = np.random.default_rng(0)
    planes = [cv2.resize(plane, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) + 15 * rng.standard_normal((SIDE, SIDE)) for plane in image.pixels[:SLICES]]
    shrink = image.shape[1] / SIDE
    assert image.affine is not None and image.spacing_mm is not None
    spacing = (image.spacing_mm[0], image.spacing_mm[1] * shrink, image.spacing_mm[2] * shrink)
    affine = image.affine * np.array([1, shrink, shrink, 1])
    large = replace(image, pixels=np.clip(np.round(planes), -1024, 3071).astype(np.int16), spacing_mm=spacing, affine=affine)
    shutil.rmtree(WORK, ignore_errors=True)
    write_dicom_series(WORK / "in" / "series", large, patient="p", name="speed")
    return WORK / "in"


def main() -> None:
    one_thread()
    os.environ["TACIT_CACHE"] = str(WORK / "cache")
    source = series()
    networks = {n: EndToEnd(EndToEndConfig(model="02_COVNet-18", unit="series", members=n)) for n in (2, 5)}
    for n, network in networks.items():
        network.used.fill_(n)
    found: dict[str, list[tuple[float, float]]] = {}

    def timed(job: str, run: Any) -> Any:
        clocks = time.process_time(), time.perf_counter()
        answer = run()
        found.setdefault(job, []).append((time.process_time() - clocks[0], time.perf_counter() - clocks[1]))
        return answer

    with open_run(WORK / "run", command="", settings={}, reads=[source], overwrite=True) as run:
        for _ in range(ROUNDS + 1):  # the first does not count
            shutil.rmtree(WORK / "cache", ignore_errors=True)
            stack = timed("prepare", lambda: find_cohort(source, run)[0].prepared())
            kept = networks[5].kept(stack)
            x = networks[5]._seen(kept)
            timed("answer of one network", lambda x=x: networks[2].members[0].probabilities(x))
            timed("answer of five members", lambda kept=kept: networks[5].answers([kept]))
            timed("map of two members", lambda kept=kept: networks[2].maps(kept))
        slices = len(stack)
        run.record["ok"] = 1
    rows = {}
    for job, times in found.items():
        cpu, wall = np.median(times[1:], 0)
        rows[job] = {"cpu_s": round(float(cpu), 3), "wall_s": round(float(wall), 3)} | ({"wanted_s": MOST_S[job]} if job in MOST_S else {})
        print(f"{job:<26} CPU {cpu:7.3f} s   wall {wall:7.3f} s" + (f"   wanted at most {MOST_S[job]}" if job in MOST_S else ""))
    kept_all = all(rows[job]["cpu_s"] <= most for job, most in MOST_S.items())
    record = {"dicom_slices": SLICES, "side_px": SIDE, "prepared_slices": slices, "threads": 1, "rounds": ROUNDS, "rows": rows, "kept": kept_all, **stamp(0)}
    (ROOT / "benchmarks" / "results" / "classify_speed.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
