"""Losses of a labelled case: cross-entropy, or one that looks away from what is easy.

"Focal Loss for Dense Object Detection", Lin et al. 2017, arXiv 1708.02002; equation numbers are theirs. Ours differs: more than two
classes, with p_t the softmax of the true one; and weights of classes, by whose sum the mean is divided as torch's cross-entropy does.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tacit.config import Config, Positive
from tacit.errors import ConfigError, InputError


class LabelLossConfig(Config):
    kind: Literal["cross-entropy", "focal"] = "cross-entropy"  # focal: what is answered well already counts less
    gamma: Annotated[float, Field(ge=0)] = 2.0  # of focal: how much less an easy case counts; 0 = cross-entropy (paper: 2)
    alpha: Positive | tuple[Positive, ...] | None = None  # of focal: α, one number or one a class (paper: 0.25); none = 1
    class_weights: tuple[Positive, ...] | None = None  # of either, one a class; the mean is divided by their sum over the batch


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, alpha: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """Mean of −α_t (1 − p_t)^γ log p_t, weighted by `weight`. logits (n, k) · target (n,) whole numbers below k · alpha, weight (k,) > 0."""
    log_p = F.log_softmax(logits.float(), 1).gather(1, target[:, None])[:, 0]  # (n,)
    miss = (-log_p.expm1()).clamp_min(1e-8)  # 1 − p_t; at 0 a power below 1 has no slope
    loss = -(miss**gamma) * log_p  # Eq. 4
    if alpha is not None:
        loss = alpha.to(loss)[target] * loss  # Eq. 5
    if weight is None:
        return loss.mean()
    each = weight.to(loss)[target]
    return (each * loss).sum() / each.sum()


def label_loss(config: LabelLossConfig, logits: Tensor, target: Tensor) -> Tensor:
    """The loss that the settings name. Raises ConfigError where α or weights are not one a class, InputError for a label outside 0 … k − 1."""
    classes = logits.shape[1]
    if target.shape != logits.shape[:1] or target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= classes:
        raise InputError(f"labels are {tuple(target.shape)} from {target.min()} to {target.max()}; wanted {len(logits)} whole numbers from 0 to {classes - 1}")
    weight = _each(config.class_weights, classes, "class_weights", logits)
    if config.kind == "cross-entropy":
        return F.cross_entropy(logits.float(), target, weight)
    alpha = (config.alpha,) * classes if isinstance(config.alpha, float) else config.alpha
    return focal(logits, target, config.gamma, _each(alpha, classes, "alpha", logits), weight)


def _each(values: tuple[float, ...] | None, classes: int, name: str, like: Tensor) -> Tensor | None:
    if values is not None and len(values) != classes:
        raise ConfigError(f"loss.{name} holds {len(values)} numbers, there are {classes} classes; give one a class")
    return None if values is None else like.new_tensor(values).float()
