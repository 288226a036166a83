"""Several witnesses → one answer: their log-probabilities weighted and added, the weights learnt on answers out of fold.

The logarithmic opinion pool (Genest and Zidek 1986, doi 10.1214/ss/1177013825, section 3); with one witness it is the temperature of
`learn/temperature.py`, whose weight is 1/T. A witness that knows nothing gets a weight near 0, so that it costs little to ask it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.learn.temperature import TINY, fit_temperature, negative_log_likelihood

Rows = NDArray[np.float64]
MOST = 20.0  # the largest weight
HELD = 0.01  # a weight's square costs so many nats a case: without it a witness without fault is believed without limit


def fit_pool(p: NDArray[np.float64], labels: NDArray[np.int64]) -> Rows:
    """The weights (b,) from 0 at which labels are likeliest under the pool of b witnesses' p (b, n, k)."""
    from scipy.optimize import minimize

    if len(p) == 1:
        return np.array([1 / fit_temperature(p[0], labels)])
    cost = lambda w: negative_log_likelihood(pooled(p, np.asarray(w)), labels) + HELD * float(np.mean(np.square(w)))
    starts = [np.full(len(p), 1 / len(p)), *np.eye(len(p))]
    found = [minimize(cost, start, method="L-BFGS-B", bounds=[(0.0, MOST)] * len(p)) for start in starts]
    return np.asarray(min(found, key=lambda f: float(f.fun)).x)


def pooled(p: NDArray[np.float64], weights: Rows) -> Rows:
    """p (b, n, k) of b witnesses with weights (b,) → (n, k); each row sums to 1."""
    logits = np.tensordot(weights, np.log(np.clip(p, TINY, 1.0)), 1)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def pooled_out_of_fold(p: NDArray[np.float64], labels: NDArray[np.int64], parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> Rows:
    """The pool (n, k) in which no case's own answer took part in the weights that it got. parts: (others, own) of each fold; p as in `fit_pool`, out of fold.

    The others' answers are those of members that its label helped to teach, as in any stacking.
    """
    found = np.zeros(p.shape[1:])
    for others, own in parts:
        found[own] = pooled(p[:, own], fit_pool(p[:, others], labels[others]))
    return found
