"""A U-Net that segments the lungs slice by slice, taught by masks that a person made or that morphology made on the spot.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (arXiv 1505.04597): valid
convolutions, overlap-tile with mirrored context (section 2), pixel-wise cross-entropy (Eq. 1).
Ours differs: a narrow network at a few mm a pixel, which a CPU teaches in minutes; AdamW with a one-cycle rate instead of momentum .99;
small zooms, turns and mirrorings instead of elastic deformation; no weights on the borders between touching objects (Eq. 2), since
both lungs are one class and `prepare.lung.part_sides` names the sides, so that mirroring left to right confuses nothing.

Nothing here finds a mask by itself: `fit` is given pairs, and `find` volumes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.errors import InputError
from tacit.image import Image
from tacit.learn.workshop import Workshop
from tacit.parts.loss import generalised_cross_entropy
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.valid_unet import ValidUNet, ValidUNetConfig, legal_output, margin, overlap_tiled
from tacit.phantom.opacity import draw_opacities
from tacit.prepare.contrast import window_uint8
from tacit.prepare.lung import LungConfig, Lungs, find_lungs
from tacit.prepare.space import canonical, to_size
from tacit.prepare.views import view
from tacit.prepare.volume_shapes import Mask

INSIDE = 0.75  # share of the slices to learn from that hold lung, where there are so many


class LungNetworkConfig(ValidUNetConfig):
    width: Count = 8  # channels at full resolution; doubled at every halving
    depth: Annotated[int, Field(ge=0, le=8)] = 3  # halvings


class LungTrainConfig(TrainConfig):
    epochs: Annotated[int, Field(ge=0)] = 5  # an epoch is `steps` batches
    batch: Count = 8  # crops a batch
    lr: Positive = 5e-3  # peak
    average: Share = 0.0  # averaged weights do not fit the running statistics of batch norm after so few steps
    precision: Literal["bf16", "fp32"] = "fp32"


class LungUnetConfig(Config):
    network: LungNetworkConfig = LungNetworkConfig()
    train: LungTrainConfig = LungTrainConfig()
    mm_per_px: Positive = 2.5  # spacing within slices that the network sees
    level_hu: float = -500.0  # middle of the window
    width_hu: Positive = 1500.0  # width of the window
    volumes: Count = 150  # at most this many volumes are learnt from (a seeded draw)
    slices: Count = 24  # slices of each volume that are learnt from: so many small arrays are held in memory, and no more
    size: Count = 68  # px a side of the answer that a crop is scored on, brought up to a size that the halvings divide; the crop is larger by the margin
    zoom: Share = 0.15  # views are zoomed by up to ± this share
    turn: Share = 0.15  # and turned by up to ± this, radians
    mirror: Share = 0.5  # probability of left and right changing places
    grey: Share = 0.05  # and their grey levels moved by about this share of the window, SD
    opacities: Share = 0.0  # probability of drawing opacities into a crop's lungs (ours; `phantom/opacity.py`)
    q: Share = 0.0  # 0: cross-entropy, the paper's; above: generalised cross-entropy, which tolerates wrong masks (arXiv 1805.07836)
    tile: Count = 164  # px a side of a tile's answer at most; larger slices are joined from tiles


@dataclass(frozen=True)
class LungSlice:
    """One axial slice to learn from, at the network's spacing, rows to the back and columns to the left."""

    grey: NDArray[np.uint8]  # (h, w) the window's levels
    target: NDArray[np.uint8]  # (h, w) share of lung, 0–255


