"""The ways to learn features from unlabelled pictures, by name, and the batches of two views that all of them take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tacit.errors import ConfigError
from tacit.learn.byol import PRESETS as BYOL_PRESETS
from tacit.learn.byol import Byol
from tacit.learn.moco import Moco
from tacit.learn.simclr import Simclr
from tacit.learn.simsiam import Simsiam
from tacit.learn.sources import Source
from tacit.learn.vae_byol import VaeByol
from tacit.parts.processes import rank, size
from tacit.parts.train import Batch
from tacit.prepare.views import PRESETS as VIEWS
from tacit.prepare.views import draw_view, normalised_views

METHODS: dict[str, Any] = {"byol": Byol, "simclr": Simclr, "simsiam": Simsiam, "moco": Moco, "vae-byol": VaeByol}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"byol": BYOL_PRESETS}  # method → preset → settings


def view_batches(source: Source, preset: str, side: int, count: int, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: a, b (count, 3, side, side), two views of each of `count` different items; a pure function of (seed, step).

    An epoch goes through all items in an order of its own. Of several processes each gets its own rows of the same batch, and makes no
    others. Raises ConfigError for an unknown preset of views, or a batch that they cannot share.
    """
    if preset not in VIEWS:
        raise ConfigError(f"views {preset!r} is unknown; known are {', '.join(VIEWS)}")
    if count % size():
        raise ConfigError(f"train.batch={count} cannot be shared by {size()} processes; give a multiple of {size()}")
    first, second = (config.model_copy(update={"size": side}) for config in VIEWS[preset])
    an_epoch, share = max(len(source) // count, 1), count // size()
    orders: dict[int, Any] = {}  # of the latest epoch

    def batch(step: int) -> Batch:
        epoch = step // an_epoch
        if epoch not in orders:
            orders.clear()
            orders[epoch] = source.order(seed, epoch)
        chosen = orders[epoch][(step % an_epoch) * count :][:count]
        chosen = np.resize(chosen if len(chosen) else orders[epoch], count)  # fewer items than a batch: they come again
        views = []
        for row in range(rank() * share, (rank() + 1) * share):
            rng = np.random.default_rng([seed, 62, step, row])
            picture = source.item(int(chosen[row]), seed, epoch)
            shape = picture.shape[:2]
            views.append(normalised_views(picture, [draw_view(rng, (shape[0], shape[1]), c) for c in (first, second)]))
        both = torch.from_numpy(np.stack(views))  # (share, 2, 3, side, side)
        return {"a": both[:, 0].contiguous(), "b": both[:, 1].contiguous()}

    return batch
