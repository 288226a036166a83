"""Figures of retrieval against scikit-learn and against their definitions written out slowly."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, UsageError
from tacit.report import retrieval
from tacit.use.index import index_images
from tacit.use.store import Store
from test_index import draw


def drawn_hits(seed: int, q: int = 30, k: int = 8, classes: int = 3, short: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Classes of hits, some rows shorter than k, and the queries' own."""
    rng = np.random.default_rng(seed)
    hits = rng.integers(0, classes, (q, k))
    if short:
        for row, length in enumerate(rng.integers(0, k + 1, q)):
            hits[row, length:] = -1
    return hits, rng.integers(0, classes, q)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_each_figure_equals_its_definition(seed: int, k: int, classes: int) -> None:
    hits, own = drawn_hits(seed, k=k, classes=classes)
    for i, (row, c) in enumerate(zip(hits.tolist(), own.tolist(), strict=True)):
        seen = [h for h in row if h >= 0]
        assert retrieval.accuracy(hits, own)[i] == (c in seen)
        votes = Counter(seen)
        most = max(votes.values(), default=0)
        winner = next((h for h in seen if votes[h] == most), None)
        assert retrieval.majority(hits, own)[i] == (winner == c)
        precisions = [seen[: n + 1].count(c) / (n + 1) for n, h in enumerate(seen) if h == c]
        assert retrieval.average_precision(hits, own)[i] == pytest.approx(np.mean(precisions) if precisions else 0)


def test_average_precision_and_ndcg_equal_scikit_learns() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        n, k = 40, 10
        relevant = rng.random(n) < 0.3  # of every row, in order of rank
        hits, own = relevant[None, :k].astype(np.int64), np.array([1])
        scores = -np.arange(n, dtype=float)
        if relevant[:k].any():
            assert retrieval.average_precision(hits, own)[0] == pytest.approx(average_precision_score(relevant[:k], scores[:k]))
        ours = retrieval.ndcg(hits, own, np.array([relevant.sum()]))[0]
        assert ours == pytest.approx(ndcg_score(relevant[None].astype(float), scores[None], k=k))
    assert retrieval.ndcg(np.array([[0, 0]]), np.array([1]), np.array([0]))[0] == 0


def test_the_robustness_index_equals_pathorobs_double_sum() -> None:
    rng = np.random.default_rng(5)
    hits, own = drawn_hits(5, q=90)
    sites = np.where(hits >= 0, rng.integers(-1, 3, hits.shape), -1)
    own_site = rng.integers(-1, 3, len(own))
    good, either = retrieval.robustness(hits, own, sites, own_site)
    same = other = 0
    for i in range(len(own)):
        for j in range(hits.shape[1]):
            if hits[i, j] < 0 or sites[i, j] < 0 or own_site[i] < 0:
                continue
            same += hits[i, j] == own[i] and sites[i, j] != own_site[i]
            other += hits[i, j] != own[i] and sites[i, j] == own_site[i]
    assert (good.sum(), either.sum()) == (same, same + other) and same > 10 < other


def test_intervals_draw_whole_patients() -> None:
    from tacit.report.score import interval

    rng = np.random.default_rng(6)
    groups = rng.integers(0, 12, 300)
    values = (rng.random(300) < np.linspace(0.1, 0.9, 12)[groups]).astype(float)
    low, high = retrieval.ratio_interval(values, np.ones(300), groups, draws=4000)
    theirs = interval([{"hit": v, "n": 1.0} for v in values], groups.tolist(), lambda t: sum(x["hit"] for x in t) / sum(x["n"] for x in t), draws=4000)
    assert (low, high) == pytest.approx(theirs, abs=0.02)
    alone = retrieval.ratio_interval(values, np.ones(300), np.arange(300), draws=4000)
    assert alone[1] - alone[0] < 0.6 * (high - low)  # images are not independent
    assert retrieval.ratio_interval(values, np.ones(300), groups) == retrieval.ratio_interval(values, np.ones(300), groups)
    assert np.isnan(retrieval.ratio_interval(np.zeros(3), np.zeros(3), np.arange(3))).all()


