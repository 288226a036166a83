"""Lungs of frontal chest radiographs by a mixture whose spatial prior is shared: started from two ellipses, learnt from the pictures alone.

For pixel i of picture n with features x (ranks, and ranks less a wide blur) and class k (lung; bright and dark surroundings):
    posterior  r_ink ∝ π_ik^β · N(x_in; μ_nk, Σ_nk)              E step
    μ_nk, Σ_nk  weighted mean and diagonal variance of picture n    M step
    π_ik = G_σ * mean over n of r_ink                              the atlas, shared, smoothed
EM after Dempster, Laird and Rubin 1977; an atlas as its prior after Van Leemput et al. 1999 (doi 10.1109/42.811270). Ours: nobody drew the atlas.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Config, Count, Positive
from tacit.learn.workshop import Workshop
from tacit.prepare.radiograph import chest_frame, planes_of
from tacit.prepare.space import to_size

ELLIPSES = ((0.50, 0.30, 0.34, 0.15), (0.50, 0.70, 0.34, 0.15))  # row, col, half-height, half-width of each lung, shares of the frame
FLOOR = 0.05  # least variance of a feature


class LungMixtureConfig(Config):
    side: Count = 128  # px a side of the frame
    beta: Positive = 1.0  # power of the spatial prior; below 1 the shared prior runs away to the outside air
    rounds: Count = 2  # of the shared prior
    steps: Count = 4  # E and M steps of every picture in a round
    smooth: Positive = 0.02  # SD with which the prior is smoothed, share of the frame


class LungMixture(nn.Module):
    """Its only memory is the shared prior (3, side, side): lung, bright, dark."""

    Config = LungMixtureConfig
    CLASSES = ("lungs",)
    prior: Tensor

    def __init__(self, config: LungMixtureConfig | None = None) -> None:
        super().__init__()
        self.config = config or LungMixtureConfig()
        self.register_buffer("prior", torch.from_numpy(two_ellipses(self.config.side)))

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A radiograph as (side, side) ranks, bone white. Raises InputError for what cannot be one."""
        return chest_frame(picture, self.config.side)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> LungMixture:
        """Learns the shared prior from what `working` gave; without pictures it stays two ellipses. In place."""
        c = self.config
        prior = two_ellipses(c.side)
        with shop.bar("mixture") as bar:
            for done in range(c.rounds if pictures else 0):
                total = np.zeros_like(prior)
                for ranks in pictures:
                    total += posterior(planes_of(ranks), prior, c.beta, c.steps)
                prior = np.stack([cv2.GaussianBlur(k, (0, 0), c.smooth * c.side) for k in total / len(pictures)])
                prior = (prior / prior.sum(0)).astype(np.float32)
                bar.advance(done + 1, c.rounds)
        self.prior = torch.from_numpy(prior)
        return self

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """Lungs, (1, h, w) in 0–1 at the radiograph's own size."""
        c = self.config
        p = posterior(planes_of(self.working(picture)), self.prior.numpy(), c.beta, c.steps)[0]
        smooth = cv2.GaussianBlur(p, (0, 0), 0.5 * c.smooth * c.side)
        return to_size(smooth, (picture.shape[0], picture.shape[1]))[None]


def two_ellipses(side: int) -> NDArray[np.float32]:
    """The prior that looks at nothing: lungs in two ellipses, bright tissue between and below, darkness towards the corners. (3, side, side)"""
    row, col = (np.mgrid[0:side, 0:side] + 0.5).astype(np.float32) / side
    lung = np.maximum(*[1 / (1 + np.exp(np.minimum(4 * (((row - r) / h) ** 2 + ((col - c) / w) ** 2 - 1), 50))) for r, c, h, w in ELLIPSES])
    edge = np.minimum(np.minimum(row, col), np.minimum(1 - row, 1 - col))
    dark = (1 - lung) * np.clip(1 - edge / 0.12, 0, 1)
    prior = 0.005 + np.stack([lung, 1 - lung - dark, dark])
    return np.asarray(prior / prior.sum(0), np.float32)


def posterior(x: NDArray[np.float32], prior: NDArray[np.float32], beta: float, steps: int) -> NDArray[np.float32]:
    """x (f, h, w), prior (k, h, w) → the classes' posterior (k, h, w) after `steps` M and E steps, begun from the prior."""
    r = prior.astype(np.float64)
    log_prior = beta * np.log(r)
    flat = x.astype(np.float64)
    for _ in range(steps):
        total = r.sum((1, 2)) + 1e-9
        mean = np.einsum("khw,fhw->kf", r, flat) / total[:, None]
        square = np.einsum("khw,fhw->kf", r, flat**2) / total[:, None]
        variance = np.maximum(square - mean**2, FLOOR)
        away = (flat[None] - mean[:, :, None, None]) ** 2 / variance[:, :, None, None] + np.log(variance)[:, :, None, None]
        logit = log_prior - 0.5 * away.sum(1)
        r = np.exp(logit - logit.max(0))
        r /= r.sum(0)
    return np.asarray(r, np.float32)
