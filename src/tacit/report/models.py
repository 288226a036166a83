"""Several classifiers of the same cases side by side: each with its figures, its gain over the first one, and tests of that gain; votes of all as further ones.

Answers p (n, k) of each by name, labels (n,) in 0 … k − 1, patients (n,). All draws of the bootstrap are of patients and the same for all, so that gains are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.report.classes import Labels, Rows, area, draws_of, figures, interval_of, macro_f1
from tacit.report.paired_tests import area_test, holm, right_test

SOFT, HARD = "soft vote", "hard vote"
SMALL = 1e-9  # what decides between classes with equally many votes, too small to change a vote


def with_votes(models: dict[str, Rows]) -> dict[str, Rows]:
    """The models, and their mean (soft) and majority (hard); of classes with equally many votes the one with the larger mean is named.

    >>> with_votes({"a": np.array([[0.9, 0.1]]), "b": np.array([[0.4, 0.6]])})["soft vote"].round(2).tolist()
    [[0.65, 0.35]]
    """
    each = np.stack(list(models.values()))  # (models, n, k)
    mean = each.mean(0)
    votes = np.eye(each.shape[2])[each.argmax(2)].mean(0)
    tied = (votes == votes.max(1, keepdims=True)) & ((votes == votes.max(1, keepdims=True)).sum(1, keepdims=True) > 1)
    return models | {SOFT: mean, HARD: votes + np.where(tied, SMALL * mean, 0.0)}


def beside(models: dict[str, Rows], labels: Labels, classes: tuple[str, ...], groups: NDArray, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(name → figures as report.classes.figures gives them, with f1_interval in each class's row; the gains of each over the first model).

    A gain: model, accuracy, auc, macro_f1 and <name>_interval of each; delong_p (None for more than two classes, and for the hard vote, whose few steps rank cases poorly whatever the runs are worth), mcnemar_p; both with _holm over all gains.
    """
    draws = draws_of(groups, seed)
    measures: dict[str, Callable[[Rows, Labels], float]] = {"accuracy": lambda q, y: float((q.argmax(1) == y).mean()), "auc": area, "macro_f1": macro_f1}
    drawn = {name: {m: np.array([f(p[d], labels[d]) for d in draws]) for m, f in measures.items()} for name, p in models.items()}
    found = {name: figures(p, labels, classes, groups, seed) for name, p in models.items()}
    for name, p in models.items():
        for j, row in enumerate(found[name]["classes"]):
            row["f1_interval"] = interval_of([_f1(p[d].argmax(1) == j, labels[d] == j) for d in draws])
    first, *others = models
    gains = []
    for name in others:
        gain: dict[str, Any] = {"model": name, "first": first}
        for m, f in measures.items():
            gain[m] = round(f(models[name], labels) - f(models[first], labels), 4)
            gain[f"{m}_interval"] = interval_of(list(drawn[name][m] - drawn[first][m]))
        gain["delong_p"] = area_test(models[first][:, 1], models[name][:, 1], labels == 1, groups).p if len(classes) == 2 and name != HARD else float("nan")
        right = [models[n].argmax(1) == labels for n in (first, name)]
        gain["patients_first_better"], gain["patients_this_better"], gain["mcnemar_p"] = right_test(right[0], right[1], groups)
        gains.append(gain)
    for test in ("delong_p", "mcnemar_p"):
        for gain, raised in zip(gains, holm([g[test] for g in gains]), strict=True):
            gain[f"{test}_holm"] = raised if np.isfinite(raised) else None
            gain[test] = gain[test] if np.isfinite(gain[test]) else None
    return found, gains


def _f1(said: NDArray[np.bool_], is_class: NDArray[np.bool_]) -> float:
    """nan where the class neither occurs nor is named."""
    both = float(said.sum() + is_class.sum())
    return 2 * float((said & is_class).sum()) / both if both else float("nan")
