"""BYOL whose encoder must also be able to paint its picture again: a variational autoencoder beside it.

The report's future work. BYOL: Grill et al. 2020, arXiv 2006.07733; the autoencoder: Kingma and Welling 2014, arXiv 1312.6114.
Reconstruction (mean squared error of a small picture) and the divergence of the code are added to BYOL's loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.learn.byol import Byol, ByolConfig
from tacit.parts.backbone import BackboneConfig
from tacit.parts.processes import own_rows, size
from tacit.parts.train import Batch, TrainConfig


class VaeByolConfig(Config):
    byol: ByolConfig = ByolConfig()
    code: Count = 128  # numbers that describe a view
    paint: Count = 32  # px of the picture that is painted
    reconstruction: float = 1.0  # weight beside BYOL's loss
    divergence: float = 1e-3  # weight of the Kullback–Leibler term, per number of the code

    @property
    def train(self) -> TrainConfig:
        return self.byol.train

    @property
    def views(self) -> str:
        return self.byol.views

    @property
    def size(self) -> int:
        return self.byol.size

    @property
    def backbone(self) -> BackboneConfig:
        return self.byol.backbone


class VaeByol(nn.Module):
    """Learns features from pairs of views and from painting the first of them."""

    Config = VaeByolConfig

    def __init__(self, config: VaeByolConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or VaeByolConfig()
        self.byol = Byol(c.byol)
        self.to_code = nn.Linear(self.byol.encoder.width, 2 * c.code)
        layers: list[nn.Module] = [nn.Linear(c.code, 128 * 4 * 4), nn.Unflatten(1, (128, 4, 4))]
        side, channels = 4, 128
        while side < c.paint:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, max(channels // 2, 16), 3, padding=1), nn.ReLU(inplace=True)]
            side, channels = side * 2, max(channels // 2, 16)
        self.painter = nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1))

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.byol.features(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each picture."""
        values = self.byol.loss(batch)
        mean, log_variance = self.to_code(self.byol.features(batch["a"])).float().chunk(2, 1)
        log_variance = log_variance.clamp(-10, 10)
        noise = own_rows(torch.randn(len(mean) * size(), mean.shape[1], device=mean.device))  # the draw of one process with the whole batch
        painted = self.painter(mean + noise * torch.exp(log_variance / 2)).float()
        wanted = F.interpolate(batch["a"].float(), size=painted.shape[2:], mode="area")
        error = F.mse_loss(painted, wanted)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()
        total = values["loss"] + self.config.reconstruction * error + self.config.divergence * divergence
        return values | {"loss": total, "byol": values["loss"].detach(), "reconstruction": error.detach(), "divergence": divergence.detach()}

    def after_step(self, progress: float) -> None:
        """The target network follows."""
        self.byol.after_step(progress)
