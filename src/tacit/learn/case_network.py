"""One network that classifies cases, by name: its settings, and how it is taught. Two pipelines have such: end-to-end whole series, two-level single slices."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator

from tacit.config import Config, Count
from tacit.errors import ConfigError
from tacit.learn.case_batches import Drawn, ViewsConfig, case_batches
from tacit.learn.case_learner import CaseLearner, balanced_weights
from tacit.learn.pseudo_label import PseudoLabelConfig
from tacit.learn.series_models import series_config, series_model
from tacit.learn.workshop import Workshop
from tacit.parts.focal import LabelLossConfig
from tacit.parts.train import TrainConfig

PRESET = "covnet-small"


class CaseNetworkConfig(Config):
    model: str = PRESET  # a network by name (docs/series_models.md), as --model
    network: dict[str, Any] = {}  # its settings, laid over those of the name: network.dropout=0.3; see "Series" above
    size: Annotated[int, Field(ge=16)] = 224  # px a side of a slice
    balance: Literal["balanced", "none"] = "balanced"  # weights of classes in the loss: n / (k · n_j), or none; loss.class_weights win over both
    vote_epochs: Count = 1  # the weights at the ends of so many last epochs answer together (Self-Trans: 10); the model grows as many times
    pictures: Count = 32  # cases a batch where a case is one picture; train.batch counts series
    views: ViewsConfig = ViewsConfig()
    loss: LabelLossConfig = LabelLossConfig()  # what is not given is as the network's name says, here and in train
    train: TrainConfig = TrainConfig()  # an epoch is train.steps batches

    @model_validator(mode="before")
    @classmethod
    def _of_the_network(cls, given: Any) -> Any:
        """Loss and training of the network that is named, with what is given laid over."""
        if not isinstance(given, dict) or not isinstance(given.get("network", {}), dict):
            return given
        given = dict(given)
        for part in ("loss", "train"):
            if isinstance(given.get(part), Config):
                given[part] = given[part].model_dump(exclude_unset=True)
        if taken := {"classes", "loss", "train"} & given.get("network", {}).keys():
            raise ConfigError(
                f"network.{min(taken)} is no setting to change here; " + ("classes come from --labels" if "classes" in taken else "leave out network.")
            )
        own = {part: given[part] for part in ("loss", "train") if given.get(part)}
        _, network = series_config(given.get("model", PRESET), given.get("network", {}), own)
        return given | {part: getattr(network, part).model_dump() for part in ("loss", "train")}


def new_learner(c: CaseNetworkConfig, classes: int, pseudo: PseudoLabelConfig | None = None) -> CaseLearner:
    """A network with random weights by torch's generator, or those that its settings name."""
    return CaseLearner(series_model(c.model, c.network, {"classes": classes}), c.loss, c.train, c.vote_epochs, pseudo or PseudoLabelConfig())


def teach(
    learner: CaseLearner, c: CaseNetworkConfig, classes: int, labelled: Drawn, shop: Workshop, stage: str, seed: int, others: Drawn | None = None
) -> None:
    """Teaches a learner anew, in place; a pure function of the cases, the settings and the seed. stage: where it stopped lies under this name."""
    assert labelled.labels is not None  # what is called labelled
    fresh(learner, c, classes, seed)
    learner.weights = balanced_weights(labelled.labels, classes) if c.balance == "balanced" and c.loss.class_weights is None else None
    batches = case_batches(labelled, c.views, seed, others, math.ceil(learner.pseudo.start * c.train.total))
    shop.train(stage, learner, batches, c.train, seed=seed)


def fresh(learner: CaseLearner, c: CaseNetworkConfig, classes: int, seed: int) -> None:
    """Gives a learner the weights that `new_learner` has under a seed. In place; torch's generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner.load_state_dict(new_learner(c, classes, learner.pseudo).state_dict())
