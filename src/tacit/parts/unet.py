"""A small U-Net for low-resolution pictures: wide context, few weights, any image size.

After Ronneberger et al. 2015 (arXiv 1505.04597). Ours differs: batch norm, padded convolutions, pixels repeated when going up (bilinear
upsampling took a quarter of a CPU step and gained nothing).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count


class UNetConfig(Config):
    width: Count = 16  # channels at full resolution; doubled at every halving up to 8×
    depth: Count = 4  # halvings
    channels_in: int = 3


def _double(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in ((channels_in, channels_out), (channels_out, channels_out)):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """(b, channels_in, h, w) → logits (b, channels_out, h, w), any h and w ≥ 1."""

    def __init__(self, config: UNetConfig, channels_out: int) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * 2 ** min(level, 3) for level in range(config.depth + 1)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([config.channels_in, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(_double(deep + side, side) for deep, side in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], channels_out, 1)

    def features(self, x: Tensor) -> Tensor:
        """The last feature map, (b, width, h, w)."""
        sides: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2, ceil_mode=True))
            sides.append(x)
        for block, side in zip(self.up, sides[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2.0)[:, :, : side.shape[2], : side.shape[3]]
            x = block(torch.cat([x, side], 1))
        return x

    def summary(self, x: Tensor) -> Tensor:
        """Each picture in a few numbers: the deepest feature map's mean over pixels, (b, deepest width)."""
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2, ceil_mode=True))
        return x.float().mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))
