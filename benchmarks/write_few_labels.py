"""The section of docs/results.md on learning from few labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SETS = {"jsrt": "JSRT, lungs", "drive": "DRIVE, vessels", "stare": "STARE, vessels", "chasedb1": "CHASE_DB1, vessels"}
STARTS = {
    "random": "VGG U-Net, random",
    "local-discrimination": "VGG U-Net, local discrimination",
    "random-drawn": "U-Net of the drawings, random",
    "drawn": "U-Net of the drawings, taught by them",
    "random-simsiam": "U-Net on resnet10t, random",
    "simsiam": "U-Net on resnet10t, SimSiam",
    "densecl": "U-Net on resnet10t, DenseCL",
    "pixpro": "U-Net on resnet10t, PixPro",
}
COUNTS = ("1", "2", "5", "10", "all")


def few_labels(results: Path) -> str:
    """A table a set from benchmarks/results/few_labels/*.json; empty where there is none."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for path in sorted((results / "few_labels").glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault((one["set"], one["start"], one["count"]), []).append(one)
    if not found:
        return ""
    text = (
        "\n## Few labels\n\n"
        "Dice of test images after learning from so many masks of the train part; mean over images, [95% bootstrap interval over images]; of several seeds, each a draw of labelled pictures, their mean and (each); the first is the draw of the other rows. **Uses labels**, as many as the column says. Each start stands below the same network, frame\n"
        "and steps with random weights; starts were learnt without labels on the train part. `drawn` networks see ranks (chests) or the even green in one frame (retinas), which is most of their lead at one label. `python benchmarks/few_labels.py`\n"
    )
    for job, title in SETS.items():
        rows = [start for start in STARTS if any((job, start, count) in found for count in COUNTS)]
        columns = [count for count in COUNTS if any((job, start, count) in found for start in rows)]
        if not rows:
            continue
        first = next(iter(r for key, runs in found.items() for r in runs if key[0] == job))
        text += f"\n### {title} ({first['test_images']} test images)\n\n| start | " + " | ".join(_heading(job, c, found) for c in columns) + " |\n"
        text += "|---|" + "---|" * len(columns) + "\n"
        for start in rows:
            text += f"| {STARTS[start]} | " + " | ".join(_cell(found.get((job, start, c), [])) for c in columns) + " |\n"
    return text


def _heading(job: str, count: str, found: dict[tuple[str, str, str], list[dict[str, Any]]]) -> str:
    if count != "all":
        return f"{count} label{'s' * (count != '1')}"
    return "all " + str(next(runs[0]["labels"] for (set_, _, c), runs in found.items() if set_ == job and c == "all"))


def _cell(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "–"
    if len(runs) == 1:
        low, high = runs[0]["interval"]
        return f"{_short(runs[0]['dice'])} [{_short(low)}, {_short(high)}]"
    return f"{_short(sum(r['dice'] for r in runs) / len(runs))} ({', '.join(_short(r['dice']) for r in runs)})"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
