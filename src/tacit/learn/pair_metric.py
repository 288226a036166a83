"""A linear metric from few labelled pairs: what varies inside "same" pairs is pressed flat, then what same pairs share and different ones do not is kept.

The whitening by the covariance of differences inside same pairs is relevant component analysis (Shental, Hertz, Weinshall and Pavel 2002,
"Adjustment learning and relevant component analysis", section 3), with pairs instead of chunklets. Ours differs in what follows: with x, y the
whitened features of a pair, brought to unit length,

    M = mean of (x yᵀ + y xᵀ)/2 over same pairs − the same over different pairs

and the positive part of M is the metric. Methods on squared differences (LDA, and KISSME: Köstinger et al. 2012) estimate the same directions from
squares, where the two images' own noise adds up; in products it averages out, so a few dozen pairs suffice. There may be more features than pairs.

The distance is the mean of the metric's and the raw one, where the raw one counts as much as a metric from `prior` pairs: with few pairs it leads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Ground:
    """Standardised features on their principal axes. mean (p,), axes (p, k)."""

    mean: Numbers
    axes: Numbers

    def __call__(self, features: NDArray) -> Numbers:
        return np.asarray((features - self.mean) @ self.axes)


@dataclass(frozen=True)
class PairMetric:
    """mean (p,), white (p, k): centred and whitened; kept (k, r): the part of it that tells kinds apart; raw: what the raw distance counts beside it."""

    mean: Numbers
    white: Numbers
    kept: Numbers
    raw: float = 0.0

    def vectors(self, features: NDArray) -> Numbers:
        """features (n, p) → (n, r) of unit length, or (n, r + p) where the raw distance counts too."""
        learnt = unit(unit((features - self.mean) @ self.white) @ self.kept)
        return np.hstack([learnt, self.raw**0.5 * unit(features)]) / (1 + self.raw) ** 0.5 if self.raw else learnt

    def after(self, ground: Ground, *, raw: float = 0.0) -> PairMetric:
        """The same metric for features that are not on their ground yet, with what their raw distance counts beside it."""
        return PairMetric(ground.mean, ground.axes @ self.white, self.kept, raw)


def vectors(features: NDArray, metric: PairMetric | None) -> Numbers:
    """Unit vectors of features (n, p): after the metric, or the features as they come where there is none."""
    return unit(features.astype(np.float64)) if metric is None else metric.vectors(features.astype(np.float64))


def distances(vectors: Numbers, a: Indices, b: Indices) -> Numbers:
    """2 − 2·cos of unit vectors' pairs (a[i], b[i]): 0 = alike, 2 = nothing in common, 4 = opposite."""
    return np.asarray(np.clip(((vectors[a] - vectors[b]) ** 2).sum(1), 0, 4))


def unit(values: Numbers) -> Numbers:
    """Rows at unit length; a row of zeros stays."""
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def find_ground(features: NDArray, dims: int) -> Ground:
    """Standardisation and up to `dims` principal axes of features (n, p); a feature that never varies counts nothing."""
    x = features.astype(np.float64)
    mean, deviation = x.mean(0), x.std(0)
    weight = np.where(deviation > 1e-9 * max(float(deviation.max()), 1e-300), 1 / np.maximum(deviation, 1e-300), 0.0)
    z = (x - mean) * weight
    if len(z) >= z.shape[1]:
        values, axes = np.linalg.eigh(z.T @ z / len(z))
    else:  # as many axes as images
        values, rows = np.linalg.eigh(z @ z.T / len(z))
        axes = z.T @ (rows / np.sqrt(np.maximum(values * len(z), 1e-300)))
    order = np.argsort(-values, kind="stable")[:dims]
    order = order[: max(int((values[order] > 1e-7 * max(float(values.max()), 1e-300)).sum()), 1)]
    return Ground(mean, weight[:, None] * axes[:, order])


def fit_metric(z: Numbers, a: Indices, b: Indices, same: NDArray[np.bool_], *, shrinkage: float) -> PairMetric:
    """The metric from pairs (a[i], b[i]) of rows of z (n, k), features on their ground; at least one same and one different pair.

    shrinkage: from 0, the covariance inside same pairs as it is, to 1, round.
    """
    x, y = z[a], z[b]
    covariance = _second_moment(x[same] - y[same])
    level = max(float(np.trace(covariance)) / max(len(covariance), 1), 1e-12)
    covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
    values, axes = np.linalg.eigh(covariance)
    whitener = axes / np.sqrt(np.maximum(values, 1e-9 * level))
    x, y = unit(x @ whitener), unit(y @ whitener)
    shared = _products(x[same], y[same]) - _products(x[~same], y[~same])
    values, axes = np.linalg.eigh(shared)
    good = values > 1e-9 * max(float(np.abs(values).max()), 1e-300)
    kept = axes[:, good] * np.sqrt(values[good]) if good.any() else np.eye(len(values))
    return PairMetric(np.zeros(z.shape[1]), whitener, kept)


def _second_moment(differences: Numbers) -> Numbers:
    return np.asarray(differences.T @ differences / max(len(differences), 1))


def _products(x: Numbers, y: Numbers) -> Numbers:
    found = x.T @ y / max(len(x), 1)
    return np.asarray((found + found.T) / 2)
