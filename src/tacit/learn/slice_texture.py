"""The texture of a CT slice as numbers, without a network: local binary patterns by place, and k-means patches. Seconds on one core.

Local binary patterns: Ojala, Pietikäinen and Mäenpää 2002 (uniform). Patches: learn/patch_words.py, from unlabelled slices. Each is a block of its own,
so that a classifier can be taught on each and their votes taken (learn/block_vote.py).
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

POINTS, UNIFORM = 8, 59  # neighbours of a pixel, and how many uniform patterns they make, the last one of all others
Floats = NDArray[np.float32]


class SliceTextureConfig(Config):
    side: Count = 128  # px; every slice is brought to this square
    grid: Count = 2  # the picture is parted in grid × grid places, each described alone
    radii: tuple[Positive, ...] = (1.0, 2.0, 3.0)  # px, of the binary patterns
    words: Annotated[int, Field(ge=2)] = 150  # of the patches
    patch: Annotated[int, Field(ge=3)] = 7  # px a side of a patch
    samples: Count = 60_000  # patches that k-means sees
    whitening: Positive = 0.1  # added to the eigenvalues


class SliceTexture(nn.Module):
    """blocks(picture) → {"patterns": (p,), "words": (w,)} after `fit` on unlabelled slices."""

    Config = SliceTextureConfig
    BLOCKS = ("patterns", "words")
    mean: Tensor
    whitener: Tensor
    centres: Tensor

    def __init__(self, config: SliceTextureConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or SliceTextureConfig()
        self.register_buffer("mean", torch.zeros(c.patch**2))
        self.register_buffer("whitener", torch.eye(c.patch**2))
        self.register_buffer("centres", torch.zeros(c.words, c.patch**2))

    def fit(self, pictures: list[NDArray], seed: int) -> SliceTexture:
        """Learns the words from slices (h, w) or (h, w, 3) of any size, without labels. In place."""
        c, rng = self.config, np.random.default_rng([seed, 101])
        each = max(c.samples // max(len(pictures), 1), 1)
        patches = np.concatenate([random_patches(self.seen(p), c.patch, rng, each) for p in pictures])
        mean, whitener, centres = words_of(patches, c.words, c.whitening, seed)
        self.mean.copy_(torch.from_numpy(mean))
        self.whitener.copy_(torch.from_numpy(whitener))
        self.centres[: len(centres)] = torch.from_numpy(centres)
        return self

    def blocks(self, picture: NDArray) -> dict[str, Floats]:
        """picture (h, w) or (h, w, 3) uint8."""
        grey, c = self.seen(picture), self.config
        counts = soft_words(grey, c.patch, self.mean.numpy(), self.whitener.numpy(), self.centres.numpy())
        return {"patterns": self._patterns(grey), "words": np.concatenate([part.mean((0, 1)) for part in _places(counts, c.grid)]).astype(np.float32)}

    def seen(self, picture: NDArray) -> NDArray[np.uint8]:
        """The picture as it is described: grey, (side, side)."""
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.resize(grey, (self.config.side, self.config.side), interpolation=cv2.INTER_AREA), np.uint8)

    def _patterns(self, grey: NDArray[np.uint8]) -> Floats:
        from skimage.feature import local_binary_pattern

        found = []
        for radius in self.config.radii:
            codes = local_binary_pattern(grey, POINTS, radius, method="nri_uniform").astype(np.int64)
            found += [np.bincount(part.ravel(), minlength=UNIFORM) / part.size for part in _places(codes, self.config.grid)]
        return np.sqrt(np.concatenate(found)).astype(np.float32)  # Hellinger: a histogram's distances are those of its root


def _places(plane: NDArray, grid: int) -> list[NDArray]:
    """The grid × grid parts of a plane (h, w, …)."""
    return [part for row in np.array_split(plane, grid, axis=0) for part in np.array_split(row, grid, axis=1)]
