"""How far apart two labels are: each label's features as a Gaussian, and the 2-Wasserstein distance between Gaussians in closed form.

W₂²(N(m, Σ), N(m′, Σ′)) = ‖m − m′‖² + tr Σ + tr Σ′ − 2 tr (Σ^½ Σ′ Σ^½)^½ (Dowson and Landau 1982). The last trace is the sum of the singular values
of Σ^½ Σ′^½, so every label's root is taken once, however many labels it is compared with. Covariances are shrunken (Ledoit and Wolf 2004): with fewer
samples than numbers they have no full rank otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussians:
    """mean (k, d) · root (k, d, d): symmetric roots of the covariances · spread (k,): their traces · count (k,): samples of each label."""

    mean: Floats
    root: Floats
    spread: Floats
    count: NDArray[np.int64]


def gaussians(x: Floats, y: NDArray[np.int64], labels: int, *, lone: bool = False) -> Gaussians:
    """One Gaussian a label of samples x (n, d) with labels y (n,) in 0 … labels − 1.

    lone: a label with a single sample gets the mean covariance of the others (for resamples, where a small label may be drawn once); a label that no
    sample has gets the mean of all then, and nothing weighs it. Otherwise either raises InputError.
    """
    d = x.shape[1]
    mean, covariance, count = np.zeros((labels, d)), np.zeros((labels, d, d)), np.bincount(y, minlength=labels)
    if not lone and count.min() < 2:
        raise InputError(f"label {int(count.argmin())} has {int(count.min())} samples; a covariance needs at least 2: merge it with another, or leave it out")
    for label in range(labels):
        own = x[y == label]
        mean[label] = own.mean(0) if len(own) else x.mean(0)
        if len(own) > 1:
            covariance[label] = shrunken(own - mean[label])
    few = count < 2
    if few.any():
        covariance[few] = covariance[~few].mean(0) if not few.all() else shrunken(x - x.mean(0))
    return of_covariances(mean, covariance, count)


def of_covariances(mean: Floats, covariance: Floats, count: NDArray[np.int64]) -> Gaussians:
    """Gaussians of means (k, d) and covariances (k, d, d), whose roots are taken here. Eigenvalues below 0 by rounding count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ vectors.transpose(0, 2, 1)
    return Gaussians(mean, root, np.maximum(values, 0).sum(1), count)


def shrunken(centred: Floats) -> Floats:
    """The covariance (d, d) of centred samples (n, d), drawn towards the mean variance on all axes by Ledoit and Wolf's share (2004, eq. 14)."""
    n, d = centred.shape
    sample = centred.T @ centred / n
    level = np.trace(sample) / d
    off = float((sample**2).sum() - d * level**2)  # squared distance to the target
    if off <= 0:
        return np.asarray(sample)
    noise = float(((centred**2).sum(1) ** 2).sum() / n - (sample**2).sum()) / n
    share = min(max(noise / off, 0.0), 1.0)
    return np.asarray((1 - share) * sample + share * level * np.eye(d))


def label_distances(a: Gaussians, b: Gaussians) -> Floats:
    """W₂² of every label of `a` to every label of `b`, (ka, kb), 0 or more."""
    between = ((a.mean[:, None] - b.mean[None]) ** 2).sum(2)
    overlap = np.array([[np.linalg.svd(p @ q, compute_uv=False).sum() for q in b.root] for p in a.root])
    return np.asarray(np.maximum(between + a.spread[:, None] + b.spread[None] - 2 * overlap, 0.0))
