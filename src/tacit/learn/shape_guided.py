"""Pixels gather in clusters, and one cluster is made to look like masks of another modality: vessels or lungs from shapes alone.

"Unsupervised Local Discrimination for Medical Images", Chen, Wang, Peng and others, arXiv 2108.09440, its shape-guided cross-modality segmentation.
Ours differs: a fundus photograph is seen as its even green and a radiograph as ranks, in one frame; the clusters begin anew where an earlier run
brings embeddings; the game's optimiser is one AdamW with a group of weights a player; one number, `unsure`, says which pixels teach the refinement;
and the target must lie at the same place in both views (`steady`): to the judge a vessel drawn beside the vessel is as good as one upon it, but a view
that is turned takes the side it lies on with it. At first the target is led to what is dark (`lean`), as to the judge the bright flank of a vessel is
as good as the vessel.

    stage 1   patches are told apart (learn/local_discrimination.py); an earlier run of it stands for this
    stage 2   clusters too, and L_G = BCE(D(m_0), 1): cluster 0 is to pass for a mask of the prior; D learns L_D at a rate of its own
    answers   m_0, and softmax_k(v·r_k / T)[0] with r_k the mean embedding of cluster k in the picture
    refine    a network learns the pixels on which both agree; the others are the uncertainty map

No mask of a picture is read: `fit` is given pictures, the prior shapes of elsewhere. Both players are parts of one module with one loss. Each one's
term detaches what is the other's (parts/discriminator.py), so one backward pass gives each its own gradient; and as Adam forgets the scale of
a loss, D's own rate is that of its group of weights (`rate_shares`, parts/train.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Share
from tacit.errors import ConfigError
from tacit.learn.lessons import CropConfig, Lesson, batches
from tacit.learn.local_discrimination import LocalDiscrimination, LocalDiscriminationConfig
from tacit.learn.predict import mean_probability
from tacit.learn.workshop import Workshop
from tacit.parts.discriminator import LEAST_SIDE, Discriminator, DiscriminatorConfig
from tacit.parts.loss import generalised_cross_entropy
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.prepare.colour import lab_statistics
from tacit.prepare.field import as_rgb
from tacit.prepare.local_views import local_views
from tacit.prepare.seen_frame import Structure, back_from, frame_of, inside_of, shown
from tacit.prepare.shape_prior import ShapePriorConfig, cut_shape, prepared_shapes, shapes
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD

Answer = Literal["refined", "clusters", "embedding", "agreement", "either"]
WON = 0.05  # nats of L_D below which the discriminator has won; a coin's is 1.39
TOO_SMALL, TOO_LARGE = 0.005, 0.6  # share of the views that a target cluster which has collapsed is below, or above
PIECES = 200  # of the prior, whose mean share of structure is taken
IN_USE = 0.002  # share of a picture that a cluster wins, below which it is empty: its r_k is a mean of crumbs, often those of the structure
ROUND = 31  # px round a pixel of a vessel than which it is darker
LAST = 50  # steps over which both are watched: a running mean forgets this fast


class ShapeGuidedConfig(Config):
    structure: Structure = "vessel"  # what the prior shows, and so how a picture is framed: vessel (a fundus's field), lungs (a radiograph), structure (any)
    prior: ShapePriorConfig = ShapePriorConfig()
    side: Annotated[int, Field(ge=96, le=2048)] = 288  # px: diameter of a fundus's field in its frame, side of any other frame
    local: LocalDiscriminationConfig = LocalDiscriminationConfig(
        clusters=8,
        entropy=1.0,  # paper: .1
        stage_1=0.1,  # paper: .2
        size=96,
        train=TrainConfig(epochs=20, steps=60, batch=4, lr=3e-3, weight_decay=0.0, schedule="constant", average=0.0),  # paper: 100 epochs, 1e-3, halving
    )
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    adversary: Annotated[float, Field(ge=0)] = 1.0  # weight of L_G in stage 2; 0 = clusters without a prior
    steady: Annotated[float, Field(ge=0)] = 1.0  # weight of 1 − soft Dice of the target in both views, one laid on the other; paper: 0
    lean: Annotated[float, Field(ge=0)] = 1.0  # weight of the lead to dark pixels, falling to 0 over `led` of stage 2; not for `structure`; paper: 0
    led: Share = 0.2
    answer: Answer = "refined"  # clusters: m_0, embedding: by r_0, agreement: both say so, either: one does
    unsure: Share = 0.5  # pixels with an uncertainty below this teach the refinement
    crop: CropConfig = CropConfig(size=128, zoom=0.2, colour=0.15)  # of the refinement
    network: UNetConfig = UNetConfig(channels_in=1)
    q: Annotated[float, Field(gt=0, le=1)] = 0.7  # generalised cross-entropy of the refinement: near 0 trusts every label, 1 tolerates most noise
    refine: TrainConfig = TrainConfig(epochs=2, steps=60, batch=8)
    settle: bool = True  # the refinement's odds are moved until as much of all learnt fields together is above .5 as of the prior's pieces is structure


class Guided(nn.Module):
    """Stage 2: both players, and the one loss that teaches each its own side."""

    lately: Tensor

    def __init__(self, local: LocalDiscrimination, discriminator: Discriminator, config: ShapeGuidedConfig) -> None:
        super().__init__()
        self.local, self.discriminator, self.config = local, discriminator, config
        self.lead = config.lean  # weight of the lead now
        self.rate_shares = {"discriminator": discriminator.config.rate}
        self.register_buffer("lately", torch.full((2,), -1.0))  # running means of L_D and of the target's share; below 0 = not begun

    def before_step(self, progress: float) -> None:
        """The lead falls to 0. progress: share of the steps that are done, 0–1."""
        c = self.config
        self.lead = c.lean * max(1 - progress / c.led, 0.0) if c.led and c.structure != "structure" and c.adversary else 0.0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: as for local discrimination, and shape (2n, 1, h, w) in 0–1, pieces of the prior."""
        c = self.config
        values, m, other = self.local.losses(batch)
        target, inside = m[:, :1], batch["inside"][:, None]
        moved = apart(target * inside, other[:, :1])
        fooled, told_apart = self.discriminator.fooled(target), self.discriminator.told_apart(batch["shape"], target)
        total = values["loss"] + c.adversary * fooled + told_apart + (c.steady if c.adversary else 0.0) * moved
        if self.lead:
            dark = darkest(batch["a"], float(batch["shape"].mean()), around=c.structure == "vessel")
            total = total + self.lead * F.binary_cross_entropy(target.clamp(1e-6, 1 - 1e-6).float(), dark, weight=inside)
        share = (target.detach() > 0.5).float().mean()
        now = torch.stack([told_apart.detach(), share])
        self.lately.copy_(torch.where(self.lately < 0, now, self.lately + (now - self.lately) / LAST))
        return values | {"loss": total, "fooled": fooled.detach(), "discriminator": told_apart.detach(), "target": share, "moved": moved.detach()}


