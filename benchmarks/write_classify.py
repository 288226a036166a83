"""The section of docs/results.md on classes of CT pictures and series, from benchmarks/results/classify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

UCSD = {
    "labels-10": "10% of the labels",
    "labels-25": "25%",
    "labels-50": "50%",
    "labels-100": "**all of train**",
    "train-and-val": "train and val",
    "ring-only": "all of train, outer ring only",
    "background-only": "all of train, no lungs",
    "lung-only": "all of train, lungs only",
}
BEGINS = {
    "texture": "texture is the default pipeline, no network",
    "random": "random weights",
    "drawn": "drawn CT slices (`--weights phantom:ct`)",
    "self-trans": "Self-Trans (MoCo twice, no labels)",
    "byol": "BYOL without labels",
    "vote": "the mean of the five",
}
STARTS = {"texture": "texture", "random": "random", "drawn": "drawn slices", "self-trans": "Self-Trans", "byol": "BYOL", "vote": "vote of these"}


def classes(results: Path) -> str:
    """The section; empty where nothing was measured."""
    folder = results / "classify"
    ucsd = [json.loads(p.read_text()) for p in sorted((folder / "ucsd").glob("*.json"))]
    other = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    gates = {p.stem.rpartition("-seed")[0]: json.loads(p.read_text()) for p in sorted((folder / "gate").glob("*-seed0.json"))}
    gated = {"no-gate"} < gates.keys() - {"compared"}  # something to compare
    if not ucsd and not other and not gated:
        return ""
    text = "\n## Classes of CT pictures and series\n"
    if ucsd:
        by_row: dict[str, list[dict[str, Any]]] = {}
        for r in ucsd:
            by_row.setdefault(r["row"], []).append(r)
        lines = [_line(title, by_row[row]) for row, title in UCSD.items() if row in by_row]
        text += (
            "\nUCSD COVID-CT, official split, `tacit classify fit` with its defaults (texture, no network, no outside weights), scored on the 203 test pictures; mean over seeds ± SD, in brackets seed 0's 95% interval over papers\n"
            "(the set names no patient). Out of fold: inside the taught pictures, papers whole. Twins see a part of each picture only: what they tell without the lungs is framing and source. `python benchmarks/classify_ucsd.py`\n\n"
            "| taught by | pictures | seeds | area, test | F1 of COVID, test | area out of fold | no lung found | CPU seconds |\n|---|---|---|---|---|---|---|---|\n"
            + "\n".join(lines)
            + "\n"
        )
    starts = [json.loads(p.read_text()) for p in sorted((folder / "starts").glob("*.json"))]
    if starts:
        text += (
            "\nThe same split, by a network from pixels (ResNet-18, `--pipeline end-to-end`, 128 px, two members of 80 steps) from several starts: "
            f"{'; '.join(said for name, said in BEGINS.items() if any(r['start'] == name for r in starts))}. The gain is over texture by the same labels, with DeLong's p over papers, not corrected. `python benchmarks/classify_starts.py`\n\n"
            "| start | labels | pictures | seed | area, test | F1 of COVID, test | over texture | CPU seconds of the start | of the fit |\n|---|---|---|---|---|---|---|---|---|\n"
            + "\n".join(_start(r) for r in sorted(starts, key=lambda r: (r["share"], list(STARTS).index(r["start"]), r["seed"])))
            + "\n"
        )
    if other:
        text += "\n| `python benchmarks/classify.py` row | seed | cases | area, test | accuracy, test | area out of fold | CPU seconds |\n|---|---|---|---|---|---|---|\n"
        text += "\n".join(_other(r) for r in other) + "\n"
    if gated:
        gains = {g["model"]: g for g in gates.pop("compared", {}).get("gains", [])}
        text += (
            "\nThe contrast gate (`--pipeline gate`, two clusters, a two-level pipeline each side) on UCSD COVID-CT's official split, seed 0; the gain is over no gate on the same test pictures, paired, with DeLong's p after Holm. "
            "`python benchmarks/classify_gate.py`\n\n| gate by | low, high | its number alone tells the class, area | area, test | gain | p | area out of fold | CPU seconds |\n|---|---|---|---|---|---|---|---|\n"
        )
        text += "\n".join(_gate(row, gates[row], gains.get(f"gate-{row}-0-answers")) for row in ("no-gate", *sorted(gates.keys() - {"no-gate"}))) + "\n"
    return text


def _line(title: str, runs: list[dict[str, Any]]) -> str:
    first = min(runs, key=lambda r: r["seed"])["test"]["interval"]["auc"]
    area, inside = [r["test"]["auc"] for r in runs], [r["out_of_fold"]["auc"] for r in runs]
    f1 = [next(c["f1"] for c in r["test"]["classes"] if c["class"] == "COVID") for r in runs]
    return (
        f"| {title} | {runs[0]['taught_by']} | {len(runs)} | {_spread(area)} [{first[0]:.3f}, {first[1]:.3f}] | {_spread(f1)} | {_spread(inside)} | "
        f"{runs[0]['without_lungs']} | {np.mean([r['seconds']['cpu'] for r in runs]):.0f} |"
    )


def _start(r: dict[str, Any]) -> str:
    test, gain = r["test"], r.get("over_texture")
    (low, high), f1 = test["interval"]["auc"], next(c["f1"] for c in test["classes"] if c["class"] == "COVID")
    cells = [STARTS[r["start"]], f"{r['share']}%", str(r.get("taught_by", "")), str(r["seed"]), f"{test['auc']:.3f} [{low:.3f}, {high:.3f}]", f"{f1:.3f}"]
    cells += [f"{gain['auc']:+.3f}, p {gain['p']:.2f}" if gain else ""]
    cells += [f"{r[name]:.0f}" if r.get(name) else "" for name in ("start_cpu", "cpu")]
    return f"| {' | '.join(cells)} |"


def _other(r: dict[str, Any]) -> str:
    test = r["test"]
    low, high = test["interval"]["auc"]
    return (
        f"| {r['row']} | {r['seed']} | {test['cases']} | {test['auc']:.3f} [{low:.3f}, {high:.3f}] | {test['accuracy']:.3f} | {r['out_of_fold']['auc']:.3f} | "
        f"{r['seconds']['cpu']:.0f} |"
    )


def _gate(row: str, r: dict[str, Any], gain: dict[str, Any] | None) -> str:
    gate, (low, high) = r["gate"], r["test"]["interval"]["auc"]
    sides = f"{gate['low']}, {gate['high']} | {gate['value_alone_auc']:.3f}" if gate else "| "
    gained = "| "
    if gain:
        (less, more), p = gain["auc_interval"], gain["delong_p_holm"]
        gained = f"{gain['auc']:+.3f} [{less:+.3f}, {more:+.3f}] | {p:.2f}"
    return f"| {row} | {sides} | {r['test']['auc']:.3f} [{low:.3f}, {high:.3f}] | {gained} | {r['out_of_fold']['auc']:.3f} | {r['seconds']['cpu']:.0f} |"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
