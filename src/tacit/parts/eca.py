"""Channels weighed by their neighbours' means: one short convolution along the channels.

"ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", Wang et al. 2020, arXiv 1910.03151; equation numbers are theirs.
The module is timm's.
"""

from __future__ import annotations

import math

from torch import nn

from tacit.parts.decoder import declare_torchvision_operators

GAMMA, B = 2, 1  # Eq. 12


def eca(channels: int) -> nn.Module:
    """x (n, c, h, w) → x · σ(C1D_k(z)), z the mean of x over places (Eq. 9)."""
    declare_torchvision_operators()
    from timm.layers import EcaModule

    return EcaModule(kernel_size=kernel(channels))


def kernel(channels: int) -> int:
    """|log₂ C / γ + b / γ| taken to an odd number (Eq. 12): its whole part, and one more where that is even; at least 3.

    >>> [kernel(c) for c in (64, 256, 512, 1024, 2048)]
    [3, 5, 5, 5, 7]
    """
    t = int(abs(math.log2(channels) + B) / GAMMA)
    return max(t + 1 - t % 2, 3)
