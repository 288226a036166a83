"""Two views of one spot of tissue as networks taught by drawings see it: turned, mirrored and zoomed a little, in standardised Lab, colours moved."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Positive, Share
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.views import colour_shift, view, view_matrix


class LabViewConfig(Config):
    spot: Positive = 1.7  # side of the part of a picture that both views are cut from / side of a view
    zoom: float = 0.28  # views are zoomed by up to ± this share
    colour: float = 0.15  # SD of the colour shift, in SDs of the picture
    own: Share = 0.5  # probability that a view is standardised by itself instead of by the whole picture


def lab_views(rng: np.random.Generator, picture: NDArray[np.uint8], side: int, c: LabViewConfig = LabViewConfig()) -> dict[str, NDArray[np.float32]]:
    """a, b (3, side, side) of picture (h, w, 3) RGB, standardised Lab; the same generator state gives the same views."""
    statistics, spot = lab_statistics(picture), spot_of(rng, picture, round(side * c.spot))

    def one() -> NDArray[np.float32]:
        seen = view(spot, view_matrix(rng, spot.shape[:2], side, zoom=c.zoom), side)
        return colour_shift(rng, standardised(seen, None if rng.random() < c.own else statistics), c.colour)

    return {"a": one(), "b": one()}


def spot_of(rng: np.random.Generator, picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A square of `side` px somewhere in a picture (h, w, 3), which is mirrored beyond its edges where it is smaller."""
    top, left = (int(rng.integers(max(length - side, 0) + 1)) for length in picture.shape[:2])
    spot = picture[top : top + side, left : left + side]
    beyond = [(0, side - length) for length in spot.shape[:2]]
    return np.pad(spot, (*beyond, (0, 0)), mode="symmetric")


def as_rgb(view: NDArray[np.float32], picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A view (3, side, side) in the colours of the picture that it shows, (side, side, 3), to look at."""
    mean, deviation = lab_statistics(picture)
    lab = np.clip(view.transpose(1, 2, 0) * deviation + mean, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
