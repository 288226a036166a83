"""k-means on features that the user brings: of any timm network with its weights (DINO and others), or of an earlier run.

Nothing is learnt but the centres. A convolutional network gives the maps of all its stages, each at unit length, brought to a quarter of the
frame and joined; a transformer that of its last layer, as is usual for DINO (Caron et al. 2021, arXiv 2104.14294). Wide features are brought to
their first 64 principal components. Local discrimination gives its embedding, a rival the features that it clustered.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from tacit.config import build
from tacit.errors import ConfigError, UsageError
from tacit.learn.cluster_maps import Centres, FrameConfig, device_of, frame_of, names, planes, sampled
from tacit.learn.contrast_clusters import DenseclClusters, PixproClusters
from tacit.learn.deep_cluster import DeepCluster
from tacit.learn.feature_clustering import FeatureClustering
from tacit.learn.iic import Iic
from tacit.learn.picie import Picie
from tacit.learn.pretraining import OF_PLACES
from tacit.learn.random_features import RandomFeatures
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.prepare.space import to_size
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD

GIVING: dict[str, Any] = {  # rivals whose features can be clustered anew
    "random-features": RandomFeatures,
    "iic": Iic,
    "deep-cluster": DeepCluster,
    "picie": Picie,
    "feature-clustering": FeatureClustering,
    "densecl-clusters": DenseclClusters,
    "pixpro-clusters": PixproClusters,
}
QUARTER = 4  # a pixel of the joined maps is so many of the frame


class FeatureClustersConfig(FrameConfig):
    of: str = "timm"  # whose features: timm, or the method of the run that --model names
    settings: dict[str, object] = {}  # of that method, as the run had them
    network: BackboneConfig = BackboneConfig()  # with timm: any of its names, and FILE.safetensors or hub:NAME
    layers: int = 0  # how many of the last maps are joined; 0 = all of a convolutional network, one of a transformer


class FeatureClusters(nn.Module):
    """One plane a cluster of features that were learnt elsewhere."""

    Config = FeatureClustersConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names

    def __init__(self, config: FeatureClustersConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or FeatureClustersConfig()
        self.CLASSES = names(c.clusters)
        if c.of == "timm":
            self.inner: Any = Backbone(c.network)
        elif c.of in OF_PLACES | GIVING:
            kind = (OF_PLACES | GIVING)[c.of]
            self.inner = kind(build(kind.Config, dict(c.settings)))
        else:
            raise ConfigError(f"of={c.of!r}: features are known of timm, {', '.join(OF_PLACES | GIVING)}; give a run of one with --model")
        self.inner.eval()
        width = self.maps(np.full((c.side, c.side, 3), 128, np.uint8)).shape[-1]
        self.centres = Centres(c.clusters, width, "components" if c.of not in GIVING else _how(self.inner))

    @classmethod
    def of_run(cls, method: str, network: Any, chosen: dict[str, Any]) -> FeatureClusters:
        """With the features of an earlier run's network. chosen: settings to change. Raises UsageError for a method without features of places."""
        if method not in OF_PLACES | GIVING:
            raise UsageError(f"--model holds a run of {method}, whose features cannot be clustered; give a run of {', '.join(OF_PLACES | GIVING)}")
        made = cls(build(FeatureClustersConfig, {"of": method, "settings": network.config.model_dump(mode="json")}, chosen))
        made.inner.load_state_dict(network.state_dict())
        return made.eval()

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture; a rival's run has its own."""
        return self.inner.working(picture) if self.config.of in GIVING else frame_of(picture, self.config.side)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> FeatureClusters:
        """Clusters the features of all frames together; a timm network without weights is drawn by the seed. In place."""
        if self.config.of == "timm" and self.config.network.weights is None:
            torch.manual_seed(1000 * shop.seed + 7)
            self.inner.load_state_dict(Backbone(self.config.network).state_dict())
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self.eval()

    @torch.no_grad()
    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of a frame, (h', w', d)."""
        if self.config.of in GIVING:
            return np.asarray(self.inner.maps(frame), np.float32)
        device = device_of(self)
        if self.config.of == "local-discrimination":
            return np.asarray(self.inner.eval()(_normalised(frame).to(device))[0][0].permute(1, 2, 0).float().cpu().numpy(), np.float32)
        net = (self.inner.byol.encoder if hasattr(self.inner, "byol") else self.inner.encoder if self.config.of != "timm" else self.inner).net.eval()
        if not hasattr(net, "forward_intermediates"):
            raise ConfigError(f"the backbone {self.config.network.name} gives no maps of places; use a convolutional network or a transformer of timm's")
        about = getattr(net, "pretrained_cfg", {})
        fixed = bool(about.get("fixed_input_size", False))
        seen = to_size(frame, tuple(about["input_size"][1:])) if fixed else frame
        count = self.config.layers or (1 if fixed else 0)
        maps = [m.float() for m in net.forward_intermediates(_normalised(seen).to(device), intermediates_only=True) if m.ndim == 4][-count:]
        size = maps[-1].shape[2:] if fixed else (-(-frame.shape[0] // QUARTER), -(-frame.shape[1] // QUARTER))
        joined = torch.cat([F.interpolate(F.normalize(m, dim=1), size, mode="bilinear") for m in maps], 1)
        return np.asarray(joined[0].permute(1, 2, 0).cpu().numpy(), np.float32)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        frame = self.working(picture)
        found = self.maps(frame)
        if found.shape[:2] != frame.shape[:2]:
            found = np.stack([cv2.resize(found[..., d], frame.shape[1::-1], interpolation=cv2.INTER_LINEAR) for d in range(found.shape[-1])], -1)
        return planes(self.centres.of(found), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()


def _how(rival: Any) -> Any:
    """How a rival lays its own features before it clusters them."""
    return rival.centres.how if hasattr(rival, "centres") else "unit"


def _normalised(frame: NDArray[np.uint8]) -> torch.Tensor:
    x = (frame.astype(np.float32) / 255 - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_SD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1), np.float32))[None]
