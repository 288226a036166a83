"""`tacit compare --methods` and `--jobs`: names by brute force, figures by hand, rows kept and rows that fail, what is refused."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from sklearn.metrics import jaccard_score
from typer.testing import CliRunner

import tacit
from conftest import save_drawings
from tacit.cli import app
from tacit.config import build
from tacit.errors import InputError, UsageError
from tacit.learn.simsiam import Simsiam
from tacit.report.cluster_naming import hungarian, majority, named
from tacit.report.methods import of_method, paired
from tacit.report.picture import png
from tacit.report.score import figures, tally
from tacit.use.method_rows import given, plan
from tacit.use.model import save_model
from tacit.use.score_masks import objects, score_masks

rng = np.random.default_rng


@pytest.mark.parametrize(("k", "c"), [(k, c) for k in range(1, 6) for c in (2, 3)])
def test_names_equal_the_best_of_all_namings(k: int, c: int) -> None:
    for seed in range(5):
        table = rng([seed, k, c]).integers(0, 50, (k, c))
        right = table[np.arange(k), hungarian(table)].sum() if k <= c else None
        if k <= c:  # every cluster has a class of its own
            assert right == max(sum(table[i, p[i]] for i in range(k)) for p in itertools.permutations(range(c), k))
        else:  # every class has a cluster of its own; who is left over is background
            found = hungarian(table)
            best = max(sum(table[p[j], j] for j in range(c)) for p in itertools.permutations(range(k), c))
            assert max(sum(table[q[j], j] for j in range(c) if found[q[j]] == j) for q in itertools.permutations(range(k), c)) == best
        assert table[np.arange(k), majority(table)].sum() == max(sum(table[i, n[i]] for i in range(k)) for n in itertools.product(range(c), repeat=k))
    assert ("Hungarian" in named(np.ones((2, 2), int))[1]) and ("majority" in named(np.ones((5, 2), int))[1])


def run_of(place: Path, maps: dict[str, np.ndarray], classes: list[str], inputs: dict[str, str] | None = None) -> Path:
    """What a finished run of `tacit segment` leaves, with these masks."""
    (place / "masks").mkdir(parents=True)
    for name, labels in maps.items():
        (place / "masks" / f"{name}.png").write_bytes(png(labels.astype(np.uint8)))
    record = {"command": "tacit segment in -o o", "status": "finished", "classes": classes, "data": "d", "inputs": inputs or {}, "seed": 0, "seconds": 1.0}
    (place / "run.json").write_text(json.dumps(record))
    (place / "config.toml").write_text('[segment]\nmethod = "iic"\n')
    return place


def test_clusters_are_named_by_all_pictures_and_scored_as_scikit_learn_does(tmp_path: Path) -> None:
    maps = {f"p{i}": rng(i).integers(1, 6, (30, 40)) for i in range(3)}
    true = {name: (np.isin(labels, (2, 4)) ^ (rng(9).random((30, 40)) < 0.2)).astype(np.uint8) for name, labels in maps.items()}
    run = run_of(tmp_path / "run", maps, [f"cluster-{k}" for k in range(1, 6)])
    (tmp_path / "truth").mkdir()
    for name, mask in true.items():
        (tmp_path / "truth" / f"{name}.png").write_bytes(png(mask))
    found = score_masks(run, tmp_path / "truth")
    assert found.names == (2, 4) and found.how == "clusters named by the truth (majority)"
    answer, truth = (np.concatenate([m.ravel() for m in each]) for each in ([np.isin(v, (2, 4)) for v in maps.values()], true.values()))
    expected = (jaccard_score(truth, answer) + jaccard_score(1 - truth, ~answer)) / 2
    assert figures(list(found.tallies.values()))["miou"] == pytest.approx(expected)
    field = np.zeros((30, 40), np.uint8)
    field[:, :20] = 1
    (tmp_path / "field").mkdir()
    for name in maps:
        (tmp_path / "field" / f"{name}.png").write_bytes(png(field))
    inside = figures(list(score_masks(run, tmp_path / "truth", tmp_path / "field").tallies.values()))
    part = np.concatenate([np.isin(v, (2, 4))[:, :20].ravel() for v in maps.values()]), np.concatenate([m[:, :20].ravel() for m in true.values()])
    assert inside["iou_gland"] == pytest.approx(jaccard_score(part[1], part[0])) and "object_f1" not in inside
    speckled = np.zeros((100, 100), bool)
    speckled[10:30, 10:30] = speckled[50, 50] = True
    assert objects(speckled).max() == 1 and objects(speckled)[50, 50] == 0  # one px of 10,000 is no object


def test_means_intervals_and_paired_differences_equal_slow_ones() -> None:
    def sums(seed: int, noise: float) -> dict[str, dict[str, float]]:
        made = {}
        for i in range(8):
            truth = (rng([1, i]).random((20, 20)) < 0.4).astype(np.int32)
            made[f"p{i}"] = tally((truth > 0) ^ (rng([seed, i]).random((20, 20)) < noise), truth, objects=False)
        return made

    patients = {f"p{i}": f"q{i // 2}" for i in range(8)}
    groups = {f"p{i}": "benign" if i < 4 else "malignant" for i in range(8)}
    rows = {"good": [sums(0, 0.1), sums(1, 0.12)], "bad": [sums(2, 0.3), sums(3, 0.3)]}
    own = of_method(rows["good"], patients, groups)
    each = [figures(list(s.values()))["miou"] for s in rows["good"]]
    assert own["figures"]["miou"]["mean"] == pytest.approx(np.mean(each)) and own["figures"]["miou"]["sd"] == pytest.approx(np.std(each, ddof=1))
    assert own["by_group"]["benign"]["miou"] == pytest.approx(np.mean([figures([s[f"p{i}"] for i in range(4)])["miou"] for s in rows["good"]]))
    drawn = rng([0, 31]).integers(0, 4, (1000, 4))
    slow = {
        name: [np.mean([figures([s[f"p{2 * q + h}"] for q in d for h in (0, 1)])["miou"] for s in seeds]) for d in drawn[:200]] for name, seeds in rows.items()
    }
    (row,) = paired(rows, "bad", patients)
    assert row["difference"] == pytest.approx(np.mean(each) - np.mean([figures(list(s.values()))["miou"] for s in rows["bad"]]))
    low, high = np.quantile(np.array(slow["good"]) - slow["bad"], (0.025, 0.975))
    assert row["interval"] == pytest.approx([low, high], abs=0.01) and row["patients_better"] == 4 and row["p"] == pytest.approx(0.125)
    halves = [{p: sums(0, 0.1)[p] for p in ("p0", "p1", "p2", "p3")}, {p: sums(1, 0.3)[p] for p in ("p2", "p3", "p4", "p5", "p6", "p7")}]
    apart = of_method(halves, patients, groups)  # seeds that scored other pictures each: patients q0, q1 and q1, q2, q3
    assert (apart["images"], apart["patients"], apart["by_group"]["benign"]["images"]) == (8, 4, 4)
    assert apart["by_group"]["malignant"]["miou"] == pytest.approx(figures([halves[1][f"p{i}"] for i in range(4, 8)])["miou"])
    hers = [[[one[f"p{2 * q + h}"] for q in d for h in (0, 1) if f"p{2 * q + h}" in one] for one in halves] for d in drawn]
    ends = np.quantile([np.mean([figures(h)["miou"] for h in each if h]) for each in hers], (0.025, 0.975))
    assert any(not h for each in hers for h in each) and apart["figures"]["miou"]["interval"] == pytest.approx(list(ends))
    one = of_method([{"p0": rows["good"][0]["p0"]}], patients, {})
    assert one["figures"]["miou"]["interval"] is None and one["figures"]["miou"]["sd"] is None and one["by_group"] == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn pictures, one without truth, a truth without a picture, and their groups."""
    place = save_drawings(tmp_path_factory.mktemp("compared"), 4, shape=(90, 110), um=2.0)
    (place / "masks" / "t3.png").rename(place / "masks" / "ghost.png")
    (place / "groups.csv").write_text("case,class,patient\nt0,benign,a\nt1,malignant,b\nt2,benign,b\n")
    return place


