"""How unlike the drawings a picture is: the distance of its summary from the mean summary of the drawings that a network was taught by."""

from __future__ import annotations

import torch
from torch import Tensor


def remembered(seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summaries of drawings (n, f) → their mean (f,), deviation (f,), and the distance () within which 99% of them lie."""
    mean, deviation = seen.mean(0), seen.std(0).clamp_min(1e-4)
    return mean, deviation, torch.stack([distance(s, mean, deviation) for s in seen]).quantile(0.99)


def distance(summary: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Root mean square of the standardised summary (f,), a scalar: about 1 for a drawing."""
    return (((summary - mean) / deviation) ** 2).mean().sqrt()
