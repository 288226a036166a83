"""Cases → classes by two levels: a classifier of slices, then one of what it says along a series; several members that each left patients out.

A member is taught without one fold of the patients: its slice classifier (learn/block_vote.py) on their slices, each with its case's class; its
second level (learn/second_level.py) on slice probabilities that are out of fold inside the member's own part. The member's fold is then scored by a
pipeline that knew nothing of it. The answer to a new case is the mean of the members, warmed (learn/temperature.py); their spread is its interval.
Volumes have a second witness: what a network taught by drawn patients saw of lesions (learn/lesion_vote.py); how much each is believed is learnt out of
fold (learn/pooling.py). Single pictures have neither a second level nor that witness. He et al. 2020 (Self-Trans) and the slides vote over epochs; voting over folds is ours.
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
from tacit.learn.lesion_taught import LesionTaught, LesionTaughtConfig
from tacit.learn.lesion_vote import BLOCK, LesionVote
from tacit.learn.pooling import fit_pool, pooled, pooled_out_of_fold
from tacit.learn.search_space import Choice, Space, Span
from tacit.learn.second_level import SecondLevel, SecondLevelConfig
from tacit.learn.slice_texture import SliceTexture, SliceTextureConfig
from tacit.learn.table_classifier import TableConfig, grouped_folds
from tacit.learn.workshop import Workshop

MAP = "lesion_map"  # what `TwoLevel.kept` calls the probability of a lesion, 0–255


class TwoLevelConfig(Config):
    classes: tuple[str, ...] = ("no", "yes")  # their names, sorted; given by --labels
    unit: Literal["picture", "series"] = "picture"  # what a case is
    members: Annotated[int, Field(ge=2)] = 5  # folds of the patients, one member each
    inner: Annotated[int, Field(ge=2)] = 3  # folds inside a member, for its second level
    slices: Count = 24  # of a series that teach, evenly along it
    rows: Count = 800  # slices that teach a member at most, drawn by the seed
    texture: SliceTextureConfig = SliceTextureConfig()
    first: TableConfig = TableConfig(vote="best", c=(0.1, 1.0, 10.0), gamma=(0.1, 1.0), rounds=(100,), depth=(3,), folds=3)  # members × (inner + 1) times
    second: SecondLevelConfig = SecondLevelConfig()
    lesions: bool = True  # series alone: a network taught by drawn patients says where lesions lie; off where --steps prepares them otherwise than it learnt
    lesion_network: LesionTaughtConfig = LesionTaughtConfig()  # its weights come with Tacit; with other settings it is taught first, twenty minutes

    @property
    def sees_lesions(self) -> bool:
        return self.lesions and self.unit == "series"


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
    """A slice classifier, and for series a second level; its witnesses are texture and, where they are looked for, lesions."""

    def __init__(self, config: TwoLevelConfig) -> None:
        super().__init__()
        self.config = config
        self.first = BlockVote(SliceTexture.BLOCKS, config.first)
        self.second = SecondLevel(config.second) if config.unit == "series" else None
        self.lesions = LesionVote(config.first, config.second.table) if config.sees_lesions else None

    def fit(self, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        """Learns from cases with their classes 0 … k − 1 and patients. In place."""
        chosen: dict[str, Any] = {"slices": self._teach(self.first, cases, labels, groups, seed)}
        if self.second is not None:
            curves: list[Rows] = [np.zeros((0, 0))] * len(cases)
            for train, test in grouped_folds(labels, groups, self.config.inner, seed + 1):
                other = BlockVote(SliceTexture.BLOCKS, self.config.first)
                self._teach(other, [cases[i] for i in train], labels[train], groups[train], seed)
                for i in test:
                    curves[i] = other.probabilities(cases[i])
            chosen["series"] = self.second.fit(curves, labels, groups, seed)
        if self.lesions is not None:
            chosen["lesions"] = self.lesions.fit(cases, self._picked(cases, seed), labels, groups, seed)
        return chosen

    def answers(self, case: Kept) -> tuple[Rows, Rows]:
        """What each witness says of a case, (b, k), and of its slices, (b, s, k)."""
        curve = self.first.probabilities(case)
        found = [(curve[0] if self.second is None else self.second.probabilities([curve])[0], curve)]
        if self.lesions is not None:
            found.append(self.lesions.answers(case))
        return np.stack([answer for answer, _ in found]), np.stack([curve for _, curve in found])

    def _teach(self, first: BlockVote, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray, seed: int) -> dict[str, Any]:
        picked = self._picked(cases, seed)
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
    HEAT = "The heat is where the lesion network marks lesions, whatever class is named."
    device = "cpu"
    weights: Tensor
    used: Tensor

    def __init__(self, config: TwoLevelConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TwoLevelConfig()
        if len(c.classes) < 2 or len(set(c.classes)) < len(c.classes):
            raise InputError(f"classes {c.classes}: at least two different names are expected")
        self.CLASSES = c.classes
        self.texture = SliceTexture(c.texture)
        self.lesions = LesionTaught(c.lesion_network).eval() if c.sees_lesions else None
        self.members = nn.ModuleList(Member(c) for _ in range(c.members))
        self.register_buffer("weights", torch.ones(1 + c.sees_lesions, dtype=torch.float64))  # of the witnesses; of one alone 1 / temperature
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))  # members that were taught: fewer where there are fewer patients

    @property
    def least_patients(self) -> int:
        """Of a class: for the members' folds, the second level's inside them, and the grids' inside these."""
        return 4 if self.config.unit == "series" else 3

    def look(self, slices: list[NDArray[np.uint8]], seed: int) -> None:
        """Learns the words of texture, without labels. In place."""
        self.texture.fit(slices, seed)

    def kept(self, stack: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """The slices (s, h, w) of a case as rows: block → (s, d) float32; and where lesions lie, MAP (s, h, w) uint8."""
        each = [self.texture.blocks(plane) for plane in stack]
        found: dict[str, NDArray[Any]] = {block: np.stack([e[block] for e in each]) for block in each[0]}
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
                chosen.append(member.fit([cases[i] for i in train], labels[train], groups[train], shop.seed + 10 * number))
                for i in test:
                    out_of_fold[:, i] = member.answers(cases[i])[0]
                bar.advance(number + 1, len(parts))
        self.weights.copy_(torch.from_numpy(fit_pool(out_of_fold, labels)))
        self.used.fill_(len(parts))
        return pooled_out_of_fold(out_of_fold, labels, parts), chosen

    def answers(self, cases: Sequence[Kept]) -> Answers:
        """What the members say of new cases."""
        weights = self.weights.numpy()
        taught = [member for member in list(self.members)[: int(self.used)] if isinstance(member, Member)]
        each = [[member.answers(case) for member in taught] for case in cases]
        p = np.stack([pooled(np.stack([answer for answer, _ in of_case], 1), weights) for of_case in each])  # (n, members, k)
        slices = [np.asarray(np.mean([pooled(curve, weights) for _, curve in of_case], axis=0)) for of_case in each]
        return Answers(np.asarray(p.mean(1)), np.asarray(p.min(1)), np.asarray(p.max(1)), slices)

    def maps(self, case: Kept) -> NDArray[np.float32] | None:
        """Where lesions lie, (s, h, w) in 0–1; None where they are not looked for: texture of whole slices tells no place."""
        return np.asarray(case[MAP] / 255, np.float32) if MAP in case else None