def words(folder: Path, out: Path, methods: str) -> list[str]:
    return ["compare", "--methods", methods, "--data", str(folder / "images"), "--truth", str(folder / "masks"), "-o", str(out), "--mpp", "2.0",
            "--groups", str(folder / "groups.csv"), "--against", "haematoxylin", "--set", "colour-clusters.side=64"]  # fmt: skip


def test_rows_are_made_kept_and_named_where_they_fail(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    done = CliRunner().invoke(app, words(folder, out, f"colour-clusters,haematoxylin,k-means:{tmp_path / 'nowhere'}"))
    assert done.exit_code == 3, done.output
    assert "colour-clusters k=2" in done.stdout and "by truth" in done.stdout and "sign test p" in done.stdout
    with (out / "failures.csv").open() as file:
        failed = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert "no model.json there" in failed["k-means:nowhere k=2 seed 0"] and "no model.json there" in failed["k-means:nowhere k=5 seed 0"]
    assert "there is no truth of this name" in failed["t3"]
    record = json.loads((out / "run.json").read_text())
    assert set(record["methods"]) == {"colour-clusters k=2", "colour-clusters k=5", "haematoxylin"} and record["status"] == "finished"
    assert any("1 true masks have no picture" in line for line in record["warnings"])
    own = record["methods"]["haematoxylin"]
    assert own["naming"] == "its own" and own["peak_mb"] > 50 and set(own["parts"]["data"]["by_group"]) == {"benign", "malignant"}
    expected = tacit.evaluate(out / "runs" / "haematoxylin-seed0", folder / "masks")["figures"]
    assert own["parts"]["data"]["figures"]["miou"]["mean"] == pytest.approx(expected["miou"])
    assert own["parts"]["data"]["figures"]["object_f1"]["mean"] == pytest.approx(expected["object_f1"])
    assert {r["method"] for r in record["paired"]} == {"colour-clusters k=2", "colour-clusters k=5"} and record["paired"][0]["against"] == "haematoxylin"
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg") == 3 and "no such row is label-free" in page and len(list((out / "figures").glob("data-t*.jpg"))) == 3
    assert {p.name for p in (out / "tables").iterdir()} == {"methods.csv", "rows.csv", "images.csv", "paired.csv"}
    kept = (out / "runs" / "haematoxylin-seed0" / "run.json").stat().st_mtime_ns
    again = CliRunner().invoke(app, [*words(folder, out, "haematoxylin,colour-clusters"), "--clusters", "2", "--resume", "--json"])
    assert again.exit_code == 3, again.output  # t3 has no truth still
    assert set(json.loads(again.stdout)["methods"]) == {"haematoxylin", "colour-clusters k=2"}
    assert (out / "runs" / "haematoxylin-seed0" / "run.json").stat().st_mtime_ns == kept
    runs = [str(out / "runs" / n) for n in ("haematoxylin-seed0", "colour-clusters-k2-seed0")]
    collected = CliRunner().invoke(app, ["compare", *runs, "--truth", str(folder / "masks"), "-o", str(tmp_path / "c"), "--json"])
    found = json.loads(collected.stdout)["methods"]
    mine, again_ = (of["colour-clusters k=2"]["parts"]["data"]["figures"] for of in (found, record["methods"]))
    assert mine.keys() == again_.keys() and {n: (v["mean"], v["sd"]) for n, v in mine.items()} == {n: (v["mean"], v["sd"]) for n, v in again_.items()}
    assert all((v["interval"] is None) == (again_[n]["interval"] is None) for n, v in mine.items())  # other patients, other intervals


def test_runs_on_other_pictures_or_other_splits_are_refused_with_the_difference(folder: Path, tmp_path: Path) -> None:
    for name, drop in (("all", None), ("few", "t2.png")):
        shutil.copytree(folder / "images", tmp_path / name)
        if drop:
            (tmp_path / name / drop).unlink()
        tacit.segment(tmp_path / name, tmp_path / f"{name}-out", method="colour-clusters", set=["side=64"])
    with pytest.raises(UsageError, match=r"cannot be compared: 1 images are only in the first, 0 only in the second \(for example t2\)"):
        tacit.compare_methods(tmp_path / "o", truth=folder / "masks", runs=[tmp_path / "all-out", tmp_path / "few-out"])
    tacit.segment(tmp_path / "all", tmp_path / "applied", model=tmp_path / "few-out")
    with pytest.raises(UsageError, match="they learnt from other pictures: 1 images are only in the first"):
        tacit.compare_methods(tmp_path / "o", truth=folder / "masks", runs=[tmp_path / "all-out", tmp_path / "applied"])
    assert [row.label for row in given([tmp_path / "all-out", tmp_path / "applied"])] == ["all-out", "applied"]  # one method twice


def test_what_cannot_be_asked_is_refused_before_anything_runs(folder: Path, tmp_path: Path) -> None:
    data = str(folder / "images")
    for options, said in (
        ({}, "nothing to compare"),
        ({"methods": ["iic"]}, "--methods and --data go together"),
        ({"methods": ["iik"], "data": data}, "--methods 'iik' is unknown; known are phantom"),
        ({"methods": ["iic", "iic"], "data": data}, "one is named twice"),
        ({"methods": ["iic"], "data": data, "seeds": [0, 0]}, "--seeds 0,0"),
        ({"methods": ["iic"], "data": data, "set": ["picie.rounds=2"]}, "expected METHOD.setting=value"),
        ({"methods": ["iic"], "data": data, "against": "mssg"}, "--against 'mssg' is no row; rows are iic k=2, iic k=5"),
        ({"runs": [tmp_path], "test": data}, "--test is for --methods"),
    ):
        with pytest.raises((UsageError, InputError), match=said):
            tacit.compare_methods(tmp_path / "o", truth=folder / "masks", **options)
    rows = plan(tmp_path, ["densecl-clusters"], [0, 1], [2, 5], [], [])
    assert [row.shares for row in rows] == [None, rows[0].folder, None, rows[2].folder] and "k-means" in rows[1].words  # learnt once a seed
    for line, said in ((["compare"], "prints a table"), (["compare", "x", "--jobs", "query", "-o", "o"], "--jobs needs --data")):
        done = CliRunner().invoke(app, line)
        assert isinstance(done.exception, UsageError) and said in str(done.exception)


def test_pretraining_is_compared_a_column_a_job(folder: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        network = Simsiam(build(Simsiam.Config, {"backbone": {"name": "resnet10t"}, "size": 32, "projection": 8, "bottleneck": 8}))
        save_model(tmp_path / name / "model", "simsiam", network, {"images": 4}, "drawn")
        (tmp_path / name / "run.json").write_text(
            json.dumps({"command": "tacit pretrain in -o a", "status": "finished", "data": "d", "images": 4, "seed": seed, "inputs": {}})
        )
        (tmp_path / name / "config.toml").write_text("[pretrain]\n")
        (tmp_path / name / "log.txt").write_text("")
    table = "path,label,patient\n" + "".join(f"{folder / 'images' / f't{i}.png'},{'ab'[i % 2]},p{i}\n" for i in range(4))
    (tmp_path / "labels.csv").write_text(table)
    settings = ["--set", "side=64", "--set", "views.size=32", "--set", "whole.epochs=1", "--set", "whole.steps=2", "--set", "frozen.epochs=0"]
    line = ["compare", str(tmp_path / "a"), "--jobs", "few-label,query", "--data", str(folder / "images"), "--truth", str(folder / "masks")]
    done = CliRunner().invoke(
        app, [*line, "--labels", str(tmp_path / "labels.csv"), "--shots", "1", "--seeds", "0,1", "-k", "2", "-o", str(tmp_path / "o"), *settings]
    )
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "few-label@1" in done.stdout and "query AP@2" in done.stdout
    found = json.loads((tmp_path / "o" / "run.json").read_text())["jobs"]
    few = found["a"]["few-label@1"]
    assert set(found) == {"a"} and 0 < few["mean"] <= 1 and few["sd"] is not None and few["interval"] and found["a"]["query AP@2"]["interval"]
    taught = [json.loads((tmp_path / "o" / "runs" / f"a-few1-seed{seed}" / "run.json").read_text()) for seed in (0, 1)]
    assert [t["labels"] for t in taught] == [1, 1] and taught[0]["labelled"] != taught[1]["labelled"]  # so the seeds score other pictures
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    (tmp_path / "b" / "run.json").write_text(json.dumps(record | {"data": "e", "inputs": {"x": "1"}}))
    with pytest.raises(UsageError, match="they learnt from other pictures: 0 images are only in the first, 1 only in the second"):
        tacit.compare_jobs([tmp_path / "a", tmp_path / "b"], tmp_path / "p", jobs=["query"], data=folder / "images", labels=tmp_path / "labels.csv")
    with pytest.raises(UsageError, match="--jobs few-label needs --truth"):
        tacit.compare_jobs([tmp_path / "a"], tmp_path / "p", jobs=["few-label"], data=folder / "images")


def test_a_mask_of_another_size_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "masks", tmp_path / "truth")
    Pillow.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "truth" / "t1.png")
    tacit.segment(folder / "images", tmp_path / "run", method="colour-clusters", set=["side=64"])
    result = tacit.compare_methods(tmp_path / "o", truth=tmp_path / "truth", runs=[tmp_path / "run"])
    assert any("the truth is 5×5 px, the mask 90×110" in line for line in result.failed)
    assert result.methods["colour-clusters k=2"]["parts"]["data"]["images"] == 2


