"""A small network learns from drawn anatomy with exact truth, then adapts to unlabelled real images.

Ours, 2026. It grows out of domain randomisation (SynthSeg, Billot et al. 2023, arXiv 2107.09559; FreeCOS, Shi et al. 2023,
arXiv 2307.07245) and of self-training with a noise-robust loss (Zhang and Sabuncu 2018, arXiv 1805.07836).

    teach   several teachers, each on its own drawings
    agree   their mean over flips and zooms labels the real pictures softly
    adapt   a fresh student learns from drawn and real crops together

Nothing here reads a mask of a real image: `fit` is given pictures alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Range, Share
from tacit.learn.drawn_range import far_from_drawing, hold_drawn_range, remember_drawings
from tacit.learn.lessons import DataConfig, Lesson, batches, mixed
from tacit.learn.predict import mean_probability, tiles_probability
from tacit.learn.real_ground import on_real_ground
from tacit.learn.workshop import Judge, Workshop
from tacit.parts.loss import generalised_cross_entropy, knowledge_diffusion
from tacit.parts.train import Batch, TrainConfig
from tacit.parts.unet import UNet, UNetConfig
from tacit.phantom import generator
from tacit.phantom.tissue import TissueConfig, inside_distance
from tacit.prepare.colour import lab_statistics
from tacit.prepare.space import to_size
from tacit.prepare.stain import estimate_stains


class DrawConfig(Config):
    pictures: Count = 400  # drawings a teacher
    field_um: Range = (330.0, 480.0)  # height and width of a drawing
    finer: Positive = 2.0  # drawn at this many times the network's resolution
    colours: Literal["drawn", "matched"] = "drawn"  # stain vectors from the drawing's own ranges, or found in the user's images


class AdaptConfig(Config):
    rounds: int = 1  # students in a row, each taught by the one before; 0 = the teachers' mean is the answer
    drawn: Share = 0.375  # share of drawn crops in the student's batches
    sharpness: float = 1.5  # the weight of a soft label p is min(1, sharpness·|2p − 1|)
    zooms: tuple[float, ...] = (0.85, 1.0, 1.2)  # teachers and student look at each picture at these zooms
    ground: Literal["drawn", "real"] = "drawn"  # what surrounds the glands of half the drawn crops: the drawing, or the user's own tissue without glands
    diffusion: float = 0.0  # weight of the knowledge-diffusion loss of MSSG (arXiv 2307.11989) in the adaptation


class PhantomTaughtConfig(Config):
    phantom: str = "tissue"  # what to draw: a name, or a .py file
    tissue: TissueConfig = TissueConfig()
    data: DataConfig = DataConfig()
    draw: DrawConfig = DrawConfig()
    network: UNetConfig = UNetConfig()
    q: Annotated[float, Field(gt=0, le=1)] = 0.7  # generalised cross-entropy: near 0 trusts every label, 1 tolerates most noise
    core_um: float = 7.0  # a gland's core lies this deep inside its edge; cores part touching glands
    teachers: Count = 3
    stop: Literal["steps", "agreement"] = "steps"  # last weights, or those of the epoch at which flips and zooms of the real pictures agree best
    train: TrainConfig = TrainConfig(epochs=8)
    adapt: AdaptConfig = AdaptConfig()
    student: TrainConfig = TrainConfig(epochs=8)


class PhantomTaught(nn.Module):
    """Logits of gland and of gland core for standardised pictures, (b, 3, h, w) → (b, 2, h, w)."""

    Config = PhantomTaughtConfig

    drawn_mean: Tensor
    drawn_deviation: Tensor
    drawn_far: Tensor
    drawn_share: Tensor

    def __init__(self, config: PhantomTaughtConfig | None = None) -> None:
        super().__init__()
        self.config = config or PhantomTaughtConfig()
        self.network = UNet(self.config.network, channels_out=2)
        hold_drawn_range(self)

    @property
    def um_per_px(self) -> float:
        """The spacing that the network sees."""
        return self.config.data.um_per_px

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w), target (b, 2, h, w) in 0–1, weight (b, 1, h, w)."""
        features = self.network.features(batch["x"])
        logits = self.network.head(features)
        loss = generalised_cross_entropy(logits, batch["target"], self.config.q, batch["weight"].expand_as(logits))
        values = {"loss": loss, "share": torch.sigmoid(logits[:, 0].detach()).mean()}
        if self.config.adapt.diffusion:
            gland, core = batch["target"].split(1, 1)
            spread = knowledge_diffusion(features, (gland - core).clamp_min(0) * batch["weight"], core * batch["weight"])
            values |= {"loss": loss + self.config.adapt.diffusion * spread, "diffusion": spread.detach()}
        return values

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> PhantomTaught:
        """Teaches, agrees and adapts. pictures: (h, w, 3) RGB at `um_per_px`, no truth with them. In place."""
        c = self.config
        teachers, drawn = [], []
        stains = estimate_stains(pictures) if c.draw.colours == "matched" else None
        agreement = (lambda module: flips_agree(module, pictures[:: max(len(pictures) // 16, 1)], c)) if c.stop == "agreement" and pictures else None
        for k in range(c.teachers):
            drawn.append(draw_lessons(c, shop, 1000 * shop.seed + k, stains))
            teachers.append(self._taught(f"teacher-{k + 1}", drawn[k], [], c.train, shop, 1000 * shop.seed + k, agreement))
        student: nn.Module = teachers[0]
        looking = teachers
        for k in range(c.adapt.rounds if pictures else 0):
            own = [lesson for set_ in drawn for lesson in set_]
            real = agree(looking, pictures, c, shop, f"agree-{k + 1}")
            if c.adapt.ground == "real":
                own[::2] = on_real_ground(own[::2], real, np.random.default_rng([shop.seed, 500 + k]))
            student = self._taught(f"student-{k + 1}", own, real, c.student, shop, 1000 * shop.seed + 500 + k, agreement)
            looking = [student]
        self.load_state_dict(student.state_dict())
        remember_drawings(self.eval(), [lesson for set_ in drawn for lesson in set_][:200])
        return self

    def far_from_drawing(self, picture: NDArray[np.uint8]) -> float:
        """How unlike the drawings a picture at `um_per_px` is: above 1 it is farther from their mean than 99% of them."""
        return far_from_drawing(self, picture[:512, :512])  # enough to tell, and flat memory

    def _taught(self, stage: str, drawn: list[Lesson], real: list[Lesson], train: TrainConfig, shop: Workshop, seed: int, best_by: Judge | None) -> nn.Module:
        torch.manual_seed(seed)
        fresh = PhantomTaught(self.config)
        from_drawn = round(train.batch * self.config.adapt.drawn) if real else train.batch
        source = batches(drawn, from_drawn, self.config.data, seed)
        if real:
            source = mixed(source, batches(real, train.batch - from_drawn, self.config.data, seed + 250))
        return shop.train(stage, fresh, source, train, seed=seed, best_by=best_by)

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Gland and core, (2, h, w) in 0–1, for a picture (h, w, 3) RGB at `um_per_px`; flips and zooms averaged."""
        return mean_probability([self], picture, zooms=self.config.adapt.zooms)

    def tiles_probability(self, tiles: NDArray[np.uint8], statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `probability` for tiles (b, s, s, 3) of a slide whose tissue has these Lab statistics (2, 3) → (b, 2, s, s)."""
        return tiles_probability([self], tiles, statistics, zooms=self.config.adapt.zooms)


@torch.no_grad()
def flips_agree(network: nn.Module, pictures: list[NDArray[np.uint8]], c: PhantomTaughtConfig) -> float:
    """How alike a network answers about the same real pictures seen at the outermost zooms, as Dice of the soft answers, 0–1. No truth."""
    low, high = (
        np.concatenate([mean_probability([network], p, zooms=(z,), flips=1)[0].ravel() for p in pictures]) for z in (c.adapt.zooms[0], c.adapt.zooms[-1])
    )
    return float((2 * (low * high).sum() + 1) / ((low**2).sum() + (high**2).sum() + 1))


def draw_lessons(c: PhantomTaughtConfig, shop: Workshop, seed: int, stains: NDArray[np.float64] | None = None) -> list[Lesson]:
    """Drawings at the network's spacing, each a pure function of (seed, index); in the given stains (2, 3) where there are any."""
    draw = generator(c.phantom).draw
    own = (c.tissue,) if c.phantom == "tissue" else ()
    fine = c.data.um_per_px / c.draw.finer
    small = (round(c.draw.field_um[0] / c.data.um_per_px), round(c.draw.field_um[1] / c.data.um_per_px))
    shape = (round(small[0] * c.draw.finer), round(small[1] * c.draw.finer))
    lessons = []
    with shop.bar(f"drawing {c.phantom}") as bar:
        for index in range(c.draw.pictures):
            drawing = draw(np.random.default_rng([seed, index]), shape, fine, *own, stains=stains)
            picture = to_size(drawing.picture, small)
            core = inside_distance(drawing.labels) * fine > c.core_um
            target = to_size(np.stack([drawing.labels > 0, core], -1).astype(np.uint8) * 255, small)
            lessons.append(Lesson(picture, target, np.full(small, 255, np.uint8), lab_statistics(picture)))
            bar.advance(index + 1, c.draw.pictures)
    return lessons


def agree(networks: list[nn.Module], pictures: list[NDArray[np.uint8]], c: PhantomTaughtConfig, shop: Workshop, stage: str) -> list[Lesson]:
    """The real pictures with the networks' mean answer as soft targets; unsure pixels weigh less."""
    lessons = []
    with shop.bar(stage) as bar:
        for index, picture in enumerate(pictures):
            p = mean_probability(networks, picture, zooms=c.adapt.zooms)
            sure = np.minimum(1, c.adapt.sharpness * np.abs(2 * p[0] - 1))
            target = np.ascontiguousarray(np.clip(p * 255, 0, 255).astype(np.uint8).transpose(1, 2, 0))
            lessons.append(Lesson(picture, target, (sure * 255).astype(np.uint8), lab_statistics(picture)))
            bar.advance(index + 1, len(pictures))
    share = float(np.mean([lesson.target[..., 0].mean() / 255 for lesson in lessons]))
    shop.say(f"{stage}: {len(lessons)} pictures labelled by {len(networks)} networks, gland share {share:.2f}")
    return lessons
