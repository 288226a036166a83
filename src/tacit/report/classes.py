"""What a classifier's answers are worth: precision, recall, F1 and support of each class, areas under the ROC curve, each with its interval over patients.

Answers p (n, k) and labels (n,) in 0 … k − 1. Intervals: 95%, patients drawn with replacement, so that many cases of one patient do not look like many patients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.report.pair_score import area as pair_area

DRAWS = 500
FEW = 20  # patients a class below which no claim is supported
TELLING = 0.6  # lower end of an area from which what is no disease (framing, files, the gate) is said to tell
Rows = NDArray[np.float64]
Labels = NDArray[np.int64]


def figures(p: Rows, labels: Labels, classes: tuple[str, ...], groups: NDArray, seed: int = 0) -> dict[str, Any]:
    """{"accuracy", "auc", "macro_f1", "interval": {…}, "classes": [{class, precision, recall, f1, support, auc}], "confusion", "cases", "patients"}."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    said = p.argmax(1)
    whole: dict[str, Callable[[Rows, Labels], float]] = {"accuracy": lambda q, y: float((q.argmax(1) == y).mean()), "auc": area, "macro_f1": macro_f1}
    confusion = confusion_matrix(labels, said, labels=range(len(classes)))
    each = precision_recall_fscore_support(labels, said, labels=range(len(classes)), zero_division=0)
    rows = [
        {
            "class": name,
            "precision": round(float(p_), 4),
            "recall": round(float(r), 4),
            "f1": round(float(f), 4),
            "support": int(n),
            "auc": round(one_area(p[:, j], labels == j), 4),
        }
        for j, (name, p_, r, f, n) in enumerate(zip(classes, *each, strict=True))
    ]
    draws = draws_of(groups, seed)
    interval = {name: interval_of([f(p[d], labels[d]) for d in draws]) for name, f in whole.items()}
    found: dict[str, Any] = {name: round(f(p, labels), 4) for name, f in whole.items()}
    return found | {
        "interval": interval,
        "classes": rows,
        "confusion": confusion.tolist(),
        "cases": len(labels),
        "patients": len(np.unique(groups)),
    }


def area(p: Rows, labels: Labels) -> float:
    """Mean over classes of the area under the ROC curve, each against the rest; nan where no class has both sides."""
    areas = [one_area(p[:, j], labels == j) for j in range(p.shape[1])]
    kept = [a for a in areas if np.isfinite(a)]
    return float(np.mean(kept)) if kept else float("nan")


def one_area(score: NDArray[np.float64], is_class: NDArray[np.bool_]) -> float:
    """The probability that a case of the class scores above another, ties half; nan with one side empty."""
    if not is_class.any() or is_class.all():
        return float("nan")
    return pair_area(-score, is_class)


def macro_f1(p: Rows, labels: Labels) -> float:
    """Mean over the classes that occur of F1."""
    said, found = p.argmax(1), []
    for j in np.unique(labels):
        right = float(((said == j) & (labels == j)).sum())
        found.append(2 * right / max(float((said == j).sum() + (labels == j).sum()), 1.0))
    return float(np.mean(found))


def draws_of(groups: NDArray, seed: int, count: int = DRAWS) -> list[NDArray[np.int64]]:
    """Rows of `count` draws of the groups with replacement."""
    rng, (names, which) = np.random.default_rng([seed, 103]), np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(which == g) for g in range(len(names))]
    return [np.concatenate([members[g] for g in rng.integers(0, len(names), len(names))]) for _ in range(count)]


def interval_of(values: list[float]) -> list[float]:
    """The middle 95% of draws, those without a value left out."""
    kept = [v for v in values if np.isfinite(v)]
    return [round(float(q), 4) for q in np.quantile(kept, [0.025, 0.975])] if kept else [float("nan")] * 2