def test_runs_are_shown_from_any_folder_and_a_picture_that_is_gone_costs_its_overlay_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(folder / "images", tmp_path / "there" / "im")
    shutil.make_archive(str(tmp_path / "there" / "im"), "zip", folder / "images")
    monkeypatch.chdir(tmp_path / "there")
    tacit.segment("im", "run", method="colour-clusters", set=["side=64"])
    tacit.segment("im.zip", "zipped", method="colour-clusters", seed=1, set=["side=64"])
    monkeypatch.chdir(tmp_path / "elsewhere")
    for run in ("run", "zipped"):
        done = tacit.compare_methods(f"o-{run}", truth=folder / "masks", runs=[f"../there/{run}"])
        assert len(list(Path(f"o-{run}", "figures").glob("*.jpg"))) == 3 and not any("not shown" in line for line in done.failed)
    (tmp_path / "there" / "im" / "t1.png").unlink()
    Pillow.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "there" / "im" / "t2.png")
    words = ["compare", "../there/run", "--truth", str(folder / "masks"), "-o", "p"]
    assert CliRunner().invoke(app, words).exit_code == 3
    assert [path.name for path in Path("p", "figures").iterdir()] == ["data-t0.jpg"]
    listed = Path("p", "failures.csv").read_text()
    assert "im does not hold it any more" in listed and "t2.png is 40×50 px now, its mask 90×110" in listed
    figures_of = lambda place: json.loads(Path(place, "run.json").read_text())["methods"]["colour-clusters k=2"]["parts"]
    assert figures_of("p") == figures_of("o-run")
