"""The ways to learn features from unlabelled pictures, by name, and the batches of views that they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.errors import ConfigError
from tacit.learn.byol import PRESETS as BYOL_PRESETS
from tacit.learn.byol import Byol
from tacit.learn.dense_cl import Densecl
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.learn.moco import Moco
from tacit.learn.phantom_byol import PhantomByol
from tacit.learn.pix_pro import Pixpro
from tacit.learn.simclr import Simclr
from tacit.learn.simsiam import Simsiam
from tacit.learn.sources import Source
from tacit.learn.vae_byol import VaeByol
from tacit.parts.processes import rank, size
from tacit.parts.train import Batch
from tacit.prepare.lab_views import LabViewConfig, lab_views
from tacit.prepare.local_views import local_views
from tacit.prepare.place import place
from tacit.prepare.views import PRESETS as VIEWS
from tacit.prepare.views import draw_view, normalised_views

METHODS: dict[str, Any] = {
    "byol": Byol,
    "simclr": Simclr,
    "simsiam": Simsiam,
    "moco": Moco,
    "vae-byol": VaeByol,
    "densecl": Densecl,
    "pixpro": Pixpro,
    "local-discrimination": LocalDiscrimination,
    "phantom-byol": PhantomByol,
}
OF_PLACES = {name: kind for name, kind in METHODS.items() if name != "phantom-byol"}  # whose features are maps too; the others describe whole pictures alone
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"byol": BYOL_PRESETS}  # method → preset → settings
Views = Callable[[np.random.Generator, NDArray[np.uint8]], dict[str, NDArray]]


def views_of(c: Any) -> Views:
    """What a method with the config `c` makes of one picture: its two views a and b (3, side, side), and more where it asks for it.

    c.views is a preset's name, a LocalViewConfig or a LabViewConfig; where c.placed is true, place_a and place_b say where the views were cut. Raises ConfigError for an unknown preset.
    """
    if isinstance(c.views, LabViewConfig):
        return lambda rng, picture: {**lab_views(rng, picture, c.size, c.views)}
    if not isinstance(c.views, str):
        return lambda rng, picture: vars(local_views(rng, picture, c.size, c.views))
    if c.views not in VIEWS:
        raise ConfigError(f"views {c.views!r} is unknown; known are {', '.join(VIEWS)}")
    first, second = (config.model_copy(update={"size": c.size}) for config in VIEWS[c.views])

    def pair(rng: np.random.Generator, picture: NDArray[np.uint8]) -> dict[str, NDArray]:
        shape = picture.shape[0], picture.shape[1]
        draws = [draw_view(rng, shape, config) for config in (first, second)]
        a, b = normalised_views(picture, draws)
        return {"a": a, "b": b} | ({"place_a": place(draws[0]), "place_b": place(draws[1])} if getattr(c, "placed", False) else {})

    return pair


def view_batches(source: Source, views: Views, count: int, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: the views of each of `count` different items, stacked; a pure function of (seed, step).

    An epoch goes through all items in an order of its own. Of several processes each gets its own rows of the same batch, and makes no
    others. Raises ConfigError for a batch that they cannot share.
    """
    if count % size():
        raise ConfigError(f"train.batch={count} cannot be shared by {size()} processes; give a multiple of {size()}")
    an_epoch, share = max(len(source) // count, 1), count // size()
    orders: dict[int, Any] = {}  # of the latest epoch

    def batch(step: int) -> Batch:
        epoch = step // an_epoch
        if epoch not in orders:
            orders.clear()
            orders[epoch] = source.order(seed, epoch)
        chosen = orders[epoch][(step % an_epoch) * count :][:count]
        chosen = np.resize(chosen if len(chosen) else orders[epoch], count)  # fewer items than a batch: they come again
        rows = []
        for row in range(rank() * share, (rank() + 1) * share):
            rng = np.random.default_rng([seed, 62, step, row])
            rows.append(views(rng, source.item(int(chosen[row]), seed, epoch)))
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    return batch
