"""Cases → classes by two levels: a classifier of slices, then one of what it says along a series; several members that each left patients out.

A member is taught without one fold of the patients: its slice classifier (texture, learn/block_vote.py, or a network, learn/slice_network.py) on their
slices, each with its case's class; its second level (learn/second_level.py) on slice probabilities that are out of fold inside the member's own part. The
member's fold is then scored by a pipeline that knew nothing of it. The answer to a new case is the mean of the members; their spread is its interval.
Texture and a network may both be asked, and volumes have one more witness: what a network taught by drawn patients saw of lesions (learn/lesion_vote.py);
how much each is believed is learnt out of fold (learn/pooling.py). Single pictures have neither a second level nor lesions. He et al. 2020 (Self-Trans) and
the slides vote over epochs; voting over folds is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from tacit.config import Config, Count
from tacit.errors import InputError
from tacit.learn.block_vote import BlockVote
from tacit.learn.case_answers import Answers, Kept, Rows, evenly
from tacit.learn.case_network import CaseNetworkConfig
from tacit.learn.lesion_taught import LesionTaught, LesionTaughtConfig
from tacit.learn.lesion_vote import BLOCK, LesionVote
from tacit.learn.pooling import fit_pool, pooled, pooled_out_of_fold
from tacit.learn.search_space import Choice, Space, Span
from tacit.learn.second_level import SecondLevel, SecondLevelConfig
from tacit.learn.slice_network import PIXELS, SliceNetwork, pixels_of
from tacit.learn.slice_texture import SliceTexture, SliceTextureConfig
from tacit.learn.table_classifier import TableConfig, grouped_folds
from tacit.learn.workshop import Workshop

TEXTURE, NETWORK = "texture", "network"  # the witnesses of slices
SHOWN = 16  # slices of which a network's evidence is shown, at most
MAP = "lesion_map"  # what `TwoLevel.kept` calls the probability of a lesion, 0–255


class TwoLevelConfig(Config):
    classes: tuple[str, ...] = ("no", "yes")  # their names, sorted; given by --labels
    unit: Literal["picture", "series"] = "picture"  # what a case is
    members: Annotated[int, Field(ge=2)] = 5  # folds of the patients, one member each
    inner: Annotated[int, Field(ge=2)] = 3  # folds inside a member, for its second level
    slices: Count = 24  # of a series that teach, evenly along it
    rows: Count = 800  # slices that teach a member at most, drawn by the seed
    witness: Literal["texture", "network", "both"] = "texture"  # what classifies slices; --model and --weights ask for a network
    texture: SliceTextureConfig = SliceTextureConfig()
    slice_network: CaseNetworkConfig = CaseNetworkConfig()  # of witness=network; taught members × (inner + 1) times for series, members times for pictures
    first: TableConfig = TableConfig(vote="best", c=(0.1, 1.0, 10.0), gamma=(0.1, 1.0), rounds=(100,), depth=(3,), folds=3)  # members × (inner + 1) times
    second: SecondLevelConfig = SecondLevelConfig()
    lesions: bool = True  # series alone: a network taught by drawn patients says where lesions lie; off where --steps prepares them otherwise than it learnt
    lesion_network: LesionTaughtConfig = LesionTaughtConfig()  # its weights come with Tacit; with other settings it is taught first, twenty minutes

    @property
    def sees_lesions(self) -> bool:
        return self.lesions and self.unit == "series"

    @property
    def of_slices(self) -> tuple[str, ...]:
        """The witnesses that classify slices."""
        return (TEXTURE, NETWORK) if self.witness == "both" else (self.witness,)


SEARCH: Space = {  # what --tune may change
    "texture.side": Choice((64, 96, 128, 192)),
    "texture.grid": Choice((1, 2, 3)),
    "texture.radii": Choice(((1.0,), (1.0, 2.0, 3.0), (1.0, 3.0, 5.0))),
    "texture.words": Span(50, 300, log=True),
    "first.c": Choice(((0.1, 1.0, 10.0), (0.01, 0.1, 1.0), (1.0, 10.0, 100.0))),
    "first.gamma": Choice(((0.1, 1.0), (0.01, 0.1, 1.0), (1.0, 10.0))),
    "first.vote": Choice(("best", "soft")),
    "second.length": Span(8, 32, log=True, series=True),
    "second.how": Choice(("nearest", "linear", "area", "cubic"), series=True),
}


class Member(nn.Module):
    """Classifiers of slices, for series each with a second level, and where lesions are looked for what those tell."""

    def __init__(self, config: TwoLevelConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.ModuleDict({name: self._new(name) for name in config.of_slices})
        self.second = nn.ModuleDict({name: SecondLevel(config.second) for name in self.first} if config.unit == "series" else {})
        self.lesions = LesionVote(config.first, config.second.table) if config.sees_lesions else None

    def fit(self, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray, seed: int, shop: Workshop, stage: str) -> dict[str, Any]:
        """Learns from cases with their classes 0 … k − 1 and patients. In place. stage: the member's name in the workshop."""
        chosen: dict[str, Any] = {}
        for name, first in self.first.items():
            chosen[f"{name} of slices"] = self._teach(first, cases, labels, groups, seed, shop, stage)
            if name not in self.second:
                continue
            curves: list[Rows] = [np.zeros((0, 0))] * len(cases)
            for number, (train, test) in enumerate(grouped_folds(labels, groups, self.config.inner, seed + 1)):
                other = self._new(name)
                self._teach(other, [cases[i] for i in train], labels[train], groups[train], seed, shop, f"{stage}-{number}")
                for i in test:
                    curves[i] = other.probabilities(cases[i])
            second = self.second[name]
            assert isinstance(second, SecondLevel)
            chosen[f"{name} of series"] = second.fit(curves, labels, groups, seed)
        if self.lesions is not None:
            chosen["lesions"] = self.lesions.fit(cases, self._picked(cases, seed), labels, groups, seed)
        return chosen

    def answers(self, case: Kept) -> tuple[Rows, Rows]:
        """What each witness says of a case, (b, k), and of its slices, (b, s, k)."""
        found, seconds = [], dict(self.second.items())
        for name, first in self.first.items():
            assert isinstance(first, BlockVote | SliceNetwork)
            curve = first.probabilities(case)
            second = seconds.get(name)
            found.append((second.probabilities([curve])[0] if isinstance(second, SecondLevel) else curve[0], curve))
        if self.lesions is not None:
            found.append(self.lesions.answers(case))
        return np.stack([answer for answer, _ in found]), np.stack([curve for _, curve in found])

    def _new(self, name: str) -> BlockVote | SliceNetwork:
        c = self.config
        return BlockVote(SliceTexture.BLOCKS, c.first) if name == TEXTURE else SliceNetwork(c.slice_network, len(c.classes))

    def _teach(
        self, first: nn.Module, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray, seed: int, shop: Workshop, stage: str
    ) -> dict[str, Any]:
        picked = self._picked(cases, seed)
        if isinstance(first, SliceNetwork):
            return first.fit(cases, picked, labels, seed, shop, stage)
        assert isinstance(first, BlockVote)
        blocks = {name: np.stack([cases[i][name][s] for i, s in picked]) for name in SliceTexture.BLOCKS}
        own = np.array([i for i, _ in picked])
        return first.fit(blocks, labels[own], groups[own], seed)

    def _picked(self, cases: Sequence[Kept], seed: int) -> list[tuple[int, int]]:
        """The (case, slice) that teach."""
        picked = [(i, int(s)) for i, case in enumerate(cases) for s in evenly(len(next(iter(case.values()))), self.config.slices)]
        if len(picked) > self.config.rows:
            keep = np.sort(np.random.default_rng([seed, 102]).permutation(len(picked))[: self.config.rows])
            picked = [picked[int(j)] for j in keep]
        return picked


