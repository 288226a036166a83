"""How retinal vessels run: trees that leave a disc, bend as a bounded random walk, part by Murray's law, and grow thin.

Lengths are pixels of a field 540 px wide, points (row, col), angles radians from the column axis towards the row axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP = 3.0  # px between the points of a branch
MOST_BRANCHES = 900


@dataclass(frozen=True)
class Branch:
    """A vessel between two partings."""

    points: NDArray  # (n, 2) float row, col
    widths: NDArray  # (n,) float px
    tree: int  # number of its tree, from 1
    artery: bool


@dataclass(frozen=True)
class Habit:
    """What all vessels of one picture have in common."""

    bend: float  # SD of the change of curvature a step, radians
    most_bend: float  # bound of the curvature, radians a step
    parting: float  # typical length between partings, in vessel widths
    taper: float  # share of the width lost in 100 px
    least: float  # width at which a branch ends, px
    asymmetry: float  # 0 both children alike … 1 one much thinner
    spread: float  # angle between children, radians


def grow(rng: np.random.Generator, root: NDArray, angle: float, width: float, habit: Habit, tree: int, artery: bool, size: float) -> list[Branch]:
    """One tree from `root` (row, col): branches until they are thin or leave the square (0, size)². At most 900."""
    queue = [(np.asarray(root, float), angle, width, 0.0)]
    branches: list[Branch] = []
    while queue and len(branches) < MOST_BRANCHES:
        start, heading, wide, curl = queue.pop()
        if wide < habit.least:
            continue
        length = min(max(rng.exponential(habit.parting * (wide + 3)), 6.0), 220.0)
        count = max(int(length / STEP), 2)
        curvature = []
        for kick in (habit.bend * rng.standard_normal(count)).tolist():  # a random walk that forgets and is bounded
            curl = min(max(0.92 * curl + kick, -habit.most_bend), habit.most_bend)
            curvature.append(curl)
        headings = heading + np.cumsum(curvature)
        steps = STEP * np.stack([np.sin(headings), np.cos(headings)], 1)
        points = np.vstack([start, start + np.cumsum(steps, 0)])
        widths = wide * (1 - habit.taper * STEP / 100) ** np.arange(count + 1)
        ended = (np.abs(points - size / 2) > size / 2 + 12).any(1) | (widths < habit.least)
        end = int(ended.argmax()) if ended.any() else count + 1
        if end >= 2:
            branches.append(Branch(points[:end], widths[:end], tree, artery))
        if end <= count:
            continue
        queue += _children(rng, points[-1], float(headings[-1]), float(widths[-1]), curl, habit)
    return branches


def _children(rng: np.random.Generator, at: NDArray, heading: float, width: float, curl: float, habit: Habit) -> list[tuple[NDArray, float, float, float]]:
    """Two vessels where one was: w³ = w₁³ + w₂³ (Murray 1926); the thinner one turns off more."""
    share = max(0.5 - 0.47 * habit.asymmetry * rng.random() ** 0.5, 0.03)
    thick, slim = width * (1 - share) ** (1 / 3), width * share ** (1 / 3)
    side = 1.0 if rng.random() < 0.5 else -1.0
    turn = habit.spread * rng.uniform(0.6, 1.4)
    lean = slim**2 / (thick**2 + slim**2)
    grown = [(at, heading - side * turn * lean, thick, curl)]
    if slim >= habit.least:
        grown.append((at, heading + side * turn * (1 - lean), slim, 0.0))
    return grown
