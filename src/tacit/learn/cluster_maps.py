"""What the rivals that answer with clusters share: the frame they see, their settings, the last clustering of features, the answer as planes.

Every one of them sees pictures alike: the shorter side at `side` px, Lab standardised by the picture's own tissue, as `mssg` and `phantom` do;
every one that learns has the same encoder, the U-Net of `phantom`, begun at random. Clusters have no names here: truth is nowhere near.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.errors import InputError
from tacit.parts.cluster import k_means, nearest
from tacit.parts.train import TrainConfig
from tacit.parts.unet import UNetConfig
from tacit.prepare.colour import standardised
from tacit.prepare.field import as_rgb

SAMPLED = 30_000  # pixels of all frames that the last clustering is fitted to
LEAST = 200  # of each frame
COLLAPSED = 0.98  # share of one cluster above which the others say nothing
KEPT = 64  # principal components of wide features

Clusters = Annotated[int, Field(ge=2, le=255)]
How = Literal["raw", "scaled", "unit", "whitened", "components"]
Maps = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class FrameConfig(Config):
    clusters: Clusters = 2  # K of the answer
    side: Count = 128  # px of a picture's shorter side as it is seen (a GlaS picture at 2.5 µm per px, as `phantom` sees it)


class RivalConfig(FrameConfig):
    network: UNetConfig = UNetConfig()  # the encoder, the same for all rivals
    size: Count = 64  # px of a crop
    colour: float = 0.3  # SD of the shift of each view's colours and contrast, in SDs of the picture
    train: TrainConfig = TrainConfig(epochs=1, steps=300, batch=8, lr=1e-3, average=0.0)


def names(clusters: int) -> tuple[str, ...]:
    """What the planes of an answer are called."""
    return tuple(f"cluster-{k + 1}" for k in range(clusters))


def frame_of(picture: NDArray, side: int, crop: int = 1) -> NDArray[np.uint8]:
    """A picture (h, w) or (h, w, 3) with its shorter side at `side` px. Raises InputError for one with a side shorter than `crop`, or as `as_rgb`."""
    rgb = as_rgb(picture)
    h, w = rgb.shape[:2]
    if min(h, w) < crop:
        raise InputError(f"the picture is {h}×{w} px, smaller than the crops of {crop} px that are learnt from; leave it out, or set size=… lower")
    factor = side / min(h, w)
    size = (max(round(w * factor), 1), max(round(h * factor), 1))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), np.uint8)


@torch.no_grad()
def map_of(network: Callable[[Tensor], Tensor], frame: NDArray[np.uint8], device: torch.device | str = "cpu") -> NDArray[np.float32]:
    """What a network in eval mode says of every pixel of a frame (h, w, 3): (h, w, d)."""
    x = torch.from_numpy(np.ascontiguousarray(standardised(frame), np.float32))[None].to(device)
    return np.asarray(network(x)[0].float().permute(1, 2, 0).cpu().numpy(), np.float32)


def device_of(module: nn.Module) -> torch.device:
    """Where the module's first weight or buffer lies."""
    return next(iter(module.state_dict().values())).device


