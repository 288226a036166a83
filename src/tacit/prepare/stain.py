"""The two stains of an image, found in its own colours.

Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis" (ISBI): the optical density of stained
pixels lies in a plane, its extreme directions are the stains. Numbers in brackets are theirs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

STAINED = 0.15  # optical density below this in every channel is glass (β)
EXTREME = 1.0  # percentile of the angle that counts as extreme (α)
LEAST_PIXELS = 200


def optical_density(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """−log10 of the light that came through, per channel; 255 is no stain. (h, w, 3) → (h, w, 3)"""
    table = -np.log10(np.clip(np.arange(256, dtype=np.float32), 1, 255) / 255)
    return np.asarray(table[picture], np.float32)


def estimate_stains(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Unit optical-density vectors (2, 3) of the stain that absorbs more red (haematoxylin's part), then of the other.

    pictures (h, w, 3) RGB from one laboratory, taken together. Raises InputError where too little is stained, or in one colour only.
    """
    density = np.concatenate([optical_density(p).reshape(-1, 3)[::7] for p in pictures])
    stained = density[(density > STAINED).any(1)]
    if len(stained) < LEAST_PIXELS:
        raise InputError(f"stains cannot be estimated: {len(stained)} stained pixels, at least {LEAST_PIXELS} are needed")
    values, vectors = np.linalg.eigh(np.cov(stained.T))
    if values[1] < 1e-6:
        raise InputError("stains cannot be estimated: the images hold one colour only")
    plane = vectors[:, [2, 1]] * np.sign(vectors[:, [2, 1]].sum(0))
    angles = np.arctan2(*(stained @ plane).T[::-1])
    ends = np.percentile(angles, [EXTREME, 100 - EXTREME])
    stains = np.stack([plane @ [np.cos(a), np.sin(a)] for a in ends]).clip(0, None)
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return stains[np.argsort(-stains[:, 0])]
