"""A gate: one number of a case sends it to one of two pipelines, each taught by its own cases alone.

The number is one of prepare/gate.py, of every slice of the case; the slides' graygate (count-at-maximum) is the default, with high contrast to one branch and
low to the other. The threshold is given, or parts the cases into two clusters without labels, or is chosen by labels: by what the branches are worth out
of fold, inside folds of the patients. A branch leaves patients out as it always does and never sees the other side, so that what is said of a case comes
from members that none of its patient's cases taught, on whichever sides of the gate they lie. What a gate separates is shown in the report; graygate
counts saturated pixels of prepared slices, which tells how pictures were exported as readily as what is on them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from tacit.config import Config, Count, build
from tacit.errors import ConfigError, InputError, UsageError
from tacit.learn.case_answers import Answers, Kept, Pipeline, Rows
from tacit.learn.search_space import Choice, Space
from tacit.learn.table_classifier import grouped_folds
from tacit.learn.workshop import Workshop
from tacit.prepare.gate import GATES, two_clusters
from tacit.report.classes import area

Places = NDArray[np.int64]
BRANCHES = ("low", "high")
REMEDY = "give another --set threshold= or by=, or --pipeline two-level"
OVER: dict[str, Callable[[NDArray[Any]], Any]] = {"mean": np.mean, "median": np.median, "largest": np.max}


class BranchConfig(Config):
    pipeline: str = "two-level"  # any of --pipeline but gate
    settings: dict[str, Any] = {}  # of that pipeline, as in low.settings.members=3


class GatedConfig(Config):
    classes: tuple[str, ...] = ("no", "yes")  # their names, sorted; given by --labels
    unit: Literal["picture", "series"] = "picture"  # what a case is
    by: Literal["count-at-maximum", "rms-contrast", "entropy", "percentile-range"] = "count-at-maximum"  # the number, of a prepared slice
    over: Literal["mean", "median", "largest"] = "mean"  # how the slices of a case become one number
    threshold: float | Literal["clusters", "labels"] = "clusters"  # above it is high; clusters: between two, without labels; labels: as serves the branches
    low: BranchConfig = BranchConfig()
    high: BranchConfig = BranchConfig()
    folds: Annotated[int, Field(ge=2)] = 3  # of the patients, with threshold=labels
    candidates: Count = 3  # quantiles tried beside the clusters, with threshold=labels: some twenty rounds of teaching

    @model_validator(mode="after")
    def _whole(self) -> GatedConfig:
        for name in BRANCHES:
            _branch_config(self, name)
        return self


SEARCH: Space = {  # what --tune may change; the settings of the branches stay as they are
    "by": Choice(("count-at-maximum", "rms-contrast", "entropy", "percentile-range")),
    "over": Choice(("mean", "median", "largest")),
}


class Gated(nn.Module):
    """Two pipelines, `low` and `high`, and the threshold between them."""

    Config = GatedConfig
    SEARCH = SEARCH
    HEAT = "The heat is what the case's branch marks: lesions (two-level), or evidence for the named class (a network)."
    threshold: Tensor

    def __init__(self, config: GatedConfig | None = None) -> None:
        super().__init__()
        from tacit.learn.pipelines import pipeline_named

        c = self.config = config or GatedConfig()
        self.CLASSES = c.classes
        self.low, self.high = (pipeline_named(getattr(c, name).pipeline)(_branch_config(c, name)) for name in BRANCHES)
        self.same = c.low == c.high  # then what is kept of a case serves both
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))

    @property
    def device(self) -> str:
        """Where the branches' networks answer."""
        return str(self.low.device)

    @device.setter
    def device(self, device: str) -> None:
        self.low.device = self.high.device = device

    def look(self, slices: list[NDArray[np.uint8]], seed: int) -> None:
        """Both branches look at all slices: which side is whose is not known yet."""
        for branch in (self.low, self.high):
            branch.look(slices, seed)

    def kept(self, stack: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """gate: the number of each slice, (s,) · low.<name>, high.<name>: what the branches keep; low.<name> alone where they are the same."""
        found: dict[str, NDArray[Any]] = {"gate": np.array([GATES[self.config.by](plane) for plane in stack])}
        for name in BRANCHES[:1] if self.same else BRANCHES:
            found |= {f"{name}.{array}": values for array, values in getattr(self, name).kept(stack).items()}
        return found

    def numbers(self, cases: Sequence[Kept]) -> Rows:
        """The number of each case, (n,)."""
        return np.array([float(OVER[self.config.over](case["gate"])) for case in cases])

    def sides(self, numbers: Rows) -> NDArray[np.str_]:
        """The branch of each case, (n,): low or high."""
        return np.where(numbers > float(self.threshold), "high", "low")

    def fit(self, cases: Sequence[Kept], labels: Places, groups: NDArray[Any], shop: Workshop) -> tuple[Rows, list[Any]]:
        """Teaches the branches. In place. Gives each case's probabilities out of fold, (n, k), by the branch that it is sent to, and what each member chose.

        Raises InputError naming the branch that has too few patients of a class.
        """
        numbers, asked = self.numbers(cases), self.config.threshold
        blank = (copy.deepcopy(self.low), copy.deepcopy(self.high))
        if asked == "labels":
            everything = np.arange(len(cases))
            nested = self._nested(blank, cases, numbers, labels, groups, shop)
            self.threshold.fill_(self._best(blank, cases, everything, numbers, labels, groups, shop, "all"))
        else:
            self.threshold.fill_(self._clusters(numbers) if asked == "clusters" else float(asked))
        p, chosen = self._teach(cases, np.arange(len(cases)), self.sides(numbers), labels, groups, shop)
        return (nested if asked == "labels" else p), chosen

    def answers(self, cases: Sequence[Kept]) -> Answers:
        """What the branch of each new case says."""
        each = [getattr(self, side).answers(_Part(cases, np.array([i]), self._prefix(side))) for i, side in enumerate(self.sides(self.numbers(cases)))]
        p, low, high = (np.concatenate([getattr(answer, name) for answer in each]) for name in ("p", "low", "high"))
        return Answers(p, low, high, [answer.slices[0] for answer in each])

    def maps(self, case: Kept) -> NDArray[np.float32] | None:
        """Where in each slice the evidence lies, by the case's branch, (s, h, w) in 0–1; None where that pipeline cannot say."""
        side = str(self.sides(self.numbers([case]))[0])
        found: NDArray[np.float32] | None = getattr(self, side).maps(_Part([case], np.array([0]), self._prefix(side))[0])
        return found

    def _prefix(self, side: str) -> str:
        return f"{BRANCHES[0] if self.same else side}."

    def _teach(
        self, cases: Sequence[Kept], rows: Places, sides: NDArray[np.str_], labels: Places, groups: NDArray[Any], shop: Workshop
    ) -> tuple[Rows, list[Any]]:
        """Both branches by the cases `rows` of their side; all other arguments are of all cases. p (len(rows), k)."""
        p, chosen = np.zeros((len(rows), len(self.CLASSES))), []
        for side in BRANCHES:
            self._check(side, sides[rows], labels[rows], groups[rows])
        for side in BRANCHES:
            own = np.flatnonzero(sides[rows] == side)
            places = rows[own]
            branch: Pipeline = getattr(self, side)
            try:
                p[own], members = branch.fit(_Part(cases, places, self._prefix(side)), labels[places], groups[places], shop.inside(side))
            except InputError as error:  # too few for the folds inside a member, say
                raise InputError(f"branch {side} ({len(own)} cases of {len(np.unique(groups[places]))} patients): {error}; {REMEDY}") from error
            chosen += [{"branch": side, "member": member} for member in members]
        return p, chosen

    def _nested(self, blank: tuple[Any, Any], cases: Sequence[Kept], numbers: Rows, labels: Places, groups: NDArray[Any], shop: Workshop) -> Rows:
        """Out of fold with a threshold that the fold's own patients took no part in, (n, k)."""
        p = np.zeros((len(cases), len(self.CLASSES)))
        for number, (train, test) in enumerate(grouped_folds(labels, groups, self.config.folds, shop.seed + 2)):
            stage = f"fold{number}"
            self.threshold.fill_(self._best(blank, cases, train, numbers, labels, groups, shop, stage))
            self.low, self.high = copy.deepcopy(blank[0]), copy.deepcopy(blank[1])
            self._teach(cases, train, self.sides(numbers), labels, groups, shop.inside(stage))
            p[test] = self.answers([cases[i] for i in test]).p
        self.low, self.high = copy.deepcopy(blank[0]), copy.deepcopy(blank[1])
        return p

    def _best(
        self, blank: tuple[Any, Any], cases: Sequence[Kept], rows: Places, numbers: Rows, labels: Places, groups: NDArray[Any], shop: Workshop, stage: str
    ) -> float:
        """The threshold with which the branches, taught by the cases `rows`, have the largest area out of fold. Raises InputError where none leaves both teachable."""
        shares = (np.arange(self.config.candidates) + 1) / (self.config.candidates + 1)
        tried = sorted({self._clusters(numbers[rows]), *(float(q) for q in np.quantile(numbers[rows], shares))})
        best: tuple[float, float] | None = None
        why = ""
        for number, threshold in enumerate(tried):
            self.threshold.fill_(threshold)
            self.low, self.high = copy.deepcopy(blank[0]), copy.deepcopy(blank[1])
            try:
                p, _ = self._teach(cases, rows, self.sides(numbers), labels, groups, shop.inside(f"{stage}-{number}"))
            except InputError as error:
                why = str(error)
                continue
            score = area(p, labels[rows])
            if best is None or score > best[0] + 1e-9:
                best = score, threshold
        self.low, self.high = copy.deepcopy(blank[0]), copy.deepcopy(blank[1])
        if best is None:
            raise InputError(f"none of {len(tried)} thresholds leaves both branches enough to learn from; the last: {why}")
        return best[1]

    def _clusters(self, numbers: Rows) -> float:
        try:
            return two_clusters(numbers)
        except InputError as error:
            raise InputError(f"the gate's {self.config.by} is {numbers[0]:.4g} for every case, so it parts none; {REMEDY}") from error

    def _check(self, side: str, sides: NDArray[np.str_], labels: Places, groups: NDArray[Any]) -> None:
        for j, name in enumerate(self.CLASSES):
            own = (sides == side) & (labels == j)
            patients = len(np.unique(groups[own]))
            if patients < 2:
                raise InputError(
                    f"branch {side} ({self.config.by} {'above' if side == 'high' else 'up to'} {float(self.threshold):.4g}) has {int((sides == side).sum())} of "
                    f"{len(sides)} cases, of class {name!r} {int(own.sum())} of {patients} patients; at least two patients a class are expected; {REMEDY}"
                )  # fmt: skip


class _Part(Sequence[Kept]):
    """Some of the cases, of each what one branch keeps; read when it is asked for."""

    def __init__(self, cases: Sequence[Kept], places: Places, prefix: str) -> None:
        self.cases, self.places, self.prefix = cases, places, prefix

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Kept: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Kept]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _Part(self.cases, self.places[index], self.prefix)
        case: Mapping[str, NDArray[Any]] = self.cases[int(self.places[index])]
        return {name.removeprefix(self.prefix): array for name, array in case.items() if name.startswith(self.prefix)}


def _branch_config(c: GatedConfig, name: str) -> Any:
    """The whole settings of a branch. Raises ConfigError naming the branch."""
    from tacit.learn.pipelines import pipeline_named

    branch: BranchConfig = getattr(c, name)
    if branch.pipeline == "gate":
        raise ConfigError(f"{name}.pipeline='gate': a gate leads to no gate; name another pipeline")
    if taken := {"classes", "unit"} & branch.settings.keys():
        raise ConfigError(f"{name}.settings.{min(taken)} is no setting to change: classes come from --labels, what a case is from --unit")
    try:
        return build(pipeline_named(branch.pipeline).Config, {"classes": list(c.classes), "unit": c.unit}, branch.settings)
    except UsageError as error:
        raise ConfigError(f"{name}: {error}") from error
