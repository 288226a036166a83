from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import ConfigError, InputError, MissingError, OutputError, UsageError
from tacit.report.heat import coronal, heated, side_by_side
from tacit.run import Run
from tacit.use.report_case import write_case_page
from test_two_level import slice_of

BRIEF = [
    "members=3", "inner=2", "texture.side=64", "texture.words=16", "texture.samples=3000", "first.c=[1.0]", "first.gamma=[0.1, 1.0]", "first.rounds=[20]",
    "first.depth=[2]", "first.folds=3", "second.length=4", "second.table.c=[1.0]", "second.table.gamma=[0.1]", "second.table.rounds=[20]", "second.table.depth=[2]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ and series/ of 24 patients each, half of them ill, one broken file each; their labels; new ones of both."""
    place = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    for folder, count in (("pictures", 24), ("new pictures", 8)):
        (place / folder).mkdir()
        for i in range(count):
            cv2.imwrite(str(place / folder / f"{folder[:1]}{i:02d}.png"), slice_of(rng, i % 2 == 1))
    for folder, count in (("series", 24), ("new series", 4)):
        for i in range(count):
            (place / folder / f"{folder[:1]}{i:02d}").mkdir(parents=True)
            for s in range(int(rng.integers(5, 9))):
                cv2.imwrite(str(place / folder / f"{folder[:1]}{i:02d}" / f"{s}.png"), slice_of(rng, i % 2 == 1 and s in (2, 3)))
    (place / "pictures" / "broken.png").write_bytes(b"no picture")
    for name, prefix, count in (("pictures", "p", 24), ("series", "s", 24)):
        rows = [f"{prefix}{i:02d},{'ill' if i % 2 else 'well'},{i // 2 * 2 + i % 2}" for i in range(count)]
        (place / f"{name}.csv").write_text("case,class,patient\n" + "\n".join([*rows, "broken,ill,99"] if prefix == "p" else rows) + "\n")
    return place


@pytest.fixture(scope="module")
def taught(place: Path) -> Path:
    out = place / "taught"
    tacit.classify_fit(place / "pictures", out, labels=place / "pictures.csv", set=BRIEF)
    return out


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_pictures_are_told_beside_their_twins(taught: Path) -> None:
    record = json.loads((taught / "run.json").read_text())
    assert record["figures"]["auc"] > 0.9 and record["figures"]["cases"] == 24 and record["figures"]["patients"] == 24
    twins = {row["seen"]: row for row in rows_of(taught / "tables" / "twins.csv")}
    assert set(twins) == {"the cases", "ring only", "background only", "lung only", "metadata only"}
    assert float(twins["metadata only"]["low"]) < 0.6 and not any("headers" in w for w in record["warnings"])
    assert float(twins["lung only"]["auc"]) > 0.8 > float(twins["ring only"]["auc"])  # the sign of illness lies in the lungs
    assert set(record["inputs"]) == {"--labels pictures.csv", "broken", *(f"p{i:02d}" for i in range(24))}
    assert record["failed"] == 1 and record["uses_labels"] is True and record["without_lungs"] == []
    assert any("Too few patients" in w for w in record["warnings"]) and not any("members asked" in w for w in record["warnings"])
    found = rows_of(taught / "tables" / "out_of_fold.csv")
    assert len(found) == 24 and {"case", "class", "patient", "named", "p_ill", "p_well"} == set(found[0])
    html = (taught / "report.html").read_text()
    assert "no patient on two sides" in html and "Too few patients" in html and "broken.png" in html
    assert "24 cases of 24 patients" in (taught / "model" / "card.md").read_text()


def test_new_pictures_are_named(place: Path, taught: Path, tmp_path: Path) -> None:
    result = tacit.classify_predict(place / "new pictures", tmp_path / "o", model=taught)
    rows = rows_of(tmp_path / "o" / "tables" / "cases.csv")
    assert [r["case"] for r in rows] == [f"n{i:02d}" for i in range(8)] and result.cases == 8
    assert sum(r["class"] == ("ill" if i % 2 else "well") for i, r in enumerate(rows)) >= 7
    for r in rows:
        assert float(r["p_ill"]) + float(r["p_well"]) == pytest.approx(1, abs=2e-4)
        assert float(r["low_ill"]) <= float(r["p_ill"]) <= float(r["high_ill"])
        assert r["taught"] == "no" and Path(r["path"]).stem == r["case"] and Path(r["path"]).is_file()
    html = (tmp_path / "o" / "report.html").read_text()
    assert len(rows_of(tmp_path / "o" / "tables" / "slices.csv")) == 8 and "Least sure" in html and "proves nothing" not in html
    old = next((place / "pictures").glob("*00*"))
    shutil.copyfile(old, tmp_path / f"renamed{old.suffix}")
    again = tacit.classify_predict(tmp_path / f"renamed{old.suffix}", tmp_path / "again", model=taught, pages=False)
    assert not (tmp_path / "again" / "reports").exists() and (tmp_path / "again" / "figures" / "cases" / "renamed.jpg").exists()
    assert again.answers[0]["taught"] == "yes" and "1 of 1 cases taught this model" in (tmp_path / "again" / "report.html").read_text()


def test_series_go_through_two_levels(place: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["classify", "fit", str(place / "series"), "-o", str(tmp_path / "r"), "--labels", str(place / "series.csv"), "--no-twins", *sets()]
    )
    assert done.exit_code == 0, done.output
    assert "24 cases of 24 patients, out of fold" in done.stdout and "next: tacit classify predict NEW" in done.stdout
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["unit"] == "series" and record["figures"]["auc"] > 0.8 and "texture of series" in record["members"][0]
    done = CliRunner().invoke(app, ["classify", "predict", str(place / "new series"), "-o", str(tmp_path / "o"), "--model", str(tmp_path / "r"), "--json"])
    answers = json.loads(done.stdout)["cases"]
    assert done.exit_code == 0 and [a["case"] for a in answers] == ["n00", "n01", "n02", "n03"]
    assert sum(a["class"] == ("ill" if i % 2 else "well") for i, a in enumerate(answers)) >= 3
    assert sorted(p.stem for p in (tmp_path / "o" / "reports").iterdir()) == ["n00", "n01", "n02", "n03"]
    text = (tmp_path / "o" / "reports" / "n01.html").read_text()
    assert "Most telling slices" in text and "Evidence" in text and "tells no place" in text and "From the front" in text
    slices = rows_of(tmp_path / "o" / "tables" / "slices.csv")
    assert {r["case"] for r in slices} == {"n00", "n01", "n02", "n03"} and len(slices) == len(list((place / "new series").rglob("*.png")))
    volume = np.zeros((12, 32, 32), np.int16) - 1000
    (tmp_path / "other").mkdir()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "other" / "v.nii")
    with pytest.raises(InputError, match=r"is prepared by 'canonical,lungs=-1000:hull.*those that taught the model by 'size=224:224'"):
        tacit.classify_predict(tmp_path / "other", tmp_path / "q", model=tmp_path / "r")  # volumes, where windowed slices taught
    one = tacit.classify_predict(place / "new series" / "n01" / "2.png", tmp_path / "p", model=tmp_path / "r")  # a series of one slice
    assert [(a["case"], len(rows_of(tmp_path / "p" / "tables" / "slices.csv"))) for a in one.answers] == [("n01", 1)]


