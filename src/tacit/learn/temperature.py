"""Probabilities that mean what they say: one number divides the log-probabilities, learnt on answers out of fold.

"On Calibration of Modern Neural Networks", Guo et al. 2017, arXiv 1706.04599: temperature scaling (section 4.2), expected calibration error (section 2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
TINY = 1e-6  # probabilities below this are as good as 0
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are looked at
BINS = 10


def fit_temperature(p: Rows, labels: NDArray[np.int64]) -> float:
    """The temperature at which the mean log-likelihood of labels under p (n, k) is largest. Above 1: p was too sure."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda log_t: negative_log_likelihood(warmed(p, float(np.exp(log_t))), labels), bounds=np.log([LOWEST, HIGHEST]), method="bounded")
    return float(np.exp(found.x))


def warmed(p: Rows, temperature: float) -> Rows:
    """p (n, k) with its log-probabilities divided by the temperature; each row sums to 1. The order of the classes stays."""
    logits = np.log(np.clip(p, TINY, 1.0)) / temperature
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def negative_log_likelihood(p: Rows, labels: NDArray[np.int64]) -> float:
    """Mean of −log p of the true class, nats."""
    return float(-np.log(np.clip(p[np.arange(len(labels)), labels], TINY, 1.0)).mean())


def reliability(p: Rows, labels: NDArray[np.int64], bins: int = BINS) -> tuple[list[tuple[float, float, int]], float]:
    """(mean confidence, share that was right, count) of each bin that holds an answer, and the expected calibration error: confidence of the named class."""
    sure, right = p.max(1), p.argmax(1) == labels
    which = np.minimum((sure * bins).astype(int), bins - 1)
    rows = [(float(sure[which == b].mean()), float(right[which == b].mean()), int((which == b).sum())) for b in range(bins) if (which == b).any()]
    return rows, float(sum(n * abs(confidence - share) for confidence, share, n in rows) / max(len(labels), 1))
