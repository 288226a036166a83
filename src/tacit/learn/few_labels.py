"""A network that was pretrained without labels learns to segment from masks of a few pictures: the one place where labels teach, asked for by name.

The protocol of Chen et al. 2021 (arXiv 2108.09440, section 4.1): the encoder is loaded, the decoder is new; Dice loss, Adam 1e-3; first the encoder stands
still, then all learns; a fifth of the labelled pictures chooses the epoch. Ours differs: with fewer than five labelled pictures none is put aside and
the last weights stay; cross-entropy is an option; a U-Net taught by drawings starts with its decoder too; fewer steps, for a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count, Share
from tacit.errors import InputError
from tacit.learn.few_frames import Plane, Seen, seen_by
from tacit.learn.few_networks import ENCODER, FewNetworkConfig, Start, fill, network_of
from tacit.learn.workshop import Workshop
from tacit.parts.loss import soft_dice
from tacit.parts.train import Batch, TrainConfig
from tacit.prepare.views import colour_shift

SIDES = {"fundus": 540, "chest": 128}  # px of the frame; of others 256
ENOUGH = 5  # labelled pictures from which some are put aside
WINDOW, MARGIN = 512, 64  # px of the frame; a larger picture is answered in such windows, so that memory stays flat


class FewViewsConfig(Config):
    size: Count = 160  # px of the frame a side of a training view
    zoom: Share = 0.2  # views are zoomed by up to ± this share
    turn: Annotated[float, Field(ge=0, le=180)] = 15.0  # and turned by up to ± this, degrees
    shift: Share = 0.1  # and may reach beyond the frame by up to this share of their side
    flip: Share = 0.5  # probability of a mirrored view; 0 where left and right differ
    colour: Annotated[float, Field(ge=0)] = 0.15  # SD of the change of each channel's contrast and level, in SDs of the picture


class FewLabelsConfig(Config):
    classes: tuple[str, ...] = ("structure",)  # names of the masks' values 1, 2 …; given by --classes
    start: str = "random"  # what taught the network before; given by --model
    network: FewNetworkConfig = FewNetworkConfig()
    side: Count | None = None  # px of the frame: shorter side, field's diameter (fundus), or square (chest); none = --model's, else 256, 540, 128
    views: FewViewsConfig = FewViewsConfig()
    cross_entropy: Annotated[float, Field(ge=0)] = 0.0  # weight of the cross-entropy beside the Dice loss
    held_out: Share = 0.2  # share of the labelled pictures that chooses the epoch, where there are five or more; 0 = none
    frozen: TrainConfig = TrainConfig(epochs=4, steps=25, batch=4, lr=1e-3, weight_decay=0.0, schedule="constant", average=0.0)  # encoder still
    whole: TrainConfig = TrainConfig(epochs=8, steps=25, batch=4, lr=1e-3, weight_decay=0.0, schedule="poly", average=0.0)  # all learns

    @property
    def frame(self) -> int:
        """px of the frame."""
        return self.side or SIDES.get(self.network.kind, 256)


PRESETS = {  # network.kind → settings that go with it
    "fundus": {"views": {"size": 128, "turn": 180.0}},
    "chest": {"views": {"size": 128, "flip": 0.0}},
}


@dataclass(frozen=True)
class Labelled:
    """A picture before the network with its truth."""

    seen: Seen
    target: Plane  # (k, h, w) in 0–1

    @classmethod
    def of(cls, seen: Seen, planes: NDArray[np.bool_]) -> Labelled:
        """planes: the truth at the picture's own size, (k, H, W)."""
        return cls(seen, np.stack([seen.lay(plane.astype(np.float32)) for plane in planes]))


