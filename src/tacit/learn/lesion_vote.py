"""What a lesion network saw of a series → its class: a table of few meaningful numbers a series, and one a slice for the evidence along it.

The lesions of a series are counted as a radiologist would put them (`lesion_features.series_features`) and classified by SVM and XGBoost; no curve is stacked
on it. Labels teach here; what a lesion is was taught by drawings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.learn.case_answers import Kept, Rows
from tacit.learn.lesion_features import series_features
from tacit.learn.table_classifier import TableClassifier, TableConfig

BLOCK = "lesions"  # what `TwoLevel.kept` calls the features of slices


class LesionVote(nn.Module):
    """answers(case) → (k,) and (s, k) after `fit`. A case holds BLOCK (s, len(lesion_features.COLUMNS))."""

    def __init__(self, slices: TableConfig, series: TableConfig) -> None:
        super().__init__()
        self.slices, self.series = TableClassifier(slices), TableClassifier(series)

    def fit(self, cases: Sequence[Kept], picked: list[tuple[int, int]], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        """Learns from cases with their classes 0 … k − 1 and patients; picked: (case, slice) that teach the evidence. In place."""
        own = np.array([i for i, _ in picked])
        rows = np.stack([cases[i][BLOCK][s] for i, s in picked])
        series = np.stack([series_features(case[BLOCK]) for case in cases])
        return {"slices": self.slices.fit(rows, labels[own], groups[own], seed), "series": self.series.fit(series, labels, groups, seed)}

    def answers(self, case: Kept) -> tuple[Rows, Rows]:
        """(k,) of a case and (s, k) of its slices."""
        return self.series.probabilities(series_features(case[BLOCK])[None])[0], self.slices.probabilities(case[BLOCK])
