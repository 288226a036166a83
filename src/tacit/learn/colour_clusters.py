"""k-means on the colours of pixels: the plainest rival. Nothing is learnt but the centres (Lloyd 1982)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.learn.cluster_maps import Centres, FrameConfig, frame_of, names, planes, sampled
from tacit.learn.workshop import Workshop
from tacit.prepare.colour import standardised


class ColourClustersConfig(FrameConfig):
    blur: float = 1.0  # SD of a Gaussian before, px of the frame; 0 = none


class ColourClusters(nn.Module):
    """One plane a cluster of Lab colours, each picture's tissue brought to mean 0 and SD 1."""

    Config = ColourClustersConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names

    def __init__(self, config: ColourClustersConfig | None = None) -> None:
        super().__init__()
        self.config = config or ColourClustersConfig()
        self.CLASSES = names(self.config.clusters)
        self.centres = Centres(self.config.clusters, 3, "raw")

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture."""
        return frame_of(picture, self.config.side)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> ColourClusters:
        """Clusters the colours of all frames together. In place."""
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self.eval()

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, 3)"""
        lab = np.ascontiguousarray(standardised(frame).transpose(1, 2, 0), np.float32)
        return np.asarray(cv2.GaussianBlur(lab, (0, 0), self.config.blur), np.float32) if self.config.blur else lab

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()
