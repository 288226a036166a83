"""How strongly a fact goes with the side on which a case lies: area under the ROC curve for numbers, Cramér's V for words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.report.classes import one_area


def association(column: list[float | str | None], is_high: NDArray[np.bool_]) -> tuple[str, float]:
    """("auc", .5–1) of numbers whichever way they point, the absent left out, or ("cramers-v", 0–1) of words, the absent a word; nan where nothing can differ.

    >>> association([1.0, 2.0, 8.0, 9.0], np.array([False, False, True, True]))
    ('auc', 1.0)
    """
    known = np.array([isinstance(v, (int, float)) and bool(np.isfinite(v)) for v in column])
    if known.any() and all(v is None or isinstance(v, (int, float)) for v in column):
        numbers = np.array([float(v) for v, k in zip(column, known, strict=True) if k and v is not None])
        found = one_area(numbers, is_high[known]) if np.ptp(numbers) > 0 else float("nan")
        return "auc", max(found, 1 - found)
    return "cramers-v", cramers_v(["" if v is None else str(v) for v in column], is_high.tolist())


def cramers_v(a: list[str], b: list[bool] | list[str]) -> float:
    """√(χ² / (n · (least number of rows or columns − 1))), Cramér 1946 chapter 21: 0 where they have nothing to do with each other, 1 where one tells the other.

    nan where one of them never changes.
    """
    (kinds_a, at_a), (kinds_b, at_b) = (np.unique(x, return_inverse=True) for x in (a, b))
    if len(kinds_a) < 2 or len(kinds_b) < 2:
        return float("nan")
    counts = np.zeros((len(kinds_a), len(kinds_b)))
    np.add.at(counts, (at_a, at_b), 1)
    expected = counts.sum(1, keepdims=True) * counts.sum(0) / len(a)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi2 / (len(a) * (min(counts.shape) - 1))))
