"""Plots of a pair decision, as PNG bytes: errors against the threshold, the ROC curve, the distances of both kinds, and what more labelled pairs bring."""

from __future__ import annotations

from typing import Any

import numpy as np

from tacit.report.figures import COLOURS, as_png, bare, figure
from tacit.report.pair_score import Numbers, Truth, area, equal_error, thresholds

SAME, DIFFERENT, RIGHT = COLOURS[0], COLOURS[1], COLOURS[2]
BAND = "#f3e6c8"  # where answers are not sure


def threshold_plot(
    distance: Numbers, same: Truth, *, threshold: float, interval: tuple[float, float] | None, sure: tuple[float | None, float | None], kinds: tuple[str, str]
) -> bytes:
    """Three panels: distances of both kinds, errors at every threshold, ROC curve. kinds: what the two kinds are called, same first."""
    drawn = figure(13.2, 3.7)
    left, middle, right = drawn.subplots(1, 3)
    low, high = float(min(distance.min(), threshold)), float(max(distance.max(), threshold))
    pad = 0.02 * max(high - low, 1e-6)
    for axis in (left, middle):
        start = sure[0] if sure[0] is not None else low - pad
        end = sure[1] if sure[1] is not None else high + pad
        axis.axvspan(start, end, color=BAND, alpha=0.55, lw=0, label="not sure")
        if interval and np.isfinite(interval).all():
            axis.axvspan(*interval, color="#b9c4cf", alpha=0.6, lw=0, label="95% of the threshold")
        axis.axvline(threshold, color="#1c2733", lw=1.3, ls="--", label=f"threshold {threshold:.3f}")
        axis.set_xlim(low - pad, high + pad)
        axis.set_xlabel("distance, 2 − 2·cos", fontsize=9)
    bins = np.linspace(low, high + 1e-9, 33).tolist()
    for kind, colour, name in ((same, SAME, kinds[0]), (~same, DIFFERENT, kinds[1])):
        left.hist(distance[kind], bins=bins, histtype="stepfilled", color=colour, alpha=0.25)
        left.hist(distance[kind], bins=bins, histtype="step", color=colour, lw=1.5, label=f"{name} ({int(kind.sum())})")
    left.set_ylabel("held-out pairs", fontsize=9)
    found = thresholds(distance, same)
    x = np.r_[low - pad, found.threshold[1:], high + pad]
    for values, colour, name in (
        (found.accuracy, RIGHT, "accuracy"),
        (found.false_same, DIFFERENT, "false same (of different)"),
        (found.false_different, SAME, "false different (of same)"),
    ):
        middle.step(x, np.r_[values, values[-1]], where="post", color=colour, lw=1.6, label=name)
    base = float(max(same.mean(), 1 - same.mean()))
    middle.axhline(base, color=RIGHT, lw=1, ls=":", label=f"one answer for all {base:.3f}")
    middle.set_ylabel("share of held-out pairs", fontsize=9)
    middle.set_ylim(-0.02, 1.02)
    rate = equal_error(distance, same)[0]
    right.plot(found.false_same, 1 - found.false_different, color=SAME, lw=1.7, label=f"area {area(distance, same):.3f}")
    right.plot([0, 1], [0, 1], color="#b9c4cf", lw=1, label="chance")
    right.plot([rate], [1 - rate], "o", color=DIFFERENT, ms=6, label=f"equal error {rate:.3f}")
    right.set_xlabel("false same", fontsize=9)
    right.set_ylabel("same found", fontsize=9)
    right.set_aspect("equal")
    for axis in (left, middle, right):
        bare(axis)
    left.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    middle.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)
    right.legend(fontsize=7.5, frameon=False, loc="lower right")
    return as_png(drawn)


def curve_plot(rows: list[dict[str, Any]], base: float) -> bytes:
    """Area and accuracy against the number of pairs that taught, with their intervals. base: accuracy of one answer for all."""
    drawn = figure(8.6, 3.3)
    pairs = [row["pairs"] for row in rows]
    for axis, name, chance, colour in zip(drawn.subplots(1, 2), ("auc", "accuracy"), (0.5, base), (SAME, RIGHT), strict=True):
        low, high = np.array([row[name]["interval"] for row in rows], float).T
        axis.fill_between(pairs, low, high, color=colour, alpha=0.15, lw=0, label="95% interval")
        axis.plot(pairs, [row[name]["value"] for row in rows], "o-", color=colour, lw=1.6, ms=4.5, label="held-out pairs")
        axis.axhline(chance, color="#8795a1", lw=1, ls=":", label="chance" if name == "auc" else "one answer for all")
        axis.set_xscale("log")
        axis.minorticks_off()
        axis.set_xticks(pairs, [str(p) for p in pairs])
        axis.set_xlabel("labelled pairs that taught", fontsize=9)
        axis.set_ylabel({"auc": "area under the ROC curve", "accuracy": "accuracy"}[name], fontsize=9)
        axis.legend(fontsize=7.5, frameon=False, loc="lower right")
        bare(axis)
    return as_png(drawn)
