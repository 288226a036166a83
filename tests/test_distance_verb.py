"""`tacit distance` as it is typed: on drawn pictures, series and slides, in parts, against a target, and on bad input."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import tacit
from scans import body
from tacit.cli import app
from tacit.config import build, to_toml
from tacit.errors import InputError, TacitError, UsageError
from tacit.image import Image
from tacit.learn.simsiam import Simsiam
from tacit.read.nifti import write_nifti
from tacit.use.distance_labels import read_table
from tacit.use.model import save_model
from tacit.use.report_distance import DISTANCES
from test_lung import chest

BRIEF: dict[str, Any] = {"features": "pixels", "bootstraps": 20, "permutations": 19}
KEYS = ["names", "matrix", "interval", "split_half", "p_value", "solver", "label_distance"]


def save(folder: Path, count: int = 6, *, seed: int = 0, labels: tuple[str, ...] = ("one", "two"), bright: float = 0.0, grey: bool = True) -> Path:
    """Folders of labels with pictures of 24 × 32 px: a light field that grows with the label, on noise."""
    for k, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([seed, k, i])
            level = 60 + bright + 70 * k * (np.mgrid[:24, :32][1] > 16) + 12 * rng.standard_normal((24, 32))
            picture = np.repeat(level[..., None], 3, 2) * (1 if grey else np.array([1.0, 0.6, 0.9]))
            cv2.imwrite(str(folder / label / f"{label}_{seed}_{i}.png"), np.clip(picture, 0, 255).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a and its copy under other names, b like it, far with a brighter ground."""
    place = tmp_path_factory.mktemp("sets")
    save(place / "a")
    save(place / "b", seed=1)
    save(place / "far", seed=2, bright=80)
    for i, path in enumerate(sorted((place / "a").rglob("*.png"), reverse=True)):
        (place / "copy" / f"z {path.parent.name}").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / "copy" / f"z {path.parent.name}" / f"{i}.png")
    return place


