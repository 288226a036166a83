"""Two views of one crop that differ in colour and by a known turn, mirror and zoom, with the place of every pixel of the second in the first.

What IIC and PiCIE learn from. The crop is cut out of a frame; view a shows it as it is, view b a part of it, zoomed, mirrored, turned.
Both are Lab standardised by the whole frame, their colours shifted and at times blurred, each on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.learn.cluster_maps import RivalConfig
from tacit.parts.train import Batch
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.colour_jitter import blurred
from tacit.prepare.views import ViewConfig, ViewDraw, apply, colour_shift, draw_view, to_picture

BLURRED, SIGMA = 0.5, 1.0  # share of the views, and the largest SD in px


def crop_of(rng: np.random.Generator, frame: NDArray[np.uint8], size: int) -> tuple[int, int, int, int]:
    """A square of `size` px somewhere in a frame (less where the frame is smaller): top, left, bottom, right, half-open."""
    side = min(size, *frame.shape[:2])
    top, left = (int(rng.integers(length - side + 1)) for length in frame.shape[:2])
    return top, left, top + side, left + side


def view_pair(
    rng: np.random.Generator, frame: NDArray[np.uint8], statistics: NDArray[np.float32], c: RivalConfig, zoom: tuple[float, float]
) -> dict[str, NDArray[Any]]:
    """a, b (3, size, size) and grid (size, size, 2): where a pixel of b lies in a, −1…1 in x, y order as torch's grid_sample has it.

    zoom: the side of b's part over that of the crop.
    """
    top, left, bottom, right = crop_of(rng, frame, c.size)
    crop = standardised(frame[top:bottom, left:right], statistics).transpose(1, 2, 0)
    low, high = (z**2 for z in zoom)
    whole = ViewConfig(size=c.size, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
    draw = draw_view(rng, crop.shape[:2], whole.model_copy(update={"scale": (low, high), "flip": 0.5, "turns": True}))
    first = draw_view(rng, crop.shape[:2], whole)
    x = np.ascontiguousarray(crop, np.float32)
    return {"a": _coloured(rng, apply(x, first), c.colour), "b": _coloured(rng, apply(x, draw), c.colour), "grid": grid_of(draw)}


def pair_batches(frames: list[NDArray[np.uint8]], c: RivalConfig, seed: int, zoom: tuple[float, float]) -> Callable[[int], Batch]:
    """The batch of a step: `c.train.batch` pairs of random frames, a pure function of (seed, step, item)."""
    statistics = [lab_statistics(frame) for frame in frames]

    def batch(step: int) -> Batch:
        items = []
        for item in range(c.train.batch):
            rng = np.random.default_rng([seed, 71, step, item])
            at = int(rng.integers(len(frames)))
            items.append(view_pair(rng, frames[at], statistics[at], c, zoom))
        return {name: torch.from_numpy(np.stack([one[name] for one in items])) for name in items[0]}

    return batch


def grid_of(draw: ViewDraw) -> NDArray[np.float32]:
    """Where each pixel of a view lies in its picture, (size, size, 2), x and y from −1 to 1 at the outer edges of the outer pixels."""
    rows, cols = np.mgrid[: draw.size, : draw.size]
    row, col = to_picture(np.stack([rows.ravel(), cols.ravel()], 1), draw).T
    h, w = draw.shape
    return np.stack([(2 * col + 1) / w - 1, (2 * row + 1) / h - 1], -1).reshape(draw.size, draw.size, 2).astype(np.float32)


def laid_on(maps: Tensor, grid: Tensor) -> Tensor:
    """Maps of view a (b, d, h, w) as view b shows them: the known warp, exact for mirrors and turns, bilinear for zooms."""
    return F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _coloured(rng: np.random.Generator, x: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    x = blurred(np.ascontiguousarray(x), float(rng.uniform(0.1, SIGMA))) if rng.random() < BLURRED else x
    return np.ascontiguousarray(colour_shift(rng, np.ascontiguousarray(x.transpose(2, 0, 1)), amount))
