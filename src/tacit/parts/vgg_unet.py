"""VGG-16 with batch norm as the encoder of a U-Net, at a share of the published width; features at full resolution.

Simonyan and Zisserman 2015 (arXiv 1409.1556, configuration D); Ronneberger et al. 2015 (arXiv 1505.04597). At a quarter of the width the
channels are 16, 16 | 32, 32 | 64 × 3 | 128 × 3 | 128 × 3, with maps at strides 1, 2, 4, 8 and 16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # published channels, convolutions


class VggUNetConfig(Config):
    channels_in: Count = 3  # of the picture
    width: Count = 16  # channels of the first stage; 64 = as published


def _convolutions(*channels: int) -> nn.Sequential:
    """A 3 × 3 convolution, batch norm and ReLU from each number of channels to the next."""
    layers: list[nn.Module] = []
    for a, b in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class VggUNet(nn.Module):
    """(b, channels_in, h, w) → (b, 2·width, h, w), any h and w ≥ 1.

    Going up, a map is doubled by repetition, joined to its side, and brought to the next side's channels by two convolutions; at full
    resolution it is joined and left so (this gives the 1.43 M weights that the paper counts, with its two heads).
    """

    def __init__(self, config: VggUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [channels * config.width // 64 for channels, _ in STAGES]
        self.encoder = nn.ModuleList(_convolutions(a, *[b] * n) for a, b, (_, n) in zip([config.channels_in, *widths[:-1]], widths, STAGES, strict=True))
        self.decoder = nn.ModuleList(_convolutions(2 * side, side, side // 2) for side in widths[-2:0:-1])
        self.width = 2 * widths[0]  # channels out

    @property
    def net(self) -> nn.Module:
        """The encoder, whose weights go on to other tasks."""
        return self.encoder

    def maps(self, x: Tensor) -> list[Tensor]:
        """The five maps of the encoder, full resolution first."""
        found: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else F.max_pool2d(x, 2, ceil_mode=True))
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        first, *sides, x = self.maps(x)
        for stage, side in zip(self.decoder, sides[::-1], strict=True):
            x = stage(_joined(x, side))
        return _joined(x, first)


def _joined(x: Tensor, side: Tensor) -> Tensor:
    return torch.cat([F.interpolate(x, scale_factor=2.0)[:, :, : side.shape[2], : side.shape[3]], side], 1)
