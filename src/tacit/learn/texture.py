"""Texture as an encoder without a network: local binary patterns, standardised colour, and k-means patches by option.

Local binary patterns: Ojala, Pietikäinen and Mäenpää 2002 (uniform, rotation invariant). Colour: three moments of Lab after it was
standardised by the picture's own tissue. Patches: learn/patch_words.py; off by default, as they brought nothing on glands of other patients (LOG.md).
No label and no outside weights; seconds on one core.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Positive
from tacit.learn.patch_words import random_patches, soft_words, words_of
from tacit.prepare.colour import standardised

RADII = (1.0, 2.0, 3.0)  # px, of the binary patterns
MOMENTS = 9  # mean, SD and third moment of L, a, b


class TextureConfig(Config):
    um_per_px: Positive = 1.24  # spacing at which texture is looked at, where the picture states its own
    points: Count = 8  # neighbours of a pixel in the binary patterns
    words: Annotated[int, Field(ge=0)] = 0  # k-means patches; 0 = none
    patch: Count = 6  # px a side
    samples: Count = 20_000  # patches that k-means sees
    whitening: Positive = 0.1  # added to the eigenvalues


class Texture(nn.Module):
    """features(picture) → (width,) float32, each number standardised over the pictures of `fit` and each group of equal weight."""

    Config = TextureConfig
    whitener: Tensor
    patch_mean: Tensor
    centres: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: TextureConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TextureConfig()
        n = c.patch * c.patch
        self.register_buffer("patch_mean", torch.zeros(n))
        self.register_buffer("whitener", torch.eye(n))
        self.register_buffer("centres", torch.zeros(c.words, n))
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("deviation", torch.ones(self.width))

    @property
    def width(self) -> int:
        """How many numbers describe a picture."""
        return sum(self._groups())

    def fit(self, pictures: list[NDArray[np.uint8]], seed: int) -> Texture:
        """Learns the patches, if any, and the mean and SD of every number from unlabelled pictures (h, w, 3) RGB. In place."""
        if self.config.words:
            self._fit_words(pictures, seed)
        raw = np.stack([self._numbers(p) for p in pictures])
        self.mean.copy_(torch.from_numpy(raw.mean(0)))
        self.deviation.copy_(torch.from_numpy(np.maximum(raw.std(0), 1e-6)))
        return self

    def features(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """picture (h, w, 3) RGB uint8 → (width,)"""
        z = (self._numbers(picture) - self.mean.numpy()) / self.deviation.numpy()
        return np.concatenate([part / np.sqrt(len(part)) for part in np.split(z, np.cumsum(self._groups())[:-1])]).astype(np.float32)

    def _groups(self) -> list[int]:
        groups = [len(RADII) * (self.config.points + 2), MOMENTS]
        return [*groups, self.config.words] if self.config.words else groups

    def _numbers(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        parts = [binary_patterns(grey, self.config.points), colour_moments(picture)]
        return np.concatenate([*parts, self._words(grey)] if self.config.words else parts).astype(np.float32)

    def _fit_words(self, pictures: list[NDArray[np.uint8]], seed: int) -> None:
        c, rng = self.config, np.random.default_rng([seed, 40])
        each = max(c.samples // max(len(pictures), 1), 1)
        patches = np.concatenate([random_patches(np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)), c.patch, rng, each) for p in pictures])
        mean, whitener, centres = words_of(patches, c.words, c.whitening, seed)
        self.patch_mean.copy_(torch.from_numpy(mean))
        self.whitener.copy_(torch.from_numpy(whitener))
        self.centres[: len(centres)] = torch.from_numpy(centres)

    def _words(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Mean soft assignment of every second patch to the words."""
        found = soft_words(grey, self.config.patch, self.patch_mean.numpy(), self.whitener.numpy(), self.centres.numpy())
        return np.asarray(found.reshape(-1, found.shape[-1]).mean(0), np.float32)


def binary_patterns(grey: NDArray[np.uint8], points: int = 8) -> NDArray[np.float32]:
    """Shares of the uniform rotation-invariant patterns at three radii, (3·(points + 2),)."""
    from skimage.feature import local_binary_pattern

    found = []
    for radius in RADII:
        codes = local_binary_pattern(grey, points, radius, method="uniform")
        found.append(np.bincount(codes.astype(np.int64).ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(found).astype(np.float32)


def colour_moments(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean, SD and third central moment of Lab standardised by the picture's own tissue, (9,)."""
    lab = standardised(picture).reshape(3, -1)
    mean = lab.mean(1, keepdims=True)
    return np.concatenate([mean[:, 0], lab.std(1), ((lab - mean) ** 3).mean(1)]).astype(np.float32)
