"""The tables of docs/results.md about queries, from benchmarks/results/query/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ORDER = ["colour", "random", "texture", "phantom", "phantom+texture", "phantom-byol", "simclr", "simsiam", "byol-report", "byol-histology"]
LEARNT = ORDER[ORDER.index("phantom+texture") + 1 :]  # by `tacit pretrain`, in a process of their own
COLUMNS = {
    "tissue: nearest, other image": "tissue, other image",
    "tissue: nearest, other patient": "tissue, **other patient**",
    "tissue: pair AUC, other patient": "pair AUC",
    "grade: nearest, other image": "grade, other image",
    "grade: nearest, other patient": "grade, **other patient**",
    "grade: pair AUC, other patient": "pair AUC",
}
HEAD = """
## Encoders for queries

Patches of 128 px of GlaS that are wholly gland or wholly stroma (masks and grades judge, nothing else): is the nearest patch of another image, or of
another patient, of the same tissue (gland or stroma), of the same grade (benign or malignant gland)? Pair AUC: does the distance part same from different
pairs of two patients? Mean over seeds; in brackets 95% over patients (first seed). `phantom+texture` is the default and has seen no real image;
rows that learn saw the tiles of these images and of HER2ST without labels. Repeat a row: `python benchmarks/query_encoders.py ROW --seeds 0 1 2`.

CPU minutes: of learning here, each seed by itself. \\*: from a file older than the sum over sittings; it counts the last sitting alone, so a run that was resumed took longer. ≥: a sitting's end
was not seen and is not in the sum. †: the weights were there; teaching those of `phantom` costs 12 minutes once ([encoders.md](encoders.md)).
"""
GAINS = """
### What each gains over texture

Each run's figure less that of `texture` (seed 0) on the same patches; in brackets 95%, paired over patients. **Bold**: 0 lies outside, above or below; every interval is for itself, nothing is
corrected for their number.
"""
SCALES = ("0.5", "1")  # of the patches, 1 = GlaS as it is


def queries(results: Path) -> str:
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((results / "query").glob("*.json")):
        found = json.loads(path.read_text())
        rows.setdefault(found["row"], []).append(found)
    if not rows:
        return ""
    text = HEAD
    for scale in SCALES:
        first = next(iter(rows.values()))[0][f"scale {scale}"]
        majority = [first[f"{task}: majority"]["value"] for task in ("tissue", "grade")]
        text += f"\nAt {0.62 / float(scale):.2f} µm per px, {first['patches']} patches; the larger class alone would score {majority[0]:.2f} and {majority[1]:.2f}.\n\n"
        text += f"| encoder | seeds | {' | '.join(COLUMNS.values())} | CPU minutes |\n|{'---|' * (len(COLUMNS) + 3)}\n"
        text += "".join(_line(name, rows[name], scale) for name in ORDER if name in rows)
    return text + _gains(rows)


def _line(name: str, runs: list[dict[str, Any]], scale: str) -> str:
    cells = []
    for key in COLUMNS:
        low, high = runs[0][f"scale {scale}"][key]["interval"]
        values = [r[f"scale {scale}"][key]["value"] for r in runs]
        spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.3f}{spread} [{low:.2f}, {high:.2f}]")
    return f"| `{name}` | {len(runs)} | {' | '.join(cells)} | {_minutes(name, runs)} |\n"


def _minutes(name: str, runs: list[dict[str, Any]]) -> str:
    """Of each seed that was learnt; of the others what all seeds took."""
    if name not in LEARNT:
        return f"{max(r['cpu_seconds'] for r in runs) / 60:.0f}{' †' if 'phantom' in name else ''}"
    found = []
    for run in sorted(runs, key=lambda r: r["seed"]):
        older = "\\*" if "sittings" not in run else ""
        found.append(f"{'≥ ' if run.get('unseen') else ''}{run['cpu_seconds'] / 60:.0f}{older}")
    return ", ".join(found)


def _gains(rows: dict[str, list[dict[str, Any]]]) -> str:
    """What every run gains over the floor, paired over patients, at both scales."""
    compared = {name: [r for r in rows[name] if "gain" in r["scale 0.5"][next(iter(COLUMNS))]] for name in ORDER if name in rows}
    if not any(compared.values()):
        return ""
    text = GAINS
    for scale in SCALES:
        text += f"\nAt {0.62 / float(scale):.2f} µm per px:\n\n| encoder | seed | {' | '.join(COLUMNS.values())} |\n|{'---|' * (len(COLUMNS) + 2)}\n"
        for name, runs in compared.items():
            for run in sorted(runs, key=lambda r: r["seed"]):
                text += f"| `{name}` | {run['seed']} | {' | '.join(_gain(run[f'scale {scale}'][key]) for key in COLUMNS)} |\n"
    return text


def _gain(found: dict[str, Any]) -> str:
    """A gain and its interval, bold where 0 lies outside."""
    low, high = found["gain_interval"]
    text = f"{found['gain']:+.3f} [{low:+.2f}, {high:+.2f}]"
    return f"**{text}**" if low > 0 or high < 0 else text
