"""Landmarks from one marked picture: known deformations found to a pixel, matching against slow loops, and the verb with all it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.config import build
from tacit.errors import InputError, OutputError, ReadError, UsageError
from tacit.learn.classical.register import LOOKS, affine, at, from_frame, looks, register, to_frame
from tacit.learn.classical.template_match import CopyPoints, TemplateMatch, TemplateMatchConfig
from tacit.learn.dense_match import DenseMatch, DenseMatchConfig, FeaturePlanes
from tacit.learn.many_paths import ManyPaths, ManyPathsConfig, disagreement, thumbnail, typical
from tacit.learn.pretraining import METHODS as PRETRAINED
from tacit.phantom import tissue
from tacit.read.points import points_of, read_points
from tacit.report.landmarks import with_points
from tacit.report.locate_score import figures
from tacit.report.picture import png
from tacit.use.model import save_model
from tacit.use.seen_by import features_of_run, structure_planes

SIDE = 192
POINTS = np.array([[60.0, 70.0], [100.5, 120.25], [130.0, 50.0]])


def drawn(seed: int, side: int = SIDE) -> np.ndarray:
    return cv2.GaussianBlur(tissue.draw(np.random.default_rng(seed), (side, side), 3.0).picture, (0, 0), 1.5)


def bent(picture: np.ndarray, seed: int, size: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned, stretched and bent, and the place (h, w, 2) row, col of each of its pixels in the answer."""
    rng = np.random.default_rng([seed, 1])
    h, w = picture.shape[:2]
    row, col = np.mgrid[:h, :w].astype(np.float64)
    angle, zoom = rng.uniform(-0.08, 0.08), rng.uniform(0.94, 1.06)
    y, x = row - h / 2, col - w / 2
    phase = rng.uniform(0, 2 * np.pi, 2)
    # the answer at q shows the picture at back(q); its inverse by fixed-point steps
    back = np.stack(
        [
            h / 2 + zoom * (np.cos(angle) * y - np.sin(angle) * x) + size * np.sin(2 * np.pi * col / w + phase[0]),
            w / 2 + zoom * (np.sin(angle) * y + np.cos(angle) * x) + size * np.sin(2 * np.pi * row / h + phase[1]),
        ],
        -1,
    ).astype(np.float32)
    moved = cv2.remap(picture, back[..., 1], back[..., 0], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    there = np.stack([row, col], -1)
    for _ in range(60):
        there = there - 0.7 * (at(back, there.reshape(-1, 2)).reshape(h, w, 2) - np.stack([row, col], -1))
    return moved, there.astype(np.float32)


def test_points_in_a_frame_come_back() -> None:
    assert np.allclose(from_frame(to_frame(POINTS, (300, 170), 256), (300, 170), 256), POINTS)
    assert np.allclose(to_frame(np.array([[-0.5, 169.5]]), (300, 170), 256), [[-0.5, 255.5]])


def test_an_affine_map_is_found() -> None:
    a = looks(drawn(0), ("grey",), SIDE)[0]
    known = np.array([[1.03, 0.05, -4.0], [-0.04, 0.98, 6.0]])
    b = cv2.warpAffine(a, known, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    found = affine(a, b)
    xy = np.array([[60, 60, 1], [120, 60, 1], [60, 130, 1], [140, 140, 1.0]])
    assert np.abs(xy @ found.T - xy @ known.T).max() < 1.0
    assert np.array_equal(affine(a, np.zeros_like(a)), np.eye(2, 3))  # nothing in common


@pytest.mark.parametrize("look", list(LOOKS))
@pytest.mark.parametrize("seed", [1, 2])
def test_a_known_deformation_is_found_to_a_pixel(look: str, seed: int) -> None:
    picture = drawn(seed)
    moved, there = bent(picture, seed)
    mapping = register(looks(picture, (look,), SIDE), looks(moved, (look,), SIDE))[0]
    inner = np.s_[30:-30:6, 30:-30:6]
    off = np.linalg.norm(mapping[inner] - there[inner], axis=-1)
    assert np.median(off) < 0.6 and np.quantile(off, 0.9) < 1.0


def test_many_paths_find_points_on_bent_pictures_of_other_size() -> None:
    picture = drawn(3)
    others = [bent(picture, seed)[0] for seed in range(10, 14)]
    moved, there = bent(picture, 20)
    locator = ManyPaths(ManyPathsConfig(side=SIDE, through=4)).fit(picture, POINTS, others)
    found = locator.locate(moved)
    assert np.linalg.norm(found.points - at(there, POINTS), axis=1).max() < 1.0
    assert found.confidence.min() > 0.9 and found.spread.max() < 1.5
    large = cv2.resize(moved, (2 * SIDE, 3 * SIDE), interpolation=cv2.INTER_LINEAR)
    scaled = (at(there, POINTS) + 0.5) * [3, 2] - 0.5
    assert np.linalg.norm(locator.locate(large).points - scaled, axis=1).max() < 3.0
    assert locator.locate(drawn(77)).confidence.mean() < 0.5  # another picture altogether


def test_ways_through_others_mend_what_the_straight_way_gets_wrong() -> None:
    picture = drawn(5)
    locator = ManyPaths(ManyPathsConfig(side=SIDE, looks=("grey",), through=4)).fit(picture, POINTS, [bent(picture, s)[0] for s in range(4)])
    seen, places = locator._stations[0]
    locator._stations[0] = (seen, [[places[0][0] + 40]])  # the straight way starts at a wrong place
    moved, there = bent(picture, 9)
    found = locator.locate(moved)
    assert np.linalg.norm(found.points - at(there, POINTS), axis=1).max() < 1.0
    assert np.allclose(found.confidence, 0.8)  # one of five ways does not agree


def test_mirrored_pictures_are_found_where_asked_for() -> None:
    picture = drawn(6)
    turned = np.ascontiguousarray(bent(picture, 3)[0][:, ::-1])
    there = at(bent(picture, 3)[1], POINTS)
    true = np.stack([there[:, 0], SIDE - 1 - there[:, 1]], -1)
    plain = ManyPaths(ManyPathsConfig(side=SIDE, through=0)).fit(picture, POINTS, [])
    either = ManyPaths(ManyPathsConfig(side=SIDE, through=0, mirror=True)).fit(picture, POINTS, [])
    assert np.linalg.norm(either.locate(turned).points - true, axis=1).max() < 1.0
    assert np.linalg.norm(plain.locate(turned).points - true, axis=1).mean() > 5
    assert np.linalg.norm(either.locate(bent(picture, 3)[0]).points - there, axis=1).max() < 1.0


def test_structure_alone_can_carry_points() -> None:
    class Disc:
        def probability(self, picture: np.ndarray) -> np.ndarray:
            return (picture[None, ..., 0] > 128).astype(np.float32)

    def disc(row: int, col: int, noise: int) -> np.ndarray:
        ground = np.random.default_rng(noise).integers(0, 120, (SIDE, SIDE, 3), np.uint8)
        ground[((np.mgrid[:SIDE, :SIDE] - [[[row]], [[col]]]) ** 2).sum(0) < 40**2] = 200
        return ground

    planes = structure_planes(Disc(), SIDE)
    plane = planes(disc(90, 90, 0))
    assert plane.shape == (1, SIDE, SIDE) and plane[0, 90, 90] > 200 and plane[0, 10, 10] < 60 and abs(int(plane[0, 90, 130]) - 128) < 8
    locator = ManyPaths(ManyPathsConfig(side=SIDE, looks=("local",), through=0), planes).fit(disc(90, 90, 1), np.array([[90.0, 50.0]]), [])
    end = locator.ways(disc(100, 105, 2))[1, 0]
    assert np.linalg.norm(end - [100, 65]) < 3.0


def test_typical_pictures_come_first_and_the_odd_one_is_no_template() -> None:
    picture = drawn(8)
    pictures = [bent(picture, s)[0] for s in range(4)] + [drawn(50)]
    order = typical(np.stack([thumbnail(p) for p in pictures]))
    assert order[-1] == 4 and sorted(order) == list(range(5))
    apart = disagreement(pictures, ManyPathsConfig(side=96), grid=4)
    assert apart.argmax() == 4 and apart[4] > 3 * apart[:4].max()


def test_dense_matching_equals_a_slow_loop_and_asks_back() -> None:
    rng = np.random.default_rng(0)
    wide = np.stack([cv2.GaussianBlur(rng.standard_normal((80, 80)).astype(np.float32), (0, 0), 3) for _ in range(6)])
    wide /= np.linalg.norm(wide, axis=0)
    a, b = wide[:, 8:72, 8:72], wide[:, 4:68, 11:75]  # b is a, moved by 4 rows and −3 columns
    features = lambda picture: a if picture[0, 0] == 1 else b
    points = np.array([[20.0, 30.0], [40.0, 44.0]])
    locator = DenseMatch(features).fit(np.ones((64, 64), np.uint8), points)
    found = locator.locate(np.zeros((64, 64), np.uint8))
    assert np.abs(found.points - (points + [4, -3])).max() < 0.6
    assert found.confidence.min() > 0.95 and found.spread.max() < 1.5
    plain = DenseMatch(features, DenseMatchConfig(windows=(0.125,)))
    one, other = plain.averaged(a), plain.averaged(b)
    place, cosine = plain.match(one, points[:1], other)
    slow = max((float(one[0][:, 20, 30] @ other[0][:, r, c]), (r, c)) for r in range(64) for c in range(64))
    assert cosine[0] == pytest.approx(slow[0], abs=1e-5) and np.abs(place[0] - slow[1]).max() <= 0.5
    kernel = cv2.getGaussianKernel(9, 9 / 4)  # 64 / 8, made odd
    expected = np.stack([cv2.sepFilter2D(v, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT) for v in a])
    assert np.allclose(one[0], expected / np.linalg.norm(expected, axis=0), atol=1e-5)


def test_feature_planes_are_the_strongest_components() -> None:
    rng = np.random.default_rng(1)
    maps = rng.standard_normal((5, 40, 40)).astype(np.float32) * np.array([9, 1, 5, 2, 0.1], np.float32)[:, None, None]
    planes = FeaturePlanes(lambda picture: maps, np.zeros((40, 40), np.uint8), 40)(np.zeros((40, 40), np.uint8))
    assert planes.shape == (3, 40, 40) and planes.dtype == np.uint8
    for plane, source in zip(planes, (0, 2, 3), strict=True):
        assert abs(np.corrcoef(plane.ravel(), maps[source].ravel())[0, 1]) > 0.98


def test_template_matching_finds_a_shift_and_copying_looks_at_nothing() -> None:
    picture = drawn(4)
    moved = np.roll(picture, (7, -5), (0, 1))
    found = TemplateMatch(TemplateMatchConfig(side=SIDE, patch=0.2)).fit(picture, POINTS).locate(moved)
    assert np.abs(found.points - (POINTS + [7, -5])).max() < 1.01 and found.confidence.min() > 0.85
    turned = np.ascontiguousarray(moved[:, ::-1])
    either = TemplateMatch(TemplateMatchConfig(side=SIDE, patch=0.2, mirror=True)).fit(picture, POINTS).locate(turned)
    assert np.abs(either.points - [[r + 7, SIDE - 1 - (c - 5)] for r, c in POINTS]).max() < 1.01
    copied = CopyPoints().fit(picture, POINTS).locate(np.zeros((2 * SIDE, SIDE), np.uint8))
    assert np.allclose(copied.points, (POINTS + 0.5) * [2, 1] - 0.5) and not copied.confidence.any()


def test_lists_of_points_are_read_and_bad_ones_named(tmp_path: Path) -> None:
    list_ = tmp_path / "p.csv"
    list_.write_text("\ufeffPoint;Image;col;row;note\na;x/y.png;3,\n".replace("3,", "3;4.5;seen"))
    assert read_points(list_) == {"x/y.png": {"a": (4.5, 3.0)}}
    assert points_of(read_points(list_), "other/y.png") == {"a": (4.5, 3.0)} and points_of(read_points(list_), "z.png") is None
    for text, said in (
        ("", "is empty; expected the header image,point,row,col"),
        ("a.png,tip,3,4\n", r"has no column image in its first line \('a.png,tip,3,4'\)"),
        ("image,point,row,col\n", "holds no points"),
        ("image,point,row,col\na,b,1\n", "line 2: 3 cells, the header has 4"),
        ("image,point,row,col\na,b,1,nan\n", "line 2: col is 'nan'"),
        ("image,point,row,col\na,b,1,2\na,b,3,4\n", "line 3: point 'b' of a is named a second time"),
    ):
        list_.write_text(text)
        with pytest.raises(InputError, match=said):
            read_points(list_)
    with pytest.raises(InputError, match="cannot be read as a list of points"):
        read_points(tmp_path / "none.csv")


def test_points_are_those_of_the_picture_whose_path_fits_best() -> None:
    one, two, three = ({"a": (float(k), 0.0)} for k in range(3))
    places = {"P2/a.png": two, "P1/a.png": one, "b.png": three}
    assert points_of(places, "in/P1/a.png") is one and points_of(places, "in/P2/a.png") is two and points_of(places, "in/P7/b.png") is three
    assert points_of({"a.png": two, "in/P1/a.png": one}, "in/P1/a.png") is one  # named by its path, though another one shares its file name
    assert points_of({"a.png": two, "P1/a": one}, "in/P1/a.png") is one and points_of({"a": two, "a.png": one}, "in/a.png") is one
    assert points_of({"/far/P2/a.png": two, "/far/P1/a.png": one}, "in/P1/a.png") is one  # a list from another machine
    assert points_of({"P2/a.png": two}, "in/P1/a.png") is two and points_of({"P2/a.tif": two}, "in/P1/a.png") is None
    with pytest.raises(InputError, match=r"in/P3/a.png could be 'P2/a.png' or 'P1/a.png' in the list of points; name it there by"):
        points_of(places, "in/P3/a.png")


def test_figures_of_distances() -> None:
    d, c = np.array([[1.0, 9.0], [3.0, np.nan]]), np.array([[0.9, 0.1], [0.5, 0.7]])
    found = figures(d, c, (3.0, 6.0), 8.0)
    assert found["mean"] == pytest.approx(13 / 3) and found["median"] == 3 and found["failures"] == pytest.approx(1 / 3)
    assert found["within_3"] == found["within_6"] == pytest.approx(2 / 3)
    assert found["mean_surest_0.4"] == 1 and found["mean_surest_0.6"] == 2 and figures(np.full((1, 1), np.nan), None, (1,), 1) == {}


def test_points_are_drawn_where_they_are() -> None:
    small = with_points(np.zeros((40, 40), np.uint8), [(10, 30)], ["a"], [0.1])
    assert small.shape == (360, 360, 3)
    lit = np.argwhere(small[..., 0] > 200)
    assert np.abs(np.median(lit[:, 0]) - 94) < 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five bent pictures of one, grey and colour, of three sizes; the points of two; one black picture, one of 9 px, one broken."""
    place = tmp_path_factory.mktemp("locate")
    base, lines = drawn(3), ["image,point,row,col"]
    for k in range(5):
        moved, there = bent(base, 30 + k)
        zoom = 1 + k % 2
        moved = cv2.resize(moved, None, fx=zoom, fy=zoom)
        moved = cv2.cvtColor(moved, cv2.COLOR_RGB2GRAY) if k == 2 else moved
        (place / "in").mkdir(exist_ok=True)
        (place / "in" / f"p{k}.png").write_bytes(png(moved))
        lines += [f"p{k}.png,{n},{r},{c}" for n, (r, c) in zip("abc", (at(there, POINTS) + 0.5) * zoom - 0.5, strict=True)]
    (place / "truth.csv").write_text("\n".join(lines) + "\n")
    (place / "points.csv").write_text("\n".join(lines[:4]) + "\n")
    (place / "in" / "black.png").write_bytes(png(np.zeros((64, 64, 3), np.uint8)))
    (place / "in" / "tiny.png").write_bytes(png(drawn(1)[:9, :9]))
    (place / "in" / "broken.png").write_bytes(b"no picture")
    return place


FAST = ["--set", "side=128", "--set", "through=2"]


def test_the_verb_writes_points_and_they_are_scored(folder: Path, tmp_path: Path) -> None:
    ask = ["locate", str(folder / "in"), "-o", str(tmp_path / "o"), "--template", str(folder / "in" / "p0.png"), "--points", str(folder / "points.csv")]
    done = CliRunner().invoke(app, [*ask, "--spacing-mm", "0.5", *FAST])
    assert done.exit_code == 3, done.output
    assert "15 points on 5 pictures" in done.stdout and "3 pictures failed" in done.stdout and "next: tacit evaluate" in done.stdout
    reasons = (tmp_path / "o" / "failures.csv").read_text()
    assert "every pixel is 0" in reasons and "at least 16 px a side" in reasons and "broken.png" in reasons
    text = (tmp_path / "o" / "points.csv").read_text().splitlines()
    assert text[0] == "image,point,row,col,row_mm,col_mm,confidence" and len(text) == 16
    image, _, row, _, row_mm, _, confidence = text[1].split(",")
    assert image == "p0.png" and float(row_mm) == pytest.approx(float(row) / 2, abs=0.01) and 0 <= float(confidence) <= 1
    judged = CliRunner().invoke(app, ["evaluate", str(tmp_path / "o"), str(folder / "truth.csv"), "--task", "locate"])
    assert judged.exit_code == 0 and "12 points of 4 images, mm" in judged.stdout and "p0.png does not count" in judged.stderr and "within_9" in judged.stdout
    figures_ = tacit.evaluate(tmp_path / "o", folder / "truth.csv", task="locate")
    assert figures_["figures"]["median"] < 1.0 and figures_["figures"]["failures"] == 0 and set(figures_["by_point"]) == set("abc")
    assert (tmp_path / "o" / "figures" / "p2.jpg").exists() and "Least sure pictures" in (tmp_path / "o" / "report.html").read_text()
    again = CliRunner().invoke(app, [*ask, "--spacing-mm", "0.5", *FAST, "--resume", "--json"])
    assert again.exit_code == 3 and len(json.loads(again.stdout)["points"]) == 15
    assert CliRunner().invoke(app, [*ask, *FAST]).exit_code != 0  # OUT is not empty


def test_only_the_templates_points_take_part(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "in", tmp_path / "in", ignore=shutil.ignore_patterns("b*", "tiny*"))
    answers = []
    for name, list_ in (("a", "points.csv"), ("b", "truth.csv")):
        done = tacit.locate(tmp_path / "in", tmp_path / name, template=folder / "in" / "p0.png", points=folder / list_, set=["side=128", "through=2"])
        answers.append(done.points)
    assert answers[0] == answers[1] and {row["row_mm"] for row in answers[0]} == {None}
    scored = tacit.evaluate(tmp_path / "a" / "points.csv", folder / "truth.csv", task="locate")
    assert scored["unit"] == "px" and scored["images"] == 4 and scored["template"] == "p0.png"


def test_pictures_of_one_name_in_two_folders_are_told_apart(folder: Path, tmp_path: Path) -> None:
    for patient, number in (("P1", 0), ("P2", 1), ("P3", 4)):
        (tmp_path / "in" / patient).mkdir(parents=True)
        shutil.copy(folder / "in" / f"p{number}.png", tmp_path / "in" / patient / ("b.png" if patient == "P3" else "a.png"))
    truth = (folder / "truth.csv").read_text().replace("p0.png", "P1/a.png").replace("p1.png", "P2/a.png").replace("p4.png", "b.png")
    (tmp_path / "truth.csv").write_text(truth)
    template = tmp_path / "in" / "P1" / "a.png"
    done = tacit.locate(tmp_path / "in", tmp_path / "o", template=template, points=tmp_path / "truth.csv", method="copy")
    assert sorted({row["image"] for row in done.points}) == ["P1/a.png", "P2/a.png", "b.png"]
    assert json.loads((tmp_path / "o" / "run.json").read_text())["template"] == "P1/a.png"
    scored = tacit.evaluate(tmp_path / "o", tmp_path / "truth.csv", task="locate")
    assert scored["images"] == 2 and scored["points"] == 6 and scored["template"] == "P1/a.png" and scored["without_truth"] == 0
    (tmp_path / "o" / "run.json").unlink()
    (tmp_path / "truth.csv").write_text("\n".join(line for line in truth.splitlines() if not line.startswith("P1")) + "\n")
    with pytest.raises(InputError, match=r"one picture's points for P1/a.png and P2/a.png"):
        tacit.evaluate(tmp_path / "o" / "points.csv", tmp_path / "truth.csv", task="locate")


@pytest.mark.parametrize("method", ["template-matching", "copy"])
def test_other_methods_answer_too(folder: Path, tmp_path: Path, method: str) -> None:
    done = tacit.locate(folder / "in", tmp_path / "o", template=folder / "in" / "p0.png", points=folder / "points.csv", method=method)
    assert done.images == 5 and len(done.points) == 15
    own = {row["point"]: (row["row"], row["col"], row["confidence"]) for row in done.points if row["image"] == "p0.png"}
    true = points_of(read_points(folder / "points.csv"), "p0.png")
    assert own == {name: (round(row, 2), round(col, 2), 1.0) for name, (row, col) in true.items()}  # the marks themselves
    others = [row["confidence"] < 0.5 for row in done.points if row["image"] != "p0.png"]
    share = json.loads((tmp_path / "o" / "run.json").read_text())["unsure_share"]
    assert share is None if method == "copy" else share == pytest.approx(np.mean(others), abs=1e-4)
    assert ("copied" in (tmp_path / "o" / "report.html").read_text()) == (method == "copy")


def test_copied_points_are_not_called_unsure(folder: Path, tmp_path: Path) -> None:
    ask = ["locate", str(folder / "in"), "-o", str(tmp_path / "o"), "--template", str(folder / "in" / "p0.png"), "--points", str(folder / "points.csv")]
    done = CliRunner().invoke(app, [*ask, "--method", "copy"])
    assert "15 points on 5 pictures, none with a confidence (they are copied), 3 pictures failed" in done.stdout and "unsure" not in done.stdout
    assert "copied points state no confidence" in (tmp_path / "o" / "report.html").read_text()


def test_the_picture_to_mark_is_suggested(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["locate", str(folder / "in"), "--suggest-template", "--set", "side=64"])
    assert done.exit_code == 3 and "next: tacit locate" in done.stdout and done.stdout.count(".png") >= 5
    assert done.stderr.count("failed: ") == 3 and "black.png: every pixel is 0" in done.stderr and "broken.png" in done.stderr
    named = json.loads(CliRunner().invoke(app, ["locate", str(folder / "in"), "--suggest-template", "--json", "--set", "side=64"]).stdout)
    assert [r["apart_percent"] for r in named] == sorted(r["apart_percent"] for r in named) and len(named) == 5
    (tmp_path / "two").mkdir()
    shutil.copy(folder / "in" / "p0.png", tmp_path / "two")
    with pytest.raises(InputError, match=r"at least three are needed$"):
        tacit.suggest_template(tmp_path / "two")
    shutil.copy(folder / "in" / "black.png", tmp_path / "two")
    with pytest.raises(InputError, match=r"at least three are needed; the first of 1 that cannot: .*black.png: every pixel is 0"):
        tacit.suggest_template(tmp_path / "two")
    (tmp_path / "two" / "p0.png").unlink()
    with pytest.raises(InputError, match=r"none of the 1 images can be used; the first of 1 that cannot: .*every pixel is 0"):
        tacit.suggest_template(tmp_path / "two")


def test_what_cannot_be_located_is_said_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    template, points, out = folder / "in" / "p0.png", folder / "points.csv", tmp_path / "o"
    far = tmp_path / "far.csv"
    far.write_text("image,point,row,col\np0.png,a,500,3\n")
    for options, error, said in (
        ({"points": far}, InputError, r"lies at row 500, col 3, outside p0.png of 192 × 192 px"),
        ({"template": folder / "in" / "p4.png"}, InputError, "marks no point on p4.png; it names p0.png"),
        ({"template": folder / "in" / "broken.png"}, InputError, "marks no point on broken.png"),
        ({"template": tmp_path / "none.png"}, InputError, "marks no point on none.png"),
        ({"method": "magic"}, UsageError, "known are paths, embedding, template-matching, copy"),
        ({"method": "embedding"}, UsageError, "give --model RUN"),
        ({"method": "copy", "model": tmp_path}, UsageError, "uses neither --model nor --phantom"),
        ({"model": tmp_path, "phantom": "chest"}, UsageError, "give one"),
        ({"phantom": "tissue"}, UsageError, "--phantom 'tissue'"),
        ({"spacing_mm": -1.0}, UsageError, "--spacing-mm -1.0: expected millimetres"),
        ({"set": ['looks=["colour"]']}, UsageError, "grey, edges, local"),
        ({"set": ["thruogh=3"]}, UsageError, "through"),
    ):
        with pytest.raises(error, match=said):
            tacit.locate(folder / "in", out, **{"template": template, "points": points, **options})
        assert not out.exists()
    (tmp_path / "black").mkdir()
    shutil.copy(folder / "in" / "black.png", tmp_path / "black")
    with pytest.raises(InputError, match="none of the 1 images can be used"):
        tacit.locate(tmp_path / "black", out, template=template, points=points)
    gone = tmp_path / "gone.csv"
    gone.write_text("image,point,row,col\ngone.png,a,5,3\n")
    with pytest.raises(ReadError, match=r"gone.png: there is no such file; correct its name or folder$"):
        tacit.locate(folder / "in", out, template=tmp_path / "gone.png", points=gone)
    marked_black = tmp_path / "black.csv"
    marked_black.write_text("image,point,row,col\nblack.png,a,5,3\n")
    with pytest.raises(ReadError, match="there is nothing to find"):
        tacit.locate(folder / "in", tmp_path / "o2", template=folder / "in" / "black.png", points=marked_black)
    with pytest.raises((OutputError, UsageError)):
        tacit.locate(folder / "in", folder / "in", template=template, points=points)
    for truth, said in ((None, "needs TRUTH"), (far, "no image of")):
        (tmp_path / "points.csv").write_text("image,point,row,col\nq.png,a,5,3\n")
        with pytest.raises((InputError, UsageError), match=said):
            tacit.evaluate(tmp_path / "points.csv", truth, task="locate")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with random weights: local discrimination, and SimSiam on a small ResNet."""
    place = tmp_path_factory.mktemp("pretrained")
    kinds = {"local-discrimination": {"size": 32, "clusters": 4, "dimensions": 8}, "simsiam": {"backbone": {"name": "resnet10t"}, "size": 64}}
    for name, settings in kinds.items():
        torch.manual_seed(0)
        kind = PRETRAINED[name]
        save_model(place / name / "model", name, kind(build(kind.Config, settings)), {"images": 0}, "random weights")
    return {name: place / name for name in kinds}


@pytest.mark.parametrize("name", ["local-discrimination", "simsiam"])
def test_features_of_a_run_are_unit_vectors_of_every_pixel(pretrained: dict[str, Path], name: str) -> None:
    features = features_of_run(pretrained[name], "cpu")
    v = features(drawn(0)[..., 0])  # grey of any size
    assert v.shape[1:] == ((32, 32) if name == "local-discrimination" else (16, 16))
    assert np.allclose(np.linalg.norm(v, axis=0), 1, atol=1e-4) and not np.allclose(v, features(drawn(1)))


@pytest.mark.parametrize(("name", "method"), [("local-discrimination", "embedding"), ("simsiam", "embedding"), ("local-discrimination", "paths")])
def test_a_runs_features_locate(pretrained: dict[str, Path], folder: Path, tmp_path: Path, name: str, method: str) -> None:
    settings = ["side=64", "through=1"] if method == "paths" else []
    shutil.copy(folder / "in" / "p0.png", tmp_path / "p0.png")  # elsewhere, so that its twin in the folder is located
    asked = {"template": tmp_path / "p0.png", "points": folder / "points.csv", "method": method, "set": settings}
    done = tacit.locate(folder / "in", tmp_path / "o", model=pretrained[name], **asked)
    assert done.images == 5 and len(done.points) == 15 and all(0 <= row["confidence"] <= 1 for row in done.points)
    own = [row for row in done.points if row["image"] == "p0.png"]
    assert (
        max(np.hypot(row["row"] - r, row["col"] - c) for row, (r, c) in zip(own, points_of(read_points(folder / "points.csv"), "p0.png").values(), strict=True))
        < 10
    )
