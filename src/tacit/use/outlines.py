"""Label map → GeoJSON that QuPath opens: closed valid rings along the pixels' edges, holes kept, measurements without NaN."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.report.picture import COLOURS

if TYPE_CHECKING:
    import pandas as pd

COLOUR = (46, 160, 67)
TOLERANCE = 0.5  # px an outline may move when it is simplified


def geojson(labels: NDArray[np.int32], table: pd.DataFrame, class_name: str = "gland") -> str:
    """A FeatureCollection as text; coordinates are x, y in px of the full image, its upper left corner (0, 0)."""
    rows = {int(row["label"]): row for row in table.to_dict("records")}
    boxes = _boxes(labels)
    features = [_feature(labels, label, boxes[label], rows.get(label, {}), class_name) for label in sorted(boxes)]
    return json.dumps({"type": "FeatureCollection", "features": [f for f in features if f]}, allow_nan=False) + "\n"


def pieces_geojson(planes: dict[str, NDArray[np.bool_]]) -> str:
    """A FeatureCollection of the pieces of several structures, planes (h, w) by name; each piece a feature with its area in px."""
    features = []
    for number, (name, inside) in enumerate(planes.items()):
        _, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)
        for label, box in _boxes(labels).items():
            piece = labels[box] == label
            feature = _feature(labels, label, box, {"area_px": float(piece.sum())}, name)
            if feature:
                feature["properties"]["classification"]["color"] = list(COLOURS[number % len(COLOURS)])
                features.append(feature)
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"


def _boxes(labels: NDArray[np.int32]) -> dict[int, tuple[slice, slice]]:
    from scipy.ndimage import find_objects

    return {i + 1: box for i, box in enumerate(find_objects(labels)) if box is not None}


def _feature(labels: NDArray[np.int32], label: int, box: tuple[slice, slice], row: dict[str, Any], name: str) -> dict[str, Any] | None:
    shape = polygon(labels[box] == label, box[0].start, box[1].start)
    return None if shape is None else feature(shape, label, row, name)


def feature(shape: Any, label: int, row: dict[str, Any], name: str) -> dict[str, Any]:
    """A shape as QuPath wants it: coordinates to .1 px, the row's numbers as measurements, without NaN."""
    from shapely.geometry import mapping

    numbers = {k: round(float(v), 4) for k, v in row.items() if k != "label" and isinstance(v, (int, float)) and math.isfinite(v)}
    return {
        "type": "Feature",
        "id": f"{name}-{label}",
        "geometry": _plain(mapping(shape)),
        "properties": {
            "objectType": "annotation",
            "name": f"{name} {label}",
            "classification": {"name": name, "color": list(COLOUR)},
            "measurements": numbers,
        },
    }


def polygon(mask: NDArray[np.bool_], top: int, left: int) -> Any:
    """A shapely polygon (or multipolygon) of a boolean crop whose first pixel is (top, left); None if it vanishes."""
    shape = along_pixels(mask, top, left)
    return None if shape is None else simplified(shape)


def simplified(shape: Any) -> Any:
    """A shape with its outline moved by at most TOLERANCE to have fewer points; None if it vanishes."""
    from shapely.geometry import MultiPolygon

    shape = shape.simplify(TOLERANCE, preserve_topology=True)
    parts = [g for g in getattr(shape, "geoms", [shape]) if g.geom_type == "Polygon" and g.area > 0]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def along_pixels(mask: NDArray[np.bool_], top: int, left: int) -> Any:
    """The outline along the pixels' edges, exactly, as a shapely shape; None where nothing is inside."""
    from shapely import make_valid
    from shapely.geometry import Polygon
    from shapely.ops import unary_union

    doubled = np.repeat(np.repeat(np.pad(mask, 1).astype(np.uint8), 2, 0), 2, 1)
    rings, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if tree is None:
        return None
    edge = [(np.floor((r[:, 0].astype(np.float64) + 1) / 2) + [left - 1, top - 1]) for r in rings]
    shells = []
    for i, (_, _, _, parent) in enumerate(tree[0]):
        if parent < 0 and len(edge[i]) >= 4:
            holes = [edge[j] for j in range(len(edge)) if tree[0][j][3] == i and len(edge[j]) >= 4]
            shells.append(Polygon(edge[i], holes))
    if not shells:
        return None
    return unary_union([make_valid(s) for s in shells])


def _plain(geometry: dict[str, Any]) -> dict[str, Any]:
    def rounded(value: Any) -> Any:
        return round(float(value), 1) if isinstance(value, (int, float)) else [rounded(v) for v in value]

    return {"type": geometry["type"], "coordinates": rounded(geometry["coordinates"])}
