"""An encoder taught by drawings: a small network names the mask and the parameters of drawn tissue; what it says of real tissue is its description.

Ours, 2026, beside `phantom_taught.py`. Nobody labels anything: a drawing knows how its nuclei are layered, how irregular its glands are, how much
mucin they hold, and where they lie. A picture is described by three groups of numbers, each standardised over drawings that took no part in teaching:

    pooled       mean and SD over places of the deepest feature map
    parameters   what the network believes was drawn
    mask         mean and SD over places of the gland probability

No real image takes part at all, so the weights hold nobody's data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.config import Config, Count, Positive, Share
from tacit.learn.workshop import Workshop
from tacit.parts.loss import generalised_cross_entropy
from tacit.parts.residual import Residual, stem
from tacit.parts.train import Batch, TrainConfig
from tacit.phantom import generator
from tacit.phantom.drawing import Drawing
from tacit.phantom.tissue import TissueConfig
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.space import to_size
from tacit.prepare.views import colour_shift, view, view_matrix

MASK_STRIDE = 4  # px of the picture a pixel of the mask


class GroupWeights(Config):
    """What each group counts in a distance; 1 = as much as any other group of weight 1."""

    pooled: float = 1.0
    parameters: float = 1.0
    mask: float = 0.7


class PhantomEncoderConfig(Config):
    phantom: str = "tissue"  # what to draw: a name, or a .py file
    tissue: TissueConfig = TissueConfig()
    um_per_px: Positive = 1.24  # spacing that the network sees
    size: Count = 128  # crop, px
    drawings: Count = 800
    field: Count = 256  # side of a drawing, px
    finer: Positive = 2.0  # drawn at this many times the network's resolution
    held_out: Share = 0.1  # share of the drawings that only standardise and judge
    width: Count = 24  # channels after the stem
    zoom: float = 0.28  # crops are zoomed by up to ± this share
    colour: float = 0.15  # SD of the colour shift, in SDs of the picture
    q: Positive = 0.7  # generalised cross-entropy of the mask
    mask: float = 2.0  # weight of the mask's loss beside the parameters'
    groups: GroupWeights = GroupWeights()
    train: TrainConfig = TrainConfig(epochs=10, batch=32, average=0.0)


class PhantomEncoder(nn.Module):
    """features(x) → (b, width), from standardised Lab pictures (b, 3, h, w) of any size from 32 px."""

    Config = PhantomEncoderConfig
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PhantomEncoderConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or PhantomEncoderConfig()
        w, parameters = c.width, len(parameter_names(c))
        self.stem = stem(3, w)
        self.blocks = nn.ModuleList([Residual(w, w, 1), Residual(w, 2 * w, 2), Residual(2 * w, 4 * w, 2), Residual(4 * w, 6 * w, 2)])
        self.join = nn.Conv2d(2 * w + 4 * w + 6 * w, 64, 1)
        self.mask = nn.Conv2d(64, 1, 1)
        self.parameters_head = nn.Linear(2 * 6 * w + 64, parameters)
        self.sizes = (2 * 6 * w, parameters, 2)  # pooled, parameters, mask
        self.register_buffer("mean", torch.zeros(sum(self.sizes)))
        self.register_buffer("deviation", torch.ones(sum(self.sizes)))

    @property
    def width(self) -> int:
        """How many numbers describe a picture."""
        return sum(self.sizes)

    def answers(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (b, 3, h, w) → pooled (b, 12·width), parameters (b, p), mask logits (b, h/4, w/4)"""
        maps = []
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        size = maps[1].shape[2:]
        joined = F.relu(self.join(torch.cat([F.interpolate(m, size) for m in maps[1:]], 1)))
        pooled = torch.cat([x.mean((2, 3)), x.flatten(2).std(2)], 1)
        return pooled, self.parameters_head(torch.cat([pooled, joined.mean((2, 3))], 1)), self.mask(joined)[:, 0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, 3, h, w), mask (b, h/4, w/4) in 0–1, parameters (b, p) standardised."""
        _, named, logits = self.answers(batch["x"])
        mask = generalised_cross_entropy(logits[:, None], batch["mask"][:, None], self.config.q, torch.ones_like(batch["mask"])[:, None])
        parameters = F.smooth_l1_loss(named.float(), batch["parameters"])
        return {"loss": self.config.mask * mask + parameters, "mask": mask.detach(), "parameters": parameters.detach()}

    def fit(self, shop: Workshop, stage: str = "encoder") -> PhantomEncoder:
        """Draws, teaches, and standardises on drawings that took no part. In place; a pure function of the seed."""
        c = self.config
        torch.manual_seed(shop.seed)
        self.load_state_dict(PhantomEncoder(c).state_dict())  # whatever was in it before takes no part
        lessons = draw_named(c, shop)
        taught = lessons[: len(lessons) - max(round(c.held_out * len(lessons)), 2)]
        target = np.stack([lesson.parameters for lesson in taught])
        centre, spread = target.mean(0), np.maximum(target.std(0), 1e-6)
        shop.train(stage, self, named_batches(taught, centre, spread, c, shop.seed), c.train, seed=shop.seed)
        rng = np.random.default_rng([shop.seed, 71])
        self.standardise([_corner(lesson.picture, c.size, rng) for lesson in lessons[len(taught) :] for _ in range(3)])
        return self

    @torch.no_grad()
    def standardise(self, crops: list[NDArray[np.uint8]]) -> None:
        """Mean and deviation of every number become those over `crops`, RGB pictures of one size. In place."""
        raw = torch.cat([self._raw(_stacked(crops[i : i + 32]).to(self.mean.device)) for i in range(0, len(crops), 32)])
        self.mean.copy_(raw.mean(0))
        self.deviation.copy_(raw.std(0).clamp_min(1e-6))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """x (b, 3, h, w), standardised Lab → (b, width): each number standardised over drawings, each group weighed."""
        z = (self._raw(x) - self.mean) / self.deviation
        weights = self.config.groups
        parts = zip(z.split(self.sizes, 1), (weights.pooled, weights.parameters, weights.mask), strict=True)
        return torch.cat([part * (weight / part.shape[1] ** 0.5) for part, weight in parts], 1)

    @torch.no_grad()
    def _raw(self, x: Tensor) -> Tensor:
        """The mean over four turns of all groups as they come."""
        total = torch.zeros(len(x), self.width, device=x.device)
        for turns in range(4):
            pooled, named, logits = self.answers(torch.rot90(x, turns, (2, 3)))
            p = torch.sigmoid(logits.float()).flatten(1)
            total += torch.cat([pooled.float(), named.float(), p.mean(1, keepdim=True), p.std(1, keepdim=True)], 1)
        return total / 4


@dataclass(frozen=True)
class NamedDrawing:
    """A drawing at the network's spacing with everything that is known of it."""

    picture: NDArray[np.uint8]  # (h, w, 3) RGB
    mask: NDArray[np.uint8]  # (h, w) 0–255
    parameters: NDArray[np.float32]  # (p,) in the order of `parameter_names`
    statistics: NDArray[np.float32]  # (2, 3) Lab mean and SD


