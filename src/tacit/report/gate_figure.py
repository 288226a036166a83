"""The number by which a gate sends cases to its branches, by class, as PNG bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.report.classes import Labels
from tacit.report.figures import COLOURS, as_png, bare, figure


def gate_plot(numbers: NDArray[np.float64], labels: Labels, classes: tuple[str, ...], threshold: float, name: str) -> bytes:
    """A row of points a class, the threshold as a line. numbers and labels (n,). A long tail is shown on a scale of logarithms."""
    drawn = figure(8.4, 1.3 + 0.5 * len(classes))
    axis = drawn.subplots()
    rng = np.random.default_rng(0)
    for j in range(len(classes)):
        own = numbers[labels == j]
        axis.scatter(own, j + 0.22 * rng.uniform(-1, 1, len(own)), s=14, color=COLOURS[j % len(COLOURS)], alpha=0.65, linewidths=0)
    axis.axvline(threshold, color="#1c2733", lw=1.2)
    if numbers.min() >= 0 and numbers.max() > 20 * max(float(np.median(numbers)), 1e-9):
        start = max(float(np.median(numbers)), 1.0)
        axis.set_xscale("symlog", linthresh=start)
        axis.set_xlim(-0.1 * start, 1.4 * float(numbers.max()))
    axis.annotate("low ", (threshold, 1), xycoords=("data", "axes fraction"), ha="right", va="bottom", fontsize=9)
    axis.annotate(" high", (threshold, 1), xycoords=("data", "axes fraction"), ha="left", va="bottom", fontsize=9)
    axis.set_yticks(range(len(classes)), [f"{kind} ({int((labels == j).sum())})" for j, kind in enumerate(classes)], fontsize=9)
    axis.set_ylim(-0.6, len(classes) - 0.4)
    axis.set_xlabel(name, fontsize=9)
    bare(axis)
    return as_png(drawn)
