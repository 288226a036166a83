from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, OutputError, TacitError, UsageError
from test_classify import BRIEF
from test_two_level import slice_of


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ of 20 patients and their labels; runs a and b that differ by a setting, c without one case, and predictions of new/ by a and b."""
    place = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    for folder, count in (("pictures", 20), ("new", 10)):
        (place / folder).mkdir()
        for i in range(count):
            cv2.imwrite(str(place / folder / f"{folder[:1]}{i:02d}.png"), slice_of(rng, i % 2 == 1, 64))
        rows = [f"{folder[:1]}{i:02d},{'ill' if i % 2 else 'well'},{folder}{i}" for i in range(count)]
        (place / f"{folder}.csv").write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    shutil.copytree(place / "pictures", place / "fewer")
    (place / "fewer" / "p03.png").unlink()
    fewer = [line for line in (place / "pictures.csv").read_text().splitlines() if not line.startswith("p03")]
    (place / "fewer.csv").write_text("\n".join(fewer) + "\n")
    for name, source, settings in (
        ("a", "pictures", ["first.trees=false"]),
        ("b", "pictures", ["first.svm=false", "first.trees=true"]),
        ("c", "fewer", ["first.trees=false"]),
    ):
        tacit.classify_fit(place / source, place / name, labels=place / f"{source}.csv", twins=False, set=[*BRIEF, *settings])
    for name in "ab":
        tacit.classify_predict(place / "new", place / f"{name} new", model=place / name)
    return place


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_stand_side_by_side_with_their_votes(place: Path, tmp_path: Path) -> None:
    result = tacit.classify_compare([place / "a", place / "b"], tmp_path / "o")
    assert list(result.models) == ["a", "b", "soft vote", "hard vote"] and result.cases == 20 and result.left_out == 0
    said = {name: {r["case"]: r for r in rows_of(place / name / "tables" / "out_of_fold.csv")} for name in "ab"}
    cases = sorted(said["a"])
    y = np.array([said["a"][c]["class"] == "well" for c in cases])
    p = {name: np.array([float(said[name][c]["p_well"]) for c in cases]) for name in "ab"}
    p["soft vote"] = (p["a"] + p["b"]) / 2
    table = {row["model"]: row for row in rows_of(tmp_path / "o" / "tables" / "models.csv")}
    for name, own in p.items():  # scikit-learn on the runs' own tables
        precision, recall, f1, support = precision_recall_fscore_support(y, own > 0.5)
        row = table[name]
        assert float(row["auc"]) == pytest.approx(roc_auc_score(y, own), abs=1e-4)
        for j, kind in enumerate(("ill", "well")):
            found = [float(row[f"{what}_{kind}"]) for what in ("precision", "recall", "f1", "support")]
            assert found == pytest.approx([precision[j], recall[j], f1[j], support[j]], abs=1e-4)
        assert float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"])
    paired = rows_of(tmp_path / "o" / "tables" / "paired.csv")
    assert [(r["model"], r["first"]) for r in paired] == [("b", "a"), ("soft vote", "a"), ("hard vote", "a")]
    assert float(paired[0]["auc"]) == pytest.approx(float(table["b"]["auc"]) - float(table["a"]["auc"]), abs=2e-4)
    assert paired[0]["delong_p"] and paired[1]["delong_p"] and not paired[2]["delong_p"] and paired[2]["mcnemar_p"]
    confusion = rows_of(tmp_path / "o" / "tables" / "confusion.csv")
    assert sum(int(r["cases"]) for r in confusion if r["model"] == "b") == 20
    html = (tmp_path / "o" / "report.html").read_text()
    assert html.count("data:image/png") == 3 and "Too few patients" in html and "DeLong" in html
    again = tacit.classify_compare([place / "a", place / "b"], tmp_path / "again")
    assert again.models == result.models and again.gains == result.gains


def test_cases_that_are_not_shared_are_named(place: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["classify", "compare", str(place / "a"), str(place / "c"), "-o", str(tmp_path / "o"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["cases"] == 19 and found["left_out"] == 1 and any("p03" in w for w in found["warnings"])
    assert rows_of(tmp_path / "o" / "tables" / "left_out.csv") == [{"case": "p03", "why": f"not answered by {place / 'c'}"}]
    assert [g["model"] for g in found["gains"]] == ["c", "soft vote", "hard vote"]


def test_predictions_are_compared_by_given_labels(place: Path, tmp_path: Path) -> None:
    words = ["classify", "compare", str(place / "a new"), str(place / "b new"), "-o", str(tmp_path / "o")]
    refused = CliRunner().invoke(app, words).exception
    assert isinstance(refused, UsageError) and "give them with --labels" in str(refused) and not (tmp_path / "o").exists()
    done = CliRunner().invoke(app, [*words, "--labels", str(place / "new.csv")])
    assert done.exit_code == 0 and "10 cases that all answered, 0 left out" in done.stdout and "after Holm" in done.stdout and "report.html" in done.stdout
    cases = rows_of(tmp_path / "o" / "tables" / "cases.csv")
    assert [r["patient"] for r in cases] == [f"new{i}" for i in range(10)] and {"a new", "b new", "soft vote"} < set(cases[0])


def test_a_model_asked_about_its_own_cases_is_warned_of(place: Path, tmp_path: Path) -> None:
    tacit.classify_predict(place / "pictures", tmp_path / "own", model=place / "a")
    result = tacit.classify_compare([place / "b", tmp_path / "own"], tmp_path / "o")
    assert any("20 of its cases" in w and "taught the very model" in w for w in result.warnings)
    assert not any("taught" in w for w in tacit.classify_compare([place / "a new", place / "b new"], tmp_path / "n", labels=place / "new.csv").warnings)


def test_what_cannot_be_compared_is_said(place: Path, tmp_path: Path) -> None:
    def changed(name: str, **columns: Any) -> Path:
        """Run a with other words in its table and record."""
        shutil.copytree(place / "a", tmp_path / name)
        for path, (old, new) in {"tables/out_of_fold.csv": columns.get("table", ("", "")), "run.json": columns.get("record", ("", ""))}.items():
            file = tmp_path / name / path
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new) if old else file.read_text())
        return tmp_path / name

    a, b = place / "a", place / "b"
    other = tmp_path / "segmented"
    other.mkdir()
    (other / "run.json").write_text('{"command": "tacit segment x -o y", "status": "finished"}')
    (tmp_path / "none.csv").write_text("case,class\nx,ill\ny,well\n")
    refused: list[tuple[list[Path], dict[str, Any], type[TacitError], str]] = [
        ([a], {}, UsageError, "at least two"),
        ([a, a], {}, UsageError, "named twice"),
        ([a, place / "pictures"], {}, InputError, "not the folder of a run"),
        ([a, other], {}, InputError, "no run of tacit classify"),
        ([a, changed("running", record=('"finished"', '"running"'))], {}, InputError, "not finished"),
        ([a, changed("cut", table=("p_ill", "p_il"))], {}, InputError, "no column 'p_ill'"),
        ([a, changed("odd", table=("p00,well,pictures0,", "p00,ill,pictures0,"))], {}, UsageError, "'p00' is 'well' in .* and 'ill' in"),
        ([a, changed("moved", table=("p00,well,pictures0,", "p00,well,pictures1,"))], {}, UsageError, "patient 'pictures0' in one run and of 'pictures1'"),
        ([a, changed("third", record=('"ill"', '"sick"'), table=("p_ill", "p_sick"))], {}, UsageError, "the same classes"),
        ([a, b], {"labels": tmp_path / "gone.csv"}, InputError, "cannot be read"),
        ([a, place / "a new"], {}, InputError, "no case is answered by all 2 runs"),
        ([place / "a new", place / "b new"], {"labels": tmp_path / "none.csv"}, InputError, "none of the 10 shared cases has a class"),
    ]  # fmt: skip
    for runs, options, error, said in refused:
        with pytest.raises(error, match=said):
            tacit.classify_compare(runs, tmp_path / "o", **options)
        assert not (tmp_path / "o").exists()
    with pytest.raises(OutputError, match="which this run reads"):
        tacit.classify_compare([a, b], a, overwrite=True)
