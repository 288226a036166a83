"""Runs, or indexes, side by side in one table; what saw different images is refused, by name of the difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tacit.config import read_toml
from tacit.errors import UsageError
from tacit.report.compare import tabulate
from tacit.use.bucket import in_bucket
from tacit.use.compare_query import compare_indexes
from tacit.use.method_rows import record_of, unlike
from tacit.use.store import Store

SCORES = ("miou", "dice_pooled", "object_f1", "object_dice", "object_hausdorff_px")


def compare(
    runs: list[Path] | list[str], *, label: str = "label", k: int = 10, include_same_patient: bool = False, metric: str = "cosine"
) -> list[dict[str, Any]]:
    """One row a run: method, seed, images, glands, area share, seconds, and its scores where `tacit evaluate` kept them.

    Of indexes: what their neighbours are worth for the classes in the column `label`, see `compare_indexes`; the other options are for these.
    Raises UsageError when two saw different images, naming what differs.
    """
    folders = [Path(run) for run in runs]
    if len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("a folder is named twice; name different ones to compare")
    if indexes := [in_bucket(f) or f for f in folders if Store.lies_in(f)]:
        if len(indexes) < len(folders):
            odd = next(f for f in folders if not Store.lies_in(f))
            raise UsageError(f"{indexes[0]} is an index and {odd} is none; compare runs with runs and indexes with indexes")
        return compare_indexes(indexes, label=label, k=k, include_same_patient=include_same_patient, metric=metric)
    read = [(folder, *_read(folder)) for folder in folders]
    first_path, first, _ = read[0]
    for path, record, _ in read[1:]:
        if record["data"] != first["data"]:
            raise UsageError(f"{first_path} and {path} cannot be compared: {unlike(first['inputs'], record['inputs'])}")
    return [_row(path, record, settings) for path, record, settings in read]


def printed(rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    return tabulate(_by_figure(rows) if "figures" in rows[0] else rows)


def _by_figure(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Of indexes, a row each figure and index: its value and what it gains over the first, with intervals."""
    lines = []
    for name in rows[0]["figures"]:
        for row in rows:
            f = row["figures"][name]
            (low, high), (worse, better) = f["interval"], f["gain_interval"]
            gain = f"{f['gain']:+.3f} [{worse:+.3f}, {better:+.3f}]" if row is not rows[0] else ""
            lines.append({"figure": name, "index": row["index"], "encoder": row["encoder"], "value": f"{f['value']:.3f} [{low:.3f}, {high:.3f}]", "gain": gain})
    return lines


def _read(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return record_of(run), read_toml(run / "config.toml")


def _row(path: Path, record: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": str(path),
        "method": settings["segment"]["method"],
        "budget": settings["segment"]["budget"],
        "seed": record["seed"],
        "images": record["ok"],
        "failed": record["failed"],
        "glands": record["glands"],
        "seconds": record["seconds"],
    }
    scores = path / "tables" / "scores.json"
    if scores.exists():
        found = json.loads(scores.read_text(encoding="utf-8"))
        row |= {name: found["figures"].get(name) for name in SCORES}
        row["miou_interval"] = found["interval"]["miou"]
    return row
