"""Unsupervised gland segmentation in two stages: find the dark border, fill it, then teach that both belong together.

"Morphology-inspired Unsupervised Gland Segmentation via Selective Semantic Grouping" (MSSG), Zhang et al., MICCAI 2023,
arXiv 2307.11989, and the proposal it grew from; "prior knowledge" is the filled interior, "knowledge diffusion" is what the
paper calls MSG-Variation. Numbers commented "paper" are theirs, in pixels of 0.62 µm where they are lengths.

Ours differs: lengths and areas are in µm; stage 1 looks at a third of the resolution with 32 channels (the paper: full size,
128), stage 2 starts from no weights (the paper: pretrained). `MssgPaper` is stage 1 as published, image by image. The cures
(`one net for the folder`, reflected borders, the haematoxylin cue) are options, named in the config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, build
from tacit.learn.classical.haematoxylin import Haematoxylin, tidied, with_core
from tacit.learn.lessons import DataConfig, Lesson, batches
from tacit.learn.phantom_taught import PhantomTaught, PhantomTaughtConfig
from tacit.learn.predict import mean_probability, tiles_probability
from tacit.learn.workshop import Workshop
from tacit.parts.cluster import k_means, nearest, some_pixels
from tacit.parts.decoder import PspConfig, PspNet
from tacit.parts.loss import generalised_cross_entropy, knowledge_diffusion, mutual_information, total_variation
from tacit.parts.train import Batch, TrainConfig, fit
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.space import to_spacing


class BorderConfig(Config):
    um_per_px: Positive = 1.86  # spacing of stage 1 (paper: 0.62)
    channels: Count = 32  # paper: 128
    steps: int = 50  # paper
    lr: float = 0.01  # paper
    spatial: float = 5.0  # paper: weight of the spatial loss
    loss: Literal["argmax", "iic"] = "argmax"  # as released, or the mutual information that the proposal cites
    clusters: Count = 5  # paper: k of k-means
    least_share: float = 0.025  # a border cluster covers at least this (paper: 10,000 of 404,550 px)
    cue: Literal["grey", "haematoxylin"] = "grey"  # paper: the darkest cluster is border
    padding: Literal["zeros", "reflect"] = "zeros"  # paper; zeros make a frame-shaped cluster
    speck_um2: tuple[float, float] = (38.0, 384.0)  # paper: 100 px, growing to 1000 px with the cover
    hole_um2: float = 5766.0  # paper: 15,000 px
    crowded: float = 0.45  # paper: above this cover the border is eroded first
    restarts: Count = 4  # of the folder's one net; the one whose border cluster stands out most by the cue is kept
    more_clusters: int = 2  # the folder's net is clustered into up to so many clusters more, judged alike
    prior: bool = True  # fill closed borders: the prior knowledge


class Stage2Config(TrainConfig):
    epochs: int = 12
    batch: int = 8  # paper
    optimizer: Literal["adamw", "sgd"] = "sgd"  # paper
    lr: float = 0.02  # paper: 0.005 from pretrained weights
    weight_decay: float = 5e-4  # paper
    schedule: Literal["one-cycle", "poly", "constant"] = "poly"  # paper, power 0.9


class MssgConfig(Config):
    proposals: Literal["border", "phantom", "haematoxylin"] = "border"  # what stage 2 learns from
    border: BorderConfig = BorderConfig(padding="reflect", cue="haematoxylin", clusters=3, hole_um2=13838.0, least_share=0.15)  # cures, see docs/mssg.md
    folder_net: bool = True  # cure: one stage-1 net and one clustering for the folder; False = image by image, as published
    data: DataConfig = DataConfig(um_per_px=1.86, size=128, zoom=0.5)
    network: PspConfig = PspConfig()
    stage2: Stage2Config = Stage2Config()
    diffusion: float = 1.0  # weight of the knowledge-diffusion loss
    auxiliary: float = 0.4  # paper: weight of the auxiliary head
    q: float = 0.0  # 0 = cross-entropy as published; above it generalised cross-entropy, which trusts sparse borders too little
    omission_rounds: int = 1  # relabelling rounds after the first
    core_um: float = 7.0
    teacher: dict[str, object] = {}  # settings of the phantom-taught proposals


class BorderNet(nn.Module):
    """Stage 1: three 3×3 and one 1×1 convolution without stride; its responses are clustered. (b, 3, h, w) → (b, c, h, w)"""

    def __init__(self, config: BorderConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for channels_in in (3, config.channels, config.channels):
            convolution = nn.Conv2d(channels_in, config.channels, 3, padding=1, padding_mode=config.padding)
            layers += [convolution, nn.ReLU(), nn.BatchNorm2d(config.channels)]
        self.net = nn.Sequential(*layers, nn.Conv2d(config.channels, config.channels, 1), nn.BatchNorm2d(config.channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w). Self-supervised: each pixel's strongest response is its own label."""
        r = self(batch["x"]).float()
        if self.config.loss == "iic":
            p = F.softmax(r, 1)
            moved = torch.roll(p, (1, 1), (2, 3))  # the same pixel's neighbour
            group = -mutual_information(p.permute(0, 2, 3, 1).reshape(-1, p.shape[1]), moved.permute(0, 2, 3, 1).reshape(-1, p.shape[1]))
        else:
            group = F.cross_entropy(r, r.argmax(1))
        spatial = total_variation(r)
        return {"loss": group + self.config.spatial * spatial, "group": group.detach(), "spatial": spatial.detach()}


