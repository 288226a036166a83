"""Plots of distances between data sets, as PNG bytes: the matrix, a map of the sets, what the coupling sends where, a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.report.figures import COLOURS, as_png, bare, figure

Floats = NDArray[np.float64]
INK = "#1c2733"


def matrix_plot(names: Sequence[str], matrix: Floats, interval: Floats, halves: Floats) -> bytes:
    """Distances (n, n) with their intervals (n, n, 2); on the diagonal, in brackets, two halves of the set itself (n,). NaN: not asked."""
    n = len(names)
    drawn = figure(2.4 + 1.25 * n, 1.5 + 1.0 * n)
    axis = drawn.subplots()
    shown = np.where(np.eye(n, dtype=bool), np.nan, matrix)
    top = float(np.nanmax(shown)) if np.isfinite(shown).any() else 1.0
    picture = axis.imshow(shown, cmap="YlGnBu", vmin=0, vmax=top or 1.0)
    for i in range(n):
        for j in range(n):
            if i == j:
                axis.text(j, i, f"({halves[i]:.3g})\nhalves", ha="center", va="center", fontsize=9, color="#5b6b7a")
            elif np.isfinite(matrix[i, j]):
                low, high = interval[i, j]
                colour = "white" if matrix[i, j] > 0.6 * top else INK
                axis.text(j, i, f"{matrix[i, j]:.3g}\n[{low:.3g}, {high:.3g}]", ha="center", va="center", fontsize=9, color=colour)
    axis.set_xticks(range(n), names, rotation=25, ha="right", fontsize=9)
    axis.set_yticks(range(n), names, fontsize=9)
    drawn.colorbar(picture, ax=axis, shrink=0.8).set_label("OTDD", fontsize=9)
    return as_png(drawn)


def places_of(matrix: Floats) -> tuple[Floats, float]:
    """Points (n, 2) whose distances are as near to the matrix's as a plane allows, and the share of the squared distances that it shows: classical scaling
    (Torgerson 1952)."""
    n = len(matrix)
    middle = np.eye(n) - 1 / n
    values, vectors = np.linalg.eigh(-middle @ (matrix**2) @ middle / 2)
    order = np.argsort(values)[::-1][:2]
    places = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
    places *= np.where(places[np.abs(places).argmax(0), np.arange(places.shape[1])] < 0, -1, 1)
    total = np.abs(values).sum()
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1]))), float(np.maximum(values[order], 0).sum() / total) if total > 0 else 1.0


def map_plot(names: Sequence[str], groups: Sequence[str], matrix: Floats) -> bytes:
    """Where things lie on a plane by their distances (n, n), coloured by group; how much of them the plane shows stands below."""
    places, share = places_of(matrix)
    drawn = figure(6.6, 5.0)
    axis = drawn.subplots()
    own = list(dict.fromkeys(groups))
    for k, group in enumerate(own):
        at = np.array([g == group for g in groups])
        axis.scatter(*places[at].T, s=80, color=COLOURS[k % len(COLOURS)], label=group, zorder=3)
    for name, (x, y) in zip(names, places.tolist(), strict=True):
        axis.annotate(name, (x, y), textcoords="offset points", xytext=(8, 5), fontsize=9)
    axis.set_aspect("equal", adjustable="datalim")
    axis.margins(0.25)
    axis.set_xlabel(f"the plane shows {share:.0%} of the squared distances", fontsize=9)
    if len(own) < len(names):
        axis.legend(fontsize=8, frameon=False)
    bare(axis)
    return as_png(drawn)


def coupling_plot(names: tuple[str, str], classes: tuple[Sequence[str], Sequence[str]], mass: Floats | None, labels: Floats) -> bytes:
    """Left: the share of all mass that the coupling sends from each label to each (ka, kb), in percent (None: not known). Right: how far the labels are apart."""
    ka, kb = labels.shape
    panels = [(labels, "distance of labels, W₂", "YlOrBr", "{:.3g}")]
    if mass is not None:
        panels.insert(0, (100 * mass, "coupling, % of the mass", "Blues", "{:.0f}"))
    drawn = figure((2.6 + 0.9 * kb) * len(panels) + 0.6, 1.7 + 0.62 * ka)
    for axis, (values, title, colours, form) in zip(drawn.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        top = float(values.max()) or 1.0
        axis.imshow(values, cmap=colours, vmin=0, vmax=top, aspect="auto")
        for i in range(ka):
            for j in range(kb):
                axis.text(j, i, form.format(values[i, j]), ha="center", va="center", fontsize=10, color="white" if values[i, j] > 0.6 * top else INK)
        axis.set_xticks(range(kb), classes[1], rotation=20, ha="right", fontsize=9)
        axis.set_yticks(range(ka), classes[0], fontsize=9)
        axis.set_xlabel(names[1], fontsize=9)
        axis.set_ylabel(names[0], fontsize=9)
        axis.set_title(title, fontsize=10)
    return as_png(drawn)


def ranking_plot(rows: Sequence[dict[str, Any]], halves: float | None) -> bytes:
    """Candidates from near to far, with their intervals; the dashed line: two halves of the target. rows: name, distance, interval."""
    drawn = figure(7.2, 1.2 + 0.42 * len(rows))
    axis = drawn.subplots()
    for k, row in enumerate(rows):
        low, high = row["interval"]
        axis.plot([low, high], [k, k], color="#9db8d2", lw=5, solid_capstyle="butt")
        axis.plot([row["distance"]], [k], "o", color=COLOURS[1 if row["name"] == "as it is" else 0], ms=7)
    if halves is not None:
        axis.axvline(halves, color="#5b6b7a", ls="--", lw=1, label="two halves of the target")
        axis.legend(fontsize=8, frameon=False, loc="lower right")
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel("distance to the target, 95%", fontsize=9)
    bare(axis)
    return as_png(drawn)