def sets() -> list[str]:
    return [word for text in BRIEF for word in ("--set", text)]


def test_what_is_missing_is_a_row_and_exit_code_3(place: Path, tmp_path: Path) -> None:
    text = (place / "pictures.csv").read_text().replace("p03,ill,3\n", "ghost,ill,3\n")
    (tmp_path / "labels.csv").write_text(text)
    done = CliRunner().invoke(
        app, ["classify", "fit", str(place / "pictures"), "-o", str(tmp_path / "o"), "--labels", str(tmp_path / "labels.csv"), "--no-twins", *sets()]
    )
    assert done.exit_code == 3
    reasons = {Path(r["file"]).name: r["reason"] for r in rows_of(tmp_path / "o" / "failures.csv")}
    assert "no such case" in reasons["ghost"] and "no class" in reasons["p03.png"] and "recognised" in reasons["broken.png"]
    assert json.loads((tmp_path / "o" / "run.json").read_text())["figures"]["cases"] == 23


def test_same_seed_same_answers_and_labels_do_teach(place: Path, taught: Path, tmp_path: Path) -> None:
    tacit.classify_fit(place / "pictures", tmp_path / "again", labels=place / "pictures.csv", set=BRIEF, twins=False)
    assert (tmp_path / "again" / "tables" / "out_of_fold.csv").read_text() == (taught / "tables" / "out_of_fold.csv").read_text()
    lines = (place / "pictures.csv").read_text().splitlines()
    kinds = np.random.default_rng(1).permutation([line.split(",")[1] for line in lines[1:]])
    scrambled = [",".join([line.split(",")[0], kind, line.split(",")[2]]) for line, kind in zip(lines[1:], kinds, strict=True)]
    (tmp_path / "l.csv").write_text("\n".join([lines[0], *scrambled]) + "\n")
    result = tacit.classify_fit(place / "pictures", tmp_path / "chance", labels=tmp_path / "l.csv", set=BRIEF, twins=False)
    assert result.figures["interval"]["auc"][0] < 0.6  # labels without meaning are not learnt


