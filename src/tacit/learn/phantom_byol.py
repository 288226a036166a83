"""BYOL begun from the encoder that drawings taught: it knows glands, and unlabelled tissue teaches it which differences are none.

Ours, 2026, of two parts. `phantom_encoder.py`: a network names the mask and the parameters of drawn tissue. BYOL (Grill et al. 2020, arXiv 2006.07733):
it predicts what its slow copy says of another view of the same spot. From random weights BYOL finds little in minutes (LOG.md). On request drawings go
on teaching beside the pictures, with their own loss. In the end every number is standardised over spots of the pictures that it has learnt from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.learn.phantom_encoder import PhantomEncoder, PhantomEncoderConfig, draw_named, named_batches
from tacit.learn.sources import Source
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import BackboneConfig
from tacit.parts.head import follow, mlp, momentum_at, negative_cosine, slow_copy
from tacit.parts.processes import own_rows
from tacit.parts.train import Batch, TrainConfig
from tacit.prepare.lab_views import LabViewConfig, spot_of

SPOTS = 300  # of the user's pictures, over which the numbers are standardised


class PhantomByolConfig(Config):
    encoder: PhantomEncoderConfig = PhantomEncoderConfig()  # what it begins as; other settings than the default are taught first
    drawings: Annotated[int, Field(ge=0)] = 0  # that go on teaching beside the pictures; none is better (LOG.md)
    byol: Positive = 1.0  # weight of the views' loss beside the drawings'
    rate: Share = 0.1  # of the encoder, as a share of its new heads' rate
    hidden: Count = 1024
    projection: Count = 128
    momentum: Share = 0.99  # of the slow copy at the start
    rising: bool = True  # to 1 along a cosine; False = fixed
    texture: float = 0.5  # what the encoder `texture` beside it counts in a vector; 0 = without
    views: LabViewConfig = LabViewConfig()
    size: Count = 112  # px of a view, at encoder.um_per_px
    train: TrainConfig = TrainConfig(epochs=1, steps=400, batch=32, average=0.0)

    @property
    def backbone(self) -> BackboneConfig:
        """What stands for the network's name beside timm's."""
        return BackboneConfig(name="phantom")


class PhantomByol(nn.Module):
    """Refines a phantom encoder on pairs of views. `features(x)` are those of the encoder, from standardised Lab."""

    Config = PhantomByolConfig

    def __init__(self, config: PhantomByolConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or PhantomByolConfig()
        self.encoder = PhantomEncoder(c.encoder)
        width = self.encoder.sizes[0]
        self.projector, self.predictor = mlp([width, c.hidden, c.projection]), mlp([c.projection, c.hidden, c.projection])
        self.slow_encoder, self.slow_projector = slow_copy(self.encoder), slow_copy(self.projector)
        self.rate_shares = {"encoder": c.rate}

    def begin(self, encoder: PhantomEncoder) -> None:
        """Starts from what drawings taught `encoder`. In place."""
        for own in (self.encoder, self.slow_encoder):
            own.load_state_dict(encoder.state_dict())

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w), standardised Lab → (b, f): each number standardised, each group weighed."""
        return self.encoder.features(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a, b (n, 3, h, w), two views of each spot in standardised Lab · of drawings x, mask and parameters as for `PhantomEncoder.loss`, where there are any."""
        a, b = batch["a"], batch["b"]
        with torch.no_grad():
            target_a, target_b = (self.slow_projector(self.slow_encoder.answers(view)[0]) for view in (a, b))
        features = self.encoder.answers(a)[0]
        p_a = self.predictor(self.projector(features))
        p_b = self.predictor(self.projector(self.encoder.answers(b)[0]))
        views = 2 + negative_cosine(p_a, target_b) + negative_cosine(p_b, target_a)  # 0–4; BYOL's Eq. 2 both ways is twice that
        values = {"loss": self.config.byol * views, "views": views.detach(), "embedding": features.detach()}
        if "x" in batch:
            drawn = self.encoder.loss(batch)
            values |= {"loss": values["loss"] + drawn["loss"], "mask": drawn["mask"], "parameters": drawn["parameters"]}
        return values

    def after_step(self, progress: float) -> None:
        """The slow copy follows. progress: share of the steps that are done, 0–1."""
        tau = momentum_at(self.config.momentum, progress, self.config.rising)
        follow(self.slow_encoder, self.encoder, tau)
        follow(self.slow_projector, self.projector, tau)

    def with_drawings(self, batches: Callable[[int], Batch], shop: Workshop) -> Callable[[int], Batch]:
        """`batches` of views, with as many crops of drawings in each; these are drawn when the first batch is asked for."""
        c = self.config
        drawn: list[Callable[[int], Batch]] = []

        def batch(step: int) -> Batch:
            if not drawn:
                lessons = draw_named(c.encoder.model_copy(update={"drawings": c.drawings}), shop)
                told = np.stack([lesson.parameters for lesson in lessons])
                settings = c.encoder.model_copy(update={"train": c.train})
                drawn.append(named_batches(lessons, told.mean(0), np.maximum(told.std(0), 1e-6), settings, shop.seed))
            return batches(step) | {name: own_rows(rows) for name, rows in drawn[0](step).items()}

        return batch if c.drawings else batches

    def standardise(self, source: Source, seed: int) -> None:
        """Mean and deviation of every number become those over spots of the items that it has learnt from. In place; a pure function of the seed."""
        rng, order = np.random.default_rng([seed, 73]), np.resize(source.order(seed, 0), SPOTS)
        self.encoder.standardise([spot_of(rng, source.item(index, seed, 0), self.config.encoder.size) for index in order.tolist()])
