"""Whole slides: the same glands as on one canvas, at the right place of level 0, whatever is wrong with a slide, whoever does it, killed or not."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from shapely.geometry import shape as geometry

import tacit
from conftest import TINY
from tacit.errors import ConfigError, InputError, OutputError, UsageError
from tacit.phantom import tissue
from tacit.prepare.colour import lab_statistics
from tacit.prepare.tiles import Join, cut
from tacit.read.slide import Slide, open_slide
from tacit.read.slide_readers import PictureReader
from tacit.run import open_run
from tacit.use import slide_predict, slide_task
from tacit.use.engines import parsed_shard
from tacit.use.instances import InstancesConfig
from tacit.use.slide_predict import SlidesConfig, plan_tiles, predict_slide
from tacit.use.slide_task import find_glands
from test_regions import plainly, same_but_for_names
from test_slide import write_pyramid

SMALL = ["slides.tile=64", "slides.overlap=16"]
GLASS, PINK, PURPLE = (245, 244, 246), (225, 150, 190), (110, 50, 130)


class Purple:
    """A network that needs no learning: what is purple is gland, and its core is what is far from the edge."""

    um_per_px = 2.0

    def tiles_probability(self, tiles: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        gland = ((150 - tiles[..., 1].astype(np.float32)) / 100).clip(0, 1)  # PINK 0, PURPLE 1, between them at an edge
        core = np.stack([cv2.erode(g, np.ones((7, 7), np.uint8)) for g in gland])
        return np.stack([gland, core], 1)


class Soft:
    """Darkness seen from near and from far, which a tile's border changes: so it matters how tiles are joined."""

    um_per_px = 2.48

    def tiles_probability(self, tiles: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        dark = (statistics[0, 0] - np.stack([cv2.cvtColor(t, cv2.COLOR_RGB2LAB)[..., 0] for t in tiles]).astype(np.float32)) / statistics[1, 0]
        near, far = (np.stack([cv2.GaussianBlur(d, (0, 0), s) for d in dark]) for s in (1.0, 3.0))
        return 1 / (1 + np.exp(-np.stack([near, near + far], 1)))


def drawn_slide(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Tissue of drawn glands on glass."""
    picture = np.full((*shape, 3), GLASS, np.uint8)
    inner = tissue.draw(np.random.default_rng(seed), (shape[0] - 120, shape[1] - 120), 1.0).picture
    picture[60:-60, 60:-60] = inner
    return picture


@pytest.fixture(scope="module")
def learnt(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learnt") / "out"
    tacit.segment(drawn, out, mpp=1.2, set=TINY)
    return out


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, of which one is larger."""
    folder = tmp_path_factory.mktemp("cohort")
    for k, shape in enumerate(((700, 500), (500, 900), (420, 420))):
        write_pyramid(folder / f"s{k}.svs", drawn_slide(shape, k), mpp=1.0)
    return folder


def files(out: Path) -> dict[str, bytes]:
    """Every answer by its place; what holds times and commands is left out."""
    aside = {"run.json", "log.txt", "config.toml", "report.html", "metrics.csv", "failures.csv"}
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name not in aside and "shards" not in p.parts and "model" not in p.parts
    }


@pytest.fixture(scope="module")
def whole(cohort: Path, learnt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort done by one process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = tacit.segment(cohort, out, model=learnt, set=SMALL)
    assert (result.images, result.failed, result.mpp, result.mpp_source, result.slides) == (3, 0, pytest.approx(1.0), "metadata", True)
    return out


def level0_shapes(place: Path) -> list:
    text = gzip.decompress(place.read_bytes()) if place.suffix == ".gz" else place.read_bytes()
    return [geometry(f["geometry"]) for f in json.loads(text)["features"]]


@pytest.mark.parametrize(("stripe", "tile"), [(16384, 96), (64, 96)])
def test_a_slide_has_the_glands_of_one_canvas_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stripe: int, tile: int) -> None:
    """The same tiles and weights: joined and labelled at once by plain code; blocks of 32 px and, the second time, stripes that cut through glands."""
    monkeypatch.setattr(slide_predict, "BLOCK", 32)
    monkeypatch.setattr(slide_predict, "STRIPE", stripe)
    network = Soft()
    picture = drawn_slide((400, 460), 3)
    slide, c = Slide(Path("drawn.png"), PictureReader(picture, 1.0)), SlidesConfig(tile=tile, overlap=24, batch=3)
    plan, _ = plan_tiles(slide, network.um_per_px, c, None)
    pixels = np.concatenate([t[::2, ::2].reshape(-1, 1, 3) for _, _, t in cut(slide, plan)])
    bands: list[np.ndarray] = []
    with Join(plan, lambda row, band: bands.append(band), channels=2) as join:
        for row, col, t in cut(slide, plan):
            join.add(row, col, network.tiles_probability(t[None], lab_statistics(pixels))[0].transpose(1, 2, 0))
    canvas = np.rint(np.concatenate(bands) * 255).astype(np.uint8)
    p, _ = predict_slide(slide, network, c, None, tmp_path / "p")
    with p:
        assert np.abs(p.window(0, 0, *p.shape).astype(int) - canvas).max() <= 1  # another size of batch may round otherwise
        canvas = p.window(0, 0, *p.shape)
    cut_at = float(np.median(canvas[..., 0][canvas[..., 0] > 0]) / 255)  # untaught weights: about half is gland
    own = InstancesConfig(threshold=cut_at, core=float(np.quantile(canvas[..., 1][canvas[..., 0] > 0], 0.8) / 255), core_um2=30, gland_um2=60, hole_um2=500)
    row = find_glands(slide, network, c, own, None, "gland", tmp_path)
    labels = tifffile.imread(tmp_path / "labels.tif")
    px = network.um_per_px / 2
    rules = slide_task_rules(own, px)
    truth = plainly(canvas, rules)
    assert labels.shape == truth.shape and row["glands"] == labels.max() > 3
    assert same_but_for_names(labels, truth)
    largest = np.nonzero(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    assert max(np.ptp(largest[0]), np.ptp(largest[1])) > 4 * 32 + 2 * rules.reach  # larger than blocks and their margins


def slide_task_rules(own: InstancesConfig, px: float):
    from tacit.prepare.regions import Rules
    from tacit.use.slide_task import REACH_UM

    return Rules(own.threshold, own.core, own.core_um2 / px**2, own.gland_um2 / px**2, own.hole_um2 / px**2, round(REACH_UM / px), 2)


def test_glands_lie_where_they_were_drawn_on_level_0(tmp_path: Path) -> None:
    """Discs and a large ring, with µm per pixel of .7: outlines, centres and areas in level-0 pixels and µm; the ring crosses many blocks."""
    picture = np.full((1900, 2300, 3), GLASS, np.uint8)
    picture[100:-100, 100:-100] = PINK
    truth = np.zeros(picture.shape[:2], np.uint8)
    discs = [(400, 500, 60), (900, 1900, 90), (1500, 700, 45)]
    for row, col, radius in discs:
        cv2.circle(truth, (col, row), radius, 1, -1)
    cv2.circle(truth, (1250, 1000), 500, 1, 70)
    picture[truth > 0] = PURPLE
    write_pyramid(tmp_path / "a.svs", picture, mpp=0.7)
    own = InstancesConfig()
    (tmp_path / "x").mkdir()
    with open_slide(tmp_path / "a.svs") as slide:
        numbers = find_glands(slide, Purple(), SlidesConfig(tile=128, overlap=32), own, None, "gland", tmp_path / "x")
    assert numbers["glands"] == 4
    shapes = level0_shapes(tmp_path / "x" / "geojson")
    with (tmp_path / "x" / "glands.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(shapes) == len(rows) == 4 and all(s.is_valid for s in shapes)
    for row, col, radius in discs:
        k = int(np.argmin([np.hypot(s.centroid.y - row, s.centroid.x - col) for s in shapes]))
        assert np.hypot(shapes[k].centroid.y - row - 0.5, shapes[k].centroid.x - col - 0.5) < 0.75 * 2.0 / 0.7  # of a pixel that the network sees
        assert shapes[k].area == pytest.approx(np.pi * radius**2, rel=0.06)
        found = min(rows, key=lambda r: np.hypot(float(r["row"]) - row, float(r["col"]) - col))
        assert float(found["area_um2"]) == pytest.approx(np.pi * (radius * 0.7) ** 2, rel=0.06) and float(found["eccentricity"]) < 0.3
        assert float(found["perimeter_um"]) == pytest.approx(2 * np.pi * radius * 0.7, rel=0.07)
    drawn = np.zeros_like(truth)
    for s in shapes:
        for part in getattr(s, "geoms", [s]):
            cv2.fillPoly(drawn, [np.floor(np.array(r.coords)).astype(np.int32) for r in (part.exterior, *part.interiors)], 1)
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.95
    ring = max(shapes, key=lambda s: s.area)
    assert len(ring.interiors) == 1 and ring.area == pytest.approx(2 * np.pi * 500 * 70, rel=0.05)
    assert all(round(v, 1) == v for s in shapes for part in getattr(s, "geoms", [s]) for xy in part.exterior.coords for v in xy)
    tissue_mm2 = 1700 * 2100 * 0.49e-6
    assert numbers["tissue_mm2"] == pytest.approx(tissue_mm2, rel=0.02) and numbers["glands_per_mm2"] == pytest.approx(4 / tissue_mm2, rel=0.02)


def test_outlines_do_not_depend_on_where_blocks_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    slide = Slide(Path("drawn.png"), PictureReader(cv2.resize(drawn_slide((420, 500), 5), None, fx=1, fy=1), 1.0))
    for side in (16, 512):
        monkeypatch.setattr(slide_predict, "BLOCK", side)
        (tmp_path / str(side)).mkdir()
        numbers = find_glands(
            slide, Purple(), SlidesConfig(tile=96, overlap=16), InstancesConfig(gland_um2=30, core_um2=8), None, "gland", tmp_path / str(side)
        )
        assert numbers["glands"] > 5
        features = json.loads((tmp_path / str(side) / "geojson").read_text())["features"]
        with (tmp_path / str(side) / "glands.csv").open() as file:
            rows = [tuple(v for k, v in row.items() if k != "label") for row in csv.DictReader(file)]
        found.append((sorted(json.dumps(f["geometry"]) for f in features), sorted(rows)))
    assert found[0] == found[1]


def test_out_holds_every_promised_product(whole: Path) -> None:
    assert sorted(p.name for p in whole.iterdir()) == [
        "config.toml",
        "failures.csv",
        "figures",
        "geojson",
        "labels",
        "log.txt",
        "report.html",
        "run.json",
        "slides",
        "tables",
    ]
    record = json.loads((whole / "run.json").read_text())
    assert record["status"] == "finished" and record["ok"] == 3 and record["failed"] == 0
    with (whole / "tables" / "slides.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["slide"] for r in rows] == ["s0", "s1", "s2"]
    for row in rows:
        labels = tifffile.imread(whole / "labels" / f"{row['slide']}.tif")
        shapes = level0_shapes(whole / "geojson" / f"{row['slide']}.geojson")
        glands = (whole / "tables" / "glands" / f"{row['slide']}.csv").read_text().splitlines()
        assert labels.max() == int(row["glands"]) == len(glands) - 1 and len(shapes) <= labels.max()
        with tifffile.TiffFile(whole / "labels" / f"{row['slide']}.tif") as file:
            assert file.pages[0].is_tiled and file.pages[0].tags["XResolution"].value[0] / file.pages[0].tags["XResolution"].value[1] == pytest.approx(
                1e4 / float(row["label_um_per_px"]), rel=1e-3
            )
    page = (whole / "report.html").read_text()
    assert page.count("data:image/jpeg") == 3 and "Research use only" in page


def test_a_wide_label_map_is_a_pyramid_of_every_second_pixel(tmp_path: Path) -> None:
    picture = np.full((1500, 4300, 3), PINK, np.uint8)
    for k in range(12):
        cv2.circle(picture, (200 + 350 * k, 300 + 90 * k), 80, PURPLE, -1)
    picture[:40], picture[-40:] = GLASS, GLASS
    slide = Slide(Path("wide.png"), PictureReader(picture, 1.0))
    numbers = find_glands(slide, Purple(), SlidesConfig(tile=256, overlap=32), InstancesConfig(), None, "gland", tmp_path)
    assert numbers["glands"] == 12
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        levels = [page.asarray() for page in file.pages]
        assert [page.subfiletype for page in file.pages] == [0, 1, 1, 1] and all(page.is_tiled for page in file.pages)
    assert [level.shape for level in levels] == [(1500, 4300), (750, 2150), (375, 1075), (188, 538)]
    for finer, coarser in zip(levels, levels[1:], strict=False):
        assert np.array_equal(finer[::2, ::2], coarser)


def test_a_large_geojson_is_packed(cohort: Path, learnt: Path, whole: Path, tmp_path: Path) -> None:
    tacit.segment(cohort / "s0.svs", tmp_path / "o", model=learnt, set=[*SMALL, "slides.gzip_mb=0.0001"])
    assert [p.name for p in (tmp_path / "o" / "geojson").iterdir()] == ["s0.geojson.gz"]
    assert gzip.decompress((tmp_path / "o" / "geojson" / "s0.geojson.gz").read_bytes()) == (whole / "geojson" / "s0.geojson").read_bytes()


def test_what_is_wrong_with_a_slide_is_named_and_the_rest_finishes(cohort: Path, learnt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    shutil.copytree(cohort, folder)
    write_pyramid(folder / "glass.svs", np.full((500, 500, 3), GLASS, np.uint8), mpp=1.0)
    write_pyramid(folder / "nompp.svs", drawn_slide((400, 400), 7), mpp=None)
    write_pyramid(folder / "onelevel.svs", drawn_slide((400, 400), 8), levels=1, mpp=1.0)
    write_pyramid(folder / "damaged.svs", drawn_slide((600, 600), 9), mpp=1.0)
    with tifffile.TiffFile(folder / "damaged.svs") as file:
        where = [(p.dataoffsets[len(p.dataoffsets) // 2], p.databytecounts[len(p.dataoffsets) // 2]) for p in file.pages[:1]]
    with (folder / "damaged.svs").open("r+b") as file:
        for offset, count in where:
            file.seek(offset)
            file.write(b"\xff" * count)
    (folder / "thumbnail.png").write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    words = [
        sys.executable,
        "-m",
        "tacit",
        "segment",
        str(folder),
        "-o",
        str(tmp_path / "o"),
        "--model",
        str(learnt),
        *(w for s in SMALL for w in ("--set", s)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "4 slides segmented, 3 failed" in done.stdout
    with (tmp_path / "o" / "failures.csv").open() as file:
        why = {Path(r["file"]).name: r["reason"] + "; " + r["remedy"] for r in csv.DictReader(file)}
    assert sorted(why) == ["damaged.svs", "glass.svs", "nompp.svs"]
    assert "cannot be decoded" in why["damaged.svs"] and "no tissue" in why["glass.svs"] and "--mpp" in why["nompp.svs"]
    assert "thumbnail.png: a picture among slides" in (tmp_path / "o" / "log.txt").read_text()
    assert not (tmp_path / "o" / "scratch").exists()
    before = files(tmp_path / "o")
    (folder / "damaged.svs").unlink()
    done = subprocess.run([*words, "--resume", "--mpp", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "mpp was None" in done.stderr  # another setting is another run
    write_pyramid(folder / "nompp.svs", drawn_slide((400, 400), 7), mpp=1.0)
    write_pyramid(folder / "new.svs", drawn_slide((400, 400), 10), mpp=1.0)
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "o" / "labels").iterdir()}
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "6 slides segmented, 1 failed" in done.stdout, done.stdout + done.stderr
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())  # what was done is not done again
    after = files(tmp_path / "o")
    assert all(after[name] == content for name, content in before.items() if name != "tables/slides.csv")


def test_slides_without_spacing_take_mpp_or_the_lists(learnt: Path, tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.svs", drawn_slide((400, 400), 7), mpp=None)
    with pytest.raises(InputError, match=r"none of the 1 slides could be segmented.*µm a pixel"):
        tacit.segment(tmp_path / "a.svs", tmp_path / "no", model=learnt, set=SMALL)
    (tmp_path / "list.csv").write_text("path,mpp\na.svs,1.0\n")
    given = tacit.segment(tmp_path / "a.svs", tmp_path / "given", model=learnt, mpp=1.0, set=SMALL)
    tacit.segment(tmp_path / "list.csv", tmp_path / "listed", model=learnt, set=SMALL)
    assert given.mpp_source == "given" and (tmp_path / "given" / "labels" / "a.tif").read_bytes() == (tmp_path / "listed" / "labels" / "a.tif").read_bytes()


def test_what_needs_the_whole_picture_is_refused(cohort: Path, drawn: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="whole slides need a method that sees tiles: phantom, mssg"):
        tacit.segment(cohort, tmp_path / "o", method="haematoxylin")
    with pytest.raises(UsageError, match="--labels is for pictures"):
        tacit.segment(cohort, tmp_path / "o", labels=drawn / "masks")
    with pytest.raises(UsageError, match="learn once"):
        tacit.segment(cohort, tmp_path / "o", shard="0/2")
    with pytest.raises(UsageError, match="INPUT names none"):
        tacit.segment(drawn, tmp_path / "o", workers=2)
    with pytest.raises(ConfigError, match=r"less than slides\.tile=100"):  # before anything is learnt
        tacit.segment(cohort, tmp_path / "o", set=["slides.tile=100"])
    assert not (tmp_path / "o").exists()


def test_a_part_writes_into_nobody_elses_folder(cohort: Path, learnt: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "report.html").write_text("mine")
    for out in (mine, learnt):
        before = files(out)
        with pytest.raises(OutputError, match="no parts of a shared run are in it"):
            tacit.segment(cohort, out, model=learnt, shard="0/2", set=SMALL)
        assert files(out) == before and not (out / "shards").exists()


def test_a_slide_that_torch_gives_up_is_named_and_the_rest_finishes(cohort: Path, learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = slide_task.find_glands

    def breaking(slide: Slide, *others: Any) -> Any:
        if slide.path.stem == sorted(p.stem for p in cohort.iterdir())[0]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(slide, *others)

    monkeypatch.setattr(slide_task, "find_glands", breaking)
    result = tacit.segment(cohort, tmp_path / "o", model=learnt, set=SMALL)
    assert (result.images, result.failed) == (2, 1) and "can't allocate memory" in (tmp_path / "o" / "failures.csv").read_text()


def test_slides_teach_by_their_tissue_each_as_much_as_the_others(cohort: Path, tmp_path: Path) -> None:
    result = tacit.segment(cohort, tmp_path / "o", set=[*TINY, *SMALL, "slides.learn_um=150"], learn_from=12)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert result.images == 3 and 6 < record["learnt_from"] <= 12 and "from 3 slides are learnt from" in (tmp_path / "o" / "log.txt").read_text()
    tacit.segment(cohort, tmp_path / "again", model=tmp_path / "o", set=SMALL)
    assert (tmp_path / "o" / "tables" / "slides.csv").read_bytes() == (tmp_path / "again" / "tables" / "slides.csv").read_bytes()
    assert (tmp_path / "o" / "labels" / "s1.tif").read_bytes() == (tmp_path / "again" / "labels" / "s1.tif").read_bytes()


def test_processes_and_shards_give_what_one_process_gives(cohort: Path, learnt: Path, whole: Path, tmp_path: Path) -> None:
    tacit.segment(cohort, tmp_path / "two", model=learnt, workers=2, set=SMALL)
    assert files(tmp_path / "two") == files(whole)
    for part in ("1/2", "0/2"):
        tacit.segment(cohort, tmp_path / "parts", model=learnt, shard=part, set=SMALL)
    assert {n: b for n, b in files(tmp_path / "parts").items() if not n.endswith(".lock")} == files(whole)
    record = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert record["status"] == "finished" and record["ok"] == 3
    with pytest.raises(OutputError, match="not empty"):
        tacit.segment(cohort, tmp_path / "parts", model=learnt, shard="0/2", set=SMALL)


@pytest.mark.parametrize(
    ("given", "environment", "wanted"),
    [
        (None, {}, None),
        (None, {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, None),
        (None, {"RANK": "1", "WORLD_SIZE": "3"}, (1, 3)),
        ("2/5", {"RANK": "1", "WORLD_SIZE": "3"}, (2, 5)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_COUNT": "8"}, (3, 8)),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (0, 2)),
        ("auto", {"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "9"}, (0, 2)),
    ],
)
def test_which_part_is_read_from_slurm_and_torchrun(
    monkeypatch: pytest.MonkeyPatch, given: str | None, environment: dict[str, str], wanted: tuple | None
) -> None:
    for name in ("RANK", "WORLD_SIZE", *(n for n in os.environ if n.startswith("SLURM_"))):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert parsed_shard(given) == wanted


@pytest.mark.parametrize("shard", ["4/4", "-1/2", "1", "a/b", "auto"])
def test_a_part_that_cannot_be_is_refused(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="i/n"):
        parsed_shard(shard)


def test_an_array_with_holes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ID": "5", "MIN": "2", "MAX": "6", "STEP": "1", "COUNT": "3"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    with pytest.raises(UsageError, match="--array=0-2"):
        parsed_shard("auto")


def test_a_part_at_work_keeps_its_folder_from_being_replaced(tmp_path: Path) -> None:
    with open_run(tmp_path / "out", command="segment", settings={}, reads=[]):
        pass
    with (
        open_run(tmp_path / "out" / "shards" / "1-of-2", command="segment", settings={}, reads=[]) as part,
        pytest.raises(OutputError, match="shards/1-of-2"),
        open_run(tmp_path / "out", command="segment", settings={}, reads=[], overwrite=True),
    ):
        pass
    assert (part.folder / "run.json").is_file()
    with open_run(tmp_path / "out", command="segment", settings={}, reads=[], overwrite=True):
        assert not part.folder.exists()


def workers_of(parent: int) -> list[int]:
    try:
        own = [int(n) for n in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        return [n for n in own if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
    except OSError:
        return []


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_three_kills_lose_nothing_and_do_nothing_twice(cohort: Path, learnt: Path, whole: Path, tmp_path: Path) -> None:
    """A worker in the middle of a slide, then the first process, then the one that resumes; --resume ends with the bytes of an unbroken run."""
    out = tmp_path / "o"
    words = [
        sys.executable,
        "-m",
        "tacit",
        "segment",
        str(cohort),
        "-o",
        str(out),
        "--model",
        str(learnt),
        "--workers",
        "2",
        *(w for s in SMALL for w in ("--set", s)),
    ]
    states: dict[Path, int] = {}
    orphans: list[int] = []

    def look() -> int:
        for place in (out / "slides").glob("s*.json"):
            assert states.setdefault(place, place.stat().st_mtime_ns) == place.stat().st_mtime_ns  # nothing twice
        return len(states)

    def until(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        limit = time.monotonic() + 180
        while not reached() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        assert reached() and process.poll() is None

    def in_a_slide() -> bool:
        return any((out / "scratch").glob("*/p"))

    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(in_a_slide, process)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        until(lambda: look() >= 1, process)
        orphans += workers_of(process.pid)
        process.kill()
    assert orphans
    with subprocess.Popen([*words, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until(lambda: "resumed" in (out / "log.txt").read_text() and all(map(ended, orphans)), process)  # orphans end by themselves
        process.kill()
    assert 1 <= look() < 3
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3 slides segmented, 0 failed" in done.stdout, done.stderr
    assert look() == 3 and files(out) == files(whole) and not (out / "scratch").exists()


def test_two_runs_into_one_out_are_refused_while_the_first_lives(cohort: Path, learnt: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [sys.executable, "-m", "tacit", "segment", str(cohort), "-o", str(out), "--model", str(learnt), *(w for s in SMALL for w in ("--set", s))]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / "run.json").exists() and first.poll() is None:
        time.sleep(0.01)
    with pytest.raises(OutputError, match="written by another run"):
        tacit.segment(cohort, out, model=learnt, resume=True, set=SMALL)
    first.kill()
    first.wait()
    assert tacit.segment(cohort, out, model=learnt, resume=True, set=SMALL).images == 3  # at once: the kernel has freed the lock


def test_a_full_disk_is_named(cohort: Path, learnt: Path, tmp_path: Path) -> None:
    """No file may grow beyond 6 kB, as on a disk that is nearly full: each slide says so, nothing half-written is left."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\nsys.argv = ['tacit', *sys.argv[1:]]\nfrom tacit.cli import run; run()"
    )
    out = tmp_path / "o"
    words = [sys.executable, "-c", code, "segment", str(cohort), "-o", str(out), "--model", str(learnt), *(w for s in SMALL for w in ("--set", s))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode in (3, 4) and "cannot write" in done.stderr + (out / "failures.csv").read_text(), done.stderr
    assert not (out / "scratch").exists() and not [p for p in out.rglob("*") if p.name.endswith(".part")]
    for place in out.glob("labels/*"):
        tifffile.imread(place)  # what is there is whole
    assert tacit.segment(cohort, out, model=learnt, resume=True, set=SMALL).images == 3
