"""Plots of several classifiers of the same cases, as PNG bytes: their ROC curves on one figure, F1 of each class as bars, confusions beside one another."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.report.classes import Labels, Rows, one_area
from tacit.report.figures import COLOURS, as_png, bare, figure
from tacit.report.models import HARD, SOFT
from tacit.report.pair_score import thresholds

VOTES = {SOFT: ("#1c2733", "--"), HARD: ("#7b8794", ":")}  # colour and line of what is no run
A_ROW = 4  # confusions


def rocs_plot(models: dict[str, Rows], labels: Labels, classes: tuple[str, ...]) -> bytes:
    """One panel a class against the rest (two classes: one panel, as the other one's is the same), one line a model."""
    shown = range(1, 2) if len(classes) == 2 else range(len(classes))
    drawn = figure(5.6 if len(shown) == 1 else 4.8 * min(len(shown), 3), (5.2 if len(shown) == 1 else 4.6) * -(-len(shown) // 3))
    panels = drawn.subplots(-(-len(shown) // 3), min(len(shown), 3), squeeze=False).ravel()
    for axis in panels[len(shown) :]:
        axis.axis("off")
    for axis, j in zip(panels, shown, strict=False):
        axis.plot([0, 1], [0, 1], color="#b9c4cf", lw=1)
        for number, (name, p) in enumerate(models.items()):
            found = thresholds(-p[:, j], labels == j)
            colour, line = VOTES.get(name, (COLOURS[number % len(COLOURS)], "-"))
            axis.plot(
                found.false_same,
                1 - found.false_different,
                line,
                color=colour,
                lw=1.7,
                alpha=0.9,
                label=f"{_short(name)}  {one_area(p[:, j], labels == j):.3f}",
            )
        axis.set_title(f"{classes[j]} against {classes[0] if len(classes) == 2 else 'the rest'}", fontsize=10)
        axis.set_xlabel("false positive rate", fontsize=9)
        axis.set_ylabel("true positive rate", fontsize=9)
        axis.set_aspect("equal")
        bare(axis)
        axis.legend(fontsize=8, frameon=False, loc="lower right", title="area", title_fontsize=8)
    return as_png(drawn)


def f1_plot(figures: dict[str, dict[str, Any]], classes: tuple[str, ...]) -> bytes:
    """F1 of each class, a bar a model, with 95% intervals. figures: of report.models.beside."""
    drawn = figure(max(5.6, 1.2 + len(classes) * (0.55 + 0.42 * len(figures))), 3.8)
    axis = drawn.subplots()
    width = 0.84 / len(figures)
    for number, (name, found) in enumerate(figures.items()):
        colour, line = VOTES.get(name, (COLOURS[number % len(COLOURS)], "-"))
        at = np.arange(len(classes)) + (number - (len(figures) - 1) / 2) * width
        f1 = np.array([row["f1"] for row in found["classes"]])
        low, high = np.array([row["f1_interval"] for row in found["classes"]]).T
        axis.bar(at, f1, 0.92 * width, color=colour, alpha=0.85, label=_short(name), hatch=None if line == "-" else "//", edgecolor="white", linewidth=0.5)
        axis.errorbar(at, f1, [np.maximum(f1 - low, 0), np.maximum(high - f1, 0)], fmt="none", ecolor="#1c2733", elinewidth=1, capsize=2)
        for x, value, top in zip(at, f1, np.maximum(high, f1), strict=True):
            axis.text(x, top + 0.02, f"{value:.2f}", ha="center", va="bottom", fontsize=7, color="#1c2733", rotation=90 if len(figures) > 5 else 0)
    axis.set_xticks(range(len(classes)), [f"{row['class']} ({row['support']})" for row in next(iter(figures.values()))["classes"]], fontsize=9)
    axis.set_ylim(0, 1.14)
    axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axis.set_ylabel("F1, 95% interval over patients", fontsize=9)
    bare(axis)
    axis.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(len(figures), 4))
    return as_png(drawn)


def confusions_plot(figures: dict[str, dict[str, Any]], classes: tuple[str, ...]) -> bytes:
    """A matrix a model: rows the true class, columns the one that was named, counts; darker is a larger share of the row."""
    across, down = min(len(figures), A_ROW), -(-len(figures) // A_ROW)
    drawn = figure(3.0 * across, 2.9 * down)
    panels = drawn.subplots(down, across, squeeze=False).ravel()
    for axis in panels[len(figures) :]:
        axis.axis("off")
    for axis, (name, found) in zip(panels, figures.items(), strict=False):
        counts = np.array(found["confusion"])
        axis.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            dark = count > 0.5 * max(counts[i].sum(), 1)
            axis.text(j, i, str(count), ha="center", va="center", fontsize=10, color="white" if dark else "#1c2733")
        axis.set_title(_short(name), fontsize=9)
        axis.set_xticks(range(len(classes)), classes, fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        axis.set_xlabel("named", fontsize=8)
        axis.set_ylabel("true", fontsize=8)
    return as_png(drawn)


def _short(name: str, most: int = 28) -> str:
    """The end of a long name, which is where paths differ."""
    return name if len(name) <= most else "…" + name[-most + 1 :]
