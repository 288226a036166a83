"""Clusters of pixel features: a sample, k-means on it, every pixel to its nearest centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def some_pixels(rng: np.random.Generator, features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` random pixels, with replacement, of features (h, w, c) → (count, c)."""
    flat = features.reshape(-1, features.shape[-1])
    return flat[rng.integers(0, len(flat), count)]


def k_means(points: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """k centres (k, c) of points (n, c): the best of three starts (Lloyd 1982; scikit-learn)."""
    from sklearn.cluster import KMeans

    return np.asarray(KMeans(k, n_init=3, random_state=seed).fit(points).cluster_centers_, np.float32)


def nearest(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the nearest centre at each place, (…, c) and (k, c) → (…)."""
    return np.asarray((-2 * features @ centres.T + (centres**2).sum(1)).argmin(-1))
