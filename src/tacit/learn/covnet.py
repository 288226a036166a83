"""A CT series classified by what is strongest in any of its slices.

"Using Artificial Intelligence to Detect COVID-19 and Community-acquired Pneumonia Based on Pulmonary CT: Evaluation of the Diagnostic
Accuracy" (COVNet), Li et al. 2020, Radiology 296:E65, doi 10.1148/radiol.2020200905: one ResNet-50 for every slice, the mean over
places, the maximum over slices, one linear layer. Ours differs: series of any length share a batch; batch norm answers by running statistics unless
asked; and the parts that were varied later are settings (docs/series_models.md).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.learn.csrnet import BackEndConfig, back_end, back_width
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.batch_norm import own_statistics
from tacit.parts.focal import LabelLossConfig, label_loss
from tacit.parts.series import Answer, Over, checked, placed, pooled
from tacit.parts.stages import Attention, Stages
from tacit.parts.train import Batch, TrainConfig

CSR_STRIDE = 8  # CSRNet's back-end reads maps at 1/8: conv3_x of a ResNet, as many channels in ResNet-50 as VGG's tenth convolution


class CovnetConfig(Config):
    backbone: BackboneConfig = BackboneConfig(name="resnet50")
    channels_in: Literal[1, 3] = 1  # of a slice; 3 repeats a grey one, for weights taught on colours
    classes: Count = 3  # normal, community-acquired pneumonia, COVID-19
    features: Literal["resnet", "csr", "fcn"] = "resnet"  # mean of the last map · of CSRNet's back-end on the map at 1/8 · a class map, its maximum over places
    csr: BackEndConfig = BackEndConfig()  # of features=csr
    attention: Attention = "none"  # behind every stage: se, cbam, eca, residual
    over_slices: Over = "max"  # mean = the mean of the slices' own answers
    dropout: Share = 0.0  # before the linear layer
    batch_norm: Literal["running", "per-case"] = "running"  # at evaluation: statistics remembered from training, or of the series itself
    recompute: bool = False  # stages run again on the way back instead of being kept: less memory, more time
    slices_at_once: Count = 32  # slices in one pass at evaluation by running statistics; no answer depends on it
    loss: LabelLossConfig = LabelLossConfig()
    train: TrainConfig = TrainConfig(epochs=30, steps=50, batch=2, lr=1e-4, average=0.0)  # a batch is of series


class Covnet(nn.Module):
    """Slices → class. Only slices that are there go through the network, so what fills a batch up takes no part, in batch norm neither."""

    Config = CovnetConfig

    def __init__(self, config: CovnetConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or CovnetConfig()
        plain = c.features == "resnet" and c.attention == "none" and not c.recompute  # any timm network can be that
        stride = CSR_STRIDE if c.features == "csr" else None
        self.encoder = (
            Backbone(c.backbone, c.channels_in) if plain else Stages(c.backbone, c.channels_in, stride=stride, attention=c.attention, recompute=c.recompute)
        )
        self.back = back_end(self.encoder.width, c.csr) if c.features == "csr" else nn.Identity()
        self.width = back_width(c.csr) if c.features == "csr" else self.encoder.width
        self.dropout = nn.Dropout(c.dropout)
        self.head = nn.Linear(self.width, c.classes)  # of features=fcn: the 1 × 1 convolution

    def forward(self, x: Tensor, present: Tensor | None = None) -> Answer:
        """x (b, s, c, h, w), present (b, s), all where None. Evidence is what a series of that slice alone would be answered."""
        x, present = checked(x, present, self.config.channels_in)
        return self._joined(*self._slices(x, present), present)

    def maps(self, rows: Tensor) -> Tensor:
        """Slices (n, channels_in, h, w) → the last maps (n, f, h', w'), which everything after looks at; a transformer's tokens are none."""
        found: Tensor = self.back(self.encoder.map(rows) if isinstance(self.encoder, Backbone) else self.encoder(rows))
        return found

    def answered(self, maps: Tensor, present: Tensor) -> Answer:
        """What the last maps of the n slices that are there, in order, are answered: `forward` after `maps`."""
        return self._joined(*self._told(maps), present)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, s, c, h, w), label (b,) whole numbers below `classes`, and present (b, s) where series differ in length."""
        answer = self(batch["x"], batch.get("present"))
        return {"loss": label_loss(self.config.loss, answer.logits, batch["label"])}

    def _slices(self, x: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Features and answers of the n slices that are there."""
        if self.training:
            return self._read(x[present])
        if self.config.batch_norm == "per-case":
            with own_statistics(self):
                parts = [self._read(one[there]) for one, there in zip(x, present, strict=True)]
        else:
            parts = [self._read(rows) for rows in x[present].split(self.config.slices_at_once)]
        return torch.cat([features for features, _ in parts]), torch.cat([answers for _, answers in parts])

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Slices (n, c, h, w) → features (n, f), answers (n, k)"""
        return self._told(self.maps(rows))

    def _told(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The last maps (n, f, h', w') → features (n, f), answers (n, k)"""
        if self.config.features == "fcn":
            classes = self.head(self.dropout(maps).movedim(1, -1))  # (n, h', w', k)
            return maps.amax((2, 3)), classes.amax((1, 2))
        features = self.encoder.pooled(maps) if isinstance(self.encoder, Backbone) else maps.mean((2, 3))
        return features, self.head(features)

    def _joined(self, features: Tensor, answers: Tensor, present: Tensor) -> Answer:
        """Features (n, f) and answers (n, k) of the slices that are there → the answer for their series."""
        series = pooled(features, present, self.config.over_slices)
        if self.config.features == "fcn":
            logits = pooled(answers, present, self.config.over_slices)
        else:
            logits = self.head(self.dropout(series))
        return Answer(logits, placed(answers, present), series)
