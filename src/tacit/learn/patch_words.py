"""Small patches as words: whitened, clustered without labels, counted softly. Coates, Lee and Ng 2011, "An analysis of single-layer networks in
unsupervised feature learning", sections 3.1–3.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.parts.cluster import k_means

Floats = NDArray[np.float32]


def random_patches(grey: NDArray[np.uint8], side: int, rng: np.random.Generator, count: int) -> Floats:
    """`count` patches (count, side²) of a grey picture (h, w)."""
    windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side))
    rows, cols = rng.integers(0, windows.shape[0], count), rng.integers(0, windows.shape[1], count)
    return windows[rows, cols].reshape(count, -1).astype(np.float32)


def normed(patches: Floats) -> Floats:
    """Each patch less its mean, over its SD (10 grey levels are added so that flat ones stay small)."""
    centred = patches - patches.mean(1, keepdims=True)
    return centred / np.sqrt(patches.var(1, keepdims=True) + 10.0)


def words_of(patches: Floats, count: int, whitening: float, seed: int) -> tuple[Floats, Floats, Floats]:
    """Mean (d,), whitener (d, d) and at most `count` words (k, d) of patches (n, d). whitening: added to the eigenvalues."""
    z = normed(patches)
    mean = z.mean(0)
    values, vectors = np.linalg.eigh(np.cov((z - mean).T))
    whitener = vectors @ np.diag(1 / np.sqrt(values + whitening)) @ vectors.T
    centres = k_means(((z - mean) @ whitener).astype(np.float32), min(count, len(z)), seed)
    return mean.astype(np.float32), whitener.astype(np.float32), centres


def soft_words(grey: NDArray[np.uint8], side: int, mean: Floats, whitener: Floats, centres: Floats) -> Floats:
    """How much each word is in each second patch, max(0, mean distance − distance): (h', w', k)."""
    windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side))[::2, ::2]
    z = (normed(windows.reshape(-1, side * side).astype(np.float32)) - mean) @ whitener
    d = np.sqrt(np.maximum((z**2).sum(1)[:, None] - 2 * z @ centres.T + (centres**2).sum(1), 0))
    return np.asarray(np.maximum(d.mean(1, keepdims=True) - d, 0).reshape(*windows.shape[:2], -1), np.float32)
