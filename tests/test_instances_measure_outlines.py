"""From probabilities to labels, tables and GeoJSON, on shapes whose truth is a formula."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from tacit.report.score import figures, tally
from tacit.use.instances import InstancesConfig, instances
from tacit.use.measure import glands, haematoxylin, image_row
from tacit.use.outlines import geojson, polygon

H, W = 120, 160
ROWS, COLS = np.mgrid[:H, :W]


def disk(row: float, col: float, radius: float) -> np.ndarray:
    return (ROWS - row) ** 2 + (COLS - col) ** 2 <= radius**2


def soft(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32) * 0.9 + 0.05


def test_touching_glands_are_parted_by_their_cores() -> None:
    a, b = disk(60, 50, 30), disk(60, 105, 30)
    p = np.stack([soft(a | b), soft(disk(60, 50, 20) | disk(60, 105, 20))])
    labels = instances(p, 1.0, (H, W))
    assert labels.max() == 2
    truth = np.where(a, 1, np.where(b, 2, 0)).astype(np.int32)
    found = figures([tally(labels, truth)])
    assert found["object_f1"] == 1 and found["object_dice"] > 0.95
    one = instances(np.stack([p[0], np.zeros((H, W), np.float32)]), 1.0, (H, W))
    assert one.max() == 1


def test_specks_go_small_holes_fill_and_large_ones_stay() -> None:
    ring = disk(60, 60, 45) & ~disk(60, 45, 5) & ~disk(60, 75, 22)
    speck = disk(20, 140, 4)
    labels = instances(np.stack([soft(ring | speck)] * 2), 1.0, (H, W), InstancesConfig(gland_um2=400, hole_um2=500))
    assert labels.max() == 1 and labels[20, 140] == 0 and labels[60, 45] == 1 and labels[60, 75] == 0


def test_labels_at_four_times_the_size_keep_their_shape() -> None:
    mask = disk(60, 80, 40)
    labels = instances(np.stack([soft(mask), soft(disk(60, 80, 30))]), 4.0, (4 * H, 4 * W))
    assert labels.shape == (4 * H, 4 * W) and labels.max() == 1
    assert (labels > 0).sum() == pytest.approx(np.pi * 160**2, rel=0.03)


def test_nothing_is_nothing() -> None:
    labels = instances(np.zeros((2, 30, 30), np.float32), 1.0, (50, 50))
    table = glands(labels, np.full((50, 50, 3), 200, np.uint8), 0.5, np.zeros((50, 50), np.float32))
    assert labels.max() == 0 and len(table) == 0
    assert image_row(labels, table, 0.5, np.zeros((50, 50), np.float32))["glands"] == 0
    assert json.loads(geojson(labels, table))["features"] == []


def test_a_disk_measures_what_its_formula_says() -> None:
    labels = disk(60, 80, 40).astype(np.int32)
    picture = np.full((H, W, 3), 120, np.uint8)
    picture[disk(60, 80, 20)] = 250
    row = glands(labels, picture, 0.5, np.ones((H, W), np.float32)).iloc[0]
    assert row["area_px"] == pytest.approx(np.pi * 1600, rel=0.01) and row["area_um2"] == pytest.approx(np.pi * 400, rel=0.01)
    assert row["equivalent_diameter_um"] == pytest.approx(40, rel=0.01) and row["perimeter_um"] == pytest.approx(40 * np.pi, rel=0.06)
    assert row["eccentricity"] < 0.1 and row["solidity"] > 0.97 and row["lumen_share"] == pytest.approx(0.25, abs=0.01)
    assert (row["row"], row["col"], row["confidence"]) == pytest.approx((60, 80, 1))
    unknown = glands(labels, picture, None, np.ones((H, W), np.float32)).iloc[0]
    assert np.isnan(unknown["area_um2"]) and unknown["area_px"] == row["area_px"]


def test_the_border_is_as_thick_as_it_was_drawn() -> None:
    labels = disk(60, 80, 50).astype(np.int32)
    for thickness in (8, 15):
        picture = np.full((H, W, 3), (220, 170, 210), np.uint8)
        picture[disk(60, 80, 50) & ~disk(60, 80, 50 - thickness)] = (80, 50, 140)
        assert glands(labels, picture, 1.0, np.ones((H, W), np.float32)).iloc[0]["border_thickness_um"] == pytest.approx(thickness, abs=3)


def test_density_is_per_square_millimetre() -> None:
    labels = np.where(disk(60, 40, 20), 1, np.where(disk(60, 120, 20), 2, 0)).astype(np.int32)
    p = np.ones((H, W), np.float32)
    row = image_row(labels, glands(labels, np.zeros((H, W, 3), np.uint8), 10.0, p), 10.0, p)
    assert row["glands_per_mm2"] == pytest.approx(2 / (H * W * 1e-4)) and row["confidence"] == 1


def test_haematoxylin_equals_the_optical_density_that_was_mixed() -> None:
    stains = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    mixed = 255 * 10 ** -(0.4 * stains[0] + 0.2 * stains[1])
    assert haematoxylin(np.round(mixed).astype(np.uint8)[None, None])[0, 0] == pytest.approx(0.4, abs=0.01)


def area(mask: np.ndarray) -> float:
    return polygon(mask, 0, 0).area


def test_outlines_follow_the_pixels_edges() -> None:
    square = np.zeros((20, 30), bool)
    square[5:10, 7:19] = True
    found = polygon(square, 100, 200)
    assert found.bounds == (207, 105, 219, 110) and found.area == 60
    ring = disk(60, 60, 40) & ~disk(60, 60, 15)
    holed = polygon(ring, 0, 0)
    assert len(holed.interiors) == 1 and holed.area == pytest.approx(ring.sum(), rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_any_mask_gives_valid_closed_rings_of_about_its_area(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((8, 9)) < 0.5, np.ones((6, 6))) > 0
    found = polygon(mask, 3, 4)
    if not mask.any():
        assert found is None
        return
    assert found.is_valid and found.area == pytest.approx(mask.sum(), rel=0.02)
    for part in getattr(found, "geoms", [found]):
        assert part.exterior.is_ring and all(hole.is_ring for hole in part.interiors)


def test_geojson_is_what_qupath_reads() -> None:
    labels = np.where(disk(60, 40, 25) & ~disk(60, 40, 8), 1, np.where(disk(60, 110, 25), 2, 0)).astype(np.int32)
    picture = np.full((H, W, 3), 120, np.uint8)
    text = geojson(labels, glands(labels, picture, None, np.ones((H, W), np.float32)), "gland")
    assert "NaN" not in text
    collection = json.loads(text)
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == 2
    for feature in collection["features"]:
        properties = feature["properties"]
        assert feature["type"] == "Feature" and properties["objectType"] == "annotation"
        assert properties["classification"]["name"] == "gland" and len(properties["classification"]["color"]) == 3
        assert all(isinstance(v, float) and np.isfinite(v) for v in properties["measurements"].values())
        assert shape(feature["geometry"]).is_valid
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
    assert len(collection["features"][0]["geometry"]["coordinates"]) == 2  # the hole is kept