class Refinement(nn.Module):
    """Logits of the structure, (b, c, h, w) → (b, 1, h, w)."""

    def __init__(self, config: UNetConfig, q: float) -> None:
        super().__init__()
        self.network, self.q = UNet(config, channels_out=1), q

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, c, h, w), target and weight (b, 1, h, w) in 0–1."""
        logits = self.network(batch["x"])
        return {"loss": generalised_cross_entropy(logits, batch["target"], self.q, batch["weight"]), "share": torch.sigmoid(logits.detach()).mean()}


class ShapeGuided(nn.Module):
    """The method: embeddings and clusters, their adversary, the refinement. `CLASSES` is what the prior shows."""

    Config = ShapeGuidedConfig
    CLASSES: tuple[str, ...] = ("vessel",)

    last_discriminator: Tensor
    last_target: Tensor

    def __init__(self, config: ShapeGuidedConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ShapeGuidedConfig()
        if c.local.size < LEAST_SIDE or c.local.train.batch % 2:
            raise ConfigError(
                f"local.size={c.local.size}, local.train.batch={c.local.train.batch}: views of {LEAST_SIDE} px or more and an even batch are expected"
            )
        self.CLASSES = (c.structure,)
        self.local, self.discriminator = LocalDiscrimination(c.local), Discriminator(c.discriminator)
        self.refined = Refinement(c.network.model_copy(update={"channels_in": 3 if c.structure == "structure" else 1}), c.q)
        self.begun = False  # whether an earlier run stands for stage 1
        self.register_buffer("last_discriminator", torch.tensor(1.4))  # L_D over the end of stage 2, nats
        self.register_buffer("last_target", torch.tensor(0.1))  # share of cluster 0 in the views over the end of stage 2

    def begin_with(self, earlier: LocalDiscrimination) -> None:
        """Takes network and embedding of an earlier run; clusters begin anew, since number 0 is to become the structure."""
        for own, other in ((self.local.network, earlier.network), (self.local.embedding, earlier.embedding)):
            own.load_state_dict(other.state_dict())
        self.begun = True

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A picture of any size as its frame (prepare/seen_frame.py). Raises InputError for what cannot be a picture of the kind."""
        return frame_of(picture, self.config.structure, self.config.side)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> ShapeGuided:
        """Learns from frames and the prior. In place. Raises InputError for a prior that shows no shape."""
        c, seed = self.config, 1000 * shop.seed
        prior = prepared_shapes(shapes(c.prior, shop.seed), c.local.size, c.prior)
        if not self.begun:
            torch.manual_seed(seed)
            fresh = LocalDiscrimination(c.local)
            self.local.load_state_dict(fresh.state_dict())
        first = round(c.local.train.epochs * c.local.stage_1)
        if not self.begun and first:
            self.local.second_stage = False
            only = _Patches(self.local)
            shop.train("patches", only, self._batches(pictures, [], seed), c.local.train.model_copy(update={"epochs": first}), seed=seed)
        torch.manual_seed(seed + 1)
        fresh, adversary = LocalDiscrimination(c.local), Discriminator(c.discriminator)
        self.local.clustering.load_state_dict(fresh.clustering.state_dict())
        self.discriminator.load_state_dict(adversary.state_dict())
        self.local.second_stage = True
        second = c.local.train.model_copy(update={"epochs": c.local.train.epochs - first})
        guided = Guided(self.local, self.discriminator, c)
        shop.train("shapes", guided, self._batches(pictures, prior, seed + 1), second, seed=seed + 1)
        if bool((guided.lately >= 0).all()):
            self.last_discriminator, self.last_target = guided.lately.clone()
        self._say_how_it_went(shop)
        torch.manual_seed(seed + 2)
        self.refined.load_state_dict(Refinement(self.refined.network.config, c.q).state_dict())
        lessons = [] if shop.finished("refined") else self._lessons(pictures, shop)
        shop.train("refined", self.refined, batches(lessons, c.refine.batch, c.crop, seed + 2), c.refine, seed=seed + 2)
        if c.settle:
            self._settle(pictures, prior, shop)
        return self.eval()

    def answers(self, frame: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """m_0 and softmax_k(v·r_k / T)[0] of a frame, over the clusters in use, each (s, s) in 0–1, 0 outside the field."""
        v, m, inside = self._seen(frame)
        r = F.normalize(torch.einsum("khw,dhw->kd", m * inside, v), dim=1)  # r_k of this picture
        in_use = F.one_hot(m.argmax(0)[inside], len(m)).float().mean(0) >= IN_USE
        in_use[0] = True
        near = torch.einsum("kd,dhw->khw", r, v) / self.config.local.region_temperature
        by_embedding = torch.softmax(near.masked_fill(~in_use[:, None, None], -torch.inf), dim=0)[0]
        return (m[0] * inside).cpu().numpy(), (by_embedding * inside).cpu().numpy()

    def clusters(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The shares of all clusters of a frame, (k, s, s)."""
        return self._seen(frame)[1].cpu().numpy()

    def field(self, picture: NDArray) -> NDArray[np.bool_]:
        """Where it looks, (h, w) at the picture's own size."""
        return back_from(np.ones(self.working(picture).shape[:2], np.float32), picture, self.config.structure, self.config.side) > 0.5

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """The structure at the picture's own size, (1, h, w) in 0–1, 0 outside the field; by `answer`. Raises InputError as `working`."""
        frame = self.working(picture)
        return self._back(self.answer(frame, self.config.answer), picture)

    def uncertainty(self, picture: NDArray) -> NDArray[np.float32]:
        """1 − |m_0 + p_0 − 1|, (1, h, w) in 0–1: 1 where the two answers disagree outright or neither knows. Raises InputError as `working`."""
        return self._back(unsure_where(*self.answers(self.working(picture))), picture)

    def answer(self, frame: NDArray[np.uint8], which: Answer) -> NDArray[np.float32]:
        """One of the answers for a frame, (s, s) in 0–1."""
        if which == "refined":
            plane = shown(frame, self.config.structure)
            return np.asarray(mean_probability([self.refined], plane)[0] * inside_of(frame, self.config.structure), np.float32)
        m, p = self.answers(frame)
        return {"clusters": m, "embedding": p, "agreement": np.minimum(m, p), "either": np.maximum(m, p)}[which]

    def warnings(self) -> list[str]:
        """What went wrong between the two players, in words."""
        found, loss, share = [], float(self.last_discriminator), float(self.last_target)
        if loss < WON:
            found.append(
                f"The discriminator won outright (its loss {loss:.3f} at the end of stage 2): the target cluster was never taken for a shape of the prior; "
                "do not trust the masks. Try another --seed, more steps, or a prior nearer in scale (prior.scale)."
            )
        if not TOO_SMALL <= share <= TOO_LARGE:
            found.append(
                f"The target cluster collapsed: it holds {share:.1%} of the pixels at the end of stage 2 (expected {TOO_SMALL:.1%} to {TOO_LARGE:.0%}); "
                "do not trust the masks. Try another --seed, local.guard=1, or another prior."
            )
        return found

    @torch.no_grad()
    def _seen(self, frame: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """v (d, s, s), m (k, s, s) and the field (s, s) of a frame."""
        device = next(self.parameters()).device
        plane = (as_rgb(shown(frame, self.config.structure)) / np.float32(255) - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_SD, np.float32)
        v, m = self.local.eval()(torch.from_numpy(np.ascontiguousarray(plane.transpose(2, 0, 1), np.float32))[None].to(device))
        return v[0], m[0], torch.from_numpy(inside_of(frame, self.config.structure)).to(device)

    def _back(self, plane: NDArray[np.float32], picture: NDArray) -> NDArray[np.float32]:
        return back_from(plane, picture, self.config.structure, self.config.side)[None]

    def _batches(self, frames: list[NDArray[np.uint8]], prior: list[NDArray[np.float32]], seed: int) -> Callable[[int], Batch]:
        """Two views of each of a batch of different pictures (as few as there are come again), and pieces of the prior; a pure function of (seed, step)."""
        c, size = self.config, self.config.local.size
        pictures = [(as_rgb(shown(frame, c.structure)), inside_of(frame, c.structure)) for frame in frames]

        def batch(step: int) -> Batch:
            rows, chosen = [], np.random.default_rng([seed, 63, step]).permutation(len(pictures))
            for row, index in enumerate(np.resize(chosen, c.local.train.batch)):
                rng = np.random.default_rng([seed, 64, step, row])
                made = vars(local_views(rng, _window(rng, *pictures[index], size), size, c.local.views))
                rows.append(made | ({"shape": cut_shape(rng, prior, size, c.local.views.turn, c.prior)[None]} if prior else {}))
            return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

        return batch

    @torch.no_grad()
    def _settle(self, frames: list[NDArray[np.uint8]], prior: list[NDArray[np.float32]], shop: Workshop) -> None:
        """Moves the refinement's bias: what both answers agree on is the middle of a structure, so a network taught by it is shy of its edge."""
        c = self.config
        rng = np.random.default_rng([shop.seed, 82])
        share = np.mean([(cut_shape(rng, prior, c.local.size, c.local.views.turn, c.prior) > 0.5).mean() for _ in range(PIECES)])
        found = np.concatenate([self.answer(frame, "refined")[inside_of(frame, c.structure)] for frame in frames])
        level = float(np.clip(np.quantile(found, 1 - share), 0.02, 0.98))
        bias = self.refined.network.head.bias
        assert bias is not None  # the U-Net's head has one
        bias -= float(np.log(level / (1 - level)))
        shop.say(f"settled: {self.CLASSES[0]} where the refinement answers above {level:.2f}, {share:.1%} of the prior's pieces")

    def _say_how_it_went(self, shop: Workshop) -> None:
        shop.say(
            f"shapes: discriminator's loss {float(self.last_discriminator):.3f} (1.386 = undecided), target cluster {float(self.last_target):.1%} of the pixels"
        )
        for line in self.warnings():
            shop.say(line)

    def _lessons(self, frames: list[NDArray[np.uint8]], shop: Workshop) -> list[Lesson]:
        """Pictures with what both answers agree on; pixels that are unsure, or outside the field, teach nothing."""
        lessons, sure, positive = [], 0.0, 0.0
        with shop.bar("agreeing") as bar:
            for number, frame in enumerate(frames):
                m, p = self.answers(frame)
                taught = (unsure_where(m, p) < self.config.unsure) & inside_of(frame, self.config.structure)
                inside = np.minimum(m, p) > 0.5
                plane = shown(frame, self.config.structure)
                statistics = lab_statistics(plane) if plane.ndim == 3 else None
                lessons.append(Lesson(plane, np.where(inside, 255, 0).astype(np.uint8)[..., None], np.where(taught, 255, 0).astype(np.uint8), statistics))
                sure, positive = sure + float(taught.mean()), positive + float((inside & taught).sum() / max(taught.sum(), 1))
                bar.advance(number + 1, len(frames))
        shop.say(f"agreement: {sure / len(frames):.0%} of the pixels are sure, {positive / len(frames):.1%} of these are {self.CLASSES[0]}")
        return lessons


class _Patches(nn.Module):
    """Stage 1: local discrimination whose second stage never begins."""

    def __init__(self, local: LocalDiscrimination) -> None:
        super().__init__()
        self.local = local

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.local.loss(batch)


def darkest(views: Tensor, share: float, around: bool) -> Tensor:
    """The `share` of each view (b, c, h, w) that is darkest, or most darker than what is around it, (b, 1, h, w) of 0 and 1."""
    grey = views.mean(1, keepdim=True).float()
    if around:
        grey = grey - F.avg_pool2d(F.pad(grey, [ROUND // 2] * 4, mode="reflect"), ROUND, stride=1)
    level = torch.quantile(grey.flatten(1), share, dim=1)[:, None, None, None]
    return (grey < level).float()


def apart(a: Tensor, b: Tensor) -> Tensor:
    """1 − soft Dice of two planes (b, 1, h, w) in 0–1, of the whole batch: 0 for equal ones, 1 for planes that share nothing."""
    return 1 - 2 * (a * b).sum() / (a.square().sum() + b.square().sum()).clamp_min(1.0)


def unsure_where(m: NDArray[np.float32], p: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 − |m + p − 1| of two answers in 0–1: below .5 both are on one side of a half."""
    return np.asarray(1 - np.abs(m + p - 1), np.float32)


def _window(rng: np.random.Generator, picture: NDArray[np.uint8], inside: NDArray[np.bool_], size: int) -> NDArray[np.uint8]:
    """A square of up to `size` px of a picture (s, s, 3), most of it inside the field where twenty tries find one."""
    room = max(len(picture) - size, 0)
    top, left = rng.integers(0, room + 1, 2)
    for _ in range(20):
        if inside[top : top + size, left : left + size].mean() > 0.9:
            break
        top, left = rng.integers(0, room + 1, 2)
    return picture[top : top + size, left : left + size]
