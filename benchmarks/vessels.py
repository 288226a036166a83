"""Vessels of DRIVE, STARE and CHASE_DB1 without labels: filters, drawings alone, each round of adaptation. Resumable; one JSON file a row set.

    python benchmarks/vessels.py [drive stare chasedb1] [--seeds 0 1 2] [--also-test]

Learnt on the unlabelled images of the train part alone and scored on the test part (splits: ld_splits.json of the data); --also-test
learns on the test images too, without their truth. Dice in the given field of view, mean over images, first observer; interval:
bootstrap over patients where they are known (CHASE_DB1), else images. Needs the images below TACIT_DATA (or ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from provenance import stamp
from tacit.config import build
from tacit.learn.classical.matched_filter import MatchedFilterConfig
from tacit.learn.classical.vessel_filters import VesselFilters, VesselFiltersConfig
from tacit.learn.fundus_taught import FundusTaught, FundusTaughtConfig
from tacit.learn.workshop import Workshop
from tacit.parts.weights import load_into
from tacit.report.score import interval

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "retina-vessels"
RESULTS = ROOT / "benchmarks" / "results" / "vessels"
WORK = ROOT / "benchmarks" / "work" / "vessels"
SETS = {"drive": "drive_rite", "stare": "stare", "chasedb1": "chasedb1"}
FILTERS = {
    "matched filter, as published": VesselFiltersConfig(filters=("matched",), matched=MatchedFilterConfig()),
    "matched filter, three widths": VesselFiltersConfig(filters=("matched",)),
    "COSFIRE": VesselFiltersConfig(filters=("cosfire",)),
    "line detector": VesselFiltersConfig(filters=("line",)),
    "filters together": VesselFiltersConfig(),
}
Answer = Callable[[NDArray], NDArray[np.float32]]


@dataclass(frozen=True)
class Photograph:
    """One image of a set; truth is read when scoring, never before."""

    name: str
    folder: Path
    suffix: str

    @property
    def pixels(self) -> NDArray[np.uint8]:
        return np.asarray(Pillow.open(self.folder / "images" / (self.name + self.suffix)).convert("RGB"))

    def mask(self, kind: str) -> NDArray[np.bool_]:
        return np.asarray(Pillow.open(self.folder / kind / f"{self.name}.png").convert("L")) > 0

    @property
    def patient(self) -> str:
        return self.name[:8] if self.name.startswith("Image_") else self.name


def photographs(name: str, part: str) -> list[Photograph]:
    """The images of a part of a set, in the order of the split."""
    names = json.loads((DATA / "ld_splits.json").read_text())[SETS[name]][part]
    inner = {"train": "training", "test": "test"}[part] if name == "drive" else ""
    return [Photograph(n, DATA / name / inner, ".jpg" if name == "chasedb1" else ".png") for n in names]


def dice(answer: NDArray[np.bool_], truth: NDArray[np.bool_], field: NDArray[np.bool_]) -> float:
    a, b = answer & field, truth & field
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def scored(images: list[Photograph], answers: Iterator[NDArray[np.bool_]]) -> dict[str, Any]:
    """Dice of every image, their mean and its interval."""
    each, share = {}, []
    for image, answer in zip(images, answers, strict=True):
        field = image.mask("fov")
        each[image.name] = round(dice(answer, image.mask("manual1"), field), 4)
        share.append(float(answer[field].mean()))
    tallies = [{"dice": d, "images": 1.0} for d in each.values()]
    low, high = interval(tallies, [i.patient for i in images], lambda t: sum(x["dice"] for x in t) / sum(x["images"] for x in t))
    return {"dice": float(np.mean(list(each.values()))), "interval": [low, high], "share": float(np.mean(share)), "each": each}


def looked(images: list[Photograph], probability: Answer) -> dict[str, Any]:
    """`scored`, and CPU seconds an image, reading it included."""
    clock = time.process_time()
    answers = [probability(i.pixels)[0] > 0.5 for i in images]
    spent = (time.process_time() - clock) / len(images)
    return scored(images, iter(answers)) | {"seconds_an_image": round(spent, 2)}


def filters(name: str) -> None:
    place = RESULTS / f"{name}-filters.json"
    if place.exists():
        return
    test, rows = photographs(name, "test"), {}
    for row, config in FILTERS.items():
        rows[row] = looked(test, VesselFilters(config).probability)
        print(name, row, f"{rows[row]['dice']:.3f}", flush=True)
    rows["second observer"] = scored(test, (i.mask("manual2") for i in test))
    print(name, "second observer", f"{rows['second observer']['dice']:.3f}", flush=True)
    write(place, {"set": name, "rows": rows, **stamp()})


def taught(name: str, seed: int, also_test: bool) -> None:
    how = "train and test images" if also_test else "train images"
    place = RESULTS / f"{name}{'-all' if also_test else ''}-seed{seed}.json"
    if place.exists():
        return
    test, config = photographs(name, "test"), build(FundusTaughtConfig)
    method, folder = FundusTaught(config), WORK / place.stem
    learnt = [method.working(i.pixels) for i in photographs(name, "train") + (test if also_test else [])]
    before, resumed = folder / "seconds.json", folder.exists()
    clock, wall = time.process_time(), time.monotonic()
    method.fit(learnt, Workshop(seed=seed, folder=folder, say=lambda line: print(f"  {line}", flush=True)))
    spent = None if resumed else {"cpu": time.process_time() - clock, "wall": time.monotonic() - wall}
    if before.exists():  # an earlier run was stopped after learning
        spent = json.loads(before.read_text())
    before.write_text(json.dumps(spent))
    rows = {}
    for stage in ["teacher", *(f"student-{k + 1}" for k in range(config.adapt.rounds))]:
        one = FundusTaught(config)
        load_into(one, folder / stage / "done.safetensors")
        rows[stage] = looked(test, one.eval().probability)
        print(name, f"seed {seed}", stage, f"{rows[stage]['dice']:.3f}", flush=True)
    rows["phantom-fundus"] = looked(test, method.probability)
    print(name, f"seed {seed}", "phantom-fundus", f"{rows['phantom-fundus']['dice']:.3f}", flush=True)
    write(
        place,
        {
            "set": name,
            "learnt_from": f"{len(learnt)} {how}, no mask",
            "seconds": spent,
            "settings": config.model_dump(mode="json"),
            "rows": rows,
            **stamp(seed),
        },
    )


def write(place: Path, result: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".part")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help=", ".join(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--also-test", action="store_true")
    options = parser.parse_args()
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"unknown set {unknown[0]!r}; known are {', '.join(SETS)}")
    if not DATA.is_dir():
        parser.error(f"no photographs at {DATA}; set TACIT_DATA")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for name in options.sets or SETS:
        filters(name)
    for seed in options.seeds:
        for name in options.sets or SETS:
            taught(name, seed, options.also_test)


if __name__ == "__main__":
    main()
