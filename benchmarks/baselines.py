"""The evaluator against known figures: everything gland (.25) and the classical haematoxylin rule (.525 train, .488 testA on GlaS).

    python benchmarks/baselines.py      writes benchmarks/results/baselines.json

The rule as published for this baseline: haematoxylin by colour deconvolution, Gaussian of 3 px, Otsu, pieces under 400 px
dropped, holes under 15,000 px filled, all at the images' own 0.62 µm per px.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from provenance import stamp
from tacit.learn.classical.haematoxylin import Haematoxylin
from tacit.read.folder import find_cases, read_mask
from tacit.read.picture import read_picture
from tacit.report.score import figures, tally

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "glas"
KNOWN = {"all_gland": {"train": 0.25, "testA": 0.25}, "haematoxylin": {"train": 0.525, "testA": 0.488}}


def baselines() -> dict[str, dict[str, float]]:
    rule = Haematoxylin()
    found: dict[str, dict[str, float]] = {name: {} for name in KNOWN}
    for part in ("train", "testA"):
        tallies: dict[str, list] = {name: [] for name in KNOWN}
        for name, path in find_cases(str(DATA / "images" / f"{part}_*.jpg")):
            truth = read_mask(DATA / "masks" / f"{name}.png")
            tallies["all_gland"].append(tally(np.ones_like(truth), truth, objects=False))
            mask = rule.mask(read_picture(path).pixels).astype(np.uint8)
            tallies["haematoxylin"].append(tally(cv2.connectedComponents(mask)[1], truth, objects=True))
        for name, rows in tallies.items():
            found[name][part] = figures(rows)["miou"]
        found["haematoxylin"][f"{part}_object_f1"] = figures(tallies["haematoxylin"])["object_f1"]
    return found


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    found = baselines()
    for name, row in found.items():
        print(name, {k: round(v, 3) for k, v in row.items()}, "known", KNOWN[name])
    (ROOT / "benchmarks" / "results" / "baselines.json").write_text(json.dumps({"found": found, "known": KNOWN, **stamp()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
