"""Soft cluster assignments of a pixel, and of its neighbours in another view of it, are made to tell as much as they can about each other.

"Invariant Information Clustering for Unsupervised Image Classification and Segmentation" (IIC), Ji, Henriques and Vedaldi, ICCV 2019, arXiv
1807.06653. Section and equation numbers are theirs. Ours differs: the encoder is the rivals' U-Net (paper: a VGG), both heads learn in
every step (paper: by turns), g is a mirror, a quarter turn and a shift of colours in Lab; displacements reach 1 px of a small frame (paper: 10 px).

    Φ(x)      shares of the k clusters at every pixel, by the main head and by the over-clustering head of `over` times as many
    P_t       the joint of a pixel's cluster and that of the pixel t beside it in the other view, laid back
    I(P)      its mutual information
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Count
from tacit.learn.cluster_maps import RivalConfig, collapse_of, device_of, frame_of, laid_out, map_of, names, planes, shares_of
from tacit.learn.paired_views import laid_on, pair_batches
from tacit.learn.workshop import Workshop
from tacit.parts.loss import mutual_information
from tacit.parts.train import Batch
from tacit.parts.unet import UNet


class IicConfig(RivalConfig):
    dimensions: Count = 32  # of the features that both heads read
    over: Count = 5  # clusters of the over-clustering head / clusters (section 3.4)
    reach: int = 1  # px, the farthest displacement along rows and columns (section 3.3; paper: 10)


class Iic(nn.Module):
    """Shares of k clusters at every pixel: (b, 3, h, w) → (b, k, h, w), adding to 1."""

    Config = IicConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names
    share: Tensor

    def __init__(self, config: IicConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or IicConfig()
        self.CLASSES = names(c.clusters)
        self.encoder = UNet(c.network, c.dimensions)
        self.head, self.over_head = (nn.Conv2d(c.dimensions, k, 1) for k in (c.clusters, c.clusters * c.over))
        self.register_buffer("share", torch.zeros(c.clusters))
        laid_out(self)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(torch.relu(self.encoder(x))).float(), 1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each crop · grid (n, h, w, 2), where a pixel of b lies in a. `information` is that of the main head, nats."""
        f_a, f_b = (torch.relu(self.encoder(batch[view])) for view in ("a", "b"))
        found = []
        for head in (self.head, self.over_head):
            p_a, p_b = (torch.softmax(head(f).float(), 1) for f in (f_a, f_b))
            with torch.autocast(p_a.device.type, enabled=False):  # in bf16 the joint of many pixels would be too coarse
                found.append(local_information(laid_on(p_a, batch["grid"]), p_b, self.config.reach))
        return {"loss": -(found[0] + found[1]) / 2, "information": found[0].detach(), "over": found[1].detach()}

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> Iic:
        """Learns from frames (h, w, 3) alone. In place."""
        c = self.config
        torch.manual_seed(1000 * shop.seed + 7)
        self.load_state_dict(Iic(c).state_dict())
        shop.train("iic", self, pair_batches(frames, c, shop.seed, (1.0, 1.0)), c.train, seed=shop.seed)
        self.share.copy_(shares_of((self.labels(frame) for frame in frames), c.clusters))
        return self

    def labels(self, frame: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The likeliest cluster of every pixel of a frame, (h, w)."""
        return np.asarray(map_of(self.eval(), frame, device_of(self)).argmax(-1))

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features under the heads, (h, w, d), for k-means."""
        return map_of(self.encoder.eval(), frame, device_of(self))

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture. Raises InputError where it is smaller than a crop."""
        return frame_of(picture, self.config.side, self.config.size)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.labels(self.working(picture)), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """Whether one cluster took nearly all pixels."""
        return collapse_of(self.share)


def local_information(p: Tensor, p_other: Tensor, reach: int) -> Tensor:
    """Mean over displacements t, |t| ≤ reach along rows and columns, of I(P_t), nats. p, p_other (b, k, h, w), shares of clusters.

    P_t = 1/(n |Ω|) Σ Σ_u Φ_u(x) · Φ_{u+t}(x')ᵀ, Eq. 5, over the pixels u whose neighbour u + t lies in the view.
    """
    h, w = p.shape[2:]
    found = []
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            mine = p[:, :, max(-down, 0) : h - max(down, 0), max(-right, 0) : w - max(right, 0)]
            other = p_other[:, :, max(down, 0) : h - max(-down, 0), max(right, 0) : w - max(-right, 0)]
            rows, columns = (each.transpose(0, 1).flatten(1).T for each in (mine, other))
            found.append(mutual_information(rows, columns))
    return torch.stack(found).mean()
