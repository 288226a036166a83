"""Unlabelled cases that teach by the network's own answers, the later in the training the more.

"Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", Lee 2013, ICML workshop WREPL; equation
numbers are theirs. Ours differs: T1 and T2 are shares of the steps instead of epochs; an answer below a confidence teaches nothing (0 = theirs); batch norm
remembers nothing of unlabelled cases.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tacit.config import Config, Count, Share


class PseudoLabelConfig(Config):
    start: Share = 0.2  # T1, share of the steps: before it unlabelled cases take no part (paper: epoch 100)
    full: Share = 0.6  # T2, share of the steps: from it on they count in full (paper: epoch 600)
    weight: Annotated[float, Field(ge=0)] = 3.0  # α_f, of an unlabelled case over a labelled one (paper: 3)
    confidence: Share = 0.8  # an answer must be surer to teach (ours; paper: 0)
    batch: Count = 2  # unlabelled cases a batch (paper: 8 times as many as labelled ones)


def ramp(t: float, t1: float, t2: float, most: float) -> float:
    """α(t), Eq. 16: 0 before T1, rising evenly to `most` at T2, `most` from there on.

    >>> [ramp(t, 100, 600, 3.0) for t in (99, 100, 350, 600, 900)]
    [0.0, 0.0, 1.5, 3.0, 3.0]
    """
    if t < t1:
        return 0.0
    return most if t >= t2 else (t - t1) / (t2 - t1) * most


def pseudo_label_loss(logits: Tensor, confidence: float) -> Tensor:
    """Cross-entropy of logits (n, k) with their own likeliest classes, its mean over n; answers that are not surer than `confidence` count as 0."""
    sure, named = F.softmax(logits.detach().float(), 1).max(1)  # Eq. 14
    each = F.cross_entropy(logits.float(), named, reduction="none")
    return torch.where(sure > confidence, each, torch.zeros_like(each)).mean()  # the second sum of Eq. 15
