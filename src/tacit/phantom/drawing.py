"""What every generator of drawn anatomy returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Drawing:
    """A drawn picture with its exact truth."""

    picture: NDArray[np.uint8]  # (h, w, 3) RGB
    labels: NDArray[np.int32]  # (h, w) one number a structure, 0 = none
    um_per_px: float  # the spacing it was drawn at, µm
    parameters: dict[str, float]  # what was drawn, by name
    planes: NDArray[np.uint8] | None = None  # (classes, h, w) 0 or 255, where structures overlap and `labels` cannot hold them all
