"""Pictures with soft targets, and the endless batches of random views cut from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive
from tacit.parts.train import Batch
from tacit.prepare.colour import standardised
from tacit.prepare.frame import plane_values
from tacit.prepare.views import colour_shift, view, view_matrix


class CropConfig(Config):
    size: Count = 96  # crop, px that the network sees
    zoom: float = 0.25  # views are zoomed by up to ± this share
    colour: float = 0.15  # SD of the colour shift, in SDs of the picture


class DataConfig(CropConfig):
    um_per_px: Positive = 2.48  # spacing that the network sees


@dataclass(frozen=True)
class Lesson:
    """One picture to learn from, at the network's spacing."""

    picture: NDArray[np.uint8]  # (h, w, 3) RGB, or (h, w) a plane that is standardised already, as bytes
    target: NDArray[np.uint8]  # (h, w, k) soft truth, 0–255
    weight: NDArray[np.uint8]  # (h, w) 0–255
    statistics: NDArray[np.float32] | None  # (2, 3) Lab mean and SD; None for a plane


def seen(picture: NDArray[np.uint8], statistics: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """What a network is shown of RGB (h, w, 3), standardised in Lab, or of a standardised plane (h, w): (c, h, w)."""
    return plane_values(picture)[None] if picture.ndim == 2 else standardised(picture, statistics)


def batches(lessons: list[Lesson], count: int, data: CropConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: `count` random views of random lessons; a pure function of (seed, step, item)."""

    def batch(step: int) -> Batch:
        items = [_crop(lessons, data, np.random.default_rng([seed, step, item])) for item in range(count)]
        return {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}

    return batch


def mixed(*sources: Callable[[int], Batch]) -> Callable[[int], Batch]:
    """One batch made of several sources' batches."""

    def batch(step: int) -> Batch:
        made = [source(step) for source in sources]
        return {key: torch.cat([b[key] for b in made]) for key in made[0]}

    return batch


def _crop(lessons: list[Lesson], data: CropConfig, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    lesson = lessons[int(rng.integers(len(lessons)))]
    matrix = view_matrix(rng, lesson.picture.shape[:2], data.size, zoom=data.zoom)
    x = seen(view(lesson.picture, matrix, data.size), lesson.statistics)
    target = view(lesson.target, matrix, data.size)
    target = (target[..., None] if target.ndim == 2 else target).transpose(2, 0, 1).astype(np.float32) / 255
    weight = view(lesson.weight, matrix, data.size)[None].astype(np.float32) / 255
    return {"x": colour_shift(rng, x, data.colour), "target": target, "weight": weight}