def test_the_command_prints_and_keeps_what_it_promises(sets: Path, tmp_path: Path) -> None:
    typed = [
        "distance",
        *(str(sets / n) for n in ("a", "b", "far")),
        "-o",
        str(tmp_path / "o"),
        "--features",
        "pixels",
        "--bootstraps",
        "20",
        "--permutations",
        "19",
    ]
    done = CliRunner().invoke(app, [*typed, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert list(said)[:1] == ["names"] and set(KEYS) <= set(said)
    assert said["names"] == ["a", "b", "far"]
    matrix = np.array(said["matrix"])
    assert (np.diag(matrix) == 0).all() and (matrix == matrix.T).all()
    assert matrix[0, 2] > matrix[0, 1] > 0 and matrix[0, 2] > 2 * max(said["split_half"])
    assert all(said["interval"][i][j][0] <= matrix[i, j] <= said["interval"][i][j][1] for i in range(3) for j in range(3))
    assert said["p_value"][0][2] == pytest.approx(1 / 20) and said["p_value"][0][1] > 0.05
    assert said["solver"][0][1] == "exact (network simplex)" and said["solver"][0][0] is None
    assert {(d["a"], d["b"]) for d in said["label_distance"]} == {("a", "a"), ("b", "b"), ("far", "far"), ("a", "b"), ("a", "far"), ("b", "far")}
    out = tmp_path / "o"
    for name in ("report.html", "run.json", "tables/distances.csv", "tables/labels.csv", "tables/coupling.csv", "tables/pairs.csv", "figures/distances.png"):
        assert (out / name).is_file(), name
    assert (out / "tables" / "distances.csv").read_text().splitlines()[0] == ",".join(DISTANCES)
    page = (out / "report.html").read_text()
    assert "exact (network simplex)" in page and "Nearest: a, b" in page and "Farthest: a, far" in page and "map of the sets" in page
    plain = CliRunner().invoke(app, [*typed[:-4], "--bootstraps", "20", "--permutations", "19", "--overwrite"])
    assert "a – far" in plain.stdout and "exact (network simplex)" in plain.stdout and plain.stdout.splitlines()[-1].startswith("next: tacit ")


def test_a_copy_under_other_names_is_at_no_distance_even_of_a_draw(sets: Path, tmp_path: Path) -> None:
    r = tacit.distance([sets / "a", sets / "copy"], tmp_path / "o", samples=10, **BRIEF)
    assert r.matrix[0][1] == pytest.approx(0, abs=1e-6)
    assert [s["samples"] for s in r.sets] == [10, 10] and [s["of"] for s in r.sets] == [12, 12]
    assert any("a draw of a set" in note for note in r.notes) and r.p_value[0][1] == 1.0
    assert r.split_half[0] == pytest.approx(r.split_half[1]) and r.at_half[0][1] == pytest.approx(r.split_half[0])


def test_labels_come_from_folders_a_csv_a_list_or_clusters(sets: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (sets / "a").rglob("*.png"):
        shutil.copy(path, flat)
    rows = [f"{p.name},{p.name.split('_')[0]}" for p in sorted(flat.iterdir())]
    (tmp_path / "labels.csv").write_text("case,class\n" + "\n".join(rows[1:]) + "\n")
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(f"{flat}/{row}" for row in rows) + "\n")
    by_csv = tacit.distance([flat, sets / "b"], tmp_path / "o1", labels=[str(tmp_path / "labels.csv"), "folders"], **BRIEF)
    assert by_csv.sets[0]["labels"] == "labels.csv" and by_csv.failed == 1 and by_csv.sets[0]["samples"] == 11
    by_list = tacit.distance([tmp_path / "list.csv", sets / "b"], tmp_path / "o2", **BRIEF)
    by_folder = tacit.distance([sets / "a", sets / "b"], tmp_path / "o3", **BRIEF)
    assert by_list.matrix[0][1] == pytest.approx(by_folder.matrix[0][1], rel=1e-9) and by_list.sets[0]["labels"] == "the list"
    by_clusters = tacit.distance([flat, sets / "b"], tmp_path / "o4", **BRIEF)
    assert "k-means, k = 2 (the best mean silhouette" in by_clusters.sets[0]["labels"] and by_clusters.sets[1]["labels"] == "subfolders"
    assert by_clusters.matrix[0][1] == pytest.approx(by_folder.matrix[0][1], rel=0.2)
    asked = tacit.distance([flat, sets / "b"], tmp_path / "o5", labels=["kmeans:2"], **BRIEF)
    assert all("k = 2 (asked for" in s["labels"] for s in asked.sets)


def test_candidates_are_ranked_by_how_near_they_bring_the_source(sets: Path, tmp_path: Path) -> None:
    r = tacit.distance(sets / "a", tmp_path / "o", to=sets / "far", augmentations="gamma=0.6,gamma=2,window,he,lungs", **BRIEF)
    order = [row["name"] for row in r.ranking]
    assert order.index("gamma=0.6") < order.index("as it is") < order.index("gamma=2") and set(order) == {"as it is", "gamma=0.6", "gamma=2", "window", "he"}
    assert [row["rank"] for row in r.ranking] == [1, 2, 3, 4, 5] and r.ranking[0]["distance"] == min(row["distance"] for row in r.ranking)
    assert r.names[-1] == "far" and r.matrix[0][1] is None and r.failed == 1  # lungs want a volume
    assert "lungs" in (tmp_path / "o" / "failures.csv").read_text() and (tmp_path / "o" / "figures" / "ranking.png").is_file()


def test_sets_and_runs_are_ranked_for_a_target(sets: Path, tmp_path: Path) -> None:
    by_set = tacit.distance([sets / "far", sets / "b"], tmp_path / "o1", to=sets / "a", pretraining=True, **BRIEF)
    assert [row["name"] for row in by_set.ranking] == ["b", "far"]
    for name in ("b", "far"):  # what tacit pretrain leaves
        network = Simsiam(build(Simsiam.Config, {"backbone": {"name": "resnet10t"}, "size": 32, "projection": 8, "bottleneck": 8}))
        save_model(tmp_path / f"run {name}" / "model", "simsiam", network, {"images": 12}, "nothing learnt")
        (tmp_path / f"run {name}" / "config.toml").write_text(to_toml({"pretrain": {"input": str(sets / name)}}))
    runs = [str(tmp_path / "run far"), str(tmp_path / "run b")]
    by_run = tacit.distance(runs, tmp_path / "o2", to=sets / "a", pretraining=True, bootstraps=20, permutations=19)
    assert {row["name"] for row in by_run.ranking} == {"run b", "run far"} and by_run.features["name"] == "each run's own"
    assert all(0 < row["distance"] < 20 for row in by_run.ranking) and any("own features" in note for note in by_run.notes)
    common = tacit.distance(runs, tmp_path / "o3", to=sets / "a", pretraining=True, **BRIEF)
    assert [row["name"] for row in common.ranking] == ["run b", "run far"]
    assert common.ranking[0]["distance"] == pytest.approx(by_set.ranking[0]["distance"], rel=1e-9)


def test_runs_for_a_target_without_labels_share_its_clusters(sets: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted((sets / "a").rglob("*.png"))):
        shutil.copyfile(path, loose / f"{number}.png")
    for name in ("b", "far"):
        network = Simsiam(build(Simsiam.Config, {"backbone": {"name": "resnet10t"}, "size": 32, "projection": 8, "bottleneck": 8}))
        save_model(tmp_path / f"run {name}" / "model", "simsiam", network, {"images": 12}, "nothing learnt")
        (tmp_path / f"run {name}" / "config.toml").write_text(to_toml({"pretrain": {"input": str(sets / name)}}))
    found = tacit.distance([str(tmp_path / "run far"), str(tmp_path / "run b")], tmp_path / "o", to=loose, pretraining=True, bootstraps=20, permutations=19)
    assert len(found.ranking) == 2 and any("clusters by run far" in s["labels"] for s in found.sets) and (tmp_path / "o" / "report.html").exists()


def test_one_file_name_has_one_label(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("case,class\nill/1.png,ill\nwell/1.png,well\n")
    with pytest.raises(InputError, match=r"gives '1\.png' two labels"):
        read_table(tmp_path / "l.csv")


@pytest.mark.parametrize(("by", "names"), [("prepare:he", ["original", "he"]), ("gate:rms-contrast", None), ("gate", None), ("site", ["site p", "site q"])])
def test_one_set_is_parted(by: str, names: list[str] | None, sets: Path, tmp_path: Path) -> None:
    rows = [f"{p},{p.parent.name},{'pq'[i % 2]}" for i, p in enumerate(sorted((sets / "a").rglob("*.png")))]
    (tmp_path / "list.csv").write_text("path,label,site\n" + "\n".join(rows) + "\n")
    if by.startswith("gate"):  # half of either label is burnt out
        pictures = [p for k in (0, 1) for p in sorted(save(tmp_path / str(k), 6, labels=("one",), seed=k, bright=185.0 * k).rglob("*.png"))]
        (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(f"{p},{'xy'[i % 2]}" for i, p in enumerate(pictures)) + "\n")
    r = tacit.distance(tmp_path / "list.csv", tmp_path / "o", split_by=by, **BRIEF)
    assert len(r.names) == 2 and (names is None or r.names == names)
    found = next(d for d in r.label_distance if d["a"] != d["b"])
    assert np.array(found["matrix"]).shape == (2, 2)  # class by class
    assert r.sets[0]["samples"] + r.sets[1]["samples"] == (24 if by.startswith("prepare") else 12)


def test_series_are_compared_by_slice_or_as_a_whole(tmp_path: Path) -> None:
    for name, shift in (("a", 0), ("b", 300)):
        for i in range(4):
            image = chest()[0]
            grain = np.random.default_rng([i, shift]).normal(0, 20 + 60 * (i % 2), image.pixels.shape)
            hu = np.clip(image.pixels + shift * (image.pixels > -500) + grain * (image.pixels > -500), -1024, 2000).astype(np.int16)
            folder = tmp_path / name / ("ill" if i % 2 else "well")
            folder.mkdir(parents=True, exist_ok=True)
            write_nifti(folder / f"{name}{i}.nii.gz", replace(image, pixels=hu))
    both = [tmp_path / "a", tmp_path / "b"]
    by_slice = tacit.distance(both, tmp_path / "o1", **BRIEF)
    whole = tacit.distance(both, tmp_path / "o2", series_by="embedding", **BRIEF)
    assert [s["kind"] for s in by_slice.sets] == ["slices"] * 2 and [s["samples"] for s in whole.sets] == [4, 4] and whole.sets[0]["kind"] == "series"
    assert by_slice.sets[0]["samples"] > 4 and by_slice.sets[0]["labels"] == "subfolders"
    with pytest.raises(InputError, match=r"modalities are mixed \(a slices, pictures pictures\)"):
        save(tmp_path / "pictures")
        tacit.distance([tmp_path / "a", tmp_path / "pictures"], tmp_path / "o3", **BRIEF)


def test_two_zips_of_one_name_are_two_sets(tmp_path: Path) -> None:
    for place, count in (("here", 2), ("there", 3)):
        (tmp_path / place).mkdir()
        with zipfile.ZipFile(tmp_path / place / "scans.zip", "w") as archive:
            for i in range(count):
                image = chest()[0]
                grain = np.random.default_rng([i, count]).normal(0, 20 + 60 * i, image.pixels.shape) * (image.pixels > -500)
                write_nifti(tmp_path / "v.nii.gz", replace(image, pixels=np.clip(image.pixels + grain, -1024, 2000).astype(np.int16)))
                archive.write(tmp_path / "v.nii.gz", f"{place}{i}.nii.gz")
    zips = [tmp_path / "here" / "scans.zip", tmp_path / "there" / "scans.zip"]
    r = tacit.distance(zips, tmp_path / "o", labels=["kmeans:2"], **BRIEF)
    slices = [s["samples"] for s in r.sets]
    assert slices[0] and 3 * slices[0] == 2 * slices[1]  # of two series here, three there


def test_slides_are_compared_by_tile(data: Path, tmp_path: Path) -> None:
    slide = data / "slides" / "CMU-1-Small-Region.svs"
    if not slide.is_file():
        pytest.skip("the real slide is not there")
    r = tacit.distance([slide, slide], tmp_path / "o", labels=["kmeans:2"], samples=12, tile_um=128, **BRIEF)
    assert [s["kind"] for s in r.sets] == ["tiles", "tiles"] and r.matrix[0][1] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_compared_is_named(sets: Path, tmp_path: Path) -> None:
    def refused(said: str, *sources: Path | str, kind: type[TacitError] = InputError, **options: Any) -> None:
        with pytest.raises(kind, match=said):
            tacit.distance(list(sources), tmp_path / "o", overwrite=True, **(BRIEF | options))

    (tmp_path / "empty").mkdir()
    refused("empty", sets / "a", tmp_path / "empty")
    refused("does not exist", sets / "a", tmp_path / "nowhere")
    with pytest.raises(InputError, match="does not exist"):
        tacit.distance([sets / "a", tmp_path / "nowhere"], tmp_path / "fresh", **BRIEF)
    assert not (tmp_path / "fresh").exists()  # the corrected command finds it as it was
    lone = save(tmp_path / "lone", 3)
    save(tmp_path / "lone more", 1, labels=("three",))
    shutil.move(tmp_path / "lone more" / "three", lone / "three")
    refused("lone: label 'three' has one sample", sets / "a", lone)
    flat = tmp_path / "constant"
    for label in ("one", "two"):
        (flat / label).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(flat / label / f"{label}{i}.png"), np.full((24, 24, 3), 90, np.uint8))
    refused("constant has constant features", sets / "a", flat)
    one = save(tmp_path / "one", labels=("only",))
    refused(r"one has one label only \('only'\)", sets / "a", one, labels=["folders"])
    refused("modalities are mixed: a is grey, pink is coloured", sets / "a", save(tmp_path / "pink", grey=False))
    mixed = save(tmp_path / "mixed")
    write_nifti(mixed / "one" / "v.nii.gz", Image(body(3, 24), "dhw", (2.0, 2.0, 2.0), affine=np.diag([2.0, 2, 2, 1])))
    refused("mixed holds series and pictures: modalities are mixed", sets / "a", mixed)
    (tmp_path / "other.csv").write_text("case,class\nnobody,x\n")
    refused("names none of the 12 looks of a", sets / "a", sets / "b", labels=[str(tmp_path / "other.csv")])
    refused("no gate, no prepare:STEP and no column", sets / "a", split_by="colour")
    for said, options in (
        ("one set is at no distance", {}),
        ("give it with --to TARGET", {"augmentations": "he"}),
        ("give it with --to TARGET", {"pretraining": True}),
        ("'blur' is unknown", {"augmentations": "he,blur", "to": sets / "b"}),
        ("is given twice", {"augmentations": "he,he", "to": sets / "b"}),
        ("--augmentations is empty", {"augmentations": ",", "to": sets / "b"}),
        ("the gate 'grey' is unknown", {"split_by": "gate:grey"}),
        ("needs a step", {"split_by": "prepare:"}),
        ("no --to goes with it", {"split_by": "gate", "to": sets / "b"}),
        ("pixels is known too", {"features": "pixel", "to": sets / "b"}),
        ("--labels was given 3 times for 2 sets", {"labels": ["folders"] * 3, "to": sets / "b"}),
        ("expected kmeans, or kmeans:K", {"labels": ["kmeans:1"], "to": sets / "b"}),
        ("--samples 3: expected 10 or more", {"samples": 3, "to": sets / "b"}),
        ("--series-by 'case' is unknown", {"series_by": "case", "to": sets / "b"}),
    ):
        refused(said, sets / "a", kind=UsageError, **options)


def test_a_picture_that_cannot_be_read_is_listed_and_the_rest_goes_on(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "b", tmp_path / "b")
    (tmp_path / "b" / "one" / "broken.png").write_bytes(b"no picture")
    done = CliRunner().invoke(
        app, ["distance", str(sets / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "o"), "--features", "pixels", "--bootstraps", "20", "--permutations", "19"]
    )
    assert done.exit_code == 3 and "broken.png" in (tmp_path / "o" / "failures.csv").read_text()
