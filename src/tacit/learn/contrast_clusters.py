"""Dense contrast, then k-means: the features that DenseCL or PixPro teach the rivals' encoder, clustered pixel by pixel.

DenseCL (Wang et al., arXiv 2011.09157) and PixPro (Xie et al., arXiv 2011.10043) are pretraining (learn/dense_cl.py, learn/pix_pro.py) and say
nothing of segmentation without labels; k-means of what they learn is the plainest way to it. Ours differs: the encoder is the rivals' U-Net, whose
map is averaged over `stride` × `stride` pixels for the contrast and read at every pixel for the clustering; views are cut from a small frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Count, Range
from tacit.errors import ConfigError
from tacit.learn.cluster_maps import Centres, RivalConfig, device_of, frame_of, laid_out, map_of, names, planes, sampled
from tacit.learn.dense_cl import Densecl, DenseclConfig
from tacit.learn.pix_pro import Pixpro, PixproConfig
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import Backbone
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.prepare.colour import standardised
from tacit.prepare.place import place
from tacit.prepare.views import ViewConfig, apply, colour_shift, draw_view


class ContrastConfig(RivalConfig):
    dimensions: Count = 32  # of a pixel's features
    stride: Count = 8  # px of the places that are contrasted
    area: Range = (0.08, 0.4)  # a view's part of the frame
    train: TrainConfig = TrainConfig(epochs=1, steps=300, batch=8, lr=1e-3, average=0.0)


class DenseclClustersConfig(ContrastConfig):
    densecl: DenseclConfig = DenseclConfig(grid=8, queue=1024)  # its heads, queues and loss; backbone, views, size and train are not read


class PixproClustersConfig(ContrastConfig):
    pixpro: PixproConfig = PixproConfig(hidden=256, projection=64)  # its heads and loss; backbone, views, size and train are not read


class Places(Backbone):
    """The rivals' U-Net as a backbone: a map of features averaged over `stride` × `stride` pixels, and their mean."""

    def __init__(self, config: UNetConfig, dimensions: int, stride: int) -> None:
        nn.Module.__init__(self)  # no network of timm
        self.net, self.stride = UNet(config, dimensions), stride
        self.width = self.channels = dimensions

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) → (b, d)"""
        return self.map(x).mean((2, 3))

    def map(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) → (b, d, h / stride, w / stride)"""
        found: Tensor = F.avg_pool2d(self.net(x), self.stride)
        return found


class ContrastClusters(nn.Module):
    """One plane a cluster of features that contrast of places has taught. Not used by itself: see its two kinds."""

    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names
    STAGE: ClassVar[str]
    config: Any
    taught: nn.Module  # Densecl or Pixpro

    def _begin(self, config: ContrastConfig) -> Places:
        self.config = config
        self.CLASSES = names(config.clusters)
        if config.size % config.stride:
            raise ConfigError(f"size={config.size} is no multiple of stride={config.stride}; give one")
        self.centres = Centres(config.clusters, config.dimensions, "unit")
        return Places(config.network, config.dimensions, config.stride)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> ContrastClusters:
        """Learns from frames (h, w, 3) alone. In place."""
        torch.manual_seed(1000 * shop.seed + 7)
        self.load_state_dict(type(self)(self.config).state_dict())
        self.to(shop.device)
        shop.train(self.STAGE, self.taught, placed_batches(frames, self.config, shop.seed), self.config.train, seed=shop.seed)
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, d)"""
        encoder: Any = self.taught.encoder
        return map_of(encoder.net.eval(), frame, device_of(self))

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture. Raises InputError where it is smaller than a crop."""
        return frame_of(picture, self.config.side, self.config.size)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()


class DenseclClusters(ContrastClusters):
    """By DenseCL: a place's positive key is the place of the other view that looks most like it."""

    Config = DenseclClustersConfig
    STAGE = "densecl"

    def __init__(self, config: DenseclClustersConfig | None = None) -> None:
        super().__init__()
        c = config or DenseclClustersConfig()
        self.taught = Densecl(c.densecl, self._begin(c))
        laid_out(self)


class PixproClusters(ContrastClusters):
    """By PixPro: a place agrees with what a slow copy sees at the same place of the picture."""

    Config = PixproClustersConfig
    STAGE = "pixpro"

    def __init__(self, config: PixproClustersConfig | None = None) -> None:
        super().__init__()
        c = config or PixproClustersConfig()
        self.taught = Pixpro(c.pixpro, self._begin(c))
        laid_out(self)


def placed_batches(frames: list[NDArray[np.uint8]], c: ContrastConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: two views a, b of random frames and where they were cut, place_a and place_b; a pure function of (seed, step, item)."""
    standard = [np.ascontiguousarray(standardised(frame).transpose(1, 2, 0), np.float32) for frame in frames]
    how = ViewConfig(size=c.size, scale=c.area, ratio=(1.0, 1.0), flip=0.5, turns=True, jitter=0.0, grey=0.0, blur=0.5, sigma=(0.1, 1.0))

    def item(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        frame = standard[int(rng.integers(len(frames)))]
        found: dict[str, NDArray[Any]] = {}
        for name in ("a", "b"):
            draw = draw_view(rng, frame.shape[:2], how)
            x = np.ascontiguousarray(apply(frame, draw).transpose(2, 0, 1))
            found |= {name: colour_shift(rng, x, c.colour), f"place_{name}": place(draw)}
        return found

    def batch(step: int) -> Batch:
        items = [item(np.random.default_rng([seed, 73, step, i])) for i in range(c.train.batch)]
        return {name: torch.from_numpy(np.stack([one[name] for one in items])) for name in items[0]}

    return batch