def parameter_names(c: PhantomEncoderConfig) -> list[str]:
    """What a drawing tells of itself, sorted."""
    return sorted(_draw(c, 0, 0, 64).parameters)


def draw_named(c: PhantomEncoderConfig, shop: Workshop) -> list[NamedDrawing]:
    """The drawings, each a pure function of (seed, index)."""
    names = parameter_names(c)
    made = []
    with shop.bar(f"drawing {c.phantom}") as bar:
        for index in range(c.drawings):
            drawing = _draw(c, shop.seed, index, round(c.field * c.finer))
            mask = to_size((drawing.labels > 0).astype(np.uint8) * 255, (c.field, c.field))
            picture = to_size(drawing.picture, (c.field, c.field))
            parameters = np.array([drawing.parameters[name] for name in names], np.float32)
            made.append(NamedDrawing(picture, mask, parameters, lab_statistics(picture)))
            bar.advance(index + 1, c.drawings)
    return made


def _draw(c: PhantomEncoderConfig, seed: int, index: int, side: int) -> Drawing:
    own = (c.tissue,) if c.phantom == "tissue" else ()
    drawing: Drawing = generator(c.phantom).draw(np.random.default_rng([seed, index]), (side, side), c.um_per_px / c.finer, *own)
    return drawing


def named_batches(lessons: list[NamedDrawing], centre: NDArray, spread: NDArray, c: PhantomEncoderConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step, a pure function of (seed, step): x (b, 3, size, size), mask (b, size/4, size/4), parameters (b, p) less `centre` over `spread`."""

    def item(rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
        lesson = lessons[int(rng.integers(len(lessons)))]
        matrix = view_matrix(rng, lesson.picture.shape[:2], c.size, zoom=c.zoom)
        crop = view(lesson.picture, matrix, c.size)
        x = standardised(crop, lesson.statistics if rng.random() < 0.5 else None)  # in use, a picture may be large or a small crop
        mask = to_size(view(lesson.mask, matrix, c.size), (c.size // MASK_STRIDE,) * 2) / 255
        return colour_shift(rng, x, c.colour), mask.astype(np.float32), ((lesson.parameters - centre) / spread).astype(np.float32)

    def batch(step: int) -> Batch:
        items = [item(np.random.default_rng([seed, step, k])) for k in range(c.train.batch)]
        return {name: torch.from_numpy(np.stack(column)) for name, column in zip(("x", "mask", "parameters"), zip(*items, strict=True), strict=True)}

    return batch


def _corner(picture: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    row, col = rng.integers(0, picture.shape[0] - size + 1), rng.integers(0, picture.shape[1] - size + 1)
    return picture[row : row + size, col : col + size]


def _stacked(pictures: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack([standardised(p) for p in pictures]))
