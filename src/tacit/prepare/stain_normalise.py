"""Pictures of one laboratory in the colours of another.

`reinhard`: Reinhard et al. 2001, "Color transfer between images" (IEEE CG&A 21:34): mean and SD of each channel are moved to the
target's. Ours differs: CIELAB instead of lαβ, as is usual in histology, and glass neither counts nor changes.
`macenko`: Macenko et al. 2009 (see stain.py): amounts of the two stains are scaled to the target's strongest and put back in the
target's colours; what neither stain explains is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.prepare.colour import tissue_mask
from tacit.prepare.stain import LEAST_PIXELS, STAINED, compose, estimate_stains, optical_density, separate

STRONG = 99.0  # percentile of the amount that counts as a stain's strongest (theirs)


@dataclass(frozen=True)
class StainLook:
    """How a laboratory's pictures look: stains (2, 3), unit optical-density vectors, and the strong amount (2,) of each."""

    stains: NDArray[np.float64]
    strong: NDArray[np.float64]


def stain_look(pictures: list[NDArray[np.uint8]], stains: NDArray[np.float64] | None = None) -> StainLook:
    """The look of pictures (h, w, 3) RGB from one laboratory, with given stains or the estimated ones.

    Raises InputError where too little is stained, in one colour only, or where one of the two stains is absent.
    """
    stains = estimate_stains(pictures) if stains is None else stains
    amounts = np.concatenate([separate(p, stains)[(optical_density(p) > STAINED).any(-1)] for p in pictures])
    if len(amounts) < LEAST_PIXELS:
        raise InputError(f"the look of the stains cannot be told: {len(amounts)} stained pixels, at least {LEAST_PIXELS} are needed")
    strong = np.percentile(amounts, STRONG, axis=0)
    if strong.min() <= 0.01:
        raise InputError(f"one of the two stains is absent: the strongest amounts are {np.round(strong, 3)}; give other stains or more pictures")
    return StainLook(np.asarray(stains, np.float64), strong)


def macenko(picture: NDArray[np.uint8], target: StainLook, source: StainLook | None = None) -> NDArray[np.uint8]:
    """The picture (h, w, 3) RGB in the target's look. source: the look of its laboratory, by default of this picture alone.

    One source look for all pictures of a laboratory keeps their differences. Raises InputError as `stain_look` does.
    """
    source = stain_look([picture]) if source is None else source
    amounts = separate(picture, source.stains).clip(0, None) * (target.strong / source.strong)
    return compose(amounts, target.stains)


def lab_look(pictures: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean and SD (2, 3) of L (0–100), a, b over all tissue of pictures (h, w, 3) RGB. Raises InputError where there is none."""
    tissue = np.concatenate([_lab(p)[tissue_mask(p)] for p in pictures]).astype(np.float64)
    if len(tissue) < LEAST_PIXELS:
        raise InputError(f"the colours of tissue cannot be told: {len(tissue)} pixels of it, at least {LEAST_PIXELS} are needed")
    return np.stack([tissue.mean(0), tissue.std(0)])


def reinhard(picture: NDArray[np.uint8], target: NDArray[np.float64], source: NDArray[np.float64] | None = None) -> NDArray[np.uint8]:
    """The picture (h, w, 3) RGB with its tissue's Lab mean and SD moved to `target`, a `lab_look` (2, 3); glass stays as it is.

    source: by default this picture's own look. Colours that no screen has are cut off. Raises InputError where there is no tissue.
    """
    mean, deviation = lab_look([picture]) if source is None else source
    tissue = tissue_mask(picture)
    gain = np.where(deviation > 1e-3, target[1] / np.maximum(deviation, 1e-3), 1.0)  # a channel of one level only moves
    lab = ((_lab(picture) - mean) * gain + target[0]).astype(np.float32)
    light = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    moved = np.rint(light * np.float32(255)).clip(0, 255).astype(np.uint8)
    return np.where(tissue[..., None], moved, picture)


def _lab(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab), np.float32)
