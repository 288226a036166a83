"""A residual block of two 3 × 3 convolutions (He et al. 2016, arXiv 1512.03385, fig. 2) and the stem before the first."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """(b, i, h, w) → (b, o, h/stride, w/stride)"""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        same = stride == 1 and channels_in == channels_out
        self.side: nn.Module = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(inner)) + self.side(x))


def stem(channels_in: int, channels_out: int) -> nn.Sequential:
    """Halves the picture: a 5 × 5 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 5, 2, 2, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))
