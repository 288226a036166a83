from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from tacit.errors import InputError
from tacit.learn.block_vote import BlockVote
from tacit.learn.table_classifier import TableClassifier, TableConfig, _solve, grouped_folds
from tacit.parts.weights import load_into, save_tensors

SMALL = TableConfig(c=(0.1, 1.0), gamma=(0.1, 1.0), rounds=(20,), depth=(2,), folds=3)


def clouds(n: int = 90, k: int = 2, apart: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k clouds in five numbers, on scales that differ by a thousand; three rows a patient."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n // 3), 3)
    labels = patients % k
    rows = rng.normal(size=(n, 5)) + apart * np.eye(5)[labels]
    return rows * np.array([1, 1000, 1, 0.001, 1]), labels, patients


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("balance", ["none", "weights", "smote-enn"])
def test_classes_that_lie_apart_are_told(k: int, balance: str) -> None:
    rows, labels, groups = clouds(k=k, apart=3.0)
    table = TableClassifier(SMALL.model_copy(update={"balance": balance}))
    chosen = table.fit(rows, labels, groups, 0)
    new, truth, _ = clouds(k=k, apart=3.0, seed=1)
    p = table.probabilities(new)
    assert p.shape == (90, k) and np.allclose(p.sum(1), 1) and (p >= 0).all()
    assert (p.argmax(1) == truth).mean() > 0.9 and chosen["svm"]["auc"] > 0.9 and chosen["trees"]["auc"] > 0.9


def test_the_machine_is_scikit_learns() -> None:
    rows, labels, groups = clouds(apart=1.0)
    table = TableClassifier(SMALL.model_copy(update={"trees": False, "balance": "none", "c": (1.0,), "gamma": (0.7,)}))
    table.fit(rows, labels, groups, 0)
    z = (rows - rows.mean(0)) / rows.std(0)
    peer = SVC(C=1.0, gamma=0.7 / 5).fit(z, labels)
    mine = np.exp(-0.7 * ((z[:, None] - table.support.numpy()) ** 2).sum(2) / 5) @ table.weights.numpy().T + table.offset.numpy()
    assert np.allclose(mine[:, 1], peer.decision_function(z), atol=1e-6) and np.allclose(mine[:, 0], -mine[:, 1])
    order = np.argsort(mine[:, 1])
    assert (np.diff(table.probabilities(rows)[order, 1]) >= -1e-12).all()  # a larger decision is never less probable


def test_more_classes_are_each_against_the_rest() -> None:
    rows, labels, _ = clouds(k=3)
    z = (rows - rows.mean(0)) / rows.std(0)
    kernel = np.exp(-0.2 * ((z[:, None] - z) ** 2).sum(2))
    weights, offset = _solve(kernel, labels, 3, 1.0, "none")
    for j in range(3):
        peer = SVC(C=1.0, gamma=0.2).fit(z, labels == j)
        assert np.allclose(kernel @ weights[j] + offset[j], peer.decision_function(z), atol=1e-6)


def test_what_was_learnt_is_kept_and_same_seed_same_answers(tmp_path: Path) -> None:
    rows, labels, groups = clouds(k=3)
    first, second = BlockVote(("a", "b"), SMALL), BlockVote(("a", "b"), SMALL)
    blocks = {"a": rows, "b": rows[:, :2]}
    first.fit(blocks, labels, groups, 3)
    second.fit(blocks, labels, groups, 3)
    assert np.array_equal(first.probabilities(blocks), second.probabilities(blocks))
    save_tensors(tmp_path / "w.safetensors", first.state_dict())
    third = BlockVote(("a", "b"), SMALL)
    load_into(third, tmp_path / "w.safetensors")
    assert np.array_equal(first.probabilities(blocks), third.probabilities(blocks))


def test_hard_votes_are_shares_of_the_voters() -> None:
    rows, labels, groups = clouds()
    table = TableClassifier(SMALL.model_copy(update={"vote": "hard"}))
    table.fit(rows, labels, groups, 0)
    assert set(np.unique(table.probabilities(rows))) <= {0.0, 0.5, 1.0}


def test_the_best_voter_is_the_one_that_was_better_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(160) % 2
    noise = rng.normal(size=(160, 40))
    flat = noise.copy()
    flat[:, 0] = rng.normal(size=160) * 0.01 + y + 100 * (rng.random(160) < 0.05)  # a threshold of one column, far values hide it from a kernel
    round_ = noise[:, :2] * 0.3
    angle = 2 * np.pi * rng.random(160)
    round_ += np.where(y == 1, 2.0, 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)  # a ring around a disc
    for rows, best in ((flat, "trees"), (round_, "svm")):
        table = TableClassifier(SMALL.model_copy(update={"vote": "best", "depth": (1,)}))
        chosen = table.fit(rows, y, np.arange(160), 0)
        assert chosen["asked"] == [best] and chosen[best]["auc"] == max(chosen["svm"]["auc"], chosen["trees"]["auc"])
        alone = TableClassifier(SMALL.model_copy(update={"depth": (1,), "trees": best == "trees", "svm": best == "svm"}))
        alone.fit(rows, y, np.arange(160), 0)
        assert np.array_equal(table.probabilities(rows), alone.probabilities(rows))
        assert (len(table.trees) > 0) == (best == "trees") and (table.support.numel() > 0) == (best == "svm")


def out_of_fold(config: TableConfig, rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The probabilities of each row by a classifier that saw none of its group, (n, k)."""
    answers = np.zeros((len(rows), int(labels.max()) + 1))
    for train, test in grouped_folds(labels, groups, folds, seed):
        classifier = TableClassifier(config)
        classifier.fit(rows[train], labels[train], groups[train], seed)
        answers[test] = classifier.probabilities(rows[test])
    return answers


def test_labels_without_meaning_are_not_learnt() -> None:
    """Out of fold, labels drawn by patient say nothing; a leak across patients would lift this far above a half."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    rows = rng.normal(size=(40, 6))[groups] + 0.01 * rng.normal(size=(200, 6))  # five near twins a patient
    labels = rng.permutation(np.arange(40) % 2)[groups]
    p = out_of_fold(SMALL, rows, labels, groups, 4, 0)
    assert 0.2 < roc_auc_score(labels, p[:, 1]) < 0.75
    leaky = out_of_fold(SMALL, rows, labels, np.arange(200), 4, 0)
    assert roc_auc_score(labels, leaky[:, 1]) > 0.9  # what it would look like


def test_folds_keep_patients_whole_and_classes_present() -> None:
    _, labels, groups = clouds(k=3)
    seen = []
    for train, test in grouped_folds(labels, groups, 5, 0):
        assert not set(groups[train]) & set(groups[test]) and set(labels[train]) == {0, 1, 2}
        seen += test.tolist()
    assert sorted(seen) == list(range(90))
    few = np.array([0, 0, 1, 1]), np.array(["a", "b", "c", "d"])
    assert len(list(grouped_folds(*few, 5, 0))) == 2  # as many as the rarest class has patients


def test_what_cannot_be_learnt_is_said() -> None:
    rows, labels, groups = clouds()
    for bad, said in (
        ((rows, np.zeros(90, int), groups), "at least two classes"),
        ((np.where(np.arange(90)[:, None] == 4, np.nan, rows), labels, groups), r"row 4"),
        ((rows, labels, np.where(labels == 0, -1, groups)), "one patient only"),
    ):
        with pytest.raises(InputError, match=said):
            TableClassifier(SMALL).fit(*bad, 0)
    with pytest.raises(InputError, match="svm or trees"):
        TableClassifier(TableConfig(svm=False, trees=False))
