"""A small network that tells masks of a prior from those that another network made, and the two sides of their game.

After the discriminator of Chen et al., arXiv 2108.09440: convolutions of 16, 32, 32, 32, 32 channels with LeakyReLU .2 and max-pooling, two valid
convolutions, the mean over places, a sigmoid. The game is Goodfellow et al. 2014, arXiv 1406.2661, with the non-saturating loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from tacit.config import Config, Count, Positive

SLOPE = 0.2
LEAST_SIDE = 80  # px of the smallest mask that two valid convolutions leave something of
FLAT = 0.01  # SD of a mask below which it is taken for flat


class DiscriminatorConfig(Config):
    channels: tuple[Count, ...] = (16, 32, 32, 32, 32)  # of its convolutions, each followed by LeakyReLU; all but the last by max-pooling
    rate: Positive = 1.0  # its learning rate / the clusters'; paper: .05, at which it is still undecided after hundreds of steps and teaches nothing
    standard: bool = True  # it sees each mask less its mean, over its SD, so that it cannot win by a flat mask's paleness; paper: false


class Discriminator(nn.Module):
    """Masks (b, 1, h, w) in 0–1, sides of 80 px or more → logits (b,): above 0 = of the prior."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or DiscriminatorConfig()
        widths = self.config.channels
        layers: list[nn.Module] = []
        for level, (a, b) in enumerate(zip((1, *widths[:-1]), widths, strict=True)):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(SLOPE)]
            layers += [nn.MaxPool2d(2)] if level < len(widths) - 1 else []
        layers += [nn.Conv2d(widths[-1], widths[-1], 3), nn.LeakyReLU(SLOPE), nn.Conv2d(widths[-1], 1, 3)]
        self.layers = nn.Sequential(*layers)

    def forward(self, masks: Tensor) -> Tensor:
        if self.config.standard:
            masks = masks.float()
            masks = (masks - masks.mean((1, 2, 3), keepdim=True)) / (masks.std((1, 2, 3), keepdim=True) + FLAT)
        return self.layers(masks).float().mean((1, 2, 3))

    def fooled(self, made: Tensor) -> Tensor:
        """L_G = BCE(D(made), 1): small where `made` passes for the prior. The gradient goes into `made`, none into these weights."""
        frozen = {name: p.detach() for name, p in self.named_parameters()}
        logits = functional_call(self, frozen, (made,))
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def told_apart(self, prior: Tensor, made: Tensor) -> Tensor:
        """L_D = BCE(D(prior), 1) + BCE(D(sg made), 0): small where the two are told apart. The gradient goes into these weights, none into `made`."""
        real, false = self(prior), self(made.detach())
        return F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.binary_cross_entropy_with_logits(false, torch.zeros_like(false))
