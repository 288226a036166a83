"""Lungs, heart and clavicles of frontal chest radiographs: a small network learns from drawn chests, then adapts to unlabelled real ones.

Ours, 2026; the same idea as `phantom_taught` (domain randomisation: SynthSeg, arXiv 2107.09559; self-training with the generalised cross-entropy of
Zhang and Sabuncu 2018, arXiv 1805.07836), with a step of its own: outlines are snapped to the nearest edge by region means (Chan and Vese 2001,
doi 10.1109/83.902291) on the sides where edges can be trusted.

    teach   several teachers, each on its own drawings
    agree   their mean over zooms labels the real radiographs softly; the lungs are snapped, and checked against the rules that need no teacher
    adapt   a fresh student learns from drawn and real radiographs together

Nothing here reads a mask of a real image: `fit` is given pictures alone, none at all (drawings only), one, or many.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.learn.chest_lessons import ChestLesson, ChestViewConfig, chest_batches
from tacit.learn.far import distance, remembered
from tacit.learn.lessons import mixed
from tacit.learn.predict import zoomed_mean
from tacit.learn.workshop import Workshop
from tacit.parts.loss import generalised_cross_entropy, soft_dice
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.phantom import chest
from tacit.phantom.chest import ChestConfig
from tacit.prepare.radiograph import chest_frame, planes_of, ranked
from tacit.prepare.snap import SnapConfig, snapped
from tacit.prepare.space import to_size

PIECES = (2, 1, 2)  # so many lungs, hearts and clavicles a chest has


class ChestNetworkConfig(UNetConfig):
    width: Count = 8  # channels at full resolution; doubled at every halving up to 8×
    depth: Count = 5  # halvings: the deepest level sees the whole chest
    channels_in: int = 2  # ranks, and ranks less a wide blur


class ChestAdaptConfig(Config):
    rounds: Annotated[int, Field(ge=0)] = 1  # students in a row, each taught by the one before; 0 = a teacher is the answer
    drawn: Share = 0.5  # share of drawn radiographs in the student's batches
    sharpness: float = 1.5  # the weight of a soft label p is min(1, sharpness·|2p − 1|)
    zooms: tuple[float, ...] = (0.9, 1.0, 1.1)  # everyone looks at each radiograph at these zooms
    snap: bool = False  # whether the lungs are snapped to edges before the student learns them


class ChestTaughtConfig(Config):
    chest: ChestConfig = ChestConfig()
    side: Count = 128  # px a side of the frame that the network sees
    finer: Count = 2  # drawn at this many times the frame's resolution
    pictures: Count = 300  # drawings a teacher
    views: ChestViewConfig = ChestViewConfig()
    network: ChestNetworkConfig = ChestNetworkConfig()
    q: Annotated[float, Field(gt=0, le=1)] = 0.7  # generalised cross-entropy: near 0 trusts every label, 1 tolerates most noise
    dice: Annotated[float, Field(ge=0)] = 0.5  # weight of the soft Dice loss beside it: without it clavicles, a hundredth of the picture, are never learnt
    teachers: Count = 2
    train: TrainConfig = TrainConfig(epochs=6, batch=8)
    adapt: ChestAdaptConfig = ChestAdaptConfig()
    snap: SnapConfig = SnapConfig()
    student: TrainConfig = TrainConfig(epochs=6, batch=8)


class ChestTaught(nn.Module):
    """Logits of lungs, heart and clavicles for radiographs in the frame, (b, 2, h, w) → (b, 3, h, w)."""

    Config = ChestTaughtConfig
    CLASSES = chest.CLASSES

    drawn_mean: Tensor
    drawn_deviation: Tensor
    drawn_far: Tensor
    drawn_sure: Tensor

    def __init__(self, config: ChestTaughtConfig | None = None) -> None:
        super().__init__()
        self.config = config or ChestTaughtConfig()
        self.network = UNet(self.config.network, channels_out=len(self.CLASSES))
        deepest = self.config.network.width * 2 ** min(self.config.network.depth, 3)
        self.register_buffer("drawn_mean", torch.zeros(deepest))  # of the drawings' summaries
        self.register_buffer("drawn_deviation", torch.ones(deepest))
        self.register_buffer("drawn_far", torch.ones(()))  # 99% of the drawings are nearer to their mean than this
        self.register_buffer("drawn_sure", torch.zeros(()))  # 98% of the drawings are answered with more confidence than this

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 2, h, w), target and weight (b, 3, h, w) in 0–1."""
        logits = self.network(batch["x"])
        loss = generalised_cross_entropy(logits, batch["target"], self.config.q, batch["weight"])
        loss = loss + self.config.dice * soft_dice(logits, batch["target"], batch["weight"])
        return {"loss": loss, "share": torch.sigmoid(logits[:, 0].detach().float()).mean()}

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A radiograph (h, w) or (h, w, 3) of any depth, size and polarity as the network learns from it: (side, side) ranks, bone white.

        Raises InputError for what cannot be a radiograph (`prepare.radiograph.grey_levels`).
        """
        return chest_frame(picture, self.config.side)

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> ChestTaught:
        """Teaches, agrees and adapts. pictures: what `working` gave, no truth with them; none is allowed. In place."""
        c = self.config
        teachers, drawn = [], []
        for k in range(c.teachers):
            drawn.append(drawn_chests(c, shop, 1000 * shop.seed + k))
            teachers.append(self._taught(f"teacher-{k + 1}", drawn[k], [], c.train, shop, 1000 * shop.seed + k))
        own = [lesson for set_ in drawn for lesson in set_]
        looking, student = teachers, teachers[0]
        for k in range(c.adapt.rounds if pictures else 0):
            real = agreed_chests(looking, pictures, c, shop, f"agree-{k + 1}")
            student = self._taught(f"student-{k + 1}", own, real, c.student, shop, 1000 * shop.seed + 500 + k)
            looking = [student]
        self.load_state_dict(student.state_dict())
        self._remember(own[:100])
        return self.eval()

    def _taught(self, stage: str, drawn: list[ChestLesson], real: list[ChestLesson], train: TrainConfig, shop: Workshop, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        from_drawn = round(train.batch * self.config.adapt.drawn) if real else train.batch
        parts = ((drawn, from_drawn, seed), (real, train.batch - from_drawn, seed + 250))
        sources = [chest_batches(lessons, count, self.config.views, own) for lessons, count, own in parts if count]
        return shop.train(stage, ChestTaught(self.config), mixed(*sources), train, seed=seed)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """Lungs, heart and clavicles, (3, h, w) in 0–1 at the radiograph's own size, zooms averaged. Raises InputError as `working`."""
        p = largest_pieces(self._looks(self.working(picture)).mean(0), PIECES)
        return np.stack([to_size(plane, (picture.shape[0], picture.shape[1])) for plane in p])

    def confidence(self, picture: NDArray) -> float:
        """How far from undecided the network is about the lungs: mean |2p − 1| where p > 0.05, 0–1; 0 where it finds none."""
        return self._confidence(self.working(picture))

    def is_doubtful(self, picture: NDArray) -> bool:
        """Whether the answer is less sure than those for 98% of the drawings: look at this one first."""
        return self.confidence(picture) < float(self.drawn_sure)

    def _confidence(self, ranks: NDArray[np.uint8]) -> float:
        p = self._looks(ranks).mean(0)[0]
        return float(np.abs(2 * p[p > 0.05] - 1).mean()) if p.max() > 0.5 else 0.0

    def _looks(self, ranks: NDArray[np.uint8]) -> NDArray[np.float32]:
        return zoomed_mean([self], planes_of(ranks), self.config.adapt.zooms)

    @torch.no_grad()
    def _summary(self, ranks: NDArray[np.uint8]) -> Tensor:
        return self.network.summary(torch.from_numpy(planes_of(ranks))[None].to(self.drawn_mean.device))[0]

    @torch.no_grad()
    def far_from_drawing(self, picture: NDArray) -> float:
        """How unlike the drawings a radiograph is: above 1 it is farther from their mean than 99% of them."""
        return float(distance(self._summary(self.working(picture)), self.drawn_mean, self.drawn_deviation) / self.drawn_far)

    def _remember(self, lessons: list[ChestLesson]) -> None:
        self.eval()
        self.drawn_mean, self.drawn_deviation, self.drawn_far = remembered(torch.stack([self._summary(lesson.picture) for lesson in lessons]))
        self.drawn_sure = torch.tensor([self._confidence(lesson.picture) for lesson in lessons]).quantile(0.02)


