"""Drawn CTs as a lesion network learns from them: prepared slices, exactly as `tacit classify` prepares a volume, with what each pixel is.

The masks go through the steps that the Hounsfield units go through, grey levels apart: the same box, the same slices, the same size, the same slab. Where a
slab holds lesion and normal lung, it is lesion, as a maximum shows the denser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, Range, Share
from tacit.image import Image
from tacit.learn.workshop import Workshop
from tacit.parts.train import Batch
from tacit.phantom import ct
from tacit.phantom.ct_config import CtConfig
from tacit.phantom.ct_lesion import KINDS
from tacit.prepare.lung_hull import alone, lung_region
from tacit.prepare.steps import SERIES, apply, recipe

OUTSIDE, LUNG = 0, 1  # what a pixel is; then the kinds of lesion, one more than their number in KINDS
PLANES = ("lung", *KINDS[1:])  # what the network marks
ORDER = ("CAP", "COVID", "CAP", "normal")  # classes of the drawn patients, round by round: CAP has one focus, COVID many
SALT = 1207  # no drawing of `tacit phantom ct` has this number in its seed


@dataclass(frozen=True)
class LesionLesson:
    """A drawn patient."""

    stack: NDArray[np.uint8]  # (s, h, w)
    truth: NDArray[np.uint8]  # (s, h, w) OUTSIDE, LUNG, or 1 + an index of KINDS


class LesionViewConfig(Config):
    zoom: Share = 0.2  # views are zoomed by up to ± this share
    stretch: Share = 0.15  # and one side more than the other by up to ± this: a box of lungs has any shape
    turn: Share = 0.15  # and turned by up to ± this, radians
    shift: Share = 0.08  # and moved by up to ± this share of the frame
    contrast: Share = 0.15  # grey levels are stretched by up to ± this share
    light: Annotated[float, Field(ge=0)] = 12.0  # and shifted by up to ± this, levels of 255
    noise: Range = (0.0, 10.0)  # SD of added noise, levels
    sick: Share = 0.6  # share of the slices of a batch that hold a lesion


def lesson_of(image: Image, lungs: NDArray[np.uint8], lesions: NDArray[np.uint8]) -> LesionLesson:
    """A CT (d, h, w) in HU with masks of its lungs and of KINDS, prepared as SERIES says; its stack is that of `steps.apply`."""
    names = [step.words for step in recipe(SERIES)]
    turned, after = recipe(names[0]), recipe(",".join(names[2:]))
    blind = recipe(",".join(n for n in names[2:] if not n.startswith("window")))
    upright = apply(image, turned)
    region = lung_region(upright, "hull")
    stack = apply(alone(upright, region, -1000.0, names[1]), after).pixels
    planes = []
    for mask in (lungs > 0, *(lesions == kind for kind in range(1, len(KINDS)))):
        plane = apply(replace(image, pixels=mask.astype(np.float32)), turned)
        planes.append(apply(alone(plane, region, 0.0, names[1]), blind).pixels)
    truth = np.where(planes[0] >= 0.5, LUNG, OUTSIDE)
    sick = np.stack(planes[1:])
    return LesionLesson(stack, np.where(sick.max(0) >= 0.5, 2 + sick.argmax(0), truth).astype(np.uint8))


def drawn_lessons(c: CtConfig, count: int, shop: Workshop) -> list[LesionLesson]:
    """`count` drawn patients of the teaching split; each is a pure function of the workshop's seed and its number."""
    lessons = []
    with shop.bar("drawing ct") as bar:
        for index in range(count):
            lessons.append(drawn_lesson(c, shop.seed, index))
            bar.advance(index + 1, count)
    return lessons


def drawn_lesson(c: CtConfig, seed: int, index: int) -> LesionLesson:
    """Patient number `index` of a seed."""
    one = ct.draw_scan(np.random.default_rng([SALT, seed, index]), label=ORDER[index % len(ORDER)], split="teach", config=c)
    image = Image(one.hu, "dhw", one.grid.spacing_mm, "given", "ct", None, ("drawn",), one.grid.affine)
    return lesson_of(image, one.lungs, one.lesions)


def around(stack: NDArray[np.uint8], s: int) -> NDArray[np.uint8]:
    """Slice s with its neighbours, (3, h, w); beyond the ends the last slice is repeated."""
    return stack[[max(s - 1, 0), s, min(s + 1, len(stack) - 1)]]


def lesion_batches(lessons: list[LesionLesson], count: int, side: int, v: LesionViewConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: `count` random views of random slices, "x" (b, 3, side, side) in 0–1 and "target" (b, side, side); a pure function of (seed, step, item)."""
    every = [(i, s) for i, lesson in enumerate(lessons) for s in range(len(lesson.stack))]
    by_kind = [[(i, s) for i, s in every if (lessons[i].truth[s] == kind + 1).any()] for kind in range(1, len(KINDS))]
    sick = [found for found in by_kind if found]

    def item(rng: np.random.Generator) -> dict[str, NDArray]:
        places = sick[int(rng.integers(len(sick)))] if sick and rng.random() < v.sick else every
        i, s = places[int(rng.integers(len(places)))]
        return _view(rng, around(lessons[i].stack, s), lessons[i].truth[s], side, v)

    def batch(step: int) -> Batch:
        items = [item(np.random.default_rng([seed, step, k])) for k in range(count)]
        return {key: torch.from_numpy(np.stack([one[key] for one in items])) for key in items[0]}

    return batch


def _view(rng: np.random.Generator, planes: NDArray[np.uint8], truth: NDArray[np.uint8], side: int, v: LesionViewConfig) -> dict[str, NDArray]:
    h, w = truth.shape
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(v.zoom) + np.array([0.5, -0.5]) * rng.uniform(-1, 1) * np.log1p(v.stretch))
    angle, mirror = rng.uniform(-1, 1) * v.turn, 1 - 2 * int(rng.integers(2))
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale * np.array([w / side, h / side]) * np.array([[mirror], [1]])
    middle = np.array([(w - 1) / 2, (h - 1) / 2]) + rng.uniform(-1, 1, 2) * v.shift * np.array([w, h])
    matrix = np.hstack([turned, (middle - turned @ np.full(2, (side - 1) / 2))[:, None]])
    soft = [cv2.GaussianBlur(plane, (0, 0), 0.35 * h / side) if h > side else plane for plane in planes]  # as an average over the pixels that fall together
    levels = [cv2.warpAffine(p, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=42.0) for p in soft]
    x = np.stack(levels).astype(np.float32)
    x = (x - 80) * (1 + rng.uniform(-1, 1) * v.contrast) + 80 + rng.uniform(-1, 1) * v.light + rng.uniform(*v.noise) * rng.standard_normal(x.shape, np.float32)
    place = cv2.warpAffine(truth, matrix, (side, side), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return {"x": (x / 255).astype(np.float32), "target": place.astype(np.int64)}
