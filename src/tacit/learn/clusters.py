"""The clusters that local discrimination found, as a map over each picture: what a pixel belongs to, without a name.

The picture is seen as the run saw it: its shorter side at the size of a view (learn/local_discrimination.py).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tacit.config import Config
from tacit.errors import UsageError
from tacit.learn.local_discrimination import LocalDiscrimination, LocalDiscriminationConfig
from tacit.learn.workshop import Workshop
from tacit.prepare.field import as_rgb
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD


class ClustersConfig(Config):
    local: LocalDiscriminationConfig = LocalDiscriminationConfig()


class Clusters(nn.Module):
    """One plane a cluster, 1 where it is the likeliest. It learns nothing: `tacit pretrain` did."""

    Config = ClustersConfig
    FILLS = True  # its planes fill the whole picture

    def __init__(self, config: ClustersConfig | None = None) -> None:
        super().__init__()
        self.config = config or ClustersConfig()
        self.local = LocalDiscrimination(self.config.local)
        self.CLASSES = tuple(f"cluster-{k + 1}" for k in range(self.config.local.clusters))

    @classmethod
    def of(cls, local: LocalDiscrimination, config: ClustersConfig) -> Clusters:
        """With what a run learnt."""
        made = cls(config)
        made.local.load_state_dict(local.state_dict())
        return made.eval()

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A picture (h, w) or (h, w, 3) with its shorter side as long as a view. Raises InputError as `as_rgb`."""
        rgb = as_rgb(picture)
        factor = self.config.local.size / min(rgb.shape[:2])
        size = (max(round(rgb.shape[1] * factor), 1), max(round(rgb.shape[0] * factor), 1))
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), np.uint8)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> Clusters:
        """Raises UsageError: there is nothing to learn here."""
        raise UsageError("clusters are learnt by tacit pretrain --method local-discrimination; give its OUT with --model")

    @torch.no_grad()
    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) at the picture's own size: 1 at the likeliest cluster, else 0."""
        seen = (self.working(picture) / np.float32(255) - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_SD, np.float32)
        x = torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1), np.float32))[None].to(next(self.parameters()).device)
        m = torch.nn.functional.interpolate(self.local.eval()(x)[1], size=(picture.shape[0], picture.shape[1]), mode="bilinear")[0]
        return torch.nn.functional.one_hot(m.argmax(0), len(m)).permute(2, 0, 1).float().cpu().numpy()
