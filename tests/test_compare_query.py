"""Encoders side by side by their indexes: figures against scikit-learn, differences paired, other images refused by name."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import UsageError
from tacit.use.store import Store
from test_index import draw


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures of ten patients; indexes of them by two encoders, the second in other order, and of one picture more."""
    place = tmp_path_factory.mktemp("compare")
    paths = [draw(place / f"{k:02d}.png", k, side=40 + k % 5) for k in range(31)]
    table = pd.DataFrame({"path": paths, "patient": [f"P{k // 3}" for k in range(31)], "label": [["benign", "malignant"][k % 2] for k in range(31)]})
    table[:30].to_csv(place / "a.csv", index=False)
    table[:30][::-1].to_csv(place / "b.csv", index=False)
    table.to_csv(place / "more.csv", index=False)
    for name, encoder in (("a", "texture"), ("b", "phantom"), ("more", "texture")):
        tacit.index_images(place / f"{name}.csv", place / name, encoder=encoder, mpp=1.0)
    return place


def test_figures_equal_those_of_scikit_learn_and_of_evaluate(place: Path) -> None:
    rows = tacit.compare([place / "a", place / "b"], k=4)
    assert [row["encoder"] for row in rows] == ["texture", "phantom"] and rows[0]["over"] == "10 patients"
    for row in rows:
        store = Store.open(row["index"])
        held, x = store.read(["patient", "label"]).to_pylist(), store.vectors().astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        pairs = [(i, j) for i, j in combinations(range(30), 2) if held[i]["patient"] != held[j]["patient"]]
        same = [held[i]["label"] == held[j]["label"] for i, j in pairs]
        assert row["figures"]["pair_auc"]["value"] == pytest.approx(roc_auc_score(same, [x[i] @ x[j] for i, j in pairs]))
        alone = tacit.evaluate(row["index"], task="query", k=4)
        assert row["figures"]["majority@4"]["value"] == pytest.approx(alone["figures"]["majority@4"])
        assert row["figures"]["average_precision@4"]["value"] == pytest.approx(alone["figures"]["average_precision@4"])
        assert row["figures"]["nearest"]["value"] == pytest.approx(tacit.evaluate(row["index"], task="query", k=1)["figures"]["acc@1"])


def test_gains_are_paired(place: Path) -> None:
    shutil.copytree(place / "a", place / "again", dirs_exist_ok=True)
    first, again, other = tacit.compare([place / "a", place / "again", place / "b"], k=4)
    for name, figure in first["figures"].items():
        assert again["figures"][name]["gain_interval"] == [0, 0] and again["figures"][name]["interval"] == figure["interval"]
        theirs = other["figures"][name]
        assert theirs["gain"] == pytest.approx(theirs["value"] - figure["value"])
        assert theirs["gain_interval"][0] <= theirs["gain"] <= theirs["gain_interval"][1] and theirs["gain_interval"] != [0, 0]
        assert tacit.compare([place / "b", place / "a"], k=4)[1]["figures"][name]["gain"] == pytest.approx(-theirs["gain"])


def test_other_images_labels_and_patients_are_refused_by_name(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"0 labelled rows are only in the first, 1 only in the second \(for example 30.png\)"):
        tacit.compare([place / "a", place / "more"])
    table = pd.read_csv(place / "a.csv")
    table.assign(label=["malignant", *table.label[1:]]).to_csv(tmp_path / "l.csv", index=False)
    table.assign(patient=["P9", *table.patient[1:]]).to_csv(tmp_path / "p.csv", index=False)
    for name, said in (("l", "label of 00.png is benign in the first, malignant in the second"), ("p", "they name different patients")):
        tacit.index_images(tmp_path / f"{name}.csv", tmp_path / name, encoder="texture", mpp=1.0)
        with pytest.raises(UsageError, match=said):
            tacit.compare([place / "a", tmp_path / name])
    with pytest.raises(UsageError, match=r"is an index and .* is none"):
        tacit.compare([place / "a", tmp_path])
    with pytest.raises(UsageError, match="named twice"):
        tacit.compare([place / "a", place / "a"])


def test_the_command_prints_values_and_gains(place: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(place / "a"), str(place / "b"), "-k", "3", "--metric", "euclidean", "--include-same-patient"])
    assert done.exit_code == 0, done.output
    assert "pair_auc" in done.stdout and "majority@3" in done.stdout and "gains over the first row, paired" in done.stdout
    assert "own patient count" in done.stderr
    rows = json.loads(CliRunner().invoke(app, ["compare", str(place / "a"), "--json"]).stdout)
    assert rows[0]["excluded"] == "patient" and set(rows[0]["figures"]) == {"nearest", "majority@10", "average_precision@10", "pair_auc"}
