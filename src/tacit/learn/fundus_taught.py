"""A small network learns vessels from drawn trees on real retinas whose own vessels were taken out, then from both.

Ours, 2026; it grows out of FreeCOS (Shi et al. 2023, arXiv 2307.07245), which teaches curved structures by drawn ones, of domain
randomisation (SynthSeg, arXiv 2107.09559) and of a noise-robust loss (Zhang and Sabuncu 2018, arXiv 1805.07836).

    ground  filters propose vessels; they are taken out of the real pictures
    teach   a network learns from trees drawn on these grounds and on drawn ones
    adapt   in rounds: network and filters label the real pictures, a fresh network learns from those and from drawings

Nothing here reads a mask of a real image: `fit` is given pictures alone.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.errors import InputError
from tacit.learn.classical.vessel_filters import VesselFiltersConfig, vessel_filters
from tacit.learn.drawn_range import far_from_drawing, hold_drawn_range, remember_drawings
from tacit.learn.lessons import CropConfig, Lesson, batches, mixed
from tacit.learn.predict import mean_probability
from tacit.learn.vessel_free import candidate_contrast, vessel_free
from tacit.learn.workshop import Workshop
from tacit.parts.loss import generalised_cross_entropy
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.phantom.fundus import FundusConfig, draw
from tacit.prepare.field import find_field
from tacit.prepare.frame import as_plane, even_light, field_of, framed, is_grey

RIM = 2  # px at the field's edge that teach nothing


class FundusDrawConfig(Config):
    pictures: Count = 160  # drawings in all
    real: Share = 0.85  # share of them on real grounds, where there are pictures; the others on drawn ones
    matched: Share = 0.6  # share of those on real grounds with the contrast of that picture's own candidates; the others with the drawing's range
    candidates: Share = 0.2  # share of a field that is taken for vessel at most and taken out


class FundusAdaptConfig(Config):
    rounds: Annotated[int, Field(ge=0)] = 2  # networks in a row, each taught by the one before; 0 = drawings alone
    drawn: Share = 0.5  # share of drawn crops in the batches
    filters: Share = 0.25  # the filters' share in the labels; the network's is the rest
    sharpness: Annotated[float, Field(ge=0)] = 1.5  # the weight of a soft label p is min(1, sharpness·|2p − 1|)
    settle: bool = True  # at the end the answer's odds are moved until `filters.share` of all learnt fields together is vessel
    zooms: tuple[float, ...] = (1.0,)  # every picture is looked at in these zooms


class FundusTaughtConfig(Config):
    fundus: FundusConfig = FundusConfig()
    filters: VesselFiltersConfig = VesselFiltersConfig()
    diameter: Annotated[int, Field(ge=128, le=2048)] = 540  # px to which every field is brought; the drawing's lengths are for 540
    crop: CropConfig = CropConfig(size=128, zoom=0.25, colour=0.15)
    draw: FundusDrawConfig = FundusDrawConfig()
    network: UNetConfig = UNetConfig(channels_in=1)
    q: Annotated[float, Field(gt=0, le=1)] = 0.7  # generalised cross-entropy of the rounds: near 0 trusts every label, 1 tolerates most noise
    q_drawn: Annotated[float, Field(gt=0, le=1)] = 0.3  # the same of the teacher, whose labels are exact
    train: TrainConfig = TrainConfig(epochs=3, batch=8)
    adapt: FundusAdaptConfig = FundusAdaptConfig()
    student: TrainConfig = TrainConfig(epochs=3, batch=8)


class FundusTaught(nn.Module):
    """Logits of vessel for standardised planes, (b, 1, h, w) → (b, 1, h, w)."""

    Config = FundusTaughtConfig
    CLASSES = ("vessel",)

    drawn_share: Tensor
    learnt_colour: Tensor

    def __init__(self, config: FundusTaughtConfig | None = None) -> None:
        super().__init__()
        self.config = config or FundusTaughtConfig()
        self.network = UNet(self.config.network, channels_out=1)
        hold_drawn_range(self)
        self.register_buffer("learnt_colour", torch.zeros(()))  # 1 where every picture that was learnt from had colour

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 1, h, w), target (b, 1, h, w) in 0–1, weight (b, 1, h, w)."""
        logits = self.network(batch["x"])
        loss = generalised_cross_entropy(logits, batch["target"], self.config.q, batch["weight"])
        return {"loss": loss, "share": torch.sigmoid(logits.detach()).mean()}

    def working(self, picture: NDArray) -> NDArray[np.uint8]:
        """A photograph (h, w) or (h, w, 3) of any size as its frame, (s, s, 3) uint8: the field at one diameter, 0 outside.

        Raises InputError for one that is black, too small, of another shape or not finite.
        """
        return framed(picture, self.config.diameter)[0]

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> FundusTaught:
        """Teaches and adapts. pictures: frames as `working` gives them, no truth with them; none at all teaches by drawings alone. In place."""
        c = self.config
        if c.network.channels_in != 1:
            raise InputError(f"network.channels_in={c.network.channels_in}: the network sees one plane, the even green; leave it at 1")
        proposed = _proposals(pictures, c, shop)
        drawn = draw_lessons(c, shop, pictures, proposed)
        taught = self._taught("teacher", drawn, [], c.train, shop, 0)
        for k in range(c.adapt.rounds if pictures else 0):
            stage = f"student-{k + 1}"
            real = [] if shop.finished(stage) else labelled(taught, pictures, proposed, c, shop, f"label-{k + 1}")
            taught = self._taught(stage, drawn, real, c.student, shop, k + 1)
        self.load_state_dict(taught.state_dict())
        if c.adapt.settle and pictures:
            self._settle(pictures, shop)
        self.learnt_colour = torch.tensor(float(bool(pictures) and not any(is_grey(p) for p in pictures)))
        remember_drawings(self.eval(), drawn)
        return self

    @torch.no_grad()
    def _settle(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> None:
        """Moves the last layer's bias until `filters.share` of all fields together lies above .5: a robust loss leaves a network shy of thin vessels."""
        with shop.bar("settling") as bar:
            answers = []
            for number, square in enumerate(pictures):
                answers.append(mean_probability([self.eval()], plane_of(square), zooms=self.config.adapt.zooms)[0][field_of(square)])
                bar.advance(number + 1, len(pictures))
        level = float(np.clip(np.quantile(np.concatenate(answers), 1 - self.config.filters.share), 0.02, 0.98))
        assert self.network.head.bias is not None  # the U-Net's head has one
        self.network.head.bias -= float(np.log(level / (1 - level)))
        shop.say(f"settled: vessel where the last network answers above {level:.2f}")

    def _taught(self, stage: str, drawn: list[Lesson], real: list[Lesson], train: TrainConfig, shop: Workshop, number: int) -> nn.Module:
        seed = 1000 * shop.seed + number
        torch.manual_seed(seed)
        fresh = FundusTaught(self.config if real else self.config.model_copy(update={"q": self.config.q_drawn}))
        from_drawn = round(train.batch * self.config.adapt.drawn) if real else train.batch
        sources = [(drawn, from_drawn, seed), (real, train.batch - from_drawn, seed + 250)]
        made = [batches(lessons, count, self.config.crop, own) for lessons, count, own in sources if lessons and count]
        return shop.train(stage, fresh, made[0] if len(made) == 1 else mixed(*made), train, seed=seed)

    def field(self, picture: NDArray) -> NDArray[np.bool_]:
        """The field of view of a photograph as for `working`, (h, w)."""
        return find_field(picture).mask

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """Vessel at the photograph's own size, (1, h, w) in 0–1, 0 outside the field. picture as for `working`.

        Raises InputError as `working` does, and for a grey photograph where colour was learnt.
        """
        square, frame = framed(picture, self.config.diameter)
        self._check_colour(square)
        return frame.back(mean_probability([self], plane_of(square), zooms=self.config.adapt.zooms)[0])[None]

    def far_from_drawing(self, picture: NDArray) -> float:
        """How unlike the drawings a photograph is: above 1 it is farther from their mean than 99% of them."""
        return far_from_drawing(self, plane_of(self.working(picture)))

    def _check_colour(self, square: NDArray[np.uint8]) -> None:
        if float(self.learnt_colour) and is_grey(square):
            raise InputError("the picture is grey, but the green of colour photographs was learnt; give it in colour, or learn on grey ones")


def plane_of(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the network sees of a frame (s, s, 3): even green, standardised, as bytes (s, s)."""
    return as_plane(even_light(square), field_of(square, RIM))


def lesson_of(square: NDArray[np.uint8], target: NDArray[np.float32], weight: NDArray[np.float32] | None = None) -> Lesson:
    """A frame with soft truth (s, s) in 0–1; nothing is learnt outside the field."""
    taught = field_of(square, RIM) * (1.0 if weight is None else weight)
    return Lesson(plane_of(square), np.rint(target * 255).astype(np.uint8)[..., None], np.rint(taught * 255).astype(np.uint8), None)


def draw_lessons(c: FundusTaughtConfig, shop: Workshop, pictures: list[NDArray[np.uint8]], proposed: list[NDArray[np.float32]]) -> list[Lesson]:
    """Trees on grounds without vessels, real ones and drawn ones; each lesson is a pure function of (seed, its number, the pictures)."""
    side = framed_side(c.diameter)
    grounds = []
    with shop.bar("taking vessels out") as bar:
        for number, (square, p) in enumerate(zip(pictures, proposed, strict=True)):
            rng = np.random.default_rng([shop.seed, 1, number])
            level = float(np.quantile(p[field_of(square)], 1 - c.draw.candidates))
            grounds.append((vessel_free(square, p > max(level, 1e-6), rng), candidate_contrast(even_light(square), p, field_of(square))))
            bar.advance(number + 1, len(pictures))
    lessons = []
    with shop.bar("drawing fundus") as bar:
        for number in range(c.draw.pictures):
            rng = np.random.default_rng([shop.seed, 2, number])
            own, ground = c.fundus, None
            if grounds and rng.random() < c.draw.real:
                ground, contrast = grounds[int(rng.integers(len(grounds)))]
                ground = np.rot90(ground[:, ::-1] if rng.random() < 0.5 else ground, int(rng.integers(4)))
                if rng.random() < c.draw.matched:
                    own = own.model_copy(update={"contrast": contrast})
            drawing = draw(rng, (side, side), None, own, background=ground)
            lessons.append(lesson_of(drawing.picture, (drawing.labels > 0).astype(np.float32)))
            bar.advance(number + 1, c.draw.pictures)
    return lessons


def labelled(
    network: nn.Module, pictures: list[NDArray[np.uint8]], proposed: list[NDArray[np.float32]], c: FundusTaughtConfig, shop: Workshop, stage: str
) -> list[Lesson]:
    """The real pictures with the network's answer and the filters' as soft targets; unsure pixels weigh less.

    A network taught by drawings is too shy of thin vessels. So all answers are moved until `filters.share` of all fields together is vessel; a
    single picture may have more or less.
    """
    answers = []
    with shop.bar(stage) as bar:
        for number, (square, filters) in enumerate(zip(pictures, proposed, strict=True)):
            p = mean_probability([network], plane_of(square), zooms=c.adapt.zooms)[0]
            answers.append((1 - c.adapt.filters) * p + c.adapt.filters * filters)
            bar.advance(number + 1, len(pictures))
    inside = np.concatenate([p[field_of(square)] for square, p in zip(pictures, answers, strict=True)])
    level = float(np.clip(np.quantile(inside, 1 - c.filters.share), 0.02, 0.98))
    lessons = []
    for square, p in zip(pictures, answers, strict=True):
        moved = p * (1 - level) / (p * (1 - level) + level * (1 - p))  # odds over those of the level
        lessons.append(lesson_of(square, moved, np.minimum(1, c.adapt.sharpness * np.abs(2 * moved - 1)).astype(np.float32)))
    shop.say(f"{stage}: {len(lessons)} pictures labelled, vessel where the answer is above {level:.2f}")
    return lessons


def framed_side(diameter: int, margin: int = 18) -> int:
    """Side of a frame, px."""
    return diameter + 2 * margin


def _proposals(pictures: list[NDArray[np.uint8]], c: FundusTaughtConfig, shop: Workshop) -> list[NDArray[np.float32]]:
    proposed = []
    with shop.bar("filters") as bar:
        for number, square in enumerate(pictures):
            proposed.append(vessel_filters(square, c.filters))
            bar.advance(number + 1, len(pictures))
    return proposed
