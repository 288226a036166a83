"""The distance between two labelled sets of features: optimal transport dataset distance (OTDD).

Alvarez-Melis and Fusi 2020, arXiv 2002.02923. d_Z((x, y), (x′, y′))² = λx ‖x − x′‖² + λy W₂²(α_y, α_y′) (Eq. 5), where α_y is the Gaussian of the features
with label y; OTDD² = min over couplings of E d_Z² (Eq. 6), p = 2. Names of labels take no part: two labels are as far apart as their features are.

Arrays alone: nothing is read here, and no step of preparation is known. Ours differs: covariances are shrunken (parts/gaussian_wasserstein.py), Sinkhorn is
a divergence whose ε is a share of the mean cost (parts/sinkhorn.py), and rows lie in the order of their content, so that a draw follows from what a
set holds and not from what it is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.parts.gaussian_wasserstein import gaussians, label_distances
from tacit.parts.sinkhorn import entropic, entropic_self, factors, mean_cost
from tacit.parts.transport import BLOCK, exact

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
EXACT_UP_TO = 5000  # samples of the larger set
EPSILON = 0.02  # of the mean cost
SOLVERS = ("auto", "exact", "sinkhorn")


@dataclass(frozen=True)
class Labelled:
    """x (n, d) features · y (n,): labels, places in classes · keys (n,): hashes of the samples' content, by which they are ordered."""

    name: str
    x: Floats
    y: Labels
    classes: tuple[str, ...]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, chosen: NDArray) -> Labelled:
        """Some of the samples, with all of the classes."""
        return replace(self, x=self.x[chosen], y=self.y[chosen], keys=tuple(self.keys[i] for i in chosen.tolist()))


@dataclass(frozen=True)
class How:
    """weights: λx and λy · solver: exact, sinkhorn, or auto: exact up to 5,000 samples · epsilon: of Sinkhorn, a share of the mean cost."""

    weights: tuple[float, float] = (1.0, 1.0)
    solver: str = "auto"
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise UsageError(f"--solver {self.solver!r} is unknown; known are {', '.join(SOLVERS)}")
        if not (np.isfinite(self.weights).all() and min(self.weights) >= 0 and max(self.weights) > 0):
            raise UsageError(f"--lambda-x {self.weights[0]:g} --lambda-y {self.weights[1]:g}: expected two numbers from 0, not both 0")
        if not 1e-4 <= self.epsilon <= 1:
            raise UsageError(f"--epsilon {self.epsilon:g}: expected a share of the mean cost from 0.0001 to 1")


@dataclass(frozen=True)
class Distance:
    """squared: OTDD² · value: its root · labels (ka, kb): W₂ of labels, not squared · by_class (ka, kb): mass that goes from label to label, None of
    Sinkhorn · pairs: (row of a, row of b, d_Z) from near to far, of the samples that the coupling joins, None of Sinkhorn · mean_cost: of d_Z² over all pairs."""

    squared: float
    solver: str
    labels: Floats
    mean_cost: float
    by_class: Floats | None = None
    pairs: tuple[tuple[int, int, float], ...] | None = None

    @property
    def value(self) -> float:
        return float(np.sqrt(max(self.squared, 0.0)))


