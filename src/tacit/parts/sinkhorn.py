"""Entropic optimal transport in the log domain, block by block: 50,000 samples a side never make a matrix of 50,000².

OT_ε(α, β) = min ⟨P, C⟩ + ε KL(P ‖ α ⊗ β) (Cuturi 2013), taken as its dual value ⟨α, f⟩ + ⟨β, g⟩. What is given is the divergence
S_ε = OT_ε(α, β) − ½ OT_ε(α, α) − ½ OT_ε(β, β) (Feydy et al. 2019, arXiv 1810.08278): 0 for equal sets, and free of most of the entropy's bias.
C is the whole squared distance, not half of it; ε is in the cost's unit.

The cost is never stored: C = U Vᵀ with a few columns more than the features (`factors`), made anew for each block of rows. The rounds begin with the exact dual
of at most 1,024 samples a side, weighed so that every label has its share, extended to all samples by one soft minimum; each goes half as far again as
Sinkhorn's (over-relaxation, Thibault et al. 2017, arXiv 1711.01851). Without either, labels of unequal shares take thousands of rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import SolverError
from tacit.parts.transport import exact

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
CELLS = 1 << 24  # of the cost that are in memory at a time: 64 MB
BEGIN = 1024  # samples a side that a large problem begins with
TOLERANCE = 5e-3  # of all mass that may lie at the wrong samples; the value's error goes with its square
MOST_ROUNDS = 2000
RELAXED = 1.5


@dataclass(frozen=True)
class Factors:
    """The cost between two sets as left (n, r) @ right (m, r)ᵀ, fp32."""

    left: Singles
    right: Singles
    left_labels: NDArray[np.int64]
    right_labels: NDArray[np.int64]

    def part(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Factors:
        """The cost between some samples of each."""
        return Factors(self.left[rows], self.right[columns], self.left_labels[rows], self.right_labels[columns])

    @property
    def turned(self) -> Factors:
        """The same with the two sets changed."""
        return Factors(self.right, self.left, self.right_labels, self.left_labels)


def factors(x: Floats, y: NDArray[np.int64], x2: Floats, y2: NDArray[np.int64], labels: Floats, weights: tuple[float, float]) -> Factors:
    """λx ‖x − x′‖² + λy labels[y, y′] of features x (n, d), x2 (m, d), labels y (n,), y2 (m,) and label distances (k, k2). weights: λx, λy."""
    across, between = weights
    one, one2 = np.ones((len(x), 1)), np.ones((len(x2), 1))
    left = np.hstack([-2 * across * x, across * (x**2).sum(1, keepdims=True), one, between * labels[y]])
    right = np.hstack([x2, one2, across * (x2**2).sum(1, keepdims=True), np.eye(labels.shape[1])[y2]])
    return Factors(left.astype(np.float32), right.astype(np.float32), y, y2)


def entropic(c: Factors, epsilon: float, *, most_rounds: int = MOST_ROUNDS, tolerance: float = TOLERANCE) -> float:
    """OT_ε of equally weighted samples. Raises SolverError where the marginals are not met after `most_rounds`."""
    return float(sum(p.mean(dtype=np.float64) for p in _potentials(c, epsilon, most_rounds, tolerance)))


def entropic_self(c: Factors, epsilon: float, *, most_rounds: int = MOST_ROUNDS, tolerance: float = TOLERANCE) -> float:
    """OT_ε of a set with itself: one potential, met halfway each round (Feydy et al. 2019, section 3). Raises SolverError."""
    off = np.inf
    f: Singles = np.zeros(len(c.left), np.float32)
    for _ in range(most_rounds):
        wanted = softmin(c, f, epsilon)
        off = _off(f, wanted, epsilon)
        if off <= tolerance:
            return float(f.mean(dtype=np.float64) + wanted.mean(dtype=np.float64))
        f = np.asarray((f + wanted) / 2, np.float32)
    raise _stopped(len(f), len(f), epsilon, most_rounds, off)


def softmin(c: Factors, g: Singles, epsilon: float) -> Singles:
    """−ε log mean_j exp((g_j − C_ij) / ε) for every row i, (n,), stable however small ε is."""
    found = np.empty(len(c.left), np.float32)
    step = max(CELLS // max(len(g), 1), 1)
    for first in range(0, len(found), step):
        z = c.left[first : first + step] @ c.right.T
        np.subtract(g, z, out=z)
        z /= np.float32(epsilon)
        top = z.max(1, keepdims=True)
        z -= top
        np.exp(z, out=z)
        found[first : first + step] = -epsilon * (np.log(z.mean(1, dtype=np.float64)) + top[:, 0])
    return found


def mean_cost(c: Factors) -> float:
    """The mean of the cost over all pairs."""
    return float(c.left.mean(0, dtype=np.float64) @ c.right.mean(0, dtype=np.float64))


def _potentials(c: Factors, epsilon: float, most_rounds: int, tolerance: float) -> tuple[Singles, Singles]:
    """f (n,) and g (m,): f is the soft minimum of g, and the columns' marginals are met up to the tolerance."""
    g, off = _beginning(c, epsilon), np.inf
    f = softmin(c, g, epsilon)
    for _ in range(most_rounds):
        wanted = softmin(c.turned, f, epsilon)
        off = _off(g, wanted, epsilon)
        if off <= tolerance:
            return f, g
        g = wanted if off > 0.5 else g + np.float32(RELAXED) * (wanted - g)
        f = softmin(c, g, epsilon)
    raise _stopped(len(c.left), len(c.right), epsilon, most_rounds, off)


def _beginning(c: Factors, epsilon: float) -> Singles:
    """g (m,) from the exact dual of a part of the samples."""
    rows, columns = _spread(len(c.left)), _spread(len(c.right))
    small = c.part(rows, columns)
    a, b = _weights(c.left_labels, small.left_labels), _weights(c.right_labels, small.right_labels)
    u = exact(small.left.astype(np.float64) @ small.right.T.astype(np.float64), a, b).potential + epsilon * np.log(a * len(a))
    return softmin(Factors(c.right, small.left, c.right_labels, small.left_labels), u.astype(np.float32), epsilon)


def _weights(labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> Floats:
    """Weights (len(chosen),) by which each label has its share of all samples; a label of which none was chosen has none."""
    count = np.bincount(chosen, minlength=int(labels.max()) + 1)
    weight = (np.bincount(labels, minlength=len(count)) / np.maximum(count, 1))[chosen]
    return np.asarray(weight / weight.sum())


def _off(had: Singles, wanted: Singles, epsilon: float) -> float:
    """How much mass lies at the wrong samples: the L1 distance of a marginal to the one wanted."""
    with np.errstate(over="ignore"):
        return float(np.abs(np.exp((had.astype(np.float64) - wanted) / epsilon) - 1).mean())


def _stopped(n: int, m: int, epsilon: float, rounds: int, off: float) -> SolverError:
    return SolverError(
        f"Sinkhorn on {n} × {m} samples (ε {epsilon:.3g}) has {off:.2g} of its mass in wrong places after {rounds} rounds, {TOLERANCE:g} may be; no distance is "
        "given: take a larger --epsilon, or fewer samples with --solver exact"
    )


def _spread(n: int) -> NDArray[np.int64]:
    """At most BEGIN of n places, evenly: rows are in an order that has nothing to do with what they hold."""
    return np.unique(np.linspace(0, n - 1, min(n, BEGIN)).astype(np.int64))
