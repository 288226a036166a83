"""How much a start saves in labels: Dice on the test part after learning from 1, 2, 5, 10 or all masks of the train part. Resumable; one JSON file a cell.

    python benchmarks/few_labels.py [SET…] [--labels 1 2 5 10 all] [--starts random local-discrimination random-drawn drawn] [--seeds 0]

Sets: jsrt (lungs; fold 1 teaches, fold 2 scores), drive, stare, chasedb1 (vessels; ld_splits.json). Starts: `random` is beside `local-discrimination` the same
VGG U-Net with random weights, `random-drawn` beside `drawn` the U-Net of the drawings with random weights, `random-simsiam` beside `simsiam`,
`densecl` and `pixpro` a U-Net on resnet10t; the same views, steps and frame in each couple. Which pictures are labelled is a seeded draw, the same for every start; 2 contains 1, and so on. Dice
of a class at the picture's own size, for retinas in the given field of view; mean over test images, 95% bootstrap interval over images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image as Pillow

from chest import DATA as CHESTS
from chest import folds
from chest import truth as chest_truth
from few_labels_starts import JOBS, drawn, pretrained
from provenance import stamp
from tacit.config import build
from tacit.files import write_atomic
from tacit.learn.few_labels import PRESETS, FewLabels, FewLabelsConfig, Labelled
from tacit.learn.few_networks import start_of
from tacit.learn.pretraining import METHODS as PRETRAINING
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.report.score import interval
from tacit.use.model import load_model
from vessels import Photograph, dice, photographs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "few_labels"
COUNTS = ("1", "2", "5", "10", "all")
STARTS = ("random", "local-discrimination", "random-drawn", "drawn", "random-simsiam", "simsiam", "densecl", "pixpro")
STEPS = {"frozen": {"epochs": 2, "steps": 25}, "whole": {"epochs": 4, "steps": 25}}
FRAMES = {"jsrt": {"side": 128, "views": {"size": 128}}, "vessels": {"side": 512, "views": {"size": 128, "turn": 180.0}}}  # of starts without a frame
CLASS = {"jsrt": "lungs"}


class Chest:
    """A radiograph of JSRT with the interface of `vessels.Photograph`; its truth is the lungs."""

    def __init__(self, name: str) -> None:
        self.name = self.patient = name

    @property
    def pixels(self) -> np.ndarray:
        return np.asarray(Pillow.open(CHESTS / "images" / f"{self.name}.jpg").convert("RGB"))

    def mask(self, kind: str) -> np.ndarray:
        lungs: np.ndarray = chest_truth(self.name)[0]
        return np.ones_like(lungs) if kind == "fov" else lungs


def part(job: str, which: str) -> list[Any]:
    """The images of the train or test part."""
    return [Chest(n) for n in folds()["fold1" if which == "train" else "fold2"]] if job == "jsrt" else photographs(job, which)


def network(job: str, start: str, seed: int) -> FewLabels:
    """A network with its start, ready to be taught. The seed of torch decides its random weights."""
    name = start.removeprefix("random-") if start != "random" else "local-discrimination"
    taught, about = load_model(drawn(job, seed) if name == "drawn" else pretrained(job, name), PRETRAINING | STRUCTURES)
    begun = start_of(taught, about["method"])
    table = {"classes": [CLASS.get(job, "vessel")], "start": "random" if start.startswith("random") else begun.method}
    kind = begun.settings["network"]["kind"]
    frame = FRAMES["jsrt" if job == "jsrt" else "vessels"] if name != "drawn" else {}
    few = FewLabels(build(FewLabelsConfig, PRESETS.get(kind, {}), begun.settings, frame, STEPS, table))
    if not start.startswith("random"):
        few.begin(begun)
    return few


def cell(job: str, count: str, start: str, seed: int) -> None:
    place = RESULTS / f"{job}-{count}-{start}-seed{seed}.json"
    if place.exists():
        return
    train, test = part(job, "train"), part(job, "test")
    order = np.random.default_rng([seed, 5]).permutation(len(train))
    if count != "all" and int(count) >= len(train):
        return  # it is `all`
    chosen = [train[i] for i in order[: len(train) if count == "all" else int(count)]]
    torch.manual_seed(seed)
    few = network(job, start, seed)
    wall, cpu = time.monotonic(), time.process_time()
    labelled = [Labelled.of(few.seen(i.pixels), (i.mask("lungs" if isinstance(i, Chest) else "manual1"))[None]) for i in chosen]
    few.teach(labelled, Workshop(seed))
    learning = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
    each = {i.name: round(one_dice(few, i), 4) for i in test}
    tallies = [{"dice": d, "images": 1.0} for d in each.values()]
    low, high = interval(tallies, [i.name for i in test], lambda t: sum(x["dice"] for x in t) / sum(x["images"] for x in t))
    mean = float(np.mean(list(each.values())))
    result = {
        "set": job, "labels": len(chosen), "count": count, "start": start, "dice": mean, "interval": [low, high], "test_images": len(test),
        "labelled": [i.name for i in chosen], "seconds": learning, "settings": few.config.model_dump(mode="json"), "each": each, **stamp(seed),
    }  # fmt: skip
    write_atomic(place, json.dumps(result, indent=1) + "\n")
    print(f"{job} {count} {start} seed {seed}: {mean:.3f} [{low:.3f}, {high:.3f}], {learning['cpu']:.0f} CPU s, {learning['wall']:.0f} s", flush=True)


def one_dice(few: FewLabels, image: Photograph | Chest) -> float:
    answer = few.probability(image.pixels)[0] > 0.5
    return dice(answer, image.mask("manual1"), image.mask("fov"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help=", ".join(JOBS))
    parser.add_argument("--labels", nargs="*", default=list(COUNTS), choices=COUNTS)
    parser.add_argument("--starts", nargs="*", default=list(STARTS[:4]), choices=STARTS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for seed in options.seeds:
        for job in options.jobs or JOBS:
            for count in options.labels:
                for start in options.starts:
                    cell(job, count, start, seed)


if __name__ == "__main__":
    main()
