"""Clusters of pixel features: a sample, k-means on it, every pixel to its nearest centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def some_pixels(rng: np.random.Generator, features: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` random pixels, with replacement, of features (h, w, c) → (count, c)."""
    flat = features.reshape(-1, features.shape[-1])
    return flat[rng.integers(0, len(flat), count)]


def k_means(points: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """k centres (k, c) of points (n, c): the best of three starts (Lloyd 1982; scikit-learn). In one thread: sums of several come in any order."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return np.asarray(KMeans(k, n_init=3, random_state=seed).fit(points).cluster_centers_, np.float32)


def nearest(features: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the nearest centre at each place, (…, c) and (k, c) → (…)."""
    return np.asarray((-2 * features @ centres.T + (centres**2).sum(1)).argmin(-1))


def some_of(rng: np.random.Generator, points: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """k of the points (n, c) to begin with, each drawn far from those before (k-means++, Arthur and Vassilvitskii 2007), (k, c)."""
    chosen = [points[int(rng.integers(len(points)))]]
    far = ((points - chosen[0]) ** 2).sum(1).astype(np.float64)
    while len(chosen) < k:
        total = far.sum()
        at = int(rng.choice(len(points), p=far / total)) if total > 0 else int(rng.integers(len(points)))
        chosen.append(points[at])
        far = np.minimum(far, ((points - points[at]) ** 2).sum(1))
    return np.stack(chosen)
