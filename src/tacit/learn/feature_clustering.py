"""The first stage of MSSG alone: a small net learns to agree with its own strongest responses and with its neighbours; its responses are clustered.

Differentiable feature clustering: Kim, Kanezaki and Tanaka 2020, arXiv 2007.09990, which SGSCN (Ahn et al., MICCAI 2021, arXiv 2107.04934) and
MSSG (arXiv 2307.11989, learn/mssg.py) build on. Ours differs: one net and one clustering for all pictures, so that a cluster means the same
everywhere; SGSCN's context consistency is left out. No cue tells which cluster is what: that is `mssg-paper`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tacit.config import Count, Positive
from tacit.learn.cluster_maps import Centres, FrameConfig, frame_of, names, planes, sampled
from tacit.learn.mssg import BorderConfig, BorderNet, responses, train_border
from tacit.learn.workshop import Workshop


class FeatureClusteringConfig(FrameConfig):
    channels: Count = 32  # of the net and its responses (paper: 128)
    steps: int = 100  # pictures in turn (paper: 50 on each picture by itself)
    lr: Positive = 0.01  # paper
    spatial: float = 5.0  # paper: weight of the spatial loss
    loss: Literal["argmax", "iic"] = "argmax"  # as released, or the mutual information of neighbours
    padding: Literal["zeros", "reflect"] = "reflect"  # paper: zeros, which make a frame-shaped cluster


class FeatureClustering(nn.Module):
    """One plane a cluster of the net's responses."""

    Config = FeatureClusteringConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names

    def __init__(self, config: FeatureClusteringConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or FeatureClusteringConfig()
        self.CLASSES = names(c.clusters)
        self.border = BorderConfig(channels=c.channels, lr=c.lr, spatial=c.spatial, loss=c.loss, padding=c.padding)
        self.net = BorderNet(self.border)
        for layer in self.net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.0  # it takes each picture's own statistics, and remembers none
        self.centres = Centres(c.clusters, c.channels, "raw")

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture."""
        return frame_of(picture, self.config.side)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> FeatureClustering:
        """Learns from frames (h, w, 3) alone. In place."""
        self.net.load_state_dict(train_border(frames, self.border, shop.seed, self.config.steps).state_dict())
        shop.say(f"feature clustering: {self.config.steps} steps")
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, channels)"""
        with torch.no_grad():
            return responses(self.net.cpu().train(), frame)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()
