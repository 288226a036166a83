"""What every way to find landmarks is given, and what it answers.

fit(template, points, pictures)   one picture with its points (p, 2) row, col, and pictures without marks; in place
locate(picture) → Located         the same points on any picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (h, w) or (h, w, 3) RGB


@dataclass(frozen=True)
class Located:
    """Points on one picture, in its px; the middle of the first pixel is (0, 0)."""

    points: NDArray[np.float64]  # (p, 2) row, col
    confidence: NDArray[np.float64]  # (p,) 0–1, what it means is each method's
    spread: NDArray[np.float64]  # (p,) px, how far several answers lie apart; nan where there is one alone


class Locator(Protocol):
    """What `use/locate.py` asks of a method."""

    def fit(self, template: Picture, points: NDArray[np.float64], pictures: Sequence[Picture]) -> Any: ...

    def locate(self, picture: Picture) -> Located: ...
