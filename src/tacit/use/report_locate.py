"""The page of located points: the template, the least and the most sure pictures, every picture's confidence."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.read.picture import read_picture
from tacit.report.landmarks import SURE_FROM, with_points
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg, shrunk
from tacit.run import Run

SHOWN = 6  # least and most sure pictures on the page
DOUBTFUL = 0.3  # share of unsure points above which the page warns


def write_report(run: Run, settings: dict[str, Any], template: Path, marked: dict[str, tuple[float, float]]) -> None:
    """figures/NAME.jpg of every picture with its points, report.html; then drops the items."""
    items = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((run.folder / "items").glob("*.json"))]
    for item in items:
        write_atomic(run.folder / "figures" / f"{item['name']}.jpg", jpeg(_drawn(run, item)))
    sure = {item["name"]: float(np.mean([row["confidence"] for row in item["rows"]])) for item in items}
    order = sorted((item for item in items if not item.get("marked")), key=lambda item: sure[item["name"]])
    least, most = order[:SHOWN], order[max(len(order) - SHOWN, SHOWN) :][::-1]
    unsure = float(np.mean([row["confidence"] < SURE_FROM for item in order for row in item["rows"]] or [0]))
    copied = settings["locate"]["method"] == "copy"
    run.record["unsure_share"] = None if copied else round(unsure, 4)
    run.record["warnings"] = warnings = _warnings(unsure, copied)
    columns = ["image", "confidence", *marked]
    table = [[item["rows"][0]["image"], f"{sure[item['name']]:.2f}", *(f"{row['confidence']:.2f}" for row in item["rows"])] for item in order[:200]]
    text = page(
        title=f"{len(marked)} points on {len(items)} pictures",
        subtitle="Tacit locate: from one marked picture",
        facts=[
            ("command", run.record["command"]),
            ("pictures", f"{len(items)} located, {len(run.failures)} failed"),
            ("template", f"{template.name}, {len(marked)} points"),
            ("method", settings["locate"]["method"]),
            ("unsure", "copied points state no confidence" if copied else f"{unsure:.0%} of the points have a confidence below {SURE_FROM}"),
            ("seconds", f"{run.seconds:.0f}"),
        ],
        galleries=[
            ("Template", "", [_template(template, marked)]),
            ("Least sure pictures", f"Orange: confidence below {SURE_FROM}.", [_panel(run, item, sure[item["name"]]) for item in least]),
            ("Most sure pictures", "", [_panel(run, item, sure[item["name"]]) for item in most]),
        ],
        tables=[
            (
                "Pictures",
                f"Confidence of each point, least sure first, without the template; all {len(items)} with their places are in points.csv.",
                columns,
                table,
            )
        ],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
    )
    write_atomic(run.folder / "report.html", text)
    shutil.rmtree(run.folder / "items", ignore_errors=True)


def _warnings(unsure: float, copied: bool) -> list[str]:
    if copied:
        return ["The points were copied: no picture was looked at."]
    if unsure > DOUBTFUL:
        return [
            f"{unsure:.0%} of the points are unsure: the template may be unlike the other pictures (tacit locate FOLDER --suggest-template), or they are not of one kind."
        ]
    return []


def _drawn(run: Run, item: dict[str, Any]) -> Any:
    with Pillow.open(io.BytesIO((run.folder / "items" / f"{item['name']}.jpg").read_bytes())) as file:
        small = np.asarray(file)
    rows = item["rows"]
    points = [_scaled((row["row"], row["col"]), item["shape"], small.shape) for row in rows]
    return with_points(small, points, [row["point"] for row in rows], [row["confidence"] for row in rows])


def _panel(run: Run, item: dict[str, Any], sure: float) -> Panel:
    picture = (run.folder / "figures" / f"{item['name']}.jpg").read_bytes()
    return Panel(item["name"], embedded(picture, "jpeg"), None, f"confidence {sure:.2f}")


def _template(path: Path, marked: dict[str, tuple[float, float]]) -> Panel:
    pixels = read_picture(path).pixels
    small = shrunk(pixels)
    points = [_scaled(place, pixels.shape, small.shape) for place in marked.values()]
    return Panel(path.stem, embedded(jpeg(with_points(small, points, list(marked))), "jpeg"), None, "as it was marked")


def _scaled(place: tuple[float, float], shape: Any, small: Any) -> tuple[float, float]:
    return ((place[0] + 0.5) * small[0] / shape[0] - 0.5, (place[1] + 0.5) * small[1] / shape[1] - 0.5)
