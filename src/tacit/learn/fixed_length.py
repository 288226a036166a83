"""Series of any length and size brought to the length and side that a network of volumes was built for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.prepare.resample import How, slice_weights


def precise() -> torch.autocast:
    """Inside, a processor computes in single precision even where training asked for bf16; a GPU does as asked.

    torch 2.13 gives weight gradients of convolutions over two slices from memory that nobody wrote (bf16, kernel 3 across), NaN among them.
    """
    return torch.autocast("cpu", enabled=False)


def of_length(x: Tensor, present: Tensor, length: int, how: How) -> Tensor:
    """x (b, s, c, h, w) → (b, length, c, h, w) of the slices that are there, as `prepare.resample.to_length` does: slices are boxes whose outer faces stay.

    how: nearest · linear · area (means where it shrinks, linear where it grows) · cubic. Values keep their type.
    """
    made = []
    for one, there in zip(x, present, strict=True):
        slices = one[there]
        share = x.new_zeros(length, len(slices), dtype=torch.float32)
        for k, (indices, weights) in enumerate(slice_weights(len(slices), length, how)):
            share[k, indices] = share.new_tensor(weights)
        made.append(torch.einsum("ts,schw->tchw", share.to(slices.dtype), slices))
    return torch.stack(made)


def of_side(x: Tensor, side: int) -> Tensor:
    """x (…, c, h, w) → (…, c, side, side), bilinear, smoothed where it shrinks; untouched where it fits."""
    if x.shape[-2:] == (side, side):
        return x
    flat = F.interpolate(x.reshape(-1, *x.shape[-3:]).float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
    return flat.to(x.dtype).reshape(*x.shape[:-2], side, side)
