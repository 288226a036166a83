"""Whether two classifiers of the same cases differ: by their areas, by how often they are right; many comparisons at once.

Areas: DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837), with the sums over patients of Obuchowski 1997 (Biometrics 53:567), which are DeLong's
where each patient has one case. Accuracy: McNemar 1947, exact. Several comparisons: Holm 1979. Scores (n,), is_class (n,) bool, groups (n,) patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

Scores = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True)
class AreaTest:
    """difference: area of b less that of a; se: its standard error; p: two-sided, nan where the error is 0 and the areas differ or nothing can be said."""

    difference: float
    se: float
    p: float


def area_test(a: Scores, b: Scores, is_class: Truth, groups: NDArray) -> AreaTest:
    """Two scores of the same cases. Raises InputError where one side is empty.

    >>> area_test(np.array([0.9, 0.8, 0.3, 0.2]), np.array([0.9, 0.8, 0.3, 0.2]), np.array([True, True, False, False]), np.arange(4)).p
    1.0
    """
    if not is_class.any() or is_class.all():
        raise InputError(f"areas are compared where both sides have cases; here {int(is_class.sum())} of {len(is_class)} are of the class")
    (first_yes, first_no), (second_yes, second_no) = _components(a, is_class), _components(b, is_class)
    difference = float(second_yes.mean() - first_yes.mean())
    yes, no = second_yes - first_yes - difference, second_no - first_no - difference  # each case's part in the difference, centred
    names, which = np.unique(groups, return_inverse=True)
    of_yes, of_no = which[is_class], which[~is_class]
    sums_yes, sums_no = np.bincount(of_yes, yes, len(names)), np.bincount(of_no, no, len(names))
    m, n, with_yes, with_no, both = len(yes), len(no), len(np.unique(of_yes)), len(np.unique(of_no)), len(names)
    if with_yes < 2 or with_no < 2:
        return AreaTest(difference, float("nan"), float("nan"))
    variance = with_yes / (with_yes - 1) * (sums_yes**2).sum() / m**2  # S10 / m
    variance += with_no / (with_no - 1) * (sums_no**2).sum() / n**2  # S01 / n
    variance += 2 * both / (both - 1) * (sums_yes * sums_no).sum() / (m * n)  # 2 S11 / (m n): patients with cases on both sides
    se = float(np.sqrt(max(variance, 0.0)))
    return AreaTest(difference, se, _two_sided(difference, se))


def right_test(a: NDArray[np.bool_], b: NDArray[np.bool_], groups: NDArray) -> tuple[int, int, float]:
    """(patients on whom a is right more often than b, those on whom b is, two-sided p) of answers that are right or not.

    The exact binomial test of the patients on whom they differ: McNemar's where each patient has one case. A patient with many cases counts once.

    >>> right_test(np.array([1, 1, 1, 0], bool), np.array([0, 0, 1, 1], bool), np.arange(4))
    (2, 1, 1.0)
    """
    from scipy.stats import binomtest

    names, which = np.unique(groups, return_inverse=True)
    gain = np.bincount(which, b.astype(float) - a.astype(float), len(names))
    first, second = int((gain < 0).sum()), int((gain > 0).sum())
    return first, second, float(binomtest(first, first + second, 0.5).pvalue) if first + second else 1.0


def holm(p: list[float]) -> list[float]:
    """Each p raised for the number of comparisons (those that are nan count for none and stay so).

    >>> [round(v, 3) for v in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    raised = np.full(len(p), np.nan)
    known = np.array([i for i in range(len(p)) if np.isfinite(p[i])], np.int64)
    order = known[np.argsort(np.asarray(p, float)[known], kind="stable")]
    most = 0.0
    for rank, i in enumerate(order):
        most = max(most, min((len(order) - rank) * p[i], 1.0))
        raised[i] = most
    return [float(v) for v in raised]


def _components(score: Scores, is_class: Truth) -> tuple[Scores, Scores]:
    """The share of the other side that each case lies on the right side of, ties half: of the class (m,), of the rest (n,). Both have the area as mean."""
    yes, no = score[is_class], score[~is_class]
    ordered_yes, ordered_no = np.sort(yes), np.sort(no)
    below = (np.searchsorted(ordered_no, yes, "left") + np.searchsorted(ordered_no, yes, "right")) / (2 * len(no))
    above = 1 - (np.searchsorted(ordered_yes, no, "left") + np.searchsorted(ordered_yes, no, "right")) / (2 * len(yes))
    return below, above


def _two_sided(difference: float, se: float) -> float:
    from scipy.stats import norm

    if se < 1e-12:
        return 1.0 if abs(difference) < 1e-12 else float("nan")
    return float(2 * norm.sf(abs(difference) / se))
