"""An online network predicts what its slow copy says of another view of the same picture; no negatives.

"Bootstrap Your Own Latent" (BYOL), Grill et al. 2020, arXiv 2006.07733. Section and equation numbers are theirs.
Ours differs: group norm is an option (SyncBatchNorm refuses CPU tensors). `PRESETS` holds the report's settings as its code ran them, and
ones for haematoxylin and eosin.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import follow, mlp, momentum_at, negative_cosine, slow_copy
from tacit.parts.train import Batch, TrainConfig


class ByolConfig(Config):
    backbone: BackboneConfig = BackboneConfig()
    hidden: Count = 4096  # section 3.2
    projection: Count = 256  # section 3.2
    momentum: Share = 0.996  # of the target at the start (tau_base, section 3.2)
    rising: bool = True  # to 1 along a cosine (section 3.2); False = fixed
    views: str = "byol"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=32, lr=3e-3, weight_decay=1e-2, average=0.0)


PRESETS: dict[str, dict[str, Any]] = {
    "byol": {},
    "report": {  # the report's code; it starts from ImageNet's weights: --weights
        "backbone": {"name": "resnext50_32x4d"},
        "hidden": 2048,
        "projection": 512,
        "rising": False,
        "views": "report",
        "train": {"optimizer": "sgd", "lr": 3e-4, "momentum": 0.9, "weight_decay": 1.5e-6, "schedule": "constant", "batch": 32, "epochs": 30},
    },
    "histology": {"momentum": 0.99, "views": "histology"},
}


class Byol(nn.Module):
    """Learns features from pairs of views. `features(x)` are the online encoder's."""

    Config = ByolConfig

    def __init__(self, config: ByolConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ByolConfig()
        self.encoder = Backbone(c.backbone)
        self.projector = mlp([self.encoder.width, c.hidden, c.projection], norm=not c.backbone.group_norm)
        self.predictor = mlp([c.projection, c.hidden, c.projection], norm=not c.backbone.group_norm)
        self.slow_encoder, self.slow_projector = slow_copy(self.encoder), slow_copy(self.projector)

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each picture. Each view goes through the network as a batch of its own."""
        a, b = batch["a"], batch["b"]
        with torch.no_grad():
            target_a, target_b = (self.slow_projector(self.slow_encoder(x)) for x in (a, b))
        features = self.encoder(a)
        p_a = self.predictor(self.projector(features))
        p_b = self.predictor(self.projector(self.encoder(b)))
        loss = 2 + 2 * negative_cosine(p_a, target_b) + 2 + 2 * negative_cosine(p_b, target_a)  # Eq. 2, both ways
        return {"loss": loss, "embedding": features.detach()}

    def after_step(self, progress: float) -> None:
        """The target follows. progress: share of the steps that are done, 0–1."""
        tau = momentum_at(self.config.momentum, progress, self.config.rising)
        follow(self.slow_encoder, self.encoder, tau)
        follow(self.slow_projector, self.projector, tau)
