"""Clusters named by the truth: what an oracle makes of them, so that a rival without names can stand in a table. No figure made so is label-free.

A table (k, c) counts the pixels of each cluster in each class; column 0 is the background.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Names = NDArray[np.int64]


def hungarian(table: NDArray[np.int64]) -> Names:
    """The class of each cluster, (k,): each class has one cluster at most, and as many pixels as can be are right (Kuhn 1955). Clusters left over are background.

    >>> hungarian(np.array([[5, 1], [9, 8]]))  # the second cluster is worth more as the class than as background
    array([0, 1])
    """
    from scipy.optimize import linear_sum_assignment

    named = np.zeros(len(table), np.int64)
    rows, columns = linear_sum_assignment(table, maximize=True)
    named[rows] = columns
    return named


def majority(table: NDArray[np.int64]) -> Names:
    """The class that most pixels of each cluster have, (k,); of equals the first.

    >>> majority(np.array([[5, 1], [9, 8], [2, 3]]))
    array([0, 0, 1])
    """
    return np.asarray(table.argmax(1), np.int64)


def named(table: NDArray[np.int64]) -> tuple[Names, str]:
    """Hungarian where there are no more clusters than classes, else the majority; and how, in words."""
    if len(table) <= table.shape[1]:
        return hungarian(table), "clusters named by the truth (Hungarian)"
    return majority(table), "clusters named by the truth (majority)"
