"""Two views of one picture attract, all other pictures of the batch repel.

"A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR), Chen et al. 2020, arXiv 2002.05709.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count, Positive
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import mlp
from tacit.parts.processes import gathered, rank
from tacit.parts.train import Batch, TrainConfig


class SimclrConfig(Config):
    backbone: BackboneConfig = BackboneConfig()
    projection: Count = 128  # section 2.1
    temperature: Positive = 0.5  # appendix B.9 (small batches); 0.1 for ImageNet
    views: str = "simclr"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=64, lr=3e-3, weight_decay=1e-2, average=0.0)


class Simclr(nn.Module):
    """Learns features from pairs of views."""

    Config = SimclrConfig

    def __init__(self, config: SimclrConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or SimclrConfig()
        self.encoder = Backbone(c.backbone)
        self.projector = mlp([self.encoder.width, self.encoder.width, c.projection], norm=not c.backbone.group_norm)

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each picture."""
        features = self.encoder(batch["a"])
        a, b = self.projector(features), self.projector(self.encoder(batch["b"]))
        return {"loss": nt_xent(a, b, self.config.temperature), "embedding": features.detach()}


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Normalised, temperature-scaled cross-entropy of embeddings (n, f) of two views (Eq. 1, algorithm 1). Negatives come from all
    processes where there are several, with their gradient."""
    a, b = F.normalize(a.float(), dim=1), F.normalize(b.float(), dim=1)
    every_a, every_b, first = gathered(a), gathered(b), rank() * len(a)
    every = torch.cat([every_a, every_b])
    own = torch.arange(len(a), device=a.device) + first
    losses = []
    for view, self_at, partner_at in ((a, own, own + len(every_a)), (b, own + len(every_a), own)):
        logits = view @ every.T / temperature
        logits = logits.scatter(1, self_at[:, None], float("-inf"))
        losses.append(F.cross_entropy(logits, partner_at))
    return (losses[0] + losses[1]) / 2
