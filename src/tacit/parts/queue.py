"""A queue of keys that earlier batches left: the newest replace the oldest, in place, so that it is part of a network's state."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def enqueue(keys: Tensor, at: Tensor, fresh: Tensor) -> None:
    """Writes fresh (n, f) into keys (k, f) from row `at` () on, round the end, and moves `at` on. Of more than k fresh keys the newest k stay."""
    fresh = fresh[-len(keys) :]
    places = (int(at) + torch.arange(len(fresh))) % len(keys)
    keys[places.to(keys.device)] = fresh
    at.fill_((int(at) + len(fresh)) % len(keys))
