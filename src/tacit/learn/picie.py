"""Clusters of pixels that do not change with colours and move with the picture: two views are clustered each by itself and name each other's pixels.

"PiCIE: Unsupervised Semantic Segmentation Using Invariance and Equivariance in Clustering", Cho et al., CVPR 2021, arXiv 2103.17070. Section and
equation numbers are theirs. Ours differs: the rivals' U-Net with random weights (paper: ImageNet's ResNet-18 with a pyramid), colours shifted in
Lab, crops of a small frame; the over-clustering head (PiCIE+H) is left out.

    P, G        shift of colours and blur, each view its own; mirror, turn and zoom, G(z): z laid where G puts it
    z¹, z²      G(f(P¹(x))) and f(P²(G(x))), unit vectors at the same places (section 3.3, Eqs. 6 and 7)
    μ¹, μ²      their clusterings, each view's own; y¹, y² the nearest centre of every pixel before the round
    L           −log of a centre's share of exp(−d), d the cosine distance: nothing but the centres is the classifier (Eq. 5)
    loss        within: L(z¹, y¹, μ¹) + L(z², y², μ²); cross: L(z¹, y², μ²) + L(z², y¹, μ¹) (Eqs. 8–11)
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Count, Positive, Range
from tacit.learn.cluster_maps import Centres, RivalConfig, check_enough, device_of, frame_of, laid_out, map_of, names, planes, sampled
from tacit.learn.paired_views import laid_on, pair_batches
from tacit.learn.workshop import Workshop
from tacit.parts.cluster import k_means
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet


class PicieConfig(RivalConfig):
    dimensions: Count = 32  # of a pixel's features (paper: 128)
    zoom: Range = (0.5, 1.0)  # side of the part that G shows over that of the crop
    rounds: Count = 5  # of clustering and learning (paper: 10 epochs)
    clustered: Count = 24  # pairs of views a round that the centres are found on
    temperature: Positive = 1.0  # of the distances; the paper has none
    balanced: bool = True  # classes weigh alike whatever their size, as in their code
    train: TrainConfig = TrainConfig(epochs=1, steps=60, batch=8, lr=1e-3, schedule="constant", average=0.0)  # of one round


class Picie(nn.Module):
    """Unit features of every pixel: (b, 3, h, w) → (b, d, h, w)."""

    Config = PicieConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names
    first: Tensor
    second: Tensor

    def __init__(self, config: PicieConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or PicieConfig()
        self.CLASSES = names(c.clusters)
        self.encoder = UNet(c.network, c.dimensions)
        self.register_buffer("first", torch.eye(c.clusters, c.dimensions))  # μ¹
        self.register_buffer("second", self.first.clone())  # μ²
        self.centres = Centres(c.clusters, c.dimensions, "unit")
        laid_out(self)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.encoder(x).float(), dim=1)

    def both(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """z¹ and z² of a batch of pairs, (n, d, h, w) at the places of view b."""
        return F.normalize(laid_on(self(batch["a"]), batch["grid"]), dim=1), self(batch["b"])

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w) · grid (n, h, w, 2), where a pixel of b lies in a · y1, y2 (n, h, w), the nearest of μ¹ and μ²."""
        z1, z2 = self.both(batch)
        y1, y2 = batch["y1"], batch["y2"]
        within = self._named(z1, y1, self.first) + self._named(z2, y2, self.second)  # Eq. 8
        cross = self._named(z1, y2, self.second) + self._named(z2, y1, self.first)  # Eq. 9
        alike = F.cosine_similarity(z1.detach(), z2.detach(), dim=1).mean()
        return {"loss": (within + cross) / 2, "within": within.detach(), "cross": cross.detach(), "alike": alike}

    def _named(self, z: Tensor, y: Tensor, centres: Tensor) -> Tensor:
        return prototype_loss(z, y, centres, self.config.temperature, self.config.balanced)

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> Picie:
        """Learns from frames (h, w, 3) alone. In place."""
        c = self.config
        torch.manual_seed(1000 * shop.seed + 7)
        self.load_state_dict(Picie(c).state_dict())
        for turn in range(c.rounds):
            seed = 1000 * shop.seed + turn
            pairs = pair_batches(frames, c, seed, c.zoom)
            self.cluster(pairs, seed)
            shop.train(f"round-{turn + 1}", self, self.named(pairs), c.train, seed=seed)
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self

    @torch.no_grad()
    def cluster(self, pairs: Callable[[int], Batch], seed: int) -> None:
        """μ¹ and μ² anew: k-means of each view's own features, on batches that no step learns from. Raises InputError where features have collapsed."""
        self.eval()
        device, batches = device_of(self), -(-self.config.clustered // self.config.train.batch)
        rng, found = np.random.default_rng([seed, 9]), ([], [])  # type: ignore[var-annotated]
        for step in range(self.config.train.total, self.config.train.total + batches):
            for own, z in zip(found, self.both({name: value.to(device) for name, value in pairs(step).items()}), strict=True):
                flat = z.permute(0, 2, 3, 1).flatten(0, 2).cpu().numpy()
                own.append(flat[rng.choice(len(flat), min(len(flat), 4000), replace=False)])
        for centres, own in zip((self.first, self.second), found, strict=True):
            points = np.concatenate(own)
            check_enough(points, self.config.clusters)
            centres.copy_(F.normalize(torch.from_numpy(k_means(points, self.config.clusters, seed)), dim=1))

    def named(self, pairs: Callable[[int], Batch]) -> Callable[[int], Batch]:
        """The same batches with y1 and y2 by the network as it is now: labels of a round do not move while it learns."""
        before = copy.deepcopy(self).eval()
        device = device_of(self)

        @torch.no_grad()
        def batch(step: int) -> Batch:
            views = pairs(step)
            z1, z2 = before.both({name: value.to(device) for name, value in views.items()})
            return views | {"y1": labels_of(z1, before.first).cpu(), "y2": labels_of(z2, before.second).cpu()}

        return batch

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, d)"""
        return map_of(self.eval(), frame, device_of(self))

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture. Raises InputError where it is smaller than a crop."""
        return frame_of(picture, self.config.side, self.config.size)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()


def labels_of(z: Tensor, centres: Tensor) -> Tensor:
    """The centre (k, d) with the largest cosine at every pixel of unit features z (n, d, h, w): (n, h, w)."""
    return torch.einsum("ndhw,kd->nkhw", z, centres).argmax(1)


def prototype_loss(z: Tensor, y: Tensor, centres: Tensor, temperature: float = 1.0, balanced: bool = False) -> Tensor:
    """−log( exp(−d(z, μ_y)) / Σ_l exp(−d(z, μ_l)) ), mean over pixels, d = 1 − cos, Eq. 5. z (n, d, h, w) and centres (k, d) of unit length, y (n, h, w)."""
    logits = (torch.einsum("ndhw,kd->nkhw", z, centres) - 1) / temperature
    weight = None
    if balanced:
        count = torch.bincount(y.flatten(), minlength=len(centres)).float()
        weight = torch.where(count > 0, count.sum() / (count.clamp_min(1) * (count > 0).sum()), 0.0)
    return F.cross_entropy(logits, y, weight)
