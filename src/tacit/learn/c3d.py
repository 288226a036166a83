"""Slices as a volume: eight 3 × 3 × 3 convolutions.

"Learning Spatiotemporal Features with 3D Convolutional Networks" (C3D), Tran et al. 2015, arXiv 1412.0767; figure numbers are
theirs. Ours differs: slices instead of frames; a series of another length or size is resampled to the one that it was built for; He's random
weights, with which eleven layers without a norm begin to learn at once.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.learn.fixed_length import of_length, of_side, precise
from tacit.parts.focal import LabelLossConfig, label_loss
from tacit.parts.series import Answer, checked
from tacit.parts.train import Batch, TrainConfig
from tacit.prepare.resample import How

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # fig. 3: convolutions between poolings, channels as multiples of the first


class C3dConfig(Config):
    length: Annotated[int, Field(ge=16)] = 16  # slices
    side: Annotated[int, Field(ge=16)] = 112  # px
    interpolation: How = "area"  # of slices, to `length`: nearest, linear, area, cubic
    channels_in: Count = 1  # of a slice (paper: 3)
    width: Count = 64  # channels of the first convolution; 64 = as published, the hidden layers have 64 times as many
    dropout: Share = 0.5  # of both hidden layers
    classes: Count = 3  # normal, community-acquired pneumonia, COVID-19
    loss: LabelLossConfig = LabelLossConfig()
    train: TrainConfig = TrainConfig(epochs=30, steps=50, batch=30, lr=3e-3, optimizer="sgd", schedule="halving", average=0.0)  # the paper's rate and batch


class C3d(nn.Module):
    """A series → its class. No evidence by slice: the first layer mixes them."""

    Config = C3dConfig

    def __init__(self, config: C3dConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or C3dConfig()
        layers: list[nn.Module] = []
        channels = c.channels_in
        for stage, multiples in enumerate(STAGES):
            for multiple in multiples:
                layers += [nn.Conv3d(channels, multiple * c.width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = multiple * c.width
            last = stage == len(STAGES) - 1
            layers.append(nn.MaxPool3d((1, 2, 2) if stage == 0 else 2, padding=(0, 1, 1) if last else 0))
        self.convolutions = nn.Sequential(*layers)
        places = (c.length // 16) * (c.side // 16 // 2 + 1) ** 2
        self.fc6, self.fc7 = nn.Linear(channels * places, 64 * c.width), nn.Linear(64 * c.width, 64 * c.width)
        self.head = nn.Linear(64 * c.width, c.classes)
        self.dropout = nn.Dropout(c.dropout)
        for layer in (*self.convolutions, self.fc6, self.fc7):
            if isinstance(layer, (nn.Conv3d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Answer:
        """x (b, s, c, h, w), present (b, s), all where None."""
        c = self.config
        x, present = checked(x, present, c.channels_in)
        with precise():
            volume = of_length(of_side(x, c.side), present, c.length, c.interpolation).transpose(1, 2)  # (b, c, d, h, w)
            maps = self.convolutions(volume)
        features = self.dropout(F.relu(self.fc6(maps.flatten(1))))
        features = F.relu(self.fc7(features))
        return Answer(self.head(self.dropout(features)), None, features)

    @property
    def last_map(self) -> nn.Module:
        """The layer whose answer (b, f, d', h', w') everything after looks at."""
        return self.convolutions

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, s, c, h, w), label (b,), and present (b, s) where series differ in length."""
        answer = self(batch["x"], batch.get("present"))
        return {"loss": label_loss(self.config.loss, answer.logits, batch["label"])}
