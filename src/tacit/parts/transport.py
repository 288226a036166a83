"""Optimal transport between two weighted sets of samples with a cost matrix, exactly: the network simplex of POT (Bonneel et al. 2011; Flamary et al. 2021).

A solver that stopped before the optimum gives no number but an error: POT itself only warns.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import SolverError

Floats = NDArray[np.float64]
MOST_STEPS = 100_000_000  # pivots of the simplex: 4,000 samples a side take a few million
MOST_GAP = 1e-6  # of the cost, between primal and dual


@dataclass(frozen=True)
class Coupling:
    """cost: Σ plan · cost matrix · plan (n, m): sums to 1, rows to the first weights, columns to the second · potential (n,): the rows' dual."""

    cost: float
    plan: Floats
    potential: Floats


def exact(cost: Floats, a: Floats, b: Floats, *, most_steps: int = MOST_STEPS) -> Coupling:
    """The cheapest coupling of weights a (n,) and b (m,), each summing to 1, under cost (n, m).

    Raises SolverError where the simplex stopped early, and where its primal and dual values differ.
    """
    import ot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is an error below
        plan, log = ot.emd(a, b, cost, numItermax=most_steps, log=True)
    if log["warning"] is not None or log["result_code"] != 1:
        said = str(log["warning"] or f"result code {log['result_code']}").split(".")[0]
        raise SolverError(
            f"the network simplex stopped before the optimum on {len(a)} × {len(b)} samples (at most {most_steps} steps: {said}); no distance is given: "
            "take fewer samples (--samples), or --solver sinkhorn"
        )
    primal = float((plan * cost).sum())
    dual = float(log["u"] @ a + log["v"] @ b)
    if abs(primal - dual) > MOST_GAP * max(abs(primal), float(np.abs(cost).mean())):
        raise SolverError(f"the network simplex gave {primal:.9g} with a dual of {dual:.9g}: no optimum; take fewer samples (--samples), or --solver sinkhorn")
    return Coupling(primal, np.asarray(plan), np.asarray(log["u"]))
