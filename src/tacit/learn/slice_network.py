"""A network as the classifier of slices: the first of two levels, as the slides have it with the DenseNet-169 of Self-Trans (He et al. 2020).

Each slice teaches as a case of its own, with the class of its case. The weights it begins with may be those of `tacit pretrain`; the last epochs may vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from tacit.learn.case_answers import Kept, Rows
from tacit.learn.case_batches import Drawn, normalised
from tacit.learn.case_network import CaseNetworkConfig, new_learner, teach
from tacit.learn.explain import grad_cam
from tacit.learn.workshop import Workshop

PIXELS = "pixels"  # what `TwoLevel.kept` calls the slices that a network sees


class SliceNetwork(nn.Module):
    """probabilities(case) → (s, k) after `fit`. A case holds PIXELS (s, size, size) uint8."""

    def __init__(self, config: CaseNetworkConfig, classes: int) -> None:
        super().__init__()
        self.config, self.classes, self.device = config, classes, "cpu"
        self.learner = new_learner(config, classes)

    def fit(self, cases: Sequence[Kept], picked: list[tuple[int, int]], labels: NDArray[np.int64], seed: int, shop: Workshop, stage: str) -> dict[str, Any]:
        """Learns from the slices `picked`, (case, slice), of cases with classes 0 … k − 1. In place."""
        slices = Slices(cases, picked)
        drawn = Drawn(slices, np.arange(len(slices)), self.config.pictures, labels[[i for i, _ in picked]])
        teach(self.learner, self.config, self.classes, drawn, shop, stage, seed)
        self.device = shop.device
        return {"model": self.config.model, "slices": len(picked), "class_weights": self.learner.weights}

    def probabilities(self, case: Kept) -> Rows:
        """(s, k); each row sums to 1, and none depends on another slice."""
        return self.learner.to(self.device).each(normalised(case[PIXELS]).to(self.device))

    def evidence(self, slices: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where in each slice (m, size, size) the evidence of its likeliest class lies, in 0–1, 1 at a slice's strongest place (Grad-CAM)."""
        x = normalised(slices).to(self.device)
        network = self.learner.to(self.device).eval().network
        return np.concatenate([grad_cam(network, x[i : i + 1], int(p.argmax())) for i, p in enumerate(self.learner.each(x))])


class Slices(Sequence[Kept]):
    """Slices as cases of one slice each."""

    def __init__(self, cases: Sequence[Kept], picked: list[tuple[int, int]]) -> None:
        self.cases, self.picked = cases, picked

    def __len__(self) -> int:
        return len(self.picked)

    def __getitem__(self, place: Any) -> Any:
        i, s = self.picked[place]
        return {"slices": self.cases[i][PIXELS][s : s + 1]}


def pixels_of(stack: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Slices (s, h, w) brought to (s, size, size)."""
    return stack if stack.shape[1:] == (size, size) else np.stack([cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for plane in stack])