class LungUnet(nn.Module):
    """Logits of lung for windowed slices, (b, 1, h, w) in −1 … 1 → (b, 1, h − 2·margin, w − 2·margin)."""

    Config = LungUnetConfig

    def __init__(self, config: LungUnetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LungUnetConfig()
        if self.config.network.channels_in != 1:
            raise InputError(f"slices have one channel; network.channels_in is {self.config.network.channels_in}")
        self.network = ValidUNet(self.config.network, channels_out=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 1, h, w) in −1 … 1, target (b, 1, h − 2·margin, w − 2·margin) in 0–1. Dice of the soft answer comes with it."""
        logits, target = self.network(batch["x"]).float(), batch["target"]
        if self.config.q:
            loss = generalised_cross_entropy(logits, target, self.config.q)
        else:
            loss = F.binary_cross_entropy_with_logits(logits, target)  # Eq. 1, two classes
        p = torch.sigmoid(logits.detach())
        return {"loss": loss, "dice": (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)}

    def fit(self, pairs: Iterable[tuple[Image, NDArray]], shop: Workshop) -> LungUnet:
        """Learns from volumes in HU (d, h, w) with known spacing and their masks of the same axes, above 0 where lung is. In place.

        The pairs are walked once and only `config.slices` small slices of each are kept. Raises InputError where there is no pair.
        """
        lessons = [lesson for image, mask in pairs for lesson in lesson_slices(image, mask, self.config)]
        if not lessons:
            raise InputError("no volume with a mask to learn lungs from")
        shop.say(f"lung-unet: {len(lessons)} slices at {self.config.mm_per_px:g} mm a pixel, {sum(s.grey.size for s in lessons) * 2 / 1e6:.1f} MB")
        torch.manual_seed(shop.seed)
        fresh = LungUnet(self.config)
        taught = shop.train("lung-unet", fresh, slice_batches(lessons, self.config, shop.seed), self.config.train, seed=shop.seed)
        self.load_state_dict(taught.state_dict())
        return self.eval()

    def mask(self, upright: Image) -> Mask:
        """Both lungs, (d, h, w) 0/1, of a volume in HU turned to canonical axes: slice by slice by overlap-tile, where lung is likelier than not."""
        assert upright.spacing_mm is not None  # find_lungs has seen to it
        self.eval()
        found = np.zeros(upright.shape, np.uint8)
        for k, plane in enumerate(upright.pixels):
            grey = small_slice(plane, upright.spacing_mm[1:], self.config)
            logits = overlap_tiled(self.network, torch.from_numpy(_standardised(grey))[None, None], self.config.tile)
            found[k] = to_size(torch.sigmoid(logits)[0, 0].numpy(), plane.shape) >= 0.5
        return found

    def find(self, image: Image, config: LungConfig | None = None) -> Lungs:
        """The lungs of a CT volume, right and left apart, the largest pieces of the network's answer. Raises what `find_lungs` does."""
        return find_lungs(image, config, self.mask)


def lesson_slices(image: Image, mask: NDArray, c: LungUnetConfig) -> list[LungSlice]:
    """`c.slices` slices of a volume and its mask (d, h, w), evenly over the lungs and, fewer, over the rest. Raises InputError for a pair that does not fit."""
    if image.axes != "dhw" or image.spacing_mm is None or mask.shape != image.pixels.shape:
        raise InputError(f"{image.name}: a volume with known spacing and a mask of its shape are wanted, not {image.shape} and {mask.shape}")
    upright = canonical(image)[0]
    lung = canonical(replace(image, pixels=mask))[0].pixels > 0
    assert upright.spacing_mm is not None
    lessons = []
    for k in _spread(np.array([plane.any() for plane in lung]), c.slices):
        grey = small_slice(upright.pixels[k], upright.spacing_mm[1:], c)
        lessons.append(LungSlice(grey, to_size(lung[k].astype(np.uint8) * 255, (grey.shape[0], grey.shape[1]))))
    return lessons


def small_slice(hu: NDArray, spacing_mm: tuple[float, ...], c: LungUnetConfig) -> NDArray[np.uint8]:
    """A slice (h, w) in HU as the window's grey levels at `c.mm_per_px`, at least 1 px a side."""
    h, w = (max(round(n * s / c.mm_per_px), 1) for n, s in zip(hu.shape, spacing_mm, strict=True))
    return to_size(window_uint8(hu, c.level_hu, c.width_hu), (h, w))


def slice_batches(lessons: list[LungSlice], c: LungUnetConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: random views of random slices; a pure function of (seed, step, item)."""
    size = legal_output(c.size, c.network.depth)
    edge = margin(c.network.depth)

    def batch(step: int) -> Batch:
        items = [_crop(lessons, c, size, edge, np.random.default_rng([seed, step, item])) for item in range(c.train.batch)]
        x, target = (np.stack(arrays)[:, None] for arrays in zip(*items, strict=True))
        return {"x": torch.from_numpy(x), "target": torch.from_numpy(target)}

    return batch


def _crop(lessons: list[LungSlice], c: LungUnetConfig, size: int, edge: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lesson = lessons[int(rng.integers(len(lessons)))]
    matrix = _view_matrix(rng, lesson.grey.shape, size, edge, c)
    grey, target = (view(plane, matrix, size + 2 * edge) for plane in (lesson.grey, lesson.target))
    if rng.random() < c.opacities:
        hu = grey * np.float32(c.width_hu / 255) + np.float32(c.level_hu - c.width_hu / 2)
        grey = window_uint8(draw_opacities(rng, hu, target > 127, c.mm_per_px), c.level_hu, c.width_hu)
    gain, shift = np.exp(c.grey * rng.standard_normal()), 2 * c.grey * rng.standard_normal()
    inner = target[edge : edge + size, edge : edge + size].astype(np.float32) / np.float32(255)
    return np.asarray(_standardised(grey) * np.float32(gain) + np.float32(shift), np.float32), np.asarray(inner, np.float32)


def _view_matrix(rng: np.random.Generator, shape: tuple[int, ...], size: int, edge: int, c: LungUnetConfig) -> NDArray[np.float64]:
    """The affine map from the crop's pixels to the slice's (2, 3), OpenCV's x, y order; the middle lies inside, away from the edges where it can."""
    scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(c.zoom)))
    angle = rng.uniform(-c.turn, c.turn)
    side = -1.0 if rng.random() < c.mirror else 1.0
    low = np.minimum(size * scale / 2, np.asarray(shape) / 2)
    row, col = rng.uniform(low, np.maximum(np.asarray(shape) - low, low + 1e-6))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turned = np.array([[cos * side, -sin], [sin * side, cos]])
    middle = (size + 2 * edge - 1) / 2
    return np.hstack([turned, (np.array([col, row]) - turned @ [middle, middle])[:, None]])


def _spread(lungs: NDArray[np.bool_], count: int) -> list[int]:
    """At most `count` slices, evenly over those that hold lung (three in four of them) and evenly over the others."""
    inside, outside = np.flatnonzero(lungs), np.flatnonzero(~lungs)
    some = min(len(outside), count - min(len(inside), round(count * INSIDE)))
    chosen = [np.linspace(0, len(s) - 1, min(n, len(s))).round().astype(int) for s, n in ((inside, count - some), (outside, some))]
    return sorted([*inside[chosen[0]].tolist(), *outside[chosen[1]].tolist()])


def _standardised(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(grey.astype(np.float32) / np.float32(127.5) - 1, np.float32)
