"""One network, two views, a predictor and a stopped gradient: neither negatives nor a slow copy.

"Exploring Simple Siamese Representation Learning" (SimSiam), Chen and He 2021, arXiv 2011.10566.
"""

from __future__ import annotations

from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import mlp, negative_cosine
from tacit.parts.train import Batch, TrainConfig


class SimsiamConfig(Config):
    backbone: BackboneConfig = BackboneConfig()
    projection: Count = 2048  # section 4
    bottleneck: Count = 512  # of the predictor, section 4
    views: str = "simclr"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=64, optimizer="sgd", lr=0.05, weight_decay=1e-4, average=0.0)


class Simsiam(nn.Module):
    """Learns features from pairs of views."""

    Config = SimsiamConfig

    def __init__(self, config: SimsiamConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or SimsiamConfig()
        self.encoder = Backbone(c.backbone)
        self.projector = mlp([self.encoder.width, c.projection, c.projection, c.projection], last_norm=True)
        self.predictor = mlp([c.projection, c.bottleneck, c.projection])

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each picture. Algorithm 1."""
        features = self.encoder(batch["a"])
        a, b = self.projector(features), self.projector(self.encoder(batch["b"]))
        loss = (negative_cosine(self.predictor(a), b.detach()) + negative_cosine(self.predictor(b), a.detach())) / 2  # Eq. 4
        return {"loss": loss, "embedding": a.detach()}
