"""Radiographs with soft targets, and the endless batches of random views of them: whole chests, never mirrored (the heart has its side)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tacit.config import Config, Range, Share
from tacit.parts.train import Batch
from tacit.phantom.texture import smooth_noise
from tacit.prepare.radiograph import planes_of, ranked


class ChestViewConfig(Config):
    zoom: Share = 0.15  # views are zoomed by up to ± this share
    stretch: Share = 0.08  # and one side more than the other by up to ± this
    turn: Share = 0.08  # and turned by up to ± this, radians
    shift: Share = 0.06  # and moved by up to ± this share of the frame
    shade: Range = (0.0, 0.35)  # a smooth shadow of up to this, SDs of the picture
    noise: Range = (0.0, 0.25)  # fine noise of up to this, SDs of the picture


@dataclass(frozen=True)
class ChestLesson:
    """One radiograph in the network's frame."""

    picture: NDArray[np.uint8]  # (h, w) ranks
    target: NDArray[np.uint8]  # (h, w, k) soft truth, 0–255
    weight: NDArray[np.uint8]  # (h, w, k) 0–255


def chest_batches(lessons: list[ChestLesson], count: int, views: ChestViewConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: `count` random views of random lessons; a pure function of (seed, step, item)."""

    def batch(step: int) -> Batch:
        items = [_view(lessons, views, np.random.default_rng([seed, step, item])) for item in range(count)]
        return {key: torch.from_numpy(np.stack([item[key] for item in items])) for key in items[0]}

    return batch


def _view(lessons: list[ChestLesson], v: ChestViewConfig, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    lesson = lessons[int(rng.integers(len(lessons)))]
    matrix = _matrix(rng, lesson.picture.shape, v)
    size = lesson.picture.shape[::-1]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(lesson.picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    shape = (seen.shape[0], seen.shape[1])
    seen += 73.6 * rng.uniform(*v.shade) * smooth_noise(rng, shape, shape[0] * rng.uniform(0.4, 1.2))
    seen += 73.6 * rng.uniform(*v.noise) * rng.random() * smooth_noise(rng, shape, rng.uniform(2, 5))
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.5, 1.2))
    target, weight = (
        cv2.warpAffine(plane, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT).reshape(*shape, -1).transpose(2, 0, 1).astype(np.float32) / 255
        for plane in (lesson.target, lesson.weight)
    )
    return {"x": planes_of(ranked(seen)), "target": target, "weight": weight}


def _matrix(rng: np.random.Generator, shape: tuple[int, ...], v: ChestViewConfig) -> NDArray[np.float64]:
    """The affine map from view pixels to picture pixels (2, 3), OpenCV's x, y order."""
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(v.zoom) + np.array([0.5, -0.5]) * rng.uniform(-1, 1) * np.log1p(v.stretch))
    angle = rng.uniform(-1, 1) * v.turn
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    middle = (np.array(shape[::-1]) - 1) / 2
    return np.hstack([turned, (middle + rng.uniform(-1, 1, 2) * v.shift * shape[0] - turned @ middle)[:, None]])
