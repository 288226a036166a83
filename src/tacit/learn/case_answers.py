"""What every pipeline of `tacit classify` is asked and answers. A case is a stack of prepared slices; what a pipeline keeps of it lies on disk.

look(slices, seed)                 learns what needs no label from a draw of slices (h, w) uint8; may do nothing
kept(stack)                        what is kept of a case, stack (s, h, w) uint8 → arrays by name, slices along the first axis of each
fit(cases, labels, groups, shop)   teaches members that each left patients out; gives each case's probabilities out of fold and what was chosen
answers(cases)                     the members' answers to cases as they were kept
device                             where its networks answer
SEARCH                             settings that `--tune` may change; {} where it may not (learn/search_space.py)
whole(config)                      settings with what the named model brings laid below them; a pipeline without models has none
maps(case)                         where in its slices the evidence lies, (m, h, w) in 0–1, m slices evenly along it; None where a pipeline cannot say
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.learn.workshop import Workshop

Rows = NDArray[np.float64]
Kept = Mapping[str, NDArray[Any]]  # of one case


@dataclass(frozen=True)
class Answers:
    """p (n, k), the lowest and highest member's (n, k), and the slices' (s, k) of each case."""

    p: Rows
    low: Rows
    high: Rows
    slices: list[Rows]


class Pipeline(Protocol):
    """What `use/classify_fit.py` asks of a way to classify; also an nn.Module, worth saving whole. Its config begins with `classes` and `unit`."""

    CLASSES: tuple[str, ...]
    config: Any
    device: str
    HEAT: str  # what the heat of its maps says, in words

    def look(self, slices: list[NDArray[np.uint8]], seed: int) -> None: ...

    def kept(self, stack: NDArray[np.uint8]) -> dict[str, NDArray[Any]]: ...

    def fit(self, cases: Sequence[Kept], labels: NDArray[np.int64], groups: NDArray[Any], shop: Workshop) -> tuple[Rows, list[Any]]: ...

    def answers(self, cases: Sequence[Kept]) -> Answers: ...

    def maps(self, case: Kept) -> NDArray[np.float32] | None: ...


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` places among `count`, evenly apart."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, most))).astype(np.int64))
