"""The tables and the page of a cohort of slides, from the states that the slides' tasks left; whoever comes last sees all of them."""

from __future__ import annotations

import contextlib
import csv
import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tacit.cases import Cases
from tacit.config import to_toml
from tacit.files import locked, write_atomic
from tacit.report.page import Panel, page
from tacit.report.picture import embedded
from tacit.run import Run, as_csv

SHOWN = 12  # slides with a picture on the page
COLUMNS = (
    "slide", "height_px", "width_px", "mpp", "mpp_source", "label_um_per_px", "tiles", "tissue_mm2", "glands", "glands_per_mm2", "gland_share",
    "median_area_um2", "mean_solidity", "confidence", "far_from_drawing",
)  # fmt: skip


def summarise(out: Path, run: Run, cases: Cases, settings: dict[str, Any], class_name: str, *, shard: bool) -> list[dict[str, Any]]:
    """Writes tables/slides.csv and report.html below OUT, and where shards share it run.json, log.txt and failures.csv of them all. Gives the rows."""
    run.save_record()
    with locked(out / "slides" / ".summary.lock"):
        rows = _rows(out, cases)
        done = {row["slide"] for row in rows}
        name_of = {str(Path(path).resolve()): name for name, path in cases}
        failures = [row for row in _all_failures(out) if name_of.get(str(Path(row[0]).resolve())) not in done] if shard else run.failures
        write_atomic(out / "tables" / "slides.csv", _table(rows))
        write_atomic(out / "report.html", _page(out, run, cases, rows, failures, settings, class_name))
        if shard:
            status = "finished" if len(rows) + len({row[0] for row in failures}) >= len(cases) else "running"
            record = {"command": run.record["command"], "status": status, "slides": len(cases), "ok": len(rows), "failed": len(failures)}
            record |= {"seed": run.record["seed"], "mpp": _middle(rows, "mpp"), "versions": run.record["versions"]}
            write_atomic(out / "failures.csv", as_csv(("file", "reason", "remedy"), failures))
            write_atomic(out / "log.txt", "each shard has its own log, in shards/\n")
            write_atomic(out / "run.json", json.dumps(record, indent=1) + "\n")
    if not shard:
        for left in chain((out / "slides").glob(".*.lock"), out.rglob(".*.part")):  # of processes that were killed too
            with contextlib.suppress(OSError):
                left.unlink()
    return rows


def _rows(out: Path, cases: Cases) -> list[dict[str, Any]]:
    rows = []
    for name, _ in cases:
        with contextlib.suppress(OSError, ValueError, KeyError):
            rows.append(json.loads((out / "slides" / f"{name}.json").read_text(encoding="utf-8"))["row"])
    return rows


def _all_failures(out: Path) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for path in sorted((out / "shards").glob("*/failures.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [(r["file"], r["reason"], r["remedy"]) for r in csv.DictReader(file)]
    return sorted(set(found))


def _table(rows: list[dict[str, Any]]) -> str:
    return as_csv(COLUMNS, [tuple(f"{row[c]:.6g}" if isinstance(row[c], float) else row[c] for c in COLUMNS) for row in rows])


def _page(
    out: Path, run: Run, cases: Cases, rows: list[dict[str, Any]], failures: list[tuple[str, str, str]], settings: dict[str, Any], class_name: str
) -> str:
    by_confidence = sorted(rows, key=lambda row: row["confidence"])
    total = sum(row["glands"] for row in rows)
    tissue = sum(row["tissue_mm2"] for row in rows)
    facts = [
        ("command", run.record["command"]),
        ("slides", f"{len(rows)} of {len(cases)} done, {len(failures)} failed"),
        (f"{class_name}s", f"{total} on {tissue:.4g} mm² of tissue" + (f", {total / tissue:.4g} per mm²" if tissue else "")),
        ("learnt from", f"{run.record.get('learnt_from', 'an earlier run')}; no mask took part"),
        ("seed", str(run.record["seed"])),
    ]
    columns = ["slide", "tissue_mm2", "glands", "glands_per_mm2", "gland_share", "median_area_um2", "confidence", "far_from_drawing"]
    table = [[_cell(row[c]) for c in columns] for row in by_confidence[:200]]
    return page(
        title=f"{class_name.capitalize()}s on {len(rows)} slides",
        subtitle="Tacit segment: whole slides",
        facts=facts,
        galleries=[("Least sure slides", "Confidence is the mean of |2p − 1| over what was looked at: 1 is sure everywhere.", _panels(out, by_confidence))],
        tables=[("Slides", f"Least sure first; all {len(rows)} are in tables/slides.csv, every {class_name} in tables/glands/.", columns, table)],
        failures=failures,
        settings=to_toml(settings),
        warnings=_warnings(rows),
    )


def _panels(out: Path, rows: list[dict[str, Any]]) -> list[Panel]:
    panels = []
    for row in rows[:SHOWN]:
        with contextlib.suppress(OSError):
            picture = embedded((out / "figures" / f"{row['slide']}.jpg").read_bytes(), "jpeg")
            panels.append(Panel(row["slide"], picture, None, f"{row['glands']} on {row['tissue_mm2']:.3g} mm² of tissue, confidence {row['confidence']:.2f}"))
    return panels


def _warnings(rows: list[dict[str, Any]]) -> list[str]:
    far = [row["far_from_drawing"] for row in rows if row["far_from_drawing"] is not None]
    beyond = float(np.mean(np.asarray(far) > 1)) if far else 0.0
    if beyond <= 0.5:
        return []
    return [
        f"These slides lie far from the drawings that taught the network ({beyond:.0%} of them beyond 99% of the drawings): another stain, magnification "
        "or organ? Look at the least sure slides before you trust a number."
    ]


def _middle(rows: list[dict[str, Any]], column: str) -> float | None:
    return float(np.median([row[column] for row in rows])) if rows else None


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
