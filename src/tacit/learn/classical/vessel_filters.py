"""Vessels by filters, without learning: the matched filter, B-COSFIRE and the multi-scale line detector, each alone or as their mean.

The floor that every learned way has to beat. What share of the field is vessel is given, as no filter knows it: `share`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from tacit.config import Config, Positive
from tacit.learn.classical.cosfire import CosfireConfig, cosfire
from tacit.learn.classical.line_detector import LineDetectorConfig, line_detector, standard
from tacit.learn.classical.matched_filter import MatchedFilterConfig, matched_filter
from tacit.learn.workshop import Workshop
from tacit.prepare.field import find_field
from tacit.prepare.frame import even_light, field_of, framed

Filter = Literal["matched", "cosfire", "line"]


class VesselFiltersConfig(Config):
    filters: tuple[Filter, ...] = ("matched", "cosfire", "line")  # whose standardised answers are averaged
    matched: MatchedFilterConfig = MatchedFilterConfig(sigmas=(1.4, 2.0, 2.8), length=15.0)  # three widths and a longer bar than the paper's
    cosfire: CosfireConfig = CosfireConfig()
    line: LineDetectorConfig = LineDetectorConfig()
    share: Annotated[float, Field(gt=0, lt=0.5)] = 0.12  # of the field that is called vessel; human observers mark .07–.15
    softness: Positive = 0.4  # SDs of the answer over which the probability goes from .5 to .73
    diameter: Annotated[int, Field(ge=128, le=2048)] = 540  # px to which every field is brought


class VesselFilters(nn.Module):
    """No weights, no learning."""

    Config = VesselFiltersConfig
    CLASSES = ("vessel",)

    def __init__(self, config: VesselFiltersConfig | None = None) -> None:
        super().__init__()
        self.config = config or VesselFiltersConfig()

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A photograph of any size as its frame, (s, s, 3) uint8: the field at one diameter, 0 outside."""
        return framed(picture, self.config.diameter)[0]

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> VesselFilters:
        """Nothing to learn."""
        return self

    def field(self, picture: NDArray) -> NDArray[np.bool_]:
        """The field of view of a photograph as for `working`, (h, w)."""
        return find_field(picture).mask

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """Vessel at the photograph's own size, (1, h, w) in 0–1, 0 outside the field; .5 parts the `share` that answers most from the rest."""
        square, frame = framed(picture, self.config.diameter)
        return frame.back(vessel_filters(square, self.config))[None]


def vessel_filters(square: NDArray[np.uint8], config: VesselFiltersConfig | None = None) -> NDArray[np.float32]:
    """The probability (s, s) of every pixel of a frame (s, s, 3)."""
    c, inside = config or VesselFiltersConfig(), field_of(square)
    contrast = even_light(square)
    low, high = np.percentile(contrast[inside], [0.1, 99.9])
    contrast = np.clip(contrast, low, high).astype(np.float32)
    total = np.zeros(contrast.shape, np.float32)
    for name in c.filters:
        if name == "matched":
            answer = matched_filter(contrast, c.matched)
        elif name == "cosfire":
            answer = cosfire(contrast, c.cosfire)
        else:
            answer = line_detector(contrast, inside, c.line)
        low, high = np.percentile(answer[inside], [0.5, 99.5])  # a few bright answers do not outweigh the others
        total += standard(np.clip(answer, low, high).astype(np.float32), inside)
    total /= len(c.filters) or 1
    level = float(np.quantile(total[inside], 1 - c.share))
    return np.where(inside, 1 / (1 + np.exp(-(total - level) / c.softness)), 0).astype(np.float32)
