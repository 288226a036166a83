"""One image as it flows through everything: pixels, what their axes mean, their spacing, and what was done to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

MICROSCOPE = ("picture", "gm", "sm")  # modalities whose pixels may be µm of tissue: flat pictures, DICOM's light microscopy
SpacingSource = Literal["unknown", "metadata", "given", "estimated"]


@dataclass(frozen=True)
class Image:
    """Pixels that know where they come from.

    pixels: (h, w, 3) RGB or (h, w) grey for pictures, (d, h, w) for volumes; axes says which.
    spacing_mm: millimetres between neighbours along each spatial axis, in the order of `axes`, or None where unknown.
    affine: (4, 4) for volumes whose place in the patient is known: voxel (w, h, d, 1) → mm (right, anterior, superior), as NIfTI has it.
    """

    pixels: NDArray
    axes: Literal["hwc", "hw", "dhw"] = "hwc"
    spacing_mm: tuple[float, ...] | None = None
    spacing_source: SpacingSource = "unknown"
    modality: str = "picture"
    source: Path | None = None
    history: tuple[str, ...] = ()
    affine: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != len(self.axes):
            raise InputError(f"{self.name}: axes {self.axes!r} want {len(self.axes)} dimensions, the pixels have {self.pixels.ndim}")
        spatial = len(self.axes.replace("c", ""))
        if self.spacing_mm is not None and (len(self.spacing_mm) != spatial or min(self.spacing_mm) <= 0):
            raise InputError(f"{self.name}: spacing_mm {self.spacing_mm} must be {spatial} positive numbers, one a spatial axis")

    @property
    def name(self) -> str:
        """The source file's name without its last suffix, or "image"."""
        return self.source.stem if self.source else "image"

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape: (h, w) or (d, h, w)."""
        return tuple(self.pixels.shape[: len(self.axes.replace("c", ""))])

    @property
    def mpp(self) -> float | None:
        """Micrometres of tissue per pixel (geometric mean of row and column spacing); None where unknown, and for radiographs, retinas and volumes.

        Methods that look at nuclei bring pictures to their µm per pixel; a radiograph's 143 would be blown up three hundredfold. Its lengths are in `spacing_mm`.
        """
        if self.mm_per_px is None or self.modality not in MICROSCOPE:
            return None
        return self.mm_per_px * 1000

    @property
    def mm_per_px(self) -> float | None:
        """Millimetres per pixel (geometric mean of row and column spacing) whatever the modality, or None where unknown."""
        if self.spacing_mm is None:
            return None
        return float(np.sqrt(self.spacing_mm[-1] * self.spacing_mm[-2]))

    def with_mpp(self, mpp: float, source: SpacingSource) -> Image:
        """The same picture at `mpp` µm per pixel both ways, known from `source`."""
        spacing = (mpp / 1000,) * len(self.shape)
        return replace(self, spacing_mm=spacing, spacing_source=source, history=(*self.history, f"spacing {source}: {mpp:.4g} µm/px"))

    def after(self, step: str, pixels: NDArray, spacing_mm: tuple[float, ...] | None = None) -> Image:
        """The image after `step` (words for the history) changed its pixels, and its spacing where that changed too."""
        return replace(self, pixels=pixels, spacing_mm=spacing_mm or self.spacing_mm, history=(*self.history, step))
