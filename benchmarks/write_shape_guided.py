"""The part of docs/results.md about shape guidance: a row an answer, a column a prior, Tacit's own method beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = {"drive-simulated": "DRIVE, drawn trees", "drive-octa": "DRIVE, OCTA masks", "drive-dsa": "DRIVE, DSA masks"}
COLUMNS |= {"drive-as-published": "DRIVE, OCTA, game as published", "jsrt-simulated": "JSRT, drawn lungs"}
ROWS = ("m_0", "embedding", "agreement", "refined")
ALONE = {"drive-no-prior": "drive", "jsrt-no-prior": "jsrt"}
HEAD = (
    "\n## Shape guidance: a prior of masks of elsewhere\n\n"
    "Dice in the field of view, mean over images, in brackets the 95% interval over images, seed 0. Learnt on DRIVE's 20 train images or JSRT's fold 1 without labels, scored on DRIVE test (20) or JSRT fold 2 (lungs).\n"
    "Sizes of one core and minutes, not the paper's; `clusters alone` learns with no prior, and its best cluster is chosen on the truth (an oracle that no user has). `python benchmarks/shape_guided.py`\n\n"
)


def shape_guided(results: Path) -> str:
    """The section; empty where nothing was measured."""
    folder = results / "shape_guided"
    found = {r["run"]: r for r in (json.loads(p.read_text()) for p in sorted(folder.glob("*.json")))} if folder.is_dir() else {}
    if not found:
        return ""
    columns = [c for c in COLUMNS if c in found]
    lines = [f"| {row} | " + " | ".join(_cell(found[c]["rows"].get(row)) for c in columns) + " |" for row in ROWS]
    alone = {data: next(iter(found[name]["rows"].values())) for name, data in ALONE.items() if name in found}
    if alone:
        lines.append("| clusters alone, best one (oracle) | " + " | ".join(_cell(alone.get(c.split("-")[0])) for c in columns) + " |")
    own = {"drive": _beside(results / "vessels", "phantom-fundus"), "jsrt": _lungs(results / "chest")}
    lines.append("| Tacit's own (`phantom-fundus`, `phantom-chest`) | " + " | ".join(own[c.split("-")[0]] for c in columns) + " |")
    said = [f"{COLUMNS[c]}: {line}" for c in columns for line in found[c]["warnings"]]
    game = "; ".join(f"{COLUMNS[c]}: L_D {found[c]['game']['discriminator_loss']:.2f}, target {found[c]['game']['target_share']:.1%}" for c in columns)
    spent = "; ".join(f"{COLUMNS.get(n, n)} {r['seconds']['cpu'] / 60:.0f}" for n, r in found.items() if not r["seconds"].get("resumed"))
    text = HEAD + "| | " + " | ".join(COLUMNS[c] for c in columns) + " |\n|---|" + "---|" * len(columns) + "\n" + "\n".join(lines) + "\n\n"
    text += f"How the game stood at the end (L_D of a coin 1.39; share of the views that m_0 holds): {game}. CPU minutes of learning, of runs in one sitting: {spent}.\n"
    return text + ("".join(f"Warned: {line}\n" for line in said))


def _cell(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['dice']:.3f} [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]".replace("0.", ".")


def _beside(folder: Path, row: str) -> str:
    """Our own row on DRIVE where it is measured, else the filters'."""
    for path in (folder / "drive-seed0.json", folder / "drive-filters.json"):
        if path.exists():
            rows = json.loads(path.read_text())["rows"]
            name = row if row in rows else "filters together"
            return _cell(rows[name]) + ("" if name == row else " (`vessel-filters`)")
    return ""


def _lungs(folder: Path) -> str:
    path = folder / "phantom-chest-seed0.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())["found"]["lungs"] if "found" in json.loads(path.read_text()) else {}
    return f"{found['mean']:.3f} [{found['interval'][0]:.2f}, {found['interval'][1]:.2f}]".replace("0.", ".") if found else ""
