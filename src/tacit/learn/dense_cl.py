"""MoCo twice, for the picture and for every place of its map: a place's positive key is the place of the other view that looks most like it.

"Dense Contrastive Learning for Self-Supervised Visual Pre-Training" (DenseCL), Wang et al., CVPR 2021, arXiv 2011.09157. Section and equation
numbers are theirs. Ours differs for one core: the queues hold 4,096 keys (paper: 65,536), a batch 32 pictures (256), the rows of a batch
are not shuffled, and the views are those of our MoCo.

    F, F'     the backbone's map of a view and, by the slow copy, of the other one, S × S places
    r, t      unit vectors of every place by the dense head, of F and of F';  q, k  of the whole view by the global head
    c         where each place of F has its like in F'
    λ         share of the dense loss
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.head import follow, mlp, slow_copy
from tacit.parts.processes import gathered
from tacit.parts.queue import enqueue
from tacit.parts.train import Batch, TrainConfig


class DenseclConfig(Config):
    backbone: BackboneConfig = BackboneConfig()  # convolutional
    projection: Count = 128  # of both heads, section 4
    grid: Count = 7  # S, places a side; a larger map is averaged down to it (section 3.4), a smaller one stays
    dense: Share = 0.5  # λ, Eq. 3
    queue: Count = 4096  # keys kept of each kind (paper: 65,536)
    momentum: Share = 0.999  # of the slow copy
    temperature: Positive = 0.2
    views: str = "simclr"  # a preset of tacit.prepare.views
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=30, batch=32, optimizer="sgd", lr=0.03, weight_decay=1e-4, average=0.0)


class Densecl(nn.Module):
    """Learns features and their maps from pairs of views. Both queues are part of the state, so a resumed run goes on where it was."""

    Config = DenseclConfig
    keys: Tensor
    dense_keys: Tensor
    at: Tensor
    dense_at: Tensor

    def __init__(self, config: DenseclConfig | None = None, encoder: Backbone | None = None) -> None:
        super().__init__()
        c = self.config = config or DenseclConfig()
        self.encoder = encoder or Backbone(c.backbone)
        self.encoder.check_map(c.size)
        widths = [self.encoder.channels, self.encoder.channels, c.projection]
        self.projector, self.dense_projector = mlp(widths, norm=False), mlp(widths, norm=False)  # a 1 × 1 convolution is a linear layer on every place
        self.slow_encoder, self.slow_projector, self.slow_dense_projector = slow_copy(self.encoder), slow_copy(self.projector), slow_copy(self.dense_projector)
        for name in ("", "dense_"):
            self.register_buffer(f"{name}keys", F.normalize(torch.randn(c.queue, c.projection), dim=1))
            self.register_buffer(f"{name}at", torch.zeros((), dtype=torch.int64))
        self._fresh: tuple[Tensor, Tensor] | None = None

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f)"""
        return self.encoder(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: a (n, 3, h, w) gives queries, b the keys. `matched` is the mean cosine between a place and its like."""
        whole, f = self._seen(self.encoder, batch["a"])  # (n, f), (n, S², f)
        q, r = F.normalize(self.projector(whole).float(), dim=-1), F.normalize(self.dense_projector(f).float(), dim=-1)
        with torch.no_grad():
            slow_whole, slow_f = self._seen(self.slow_encoder, batch["b"])
            k, slow_dense = F.normalize(self.slow_projector(slow_whole).float(), dim=-1), self.slow_dense_projector(slow_f).float()
            t, pooled = F.normalize(slow_dense, dim=-1), F.normalize(slow_dense.mean(1), dim=-1)
        with torch.autocast(q.device.type, enabled=False):  # bf16 would make many places equally alike
            c, cosine = correspondence(f, slow_f)
            positive = t.gather(1, c[..., None].expand_as(t))  # t₊ of every place
            l_q = info_nce(q, k, self.keys, self.config.temperature)  # Eq. 1
            l_r = info_nce(r.flatten(0, 1), positive.flatten(0, 1), self.dense_keys, self.config.temperature)  # Eq. 2
        self._fresh = gathered(k), gathered(pooled)  # a dense negative is a picture's mean, section 3.3
        loss = (1 - self.config.dense) * l_q + self.config.dense * l_r  # Eq. 3
        return {"loss": loss, "global": l_q.detach(), "dense": l_r.detach(), "matched": cosine.mean(), "embedding": whole.detach()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The slow copy follows; the newest keys replace the oldest."""
        for slow, fast in ((self.slow_encoder, self.encoder), (self.slow_projector, self.projector), (self.slow_dense_projector, self.dense_projector)):
            follow(slow, fast, self.config.momentum)
        if self._fresh is not None:
            enqueue(self.keys, self.at, self._fresh[0])
            enqueue(self.dense_keys, self.dense_at, self._fresh[1])

    def _seen(self, encoder: Backbone, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean over places (n, f) and the S² places, row by row, (n, S², f)."""
        seen, most = encoder.map(x), self.config.grid
        places = F.adaptive_avg_pool2d(seen, (min(most, seen.shape[2]), min(most, seen.shape[3])))
        return seen.mean((2, 3)), places.flatten(2).transpose(1, 2)


@torch.no_grad()
def correspondence(f: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """For every row of f (n, s, d) the row of `other` with the largest cosine: its index c (n, s) and that cosine.  c_i = argmax_j sim(f_i, f'_j), Eq. 4"""
    cosine, c = (F.normalize(f.float(), dim=-1) @ F.normalize(other.float(), dim=-1).transpose(1, 2)).max(-1)
    return c, cosine


def info_nce(q: Tensor, positive: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """−log of the positive's share of exp(q·k/τ), mean over rows: q and positive (n, d), negatives (k, d), all of unit length."""
    logits = torch.cat([(q * positive).sum(1, keepdim=True), q @ negatives.T], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64, device=q.device))
