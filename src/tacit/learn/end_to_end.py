"""Cases → classes by one network from pixels to answer; several members that each left patients out.

The networks are those of learn/series_models.py, COVNet (Li et al. 2020) and its relatives; a picture is a series of one slice, so that Self-Trans (He et al. 2020)
is DenseNet-169 here, with weights of `tacit pretrain --method moco` and `vote_epochs` 10. A member is taught without one fold of the patients, which then
scores it. The answer to a new case is the mean of the members, warmed (learn/temperature.py); their spread is its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Count
from tacit.errors import InputError
from tacit.learn.case_answers import Answers, Kept, Rows, evenly
from tacit.learn.case_batches import Drawn, normalised
from tacit.learn.case_learner import CaseLearner
from tacit.learn.case_network import CaseNetworkConfig, new_learner, teach
from tacit.learn.explain import Histograms, feature_histograms, grad_cam, occlusion
from tacit.learn.pooling import pooled_out_of_fold
from tacit.learn.pseudo_label import PseudoLabelConfig
from tacit.learn.search_space import Choice, Space, Span
from tacit.learn.series_models import series_config
from tacit.learn.table_classifier import grouped_folds
from tacit.learn.temperature import fit_temperature, warmed
from tacit.learn.workshop import Workshop

SEARCH: Space = {  # what --tune may change
    "size": Choice((96, 128, 160, 224)),
    "slices": Span(16, 64, log=True, series=True),
    "balance": Choice(("balanced", "none")),
    "views.zoom": Span(0.0, 0.3),
    "views.grey": Span(0.0, 0.3),
    "train.lr": Span(1e-4, 1e-2, log=True),
    "network.attention": Choice(("none", "se", "eca", "cbam")),
    "network.over_slices": Choice(("max", "mean"), series=True),
    "network.dropout": Span(0.0, 0.5),
    "loss.kind": Choice(("cross-entropy", "focal")),
}


class EndToEndConfig(CaseNetworkConfig):
    classes: tuple[str, ...] = ("no", "yes")  # their names, sorted; given by --labels
    unit: Literal["picture", "series"] = "picture"  # what a case is
    slices: Count = 64  # of a series at most, evenly along it
    members: Annotated[int, Field(ge=2)] = 5  # folds of the patients, one member each
    explain: Literal["grad-cam", "occlusion"] = "grad-cam"  # how the maps of the report are made; occlusion takes longer
    pseudo: PseudoLabelConfig = PseudoLabelConfig()  # of --unlabelled


class EndToEnd(nn.Module):
    """The members and their temperature. Nothing is learnt without labels."""

    Config = EndToEndConfig
    SEARCH = SEARCH
    device = "cpu"
    HEAT = "The heat is where the evidence for the named class lies."
    temperature: Tensor
    used: Tensor

    def __init__(self, config: EndToEndConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or EndToEndConfig()
        if len(c.classes) < 2 or len(set(c.classes)) < len(c.classes):
            raise InputError(f"classes {c.classes}: at least two different names are expected")
        self.CLASSES = c.classes
        self.members = nn.ModuleList(self._new() for _ in range(c.members))
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))  # members that were taught: fewer where there are fewer patients

    @staticmethod
    def whole(config: EndToEndConfig) -> dict[str, Any]:
        """The settings with those that the network's name stands for: where a search begins. What a network has not is not searched."""
        return config.model_dump(mode="json") | {"network": series_config(config.model, config.network)[1].model_dump(mode="json")}

    def look(self, slices: list[NDArray[np.uint8]], seed: int) -> None:
        """Nothing: a network learns from labelled cases, its weights come from `tacit pretrain`."""

    def kept(self, stack: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """slices: those that are taken evenly, resized, (m, size, size) uint8 · stands (s,): which of them stands for each slice (s, h, w) of the stack, the nearest."""
        size, places = self.config.size, evenly(len(stack), self.config.slices)
        stands = np.abs(np.arange(len(stack))[:, None] - places).argmin(1)
        taken = stack[places]
        if taken.shape[1:] != (size, size):
            taken = np.stack([cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for plane in taken])
        return {"slices": np.ascontiguousarray(taken), "stands": stands}

    def fit(
        self, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray[Any], shop: Workshop, unlabelled: Sequence[Kept] = ()
    ) -> tuple[Rows, list[dict[str, Any]]]:
        """Teaches the members. In place. Gives each case's probabilities out of fold, (n, k), and what each member learnt from.

        unlabelled: cases that join by the members' own answers. Raises InputError where a class has patients for one side only.
        """
        self.device = shop.device
        parts = list(grouped_folds(labels, groups, self.config.members, shop.seed))
        out_of_fold, told = np.zeros((len(cases), len(self.CLASSES))), []
        for number, (train, test) in enumerate(parts):
            learner = self._teach(number, cases, train, labels[train], shop, unlabelled)
            for i in test:
                out_of_fold[i] = learner.probabilities(self._seen(cases[i]))[0]
            told.append({"cases": len(train), "left_out": len(test), "class_weights": learner.weights, "unlabelled": len(unlabelled)})
        self.temperature.fill_(fit_temperature(out_of_fold, labels))
        self.used.fill_(len(parts))
        return pooled_out_of_fold(out_of_fold[None], labels, parts), told

    def answers(self, cases: Sequence[Kept]) -> Answers:
        """What the members say of new cases, each read once."""
        warmth = float(self.temperature)
        p, slices = [], []
        for case in cases:
            x = self._seen(case)
            each = [learner.probabilities(x) for learner in self._taught()]
            p.append(warmed(np.stack([answer for answer, _ in each]), warmth))  # (members, k)
            slices.append(np.mean([curve for _, curve in each], axis=0)[case["stands"]])
        rows = np.stack(p)
        return Answers(np.asarray(rows.mean(1)), np.asarray(rows.min(1)), np.asarray(rows.max(1)), slices)

    def maps(self, case: Kept) -> NDArray[np.float32]:
        """Where in each slice that was taken the evidence of the likeliest class lies, (m, size, size) in 0–1, 1 at the strongest place. The members' mean."""
        x = self._seen(case)
        taught = self._taught()
        k = int(np.mean([learner.probabilities(x)[0] for learner in taught], axis=0).argmax())
        how = grad_cam if self.config.explain == "grad-cam" else occlusion
        mean = np.mean([how(learner.network, x, k) for learner in taught], axis=0)
        return np.asarray(mean / max(float(mean.max()), 1e-12), np.float32)

    def histograms(self, cases: Sequence[Kept]) -> dict[str, Histograms]:
        """What values each member's layers hold for cases, by the member's name."""
        seen = [self._seen(case) for case in cases]
        return {f"member {number + 1}": feature_histograms(learner.network, seen) for number, learner in enumerate(self._taught())}

    def _new(self) -> CaseLearner:
        return new_learner(self.config, len(self.config.classes), self.config.pseudo)

    def _teach(
        self, number: int, cases: Sequence[Kept], rows: NDArray[np.int64], labels: NDArray[np.int64], shop: Workshop, unlabelled: Sequence[Kept]
    ) -> CaseLearner:
        c, learner = self.config, self.members[number]
        assert isinstance(learner, CaseLearner)
        drawn = Drawn(cases, rows, c.pictures if c.unit == "picture" else c.train.batch, labels)
        others = Drawn(unlabelled, np.arange(len(unlabelled)), c.pseudo.batch, None) if len(unlabelled) else None
        teach(learner, c, len(c.classes), drawn, shop, f"member{number}", shop.seed + 10 * number, others)
        return learner

    def _taught(self) -> list[CaseLearner]:
        return [learner.to(self.device).eval() for learner in list(self.members)[: int(self.used)] if isinstance(learner, CaseLearner)]

    def _seen(self, case: Kept) -> Tensor:
        return normalised(case["slices"]).to(self.device)
