"""Features are clustered, a classifier learns to name the clusters, and what it has learnt is clustered again.

"Deep Clustering for Unsupervised Learning of Visual Features" (DeepCluster), Caron et al., ECCV 2018, arXiv 1807.05520: the method that PiCIE
compares itself with, made pixel by pixel as there. (The proposal cites another of the name, Tian et al. 2017.) Section numbers are theirs. Ours
differs: a label a pixel instead of a picture, the rivals' U-Net, crops of a small frame, Lab colours (paper: Sobel edges), and as many
clusters in learning as in the answer (`learning_clusters` for more: they take 10,000 for 1,000 classes).

    cluster    k-means of principal components of variance 1 and length 1 (section 3.3, implementation)
    classify   cross-entropy with the clusters as classes, all of them counted alike (section 3.3, trivial parametrisation)
    repeat     with a new classifier; an empty cluster takes half of another's place (section 3.3, empty clusters)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Count
from tacit.learn.cluster_maps import Centres, RivalConfig, check_enough, device_of, frame_of, laid_out, map_of, names, planes, sampled
from tacit.learn.paired_views import crop_of
from tacit.learn.workshop import Workshop
from tacit.parts.cluster import nearest, some_of
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.views import colour_shift

APART = 1e-4  # how far an empty cluster's new centre lies from the one that it shares


class DeepClusterConfig(RivalConfig):
    dimensions: Count = 32  # of a pixel's features
    learning_clusters: int = 0  # pseudo-classes; 0 = as many as the answer has
    rounds: Count = 5  # of clustering and learning
    lloyd: Count = 20  # steps of k-means a round
    train: TrainConfig = TrainConfig(epochs=1, steps=80, batch=8, lr=1e-3, schedule="constant", average=0.0)  # of one round


class DeepCluster(nn.Module):
    """Logits of the pseudo-classes at every pixel: (b, 3, h, w) → (b, k, h, w); its features are clustered for the answer."""

    Config = DeepClusterConfig
    FILLS = UNNAMED = True  # its planes fill the picture, and are clusters without names

    def __init__(self, config: DeepClusterConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or DeepClusterConfig()
        self.CLASSES = names(c.clusters)
        self.encoder = UNet(c.network, c.dimensions)
        self.classifier = nn.Conv2d(c.dimensions, c.learning_clusters or c.clusters, 1)
        self.centres = Centres(c.clusters, c.dimensions, "whitened")
        laid_out(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.encoder(x)))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (n, 3, h, w) · label (n, h, w), the pseudo-class of every pixel. Classes weigh alike whatever their size."""
        logits = self(batch["x"]).float()
        k = logits.shape[1]
        count = torch.bincount(batch["label"].flatten(), minlength=k).float()
        weight = torch.where(count > 0, count.sum() / (count.clamp_min(1) * (count > 0).sum()), 0.0)
        right = (logits.detach().argmax(1) == batch["label"]).float().mean()
        return {"loss": F.cross_entropy(logits, batch["label"], weight), "right": right}

    def fit(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> DeepCluster:
        """Learns from frames (h, w, 3) alone. In place."""
        c, k = self.config, self.classifier.out_channels
        torch.manual_seed(1000 * shop.seed + 7)
        self.load_state_dict(DeepCluster(c).state_dict())
        for turn in range(c.rounds):
            points = sampled(self.maps, frames, 1000 * shop.seed + turn)
            pseudo = Centres(k, c.dimensions, "whitened")
            pseudo.lay_by(points)
            laid = pseudo.laid(points)
            check_enough(laid, k)
            pseudo.place(lloyd(laid, some_of(np.random.default_rng([shop.seed, 8, turn]), laid, k), c.lloyd), laid)
            labels = [pseudo.of(self.maps(frame)) for frame in frames]
            torch.manual_seed(1000 * shop.seed + 100 + turn)
            self.classifier.reset_parameters()
            shop.train(f"round-{turn + 1}", self, labelled_batches(frames, labels, c, 1000 * shop.seed + turn), c.train, seed=1000 * shop.seed + turn)
        self.centres.fit(sampled(self.maps, frames, shop.seed), shop.seed)
        return self

    def maps(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(h, w, d)"""
        return map_of(self.encoder.eval(), frame, device_of(self))

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """The frame of a picture. Raises InputError where it is smaller than a crop."""
        return frame_of(picture, self.config.side, self.config.size)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """(k, h, w) of 0 and 1."""
        return planes(self.centres.of(self.maps(self.working(picture))), self.config.clusters, picture.shape)

    def warnings(self) -> list[str]:
        """See `Centres`."""
        return self.centres.warnings()


def lloyd(points: NDArray[np.float32], centres: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """k-means of points (n, d) from given centres (k, d): assign, move to the mean, at most `steps` times (Lloyd 1982).

    An empty cluster takes the centre of the largest one, both moved a little apart, so that it gets half of it (section 3.3).
    """
    found = centres.astype(np.float64)
    for _ in range(steps):
        mine = nearest(points, found.astype(np.float32))
        count = np.bincount(mine, minlength=len(found))
        total = np.stack([np.bincount(mine, points[:, d], len(found)) for d in range(points.shape[1])], 1)
        moved = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], found)
        for empty in np.flatnonzero(count == 0):
            largest = int(count.argmax())
            away = points[mine == largest].std(0) * APART + 1e-12
            moved[empty], moved[largest] = moved[largest] + away, moved[largest] - away
            count[empty], count[largest] = count[largest] // 2, count[largest] - count[largest] // 2
        if np.array_equal(moved, found):
            break
        found = moved
    return found.astype(np.float32)


def labelled_batches(frames: list[NDArray[np.uint8]], labels: list[NDArray[np.int64]], c: DeepClusterConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: crops of random frames and their pseudo-classes, mirrored, turned, their colours shifted."""
    statistics = [lab_statistics(frame) for frame in frames]

    def item(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        at = int(rng.integers(len(frames)))
        top, left, bottom, right = crop_of(rng, frames[at], c.size)
        x = standardised(frames[at][top:bottom, left:right], statistics[at])
        label = labels[at][top:bottom, left:right]
        turns, flip = int(rng.integers(4)), rng.random() < 0.5
        x, label = np.rot90(x, turns, (1, 2)), np.rot90(label, turns)
        x, label = (x[:, :, ::-1], label[:, ::-1]) if flip else (x, label)
        return colour_shift(rng, np.ascontiguousarray(x), c.colour), np.ascontiguousarray(label)

    def batch(step: int) -> Batch:
        items = [item(np.random.default_rng([seed, 72, step, i])) for i in range(c.train.batch)]
        return {"x": torch.from_numpy(np.stack([x for x, _ in items])), "label": torch.from_numpy(np.stack([y for _, y in items]))}

    return batch