@dataclass(frozen=True)
class Proposal:
    """Stage 1's answer for one picture, all (h, w) at the border net's spacing."""

    border: NDArray[np.bool_]
    interior: NDArray[np.bool_]  # the filled prior

    @property
    def gland(self) -> NDArray[np.bool_]:
        return self.border | self.interior


def train_border(pictures: list[NDArray[np.uint8]], c: BorderConfig, seed: int, steps: int) -> BorderNet:
    """A border net trained on whole pictures in turn."""
    torch.manual_seed(seed)
    order = np.random.default_rng([seed, 5]).integers(0, len(pictures), steps)
    train = TrainConfig(epochs=1, steps=steps, optimizer="sgd", lr=c.lr, weight_decay=0.0, schedule="constant", average=0.0, batch=1)

    def batch(step: int) -> Batch:
        return {"x": torch.from_numpy(standardised(pictures[order[step]]))[None]}

    net = BorderNet(c)
    fit(net, batch, train, seed=seed)
    return net.train()  # batch norm keeps the statistics of the picture at hand, as published


@torch.no_grad()
def responses(net: BorderNet, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(h, w, c) responses of the net to a picture."""
    with torch.autocast("cpu", torch.bfloat16):
        r = net(torch.from_numpy(standardised(picture))[None].to(memory_format=torch.channels_last))
    return r[0].float().permute(1, 2, 0).numpy()


def propose(pictures: list[NDArray[np.uint8]], c: BorderConfig, seed: int, *, together: bool, shop: Workshop | None = None) -> list[Proposal]:
    """Borders and filled interiors of the pictures (at `c.um_per_px`), with one net for all or one each."""
    proposals = []
    with (shop or Workshop(seed)).bar("border proposals") as bar:
        if together:
            found = []
            for restart in range(c.restarts):
                found.append(_borders_of_a_folder(pictures, c, 1000 * seed + restart))
                bar.advance(restart + 1, c.restarts)
            clearest = max(found, key=lambda one: one[0])[1]
            proposals = [clean(clearest(picture), c) for picture in pictures]
        else:
            for index, picture in enumerate(pictures):
                r = responses(train_border([picture], c, seed, c.steps), picture)
                labels = nearest(r, k_means(some_pixels(np.random.default_rng([seed, 6]), r, 4000), c.clusters, seed))
                proposals.append(clean(labels == _border_cluster([picture], [labels], c), c))
                bar.advance(index + 1, len(pictures))
    return proposals


def _borders_of_a_folder(pictures: list[NDArray[np.uint8]], c: BorderConfig, seed: int) -> tuple[float, Callable[[NDArray[np.uint8]], NDArray[np.bool_]]]:
    """One net for all pictures, clustered into `clusters` and more, judged on some: how clear the best border cluster is, and the border of a picture.

    Clear: the cue's mean inside less its mean outside, in SDs of the cue over all pixels. No truth.
    """
    net = train_border(pictures, c, seed, c.steps)
    rng = np.random.default_rng([seed, 6])
    sample = np.concatenate([some_pixels(rng, responses(net, picture), 400) for picture in pictures])
    seen = pictures[:: max(len(pictures) // 24, 1)]
    answers, cue = [responses(net, p) for p in seen], np.concatenate([_cue(p, c).ravel() for p in seen])
    best, centres, border = -np.inf, sample[:1], 0
    for clusters in range(c.clusters, c.clusters + c.more_clusters + 1):
        found = k_means(sample, clusters, seed)
        clustered = [nearest(r, found) for r in answers]
        darkest = _border_cluster(seen, clustered, c)
        inside = np.concatenate([(labels == darkest).ravel() for labels in clustered])
        clear = float((cue[inside].mean() - cue[~inside].mean()) / cue.std()) if 0 < inside.mean() < 1 else -np.inf
        if clear > best:
            best, centres, border = clear, found, darkest
    return best, lambda picture: nearest(responses(net, picture), centres) == border


def _border_cluster(pictures: list[NDArray[np.uint8]], clustered: list[NDArray[np.int64]], c: BorderConfig) -> int:
    """The empirical cue: of the clusters that cover enough, the darkest, by grey or by nuclear stain."""
    clusters = 1 + max(int(labels.max()) for labels in clustered)
    count, dark = np.zeros(clusters), np.zeros(clusters)
    for picture, labels in zip(pictures, clustered, strict=True):
        value = _cue(picture, c)
        count += np.bincount(labels.ravel(), minlength=clusters)
        dark += np.bincount(labels.ravel(), weights=value.ravel(), minlength=clusters)
    mean = np.where(count >= c.least_share * count.sum(), dark / np.maximum(count, 1), -np.inf)
    return int(mean.argmax())


def _cue(picture: NDArray[np.uint8], c: BorderConfig) -> NDArray[np.float64]:
    """Darkness, or nuclear stain, of every pixel (h, w)."""
    if c.cue == "grey":
        return -cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    from skimage.color import rgb2hed

    return np.asarray(rgb2hed(picture)[..., 0], np.float64)


def clean(border: NDArray[np.bool_], c: BorderConfig) -> Proposal:
    """Specks dropped (more where the cover is larger, after an erosion where it is crowded), closed rings filled."""
    px = c.um_per_px**2
    cover = float(border.mean())
    if cover > c.crowded:
        border = cv2.erode(border.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    low, high = c.speck_um2
    border = tidied(border, (low + (high - low) * min(cover / c.crowded, 1.0)) / px, 0)
    filled = tidied(border, 0, c.hole_um2 / px) if c.prior else border
    return Proposal(border, filled & ~border)


class MssgPaper(nn.Module):
    """Stage 1 by the published procedure, a net of its own for every picture (size and width: see the config); nothing is kept but the seed."""

    Config = BorderConfig
    seed: Tensor

    def __init__(self, config: BorderConfig | None = None) -> None:
        super().__init__()
        self.config = config or BorderConfig()
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    @property
    def um_per_px(self) -> float:
        return self.config.um_per_px

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> MssgPaper:
        """Nothing to learn from a folder; the seed is kept for the nets to come."""
        self.seed.fill_(shop.seed)
        return self

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        proposal = propose([picture], self.config, int(self.seed), together=False)[0]
        return with_core(proposal.gland, 7.0 / self.um_per_px)


class Mssg(nn.Module):
    """Both stages: proposals of the folder teach a PSPNet. Logits of gland and gland core, (b, 3, h, w) → (b, 2, h, w)."""

    Config = MssgConfig

    def __init__(self, config: MssgConfig | None = None) -> None:
        super().__init__()
        self.config = config or MssgConfig()
        self.network = PspNet(self.config.network, channels_out=2)

    @property
    def um_per_px(self) -> float:
        return self.config.data.um_per_px

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w); target (b, 4, h, w) gland, core, border, interior in 0–1; weight (b, 1, h, w)."""
        logits, embedding, auxiliary = self.network(batch["x"])
        target, weight = batch["target"][:, :2], batch["weight"].expand(-1, 2, -1, -1)
        segment = self._fit_to(logits, target, weight) + self.config.auxiliary * self._fit_to(auxiliary, target, weight)
        loss, values = segment, {"segment": segment.detach()}
        if self.config.diffusion:
            spread = knowledge_diffusion(embedding, batch["target"][:, 2:3], batch["target"][:, 3:4])
            loss, values = loss + self.config.diffusion * spread, values | {"diffusion": spread.detach()}
        return {"loss": loss, **values}

    def _fit_to(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if self.config.q > 0:
            return generalised_cross_entropy(logits, target, self.config.q, weight)
        return F.binary_cross_entropy_with_logits(logits.float(), target, weight)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> Mssg:
        """Stage 1, stage 2, then rounds of relabelling. pictures: (h, w, 3) RGB at `um_per_px`, no truth with them."""
        c = self.config
        lessons = [_lesson(p, proposal, c) for p, proposal in zip(pictures, self._proposals(pictures, shop), strict=True)]
        shop.say(f"stage 1: gland share {np.mean([x.target[..., 0].mean() / 255 for x in lessons]):.2f}")
        for k in range(c.omission_rounds + 1):
            torch.manual_seed(1000 * shop.seed + k)
            fresh = Mssg(c)
            shop.train(f"stage-2-{k + 1}", fresh, batches(lessons, c.stage2.batch, c.data, 1000 * shop.seed + k), c.stage2, seed=1000 * shop.seed + k)
            self.load_state_dict(fresh.state_dict())
            self.eval()
            if k < c.omission_rounds:
                lessons = [self._relabelled(lesson) for lesson in lessons]
                shop.say(f"omission {k + 1}: gland share {np.mean([x.target[..., 0].mean() / 255 for x in lessons]):.2f}")
        return self

    def _proposals(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> list[Proposal]:
        c = self.config
        if c.proposals == "border":
            small = [to_spacing(p, c.data.um_per_px, c.border.um_per_px) for p in pictures]
            return propose(small, c.border, shop.seed, together=c.folder_net, shop=shop)
        if c.proposals == "haematoxylin":
            rule = Haematoxylin(Haematoxylin.Config(um_per_px=c.data.um_per_px))
            return [_ringed(rule.mask(p)) for p in pictures]
        return _phantom_proposals(pictures, c, shop)

    @torch.no_grad()
    def _relabelled(self, lesson: Lesson) -> Lesson:
        """MSG-Omission: ground whose embedding lies nearer to the glands' mean than to the ground's becomes gland."""
        x = torch.from_numpy(standardised(lesson.picture, lesson.statistics))[None].to(next(self.parameters()).device)
        embedding = F.interpolate(self.network(x)[1].float(), size=x.shape[2:], mode="bilinear", align_corners=False)[0].cpu()
        gland = torch.from_numpy(lesson.target[..., 0] > 127)
        if not gland.any() or gland.all():
            return lesson
        anchors = torch.stack([embedding[:, gland].mean(1), embedding[:, ~gland].mean(1)])
        near = (embedding[None] - anchors[:, :, None, None]).square().sum(1).argmin(0) == 0
        target = lesson.target.copy()
        target[..., 0][(near & ~gland).numpy()] = 255
        target[..., 1] = with_core(target[..., 0] > 127, self.config.core_um / self.um_per_px)[1] * 255
        return Lesson(lesson.picture, target, lesson.weight, lesson.statistics)

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Gland and core, (2, h, w) in 0–1; flips and three zooms averaged, as published."""
        return mean_probability([self], picture, zooms=(0.8, 1.0, 1.25))

    def tiles_probability(self, tiles: NDArray[np.uint8], statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `probability` for tiles (b, s, s, 3) of a slide whose tissue has these Lab statistics (2, 3) → (b, 2, s, s)."""
        return tiles_probability([self], tiles, statistics, zooms=(0.8, 1.0, 1.25))


def _lesson(picture: NDArray[np.uint8], proposal: Proposal, c: MssgConfig) -> Lesson:
    planes = np.stack([proposal.gland, proposal.border, proposal.interior], -1).astype(np.uint8) * 255
    gland, border, interior = cv2.resize(planes, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    core = with_core(gland > 127, c.core_um / c.data.um_per_px)[1] * 255
    target = np.ascontiguousarray(np.stack([gland, core.astype(np.uint8), border, interior], -1))
    return Lesson(picture, target, np.full(picture.shape[:2], 255, np.uint8), lab_statistics(picture))


def _ringed(gland: NDArray[np.bool_]) -> Proposal:
    inner = cv2.erode(gland.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return Proposal(gland & ~inner, inner)


def _phantom_proposals(pictures: list[NDArray[np.uint8]], c: MssgConfig, shop: Workshop) -> list[Proposal]:
    """Proposals by phantom-taught teachers, learnt first on the same pictures."""
    teacher = PhantomTaught(build(PhantomTaughtConfig, dict(c.teacher)))
    look: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda p: to_spacing(p, c.data.um_per_px, teacher.um_per_px)
    teacher.fit([look(p) for p in pictures], shop)
    return [_ringed(cv2.resize(teacher.probability(look(p))[0], p.shape[1::-1]) > 0.5) for p in pictures]
