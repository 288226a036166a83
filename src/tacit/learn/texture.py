"""Texture as an encoder that needs no learning by gradient: local binary patterns, k-means patches, colour statistics.

Local binary patterns: Ojala, Pietikäinen and Mäenpää 2002 (uniform, rotation invariant). Patches: Coates, Lee and Ng 2011, "An analysis of
single-layer networks in unsupervised feature learning" (whitened patches, soft "triangle" assignment). Colour: mean and SD of Lab after the
picture was standardised by its own tissue, and of the two stains. No label and no outside weights; seconds on one core.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Config, Count, Positive
from tacit.parts.cluster import k_means
from tacit.prepare.colour import standardised
from tacit.prepare.stain import RUIFROK, separate

RADII = (1.0, 2.0, 3.0)


class TextureConfig(Config):
    um_per_px: Positive = 1.0  # spacing at which texture is looked at, where the picture states its own
    side: Count = 128  # px; pictures without spacing are brought to this height of a field
    points: Count = 8  # neighbours of a pixel in the binary patterns
    words: Count = 96  # k-means patches
    patch: Count = 6  # px a side
    samples: Count = 20_000  # patches that k-means sees
    whitening: Positive = 0.1  # added to the eigenvalues


class Texture(nn.Module):
    """features(picture) → (f,) float32. `fit` learns the patches from unlabelled pictures; without it there are none."""

    Config = TextureConfig
    mean: Tensor
    whitener: Tensor
    centres: Tensor

    def __init__(self, config: TextureConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TextureConfig()
        n = c.patch * c.patch
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("whitener", torch.eye(n))
        self.register_buffer("centres", torch.zeros(c.words, n))

    def fit(self, pictures: list[NDArray[np.uint8]], seed: int) -> Texture:
        """Whitening and k-means of random grey patches of pictures (h, w, 3) RGB. In place."""
        c, rng = self.config, np.random.default_rng([seed, 40])
        each = max(c.samples // max(len(pictures), 1), 1)
        patches = np.concatenate([_patches(self._grey(p), c.patch, rng, each) for p in pictures])
        normed = _normed(patches)
        mean = normed.mean(0)
        values, vectors = np.linalg.eigh(np.cov((normed - mean).T))
        whitener = vectors @ np.diag(1 / np.sqrt(values + c.whitening)) @ vectors.T
        centres = k_means(((normed - mean) @ whitener).astype(np.float32), min(c.words, len(normed)), seed)
        self.mean.copy_(torch.from_numpy(mean.astype(np.float32)))
        self.whitener.copy_(torch.from_numpy(whitener.astype(np.float32)))
        self.centres[: len(centres)] = torch.from_numpy(centres)
        return self

    @property
    def width(self) -> int:
        """How many numbers describe a picture."""
        return len(RADII) * (self.config.points + 2) + self.config.words + 6 + 4

    def features(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """picture (h, w, 3) RGB uint8 → (width,). Each group of numbers has unit length or is a share."""
        grey = self._grey(picture)
        lab = standardised(picture)
        colour = np.concatenate([lab.mean((1, 2)), lab.std((1, 2))])
        amounts = separate(picture, RUIFROK)
        stains = np.concatenate([amounts.mean((0, 1)), amounts.std((0, 1))])[:4] if amounts.shape[-1] == 2 else np.zeros(4)
        return np.concatenate([binary_patterns(grey, self.config.points), self._words(grey), colour, stains]).astype(np.float32)

    def _grey(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))

    def _words(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean soft assignment of every second patch to the words (f(z) = max(0, mean distance − distance), section 3.2.1)."""
        c = self.config
        windows = np.lib.stride_tricks.sliding_window_view(grey, (c.patch, c.patch))[::2, ::2].reshape(-1, c.patch * c.patch)
        z = (_normed(windows.astype(np.float32)) - self.mean.numpy()) @ self.whitener.numpy()
        centres = self.centres.numpy()
        d = np.sqrt(np.maximum((z**2).sum(1)[:, None] - 2 * z @ centres.T + (centres**2).sum(1), 0))
        return np.maximum(d.mean(1, keepdims=True) - d, 0).mean(0)


def binary_patterns(grey: NDArray[np.uint8], points: int = 8) -> NDArray[np.float32]:
    """Shares of the uniform rotation-invariant patterns at three radii, (3·(points + 2),)."""
    from skimage.feature import local_binary_pattern

    found = []
    for radius in RADII:
        codes = local_binary_pattern(grey, points, radius, method="uniform")
        found.append(np.bincount(codes.astype(np.int64).ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(found).astype(np.float32)


def _patches(grey: NDArray[np.uint8], side: int, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    windows = np.lib.stride_tricks.sliding_window_view(grey, (side, side))
    rows, cols = rng.integers(0, windows.shape[0], count), rng.integers(0, windows.shape[1], count)
    return windows[rows, cols].reshape(count, -1).astype(np.float32)


def _normed(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each patch less its mean, over its SD (10 grey levels are added so that flat ones stay small)."""
    centred = patches - patches.mean(1, keepdims=True)
    return centred / np.sqrt(patches.var(1, keepdims=True) + 10.0)
