"""The two stains of an image: found in its own colours, told apart, put back, and shaken.

Macenko et al. 2009, "A method for normalizing histology slides for quantitative analysis" (ISBI): the optical density of stained
pixels lies in a plane, its extreme directions are the stains. Numbers in brackets are theirs.
Ruifrok and Johnston 2001, "Quantification of histochemical staining by color deconvolution": density is the sum of amounts times
unit vectors, so amounts are found by a linear solution. The two stains' common perpendicular takes what neither explains.
Tellez et al. 2018, "Whole-slide mitosis detection in H&E breast histology…" (IEEE TMI): amounts · gain + shift, at random.

Stains are (2, 3), one unit optical-density vector (R, G, B) a row, haematoxylin first. Normalising is in stain_normalise.py.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.phantom.tissue import EOSIN, HAEMATOXYLIN

STAINED = 0.15  # optical density below this in every channel is glass (β)
EXTREME = 1.0  # percentile of the angle that counts as extreme (α)
LEAST_PIXELS = 200
RUIFROK = np.array([HAEMATOXYLIN, EOSIN]) / np.linalg.norm([HAEMATOXYLIN, EOSIN], axis=1, keepdims=True)

Stains = NDArray[np.float64]


def optical_density(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """−log10 of the light that came through, per channel; 255 is no stain. (h, w, 3) → (h, w, 3)"""
    table = -np.log10(np.clip(np.arange(256, dtype=np.float32), 1, 255) / 255)
    return np.asarray(table[picture], np.float32)


def estimate_stains(pictures: list[NDArray[np.uint8]]) -> Stains:
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


def separate(picture: NDArray[np.uint8], stains: Stains = RUIFROK) -> NDArray[np.float32]:
    """How much of each stain every pixel holds, by least squares: (h, w, 3) RGB → (h, w, 2), optical density along its vector.

    0 is none; noise and a third colour give values below 0. Raises InputError for another picture or stains that are one colour.
    """
    _check(picture)
    amounts = cv2.transform(optical_density(picture), np.linalg.inv(_basis(stains).T)[:2].astype(np.float32))
    return np.asarray(amounts, np.float32)


def compose(amounts: NDArray[np.floating], stains: Stains = RUIFROK) -> NDArray[np.uint8]:
    """The picture (h, w, 3) RGB that amounts (h, w, 2) of the stains give: 255 · 10^(−Σ amount · vector), rounded.

    Raises InputError for amounts of another shape or stains that are one colour.
    """
    if amounts.ndim != 3 or amounts.shape[-1] != 2:
        raise InputError(f"amounts of two stains are (h, w, 2), these are {amounts.shape}")
    return as_light(np.asarray(cv2.transform(amounts.astype(np.float32), _basis(stains).T[:, :2].astype(np.float32)), np.float32))


def as_light(density: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey levels 0–255, rounded, of optical density of any shape; the inverse of `optical_density`."""
    light = cv2.exp((density * np.float32(-np.log(10))).reshape(len(density), -1)).reshape(density.shape)
    return np.rint(light * np.float32(255)).clip(0, 255).astype(np.uint8)


def stain_matrix(gains: tuple[float, float], shifts: tuple[float, float] = (0.0, 0.0), stains: Stains = RUIFROK) -> NDArray[np.float32]:
    """The affine map (3, 4) of optical density that turns each stain's amount a into a · gain + shift and leaves the rest alone."""
    basis = _basis(stains).T  # columns: the two stains and what neither explains
    turned = basis @ np.diag([*gains, 1.0]) @ np.linalg.inv(basis)
    return np.hstack([turned, basis[:, :2] @ np.array(shifts)[:, None]]).astype(np.float32)


def draw_stain_jitter(rng: np.random.Generator, gain: float = 0.2, shift: float = 0.02) -> tuple[tuple[float, float], tuple[float, float]]:
    """Gains of the two stains, uniform in 1 ± gain, and shifts of their amounts, uniform in ± shift (optical density)."""
    gains, shifts = 1 + gain * rng.uniform(-1, 1, 2), shift * rng.uniform(-1, 1, 2)
    return (float(gains[0]), float(gains[1])), (float(shifts[0]), float(shifts[1]))


def stain_jitter(
    rng: np.random.Generator, picture: NDArray[np.uint8], *, stains: Stains = RUIFROK, gain: float = 0.2, shift: float = 0.02
) -> NDArray[np.uint8]:
    """The picture (h, w, 3) RGB as another laboratory might have stained it; the same generator state gives the same picture.

    A shift tints glass too, as a thicker mount would; gain 0 and shift 0 change nothing but black, which is kept at level 1 or above.
    Raises InputError for another picture, or stains that are one colour.
    """
    _check(picture)
    return as_light(np.asarray(cv2.transform(optical_density(picture), stain_matrix(*draw_stain_jitter(rng, gain, shift), stains)), np.float32))


def _basis(stains: Stains) -> NDArray[np.float64]:
    """Rows: the two unit vectors and their common perpendicular."""
    stains = np.asarray(stains, np.float64)
    if stains.shape != (2, 3) or not np.isfinite(stains).all() or not (np.linalg.norm(stains, axis=1) > 0).all():
        raise InputError(f"stains are two optical-density vectors (2, 3) that are not 0, these are {stains.shape}")
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    across = np.cross(unit[0], unit[1])
    if np.linalg.norm(across) < 0.02:  # about one degree
        raise InputError("the two stains are one colour, so their amounts cannot be told apart; estimate them from more pictures or use the default")
    return np.stack([*unit, across / np.linalg.norm(across)])


def _check(picture: NDArray) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3 or picture.size == 0:
        raise InputError(f"stains are told apart in RGB pictures (h, w, 3) of uint8, this is {picture.dtype} {picture.shape}")
