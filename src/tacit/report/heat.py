"""Where evidence lies, in colour over a grey picture; and slices side by side, as one looks through a series."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.report.picture import sheet

LEAST = 0.1  # heat below this is clear
STRONGEST = 0.7  # how much of the grey the strongest heat hides


def heated(grey: NDArray[np.uint8], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """grey (h, w) under heat (h', w') in 0–1 from violet to yellow, (h, w, 3)."""
    h, w = grey.shape
    strength = np.clip(cv2.resize(np.asarray(heat, np.float32), (w, h), interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.cvtColor(cv2.applyColorMap((255 * strength).astype(np.uint8), cv2.COLORMAP_PLASMA), cv2.COLOR_BGR2RGB)
    share = np.where(strength < LEAST, 0, STRONGEST * np.sqrt(strength))[..., None]
    return np.round(grey[..., None] * (1 - share) + colours * share).astype(np.uint8)


def side_by_side(slices: NDArray[np.uint8], numbers: list[int], heat: NDArray[np.floating] | None = None, side: int = 224) -> NDArray[np.uint8]:
    """Slices (s, h, w) in rows of four, `side` px high, with their numbers; heat (s, h', w') in 0–1 over them where it is given."""
    tiles = []
    for index, number in enumerate(numbers):
        grey = slices[index]
        tile = heated(grey, heat[index]) if heat is not None else np.repeat(grey[..., None], 3, axis=2)
        tile = cv2.resize(tile, (max(round(side * grey.shape[1] / grey.shape[0]), 1), side), interpolation=cv2.INTER_AREA)
        cv2.putText(tile, str(number), (5, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(np.asarray(tile, np.uint8))
    return sheet(tiles, columns=min(4, len(tiles)))


def coronal(stack: NDArray[np.uint8], height: int = 224) -> NDArray[np.uint8]:
    """A stack (s, h, w) seen from the front, the brightest along each ray, first slice below: (height, w, 3)."""
    seen = stack.max(1)[::-1]
    grey = cv2.resize(seen, (seen.shape[1], height), interpolation=cv2.INTER_LINEAR)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)
