"""How well a distance tells pairs of one kind from pairs of two: the accuracy of the best threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError


def best_threshold(distance: NDArray, same: NDArray) -> tuple[float, float]:
    """(accuracy, threshold) of the rule "distance below the threshold → same" that is right most often; of equals the smallest threshold.

    distance (n,), same (n,) 1 or 0. Chosen on the very pairs that it is scored on, so it is no estimate for others. Raises InputError.

    >>> best_threshold(np.array([0.1, 0.5, 0.4, 0.9]), np.array([1, 1, 0, 0]))
    (0.75, 0.25)
    """
    distance, same = np.asarray(distance, float), np.asarray(same).astype(bool)
    if distance.shape != same.shape or distance.ndim != 1 or not len(distance) or not np.isfinite(distance).all():
        raise InputError(f"pairs are scored by finite distances and labels of the same number; these are {distance.shape} and {same.shape}")
    order = np.argsort(distance, kind="stable")
    sorted_distance, sorted_same = distance[order], same[order]
    right = np.concatenate([[0], np.cumsum(sorted_same)]) + (~same).sum() - np.concatenate([[0], np.cumsum(~sorted_same)])  # with the k nearest called same
    possible = np.concatenate([[True], np.diff(sorted_distance) > 0, [True]])  # equal distances are on one side
    k = int(np.argmax(np.where(possible, right, -1)))
    padded = np.concatenate([[sorted_distance[0] - 1], sorted_distance, [sorted_distance[-1] + 1]])
    return float(right[k] / len(same)), float((padded[k] + padded[k + 1]) / 2)
