"""The section of docs/results.md on the rivals, and the order of the proposal checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ORDER = ("colour-clusters", "random-features", "deep-cluster", "iic", "picie", "feature-clustering", "densecl-clusters", "pixpro-clusters", "k-means")
OURS = ("haematoxylin", "mssg", "phantom-fast", "phantom")  # of benchmarks/results/glas
SETS = {
    "glas": ("GlaS", "learnt on the 85 train images, scored on them (train) and on testA (60)"),
    "jsrt": ("JSRT, lungs", "learnt on fold 1, scored on it (train) and on fold 2 (test)"),
    "drive": ("DRIVE, vessels", "learnt on the train images, scored on them (train) and on the test images, in the field of view"),
}
FRAMES = {"drive": 256}  # px of the shorter side
NAMED = {"its own": "itself", "clusters named by the truth (Hungarian)": "the truth", "clusters named by the truth (majority)": "the truth, majority"}


def rivals(results: Path) -> str:
    """The tables of benchmarks/results/rivals/*.json; empty where there is none."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted((results / "rivals").glob("*.json")):
        one = json.loads(path.read_text())
        found.setdefault(one["set"], {}).setdefault(one["row"], []).append(one)
    text = ""
    for name in (n for n in SETS if n in found):
        title, what = SETS[name]
        text += f"\n## The rivals: {title}\n\n{_head(what, FRAMES.get(name, 128))}"
        text += "| row | names by | seeds | train | test | 95% over patients (seed 0) | benign | malignant | Dice, pooled | object F1 | seconds | peak MB |\n"
        text += "|---|---|---|---|---|---|---|---|---|---|---|---|\n"
        text += "".join(_line(row, found[name][row]) for row in sorted(found[name], key=_place))
        text += "".join(_ours(results, row) for row in OURS if row not in found[name]) if name == "glas" else ""
        text += _collapsed(found[name]) + (_proposal(results, found[name]) if name == "glas" else "")
    return text


def _head(what: str, side: int) -> str:
    return (
        f"mIoU; {what}. All rivals have one encoder (the U-Net of `phantom`, random start), one frame ({side} px) and one evaluator. **Rows named by the truth are not "
        "label-free**: which clusters are the structure was read off the true masks of the scored pictures (k = 2: Hungarian; k = 5: majority), the naming by "
        "which most pixels are right; the others name what they find. Seconds are wall time of learning and answering train, one thread on a shared core with other work "
        "beside it. [rivals.md](rivals.md); `python benchmarks/rivals.py`\n\n"
    )


def _line(row: str, runs: list[dict[str, Any]]) -> str:
    first = min(runs, key=lambda r: r["seed"])
    interval = first["test"]["figures"]["miou"]["interval"]
    groups = [_mean([r["test"]["by_group"][g]["miou"] for r in runs]) if g in first["test"]["by_group"] else "–" for g in ("benign", "malignant")]
    objects = _mean([r["test"]["figures"]["object_f1"]["mean"] for r in runs]) if "object_f1" in first["test"]["figures"] else "–"
    cells = [
        f"`{row}`",
        NAMED[first["test"]["naming"]],
        str(len(runs)),
        _mean([r["train"]["figures"]["miou"]["mean"] for r in runs]),
        f"**{_mean([r['test']['figures']['miou']['mean'] for r in runs])}**",
        f"{interval[0]:.2f}–{interval[1]:.2f}" if interval else "–",
        *groups,
        _mean([r["test"]["figures"]["dice_pooled"]["mean"] for r in runs]),
        objects,
        f"{np.mean([r['seconds'] for r in runs]):.0f}",
        f"{max(r['peak_mb'] for r in runs):.0f}",
    ]
    return "| " + " | ".join(cells) + " |\n"


def _ours(results: Path, row: str) -> str:
    """A row of the table of methods, as it stands there."""
    runs = [json.loads(p.read_text()) for p in sorted((results / "glas").glob(f"{row}-seed?.json"))]
    if not runs:
        return ""
    low, high = runs[0]["testA"]["interval"]["miou"]
    cells = [
        f"`{row}`", "itself", str(len(runs)), _mean([r["train"]["figures"]["miou"] for r in runs]), f"**{_mean([r['testA']['figures']['miou'] for r in runs])}**",
        f"{low:.2f}–{high:.2f}", *(_mean([r["testA"]["by_class"][g]["miou"] for r in runs]) for g in ("benign", "malignant")),
        _mean([r["testA"]["figures"]["dice_pooled"] for r in runs]), _mean([r["testA"]["figures"]["object_f1"] for r in runs]),
        f"{np.mean([r['seconds']['learning_run'] for r in runs]):.0f}", "–",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def _collapsed(rows: dict[str, list[dict[str, Any]]]) -> str:
    said = [f"`{row}` seed {r['seed']}: {line}" for row, runs in rows.items() for r in runs for line in r["warnings"] if line.startswith("collapsed:")]
    return ("\nCollapsed, and in the table as they are: " + " ".join(said) + "\n") if said else ""


def _proposal(results: Path, rows: dict[str, list[dict[str, Any]]]) -> str:
    """random < PiCIE < stage 1 < + prior < final, on the train images, with what is measured here."""
    stages = results / "mssg_stages.json"
    final = [json.loads(p.read_text())["train"]["figures"]["miou"] for p in sorted((results / "glas").glob("mssg-seed?.json"))]
    if not stages.exists() or not final or "picie k=2" not in rows:
        return ""
    cured = json.loads(stages.read_text())["found"]["as published"]
    picie = float(np.mean([r["train"]["figures"]["miou"]["mean"] for r in rows["picie k=2"]]))
    steps = [
        ("random net", cured["random net, border"]["miou"], ".343"),
        ("PiCIE (named by the truth)", picie, ".393"),
        ("stage 1", cured["stage 1, border"]["miou"], ".411"),
        ("+ filled prior", cured["+ filled prior"]["miou"], ".493"),
        ("final (`mssg`)", float(np.mean(final)), ".563"),
    ]
    text = "\n### The order of the proposal\n\nmIoU on the train images; the proposal's own figures beside, not measured here.\n\n| step | here | proposal (published) | above the step before |\n|---|---|---|---|\n"
    for at, (name, value, published) in enumerate(steps):
        holds = "–" if at == 0 else "yes" if value > steps[at - 1][1] else f"no ({value - steps[at - 1][1]:+.3f})"
        text += f"| {name} | {value:.3f} | {published} | {holds} |\n"
    return text


def _place(row: str) -> tuple[int, str]:
    name = row.partition(" ")[0]
    return (ORDER.index(name) if name in ORDER else len(ORDER), row)


def _mean(values: list[float]) -> str:
    text = f"{np.mean(values):.3f}".lstrip("0")
    return text + (f" ± {np.std(values, ddof=1):.3f}".replace("0.", ".") if len(values) > 1 else "")
