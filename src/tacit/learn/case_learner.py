"""One network that classifies cases while it learns: the classes' weights, unlabelled cases by its own answers, and the weights of the last epochs that vote.

The vote is that of Self-Trans, He et al. 2020, "Sample-Efficient Deep Learning for COVID-19 Diagnosis Based on CT Scans", medRxiv 2020.04.13.20063941: the
answers of the last ten epochs are joined. Ours: the mean of their probabilities. The weights at the ends of the epochs are kept whole, as part
of the state, so that a resumed run and a saved model vote as an unbroken one; this costs as many times the weights.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit.learn.pseudo_label import PseudoLabelConfig, pseudo_label_loss, ramp
from tacit.parts.batch_norm import held_statistics
from tacit.parts.focal import LabelLossConfig, label_loss
from tacit.parts.series import Answer
from tacit.parts.train import Batch, TrainConfig

TOGETHER = 16  # slices that go through a network at a time


class CaseLearner(nn.Module):
    """`network` learns; `earlier` are its weights at the ends of the `vote_epochs` − 1 epochs before the last."""

    def __init__(self, network: nn.Module, loss: LabelLossConfig, train: TrainConfig, vote_epochs: int, pseudo: PseudoLabelConfig) -> None:
        super().__init__()
        if vote_epochs > 1 and (vote_epochs > train.epochs or train.average):
            raise ConfigError(
                f"vote_epochs={vote_epochs} with train.epochs={train.epochs}, train.average={train.average:g}: "
                "at most all epochs can vote, and their weights are not averaged as well; set train.average=0 or fewer votes"
            )
        self.network = network
        self.earlier = nn.ModuleList(copy.deepcopy(network).requires_grad_(False) for _ in range(vote_epochs - 1))
        self.label_loss, self.training_plan, self.pseudo = loss, train, pseudo
        self.weights: tuple[float, ...] | None = None  # of the classes
        self.progress = 0.0

    def before_step(self, progress: float) -> None:
        """progress: the share of the steps that are done."""
        self.progress = progress

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, s, c, h, w), present (b, s), label (b,); perhaps unlabelled (b', s, c, h, w) and unlabelled_present (b', s)."""
        answer: Answer = self.network(batch["x"], batch["present"])
        label = batch["label"]
        loss = label_loss(self.label_loss.model_copy(update={"class_weights": self.weights}) if self.weights else self.label_loss, answer.logits, label)
        if self.weights:  # that loss is divided by the weights of its batch, in which a rare class alone would count as any other
            loss = loss * answer.logits.new_tensor(self.weights).float()[label].mean()
        found = {"loss": loss, "right": (answer.logits.detach().argmax(1) == label).float().mean()}
        if "unlabelled" in batch:
            with held_statistics(self.network):
                other: Answer = self.network(batch["unlabelled"], batch["unlabelled_present"])
            alpha = ramp(self.progress, self.pseudo.start, self.pseudo.full, self.pseudo.weight)
            found["pseudo"] = pseudo_label_loss(other.logits, self.pseudo.confidence)
            found["loss"] = loss + alpha * found["pseudo"]  # Lee's Eq. 15
        return found

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """At the end of an epoch that votes its weights are kept."""
        plan = self.training_plan
        done = round(progress * plan.total)
        place = done // plan.steps - (plan.epochs - len(self.earlier))
        if done % plan.steps == 0 and 0 <= place < len(self.earlier):
            self.earlier[place].load_state_dict(self.network.state_dict())

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A case (s, c, h, w) → (k,), and (s, k) of its slices: of networks that mix slices the case's own, repeated. The mean of the votes."""
        self.eval()
        votes, curves = [], []
        for network in (*self.earlier, self.network):
            answer: Answer = network(x[None])
            votes.append(answer.logits[0].double().softmax(0))
            curves.append(votes[-1].expand(len(x), -1) if answer.evidence is None else answer.evidence[0].double().softmax(1))
        return torch.stack(votes).mean(0).cpu().numpy(), torch.stack(curves).mean(0).cpu().numpy()

    @torch.no_grad()
    def each(self, x: Tensor) -> NDArray[np.float64]:
        """Slices (s, c, h, w) → (s, k), each as a case of its own. The mean of the votes."""
        self.eval()
        found = []
        for part in x.split(TOGETHER):
            votes = [network(part[:, None]).logits.double().softmax(1) for network in (*self.earlier, self.network)]
            found.append(torch.stack(votes).mean(0))
        return torch.cat(found).cpu().numpy()


def balanced_weights(labels: NDArray[np.int64], classes: int) -> tuple[float, ...]:
    """n / (k · n_j) of each class j: all classes together weigh alike, and the mean over the cases is 1.

    >>> balanced_weights(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    return tuple(float(len(labels) / (classes * count)) for count in counts)
