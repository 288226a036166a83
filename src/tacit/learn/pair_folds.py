"""Splitting pairs so that nothing leaks: no image, and no patient where they are known, is on both sides.

A pair belongs to two groups (its images, or their patients), so groups are dealt into folds and each block of two folds is held out in turn:
its pairs are those between the two folds, and only pairs that touch neither fold may teach. Every pair is held out exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Chosen = NDArray[np.int64]  # indices of pairs


def blocks(group_a: NDArray[np.int64], group_b: NDArray[np.int64], folds: int, rng: np.random.Generator) -> Iterator[tuple[Chosen, Chosen]]:
    """(teaching, held out) for every block that holds pairs. group_a, group_b: (m,), the groups of each pair's two images."""
    groups, position = np.unique(np.r_[group_a, group_b], return_inverse=True)
    fold = rng.permutation(np.arange(len(groups)) % max(min(folds, len(groups)), 1))
    a, b = fold[position[: len(group_a)]], fold[position[len(group_a) :]]
    low, high = np.minimum(a, b), np.maximum(a, b)
    for one, other in sorted(set(zip(low.tolist(), high.tolist(), strict=True))):
        held_out = (low == one) & (high == other)
        touched = (a == one) | (a == other) | (b == one) | (b == other)
        yield np.flatnonzero(~touched), np.flatnonzero(held_out)


def draw_weights(group_a: NDArray[np.int64], group_b: NDArray[np.int64], draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Bootstrap over groups: how often each pair counts, (m,), when as many groups are drawn with replacement as there are."""
    groups, position = np.unique(np.r_[group_a, group_b], return_inverse=True)
    a, b = position[: len(group_a)], position[len(group_a) :]
    for _ in range(draws):
        times = np.bincount(rng.integers(0, len(groups), len(groups)), minlength=len(groups)).astype(np.float64)
        yield np.where(a == b, times[a], times[a] * times[b])
