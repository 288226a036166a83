"""Signs that embeddings have collapsed to a point or a line, which no loss without negatives shows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def spread(features: Tensor) -> dict[str, Tensor]:
    """Signs of collapse in a batch of embeddings (b, f): `spread` is 1 where L2-normalised embeddings fill the sphere and 0 where they are one
    point (Chen and He 2021, fig. 2, times √f); `rank` is their effective rank (Roy and Vetterli 2007), at most min(b, f)."""
    z = nn.functional.normalize(features.detach().float(), dim=1)
    if not torch.isfinite(z).all():
        return {"spread": z.new_zeros(()), "rank": z.new_zeros(())}
    s = torch.linalg.svdvals(z - z.mean(0))
    p = s / s.sum().clamp_min(1e-12)
    return {"spread": z.std(0).mean() * z.shape[1] ** 0.5, "rank": torch.exp(-(p * (p + 1e-12).log()).sum())}
