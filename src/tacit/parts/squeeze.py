"""Channels weighed by what the whole map holds: squeeze-and-excitation.

"Squeeze-and-Excitation Networks", Hu, Shen and Sun 2018, arXiv 1709.01507; equation numbers are theirs. The module is timm's.
"""

from __future__ import annotations

from torch import nn

from tacit.parts.decoder import declare_torchvision_operators

REDUCTION = 16  # r, their usual value


def squeeze(channels: int) -> nn.Module:
    """x (n, c, h, w) → x · σ(W₂ ReLU(W₁ z)), z the mean of x over places (Eqs. 2–4), W₁ to c / r channels."""
    declare_torchvision_operators()
    from timm.layers import SEModule

    return SEModule(channels, rd_channels=max(channels // REDUCTION, 1))
