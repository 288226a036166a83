"""Optimal transport between two weighted sets of samples with a cost matrix, exactly: the network simplex of POT (Bonneel et al. 2011; Flamary et al. 2021).

A solver that stopped before the optimum gives no number but an error: POT itself only warns. Large problems are solved on a shortlist of pairs first, those that
the dual of a part of the samples says are cheap. Their dual is then held against every pair; pairs that it violates join the list, until none does: the answer
is the whole problem's optimum then, by duality, not an approximation.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix

from tacit.errors import SolverError

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
MOST_STEPS = 100_000_000  # pivots of the simplex: 4,000 samples a side take a few million
MOST_GAP = 1e-6  # of the mean cost, between primal and dual
DENSE = 160_000  # pairs up to which all of them are solved at once
ASKED = 4  # one of so many samples is in the part whose dual makes the shortlist
EACH = 8  # pairs of a sample on the shortlist, about
OFF = 1e-11  # of the mean cost, by which a pair may violate the dual
NEARLY = 1e-2  # of the mean cost, by which a pair that joins the list may still cost too much
MOST_LISTS = 60
BLOCK = 64  # rows that are looked at together, so that they stay in the processor's cache


@dataclass(frozen=True)
class Coupling:
    """cost: Σ mass · cost of the pairs · rows, columns, mass (p,): the pairs that the coupling joins; mass sums to 1 · potential (n,): the rows' dual."""

    cost: float
    rows: Places
    columns: Places
    mass: Floats
    potential: Floats


def exact(cost: Floats, a: Floats, b: Floats, *, most_steps: int = MOST_STEPS) -> Coupling:
    """The cheapest coupling of weights a (n,) and b (m,), each summing to 1 and positive, under cost (n, m).

    Raises SolverError where the simplex stopped early, and where its primal and dual values differ.
    """
    scale = max(float(cost.mean()), 1e-300)
    if cost.size <= DENSE:
        return _solved(cost, a, b, scale, most_steps)
    listed = _shortlist(cost, a, b, most_steps)
    for _ in range(MOST_LISTS):
        if 4 * np.count_nonzero(listed) > cost.size:
            break  # so many ties that a list saves nothing
        places = np.flatnonzero(listed)
        rows, columns = np.divmod(places, len(b))
        values = cost.ravel()[places]
        values = np.where(values == 0, 1e-300, values)  # a pair that costs nothing is a pair
        found, v = _run(coo_matrix((values, (rows, columns)), shape=cost.shape), a, b, most_steps)
        if not _lengthened(listed, cost, found.potential, v, scale):
            joined = float(found.mass @ cost[found.rows, found.columns])
            return _checked(Coupling(joined, found.rows, found.columns, found.mass, found.potential), v, a, b, scale)
    return _solved(cost, a, b, scale, most_steps)


def _solved(cost: Floats, a: Floats, b: Floats, scale: float, most_steps: int) -> Coupling:
    found, v = _run(cost, a, b, most_steps)
    joined = float(found.mass @ cost[found.rows, found.columns])
    return _checked(Coupling(joined, found.rows, found.columns, found.mass, found.potential), v, a, b, scale)


def _run(cost: Any, a: Floats, b: Floats, most_steps: int) -> tuple[Coupling, Floats]:
    """The simplex on all pairs, or on those of a sparse matrix; and the columns' dual (m,)."""
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
    if hasattr(plan, "tocoo"):
        plan = plan.tocoo()
        rows, columns, mass = plan.row.astype(np.int64), plan.col.astype(np.int64), np.asarray(plan.data)
    else:
        rows, columns = np.nonzero(plan)
        mass = plan[rows, columns]
    return Coupling(0.0, rows, columns, mass, np.asarray(log["u"])), np.asarray(log["v"])


def _checked(found: Coupling, v: Floats, a: Floats, b: Floats, scale: float) -> Coupling:
    """The coupling, if it is one and its dual has its value."""
    dual = float(found.potential @ a + v @ b)
    missing = np.abs(np.bincount(found.rows, found.mass, len(a)) - a).sum() + np.abs(np.bincount(found.columns, found.mass, len(b)) - b).sum()
    if abs(found.cost - dual) > MOST_GAP * scale or missing > 1e-9:
        raise SolverError(
            f"the network simplex gave {found.cost:.9g} with a dual of {dual:.9g}, and {missing:.2g} of the mass is nowhere: no optimum; take fewer samples "
            "(--samples), or --solver sinkhorn"
        )
    return found


def _shortlist(cost: Floats, a: Floats, b: Floats, most_steps: int) -> NDArray[np.bool_]:
    """The pairs (n, m) that probably hold the optimum, and a staircase that holds some coupling in any case."""
    n, m = cost.shape
    rows, columns = np.arange(0, n, ASKED), np.arange(0, m, ASKED)
    part, _ = _run(np.ascontiguousarray(cost[::ASKED, ::ASKED]), a[rows] / a[rows].sum(), b[columns] / b[columns].sum(), most_steps)
    g = np.full(m, np.inf)
    for first in range(0, len(rows), BLOCK):
        some = slice(first, first + BLOCK)
        np.minimum(g, (cost[rows[some]] - part.potential[some, None]).min(0), out=g)
    listed, f = np.zeros((n, m), bool), np.empty(n, np.float32)
    for first in range(0, n, BLOCK):
        reduced = (cost[first : first + BLOCK] - g).astype(np.float32)
        f[first : first + BLOCK] = reduced.min(1)
        listed[first : first + BLOCK] = _least(reduced)
    for first in range(0, m, BLOCK):
        reduced = np.ascontiguousarray(cost[:, first : first + BLOCK].T, np.float32) - f
        listed[:, first : first + BLOCK] |= _least(reduced).T
    listed[_staircase(a, b)] = True
    return listed


def _least(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The EACH least of each row, and what equals the last of them."""
    each = min(EACH, values.shape[1]) - 1
    return values <= np.partition(values, each, axis=1)[:, each, None]


def _lengthened(listed: NDArray[np.bool_], cost: Floats, u: Floats, v: Floats, scale: float) -> bool:
    """Whether some pair costs less than the dual allows; then it, and those that nearly do, are listed too."""
    violated = False
    for first in range(0, len(cost), BLOCK):
        slack = cost[first : first + BLOCK] - v
        slack -= u[first : first + BLOCK, None]
        violated = violated or bool(slack.min() < -OFF * scale)
        listed[first : first + BLOCK] |= slack < NEARLY * scale
    return violated


def _staircase(a: Floats, b: Floats) -> tuple[Places, Places]:
    """The pairs of the coupling that fills both sides in their order (north-west corner)."""
    ends = np.sort(np.concatenate([a.cumsum(), b.cumsum()]))
    at = np.concatenate([[0.0], ends])
    middle = (at[1:] + at[:-1]) / 2
    rows = np.minimum(np.searchsorted(a.cumsum(), middle), len(a) - 1)
    columns = np.minimum(np.searchsorted(b.cumsum(), middle), len(b) - 1)
    return rows, columns
