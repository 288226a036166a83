"""The table and the page of a run that segments structures, made from the items that were written."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import Any

import numpy as np

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.report.page import Panel, page
from tacit.report.picture import COLOURS, curves, embedded
from tacit.report.track import Curves
from tacit.run import Run

SHOWN = 6  # least and most sure images on the page
FAR = 0.5  # share of images far from the drawings above which the page warns
COLOUR_NAMES = ("green", "red", "blue", "yellow", "purple")


def write_report(run: Run, settings: dict[str, Any], classes: list[str]) -> None:
    """Writes tables/images.csv and report.html, then drops the items."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((run.folder / "items").glob("*.json"))]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_atomic(run.folder / "tables" / "images.csv", text.getvalue())
    run.record["warnings"] = warnings = [*run.record.get("warnings", []), *_warnings(rows, classes)]
    write_atomic(run.folder / "report.html", _page(run, settings, rows, warnings, classes))
    shutil.rmtree(run.folder / "items", ignore_errors=True)


def _warnings(rows: list[dict[str, Any]], classes: list[str]) -> list[str]:
    found = []
    far = [r["far_from_drawing"] > 1 for r in rows if r.get("far_from_drawing") is not None]
    if far and np.mean(far) > FAR:
        found.append(
            f"{np.mean(far):.0%} of these images lie farther from the drawings that taught the network than 99% of them do: look at the least sure images before you trust a number."
        )
    for name in classes:
        empty = sum(r[f"{name}_area_px"] == 0 for r in rows)
        if empty:
            found.append(f"No {name} found in {empty} of {len(rows)} images.")
    return found


def _page(run: Run, settings: dict[str, Any], rows: list[dict[str, Any]], warnings: list[str], classes: list[str]) -> str:
    by_confidence = sorted(rows, key=lambda r: r["confidence"])
    least, most = by_confidence[:SHOWN], by_confidence[max(len(rows) - SHOWN, SHOWN) :][::-1]
    plot = curves(Curves(run.folder / "metrics.csv").stages())
    columns = ["image", *[c for c in rows[0] if c not in ("image", "height_px", "width_px", "history") and any(r[c] is not None for r in rows)]]
    facts = [("command", run.record["command"]), ("images", f"{len(rows)} written, {len(run.failures)} failed")]
    for name, colour in zip(classes, COLOUR_NAMES * len(COLOURS), strict=False):
        shares = [r[f"{name}_share"] for r in rows]
        facts.append((f"{name} ({colour})", f"{np.mean(shares):.1%} of the field on average, from {min(shares):.1%} to {max(shares):.1%}"))
    facts += [
        ("learnt from", _taught(run.record)),
        ("seed", str(run.record["seed"])),
        ("seconds", f"{run.seconds:.0f}"),
    ]
    return page(
        title=f"{', '.join(classes).capitalize()} in {len(rows)} images",
        subtitle=f"Tacit segment: {'uses ' + _labels(run.record) if run.record.get('uses_labels') else 'learnt without labels'}",
        facts=facts,
        galleries=[
            ("Least sure images", "Confidence is the mean of |2p − 1| where a structure is or may be.", [_panel(run, r, classes) for r in least]),
            ("Most sure images", "", [_panel(run, r, classes) for r in most]),
        ],
        tables=[
            ("Images", f"Least sure first; all {len(rows)} are in tables/images.csv.", columns, [[_cell(r[c]) for c in columns] for r in by_confidence[:200]])
        ],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
        curves=embedded(plot, "png") if plot else None,
    )


def _labels(record: dict[str, Any]) -> str:
    return f"{record['labels']} label{'s' * (record['labels'] != 1)}"


def _taught(record: dict[str, Any]) -> str:
    """Whose masks took part, in words."""
    if record.get("uses_labels"):
        start = f"; start: {record['start']}" if "start" in record else ", in an earlier run"
        return f"masks of pictures: it uses {_labels(record)}{start}"
    return f"{record.get('learnt_from', 'an earlier run')} unlabelled images; no mask took part"


def _panel(run: Run, row: dict[str, Any], classes: list[str]) -> Panel:
    picture = (run.folder / "figures" / f"{row['image']}.jpg").read_bytes()
    shares = ", ".join(f"{name} {row[f'{name}_share']:.1%}" for name in classes)
    return Panel(row["image"], embedded(picture, "jpeg"), None, f"{shares}, confidence {row['confidence']:.2f}")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value:.0f}" if isinstance(value, float) else str(value)
