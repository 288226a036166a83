"""The classical rule that every learned method has to beat: where nuclear stain is dense, with its holes filled, is gland.

Haematoxylin by colour deconvolution (Ruifrok and Johnston 2001), Gaussian, Otsu, specks dropped, holes filled. The
published GlaS baseline of this project used 3 px, 400 px and 15,000 px at 0.62 µm/px; here the same numbers are in µm.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.config import Config, Positive
from tacit.learn.workshop import Workshop


class HaematoxylinConfig(Config):
    um_per_px: Positive = 0.62  # the spacing at which the rule looks
    blur_um: Positive = 1.86  # SD of the Gaussian
    speck_um2: float = 154.0  # smaller pieces are dropped
    hole_um2: float = 5766.0  # smaller holes are filled
    core_um: float = 7.0


class Haematoxylin(nn.Module):
    """No weights, no learning."""

    Config = HaematoxylinConfig

    def __init__(self, config: HaematoxylinConfig | None = None) -> None:
        super().__init__()
        self.config = config or HaematoxylinConfig()

    @property
    def um_per_px(self) -> float:
        return self.config.um_per_px

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> Haematoxylin:
        """Nothing to learn."""
        return self

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The rule's mask and its core as 0 or 1, (2, h, w)."""
        return with_core(self.mask(picture), self.config.core_um / self.um_per_px)

    def mask(self, picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(h, w, 3) RGB → (h, w)."""
        from skimage.color import rgb2hed
        from skimage.filters import threshold_otsu

        c, px = self.config, self.um_per_px
        stain = cv2.GaussianBlur(rgb2hed(picture)[..., 0].astype(np.float32), (0, 0), c.blur_um / px)
        if np.ptp(stain) < 1e-6:
            return np.zeros(stain.shape, bool)
        return tidied(stain > threshold_otsu(stain), c.speck_um2 / px**2, c.hole_um2 / px**2)


def tidied(mask: NDArray[np.bool_], speck_px: float, hole_px: float) -> NDArray[np.bool_]:
    """The mask without pieces smaller than `speck_px` and with holes smaller than `hole_px` filled."""
    kept = _large(mask, speck_px)
    return ~_large(~kept, hole_px)


def _large(mask: NDArray[np.bool_], least_px: float) -> NDArray[np.bool_]:
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    keep = sizes[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False
    return np.asarray(keep[pieces], bool)


def with_core(mask: NDArray[np.bool_], depth_px: float) -> NDArray[np.float32]:
    """A mask and what lies deeper than `depth_px` inside it, as (2, h, w) of 0 and 1."""
    padded = np.pad(mask.astype(np.uint8), 1, mode="edge")
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.stack([mask, depth > depth_px]).astype(np.float32)
