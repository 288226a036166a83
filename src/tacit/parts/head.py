"""The small networks behind an encoder: projectors and predictors; and the slow copy that follows a network."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def mlp(widths: list[int], *, last_norm: bool = False, norm: bool = True) -> nn.Sequential:
    """Linear layers of `widths` (in, hidden …, out), batch norm and ReLU between them; last_norm puts a batch norm without gain at the end."""
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        last = index == len(widths) - 2
        normed = (last_norm if last else True) and norm
        layers.append(nn.Linear(a, b, bias=not normed))
        if normed:
            layers.append(nn.BatchNorm1d(b, affine=not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def slow_copy(network: Network) -> Network:
    """A copy that no gradient reaches."""
    twin = copy.deepcopy(network)
    for p in twin.parameters():
        p.requires_grad_(False)
    return twin


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """slow ← momentum · slow + (1 − momentum) · fast, parameter by parameter; buffers are copied."""
    for a, b in zip(slow.parameters(), fast.parameters(), strict=True):
        a.lerp_(b.to(a.dtype), 1 - momentum)
    for kept, new in zip(slow.buffers(), fast.buffers(), strict=True):
        kept.copy_(new)


def momentum_at(base: float, progress: float, rising: bool) -> float:
    """BYOL's momentum: fixed, or 1 − (1 − base)·(cos(π·progress) + 1)/2, which rises from `base` to 1."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2 if rising else base


def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """Mean over the batch of −cos between rows (b, f)."""
    return -nn.functional.cosine_similarity(p.float(), z.float(), dim=1).mean()
