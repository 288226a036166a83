"""A soft mask, drawn by a small hourglass, that strengthens features and never wipes them out.

"Residual Attention Network for Image Classification", Wang et al. 2017, arXiv 1704.06904; section and equation numbers are theirs.
Ours differs: it is laid behind a stage of another network instead of being one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

P, T, R = 1, 2, 1  # section 3: residual units before and after, of the trunk, between two poolings of the mask


class ResidualAttention(nn.Module):
    """x (n, c, h, w) → the same shape: p units, (1 + M) · T (Eq. 3), p units. `depth`: poolings of the mask (3, 2, 1 for the paper's stages)."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.before, self.after = units(channels, P), units(channels, P)
        self.trunk = units(channels, T)
        self.mask = Hourglass(channels, depth)
        self.soft = nn.Sequential(*norm_relu(channels), nn.Conv2d(channels, channels, 1, bias=False), *norm_relu(channels), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        mask = torch.sigmoid(self.soft(self.mask(x)))  # M, in 0–1: their mixed attention
        answer: Tensor = self.after((1 + mask) * self.trunk(x))  # Eq. 3
        return answer


class Hourglass(nn.Module):
    """Halved, seen through r units, and brought back; below it the next one, with a unit that passes it by."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.down, self.up = units(channels, R), units(channels, R)
        self.inner = Hourglass(channels, depth - 1) if depth > 1 else None
        self.side = units(channels, 1) if depth > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.down(F.max_pool2d(x, 3, 2, 1))
        if self.inner is not None and self.side is not None:
            inner = self.inner(inner) + self.side(inner)
        return F.interpolate(self.up(inner), size=x.shape[2:], mode="bilinear", align_corners=True)


class Unit(nn.Module):
    """A residual unit of 1 × 1, 3 × 3 and 1 × 1 convolutions, each after its norm (He et al. 2016, arXiv 1603.05027), a quarter as wide within."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // 4, 1)
        self.layers = nn.Sequential(
            *norm_relu(channels, inplace=False), nn.Conv2d(channels, inner, 1, bias=False),
            *norm_relu(inner), nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            *norm_relu(inner), nn.Conv2d(inner, channels, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def units(channels: int, count: int) -> nn.Sequential:
    """`count` residual units in a row."""
    return nn.Sequential(*(Unit(channels) for _ in range(count)))


def norm_relu(channels: int, *, inplace: bool = True) -> tuple[nn.Module, nn.Module]:
    """Batch norm and ReLU."""
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=inplace)