def drawn_chests(c: ChestTaughtConfig, shop: Workshop, seed: int) -> list[ChestLesson]:
    """Drawings in the network's frame, each a pure function of (seed, index)."""
    lessons, fine = [], c.side * c.finer
    with shop.bar("drawing chest") as bar:
        for index in range(c.pictures):
            drawing = chest.draw(np.random.default_rng([seed, index]), (fine, fine), config=c.chest)
            assert drawing.planes is not None  # a chest always has them
            target = to_size(np.ascontiguousarray(drawing.planes.transpose(1, 2, 0)), (c.side, c.side))
            lessons.append(ChestLesson(ranked(to_size(drawing.picture[..., 0].astype(np.float32), (c.side, c.side))), target, np.full_like(target, 255)))
            bar.advance(index + 1, c.pictures)
    return lessons


def largest_pieces(p: NDArray[np.float32], counts: tuple[int, ...]) -> NDArray[np.float32]:
    """Probabilities (k, h, w) with all but the `counts[k]` largest pieces above one half set to 0: gas under the diaphragm is no third lung."""
    kept = p.copy()
    for plane, count in zip(kept, counts, strict=True):
        _, pieces, sizes, _ = cv2.connectedComponentsWithStats((plane > 0.5).astype(np.uint8), connectivity=4)
        order = 1 + np.argsort(-sizes[1:, cv2.CC_STAT_AREA], kind="stable")
        plane[np.isin(pieces, order[count:])] = 0
    return kept


def agreed_chests(networks: list[nn.Module], pictures: list[NDArray[np.uint8]], c: ChestTaughtConfig, shop: Workshop, stage: str) -> list[ChestLesson]:
    """The real radiographs with the networks' mean answer as soft targets, the lungs snapped; unsure pixels weigh less."""
    lessons = []
    with shop.bar(stage) as bar:
        for index, ranks in enumerate(pictures):
            p = largest_pieces(zoomed_mean(networks, planes_of(ranks), c.adapt.zooms).mean(0), PIECES)
            if c.adapt.snap:
                p[0] = snapped(p[0], ranks, c.snap)
            sure = np.minimum(1, c.adapt.sharpness * np.abs(2 * p - 1))
            target, weight = (np.ascontiguousarray(np.clip(255 * plane, 0, 255).astype(np.uint8).transpose(1, 2, 0)) for plane in (p, sure))
            lessons.append(ChestLesson(ranks, target, weight))
            bar.advance(index + 1, len(pictures))
    share = float(np.mean([lesson.target[..., 0].mean() / 255 for lesson in lessons]))
    shop.say(f"{stage}: {len(lessons)} radiographs labelled by {len(networks)} networks, lung share {share:.2f}")
    return lessons
