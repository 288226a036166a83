"""Slices as a volume: a ResNet whose 3 × 3 × 3 convolutions are parted into 1 × 3 × 3 in the plane and 3 × 1 × 1 across.

"Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks" (P3D), Qiu, Yao and Mei 2017, arXiv 1711.10305; equation
numbers are theirs. Blocks A, B and C follow one another. The last stage stays flat, and the length is halved after each stage
before it, which gives the paper's 199 layers on ResNet-152. Ours differs: slices instead of frames; a series of another length is resampled.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.learn.fixed_length import of_length, precise
from tacit.parts.focal import LabelLossConfig, label_loss
from tacit.parts.series import Answer, checked
from tacit.parts.train import Batch, TrainConfig
from tacit.prepare.resample import How

BLOCKS = {63: (3, 4, 6, 3), 131: (3, 4, 23, 3), 199: (3, 8, 36, 3)}  # layers → residual blocks a stage: ResNet-50, -101, -152 and a layer more a P3D block
EXPANSION = 4  # channels of a block's end over those within it
Kind = Literal["A", "B", "C", "flat"]


class P3dConfig(Config):
    length: Annotated[int, Field(ge=1)] = 16  # slices
    interpolation: How = "area"  # of slices, to `length`: nearest, linear, area, cubic
    layers: Literal[63, 131, 199] = 199  # on ResNet-50, -101 or -152
    blocks: tuple[Count, Count, Count, Count] | None = None  # residual blocks of the four stages; none = as `layers` says
    channels_in: Count = 1  # of a slice (paper: 3)
    width: Count = 64  # channels of the first convolution; 64 = as published
    dropout: Share = 0.5  # before the linear layer
    classes: Count = 3  # normal, community-acquired pneumonia, COVID-19
    loss: LabelLossConfig = LabelLossConfig()
    train: TrainConfig = TrainConfig(epochs=30, steps=50, batch=8, lr=1e-3, optimizer="sgd", average=0.0)  # the paper's rate; its batch: 128


class P3d(nn.Module):
    """A series → its class; any h and w of 32 or more. No evidence by slice: the first block mixes them."""

    Config = P3dConfig

    def __init__(self, config: P3dConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or P3dConfig()
        self.stem = nn.Sequential(*_convolution(c.channels_in, c.width, (1, 7, 7), stride=2), nn.ReLU(inplace=True))
        stages: list[nn.Module] = []
        channels, number = c.width, 0
        for stage, count in enumerate(c.blocks or BLOCKS[c.layers]):
            blocks: list[nn.Module] = []
            for first in [True, *[False] * (count - 1)]:
                kind: Kind = "flat" if stage == 3 else ("A", "B", "C")[number % 3]
                blocks.append(P3dBlock(channels, c.width * 2**stage, kind, 2 if first and stage > 0 else 1))
                channels, number = c.width * 2**stage * EXPANSION, number + 1
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(channels, c.classes)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Answer:
        """x (b, s, c, h, w), present (b, s), all where None."""
        c = self.config
        x, present = checked(x, present, c.channels_in)
        with precise():
            y = self.stem(of_length(x, present, c.length, c.interpolation).transpose(1, 2))  # (b, c, d, h, w)
            y = F.max_pool3d(y, (2, 3, 3), 2, (0, 1, 1), ceil_mode=True)
            for stage, blocks in enumerate(self.stages):
                y = blocks(y if stage == 0 else F.max_pool3d(y, (2, 1, 1), (2, 1, 1), ceil_mode=True))
        features = y.mean((2, 3, 4))
        return Answer(self.head(self.dropout(features)), None, features)

    @property
    def last_map(self) -> nn.Module:
        """The layer whose answer (b, f, d', h', w') everything after looks at."""
        return self.stages[-1]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, s, c, h, w), label (b,), and present (b, s) where series differ in length."""
        answer = self(batch["x"], batch.get("present"))
        return {"loss": label_loss(self.config.loss, answer.logits, batch["label"])}


class P3dBlock(nn.Module):
    """(b, i, d, h, w) → (b, 4·inner, d, h/stride, w/stride): 1 × 1 × 1, S and T, 1 × 1 × 1, and the input added.

    S is 1 × 3 × 3, T is 3 × 1 × 1. A: T(S(x)), Eq. 3 · B: S(x) + T(x), Eq. 4 · C: S(x) + T(S(x)), Eq. 5 · flat: S(x).
    """

    def __init__(self, channels_in: int, inner: int, kind: Kind, stride: int) -> None:
        super().__init__()
        self.kind = kind
        self.narrow = nn.Sequential(*_convolution(channels_in, inner, (1, 1, 1), stride), nn.ReLU(inplace=True))
        self.plane = nn.Sequential(*_convolution(inner, inner, (1, 3, 3)), nn.ReLU(inplace=True))  # S
        self.across = nn.Identity() if kind == "flat" else nn.Sequential(*_convolution(inner, inner, (3, 1, 1)), nn.ReLU(inplace=True))  # T
        self.widen = nn.Sequential(*_convolution(inner, inner * EXPANSION, (1, 1, 1)))
        same = stride == 1 and channels_in == inner * EXPANSION
        self.side = nn.Identity() if same else nn.Sequential(*_convolution(channels_in, inner * EXPANSION, (1, 1, 1), stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(x)
        s = self.plane(y)
        if self.kind == "A":
            s = self.across(s)  # Eq. 3
        elif self.kind == "B":
            s = s + self.across(y)  # Eq. 4
        elif self.kind == "C":
            s = s + self.across(s)  # Eq. 5
        return F.relu(self.widen(s) + self.side(x))


def _convolution(channels_in: int, channels: int, kernel: tuple[int, int, int], stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the length, strides in the plane alone, and is followed by batch norm."""
    d, h, w = kernel
    layer = nn.Conv3d(channels_in, channels, kernel, (1, stride, stride), (d // 2, h // 2, w // 2), bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm3d(channels)
