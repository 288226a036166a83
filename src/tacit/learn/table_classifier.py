"""Rows of numbers → classes: a support vector machine and boosted trees, both found by grid search, and their vote. The second level of a series.

SVM: Cortes and Vapnik 1995 with an RBF kernel, one class against the rest, probabilities by Platt 1999 on decision values out of fold (scikit-learn).
Trees: Chen and Guestrin 2016 (XGBoost). SMOTE with edited nearest neighbours: Batista et al. 2004 (imbalanced-learn), inside the folds only.
Rows of one group (a patient) never lie on two sides of a fold. What was learnt is plain arrays and XGBoost's own JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from tacit.config import Config, Count, Positive
from tacit.errors import InputError
from tacit.prepare.balance import smote_enn
from tacit.report.classes import area

Rows = NDArray[np.float64]
LEAST = 1e-6  # SD below which a column is constant
BUFFERS = ("mean", "scale", "support", "weights", "offset", "gamma", "slope", "shift", "trees", "asked")
OF = {"svm": ("support", "weights", "offset", "gamma", "slope", "shift"), "trees": ("trees",)}  # what each voter holds


class TableConfig(Config):
    svm: bool = True
    trees: bool = True
    vote: Literal["soft", "hard", "best"] = "soft"  # mean of both probabilities · share of both that names a class · the one with the larger area out of fold
    c: tuple[Positive, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)  # of the SVM (the slides' range)
    gamma: tuple[Positive, ...] = (0.01, 0.1, 1.0, 10.0)  # of its kernel exp(−γ ‖a − b‖² / columns), columns standardised (the slides': .001–100)
    rounds: tuple[Count, ...] = (50, 200)  # trees
    depth: tuple[Count, ...] = (2, 4)  # of a tree
    rate: Positive = 0.1  # shrinkage of a tree
    folds: Annotated[int, Field(ge=2)] = 5  # of the grid search, by group
    balance: Literal["none", "weights", "smote-enn"] = "weights"  # what is done about rare classes


class TableClassifier(nn.Module):
    """probabilities(rows) → (n, k) after `fit`. Its buffers have the sizes of what was learnt."""

    Config = TableConfig

    def __init__(self, config: TableConfig | None = None) -> None:
        super().__init__()
        self.config = config or TableConfig()
        if not (self.config.svm or self.config.trees):
            raise InputError("a table classifier needs svm or trees, or both")
        for name in BUFFERS:
            self.register_buffer(name, torch.zeros(0, dtype=torch.uint8 if name in ("trees", "asked") else torch.float64))

    def make_room(self, shapes: dict[str, tuple[int, ...]]) -> None:
        """Buffers of the sizes that a file holds (see parts/weights.py)."""
        for name in BUFFERS:
            if name in shapes:
                setattr(self, name, torch.zeros(shapes[name], dtype=getattr(self, name).dtype))

    def fit(self, table: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        """Learns in place from a table (n, d), labels 0 … k − 1 (each present) and their groups; gives the chosen settings and their scores out of fold.

        Raises InputError for one class, numbers that are not finite, or too few groups for two folds.
        """
        rows, labels = np.asarray(table, np.float64), np.asarray(labels, np.int64)
        _check(rows, labels)
        parts = list(grouped_folds(labels, groups, self.config.folds, seed))
        self.mean, scale = torch.from_numpy(rows.mean(0)), rows.std(0)
        self.scale = torch.from_numpy(np.where(scale < LEAST, 1.0, scale))
        chosen: dict[str, Any] = {"folds": len(parts)}
        if self.config.svm:
            chosen["svm"] = self._fit_svm(self._standard(rows), labels, parts, seed)
        if self.config.trees:
            chosen["trees"] = self._fit_trees(rows, labels, parts, seed)
        names = [name for name in ("svm", "trees") if name in chosen]
        if self.config.vote == "best":
            names = [max(names, key=lambda name: chosen[name]["auc"])]  # of equals the SVM
        for left in [buffer for name, own in OF.items() if name not in names for buffer in own]:
            setattr(self, left, getattr(self, left).new_zeros(0))
        chosen["asked"] = names
        self.asked = torch.tensor(["svm" in names, "trees" in names], dtype=torch.uint8)
        return chosen

    def probabilities(self, table: NDArray[np.floating]) -> Rows:
        """table (n, d) → (n, k); each row sums to 1."""
        rows = np.asarray(table, np.float64)
        found = []
        if self.asked[0]:
            found.append(self._svm_probabilities(self._standard(rows)))
        if self.asked[1]:
            found.append(self._tree_probabilities(rows))
        if self.config.vote == "hard":
            found = [np.eye(p.shape[1])[p.argmax(1)] for p in found]
        return np.asarray(np.mean(found, axis=0))

    def _standard(self, rows: Rows) -> Rows:
        return (rows - self.mean.numpy()) / self.scale.numpy()

    def _fit_svm(self, z: Rows, labels: NDArray[np.int64], parts: list[tuple[NDArray, NDArray]], seed: int) -> dict[str, float]:
        from sklearn.linear_model import LogisticRegression

        c, k = self.config, int(labels.max()) + 1
        squared = _distances(z, z) / z.shape[1]
        best: tuple[float, float, float, Rows] | None = None
        for gamma in c.gamma:
            kernel = np.exp(-gamma * squared)
            for cost in c.c:
                decisions = np.zeros((len(z), k))
                for train, test in parts:
                    decisions[test] = _machines(kernel, z, labels, train, test, cost, gamma, c.balance, seed)
                score = area(decisions, labels)
                if best is None or score > best[0] + 1e-9:  # of equals the first: the smoothest kernel at the smallest cost
                    best = (score, cost, gamma, decisions)
        assert best is not None  # the grids are not empty
        score, cost, gamma, decisions = best
        support, target = _balanced(z, labels, c.balance, seed)
        weights, offset = _solve(np.exp(-gamma * _distances(support, support) / z.shape[1]), target, k, cost, c.balance)
        used = np.abs(weights).max(0) > 0
        platt = [LogisticRegression(C=1e6).fit(decisions[:, [j]], labels == j) for j in range(k)]
        self.support, self.weights, self.offset = (torch.from_numpy(np.ascontiguousarray(a)) for a in (support[used], weights[:, used], offset))
        self.gamma = torch.tensor([gamma], dtype=torch.float64)
        self.slope, self.shift = (
            torch.tensor([float(v) for v in values], dtype=torch.float64) for values in zip(*[(m.coef_[0, 0], m.intercept_[0]) for m in platt], strict=True)
        )
        return {"auc": round(score, 4), "c": cost, "gamma": gamma, "support": int(used.sum())}

    def _svm_probabilities(self, z: Rows) -> Rows:
        kernel = np.exp(-float(self.gamma[0]) * _distances(z, self.support.numpy()) / z.shape[1])
        decisions = kernel @ self.weights.numpy().T + self.offset.numpy()
        p = 1 / (1 + np.exp(-np.clip(decisions * self.slope.numpy() + self.shift.numpy(), -40, 40)))
        return np.asarray(p / p.sum(1, keepdims=True))

    def _fit_trees(self, rows: Rows, labels: NDArray[np.int64], parts: list[tuple[NDArray, NDArray]], seed: int) -> dict[str, float]:
        c = self.config
        best: tuple[float, int, int] | None = None
        for depth in c.depth:
            for rounds in c.rounds:
                decisions = np.zeros((len(rows), int(labels.max()) + 1))
                for train, test in parts:
                    x, y = _balanced(rows[train], labels[train], c.balance, seed)
                    decisions[test] = _boosted(x, y, int(labels.max()) + 1, rounds, depth, c, seed).predict(_matrix(rows[test]))
                score = area(decisions, labels)
                if best is None or score > best[0] + 1e-9:
                    best = (score, rounds, depth)
        assert best is not None  # the grids are not empty
        score, rounds, depth = best
        x, y = _balanced(rows, labels, c.balance, seed)
        booster = _boosted(x, y, int(labels.max()) + 1, rounds, depth, c, seed)
        self.trees = torch.frombuffer(bytearray(booster.save_raw("json")), dtype=torch.uint8)
        return {"auc": round(score, 4), "rounds": rounds, "depth": depth}

    def _tree_probabilities(self, rows: Rows) -> Rows:
        import xgboost

        booster = xgboost.Booster(params={"nthread": 1})
        booster.load_model(bytearray(self.trees.numpy().tobytes()))
        return np.asarray(booster.predict(_matrix(rows)), np.float64)


def grouped_folds(labels: NDArray[np.int64], groups: NDArray, folds: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(train, test) of each fold: groups whole, classes balanced, every class in every train part. Fewer folds where a class has fewer groups.

    Raises InputError where a class lies in a single group.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    least = min(len(np.unique(groups[labels == k])) for k in np.unique(labels))
    if least < 2:
        raise InputError("a class has one patient only, so nothing can be held out; at least two patients a class are expected")
    split = StratifiedGroupKFold(min(folds, least), shuffle=True, random_state=seed)
    found = list(split.split(np.zeros(len(labels)), labels, groups))
    whole = [(train, test) for train, test in found if len(np.unique(labels[train])) == len(np.unique(labels))]
    if len(whole) < len(found):
        raise InputError(f"{len(found)} folds by patient leave one without a whole class to learn from; give more patients or fewer folds")
    yield from whole


def _check(rows: Rows, labels: NDArray[np.int64]) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise InputError(f"{len(bad)} of {len(rows)} rows hold numbers that are not finite (the first: row {bad[0]})")
    counts = np.bincount(labels)
    if len(counts) < 2 or counts.min() == 0:
        raise InputError(f"at least two classes are expected, each with a row; the counts are {counts.tolist()}")


def _distances(a: Rows, b: Rows) -> Rows:
    return np.maximum((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1), 0)


def _balanced(rows: Rows, labels: NDArray[np.int64], how: str, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """With smote-enn as many rows of each class, drawn between neighbours, without those that their neighbours contradict; else as they are."""
    if how != "smote-enn":
        return rows, labels
    least = int(np.bincount(labels).min())
    if least < 2:
        return rows, labels
    try:
        x, y = smote_enn(rows, labels, seed=seed, neighbours=min(5, least - 1))
    except InputError:  # so mixed that a class would be removed whole
        return rows, labels
    return np.asarray(x, np.float64), np.asarray(y, np.int64)


def _machines(kernel: Rows, z: Rows, labels: NDArray[np.int64], train: NDArray, test: NDArray, cost: float, gamma: float, balance: str, seed: int) -> Rows:
    """Decision values of the test rows, (n, k), by machines that saw the train rows."""
    k = int(labels.max()) + 1
    if balance != "smote-enn":
        weights, offset = _solve(kernel[np.ix_(train, train)], labels[train], k, cost, balance)
        return np.asarray(kernel[np.ix_(test, train)] @ weights.T + offset)
    x, y = _balanced(z[train], labels[train], balance, seed)
    weights, offset = _solve(np.exp(-gamma * _distances(x, x) / z.shape[1]), y, k, cost, balance)
    return np.asarray(np.exp(-gamma * _distances(z[test], x) / z.shape[1]) @ weights.T + offset)


def _solve(kernel: Rows, labels: NDArray[np.int64], k: int, cost: float, balance: str) -> tuple[Rows, Rows]:
    """Weights (k, n) and offsets (k,) of the machines of each class against the rest; two classes share one."""
    from sklearn.svm import SVC

    weights, offset = np.zeros((k, len(labels))), np.zeros(k)
    for j in [1] if k == 2 else range(k):
        machine = SVC(C=cost, kernel="precomputed", class_weight="balanced" if balance == "weights" else None).fit(kernel, labels == j)
        weights[j, machine.support_], offset[j] = machine.dual_coef_[0], machine.intercept_[0]
    if k == 2:
        weights[0], offset[0] = -weights[1], -offset[1]
    return weights, offset


def _boosted(rows: Rows, labels: NDArray[np.int64], k: int, rounds: int, depth: int, c: TableConfig, seed: int) -> Any:
    import xgboost

    counts = np.bincount(labels, minlength=k)
    weights = (len(labels) / (k * np.maximum(counts, 1)))[labels] if c.balance == "weights" else np.ones(len(labels))
    settings = {
        "objective": "multi:softprob",
        "num_class": k,
        "max_depth": depth,
        "eta": c.rate,
        "seed": seed,
        "nthread": 1,
        "tree_method": "hist",
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "verbosity": 0,
    }
    return xgboost.train(settings, xgboost.DMatrix(rows, label=labels, weight=weights, nthread=1), num_boost_round=rounds)


def _matrix(rows: Rows) -> Any:
    import xgboost

    return xgboost.DMatrix(rows, nthread=1)
