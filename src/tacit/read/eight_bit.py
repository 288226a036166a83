"""Pictures of any depth as 8 bits, and which sizes can be looked at at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError

MOST_PIXELS = 250_000_000  # a flat picture above this is refused before it is decoded
LEAST_SIDE = 16  # px; nothing can be seen in less


def check_size(path: Path, shape: tuple[int, int]) -> None:
    """Raises ReadError for a picture of `shape` (h, w) that is too large or too small."""
    height, width = shape
    if width * height > MOST_PIXELS:
        raise ReadError(path, f"{height}×{width} px is too large for a flat picture (at most {MOST_PIXELS:,} px)", "cut it into tiles")
    if min(width, height) < LEAST_SIDE:
        raise ReadError(path, f"{height}×{width} px is too small (at least {LEAST_SIDE} px a side)")


def to_8_bit(values: NDArray) -> tuple[NDArray[np.uint8], str]:
    """Divides by the smallest of 8, 10, 12, 14, 16 bits that holds the values (floats: by their range); and what was done, in words.

    Raises ValueError for pixels that are not finite, negative or beyond 16 bits.
    """
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        return np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8), f"float {low:g}…{high:g} scaled to 8 bit"
    top = int(values.max())
    if int(values.min()) < 0 or top > 65535:
        raise ValueError(f"integer pixels from {values.min()} to {top}, expected 0–65535")
    bits = next(b for b in (8, 10, 12, 14, 16) if top < 2**b)
    return np.round(values.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8), f"{bits} bits scaled to 8"
