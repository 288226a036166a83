"""Series of slices in one batch: which slices are there, what a network answers, and slices pooled into their series.

A batch is x (b, s, c, h, w) with present (b, s): series shorter than the longest are filled up, and what fills them up is never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tacit.errors import InputError

Over = Literal["max", "mean"]


@dataclass(frozen=True)
class Answer:
    """What a network says of a batch of series."""

    logits: Tensor  # (b, k)
    evidence: Tensor | None  # (b, s, k) logits slice by slice, NaN where there is no slice; None of networks that mix slices from their first layer on
    features: Tensor  # (b, f) of the series, what the last layer takes


def batched(series: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Series (s_i, c, h, w) of unlike lengths → x (b, s, c, h, w), filled up with zeros, and present (b, s). Raises InputError where other sizes differ."""
    sizes = sorted({tuple(one.shape[1:]) for one in series})
    if len(sizes) != 1 or any(one.ndim != 4 or not len(one) for one in series):
        raise InputError(f"series of one batch are (slices, channels, rows, columns), alike but for their slices; these are {[tuple(s.shape) for s in series]}")
    lengths = torch.tensor([len(one) for one in series], device=series[0].device)
    present = torch.arange(int(lengths.max()), device=lengths.device)[None] < lengths[:, None]
    return torch.nn.utils.rnn.pad_sequence(list(series), batch_first=True), present


def checked(x: Tensor, present: Tensor | None, channels: int) -> tuple[Tensor, Tensor]:
    """x with `channels` channels (one is repeated), and present, all true where it is None. Raises InputError for shapes that do not fit, or no slice."""
    if x.ndim != 5 or x.shape[2] not in (1, channels):
        raise InputError(f"a batch of series is {tuple(x.shape)}; wanted (series, slices, {channels}, rows, columns)")
    if present is None:
        present = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if present.shape != x.shape[:2] or present.dtype != torch.bool:
        raise InputError(f"`present` is {tuple(present.shape)} of {present.dtype}; wanted one true or false a slice, {tuple(x.shape[:2])}")
    if not bool(present.any(1).all()):
        raise InputError(f"series {int(present.any(1).int().argmin())} of the batch has no slice; leave it out")
    return x.expand(-1, -1, channels, -1, -1), present


def pooled(rows: Tensor, present: Tensor, over: Over = "max") -> Tensor:
    """Features (n, f) of the n present slices, in order → their maximum or mean over each series, (b, f)."""
    if over == "max":
        return placed(rows, present, float("-inf")).amax(1)
    return placed(rows, present, 0.0).sum(1) / present.sum(1, keepdim=True)


def placed(rows: Tensor, present: Tensor, fill: float = float("nan")) -> Tensor:
    """Rows (n, f) of the present slices, in order → (b, s, f), `fill` where there is none."""
    spread = rows.new_full((*present.shape, rows.shape[1]), fill)
    return spread.index_put((present,), rows)
