"""The section of docs/results.md on landmarks from one marked picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from landmarks import ROWS, file_of

SETS = {  # set → what is above its table; images: how many were scored, all but the template
    "jsrt": "Six points on {images} chest radiographs (JSRT, fold 2), mm. Published, measured elsewhere: UOD about 2.5 mm, learnt from many chests at full size.",
    "drive": "Middle of the optic disc on {images} retinas (DRIVE test, 565 px wide), px; left and right eyes.",
}


def landmarks(results: Path) -> str:
    """A table a set; "" where nothing was run."""
    if not (results / "landmarks").is_dir():
        return ""
    text = (
        "\n## Landmarks\n\nOne picture is marked, the one that `--suggest-template` names; rows with other templates mark five other pictures, drawn blindly, and pool them. In brackets 95% over images. "
        "Surest 60%: mean over the six in ten points with the highest confidence. `python benchmarks/landmarks.py`\n"
    )
    for kind, what in SETS.items():
        records = [json.loads(file_of(name).read_text()) for name, row in ROWS.items() if row[0] == kind and file_of(name).exists()]
        if not records:
            continue
        radii = [k for k in records[0]["figures"] if k.startswith("within_")]
        heads = [f"within {k.removeprefix('within_')} {records[0]['unit']}" for k in radii]
        text += f"\n{what.format(images=_images(records))}\n\n| method | template | mean | median | {' | '.join(heads)} | surest 60% | CPU s |\n|{'---|' * (6 + len(heads))}\n"
        for r in records:
            f, i = r["figures"], r["interval"]
            surest = f"{f['mean_surest_0.6']:.1f}" if "mean_surest_0.6" in f else "–"
            many = (
                r["templates"][0]
                if len(r["templates"]) == 1
                else f"{len(r['templates'])} others, {min(r['mean_by_template']):.1f}–{max(r['mean_by_template']):.1f}"
            )
            cells = [f"{f[k]:.1f} [{i[k][0]:.1f}, {i[k][1]:.1f}]" for k in ("mean", "median")] + [f"{f[k]:.0%}" for k in radii]
            text += f"| {r['row'].removeprefix('disc: ')} | {many} | {' | '.join(cells)} | {surest} | {r['cpu_seconds']:.0f} |\n"
    return text


def _images(records: list[dict[str, Any]]) -> str:
    """How many pictures the rows scored, as the records say: one number where they agree."""
    return " or ".join(map(str, sorted({r["images"] for r in records})))