class FewLabels(nn.Module):
    """Logits of the classes for pictures in the frame, (b, c, h, w) → (b, k, h, w)."""

    Config = FewLabelsConfig

    labels_used: Tensor

    def __init__(self, config: FewLabelsConfig | None = None) -> None:
        super().__init__()
        self.config = config or FewLabelsConfig()
        self.CLASSES = self.config.classes
        self.network = network_of(self.config.network, len(self.CLASSES))
        self.register_buffer("labels_used", torch.zeros((), dtype=torch.int64))  # masks that taught it
        self.frozen = False

    @property
    def default_classes(self) -> tuple[str, ...]:
        """What is written where nothing is asked for: all that was marked."""
        return self.CLASSES

    @property
    def encoder(self) -> nn.Module:
        """What stands still at first."""
        return self.network.get_submodule(ENCODER[self.config.network.kind])

    def begin(self, start: Start) -> list[str]:
        """Takes the weights of an earlier run; gives their names. Raises UsageError naming those that do not fit."""
        return fill(self.network, self.config.network, start, self.CLASSES)

    def train(self, mode: bool = True) -> FewLabels:
        """As every module; a frozen encoder stays in eval mode, so that its batch statistics stand still too."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.network(x)
        return answer

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """batch: x (b, c, h, w), target (b, k, h, w) in 0–1, weight (b, 1, h, w)."""
        logits, target = self(batch["x"]).float(), batch["target"]
        weight = batch["weight"].expand_as(target)
        loss = dice = soft_dice(logits, target, weight)
        if self.config.cross_entropy:
            each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
            loss = loss + self.config.cross_entropy * (each * weight).sum() / weight.sum().clamp_min(1.0)
        return {"loss": loss, "dice_loss": dice.detach()}

    def seen(self, picture: NDArray) -> Seen:
        """A picture of any size before this network. Raises InputError where its frame cannot hold it."""
        return seen_by(self.config.network.kind, picture, self.config.frame)

    def working(self, picture: NDArray) -> Plane:
        """What the network sees of a picture, (c, h, w). Raises InputError as `seen`."""
        return self.seen(picture).planes

    def teach(self, labelled: list[Labelled], shop: Workshop) -> FewLabels:
        """Learns from pictures with their truth, in place: the encoder still, then all; a network with random weights learns as a whole from the first step.

        Of five or more a fifth, drawn by the seed, chooses the weights by its Dice and teaches nothing. Raises InputError for no picture.
        """
        c, n = self.config, len(labelled)
        if not n:
            raise InputError("no labelled picture is left to learn from; give at least one mask of a picture")
        aside = set(np.random.default_rng([shop.seed, 91]).permutation(n)[: max(round(c.held_out * n), 1)].tolist()) if n >= ENOUGH and c.held_out else set()
        teaching, judging = [x for i, x in enumerate(labelled) if i not in aside], [labelled[i] for i in sorted(aside)]
        judge = (lambda module: held_out_dice(module, judging)) if judging else None
        still = c.start != "random"
        kept: dict[str, Tensor] = {}
        for number, (stage, train) in enumerate(((("frozen" if still else "first"), c.frozen), ("whole", c.whole))):
            if train.total:
                self._freeze(still and number == 0)
                batches = view_batches(teaching, train.batch, c.views, 1000 * shop.seed + number)
                shop.train(stage, self, batches, train, seed=1000 * shop.seed + number, best_by=judge, judged="dice of held-out labels")
                kept = kept or {name: value.detach().clone() for name, value in self.state_dict().items()}
        self._freeze(False)
        scores = [note["score"] for note in shop.chosen.values() if "score" in note]
        if len(scores) == 2 and scores[0] > scores[1]:  # learning all of it made it worse
            self.load_state_dict(kept)
            shop.say(f"the first stage's weights stay: held-out Dice {scores[0]:.3f} against {scores[1]:.3f}")
        self.labels_used.fill_(n)
        return self.eval()

    def _freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)

    def probability(self, picture: NDArray) -> NDArray[np.float32]:
        """The classes at the picture's own size, (k, H, W) in 0–1. Raises InputError as `seen`."""
        seen = self.seen(picture)
        return np.stack([np.clip(seen.back(plane), 0, 1) for plane in in_windows(self, seen.planes)])

    def field(self, picture: NDArray) -> NDArray[np.bool_]:
        """Where it looks, (H, W): the field of view of a retina, else everywhere."""
        if self.config.network.kind != "fundus":
            return np.ones((picture.shape[0], picture.shape[1]), bool)
        seen = self.seen(picture)
        return seen.back(np.ones_like(seen.inside)) > 0