def test_what_cannot_be_done_is_said(place: Path, taught: Path, tmp_path: Path) -> None:
    def fit(labels: str, out: str, **options: Any) -> None:
        (tmp_path / "l.csv").write_text(labels)
        tacit.classify_fit(options.pop("source", place / "pictures"), tmp_path / out, labels=tmp_path / "l.csv", **options)

    two = "case,class\np00,well\np01,ill\n"
    for number, (labels, options, error, said) in enumerate((
        ("case,class\np00,well\np01,well\n", {}, InputError, "at least two classes"),
        ("case,class\nx,well\ny,ill\n", {}, InputError, "none of the 25 cases"),
        (two, {}, InputError, "1 patients that can be used; at least 3 a class"),
        ("case,class\n" + "".join(f"s{i:02d},{'ill' if i % 2 else 'well'}\n" for i in range(6)), {"source": place / "series"}, InputError, "3 patients that can be used; at least 4"),
        (two, {"pipeline": "three-level"}, UsageError, "known are two-level"),
        (two, {"unit": "slice"}, UsageError, "picture, series"),
        (two, {"steps": "sharpen"}, UsageError, "'sharpen' is unknown"),
        (two, {"set": ["unit=series"]}, UsageError, "no setting to change"),
        (two, {"set": ["members=1"]}, ConfigError, "members"),
        (two, {"source": place / "nowhere"}, InputError, "no such file"),
    )):  # fmt: skip
        with pytest.raises(error, match=said):
            fit(labels, f"o{number}", **options)
    with pytest.raises(MissingError, match=r"no model\.json"):
        tacit.classify_predict(place / "pictures", tmp_path / "p", model=place / "pictures")


def test_more_members_than_patients_are_refused_and_a_default_that_does_not_fit_is_said(place: Path, tmp_path: Path) -> None:
    labels = tmp_path / "l.csv"
    rows = [f"p{i:02d},{'ill' if i % 2 else 'well'},{i // 4 * 2 + i % 2}" for i in range(6 * 2)]  # two pictures a patient: six patients, three a class
    labels.write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    few = [text for text in BRIEF if not text.startswith("members")]
    for number, (pipeline, asked) in enumerate(
        (("two-level", "members=4"), ("two-level", "first.folds=7"), ("gate", "folds=4"), ("gate", "low.settings.members=4"))
    ):
        with pytest.raises(UsageError, match=f"^{asked}: expected at most 3, the patients of class 'ill'"):
            tacit.classify_fit(place / "pictures", tmp_path / f"r{number}", labels=labels, pipeline=pipeline, set=[asked])
    tacit.classify_fit(place / "pictures", tmp_path / "o", labels=labels, twins=False, set=few)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    said = "5 members asked, 3 possible: the rarest class, 'ill', has 3 patients, and each member leaves some of every class out."
    assert said in record["warnings"] and len(record["members"]) == 3 and "5 members asked, 3 possible" in (tmp_path / "o" / "report.html").read_text()
    again = tacit.classify_fit(
        place / "pictures", tmp_path / "again", labels=labels, twins=False, config=tmp_path / "o" / "config.toml"
    )  # repeats the default, asks for nothing
    assert again.figures["auc"] == record["figures"]["auc"]


def test_a_finished_run_is_not_done_twice_and_changed_labels_are_refused(place: Path, taught: Path) -> None:
    before = (taught / "model" / "weights.safetensors").stat().st_mtime_ns
    again = tacit.classify_fit(place / "pictures", taught, labels=place / "pictures.csv", set=BRIEF, resume=True)
    assert again.figures["cases"] == 24 and (taught / "model" / "weights.safetensors").stat().st_mtime_ns == before
    assert not (taught / "cases").exists()
    with pytest.raises(OutputError, match="not empty"):
        tacit.classify_fit(place / "pictures", taught, labels=place / "pictures.csv", set=BRIEF)
    with pytest.raises(OutputError, match="settings"):
        tacit.classify_fit(place / "pictures", taught, labels=place / "pictures.csv", set=[*BRIEF, "members=4"], resume=True)


def test_heat_is_seen_where_it_lies(tmp_path: Path) -> None:
    grey = np.full((40, 60), 90, np.uint8)
    heat = np.zeros((20, 30), np.float32)
    heat[4:8, 20:26] = 1.0
    found = heated(grey, heat)
    changed = (found != 90).any(2)
    assert changed[10:14, 42:50].all() and not changed[:, :36].any() and not changed[20:].any()
    slices = side_by_side(np.stack([grey] * 5), [3, 5, 7, 9, 11], side=40)
    assert slices.shape == (2 * 46 + 6, 4 * 66 + 6, 3)
    front = coronal(np.stack([np.zeros((8, 10), np.uint8), np.full((8, 10), 200, np.uint8)]), height=20)
    assert front.shape == (20, 10, 3) and front[0, 0, 0] == 200 and front[-1, 0, 0] == 0  # feet below
    run = Run(tmp_path, {"command": "tacit classify predict"})
    row = {"case": "a", "class": "ill", "p_ill": 0.8, "p_well": 0.2, "low_ill": 0.7, "high_ill": 0.9, "low_well": 0.1, "high_well": 0.3}
    curve = np.stack([np.linspace(0.1, 0.9, 9), np.linspace(0.9, 0.1, 9)], 1)
    volume = np.zeros((5, 10, 10), np.float32)
    volume[2, 3, 4] = 1.0
    write_case_page(run, row, curve, np.full((9, 40, 40), 60, np.uint8), volume, ("ill", "well"), "The heat is where the evidence lies.")
    assert (tmp_path / "figures" / "maps" / "a.jpg").exists() and "where the evidence lies" in (tmp_path / "reports" / "a.html").read_text()
