"""The ranges from which a drawn CT takes its parameters, and the two splits of every range: what teaches and what is fresh never meet.

`split="teach"` draws from the middle of each range, `split="fresh"` from its two ends; a strip between them is drawn by neither.
So a network taught on the one is always asked to go beyond what it saw on the other, in every parameter.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from tacit.config import Config, Positive, Range, Share

Split = Literal["teach", "fresh"]
Mixture = Literal["covid-cap", "binary", "normal"]
MIXTURES: dict[str, tuple[str, ...]] = {  # the classes of each, equally often
    "covid-cap": ("normal", "COVID", "CAP"),
    "binary": ("normal", "lesion"),
    "normal": ("normal",),
}
GUARD = 0.02  # share of a range between the splits that neither draws


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError("a range is two numbers, low <= high")
    return pair


HuRange = Annotated[tuple[float, float], AfterValidator(_ordered)]  # may be negative


class CtConfig(Config):
    """Ranges from which each CT draws its parameters; edit them to teach other scanners, bodies and lesions."""

    mixture: Mixture = "covid-cap"  # classes of a series of phantoms: covid-cap (normal, COVID, CAP), binary (normal, lesion) or normal
    apart: Annotated[float, Field(ge=0, le=0.45)] = 0.2  # share at each end of every range that only fresh phantoms draw from, 0–.45
    # the grid of a series (`draw_scan` takes any)
    slice_mm: Range = (2.0, 2.5)  # distance of slices, mm
    field_mm: Range = (330.0, 420.0)  # side of the square picture, mm; never less than the chest needs
    matrix: Annotated[int, Field(ge=32, le=1024)] = 176  # rows and columns of a slice, px
    # body
    cage_width: Range = (114.0, 144.0)  # half-width of the rib cage inside, mm
    cage_depth: Range = (78.0, 102.0)  # half-depth of the rib cage inside, mm
    lung_height: Range = (155.0, 230.0)  # dome of the diaphragm to apex, mm; little at expiration
    fat: Range = (4.0, 26.0)  # fat under the skin, mm
    muscle: Range = (6.0, 16.0)  # muscle over the ribs at the side, mm
    heart: Range = (0.85, 1.2)  # size against the usual
    heart_turn: HuRange = (0.45, 0.45)  # of its long axis from the left to the back, radians
    heart_left: HuRange = (0.0, 0.0)  # how far its apex reaches beyond the usual to the left, share of the cage's half-width
    heart_fat: HuRange = (0.0, 0.0)  # fat before and beside the heart, low, which keeps the lungs from the front, mm; below 0 is none
    breasts: Share = 0.4  # share of phantoms with breasts
    contrast: Share = 0.5  # share of phantoms with contrast medium in heart and vessels
    enhancement_hu: Range = (110.0, 330.0)  # what the medium adds to blood, HU
    # lungs without a lesion
    lung_hu: HuRange = (-885.0, -800.0)  # parenchyma at mid-height, HU; high at expiration
    gravity_hu: Range = (20.0, 130.0)  # how much denser the back is than the front, HU
    patches_hu: Range = (4.0, 40.0)  # SD of parenchyma over about 25 mm, HU
    grain_hu: Range = (5.0, 24.0)  # SD of parenchyma over about 6 mm, HU
    dependent_hu: Range = (0.0, 420.0)  # band of dependent density under the pleura at the back, HU added where it is most
    dependent_mm: Range = (4.0, 18.0)  # depth of that band, mm
    collapsed_mm: Range = (0.0, 11.0)  # crescent of collapsed lung at the back and low, which lying still makes, mm
    collapsed_hu: HuRange = (-220.0, 45.0)  # that crescent, HU
    vessels: Range = (0.7, 1.5)  # calibre of the lungs' vessels against the usual
    # lesions
    covid_share: Range = (0.012, 0.045)  # share of the lungs that the foci of COVID are meant to fill
    cap_share: Range = (0.004, 0.012)  # share of the lungs that the consolidation of CAP is meant to fill
    ground_glass_hu: HuRange = (-720.0, -530.0)  # ground glass, HU
    dense_glass: Share = 0.0  # share of COVID phantoms in which most foci are denser
    dense_glass_hu: HuRange = (-410.0, -410.0)  # these, HU
    consolidation_hu: HuRange = (-90.0, 45.0)  # consolidation, HU
    septa_hu: Range = (110.0, 260.0)  # septal lines of crazy paving above their ground glass, HU
    septa_mm: Range = (7.0, 12.0)  # distance of those lines, mm
    # scanner
    noise_hu: Range = (10.0, 55.0)  # SD of noise in the body, HU: the dose
    noise_mm: Range = (0.4, 1.3)  # width (SD) of the noise's correlation, mm: the kernel
    blur_mm: Range = (0.4, 1.3)  # point spread within a slice (SD), mm
    sharpen: Range = (0.0, 0.7)  # overshoot of a sharp kernel at edges, share of an edge
    thickness: Range = (0.0, 0.22)  # share of a slice that comes from each neighbour: thick slices, partial volume
    motion_mm: Range = (0.0, 3.0)  # breathing and heart-beat, smear near diaphragm and heart, mm
    padded: Share = 0.4  # share of phantoms whose picture is round, -1024 HU outside
    voxel_mm: Positive = 2.0  # spacing of single slices drawn as pictures (`draw`), mm


CONTINUOUS = tuple(
    n for n, f in CtConfig.model_fields.items() if isinstance(f.default, tuple)
)  # the parameters that a phantom draws from a range, and that the splits keep apart


def drawn_parameters(rng: np.random.Generator, c: CtConfig, split: Split = "teach") -> dict[str, float]:
    """A value for every range of the settings, by name, and for every share whether it happens (0 or 1)."""
    p = {name: within(rng, getattr(c, name), split, c.apart) for name in CONTINUOUS}
    return p | {name: float(rng.random() < getattr(c, name)) for name in ("breasts", "contrast", "padded", "dense_glass")}


def within(rng: np.random.Generator, limits: tuple[float, float], split: Split, apart: float) -> float:
    """A number of a range: from its middle to teach, from its ends when fresh. A range of one number draws nothing."""
    low, high = limits
    if low == high:
        return low
    width = high - low
    if split == "teach":
        return float(rng.uniform(low + apart * width, high - apart * width))
    inset = float(rng.uniform(0, max(apart - GUARD, 0))) * width
    return low + inset if rng.random() < 0.5 else high - inset