@torch.no_grad()
def in_windows(network: nn.Module, planes: Plane) -> Plane:
    """The sigmoid of a network's logits for planes (c, h, w) → (k, h, w); memory does not grow with the picture beyond the planes themselves."""
    h, w = planes.shape[1:]
    device, answer = next(network.parameters()).device, None
    for top in range(0, h, WINDOW):
        for left in range(0, w, WINDOW):
            low, right, a, b = min(top + WINDOW, h), min(left + WINDOW, w), max(top - MARGIN, 0), max(left - MARGIN, 0)
            x = torch.from_numpy(np.ascontiguousarray(planes[None, :, a : low + MARGIN, b : right + MARGIN]))
            with torch.autocast(device.type, torch.bfloat16):
                logits = network(x.to(device, memory_format=torch.channels_last))
            p = torch.sigmoid(logits.float())[0].cpu().numpy()
            answer = np.empty((len(p), h, w), np.float32) if answer is None else answer
            answer[:, top:low, left:right] = p[:, top - a : low - a, left - b : right - b]
    assert answer is not None  # a picture has at least one pixel
    return answer


def held_out_dice(network: nn.Module, judging: list[Labelled]) -> float:
    """Mean Dice, over pictures and those classes that a picture shows, inside the frame; 0–1."""
    found = []
    for one in judging:
        for p, target in zip(in_windows(network, one.seen.planes), one.target, strict=True):
            a, t = (p > 0.5) & (one.seen.inside > 0), (target > 0.5) & (one.seen.inside > 0)
            if t.any():
                found.append(2 * float((a & t).sum()) / float(a.sum() + t.sum()))
    return float(np.mean(found)) if found else 0.0


def view_batches(labelled: list[Labelled], count: int, views: FewViewsConfig, seed: int) -> Callable[[int], Batch]:
    """The batch of a step: views of pictures in turn, each at a random place; a pure function of (seed, step)."""

    def batch(step: int) -> Batch:
        items = []
        for item in range(count):
            rng = np.random.default_rng([seed, step, item])
            items.append(_view(labelled[int(rng.integers(len(labelled)))], views, rng))
        return {key: torch.from_numpy(np.stack([one[key] for one in items])) for key in items[0]}

    return batch


def _view(one: Labelled, c: FewViewsConfig, rng: np.random.Generator) -> dict[str, Plane]:
    """A square view of a picture and its truth; what lies beyond the frame is mirrored and teaches nothing."""
    shape, half = np.array(one.target.shape[1:], float), c.size / 2
    scale, angle = float(np.exp(rng.uniform(-1, 1) * np.log1p(c.zoom))), np.deg2rad(rng.uniform(-c.turn, c.turn))
    mirror = -1.0 if rng.random() < c.flip else 1.0
    room = np.maximum(shape / 2 - half, 0) + c.shift * c.size
    row, col = shape / 2 - 0.5 + rng.uniform(-1, 1, 2) * room
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    matrix = np.hstack([linear, (np.array([col, row]) - linear @ np.full(2, (c.size - 1) / 2))[:, None]])
    x = colour_shift(rng, _warped(one.seen.planes, matrix, c.size, cv2.BORDER_REFLECT_101), c.colour)
    weight = _warped(one.seen.inside[None], matrix, c.size, cv2.BORDER_CONSTANT)
    return {"x": x, "target": _warped(one.target, matrix, c.size, cv2.BORDER_CONSTANT), "weight": weight}


def _warped(planes: Plane, matrix: NDArray[np.float64], size: int, beyond: int) -> Plane:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(plane, matrix, (size, size), flags=flags, borderMode=beyond) for plane in planes])
