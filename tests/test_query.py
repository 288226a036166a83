"""What is found is what is nearest, of those that may be found; and it is shown so that a person can judge it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, MissingError, OutputError, UsageError
from tacit.use.index import index_images
from tacit.use.index_upkeep import delete_from_index
from tacit.use.query import query
from tacit.use.store import Store
from test_index import draw, slide_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """index: 24 pictures of 6 patients from 2 sites, and a slide's tiles; new.png is not in it, same.png is a copy of images/03.png elsewhere."""
    place = tmp_path_factory.mktemp("query")
    paths = [draw(place / "images" / f"{k:02d}.png", k, side=40 + k) for k in range(24)]
    columns = {
        "patient": [f"P{k // 4}" for k in range(24)], "site": ["A" if k % 8 < 4 else "B" for k in range(24)],
        "label": ["benign" if k % 3 else "malignant" for k in range(24)], "age": [40 + k for k in range(24)],
    }  # fmt: skip
    pd.DataFrame({"path": paths, **columns}).to_csv(place / "list.csv", index=False)
    index_images(place / "list.csv", place / "index", encoder="texture")
    index_images(slide_of(place / "s.svs"), place / "index", tile_um=None, mpp=1.0)
    draw(place / "new.png", 100)
    (place / "same.png").write_bytes(paths[3].read_bytes())
    return place


def slow(place: Path, image: Path, keep: Any = None, metric: str = "cosine") -> list[tuple[int, float]]:
    """(row_id, distance) of every row, nearest first, by scikit-learn, of the vectors as they are stored."""
    from sklearn.metrics.pairwise import cosine_distances, euclidean_distances

    from tacit.read.picture import read_picture
    from tacit.use.encoder import find_encoder

    store = Store.open(place / "index")
    own = find_encoder("texture").features([read_picture(image)]).astype(np.float16).astype(np.float64)
    rows = store.vectors().astype(np.float64)
    far = 2 * cosine_distances(own, rows)[0] if metric == "cosine" else euclidean_distances(own, rows)[0]
    ids = store.row_ids()
    return sorted(((int(i), float(d)) for i, d in zip(ids, far, strict=True) if keep is None or keep(int(i))), key=lambda pair: pair[1])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_hits_are_the_nearest_rows(place: Path, metric: str) -> None:
    done = query(place / "index", place / "new.png", k=7, metric=metric)
    hits = done.answers[0]["hits"]
    true = slow(place, place / "new.png", metric=metric)[:7]
    assert [h["row_id"] for h in hits] == [i for i, _ in true] and [h["rank"] for h in hits] == list(range(1, 8))
    assert [h["distance"] for h in hits] == pytest.approx([d for _, d in true], abs=1e-6)
    assert done.answers[0]["query"] == str(place / "new.png") and not done.failures and not done.warnings


