"""The section of docs/results.md on chest radiographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ORDER = {
    "copy-one-mask": "one labelled mask of fold 1 copied (uses labels)",
    "mean-atlas": "mean of fold 1's masks (uses labels)",
    "rule-dark": "dark places, 2-means",
    "rule-inside": "+ eroded until off the edge, grown back",
    "rule-hull": "+ outer hull",
    "rule": "+ EM in the dilated mask: `lung-rule`",
    "mixture-not-shared": "EM from two ellipses, each picture alone",
    "mixture": "EM with a shared prior: `lung-mixture`",
    "drawing-only": "a network taught by drawings, no real image",
    "phantom-chest": "+ adapted on fold 1 without labels: `phantom-chest`",
    "phantom-chest-two-rounds": "a second round",
    "phantom-chest-snap": "its labels snapped to edges",
    "phantom-chest-one-image": "adapted on one image instead",
    "phantom-chest-transductive": "adapted on fold 2's own images, without labels",
}
CLASSES = ("lungs", "heart", "clavicles")


def chest(results: Path) -> str:
    """The table of benchmarks/results/chest/*.json; empty where there is none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((results / "chest").glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["row"], []).append(one)
    if not found:
        return ""
    images = next(iter(found.values()))[0]["images"]
    text = (
        "\n## Chest radiographs\n\n"
        f"JSRT (Shiraishi et al. 2000), masks of van Ginneken et al. 2006: learnt on fold 1 **without labels**, scored on fold 2 ({images} images, 512 px). Dice an image, mean; [95% bootstrap\n"
        "interval over images, first seed]; least. ± is the SD over seeds. The drawings' ranges were shaped while looking at fold 1 with its outlines; fold 2 was scored afterwards.\n"
        "`python benchmarks/chest.py`\n\n"
        "| | seeds | lungs | least | below .8 | heart | least | clavicles | least |\n|---|---|---|---|---|---|---|---|---|\n"
    )
    text += "\n".join(_line(ORDER[name], found[name]) for name in ORDER if name in found) + "\n"
    seeds = found.get("phantom-chest")
    return text + (_confidence(seeds) if seeds else "")


def _line(title: str, runs: list[dict[str, Any]]) -> str:
    cells = [title, str(len(runs))]
    for name in CLASSES:
        if name not in runs[0]["found"]:
            cells += ["–", "–"]
            continue
        parts = [r["found"][name] for r in runs]
        low, high = parts[0]["interval"]
        mean = f"{_short(np.mean([p['mean'] for p in parts]))}"
        spread = f" ± {_short(np.std([p['mean'] for p in parts], ddof=1))}" if len(parts) > 1 else ""
        cells += [f"{mean}{spread} [{_short(low)}, {_short(high)}]", _short(min(p["least"] for p in parts))]
        if name == "lungs":
            cells.append(", ".join(str(p["below_0.8"]) for p in parts))
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _confidence(runs: list[dict[str, Any]]) -> str:
    lines = []
    for r in runs:
        c = r["confidence"]
        named = f"{c['named']} named, Dice {_short(c['dice_of_named'])} against {_short(c['dice_of_others'])} for the others" if c["named"] else "none named"
        lines.append(
            f"seed {r['seed']}: rank correlation with lung Dice {c['spearman']:.2f}; {named}; median distance from the drawings {c['far_from_drawing']:.2f}"
        )
    return "\nConfidence of `phantom-chest` (mean |2p − 1| over the lungs; it names what is less sure than 98% of the drawings): " + ". ".join(lines) + ".\n"
