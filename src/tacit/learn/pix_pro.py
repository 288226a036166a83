"""Every place of a map, smoothed over the places that look like it, predicts what a slow copy sees at the same place of the picture in another view.

"Propagate Yourself: Exploring Pixel-Level Consistency for Unsupervised Visual Representation Learning" (PixPro), Xie et al., CVPR 2021,
arXiv 2011.10043. Section and equation numbers are theirs. Ours differs for one core: batches of 32 (paper: 1,024) by AdamW (LARS);
g(x_j) keeps its length, as Eq. 3 has it (their code brings it to 1); no loss of whole pictures stands beside (section 3.3 adds one for classification).

    x, x'     a place's projected features, by the network and by its slow copy, (n, p, d)
    y         x propagated: Σ_j s(x_i, x_j) g(x_j)
    A(i, j)   whether place i of one view and place j of the other lie on the same spot of the picture
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import follow, mlp, momentum_at, slow_copy
from tacit.parts.train import Batch, TrainConfig

TINY = 1e-6


class PixproConfig(Config):
    backbone: BackboneConfig = BackboneConfig()  # convolutional
    hidden: Count = 4096  # of the projection, as in their code
    projection: Count = 256  # d
    near: Positive = 0.7  # 𝒯: farthest distance of a positive pair / diagonal of a place, Eq. 1
    sharpness: Positive = 2.0  # γ, Eq. 4
    layers: Count = 1  # of g, Eq. 3
    momentum: Share = 0.99  # of the slow copy at the start
    rising: bool = True  # to 1 along a cosine; False = fixed
    views: str = "byol"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=32, lr=3e-3, weight_decay=1e-2, average=0.0)

    @property
    def placed(self) -> bool:
        """Its views say where in the picture they were cut."""
        return True


class Pixpro(nn.Module):
    """Learns maps of features from pairs of views whose places in the picture are known."""

    Config = PixproConfig

    def __init__(self, config: PixproConfig | None = None, encoder: Backbone | None = None) -> None:
        super().__init__()
        c = self.config = config or PixproConfig()
        self.encoder = encoder or Backbone(c.backbone)
        self.encoder.check_map(c.size)
        normed = not c.backbone.group_norm
        self.projector = mlp([self.encoder.channels, c.hidden, c.projection], norm=normed)  # a 1 × 1 convolution is a linear layer on every place
        self.transform = mlp([c.projection] * (c.layers + 1), norm=normed)  # g
        self.slow_encoder, self.slow_projector = slow_copy(self.encoder), slow_copy(self.projector)

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each picture · place_a, place_b (n, 2, 3), where they were cut (`prepare.place`).

        `overlap` is the share of pictures whose views have a spot in common; the others teach nothing.
        """
        x_a, shape = _places(self.encoder, self.projector, batch["a"])
        x_b, _ = _places(self.encoder, self.projector, batch["b"])
        with torch.no_grad():
            slow_a, slow_b = (_places(self.slow_encoder, self.slow_projector, batch[view])[0] for view in ("a", "b"))
        pairs = positives(batch["place_a"], batch["place_b"], shape, self.config.near)
        with torch.autocast(x_a.device.type, enabled=False):  # cosines near 1 are what is learnt
            loss = consistency(self.propagate(x_a), slow_b, pairs) + consistency(self.propagate(x_b), slow_a, pairs.transpose(1, 2))  # Eq. 5
        return {"loss": loss, "overlap": pairs.flatten(1).any(1).float().mean(), "embedding": x_a.detach().flatten(0, 1)}

    def propagate(self, x: Tensor) -> Tensor:
        """The pixel propagation module, x (n, p, d) → y (n, p, d): y_i = Σ_j s(x_i, x_j) g(x_j), Eq. 3, with s = max(cos, 0)^γ, Eq. 4."""
        unit = F.normalize(x, dim=-1)
        s = (unit @ unit.transpose(1, 2)).clamp_min(TINY) ** self.config.sharpness  # not below TINY: the slope of a root is infinite at 0
        return s @ _by_row(self.transform, x)

    def after_step(self, progress: float) -> None:
        """The slow copy follows. progress: share of the steps that are done, 0–1."""
        momentum = momentum_at(self.config.momentum, progress, self.config.rising)
        follow(self.slow_encoder, self.encoder, momentum)
        follow(self.slow_projector, self.projector, momentum)


def positives(place_a: Tensor, place_b: Tensor, shape: tuple[int, int], near: float) -> Tensor:
    """A (n, p, p): which of the p = h·w places of the maps of two views, row by row, make a pair.

    place_a, place_b (n, 2, 3): from a view's unit square to the picture. A(i, j) = 1 where dist(i, j) ≤ 𝒯, Eq. 1; the distance of two
    places' middles in the picture is over the diagonal of a place, the larger one of both views'.
    """
    h, w = shape
    u, v = (torch.arange(n, device=place_a.device, dtype=place_a.dtype) for n in (h, w))
    unit = torch.stack([*torch.meshgrid((u + 0.5) / h, (v + 0.5) / w, indexing="ij"), torch.ones(h, w, device=u.device, dtype=u.dtype)], -1).reshape(-1, 3)
    middle_a, middle_b = ((place[:, None] @ unit[None, :, :, None])[..., 0] for place in (place_a, place_b))  # (n, p, 2)
    diagonal_a, diagonal_b = (torch.hypot(place[:, :, 0].norm(dim=1) / h, place[:, :, 1].norm(dim=1) / w) for place in (place_a, place_b))
    distance = (middle_a[:, :, None] - middle_b[:, None]).norm(dim=-1) / torch.maximum(diagonal_a, diagonal_b)[:, None, None]
    return distance <= near


def consistency(y: Tensor, x: Tensor, pairs: Tensor) -> Tensor:
    """−cos(y_i, x'_j), mean over the positive pairs of a picture, then over pictures; one without pairs counts as 0. y and x (n, p, d), pairs (n, p, p)."""
    cosine = F.normalize(y, dim=-1) @ F.normalize(x, dim=-1).transpose(1, 2)
    return -((cosine * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)).mean()


def _places(encoder: Backbone, projector: nn.Module, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The projected places of a view, row by row, (n, p, d), and the map's height and width."""
    seen = encoder.map(x)
    return _by_row(projector, seen.flatten(2).transpose(1, 2)).float(), (seen.shape[2], seen.shape[3])


def _by_row(network: nn.Module, x: Tensor) -> Tensor:
    """(n, p, f) → (n, p, d), every place by itself; batch statistics are over all of them."""
    return network(x.flatten(0, 1)).unflatten(0, x.shape[:2])