def test_a_query_at_no_scale_beside_rows_at_one_is_told(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png", 1, side=90), draw(tmp_path / "in" / "b.png", 2, side=90)
    index_images(tmp_path / "in", tmp_path / "index", encoder="texture", mpp=0.6)
    done = query(tmp_path / "index", tmp_path / "in" / "a.png", k=1)
    assert any("1 queries state no µm per px" in said and "2 of 2 rows" in said for said in done.warnings)
    done = query(tmp_path / "index", tmp_path / "in" / "a.png", k=1, mpp=0.6)
    assert not done.warnings and done.answers[0]["hits"][0]["distance"] == 0.0


def test_plain_search_excludes_nothing_and_a_picture_finds_itself(place: Path) -> None:
    hits = query(place / "index", [place / "images" / "05.png"]).answers[0]["hits"]
    assert (hits[0]["path"], hits[0]["distance"], hits[0]["patient"], hits[0]["age"]) == (str(place / "images" / "05.png"), 0.0, "P1", 45.0)


def test_exclusion_leaves_out_the_querys_own_by_content_slide_patient_and_site(place: Path) -> None:
    rows = {r["row_id"]: r for r in Store.open(place / "index").read(["row_id", "path", "patient", "site"]).to_pylist()}
    own = next(r for r in rows.values() if r["path"].endswith("03.png"))
    for level in ("image", "slide", "patient", "site"):
        hits = query(place / "index", place / "same.png", k=9, exclude=[level]).answers[0]["hits"]  # a copy: known by its content

        def apart(i: int, level: str = level) -> bool:
            return rows[i]["path"] != own["path"] if level in ("image", "slide") else rows[i][level] != own[level]

        assert [h["row_id"] for h in hits] == [i for i, _ in slow(place, place / "same.png", apart)[:9]], level
    tile = query(place / "index", place / "images" / "01.png", k=100, exclude=["patient"])
    assert len(tile.answers[0]["hits"]) == len(rows) - 4 and any("have no patient" in w for w in tile.warnings)


def test_a_query_whose_patient_is_unknown_is_not_guessed(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"its patient is not known.*--patients CSV"):
        query(place / "index", place / "new.png", exclude=["patient"])
    both = query(place / "index", [place / "new.png", place / "images" / "00.png"], exclude=["patient"])
    assert len(both.answers) == 1 and both.failures[0][0] == str(place / "new.png")
    (tmp_path / "p.csv").write_text("file,patient\nnew.png,P2\n")
    hits = query(place / "index", place / "new.png", k=50, exclude=["patient"], patients=tmp_path / "p.csv").answers[0]["hits"]
    assert "P2" not in {h["patient"] for h in hits} and len(hits) == len(Store.open(place / "index")) - 4
    with pytest.raises(UsageError, match="image, slide, patient, site"):
        query(place / "index", place / "new.png", exclude=["hospital"])


def test_filters_come_before_the_ranking(place: Path) -> None:
    rows = {r["row_id"]: r for r in Store.open(place / "index").read(["row_id", "age", "site"]).to_pylist()}
    where = "site = 'B' AND age > 50"
    hits = query(place / "index", place / "new.png", k=5, where=where).answers[0]["hits"]
    true = slow(place, place / "new.png", lambda i: rows[i]["site"] == "B" and rows[i]["age"] > 50)[:5]
    assert [h["row_id"] for h in hits] == [i for i, _ in true] and len(true) == 5
    nothing = query(place / "index", place / "new.png", where="age > 1000")
    assert nothing.answers[0]["hits"] == [] and "leave no more" in nothing.warnings[0]
    for bad in ("colour = 'red'", "age >", "age"):
        with pytest.raises(UsageError, match=re.escape(f"--where {bad!r}")):
            query(place / "index", place / "new.png", where=bad)


def test_k_larger_than_the_index_is_said_and_gives_all(place: Path) -> None:
    done = CliRunner().invoke(app, ["query", str(place / "index"), str(place / "new.png"), "-k", "5000", "--json"])
    assert done.exit_code == 0 and len(json.loads(done.stdout)[0]["hits"]) == len(Store.open(place / "index"))
    assert "-k 5000 is more than the" in done.stderr
    with pytest.raises(UsageError, match="1 or more"):
        query(place / "index", place / "new.png", k=0)


def test_an_empty_index_is_named(place: Path, tmp_path: Path) -> None:
    index_images(place / "images" / "00.png", tmp_path / "i", encoder="texture")
    delete_from_index(tmp_path / "i", [str(place / "images" / "00.png")])
    for verb in (
        lambda: query(tmp_path / "i", place / "new.png"),
        lambda: tacit.map_index(tmp_path / "i"),
        lambda: tacit.evaluate(tmp_path / "i", task="query"),
    ):
        with pytest.raises(InputError, match="is empty; fill it with: tacit index"):
            verb()


def test_an_encoder_that_is_gone_or_another_is_refused(place: Path, tmp_path: Path) -> None:
    from conftest import save_drawings
    from test_pretrain import TINY

    drawn = save_drawings(tmp_path / "d", 4, shape=(48, 48))
    for seed in (0, 1):
        tacit.pretrain(drawn / "images", tmp_path / f"run{seed}", seed=seed, set=[*TINY, "train.epochs=1"])
    index_images(drawn / "images", tmp_path / "i", model=tmp_path / "run0")
    own = query(tmp_path / "i", drawn / "images" / "t0.png").answers[0]["hits"][0]
    assert own["distance"] < 1e-6 and own["path"].endswith("t0.png")  # alone or in a batch, a network rounds differently
    (tmp_path / "run0").rename(tmp_path / "moved")
    with pytest.raises(MissingError, match="model"):
        query(tmp_path / "i", drawn / "images" / "t0.png")
    assert query(tmp_path / "i", drawn / "images" / "t0.png", model=tmp_path / "moved").answers
    held = Store.open(tmp_path / "i").about.weights_hash
    with pytest.raises(UsageError, match=f"encoder {held}.*asked for is"):
        query(tmp_path / "i", drawn / "images" / "t0.png", model=tmp_path / "run1")


def test_bad_queries_are_said_and_the_others_answered(place: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    Pillow.new("RGB", (9, 9)).save(tmp_path / "tiny.png")
    words = [str(tmp_path / "bad.png"), str(tmp_path / "tiny.png"), str(place / "s.svs"), "nowhere.png", str(place / "new.png")]
    done = CliRunner().invoke(app, ["query", str(place / "index"), *words, "--json", "-o", str(tmp_path / "o")])
    assert done.exit_code == 3 and [a["query"] for a in json.loads(done.stdout)] == [str(place / "new.png")]
    for said in ("bad.png", "too small", "whole slide", "nowhere.png"):
        assert said in done.stderr
    with (tmp_path / "o" / "failures.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4
    with pytest.raises(InputError, match="none of the queries"):
        query(place / "index", [tmp_path / "bad.png", "nowhere.png"])


def test_the_report_shows_rankings_and_the_table_holds_all(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    done = CliRunner().invoke(app, ["query", str(place / "index"), str(place / "images"), "-k", "6", "-o", str(out)])
    assert done.exit_code == 0 and f"report: {out / 'report.html'}" in done.stdout and "rank  distance" in done.stdout
    with (out / "tables" / "hits.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24 * 6 and {"query", "rank", "path", "distance", "patient", "site", "label", "age"} <= set(rows[0])
    assert (out / "report.html").read_text().count("<figure") == 24 and len(list((out / "figures").glob("query_*.png"))) == 24
    with Pillow.open(out / "figures" / "query_0000.png") as shown:
        assert shown.width > 1100 and np.asarray(shown)[..., 1].std() > 10
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "finished" and record["rows"] == len(Store.open(place / "index"))
    with pytest.raises(OutputError, match="not empty"):
        query(place / "index", place / "new.png", out=out)


def test_a_ranking_frames_hits_by_label_and_tells_a_missing_file(tmp_path: Path) -> None:
    from tacit.report.gallery import CELL, GAP, OTHER, SAME, Shown, ranking

    grey = np.full((50, 50, 3), 90, np.uint8)
    drawn = ranking(Shown(grey, ("query", "x" * 200)), [Shown(grey, ("1   0.1",), True), Shown(None, ("2   0.2",), False), Shown(grey, ("3",))])
    colours = {tuple(c) for c in drawn.reshape(-1, 3)}
    assert SAME in colours and OTHER in colours and drawn.shape[1] == GAP * 3 + 2 * CELL + GAP + 5 * (CELL + GAP)
    flat = ranking(Shown(grey[:25], ("query",)), [Shown(grey[:25], ("1",))])
    assert flat.shape[0] < drawn.shape[0]


def test_the_approximate_index_is_asked_for_by_name_and_its_recall_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((40, 136))
    draw(tmp_path / "in" / "a.png", 1)
    index_images(tmp_path / "in", tmp_path / "i", encoder="texture")
    store = Store.open(tmp_path / "i")
    import pyarrow as pa

    from tacit.use.search import Search
    from tacit.use.store import vectors_of

    width = store.about.width
    with pytest.raises(UsageError, match="no approximate index"):
        Search(store, way="approximate")
    with pytest.raises(UsageError, match="at least 1000"):
        store.build_approximate()
    made = (middles[rng.integers(0, 40, 3000)][:, :width] + 0.3 * rng.standard_normal((3000, width))).astype(np.float16)
    names = [f"/x/{i}.png" for i in range(3000)]
    groups = [f"P{i % 7}" for i in range(3000)]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(made.ravel()), type=vectors_of(store.about))
    store.add(pa.table({"vector": vectors, "path": names, "sha256": names, "patient": groups, "tiles": [1] * 3000}))
    store.build_approximate()
    near = Search(store, way="approximate")
    recall, asked = near.recall(10)
    assert asked == 100 and 0.8 < recall <= 1
    keys = [{"patient": "P3", "image": names[3], "slide": names[3]}]
    for apart in ([], ["image"], ["patient"]):
        exact = Search(store).nearest(made[3:4], 10, where="row_id > 0", apart=apart, keys=keys)
        found = near.nearest(made[3:4], 10, where="row_id > 0", apart=apart, keys=keys)
        assert len(set(exact.rows[0]) & set(found.rows[0])) >= 7 and found.distances[0, 0] == exact.distances[0, 0]
        assert (np.diff(found.distances[0]) >= 0).all()
    done = CliRunner().invoke(app, ["query", str(tmp_path / "i"), str(tmp_path / "in" / "a.png"), "--search", "approximate", "--verify"])
    assert done.exit_code == 0 and re.search(r"recall@10 of the approximate index [01]\.\d+ over 100 rows", done.stdout)
    for options in ({"verify": True}, {"search": "odd"}, {"metric": "odd"}, {"search": "approximate", "metric": "euclidean"}):
        with pytest.raises(UsageError):
            query(tmp_path / "i", tmp_path / "in" / "a.png", **options)


def test_a_map_has_every_row_and_its_components_are_scikit_learns(place: Path, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    done = CliRunner().invoke(app, ["map", str(place / "index"), "-o", str(tmp_path / "m")])
    assert done.exit_code == 0 and "of the variance" in done.stdout and "malignant" in done.stdout
    store = Store.open(place / "index")
    with (tmp_path / "m" / "tables" / "map.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    unit = store.vectors().astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    theirs = PCA(2, svd_solver="full").fit_transform(unit)
    ours = np.array([[float(r["pca1"]), float(r["pca2"])] for r in rows])
    assert np.allclose(ours, theirs, atol=1e-6) and len(rows) == len(store)
    figures = {p.name for p in (tmp_path / "m" / "figures").iterdir()}
    assert figures == {"map_pca.png", "pictures.jpg", *(f"gallery_{k}.png" for k in range(8))}
    assert json.loads(CliRunner().invoke(app, ["map", str(place / "index"), "--color", "age", "--json"]).stdout)[0]["age"] == 40.0
    tacit.map_index(place / "index", color="age", out=tmp_path / "n")
    with pytest.raises(UsageError, match=r"--color 'hue'.*label"):
        tacit.map_index(place / "index", color="hue")


def test_umap_is_laid_out_the_same_each_time_and_its_absence_is_exit_code_5(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("umap")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and scikit-learn's own
        twice = [[(r["umap1"], r["umap2"]) for r in tacit.map_index(place / "index", umap=True, out=tmp_path / n).rows] for n in "ab"]
    assert twice[0] == twice[1] and len(set(twice[0])) > 20 and (tmp_path / "a" / "figures" / "map_umap.png").exists()
    script = f"import sys; sys.modules['umap'] = None; sys.argv = ['tacit', 'map', {str(place / 'index')!r}, '--umap']; from tacit.cli import run; run()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install tacit[umap]" in done.stderr and done.stderr.count("\n") == 1


def test_a_map_of_one_row_and_of_equal_rows(place: Path, tmp_path: Path) -> None:
    index_images(place / "images" / "00.png", tmp_path / "i", encoder="texture")
    one = tacit.map_index(tmp_path / "i", out=tmp_path / "m")
    assert [(r["pca1"], r["pca2"]) for r in one.rows] == [(0.0, 0.0)] and one.share == (0.0, 0.0) and one.color is None
