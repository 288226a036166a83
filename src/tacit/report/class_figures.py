"""Plots of a classifier, as PNG bytes: ROC curves, confusion, reliability; the evidence along a series."""

from __future__ import annotations

import numpy as np

from tacit.report.classes import Labels, Rows, one_area
from tacit.report.figures import COLOURS, as_png, bare, figure
from tacit.report.pair_score import thresholds


def worth_plot(p: Rows, labels: Labels, classes: tuple[str, ...], bins: list[tuple[float, float, int]], error: float) -> bytes:
    """Three panels of answers p (n, k): ROC of each class, confusion in counts, reliability. bins, error: of learn/temperature.reliability."""
    drawn = figure(13.2, 4.0)
    left, middle, right = drawn.subplots(1, 3)
    for j, name in enumerate(classes):
        found = thresholds(-p[:, j], labels == j)
        left.plot(
            found.false_same, 1 - found.false_different, color=COLOURS[j % len(COLOURS)], lw=1.7, label=f"{name}, area {one_area(p[:, j], labels == j):.3f}"
        )
    left.plot([0, 1], [0, 1], color="#b9c4cf", lw=1, label="chance")
    left.set_xlabel("false positive rate", fontsize=9)
    left.set_ylabel("true positive rate", fontsize=9)
    left.set_aspect("equal")
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (labels, p.argmax(1)), 1)
    middle.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for i in range(len(classes)):
        for j in range(len(classes)):
            dark = counts[i, j] > 0.5 * max(counts[i].sum(), 1)
            middle.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=11, color="white" if dark else "#1c2733")
    middle.set_xticks(range(len(classes)), classes, fontsize=8)
    middle.set_yticks(range(len(classes)), classes, fontsize=8)
    middle.set_xlabel("named", fontsize=9)
    middle.set_ylabel("true", fontsize=9)
    right.plot([0, 1], [0, 1], color="#b9c4cf", lw=1, label="as sure as right")
    right.plot([b[0] for b in bins], [b[1] for b in bins], "o-", color=COLOURS[0], lw=1.5, label=f"calibration error {error:.3f}")
    for confidence, share, count in bins:
        right.annotate(str(count), (confidence, share), textcoords="offset points", xytext=(5, -11), fontsize=7, color="#5b6b7a")
    right.set_xlim(1 / len(classes) - 0.02, 1.02)
    right.set_ylim(-0.02, 1.02)
    right.set_xlabel("probability of the named class", fontsize=9)
    right.set_ylabel("share that was right (number: cases)", fontsize=9)
    bare(left)
    bare(right)
    left.legend(fontsize=8, frameon=False, loc="lower right")
    right.legend(fontsize=8, frameon=False, loc="upper left")
    return as_png(drawn)


def evidence_plot(curve: Rows, classes: tuple[str, ...]) -> bytes:
    """What the slices of a series say, (s, k): one line a class along z."""
    drawn = figure(5.2, 2.4)
    axis = drawn.subplots()
    for j, name in enumerate(classes):
        axis.plot(range(1, len(curve) + 1), curve[:, j], color=COLOURS[j % len(COLOURS)], lw=1.5, label=name, marker="o" if len(curve) == 1 else None)
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("slice", fontsize=9)
    axis.set_ylabel("probability", fontsize=9)
    bare(axis)
    axis.legend(fontsize=8, frameon=False, ncols=min(len(classes), 4))
    return as_png(drawn)


def features_plot(found: dict[str, dict[str, tuple[Rows, Rows]]], names: tuple[str, ...]) -> bytes:
    """What values the layers of each model hold: a row a model, a column a layer, a line a case. found: model → layer → counts (n, bins), edges (bins + 1,)."""
    layers = list(dict.fromkeys(layer for of_model in found.values() for layer in of_model))
    drawn = figure(1.9 * len(layers) + 1, 1.6 * len(found) + 0.8)
    axes = drawn.subplots(len(found), len(layers), squeeze=False)
    for row, (model, of_model) in zip(axes, found.items(), strict=True):
        for axis, layer in zip(row, layers, strict=True):
            bare(axis)
            axis.tick_params(labelsize=6)
            axis.set_yticks([])
            if layer in of_model:
                counts, edges = of_model[layer]
                for j, line in enumerate(counts):
                    axis.step(edges[:-1], np.log10(1 + line), where="post", color=COLOURS[j % len(COLOURS)], lw=1, label=names[j])
            if axis in axes[0]:
                axis.set_title(layer, fontsize=8)
        row[0].set_ylabel(f"{model}\nlog count", fontsize=8)
    axes[0, 0].legend(fontsize=6, frameon=False)
    return as_png(drawn)
