"""The part of docs/results.md about vessels of the retina: one table, a column a set, rows in the order of the method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SETS = {"drive": "DRIVE test (20)", "stare": "STARE test (10)", "chasedb1": "CHASE_DB1 last 8"}
HEAD = (
    "\n## Vessels of the retina, without labels\n\n"
    "Dice in the given field of view against the first observer, mean over images; in brackets the 95% interval over patients (CHASE_DB1) or images, of seed 0; ± the SD over seeds. Learnt on the unlabelled images of the\n"
    "train part alone; rows marked * learnt on the test images too, without their truth. The filters call 12% of every field vessel; the networks use their own threshold of .5, the settled one\nis moved once so that 12% of the learnt photographs together is above it.\n\n"
)


def vessels(results: Path) -> str:
    """The section; empty where nothing was measured."""
    folder = results / "vessels"
    found = [json.loads(p.read_text()) | {"file": p.stem} for p in sorted(folder.glob("*.json"))] if folder.is_dir() else []
    if not found:
        return ""
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for result in found:
        for name, row in result["rows"].items():
            cells.setdefault(_named(name, "-all-" in result["file"]), {}).setdefault(result["set"], []).append(row)
    order = sorted(cells, key=_place)
    lines = [f"| {name} | " + " | ".join(_cell(cells[name].get(s, [])) for s in SETS) + " |" for name in order]
    return HEAD + "| | " + " | ".join(SETS.values()) + " |\n|---|" + "---|" * len(SETS) + "\n" + "\n".join(lines) + "\n\n" + _times(found)


def _named(row: str, also_test: bool) -> str:
    stages = {
        "teacher": "drawings alone",
        "student-1": "after round 1",
        "student-2": "after round 2",
        "phantom-fundus": "**settled at a share: `phantom-fundus`**",
    }
    return stages.get(row, row) + (" *" if also_test else "")


def _place(name: str) -> tuple[int, str]:
    order = ["matched filter, as", "matched filter, three", "COSFIRE", "line", "filters", "drawings", "after round 1", "after round 2", "**settled", "second"]
    return next((k for k, start in enumerate(order) if name.startswith(start)), len(order)), name


def _cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    values, (low, high) = [r["dice"] for r in rows], rows[0]["interval"]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread} [{low:.2f}, {high:.2f}]".replace("0.", ".")


def _times(found: list[dict[str, Any]]) -> str:
    taught = [r for r in found if r.get("seconds")]
    rows = [f"{r['set']} seed {r['seed']}: {r['seconds']['cpu'] / 60:.0f} CPU minutes ({r['learnt_from']})" for r in taught]
    each = [row["seconds_an_image"] for r in taught for row in r["rows"].values()]
    applied = f" An answer takes {np.median(each):.1f} CPU seconds." if each else ""
    return f"Learning, one thread: {'; '.join(rows)}.{applied} `python benchmarks/vessels.py --seeds 0 1 2`\n"