def labelled(name: str, x: NDArray, y: Sequence[object] | NDArray, keys: Sequence[str] | None = None) -> Labelled:
    """A set from features x (n, d) and labels (n,) of any kind, checked and put in the order of its content; keys: hashes of the samples, else of the rows.

    Raises InputError for an empty set, NaN, constant features, a single label, and labels with one sample.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or not len(x):
        raise InputError(f"{name} is an empty side: it has features of shape {x.shape}; at least 2 labels with 2 samples each are expected")
    if len(y) != len(x):
        raise InputError(f"{name} has {len(x)} samples and {len(y)} labels; one label a sample is expected")
    if not np.isfinite(x).all():
        wrong = np.flatnonzero(~np.isfinite(x).all(1))
        raise InputError(f"{name}: {len(wrong)} of {len(x)} samples have features that are NaN or infinite, the first is sample {wrong[0]}; leave them out")
    if (x == x[0]).all():
        raise InputError(f"{name} has constant features: all {len(x)} samples are equal; look at the pictures, or take other --features")
    texts = [str(v) for v in y]
    classes = tuple(sorted(set(texts)))
    if len(classes) < 2:
        raise InputError(f"{name} has one label only ({classes[0]!r}); give --labels CSV, subfolders of classes, or --labels kmeans")
    alone = [c for c in classes if texts.count(c) < 2]
    if alone:
        raise InputError(
            f"{name}: label {alone[0]!r} has one sample{f' ({len(alone)} labels have)' if len(alone) > 1 else ''}; a covariance needs at least 2: "
            "merge it with another label, or leave it out"
        )
    numbers = np.array([classes.index(t) for t in texts], np.int64)
    keys = tuple(keys) if keys is not None else tuple(_key(row) for row in x)
    order = content_order(keys, numbers)
    return Labelled(name, x[order], numbers[order], classes, tuple(keys[i] for i in order))


def content_order(keys: Sequence[str], y: Labels) -> list[int]:
    """The order of samples by their hashes; equal ones by what else bears their label. Neither names nor places of files matter."""
    of_label = {int(label): _digest(sorted(keys[i] for i in np.flatnonzero(y == label).tolist())) for label in np.unique(y)}
    return sorted(range(len(keys)), key=lambda i: (keys[i], of_label[int(y[i])]))


def content_seed(keys: Sequence[str], *more: int) -> list[int]:
    """A seed that follows from the content of a set."""
    return [int(_digest(sorted(keys))[:12], 16), *more]


def check_alike(sets: Sequence[Labelled]) -> None:
    """Raises InputError where sets have different numbers of features."""
    for other in sets[1:]:
        if other.x.shape[1] != sets[0].x.shape[1]:
            raise InputError(
                f"{sets[0].name} has {sets[0].x.shape[1]} features a sample, {other.name} has {other.x.shape[1]}; a distance needs the same features of both"
            )


def one_solver(how: How, sets: Sequence[Labelled]) -> How:
    """`auto` as the solver that suits the largest of all sets, so that no two numbers of one answer come from two solvers."""
    return how if how.solver != "auto" else replace(how, solver="sinkhorn" if max(map(len, sets)) > EXACT_UP_TO else "exact")


def otdd(a: Labelled, b: Labelled, how: How | None = None, *, lone: bool = False) -> Distance:
    """How far `a` is from `b`. lone: labels with one sample may be (of resamples). Raises InputError, and SolverError where no optimum was reached."""
    how = how or How()
    check_alike([a, b])
    of_a, of_b = gaussians(a.x, a.y, len(a.classes), lone=lone), gaussians(b.x, b.y, len(b.classes), lone=lone)
    labels = label_distances(of_a, of_b)
    if how.solver == "sinkhorn" or (how.solver == "auto" and max(len(a), len(b)) > EXACT_UP_TO):
        return _by_sinkhorn(a, b, labels, label_distances(of_a, of_a), label_distances(of_b, of_b), how)
    cost = costs(a, b, labels, how.weights)
    found = exact(cost, np.full(len(a), 1 / len(a)), np.full(len(b), 1 / len(b)))
    mass = np.zeros((len(a.classes), len(b.classes)))
    rows, columns = found.rows, found.columns
    np.add.at(mass, (a.y[rows], b.y[columns]), found.mass)
    apart = np.sqrt(np.maximum(cost[rows, columns], 0))
    order = np.argsort(apart, kind="stable")
    pairs = tuple((int(rows[i]), int(columns[i]), float(apart[i])) for i in order)
    return Distance(found.cost, "exact (network simplex)", np.sqrt(labels), float(cost.mean()), mass, pairs)


def costs(a: Labelled, b: Labelled, labels: Floats, weights: tuple[float, float]) -> Floats:
    """d_Z² of every sample of `a` to every sample of `b`, (n, m); labels (ka, kb): W₂² between them."""
    cost = np.empty((len(a), len(b)))
    middle = (a.x.mean(0) + b.x.mean(0)) / 2  # squares far from 0 would lose the digits of the differences
    x, x2 = a.x - middle, b.x - middle
    own, other, kinds = (x**2).sum(1), (x2**2).sum(1), weights[1] * labels[:, b.y]
    for first in range(0, len(cost), BLOCK):
        rows = slice(first, first + BLOCK)
        part = np.matmul(x[rows], x2.T, out=cost[rows])
        part *= -2
        part += own[rows, None]
        part += other
        np.maximum(part, 0, out=part)
        part *= weights[0]
        part += kinds[a.y[rows]]
    return cost


def _by_sinkhorn(a: Labelled, b: Labelled, labels: Floats, own_a: Floats, own_b: Floats, how: How) -> Distance:
    middle = (a.x.mean(0) + b.x.mean(0)) / 2  # fp32 sees the differences best from there
    x, x2 = a.x - middle, b.x - middle
    between = factors(x, a.y, x2, b.y, labels, how.weights)
    mean = mean_cost(between)
    epsilon = how.epsilon * mean
    if _same(a, b):
        squared = 0.0  # the divergence of a set from itself
    else:
        squared = entropic(between, epsilon)
        squared -= entropic_self(factors(x, a.y, x, a.y, own_a, how.weights), epsilon) / 2
        squared -= entropic_self(factors(x2, b.y, x2, b.y, own_b, how.weights), epsilon) / 2
    return Distance(squared, f"Sinkhorn divergence, ε {how.epsilon:g} of the mean cost", np.sqrt(labels), mean)


def _same(a: Labelled, b: Labelled) -> bool:
    """Whether two sets hold equal samples, and equal labels whatever they are called."""
    if a.x.shape != b.x.shape or not (a.x == b.x).all():
        return False
    both = set(zip(a.y.tolist(), b.y.tolist(), strict=True))
    return len(both) == len(set(a.y.tolist())) == len(set(b.y.tolist()))


def _key(row: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
