"""A series → its class by what a slice classifier says of each of its slices: the second of two levels.

The slides' way: the slice probabilities of a series, in order along z, are resampled to one length by an interpolation (nearest, linear, area, cubic) and
an SVM and XGBoost learn them by grid search, with a vote. The probabilities must be out of fold: of a classifier that saw no slice of the patient.
Ours beside it: mean, largest and sorted upper quarter of each class, which do not depend on where the lesion lies.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from tacit.config import Config
from tacit.errors import InputError
from tacit.learn.table_classifier import TableClassifier, TableConfig
from tacit.prepare.resample import How, slice_weights

Rows = NDArray[np.float64]


class SecondLevelConfig(Config):
    length: Annotated[int, Field(ge=2)] = 16  # slices that every series is brought to
    how: How = "area"  # interpolation: nearest, linear, area or cubic
    summary: bool = True  # mean, largest and upper quarter beside the curve; false = the slides'
    table: TableConfig = TableConfig()


class SecondLevel(nn.Module):
    """probabilities(series) → (n, k) after `fit`; a series is an array (slices, k) in 0–1, of any length from 1."""

    Config = SecondLevelConfig

    def __init__(self, config: SecondLevelConfig | None = None) -> None:
        super().__init__()
        self.config = config or SecondLevelConfig()
        self.table = TableClassifier(self.config.table)

    def fit(self, series: list[Rows], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        """Learns from out-of-fold slice probabilities, labels 0 … k − 1 and patients. In place; gives what the grid search chose."""
        return self.table.fit(self.rows(series), labels, groups, seed)

    def probabilities(self, series: list[Rows]) -> Rows:
        """(n, k); each row sums to 1."""
        return self.table.probabilities(self.rows(series))

    def rows(self, series: list[Rows]) -> Rows:
        """Each series as numbers, (n, d). Raises InputError for a series without slices."""
        return np.stack([self._row(np.asarray(s, np.float64)) for s in series])

    def _row(self, curve: Rows) -> Rows:
        if curve.ndim != 2 or not len(curve):
            raise InputError(f"a series of slice probabilities has the shape (slices, classes); it got {curve.shape}")
        parts = [resampled(curve, self.config.length, self.config.how).ravel()]
        if self.config.summary:
            upper = np.sort(curve, axis=0)[-max(len(curve) // 4, 1) :]
            parts += [curve.mean(0), curve.max(0), upper.mean(0)]
        return np.concatenate(parts)


def resampled(curve: Rows, length: int, how: How) -> Rows:
    """A curve (s, k) along a series brought to (length, k); a single slice is repeated."""
    if len(curve) == 1:
        return np.repeat(curve, length, axis=0)
    return np.stack([sum(w * curve[i] for i, w in zip(places, weights, strict=True)) for places, weights in slice_weights(len(curve), length, how)])
