"""`tacit segment --phantom fundus | chest` and its rules: files, measures against known shapes, scores against slow ones, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, recall_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, UsageError
from tacit.image import Image
from tacit.phantom import chest, fundus
from tacit.report.picture import in_colours, png
from tacit.use.measure_structures import cardiothoracic_ratio, measured, vessel_size
from tacit.use.outlines import pieces_geojson
from test_chest_taught import TINY as TINY_CHEST
from test_fundus_taught import TINY as TINY_FUNDUS


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn chests with their truth by class, a black picture and a broken one."""
    place = tmp_path_factory.mktemp("chests")
    (place / "in").mkdir()
    for i in range(3):
        drawing = chest.draw(np.random.default_rng([5, i]), (96 + 4 * i, 96))
        (place / "in" / f"c{i}.png").write_bytes(png(drawing.picture))
        for name, plane in zip(chest.CLASSES, drawing.planes, strict=True):
            (place / "truth" / name).mkdir(parents=True, exist_ok=True)
            (place / "truth" / name / f"c{i}.png").write_bytes(png((plane > 127).astype(np.uint8)))
    (place / "in" / "black.png").write_bytes(png(np.zeros((64, 64, 3), np.uint8)))
    (place / "in" / "broken.png").write_bytes(b"x")
    return place


@pytest.fixture(scope="module")
def run(chests: Path) -> Path:
    settings = [w for s in TINY_CHEST for w in ("--set", s)]
    done = CliRunner().invoke(app, ["segment", str(chests / "in"), "-o", str(chests / "o"), "--phantom", "chest", "--classes", "lungs,heart", *settings])
    assert done.exit_code == 3, done.output
    assert "3 images segmented, 2 failed" in done.stdout and "µm" not in done.stdout
    return chests / "o"


