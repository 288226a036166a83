"""The tables and the page of a segment run, made from the items that were written; memory does not grow with their number."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.report.page import Panel, page
from tacit.report.picture import curves, embedded
from tacit.report.track import Curves
from tacit.run import Run
from tacit.use.panel import pair

SHOWN = 6  # least and most sure images on the page


def write_report(run: Run, settings: dict[str, Any], class_name: str) -> None:
    """Writes tables/glands.csv, tables/images.csv and report.html, then drops the items."""
    items = sorted((run.folder / "items").glob("*.json"))
    rows = [json.loads(path.read_text(encoding="utf-8"))["image"] for path in items]
    _table(run.folder / "tables" / "images.csv", list(rows[0]) if rows else ["image"], rows)
    columns = json.loads(items[0].read_text(encoding="utf-8"))["columns"] if items else []
    _table(run.folder / "tables" / "glands.csv", ["image", *columns], _glands(items))
    warnings = _warnings(run, rows)
    run.record["warnings"] = warnings
    write_atomic(run.folder / "report.html", _page(run, settings, rows, warnings, class_name))
    run.record["glands"] = int(sum(r["glands"] for r in rows))
    shutil.rmtree(run.folder / "items", ignore_errors=True)


def _glands(items: list[Path]) -> Iterator[dict[str, Any]]:
    for path in items:
        item = json.loads(path.read_text(encoding="utf-8"))
        for gland in item["glands"]:
            yield {"image": item["image"]["image"], **gland}


def _table(path: Path, columns: list[str], rows: Iterable[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_atomic(path, text.getvalue())


def _warnings(run: Run, rows: list[dict[str, Any]]) -> list[str]:
    found = []
    if run.record.get("mpp_source") in ("estimated", "mixed") and any(r["mpp"] is None for r in rows):
        found.append(
            f"The spacing was estimated from nucleus size ({run.record['mpp']:.3f} µm per px): sizes of those images are in pixels only. Give it with --mpp where you know it."
        )
    far = [r["far_from_drawing"] for r in rows if r.get("far_from_drawing") is not None]
    if far and np.mean(np.asarray(far) > 1) > 0.5:
        found.append(
            f"These images lie far from the drawings that taught the network ({np.mean(np.asarray(far) > 1):.0%} of them beyond 99% of the drawings): "
            "another stain, magnification or organ? Look at the least sure images before you trust a number."
        )
    share = float(np.mean([r["area_share"] for r in rows])) if rows else 0.0
    if rows and (share < 0.02 or share > 0.95):
        found.append(f"Almost {'everything' if share > 0.5 else 'nothing'} was called gland ({share:.0%} of the area): look at the pictures.")
    return found


def _page(run: Run, settings: dict[str, Any], rows: list[dict[str, Any]], warnings: list[str], class_name: str) -> str:
    by_confidence = sorted(rows, key=lambda r: r["confidence"])
    least, most = by_confidence[:SHOWN], by_confidence[max(len(rows) - SHOWN, SHOWN) :][::-1]
    plot = curves(Curves(run.folder / "metrics.csv").stages())
    shares = [r["area_share"] for r in rows]
    facts = [
        ("command", run.record["command"]),
        ("images", f"{len(rows)} written, {len(run.failures)} failed"),
        (
            f"{class_name}s",
            f"{sum(r['glands'] for r in rows)}, covering {np.mean(shares):.0%} of the area (from {min(shares):.0%} to {max(shares):.0%} an image)",
        ),
        ("share in the drawings", _drawn(run, shares)),
        ("spacing", f"{run.record['mpp']:.4g} µm per px ({run.record['mpp_source']})"),
        ("learnt from", f"{run.record.get('learnt_from', 'an earlier run')} unlabelled images; no mask took part"),
        ("seed", str(run.record["seed"])),
        ("seconds", f"{run.seconds:.0f}"),
    ]
    note = "Confidence is the mean of |2p − 1| over an image's pixels: 1 is sure everywhere."
    columns = ["image", "glands", "area_share", "glands_per_mm2", "median_area_um2", "mean_solidity", "mean_lumen_share", "confidence"]
    table = [[_cell(r.get(c)) for c in columns] for r in by_confidence[:200]]
    return page(
        title=f"{class_name.capitalize()}s in {len(rows)} images",
        subtitle="Tacit segment: learnt without labels",
        facts=facts,
        galleries=[
            ("Least sure images", note, [_panel(run, r) for r in least]),
            ("Most sure images", "", [_panel(run, r) for r in most]),
        ],
        tables=[("Images", f"Least sure first; all {len(rows)} are in tables/images.csv, every {class_name} in tables/glands.csv.", columns, table)],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
        curves=embedded(plot, "png") if plot else None,
    )


def _drawn(run: Run, shares: list[float]) -> str:
    """The drawings' range of gland share, and how many images lie outside it."""
    if "drawn_share" not in run.record:
        return "this method draws nothing"
    low, high = run.record["drawn_share"]
    outside = sum(not low <= s <= high for s in shares)
    return f"{low:.0%} to {high:.0%} in 98% of them; {outside} of {len(shares)} images lie outside"


def _panel(run: Run, row: dict[str, Any]) -> Panel:
    picture, over = pair(run, row["image"])
    return Panel(row["image"], picture, over, f"{row['glands']} found, {row['area_share']:.0%} of the area, confidence {row['confidence']:.2f}")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)
