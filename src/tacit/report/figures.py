"""Plots for reports, as PNG bytes: grey pictures in a row, histograms by group, points over time. One style, no window."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOURS = ("#1f4e79", "#c8553d", "#588157", "#8e6c8a", "#e8a33d", "#4a4e69", "#2a9d8f", "#b5838d")


def figure(width: float, height: float) -> Any:
    """An empty figure of that many inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def twenty_colours() -> list[str]:
    """matplotlib's tab20, for more kinds than COLOURS has."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps["tab20"](i)) for i in range(20)]


def as_png(drawn: Any) -> bytes:
    """A figure as the bytes of a PNG, the same for the same figure."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def bare(axis: Any) -> None:
    """An axis without the lines at the top and at the right."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def grey_row(pictures: list[tuple[str, NDArray[np.float64], bool]]) -> bytes:
    """Pictures side by side, each with its title; a signed one is shown blue–white–red round 0."""
    drawn = figure(2.3 * len(pictures), 2.7)
    for axis, (title, picture, signed) in zip(drawn.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        most = max(float(np.abs(picture).max()), 1e-6)
        shown = axis.imshow(picture, cmap="RdBu_r" if signed else "gray", vmin=-most if signed else None, vmax=most if signed else None)
        axis.set_title(title, fontsize=8)
        axis.axis("off")
        drawn.colorbar(shown, ax=axis, shrink=0.7).ax.tick_params(labelsize=6)
    return as_png(drawn)


def histograms(groups: dict[str, dict[str, list[float]]], *, most: int = 8) -> bytes:
    """One panel a quantity: outline histograms of its values, one colour a group. groups: quantity → group → values."""
    drawn = figure(3.4 * len(groups), 2.7)
    for axis, (quantity, by_group) in zip(drawn.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        values = np.concatenate([np.asarray(v, float) for v in by_group.values() if len(v)])
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        bins = np.linspace(low, high if high > low else low + 1, 31).tolist()
        for colour, (group, own) in zip(COLOURS, list(by_group.items())[:most], strict=False):
            axis.hist(own, bins=bins, histtype="step", color=colour, label=f"{group} ({len(own)})" if group else str(len(own)), linewidth=1.4)
        axis.set_xlabel(quantity, fontsize=9)
        axis.set_ylabel("images", fontsize=9)
        if len(by_group) > 1:
            axis.legend(fontsize=7, frameon=False)
        bare(axis)
    return as_png(drawn)


def over_time(panels: dict[str, dict[str, list[float]]]) -> bytes:
    """One panel a kind of time, one line of points a group: where groups lie apart, time tells them. Times are days after the first."""
    drawn = figure(4.2 * len(panels), 0.9 + 0.35 * max(len(g) for g in panels.values()))
    rng = np.random.default_rng(0)
    for axis, (title, groups) in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        span = max(max(times) for times in groups.values())
        factor, unit = next(((f, u) for f, u in ((1, "days"), (24, "hours"), (1440, "minutes")) if span * f > 2), (86400, "seconds"))
        for row, days in enumerate(groups.values()):
            times = factor * np.asarray(days)
            axis.scatter(times, row + 0.25 * rng.uniform(-1, 1, len(times)), s=6, color=COLOURS[row % len(COLOURS)], alpha=0.6, linewidths=0)
        axis.set_yticks(range(len(groups)), list(groups), fontsize=8)
        axis.set_xlabel(f"{unit} after the first", fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(-0.6, len(groups) - 0.4)
        bare(axis)
    return as_png(drawn)
