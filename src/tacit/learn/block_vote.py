"""Blocks of numbers → classes: a classifier of its own for each block, and the mean of their probabilities.

Ours, after measuring: binary patterns and patch words of a slice (learn/slice_texture.py) err on different slices, so that their mean beats one
classifier of both. Labels teach here; the blocks were learnt without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.learn.table_classifier import TableClassifier, TableConfig

Rows = NDArray[np.float64]


class BlockVote(nn.Module):
    """probabilities(blocks) → (n, k) after `fit`; blocks: name → (n, d), the same names always."""

    def __init__(self, names: tuple[str, ...], config: TableConfig) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: TableClassifier(config) for name in names})

    def fit(self, blocks: Mapping[str, NDArray[np.floating]], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        """Learns from rows with labels 0 … k − 1 and groups; gives what each grid search chose. In place. Raises InputError as TableClassifier."""
        chosen: dict[str, Any] = {}
        for name, table in self.tables.items():
            assert isinstance(table, TableClassifier)
            chosen[name] = table.fit(blocks[name], labels, groups, seed)
        return chosen

    def probabilities(self, blocks: Mapping[str, NDArray[np.floating]]) -> Rows:
        """(n, k); each row sums to 1."""
        found = []
        for name, table in self.tables.items():
            assert isinstance(table, TableClassifier)
            found.append(table.probabilities(blocks[name]))
        return np.asarray(np.mean(found, axis=0))
