"""Channels first, then places, weighed by their means and maxima.

"CBAM: Convolutional Block Attention Module", Woo et al. 2018, arXiv 1807.06521; equation numbers are theirs. The module is timm's: as in the
authors' own code, and not in the paper, a batch norm follows the 7 × 7 convolution.
"""

from __future__ import annotations

from torch import nn

from tacit.parts.decoder import declare_torchvision_operators

REDUCTION = 16  # r, their usual value
KERNEL = 7  # places, their best


def cbam(channels: int) -> nn.Module:
    """x (n, c, h, w) → x′ · M_s(x′), x′ = x · M_c(x) (Eq. 1); M_c from the mean and maximum over places (Eq. 2), M_s over channels (Eq. 3)."""
    declare_torchvision_operators()
    from timm.layers.cbam import CbamModule

    return CbamModule(channels, rd_channels=max(channels // REDUCTION, 1), spatial_kernel_size=KERNEL)
