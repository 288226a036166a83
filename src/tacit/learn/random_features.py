"""k-means on the features of the rivals' encoder with its random weights: what an architecture alone is worth, before anything is learnt.

Every learned rival begins here; what it gains over this row is what its learning gives.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tacit.config import Count
from tacit.learn.cluster_maps import Centres, FrameConfig, device_of, frame_of, map_of, names, planes, sampled
from tacit.learn.workshop import Workshop
from tacit.parts.unet import UNet, UNetConfig


class RandomFeaturesConfig(FrameConfig):
    network: UNetConfig = UNetConfig()  # the encoder, the same for all rivals
    dimensions: Count = 32  # of a pixel's features


class RandomFeatures(nn.Module):
    """One plane a cluster of random features, each channel over its SD."""

    Config = RandomFeaturesConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names

    def __init__(self, config: RandomFeaturesConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or RandomFeaturesConfig()
        self.CLASSES = names(c.clusters)
        self.network = UNet(c.network, c.dimensions)
        self.centres = Centres(c.clusters, c.dimensions, "scaled")

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture."""
        return frame_of(picture, self.config.side)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> RandomFeatures:
        """Draws the weights by the seed and clusters their features. In place."""
        torch.manual_seed(1000 * shop.seed + 7)
        self.network.load_state_dict(UNet(self.config.network, self.config.dimensions).state_dict())
        self.eval()
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, d)"""
        return map_of(self.network.eval(), frame, device_of(self))

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()
