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
        text += (
            "| row | names by | seeds | train | test | 95% over patients (first seed) | benign | malignant | Dice, pooled | object F1 | seconds | peak MB |\n"
        )
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
    """random < PiCIE < stage 1 < + prior < final, on the train images, with what is measured here; and the rivals' own three on one footing."""
    path = results / "mssg_stages.json"
    cured = _final(results, "mssg")
    if not path.exists() or cured is None or "picie k=2" not in rows:
        return ""
    found = json.loads(path.read_text())["found"]
    picie = _value(rows["picie k=2"], "train")
    ways = {
        "with the cures": _steps(found["with the cures"], picie, cured),
        "as published": _steps(found["as published"], picie, _final(results, "mssg-as-published")),
    }
    text = (
        "\n### The order of the proposal\n\nmIoU on the train images; the proposal's own figures beside, not measured here. Two ways: with the cures that `mssg` uses, and by the published "
        "procedure (at a third of the size, 32 channels), of which only stage 1 "
        f"{'was' if ways['as published'][-1][1] is None else 'and the final method were'} run here ([mssg.md](mssg.md)). PiCIE is one figure, named by the truth; the other steps name themselves.\n\n"
        f"| step | {' | '.join(ways)} | proposal (published) |\n|---|---|---|---|\n"
    )
    for at, published in enumerate((".343", ".393", ".411", ".493", ".563")):
        name = ways["with the cures"][at][0]
        text += f"| {name} | {' | '.join('not run' if steps[at][1] is None else f'{steps[at][1]:.3f}' for steps in ways.values())} | {published} |\n"
    for way, steps in ways.items():
        values = [(name, value) for name, value in steps if value is not None]
        text += f"\n{way[0].upper()}{way[1:]}{'' if len(values) == len(steps) else ', as far as it was run,'} the order {_said(values)}."
    return text + "\n" + _one_footing(rows)


def _steps(found: dict[str, Any], picie: float, final: float | None) -> list[tuple[str, float | None]]:
    """The proposal's steps by name, with mIoU on train; None where a step was not run."""
    return [
        ("random net", found["random net, border"]["miou"]),
        ("PiCIE", picie),
        ("stage 1", found["stage 1, border"]["miou"]),
        ("+ filled prior", found["+ filled prior"]["miou"]),
        ("final", final),
    ]


def _final(results: Path, row: str) -> float | None:
    """Mean mIoU on train over the seeds of a row of the table of methods."""
    values = [json.loads(p.read_text())["train"]["figures"]["miou"] for p in sorted((results / "glas").glob(f"{row}-seed?.json"))]
    return float(np.mean(values)) if values else None


FOOTING = {"random-features": "random features", "picie": "PiCIE", "feature-clustering": "stage 1 alone"}


def _one_footing(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Random < PiCIE < stage 1 in the rivals' own table: one network, one frame, all named by the truth."""
    text = (
        "\nThe first three in the rivals' own table, where all have one network, one frame and one clustering for the folder, and all are named by the truth. "
        "One seed is no proof either way: where it was one, no spread is known.\n\n"
        f"| clusters, images | {' | '.join(FOOTING.values())} | seeds | the order |\n|---|---|---|---|---|---|\n"
    )
    for k in (2, 5):
        runs = [rows.get(f"{name} k={k}") for name in FOOTING]
        for part in ("train", "test"):
            if any(r is None for r in runs):
                continue
            values = [(name, _value(r or [], part)) for name, r in zip(FOOTING.values(), runs, strict=True)]
            seeds = ", ".join(str(n) for n in sorted({len(r or []) for r in runs}))
            text += f"| k = {k}, {part} | {' | '.join(f'{v:.3f}' for _, v in values)} | {seeds} | {_said(values)} |\n"
    return text


def _value(runs: list[dict[str, Any]], part: str) -> float:
    return float(np.mean([r[part]["figures"]["miou"]["mean"] for r in runs]))


def _said(steps: list[tuple[str, float]]) -> str:
    """Whether each step is above the one before, in words, with the narrowest step."""
    rises = [(name, value - before, earlier) for (earlier, before), (name, value) in zip(steps, steps[1:], strict=False)]
    below = [f"{name} is {-by:.3f} below {earlier}" for name, by, earlier in rises if by <= 0]
    if below:
        return f"**does not hold** ({'; '.join(below)})"
    name, by, earlier = min(rises, key=lambda r: r[1])
    return f"holds (narrowest: {name} is {by:.3f} above {earlier})"


def _place(row: str) -> tuple[int, str]:
    name = row.partition(" ")[0]
    return (ORDER.index(name) if name in ORDER else len(ORDER), row)


def _mean(values: list[float]) -> str:
    text = f"{np.mean(values):.3f}".lstrip("0")
    return text + (f" ± {np.std(values, ddof=1):.3f}".replace("0.", ".") if len(values) > 1 else "")
