"""Lesions of chest CTs: a small network learns from drawn patients where ground glass, consolidation and crazy paving lie.

Ours, 2026; the idea of `phantom_taught` (variety of drawings instead of labels; domain randomisation: SynthSeg, arXiv 2107.09559) for CT series as
`tacit classify` prepares them (`prepare.steps.SERIES`). A U-Net sees a slice and its two neighbours, so that a vessel, which goes on, is told from a
focus; it answers for each pixel outside, lung, or a kind of lesion. No real image takes part, so the weights hold nobody's data.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.learn.lesion_features import slice_features
from tacit.learn.lesion_lessons import PLANES, LesionLesson, LesionViewConfig, around, drawn_lessons, lesion_batches
from tacit.learn.workshop import Workshop
from tacit.parts.loss import soft_dice
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.phantom.ct_config import CtConfig

TOGETHER = 16  # slices that go through the network at a time


class LesionNetworkConfig(UNetConfig):
    width: Count = 12  # channels at full resolution; doubled at every halving up to 8×
    depth: Count = 4  # halvings
    channels_in: int = 3  # a slice and its neighbours


class LesionTaughtConfig(Config):
    ct: CtConfig = CtConfig(heart_turn=(0.1, 0.8), heart_left=(-0.06, 0.2), heart_fat=(-20.0, 40.0), dense_glass=0.35, dense_glass_hu=(-520.0, -300.0))
    patients: Count = 92  # drawn, of the teaching split
    side: Count = 112  # px a side of a slice as the network sees it
    views: LesionViewConfig = LesionViewConfig()
    network: LesionNetworkConfig = LesionNetworkConfig()
    dice: Annotated[float, Field(ge=0)] = 1.0  # weight of the soft Dice loss of the lesions beside the cross-entropy: they fill a hundredth of the lungs
    kind: Annotated[float, Field(ge=0)] = (
        0.5  # weight of the cross-entropy of the kinds where there is a lesion: else its kind is a guess long after its place is known
    )
    train: TrainConfig = TrainConfig(epochs=14, batch=12)


class LesionTaught(nn.Module):
    """Logits (b, 1 + len(PLANES), side, side) for slices with their neighbours (b, 3, side, side) in 0–1: outside, then PLANES."""

    Config = LesionTaughtConfig
    CLASSES = PLANES[1:]

    def __init__(self, config: LesionTaughtConfig | None = None) -> None:
        super().__init__()
        self.config = config or LesionTaughtConfig()
        self.network = UNet(self.config.network, channels_out=1 + len(PLANES))

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w) in 0–1, target (b, h, w) 0 … len(PLANES)."""
        logits = self.network(batch["x"]).float()
        entropy = F.cross_entropy(logits, batch["target"])
        wanted = ((2, 3, 4), (2,), (3,), (4,))  # a lesion of any kind, and each kind
        answers = torch.stack([_against_the_rest(logits, kinds) for kinds in wanted], 1)
        truth = torch.stack([torch.isin(batch["target"], torch.tensor(kinds, device=logits.device)) for kinds in wanted], 1).float()
        dice = soft_dice(answers, truth, torch.ones_like(truth))
        there = torch.where(batch["target"] >= 2, batch["target"] - 2, -100)
        kind = F.cross_entropy(logits[:, 2:], there, reduction="sum") / (there >= 0).sum().clamp_min(1)
        loss = entropy + self.config.dice * dice + self.config.kind * kind
        return {"loss": loss, "entropy": entropy.detach(), "dice": dice.detach(), "kind": kind.detach()}

    def fit(self, shop: Workshop) -> LesionTaught:
        """Draws patients and learns from them. In place; a pure function of the settings and the workshop's seed."""
        return self.fit_on([] if shop.finished("lesions") else drawn_lessons(self.config.ct, self.config.patients, shop), shop)

    def fit_on(self, lessons: list[LesionLesson], shop: Workshop) -> LesionTaught:
        """Learns from drawn patients that are there already."""
        c = self.config
        torch.manual_seed(shop.seed)
        fresh = LesionTaught(c)
        batches = lesion_batches(lessons, c.train.batch, c.side, c.views, shop.seed)
        self.load_state_dict(shop.train("lesions", fresh, batches, c.train, seed=shop.seed).state_dict())
        return self.eval()

    def probability(self, stack: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A prepared series (s, h, w) → (s, len(PLANES), h, w) in 0–1: normal lung, and each kind of lesion. The mean with the mirrored slices."""
        return np.stack([_enlarged(p, stack.shape[1:]) for p in self._small(stack)])

    def maps(self, stack: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(s, h, w) → the probability of any lesion, (s, h, w) in 0–1."""
        return self.looked(stack)[1]

    def features(self, stack: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(s, h, w) → (s, len(lesion_features.COLUMNS)): how much of each slice's lung each kind fills, how surely, and where it lies."""
        return self.looked(stack)[0]

    def looked(self, stack: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`features` and `maps` of one look."""
        found = self._small(stack)
        return slice_features(found), np.concatenate([_enlarged(p[1:].sum(0, keepdims=True), stack.shape[1:]) for p in found])

    @torch.no_grad()
    def _small(self, stack: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(s, len(PLANES), side, side)."""
        side, device = self.config.side, next(self.parameters()).device
        planes = np.stack([cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA) for plane in stack])
        found = []
        for first in range(0, len(planes), TOGETHER):
            x = torch.from_numpy(np.stack([around(planes, s) for s in range(first, min(first + TOGETHER, len(planes)))])).to(device).float() / 255
            mean = (self._softmax(x) + self._softmax(x.flip(3)).flip(3)) / 2
            found.append(mean[:, 1:].cpu().numpy())
        return np.concatenate(found)

    def _softmax(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits.float().softmax(1)


def _against_the_rest(logits: Tensor, kinds: tuple[int, ...]) -> Tensor:
    """The logit (b, h, w) of the softmax's share that some of the classes hold."""
    others = [k for k in range(logits.shape[1]) if k not in kinds]
    return torch.logsumexp(logits[:, list(kinds)], 1) - torch.logsumexp(logits[:, others], 1)


def _enlarged(p: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Planes (c, h, w) brought to another size, in 0–1."""
    return np.stack([cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for plane in p]).clip(0, 1).astype(np.float32)