def test_chance_is_what_blind_hits_give() -> None:
    classes = np.array([0] * 60 + [1] * 40)
    queries = np.arange(100)
    found = retrieval.chance(classes, queries, lambda q: np.arange(100) == q, 1, rounds=200)
    expected = 0.6 * 59 / 99 + 0.4 * 39 / 99
    assert found["acc"] == found["majority"] == found["average_precision"] == pytest.approx(expected, abs=0.01)
    nobody = retrieval.chance(classes, queries, lambda q: np.ones(100, bool), 3)
    assert set(nobody.values()) == {0.0}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("evaluate")
    paths = [draw(place / f"{k:02d}.png", k, side=40 + k % 5) for k in range(30)]
    labels = [["benign", "malignant", "other"][k % 3] for k in range(30)]
    labels[7] = None  # type: ignore[call-overload]
    table = {"path": paths, "patient": [f"P{k // 3}" for k in range(30)], "site": ["A" if k < 15 else "B" for k in range(30)], "label": labels}
    pd.DataFrame(table | {"one": ["x"] * 30}).to_csv(place / "l.csv", index=False)
    index_images(place / "l.csv", place / "index", encoder="texture")
    return place / "index"


@pytest.mark.parametrize("same", [False, True])
def test_the_evaluation_of_an_index_equals_a_slow_one(index: Path, same: bool) -> None:
    store = Store.open(index)
    rows = store.read(["patient", "label", "site", "sha256"]).to_pylist()
    x = store.vectors().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    k, queries, hits, own, sites, relevant = 5, [], [], [], [], []
    for i, row in enumerate(rows):
        if row["label"] is None:
            continue
        may = [j for j, r in enumerate(rows) if r["label"] is not None and (j != i if same else r["patient"] != row["patient"])]
        near = sorted(may, key=lambda j: -float(x[i] @ x[j]))[:k]
        queries.append(i)
        hits.append([rows[j]["label"] for j in near])
        sites.append([rows[j]["site"] for j in near])
        own.append(row["label"])
        relevant.append(sum(rows[j]["label"] == row["label"] for j in may))
    result = tacit.evaluate(index, task="query", k=k, include_same_patient=same)
    assert result["queries"] == len(queries) == 29 and result["excluded"] == ("image" if same else "patient")
    assert result["figures"]["acc@5"] == pytest.approx(np.mean([o in h for h, o in zip(hits, own, strict=True)]))
    number = {"benign": 0, "malignant": 1, "other": 2}
    coded, code = np.array([[number[h] for h in row] for row in hits]), np.array([number[o] for o in own])
    for name, values in retrieval.per_query(coded, code, np.array(relevant)).items():
        assert result["figures"][f"{name}@5"] == pytest.approx(values.mean())
    same_class, other_site = coded == code[:, None], np.array(sites) != np.array([rows[i]["site"] for i in queries])[:, None]
    good, bad = (same_class & other_site).sum(), (~same_class & ~other_site).sum()
    assert result["figures"]["robustness@5"] == pytest.approx(good / (good + bad))
    assert result["over"] == "10 patients" and any("no label" in w for w in result["warnings"])
    for name, value in result["figures"].items():
        low, high = result["interval"][name]
        assert low <= value <= high
    assert 0.2 < result["chance"]["majority@5"] < 0.5 and result["commonest_class"] == pytest.approx(10 / 29)


def test_the_command_prints_figures_with_intervals_and_chance(index: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(index), "--task", "query", "--k", "3", "--label", "site", "--metric", "euclidean"])
    assert done.exit_code == 0 and "by chance" in done.stdout and "the same patient left out, 95% intervals over 10 patients" in done.stdout
    assert json.loads(CliRunner().invoke(app, ["evaluate", str(index), "--task", "query", "--json"]).stdout)["k"] == 10


def test_what_cannot_be_evaluated_is_said(index: Path, tmp_path: Path) -> None:
    for options, error, said in (
        ({"label": "grade"}, UsageError, "no such column; it has slide, patient, site, label"),
        ({"label": "one"}, InputError, "holds 1 class on 30 rows"),
        ({"k": 30}, UsageError, "expected 1 to 29"),
        ({"k": 0}, UsageError, "expected 1 to"),
        ({"truth": "masks"}, UsageError, "one too many"),
    ):
        with pytest.raises(error, match=said):
            tacit.evaluate(index, task="query", **options)
    with pytest.raises(UsageError, match="--task query"):
        tacit.evaluate(index)
    with pytest.raises(UsageError, match="known: segment, "):
        tacit.evaluate(index, task="mystery")
    for k in range(4):
        draw(tmp_path / "in" / f"{k}.png", k)
    pd.DataFrame({"path": [f"in/{k}.png" for k in range(4)], "label": list("abab")}).to_csv(tmp_path / "l.csv", index=False)
    index_images(tmp_path / "l.csv", tmp_path / "i", encoder="texture")
    result = tacit.evaluate(tmp_path / "i", task="query", k=2)
    assert "no patient is known" in result["warnings"][0] and result["over"] == "4 images"
