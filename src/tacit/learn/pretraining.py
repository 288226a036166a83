"""The ways to learn features from unlabelled pictures, by name, and the batches of two views that all of them take."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.errors import ConfigError
from tacit.learn.byol import PRESETS as BYOL_PRESETS
from tacit.learn.byol import Byol
from tacit.learn.moco import Moco
from tacit.learn.simclr import Simclr
from tacit.learn.simsiam import Simsiam
from tacit.learn.vae_byol import VaeByol
from tacit.parts.train import Batch
from tacit.prepare.views import PRESETS as VIEWS
from tacit.prepare.views import draw_view, normalised_views

METHODS: dict[str, Any] = {"byol": Byol, "simclr": Simclr, "simsiam": Simsiam, "moco": Moco, "vae-byol": VaeByol}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"byol": BYOL_PRESETS}  # method → preset → settings
MOST_HELD = 2 << 30  # bytes of decoded pictures kept; more are read again when they are drawn


class Pictures:
    """Pictures by index, decoded when they are asked for; the latest stay in memory up to a limit."""

    def __init__(self, paths: list[Path], read: Callable[[Path], NDArray[np.uint8]], most_bytes: int = MOST_HELD) -> None:
        self.paths, self.read, self.most, self.held = paths, read, most_bytes, 0
        self.kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        picture = self.read(self.paths[index])
        self.kept[index] = picture
        self.held += picture.nbytes
        while self.held > self.most and len(self.kept) > 1:
            self.held -= self.kept.popitem(last=False)[1].nbytes
        return picture


def view_batches(pictures: Pictures, preset: str, size: int, count: int, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: a, b (count, 3, size, size), two views of each of `count` different pictures; a pure function of (seed, step).

    An epoch goes through all pictures in an order of its own. Raises ConfigError for an unknown preset of views.
    """
    if preset not in VIEWS:
        raise ConfigError(f"views {preset!r} is unknown; known are {', '.join(VIEWS)}")
    first, second = (config.model_copy(update={"size": size}) for config in VIEWS[preset])
    an_epoch = max(len(pictures) // count, 1)

    def batch(step: int) -> Batch:
        order = np.random.default_rng([seed, 61, step // an_epoch]).permutation(len(pictures))
        chosen = order[(step % an_epoch) * count :][:count]
        chosen = np.resize(chosen if len(chosen) else order, count)  # fewer pictures than a batch: they come again
        views = []
        for item, index in enumerate(chosen.tolist()):
            rng = np.random.default_rng([seed, 62, step, item])
            picture = pictures[index]
            shape = picture.shape[:2]
            views.append(normalised_views(picture, [draw_view(rng, (shape[0], shape[1]), c) for c in (first, second)]))
        both = torch.from_numpy(np.stack(views))  # (count, 2, 3, size, size)
        return {"a": both[:, 0].contiguous(), "b": both[:, 1].contiguous()}

    return batch
