"""Every patch of a picture is told from every other, and pixels alike gather in regions; embedding and clusters are learnt together.

"Unsupervised Local Discrimination for Medical Images", Chen, Wang, Peng and others, IPMI 2021 and arXiv 2108.09440 (first arXiv 2012.09333).
Ours differs: the views' geometry is undone for every pixel instead of every cell; a guard against empty clusters is an option (`guard`, off).

    embedding    v(p), a unit vector a pixel, (b, d, h, w)
    clustering   m_k(p), the share of cluster k at a pixel, (b, k, h, w)
    stage 1      patch discrimination and hypersphere mixup
    stage 2      both, region discrimination and the entropy of the assignment
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Range, Share
from tacit.errors import ConfigError
from tacit.parts.backbone import BackboneConfig
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.vgg_unet import VggUNet, VggUNetConfig
from tacit.prepare.local_views import LocalViewConfig

TINY = 1e-8


class LocalDiscriminationConfig(Config):
    network: VggUNetConfig = VggUNetConfig()
    dimensions: Count = 32  # of an embedding
    clusters: Count = 16  # 8 with a prior of shapes
    grid: Count = 8  # cells a side of a view
    temperature: Positive = 0.1  # of patch discrimination
    region_temperature: Positive = 0.2  # of region discrimination
    mix: Range = (0.2, 0.8)  # of the first picture in a mixture
    centre: float = 0.0  # Gaussian weight of a cell's middle, SD in cells; 0 = plain mean (0.25 for landmarks)
    region: float = 10.0  # weight of region discrimination in stage 2
    entropy: float = 0.1  # weight of the assignment's entropy in stage 2
    guard: float = 0.0  # weight of the mean assignment's distance from balance in stage 2
    stage_1: Share = 0.2  # share of the steps (20 of 100 epochs)
    views: LocalViewConfig = LocalViewConfig()
    size: Count = 224  # px of a view
    train: TrainConfig = TrainConfig(epochs=100, batch=8, lr=1e-3, weight_decay=0.0, schedule="halving", average=0.0)

    @model_validator(mode="after")
    def _fits_a_view(self) -> LocalDiscriminationConfig:
        """Raises ConfigError for more clusters, or more numbers a pixel, than a view has pixels: before anything is read."""
        for name, count in (("clusters", self.clusters), ("dimensions", self.dimensions)):
            if count > self.size**2:
                raise ConfigError(f"{name}={count}: expected at most {self.size**2}, the pixels of a view of size={self.size}; give fewer")
        return self

    @property
    def backbone(self) -> BackboneConfig:
        """What stands for the network's name beside timm's."""
        return BackboneConfig(name="vgg-unet")


class LocalDiscrimination(nn.Module):
    """Embeddings and clusters of pictures (b, channels, h, w), any size."""

    Config = LocalDiscriminationConfig

    def __init__(self, config: LocalDiscriminationConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or LocalDiscriminationConfig()
        self.network = VggUNet(c.network)
        self.embedding, self.clustering = (_head(self.network.width, out) for out in (c.dimensions, c.clusters))
        self.second_stage = c.stage_1 == 0.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings (b, d, h, w) and cluster shares (b, k, h, w) that add to 1."""
        shared = self.network(x)
        s = torch.sigmoid(self.clustering(shared).float())
        return F.normalize(self.embedding(shared).float(), dim=1), s / s.sum(1, keepdim=True).clamp_min(TINY)

    @property
    def encoder(self) -> VggUNet:
        """The network without its heads."""
        return self.network

    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w) → (b, f), the mean over places of the map that both heads read."""
        return self.network(x).float().mean((2, 3))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss and what it is made of; batch as for `losses`."""
        return self.losses(batch)[0]

    def losses(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """What `loss` gives, and the clusters' shares in view a and those of view b laid on a, 0 beyond it, (2n, k, h, w). batch: a, b (2n, c, h, w), two views of each of an even number of pictures · grid (2n, h, w, 2), where a pixel of a lies in b, −1…1 in
        x, y order as torch's grid_sample has it · inside (2n, h, w), whether it does · mix (2n,) in 0–1, of which every second
        one draws the share of a picture in its mixture with the next."""
        a, b, grid, inside = batch["a"], batch["b"], batch["grid"], batch["inside"][:, None]
        (v_a, m_a), (v_b, m_b) = self(a), self(b)
        v_b, m_b = (F.grid_sample(each, grid, align_corners=False) for each in (v_b, m_b))  # laid on a, pixel by pixel
        f_a, f_b = (self.cells(each, inside) for each in (v_a, v_b))
        seen, (low, high) = self.seen_cells(inside), self.config.mix
        patches = discriminate(f_a[seen], f_b[seen], self.config.temperature)
        share = (low + (high - low) * batch["mix"][::2])[:, None, None, None]
        v_mixed, _ = self(share * a[::2] + (1 - share) * a[1::2])
        target = F.normalize(share[:, 0] * f_a[::2] + (1 - share[:, 0]) * f_a[1::2], dim=-1).detach()  # t_c (n, g², d)
        mixed = discriminate(self.cells(v_mixed).flatten(0, 1), target.flatten(0, 1), self.config.temperature)
        values = {"loss": patches + mixed, "patches": patches.detach(), "mixture": mixed.detach(), "embedding": f_a.detach().flatten(0, 1)}
        if self.second_stage:
            region = regions(torch.cat([v_a, v_b]), torch.cat([m_a * inside, m_b * inside]), self.config.region_temperature)
            entropy, balance = assignment_entropy(m_a), imbalance(m_a)
            total = values["loss"] + self.config.region * region + self.config.entropy * entropy + self.config.guard * balance
            values |= {"loss": total, "regions": region.detach(), "entropy": entropy.detach(), "imbalance": balance.detach()}
        values["clusters"] = torch.exp(_entropy(m_a.detach().mean((0, 2, 3))))  # effective number of clusters in use
        return values, m_a, m_b * inside

    def before_step(self, progress: float) -> None:
        """The second stage begins when its share of the steps comes, in a resumed run too. progress: share of the steps that are done, 0–1."""
        self.second_stage = progress >= self.config.stage_1

    def cells(self, v: Tensor, inside: Tensor | None = None) -> Tensor:
        """Mean embedding of each cell, normalised: v (b, d, h, w) → (b, g², d). inside (b, 1, h, w): pixels that count."""
        c = self.config
        weight = torch.ones_like(v[:, :1]) if inside is None else inside.to(v.dtype)
        if c.centre:
            weight = weight * cell_window(v.shape[2:], c.grid, c.centre, v.device)
        total, mass = (F.adaptive_avg_pool2d(each, c.grid) for each in (v * weight, weight))
        return F.normalize((total / mass.clamp_min(TINY)).flatten(2).transpose(1, 2), dim=-1)

    def seen_cells(self, inside: Tensor) -> Tensor:
        """Cells of which at least half lies in both views, (b, g²) of bool. inside (b, 1, h, w)."""
        return F.adaptive_avg_pool2d(inside.float(), self.config.grid).flatten(1) >= 0.5


def discriminate(f: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Patch discrimination over the 2n unit vectors of two views, f and other (n, d): row i of one belongs to row i of the other.

    P(j|i) = exp(f_i·sg f_j/τ) / Σ_{k≠i} exp(f_i·sg f_k/τ);  L = −1/2n Σ_i [log P(i⁺|i) + Σ_{j∉{i,i⁺}} log(1 − P(j|i))]
    """
    v = torch.cat([f, other])
    n = len(f)
    if n == 0:
        return v.sum() * 0.0
    logits = v @ v.detach().T / temperature
    log_p = torch.log_softmax(logits.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=v.device), -torch.inf), dim=1)  # (2n, 2n)
    partner = torch.arange(2 * n, device=v.device).roll(n)
    mine = log_p.gather(1, partner[:, None])[:, 0]
    others = torch.log1p(-log_p.exp().clamp_max(1 - 1e-6))
    keep = torch.ones_like(others, dtype=torch.bool)
    keep[torch.arange(2 * n), torch.arange(2 * n)] = False
    keep[torch.arange(2 * n), partner] = False
    return -(mine + (others * keep).sum(1)).mean()


def regions(v: Tensor, m: Tensor, temperature: float) -> Tensor:
    """Region discrimination: each cluster's mean embedding in a picture is nearest to its own prototype over all pictures.

    v (n, d, h, w), m (n, k, h, w): r_{n,k} = normalise(mean_p m v), t_k = normalise(mean_n r_{n,k}), L = −mean log softmax_j(r_{n,k}·t_j/T)[k]
    """
    r = F.normalize(torch.einsum("nkhw,ndhw->nkd", m, v) / (m.shape[2] * m.shape[3]), dim=-1)
    t = F.normalize(r.mean(0), dim=-1)  # (k, d)
    return -torch.log_softmax(r @ t.T / temperature, dim=-1).diagonal(dim1=1, dim2=2).mean()


def assignment_entropy(m: Tensor) -> Tensor:
    """Mean binary entropy of the shares m (…) in bits: 0 where every pixel is sure."""
    m = m.clamp(1e-6, 1 - 1e-6)
    return -(m * m.log2() + (1 - m) * (1 - m).log2()).mean()


def imbalance(m: Tensor) -> Tensor:
    """How far the mean assignment of m (n, k, h, w) is from equal clusters, in nats: 0 = balanced, log k = all in one."""
    mean = m.mean((0, 2, 3))
    return torch.log(torch.tensor(float(len(mean)), device=m.device)) - _entropy(mean)


def cell_window(shape: tuple[int, ...], grid: int, sd: float, device: torch.device) -> Tensor:
    """A Gaussian of `sd` cells round the middle of every cell, (1, 1, h, w); 1 in the middle."""
    axes = []
    for n in shape:
        place = (torch.arange(n, device=device) + 0.5) * grid / n
        axes.append(torch.exp(-0.5 * ((place - place.floor() - 0.5) / sd) ** 2))
    return (axes[0][:, None] * axes[1])[None, None]


def _entropy(p: Tensor) -> Tensor:
    p = p / p.sum().clamp_min(TINY)
    return -(p * p.clamp_min(TINY).log()).sum()


def _head(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True), nn.Conv2d(out, out, 3, padding=1))
