"""Cases of slices → batches for a network that classifies series; each a pure function of its step, with the views that lungs allow.

One view is drawn for all slices of a case: left and right changed places, moved, zoomed and turned a little, lighter or darker. Never upside down: gravity shows in lungs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.config import Config, Share
from tacit.learn.case_answers import Kept
from tacit.parts.series import batched
from tacit.parts.train import Batch
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD

GREY_MEAN, GREY_SD = float(np.mean(IMAGENET_MEAN)), float(np.mean(IMAGENET_SD))  # what weights taught on colours ask of a grey picture


class ViewsConfig(Config):
    flip: Share = 0.5  # probability of left and right changing places; 0 where the side itself is the sign
    shift: Share = 0.05  # moved by up to ± this share of the side
    zoom: Share = 0.1  # zoomed by up to ± this share
    turn: Share = 0.1  # turned by up to ± this, radians
    grey: Share = 0.1  # grey levels stretched and moved by about this share, SD


@dataclass(frozen=True)
class Drawn:
    """`count` of these cases in every batch, in an order of its own for each time that all are gone through. labels None: they have none."""

    cases: Sequence[Kept]
    rows: NDArray[np.int64]  # which of the cases
    count: int
    labels: NDArray[np.int64] | None  # one a row


def normalised(slices: NDArray[np.uint8]) -> Tensor:
    """Slices (s, h, w) → (s, 1, h, w), as ImageNet's pictures are normalised."""
    return ((torch.from_numpy(np.array(slices)).float() / 255 - GREY_MEAN) / GREY_SD)[:, None]


def case_batches(labelled: Drawn, views: ViewsConfig, seed: int, unlabelled: Drawn | None = None, first: int = 0) -> Callable[[int], Batch]:
    """The batch of a step: x (b, s, 1, h, w), present (b, s), label (b,); from step `first` on also unlabelled (b', s, 1, h, w) and unlabelled_present (b', s)."""

    def batch(step: int) -> Batch:
        x, present, rows = _pictures(labelled, views, seed, step, 0)
        assert labelled.labels is not None  # what is called labelled
        made: Batch = {"x": x, "present": present, "label": torch.from_numpy(labelled.labels[rows])}
        if unlabelled is not None and step >= first:
            made["unlabelled"], made["unlabelled_present"], _ = _pictures(unlabelled, views, seed, step, 1)
        return made

    return batch


def varied(x: Tensor, views: ViewsConfig, rng: np.random.Generator) -> Tensor:
    """One random view of all slices x (s, 1, h, w) of a case."""
    side = -1.0 if rng.random() < views.flip else 1.0
    turn, zoom = views.turn * rng.uniform(-1, 1), 1 + views.zoom * rng.uniform(-1, 1)
    right, down = 2 * views.shift * rng.uniform(-1, 1, 2)
    gain, lift = 1 + views.grey * rng.standard_normal(), views.grey * rng.standard_normal()
    c, s = np.cos(turn) / zoom, np.sin(turn) / zoom
    grid = F.affine_grid(torch.tensor([[[side * c, -s, right], [side * s, c, down]]], dtype=torch.float32), [1, 1, *x.shape[2:]], align_corners=False)
    seen = F.grid_sample(x[:, 0][None], grid, padding_mode="border", align_corners=False)[0]
    return (seen * gain + lift)[:, None]


def _pictures(drawn: Drawn, views: ViewsConfig, seed: int, step: int, kind: int) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """x, present, and the places of the cases among `drawn.rows`."""
    places = np.arange(step * drawn.count, (step + 1) * drawn.count)
    rounds = {turn: np.random.default_rng([seed, 31, kind, int(turn)]).permutation(len(drawn.rows)) for turn in np.unique(places // len(drawn.rows))}
    rows = np.array([rounds[place // len(drawn.rows)][place % len(drawn.rows)] for place in places], np.int64)
    series = [
        varied(normalised(drawn.cases[int(drawn.rows[row])]["slices"]), views, np.random.default_rng([seed, 32, kind, step, item]))
        for item, row in enumerate(rows)
    ]
    return *batched(series), rows