def sampled(maps: Maps, frames: list[NDArray[np.uint8]], seed: int) -> NDArray[np.float32]:
    """Features (n, d) of pixels drawn from all frames, as many of each."""
    rng, each = np.random.default_rng([seed, 6]), max(SAMPLED // len(frames), LEAST)
    rows = []
    for frame in frames:
        flat = maps(frame)
        flat = flat.reshape(-1, flat.shape[-1])
        rows.append(flat[rng.choice(len(flat), min(each, len(flat)), replace=False)])
    return np.concatenate(rows)


def planes(labels: NDArray[np.int64], k: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Clusters (h', w') of a frame as the answer about its picture of `shape`: (k, h, w), 1 at the pixel's cluster, else 0."""
    size = (int(shape[1]), int(shape[0]))
    best, most = np.zeros(shape[:2], np.int64), np.full(shape[:2], -1.0, np.float32)
    for cluster in range(k):  # one plane at a time: of equals the first
        share = cv2.resize((labels == cluster).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        best, most = np.where(share > most, cluster, best), np.maximum(share, most)
    return (best[None] == np.arange(k)[:, None, None]).astype(np.float32)


class Centres(nn.Module):
    """k-means centres of features of width d, and how features are laid before: part of a method's weights.

    raw: as they are · scaled: each channel less its mean, over its SD · unit: at length 1, for cosines · whitened: principal components of
    variance 1, then length 1 (as DeepCluster has it) · components: the first 64 principal components, for wide features.
    """

    centres: Tensor
    mean: Tensor
    linear: Tensor
    share: Tensor

    def __init__(self, k: int, width: int, how: How = "unit") -> None:
        super().__init__()
        self.k, self.how = k, how
        kept = min(width, KEPT) if how == "components" else width
        self.register_buffer("centres", torch.zeros(k, kept))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("linear", torch.eye(width)[:, :kept].clone())
        self.register_buffer("share", torch.zeros(k))  # of the pixels that it was fitted to

    def fit(self, points: NDArray[np.float32], seed: int) -> Centres:
        """k-means of points (n, d), the best of three starts. In place. Raises InputError where they hold fewer than k different ones."""
        self.lay_by(points)
        laid = self.laid(points)
        check_enough(laid, self.k)
        return self.place(k_means(laid, self.k, seed), laid)

    def lay_by(self, points: NDArray[np.float32]) -> None:
        """Finds how features are laid from points (n, d)."""
        mean, linear = np.zeros(points.shape[1]), np.eye(points.shape[1])
        if self.how == "scaled":
            mean, linear = points.mean(0), np.diag(1 / np.maximum(points.std(0), 1e-6))
        elif self.how in ("whitened", "components"):
            mean = points.mean(0)
            variance, vectors = np.linalg.eigh(np.cov((points - mean).T).reshape(points.shape[1], -1))
            order = np.argsort(variance)[::-1][: self.linear.shape[1]]
            linear = vectors[:, order] * np.sign(vectors[np.abs(vectors[:, order]).argmax(0), order])  # the sign of a vector is not known
            linear = linear / np.sqrt(np.maximum(variance[order], 1e-6 * variance.max() + 1e-12)) if self.how == "whitened" else linear
        self.mean.copy_(torch.from_numpy(np.asarray(mean, np.float32)))
        self.linear.copy_(torch.from_numpy(np.asarray(linear, np.float32)))

    def place(self, centres: NDArray[np.float32], laid: NDArray[np.float32]) -> Centres:
        """Takes centres (k, d') as they are, and notes how laid points (n, d') share themselves out among them."""
        self.centres.copy_(torch.from_numpy(np.asarray(centres, np.float32)))
        self.share.copy_(torch.from_numpy(np.bincount(nearest(laid, centres), minlength=self.k) / len(laid)).float())
        return self

    def laid(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(…, d) → (…, d')"""
        found = features
        if self.how in ("scaled", "whitened", "components"):
            found = (features - self.mean.cpu().numpy()) @ self.linear.cpu().numpy()
        if self.how in ("unit", "whitened"):
            found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-9)
        return np.asarray(found, np.float32)

    def of(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """The nearest centre of features (h, w, d): (h, w)."""
        return nearest(self.laid(features), self.centres.cpu().numpy())

    def warnings(self) -> list[str]:
        """What a report should say of how the pixels are shared out."""
        return collapse_of(self.share)


def check_enough(points: NDArray[np.float32], k: int) -> None:
    """Raises InputError where points (n, d) hold fewer than k different ones."""
    different = len(np.unique(points.round(6), axis=0)) if len(points) < 4 * k or (points[:1] == points).all(1).mean() > 0.5 else len(points)
    if different < k:
        what = "all features have become one" if different == 1 else f"they are {different} different ones"
        raise InputError(f"{k} clusters were asked of the features of {len(points)} pixels, but {what}; ask for fewer, give other pictures or another seed")


def collapse_of(share: Tensor) -> list[str]:
    """A warning where one cluster holds nearly all pixels. share (k,)"""
    if float(share.max()) > COLLAPSED:
        return [f"collapsed: one of {len(share)} clusters holds {float(share.max()):.1%} of the pixels; the others say nothing (try another --seed)."]
    return []


def laid_out(module: nn.Module) -> None:
    """Lays the module's kernels in memory as training does, so that one that is loaded answers to the last bit like one that has just learnt."""
    for weight in module.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def shares_of(labels: Iterable[NDArray[np.int64]], k: int) -> Tensor:
    """How many of all pixels of the maps (h, w) each cluster holds, (k,) adding to 1."""
    counts = np.sum([np.bincount(each.ravel(), minlength=k) for each in labels], axis=0)
    return torch.from_numpy(np.asarray(counts / counts.sum(), np.float32))
