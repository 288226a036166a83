"""Losses that more than one method uses. Predictions are logits unless a name says otherwise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def generalised_cross_entropy(logits: Tensor, target: Tensor, q: float = 0.7, weight: Tensor | None = None) -> Tensor:
    """(1 − p_y^q) / q for two classes, p_y the probability given to the target; q → 0 is cross-entropy, q = 1 is 1 − p_y.

    logits, target (…) with target in 0–1; a soft target mixes the two classes' losses. weight (…) ≥ 0, mean-normalised.
    Zhang and Sabuncu 2018, arXiv 1805.07836, Eq. 6: tolerates wrong labels.
    """
    p = torch.sigmoid(logits.float()).clamp(1e-6, 1 - 1e-6)
    loss = target * (1 - p**q) / q + (1 - target) * (1 - (1 - p) ** q) / q  # Eq. 6
    if weight is None:
        return loss.mean()
    return (loss * weight).sum() / weight.sum().clamp_min(1e-6)


def soft_dice(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 − Dice of the soft answer, mean over channels; small structures count as much as large ones. All (b, c, h, w), target in 0–1, weight ≥ 0.

    Milletari et al. 2016, arXiv 1606.04797, section 3, squares in the denominator; a channel is summed over the batch.
    """
    p, over = torch.sigmoid(logits.float()), (0, 2, 3)
    common, all_ = (weight * p * target).sum(over), (weight * (p * p + target * target)).sum(over)
    return (1 - (2 * common + 1) / (all_ + 1)).mean()


def total_variation(response: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, rows plus columns. response (b, c, h, w)."""
    down = (response[..., 1:, :] - response[..., :-1, :]).abs().mean()
    right = (response[..., :, 1:] - response[..., :, :-1]).abs().mean()
    return down + right


def mutual_information(p: Tensor, p_other: Tensor) -> Tensor:
    """Mutual information, in nats, of paired soft cluster assignments. Both (n, k), rows summing to 1.

    Ji, Henriques and Vedaldi 2019, arXiv 1807.06653, Eqs. 2–3, with the joint made symmetric.
    """
    joint = p.T @ p_other / len(p)  # Eq. 2, (k, k)
    joint = ((joint + joint.T) / 2).clamp_min(1e-8)
    rows, cols = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return (joint * (joint.log() - rows.log() - cols.log())).sum()  # Eq. 3


def knowledge_diffusion(embedding: Tensor, border: Tensor, interior: Tensor) -> Tensor:
    """Mean over interior-prior pixels of the squared distance of their embedding to the border's mean embedding.

    MSSG (arXiv 2307.11989), MSG-Variation. embedding (b, c, h', w') · border, interior (b, 1, h, w) in 0–1. The mean over channels keeps the scale of any width.
    """
    z = F.normalize(embedding.float(), dim=1) * embedding.shape[1] ** 0.5
    b, i = (F.adaptive_avg_pool2d(m, z.shape[2:]) for m in (border, interior))
    anchor = (z * b).sum((0, 2, 3)) / b.sum().clamp_min(1e-6)  # e_b
    return ((z - anchor[None, :, None, None]).square().mean(1, keepdim=True) * i).sum() / i.sum().clamp_min(1.0)
