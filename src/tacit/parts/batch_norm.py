"""Batch norm over the batches of several processes together: what one process with the whole batch would compute.

"Batch Normalization", Ioffe and Szegedy 2015, arXiv 1502.03167; equations are theirs. torch's own SyncBatchNorm refuses tensors on the
processor. Means and variances are joined as by Chan, Golub and LeVeque 1983, so that no large sums are subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tacit.parts.processes import gathered, summed


def share_batch_norm(module: nn.Module) -> None:
    """Every batch norm in `module` becomes one over all processes, with the same parameters, buffers and names."""
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, SharedBatchNorm(child))
        else:
            share_batch_norm(child)


@contextmanager
def own_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, every batch norm in `module` normalises by the batch before it, of this process alone where it is not training, and remembers nothing."""
    norms = [m for m in module.modules() if isinstance(m, (nn.modules.batchnorm._BatchNorm, SharedBatchNorm))]
    before = [(m.training, m.track_running_stats) for m in norms]
    for norm in norms:
        norm.track_running_stats = False
        norm.training = norm.training or not isinstance(norm, SharedBatchNorm)
    try:
        yield
    finally:
        for norm, (training, tracks) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, tracks


@contextmanager
def held_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch norms in training normalise as they do, and what they remember stays: for a batch that is seen a second time."""
    norms = [m for m in module.modules() if isinstance(m, (nn.modules.batchnorm._BatchNorm, SharedBatchNorm))]
    before = [(m.momentum, m.num_batches_tracked.clone() if m.num_batches_tracked is not None else None) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and seen is not None:
                norm.num_batches_tracked.copy_(seen)


class SharedBatchNorm(nn.Module):
    """x (b, c, …) → the same shape. Takes the place of a batch norm, timm's fused ones with their activation included."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum, self.track_running_stats = norm.eps, norm.momentum, True
        self.register_parameter("weight", norm.weight)
        self.register_parameter("bias", norm.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.drop, self.act = getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and not self.track_running_stats:
            y = nn.functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        elif not self.training and self.running_mean is not None:
            y = nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        else:
            mean, var, count = _statistics(x)
            if self.training and self.track_running_stats:
                self._follow(mean, var, count)
            y = _Normalised.apply(x, self.weight, self.bias, mean, torch.rsqrt(var + self.eps), count)
        return self.act(self.drop(y))

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * (count / (count - 1)), share)


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (c,) over all processes, and the number of values they come from."""
    values, places = _exact(x), _places(x)
    mean = values.mean(places)
    var = (values - _wide(mean, x)).square_().mean(places)
    own = torch.cat([mean, var, mean.new_tensor([values.numel() / len(mean)])])
    means, variances, counts = gathered(own[None]).split([len(mean), len(mean), 1], 1)  # (processes, c), (processes, c), (processes, 1)
    share = counts / counts.sum()
    mean = (means * share).sum(0)
    return mean, ((variances + (means - mean).square()) * share).sum(0), counts.sum()


class _Normalised(torch.autograd.Function):
    """γ·(x − mean)·inverse + β, whose gradient knows that mean and inverse come from the x of every process."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, inverse: Tensor, count: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse, count)
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        return torch.addcmul(_wide(shift, x), _exact(x), _wide(scale, x)).to(x.dtype)  # Algorithm 1

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        x, weight, mean, inverse, count = ctx.saved_tensors
        wide = _exact(grad)
        normal = (_exact(x) - _wide(mean, x)) * _wide(inverse, x)
        own = torch.stack([wide.sum(_places(x)), (wide * normal).sum(_places(x))])  # the last three of section 3's derivatives
        every = summed(own) / count
        inner = wide - _wide(every[0], x) - normal * _wide(every[1], x)
        scale = inverse if weight is None else inverse * weight
        return (inner * _wide(scale, x)).to(x.dtype), own[1] if weight is not None else None, own[0] if weight is not None else None, None, None, None


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _places(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """(c,) as (1, c, 1, …)."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
