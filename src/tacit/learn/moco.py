"""Contrast against a queue of keys that a slow copy made of earlier pictures: many negatives with small batches.

"Momentum Contrast" (MoCo), He et al. 2020, arXiv 1911.05722, with the head and views of version 2 (Chen et al. 2020, arXiv 2003.04297).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import follow, mlp, slow_copy
from tacit.parts.processes import gathered
from tacit.parts.queue import enqueue
from tacit.parts.train import Batch, TrainConfig


class MocoConfig(Config):
    backbone: BackboneConfig = BackboneConfig()
    projection: Count = 128  # section 3.3
    queue: Count = 4096  # keys kept (paper: 65,536 for a million pictures)
    momentum: Share = 0.999  # section 3.2
    temperature: Positive = 0.2  # version 2 (version 1: 0.07)
    views: str = "simclr"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=32, optimizer="sgd", lr=0.03, weight_decay=1e-4, average=0.0)


class Moco(nn.Module):
    """Learns features from pairs of views. The queue is part of the state, so a resumed run goes on where it was."""

    Config = MocoConfig
    keys: Tensor
    at: Tensor

    def __init__(self, config: MocoConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or MocoConfig()
        self.encoder = Backbone(c.backbone)
        self.projector = mlp([self.encoder.width, self.encoder.width, c.projection], norm=False)
        self.slow_encoder, self.slow_projector = slow_copy(self.encoder), slow_copy(self.projector)
        self.register_buffer("keys", F.normalize(torch.randn(c.queue, c.projection), dim=1))
        self.register_buffer("at", torch.zeros((), dtype=torch.int64))
        self._fresh: Tensor | None = None

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a (n, 3, h, w) gives queries, b the keys. Algorithm 1."""
        features = self.encoder(batch["a"])
        q = F.normalize(self.projector(features).float(), dim=1)
        with torch.no_grad():
            k = F.normalize(self.slow_projector(self.slow_encoder(batch["b"])).float(), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.keys.T], 1) / self.config.temperature  # Eq. 1
        self._fresh = gathered(k)
        return {"loss": F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device)), "embedding": features.detach()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The slow copy follows; the newest keys replace the oldest."""
        follow(self.slow_encoder, self.encoder, self.config.momentum)
        follow(self.slow_projector, self.projector, self.config.momentum)
        if self._fresh is not None:
            enqueue(self.keys, self.at, self._fresh)
