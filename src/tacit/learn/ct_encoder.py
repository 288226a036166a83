"""A backbone taught by drawn CT slices: it says which lesion a slice shows, how much of the lung each kind fills, and where. Weights to begin with, from no real image.

Ours, 2026, beside `lesion_taught.py`, whose U-Net sees prepared series: here any timm network sees whole slices as pictures are exported, in windows and
frames that vary, so that what it learnt can begin a network of `tacit classify` (`--weights phantom:ct`). Three answers teach it: the kind that fills most
of the slice, the share of each kind, and the share of each kind in each cell of the last map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Range, Share
from tacit.learn.case_batches import normalised
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.train import Batch, TrainConfig
from tacit.phantom import ct
from tacit.phantom.ct_config import CtConfig
from tacit.phantom.ct_lesion import KINDS

SALT = 1208  # no drawing of `tacit phantom ct` has this number in its seed


class CtEncoderConfig(Config):
    ct: CtConfig = CtConfig()
    backbone: BackboneConfig = BackboneConfig()
    slices: Count = 1600  # drawn, of the teaching split
    a_patient: Count = 8  # of them from each drawn patient
    matrix: Count = 160  # rows and columns of a drawn slice
    size: Annotated[int, Field(ge=32)] = 128  # px a side of what the network sees
    zoom: Share = 0.25  # views are zoomed by up to ± this share, one side more than the other by half of it
    turn: Share = 0.15  # and turned by up to ± this, radians
    shift: Share = 0.08  # and moved by up to ± this share of the frame
    centre: tuple[float, float] = (-700.0, -400.0)  # of the window, HU
    width: Range = (900.0, 1800.0)  # of the window, HU
    place: float = 1.0  # weight of the shares cell by cell beside kind and share
    train: TrainConfig = TrainConfig(epochs=8, steps=50, batch=32, lr=1e-3, average=0.0)


class CtEncoder(nn.Module):
    """x (b, 3, h, w), normalised as ImageNet is → the backbone's features (b, f)."""

    Config = CtEncoderConfig

    def __init__(self, config: CtEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or CtEncoderConfig()
        self.encoder = Backbone(self.config.backbone)
        kinds = len(KINDS) - 1
        self.kind, self.share = nn.Linear(self.encoder.width, 1 + kinds), nn.Linear(self.encoder.width, kinds)
        self.place = nn.Conv2d(self.encoder.channels, kinds, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w), place (b, len(KINDS) − 1, h, w) 0 or 1 of the view's lesions, lung (b, h, w) 0 or 1."""
        maps = self.encoder.map(batch["x"])
        features, wanted = self.encoder.pooled(maps), batch["place"]
        sizes, lung = wanted.sum((2, 3)), batch["lung"].sum((1, 2)).clamp_min(1)
        kind = torch.where(sizes.sum(1) > 0, sizes.argmax(1) + 1, 0)
        named = F.cross_entropy(self.kind(features).float(), kind)
        share = F.smooth_l1_loss(self.share(features).float(), ((sizes / lung[:, None]).clamp(0, 1)) ** 0.5)
        cells = F.adaptive_avg_pool2d(wanted, (maps.shape[2], maps.shape[3])) ** 0.5
        place = F.binary_cross_entropy_with_logits(self.place(maps).float(), cells)
        return {"loss": named + share + self.config.place * place, "kind": named.detach(), "share": share.detach(), "place": place.detach()}

    def fit(self, shop: Workshop) -> CtEncoder:
        """Draws slices and learns from them. In place; a pure function of the settings and the workshop's seed."""
        c = self.config
        lessons = [] if shop.finished("ct") else drawn_slices(c, shop)
        torch.manual_seed(shop.seed)
        fresh = CtEncoder(c)
        self.load_state_dict(shop.train("ct", fresh, slice_batches(lessons, c, shop.seed), c.train, seed=shop.seed).state_dict())
        return self.eval()


def drawn_slices(c: CtEncoderConfig, shop: Workshop) -> list[ct.TeacherSlice]:
    """Slices of drawn patients of the teaching split; a pure function of the settings and the workshop's seed."""
    made = []
    with shop.bar("drawing ct slices") as bar:
        for one in ct.teacher_slices(np.random.default_rng([SALT, shop.seed]), c.slices, config=c.ct, matrix=c.matrix, a_patient=c.a_patient):
            made.append(one)
            bar.advance(len(made), c.slices)
    return made


def slice_batches(lessons: list[ct.TeacherSlice], c: CtEncoderConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step, as `CtEncoder.loss` asks for; a pure function of (seed, step, item)."""

    def batch(step: int) -> Batch:
        items = [_view(np.random.default_rng([seed, step, k]), lessons, c) for k in range(c.train.batch)]
        x, place, lung = (np.stack([item[part] for item in items]) for part in range(3))
        return {"x": normalised(x).repeat(1, 3, 1, 1), "place": torch.from_numpy(place), "lung": torch.from_numpy(lung)}

    return batch


def _view(rng: np.random.Generator, lessons: list[ct.TeacherSlice], c: CtEncoderConfig) -> tuple[NDArray, NDArray, NDArray]:
    """A random view of a random slice: grey (size, size) uint8, planes of the kinds, lung."""
    one = lessons[int(rng.integers(len(lessons)))]
    h, w = one.hu.shape
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(c.zoom) + np.array([0.25, -0.25]) * rng.uniform(-1, 1) * np.log1p(c.zoom)) * np.array([w, h]) / c.size
    angle, mirror = rng.uniform(-1, 1) * c.turn, 1 - 2 * int(rng.integers(2))
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale * np.array([[mirror], [1]])
    middle = np.array([(w - 1) / 2, (h - 1) / 2]) + rng.uniform(-1, 1, 2) * c.shift * np.array([w, h])
    matrix = np.hstack([turned, (middle - turned @ np.full(2, (c.size - 1) / 2))[:, None]])
    centre, width = rng.uniform(*c.centre), rng.uniform(*c.width)
    grey = np.clip((one.hu.astype(np.float32) - centre + width / 2) * (255 / width), 0, 255)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.1 + rng.uniform(0, 1.2))  # exports are scaled, printed and compressed
    size, how = (c.size, c.size), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = np.clip(np.rint(cv2.warpAffine(grey, matrix, size, flags=how)), 0, 255).astype(np.uint8)
    place, lung = (cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) for plane in (one.place, one.lungs))
    return seen, np.stack([place == kind for kind in range(1, len(KINDS))]).astype(np.float32), (lung > 0).astype(np.float32)
