"""Principal components of many rows, from blocks: memory is width × width, whatever the number of rows.

Pearson 1901; Hotelling 1933. The components are the right singular vectors of the centred rows, found as eigenvectors of their scatter
matrix in fp64. Signs are scikit-learn's: the largest number of each component is positive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Blocks = Callable[[], Iterable[NDArray]]  # gives the same blocks of rows (m, d) each time it is called


@dataclass(frozen=True)
class Components:
    """axes (c, d), unit length, strongest first · mean (d,) · share (c,): of all variance, 0–1."""

    axes: NDArray[np.float64]
    mean: NDArray[np.float64]
    share: NDArray[np.float64]

    def places(self, rows: NDArray) -> NDArray[np.float64]:
        """Where rows (m, d) lie on the axes, (m, c)."""
        return np.asarray((rows.astype(np.float64) - self.mean) @ self.axes.T)


def principal_components(blocks: Blocks, count: int) -> Components:
    """The `count` directions of largest variance; fewer where the rows have fewer numbers. Rows that are all equal have share 0."""
    n, total = 0, None
    for block in blocks():
        total = block.sum(0, dtype=np.float64) + (0.0 if total is None else total)
        n += len(block)
    if total is None or n == 0:
        raise ValueError("principal components of no rows")
    mean = total / n
    scatter = np.zeros((len(mean), len(mean)))
    for block in blocks():
        centred = block.astype(np.float64) - mean
        scatter += centred.T @ centred
    values, vectors = np.linalg.eigh(scatter)
    strongest = np.argsort(values)[::-1][:count]
    axes = vectors[:, strongest].T
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])[:, None]
    values = np.maximum(values, 0)
    return Components(axes, mean, values[strongest] / (values.sum() or 1.0))