class TwoLevel(nn.Module):
    """The members and how much each witness is believed. `texture` describes slices; its words are learnt without labels, once for all members.

    `lesions` is there for series: give it its weights (`use.taught.give_weights`), as it learns from drawings, not from cases.
    """

    Config = TwoLevelConfig
    SEARCH = SEARCH
    HEAT = "The heat is where the lesion network marks lesions, whatever class is named; without it, where a network of slices finds its evidence."
    device = "cpu"
    weights: Tensor
    used: Tensor

    def __init__(self, config: TwoLevelConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TwoLevelConfig()
        if len(c.classes) < 2 or len(set(c.classes)) < len(c.classes):
            raise InputError(f"classes {c.classes}: at least two different names are expected")
        self.CLASSES = c.classes
        self.texture = SliceTexture(c.texture) if TEXTURE in c.of_slices else None
        self.lesions = LesionTaught(c.lesion_network).eval() if c.sees_lesions else None
        self.members = nn.ModuleList(Member(c) for _ in range(c.members))
        self.register_buffer("weights", torch.ones(len(c.of_slices) + c.sees_lesions, dtype=torch.float64))  # of the witnesses; of one alone 1 / temperature
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))  # members that were taught: fewer where there are fewer patients

    @property
    def least_patients(self) -> int:
        """Of a class: for the members' folds, the second level's inside them, and the grids' inside these."""
        return 4 if self.config.unit == "series" else 3

    def look(self, slices: list[NDArray[np.uint8]], seed: int) -> None:
        """Learns the words of texture, without labels. In place."""
        if self.texture is not None:
            self.texture.fit(slices, seed)

    def kept(self, stack: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The slices (s, h, w) of a case: texture's blocks (s, d) float32 by name, PIXELS (s, size, size) for a network, and where lesions lie, MAP (s, h, w)."""
        found: dict[str, NDArray[Any]] = {}
        if self.texture is not None:
            each = [self.texture.blocks(plane) for plane in stack]
            found |= {block: np.stack([e[block] for e in each]) for block in each[0]}
        if NETWORK in self.config.of_slices:
            found[PIXELS] = pixels_of(stack, self.config.slice_network.size)
        if self.lesions is not None:
            self.lesions.to(self.device)
            table, maps = self.lesions.looked(stack)
            found |= {BLOCK: table, MAP: np.round(255 * maps).astype(np.uint8)}
        return found

    def fit(self, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray[Any], shop: Workshop) -> tuple[Rows, list[Any]]:
        """Teaches the members. In place. Gives each case's probabilities out of fold, (n, k), and what the members chose.

        Raises InputError where a class has patients for one side only.
        """
        parts = list(grouped_folds(labels, groups, self.config.members, shop.seed))
        out_of_fold, chosen = np.zeros((len(self.weights), len(cases), len(self.CLASSES))), []
        with shop.bar("members") as bar:
            for number, (train, test) in enumerate(parts):
                member = self.members[number]
                assert isinstance(member, Member)
                chosen.append(member.fit([cases[i] for i in train], labels[train], groups[train], shop.seed + 10 * number, shop, f"member{number}"))
                for i in test:
                    out_of_fold[:, i] = member.answers(cases[i])[0]
                bar.advance(number + 1, len(parts))
        self.weights.copy_(torch.from_numpy(fit_pool(out_of_fold, labels)))
        self.used.fill_(len(parts))
        return pooled_out_of_fold(out_of_fold, labels, parts), chosen

    def answers(self, cases: Sequence[Kept]) -> Answers:
        """What the members say of new cases."""
        weights = self.weights.numpy()
        each = [[member.answers(case) for member in self._taught()] for case in cases]
        p = np.stack([pooled(np.stack([answer for answer, _ in of_case], 1), weights) for of_case in each])  # (n, members, k)
        slices = [np.asarray(np.mean([pooled(curve, weights) for _, curve in of_case], axis=0)) for of_case in each]
        return Answers(np.asarray(p.mean(1)), np.asarray(p.min(1)), np.asarray(p.max(1)), slices)

    def maps(self, case: Kept) -> NDArray[np.float32] | None:
        """Where lesions lie, (s, h, w) in 0–1; where only a network sees slices, its evidence for their likeliest class, (m, size, size); None for texture, which tells no place."""
        if MAP in case:
            return np.asarray(case[MAP] / 255, np.float32)
        if PIXELS not in case:
            return None
        shown = case[PIXELS][evenly(len(case[PIXELS]), SHOWN)]
        mean = np.mean([first.evidence(shown) for member in self._taught() for first in member.first.values() if isinstance(first, SliceNetwork)], axis=0)
        return np.asarray(mean / max(float(mean.max()), 1e-12), np.float32)

    def _taught(self) -> list[Member]:
        return [member for member in list(self.members)[: int(self.used)] if isinstance(member, Member)]