def test_the_files_of_a_run(run: Path, chests: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    assert record["ok"] == 3 and record["classes"] == ["lungs", "heart"] and record["learnt_from"] == 3 and record["mpp"] is None
    for i in range(3):
        mask = cv2.imread(str(run / "masks" / f"c{i}.png"), cv2.IMREAD_UNCHANGED)
        heart, lungs = (cv2.imread(str(run / "planes" / n / f"c{i}.png"), cv2.IMREAD_UNCHANGED) for n in ("heart", "lungs"))
        assert mask.shape == (96 + 4 * i, 96) and set(np.unique(mask)) <= {0, 1, 2}
        assert ((mask == 2) == (heart > 0)).all() and ((mask == 1) == ((lungs > 0) & (heart == 0))).all()
        p = cv2.imread(str(run / "probability" / "heart" / f"c{i}.png"), cv2.IMREAD_UNCHANGED)
        assert ((p > 127.5) == (heart > 0)).all()
        assert json.loads((run / "geojson" / f"c{i}.geojson").read_text())["type"] == "FeatureCollection"
    with (run / "tables" / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["image"] for r in rows] == ["c0", "c1", "c2"] and {"lungs_share", "heart_pieces", "confidence", "far_from_drawing"} <= set(rows[0])
    reasons = (run / "failures.csv").read_text()
    assert "black.png" in reasons and "broken.png" in reasons
    assert "Least sure images" in (run / "report.html").read_text() and not (run / "items").exists()
    assert "drawings of chests" in (run / "model" / "card.md").read_text()
    assert "finished" in CliRunner().invoke(app, ["info", str(run)]).stdout


def test_a_run_is_applied_to_new_pictures_and_resumed(run: Path, chests: Path, tmp_path: Path) -> None:
    done = tacit.segment(chests / "in" / "c1.png", tmp_path / "o", model=run, classes="clavicles,heart")
    assert done.images == 1 and done.mpp is None
    assert (tmp_path / "o" / "planes" / "heart" / "c1.png").read_bytes() == (run / "planes" / "heart" / "c1.png").read_bytes()
    again = tacit.segment(chests / "in" / "c1.png", tmp_path / "o", model=run, classes="clavicles,heart", resume=True)
    assert again.images == 1
    only = tacit.segment(chests / "in", tmp_path / "rule", method="lung-rule")
    assert only.images == 3 and not (tmp_path / "rule" / "planes").exists() and (tmp_path / "rule" / "masks" / "c0.png").exists()


def test_masks_beside_the_pictures_change_nothing(run: Path, chests: Path, tmp_path: Path) -> None:
    shutil.copytree(chests / "in", tmp_path / "in")
    (tmp_path / "in" / "masks").mkdir()
    for i in range(3):
        (tmp_path / "in" / "masks" / f"c{i}.png").write_bytes((chests / "truth" / "lungs" / f"c{i}.png").read_bytes())
    tacit.segment(tmp_path / "in", tmp_path / "o", phantom="chest", classes="lungs,heart", set=TINY_CHEST)
    assert (tmp_path / "o" / "model" / "weights.safetensors").read_bytes() == (run / "model" / "weights.safetensors").read_bytes()


def test_scores_equal_scikit_learns(run: Path, chests: Path) -> None:
    result = tacit.evaluate(run, chests / "truth", task="structures")
    for name in ("lungs", "heart"):
        pairs = [[cv2.imread(str(p / name / f"c{i}.png"), cv2.IMREAD_UNCHANGED).ravel() > 0 for p in (chests / "truth", run / "planes")] for i in range(3)]
        dices = [f1_score(t, a, zero_division=1.0) for t, a in pairs]
        found = result["classes"][name]
        assert found["images"] == 3 and found["figures"]["dice"] == pytest.approx(np.mean(dices)) and found["least"]["dice"] == pytest.approx(min(dices))
        assert found["figures"]["iou"] == pytest.approx(np.mean([jaccard_score(t, a, zero_division=1.0) for t, a in pairs]))
        assert found["figures"]["sensitivity"] == pytest.approx(np.mean([recall_score(t, a) for t, a in pairs]))
        assert found["figures"]["specificity"] == pytest.approx(np.mean([recall_score(~t, ~a) for t, a in pairs]))
        assert found["below_0.8"] == sum(d < 0.8 for d in dices)
    said = CliRunner().invoke(app, ["evaluate", str(run), str(chests / "truth"), "--task", "structures"])
    assert said.exit_code == 0 and "lungs dice" in said.stdout and "least Dice" in said.stdout


def test_fields_and_values_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    answer, true = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    field = np.zeros((20, 30), np.uint8)
    field[:, :15] = 255
    for folder, mask in (("a", answer), ("t", true), ("f", field)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(png(mask))
    result = tacit.evaluate(tmp_path / "a", tmp_path / "t", task="structures", classes="one,two", field=tmp_path / "f")
    for value, name in ((1, "one"), (2, "two")):
        expected = f1_score((true == value)[:, :15].ravel(), (answer == value)[:, :15].ravel())
        assert result["classes"][name]["figures"]["dice"] == pytest.approx(expected)
    assert tacit.evaluate(tmp_path / "a", tmp_path / "t", task="structures", classes="any")["classes"]["any"]["figures"]["dice"] == pytest.approx(
        f1_score(true.ravel() > 0, answer.ravel() > 0)
    )
    (tmp_path / "t" / "x.png").write_bytes(png(true[:5]))
    for options, error, said in (
        ({}, UsageError, "give --classes"),
        ({"classes": "one"}, InputError, "5×30 px, the mask 20×30"),
    ):
        with pytest.raises(error, match=said):
            tacit.evaluate(tmp_path / "a", tmp_path / "t", task="structures", **options)
    with pytest.raises(UsageError, match="needs TRUTH"):
        tacit.evaluate(tmp_path / "a", task="structures", classes="one")


def test_vessels_are_drawn_learnt_and_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        drawing = fundus.draw(np.random.default_rng([3, i]), (150, 160), None, fundus.FundusConfig())
        (tmp_path / "in" / f"f{i}.png").write_bytes(png(drawing.picture))
    done = tacit.segment(tmp_path / "in", tmp_path / "o", phantom="fundus", set=TINY_FUNDUS)
    assert done.images == 2
    mask = cv2.imread(str(tmp_path / "o" / "masks" / "f0.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (150, 160) and set(np.unique(mask)) <= {0, 1}
    with (tmp_path / "o" / "tables" / "images.csv").open() as file:
        row = next(csv.DictReader(file))
    assert float(row["vessel_share"]) > mask.mean() > 0  # of the field, which is smaller than the picture
    assert float(row["vessel_width_px"]) == pytest.approx(mask.sum() / float(row["vessel_length_px"]), rel=1e-3)


def test_measures_of_known_shapes() -> None:
    bar = np.zeros((60, 100), bool)
    bar[28:33, 10:90] = True
    size = vessel_size(bar)
    assert size["vessel_length_px"] == pytest.approx(76, abs=4) and size["vessel_width_px"] == pytest.approx(5, abs=0.4)
    slanted = np.eye(60, dtype=bool)
    assert vessel_size(slanted)["vessel_length_px"] == pytest.approx(59 * np.sqrt(2))
    assert vessel_size(np.zeros((9, 9), bool)) == {"vessel_length_px": 0.0, "vessel_width_px": None}
    lungs, heart = np.zeros((2, 50, 100), bool)
    lungs[5:40, 10:40] = lungs[5:40, 60:90] = True
    lungs[45, 97] = True  # a speck is no lung
    heart[20:40, 38:70] = True
    assert cardiothoracic_ratio(lungs, heart) == pytest.approx(32 / 80)
    assert cardiothoracic_ratio(lungs, ~heart & heart) is None and cardiothoracic_ratio(lungs & ~lungs, heart) is None
    row = measured(np.stack([lungs, heart]).astype(np.float32), ["lungs", "heart"], Image(np.zeros((50, 100, 3), np.uint8)).with_mpp(500, "given"), object())
    assert row["lungs_pieces"] == 3 and row["heart_area_mm2"] == pytest.approx(640 * 0.25) and row["confidence"] == 1 and row["lungs_share"] == lungs.mean()


def test_pieces_and_colours() -> None:
    planes = {"a": np.zeros((20, 20), bool), "b": np.zeros((20, 20), bool)}
    planes["a"][2:5, 2:6] = planes["a"][10:12, 10:15] = planes["b"][0:3, 15:20] = True
    features = json.loads(pieces_geojson(planes))["features"]
    assert [f["properties"]["measurements"]["area_px"] for f in features] == [12, 10, 15]
    assert len({str(f["properties"]["classification"]["color"]) for f in features}) == 2
    drawn = in_colours(np.zeros((20, 20, 3), np.uint8), [plane.astype(np.int32) for plane in planes.values()])
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 3


def test_what_cannot_be_segmented_is_said(chests: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    for options, error, said in (
        ({"phantom": "chest", "classes": "lungs,liver"}, UsageError, "expected some of lungs, heart, clavicles, each once"),
        ({"phantom": "chest", "classes": "lungs,lungs"}, UsageError, "each once"),
        ({"phantom": "fundus", "set": ["draw.pictuers=3"]}, UsageError, "pictures"),
        ({"method": "vessel-filter"}, UsageError, "known are phantom, mssg"),
        ({"classes": "a,b"}, UsageError, "draws 1 class"),
    ):
        with pytest.raises(error, match=said):
            tacit.segment(chests / "in", out, **options)
        assert not out.exists()
    (tmp_path / "black").mkdir()
    shutil.copy(chests / "in" / "black.png", tmp_path / "black")
    with pytest.raises(InputError, match="none of the 1 images can be used"):
        tacit.segment(tmp_path / "black", out, phantom="chest", set=TINY_CHEST)


def test_landmarks_are_carried_by_the_structure_that_a_run_finds(run: Path, chests: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("image,point,row,col\nc0.png,apex,30,40\n")
    asked = {"template": chests / "in" / "c0.png", "points": tmp_path / "p.csv", "set": ["side=64", "through=1", 'looks=["grey"]']}
    done = tacit.locate(chests / "in", tmp_path / "o", model=run, **asked)
    assert done.images == 3 and done.failed == 2 and len(done.points) == 3
    alone = tacit.locate(chests / "in", tmp_path / "alone", **asked)
    assert done.points != alone.points  # the structure has its say
    assert [row["image"] for row in alone.points] == ["c0.png", "c1.png", "c2.png"]
    with pytest.raises(UsageError, match="uses neither"):
        tacit.locate(chests / "in", tmp_path / "no", method="template-matching", model=run, **asked)
