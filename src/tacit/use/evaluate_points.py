"""`tacit evaluate OUT TRUTH.csv --task locate`: how far the points that were found lie from the true ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.read.points import points_of, read_points
from tacit.report.locate_score import by_point, figures, intervals

RADII_MM, FAILURE_MM = (2.0, 2.5, 3.0, 4.0, 6.0, 9.0), 30.0
RADII_PX, FAILURE_PX = (5.0, 10.0, 20.0, 40.0), 100.0


def evaluate_points(predicted: str | Path, truth: str | Path | None, *, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Mean and median distance, share within radii, failures, and the surest points' mean; in mm where the answers state them, else in px.

    predicted: OUT of tacit locate, or its points.csv · truth: a CSV image,point,row,col. Gives {"task", "unit", "images", "points", "figures",
    "interval", "by_point", "template", "without_truth", "over"}; intervals 95% over images. Points or images without truth do not count, nor does the
    template, where the run beside the answers names one. Raises TacitError.
    """
    place = Path(predicted)
    place = place / "points.csv" if place.is_dir() else place
    if truth is None:
        raise UsageError("tacit evaluate OUT --task locate needs TRUTH, a CSV image,point,row,col")
    found, true = read_points(place), read_points(truth)
    template = _template(place)
    found = {image: points for image, points in found.items() if image != template}
    spacing, confidence = _beside(place)
    in_mm = bool(found) and set(found) <= set(spacing)
    names = list(dict.fromkeys(name for points in found.values() for name in points))
    rows, sure, without = [], [], 0
    taken: dict[int, str] = {}  # true points → the image that they were compared with
    for image, points in found.items():
        known = points_of(true, image)
        if known is None or not set(known) & set(points):
            without += 1
            continue
        if taken.setdefault(id(known), image) != image:
            raise InputError(f"{truth} has one picture's points for {taken[id(known)]} and {image} of {place}; name both there by path")
        scale = spacing[image] if in_mm else np.ones(2)
        both = [name if name in points and name in known else None for name in names]
        rows.append([np.nan if name is None else float(np.linalg.norm(np.subtract(points[name], known[name]) * scale)) for name in both])
        sure.append([np.nan if name is None else confidence.get((image, name), np.nan) for name in both])
    if not rows:
        first = next(iter(found), f"none but the template {template}")
        raise InputError(f"no image of {place} is named in {truth}; the first here is {first}, the first there {next(iter(true))}")
    radii, failure = (RADII_MM, FAILURE_MM) if in_mm else (RADII_PX, FAILURE_PX)
    distance, stated = np.array(rows), np.array(sure)
    given = stated if np.isfinite(stated[np.isfinite(distance)]).all() else None
    return {
        "task": "locate",
        "unit": "mm" if in_mm else "px",
        "images": len(rows),
        "points": int(np.isfinite(distance).sum()),
        "figures": figures(distance, given, radii, failure),
        "interval": intervals(distance, given, radii, failure, draws=draws, seed=seed),
        "by_point": by_point(distance, names),
        "failure_limit": failure,
        "template": template,
        "without_truth": without,
        "over": f"{len(rows)} images",
    }


def _template(points: Path) -> str | None:
    """The picture that was marked, where a run lies beside its points.csv."""
    try:
        return str(json.loads((points.parent / "run.json").read_text(encoding="utf-8"))["template"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _beside(path: Path) -> tuple[dict[str, NDArray[np.float64]], dict[tuple[str, str], float]]:
    """mm per px along row and col of each image that has them, and the confidence of each (image, point) that has one; of what tacit locate wrote."""
    spacing: dict[str, NDArray[np.float64]] = {}
    confidence: dict[tuple[str, str], float] = {}
    with path.open(encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            if row.get("confidence"):
                confidence[row["image"], row["point"]] = float(row["confidence"])
            for axis, name in enumerate(("row", "col")):
                if row.get(f"{name}_mm") and abs(float(row[name])) >= 1:
                    spacing.setdefault(row["image"], np.full(2, np.nan))[axis] = float(row[f"{name}_mm"]) / float(row[name])
    return {image: s for image, s in spacing.items() if np.isfinite(s).all()}, confidence
