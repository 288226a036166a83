"""Maps of many pictures: points in the plane coloured by what is known of them, and the pictures themselves laid where they belong."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.report.figures import COLOURS, as_png, bare, figure, twenty_colours
from tacit.report.gallery import GROUND

MOST_NAMED = 20  # values with a colour of their own
SIDE, CELLS = 72, 14  # px of a picture on the map, and how many lie across


def scatter(places: NDArray[np.float64], values: list[str | float | None] | None, names: tuple[str, str], title: str) -> bytes:
    """A PNG of points (n, 2) coloured by `values`: text by its commonest values, numbers on a scale, unknown ones grey. names: of the axes."""
    drawn = figure(8.6, 6.2)
    axis = drawn.subplots()
    size = float(np.clip(4000 / max(len(places), 1), 2, 26))
    known = [v for v in values or [] if v is not None]
    order = np.random.default_rng(0).permutation(len(places))  # so that no value lies on top of the others
    if known and all(isinstance(v, (int, float)) for v in known):
        numbers = np.array([np.nan if v is None else float(v) for v in values or []])
        axis.scatter(*places[np.isnan(numbers)].T, s=size, color="#d0d7dd", linewidths=0)
        shown = axis.scatter(*places[order].T, c=numbers[order], s=size, cmap="viridis", linewidths=0)
        drawn.colorbar(shown, ax=axis, shrink=0.8).set_label(title, fontsize=9)
    else:
        colours, legend = _colours(values or [None] * len(places))
        axis.scatter(*places[order].T, s=size, c=[colours[i] for i in order], linewidths=0, alpha=0.85)
        if known:
            handles = [axis.scatter([], [], s=26, color=colour, label=text) for text, colour in legend]
            axis.legend(handles=handles, title=title, fontsize=8, title_fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axis.set_xlabel(names[0], fontsize=9)
    axis.set_ylabel(names[1], fontsize=9)
    bare(axis)
    return as_png(drawn)


def chosen_for_map(places: NDArray[np.float64]) -> dict[tuple[int, int], int]:
    """Which of the points (n, 2) stands for each cell of a grid that is not empty: (row, column) → the point nearest to the cell's middle."""
    low, span = places.min(0), np.ptp(places, 0)
    at = (places - low) / np.where(span > 0, span, 1) * (CELLS - 1)
    cells = np.round(at).astype(int)
    distance = ((at - cells) ** 2).sum(1)
    found: dict[tuple[int, int], int] = {}
    for i in np.argsort(distance, kind="stable").tolist():
        found.setdefault((CELLS - 1 - int(cells[i, 1]), int(cells[i, 0])), i)
    return found


def picture_map(pictures: dict[tuple[int, int], NDArray[np.uint8] | None]) -> NDArray[np.uint8]:
    """Pictures on the cells of the grid that `chosen_for_map` gave, (h, w, 3) RGB."""
    page = np.full((CELLS * SIDE, CELLS * SIDE, 3), GROUND, np.uint8)
    for (row, col), picture in pictures.items():
        if picture is not None:
            h, w = picture.shape[:2]
            side = min(h, w)
            square = picture[(h - side) // 2 : (h + side) // 2, (w - side) // 2 : (w + side) // 2]
            page[row * SIDE + 1 : (row + 1) * SIDE - 1, col * SIDE + 1 : (col + 1) * SIDE - 1] = cv2.resize(
                square, (SIDE - 2, SIDE - 2), interpolation=cv2.INTER_AREA
            )
    return page


def _colours(values: list[str | float | None]) -> tuple[list[str], list[tuple[str, str]]]:
    """A colour for each value, and the legend; the commonest values have their own."""
    counts = Counter(str(v) for v in values if v is not None)
    most = [v for v, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    own = dict(zip(most[:MOST_NAMED], COLOURS if len(most) <= len(COLOURS) else twenty_colours(), strict=False))
    legend = [(f"{v} ({counts[v]})", colour) for v, colour in own.items()]
    rest = sum(counts.values()) - sum(counts[v] for v in own)
    if rest:
        legend.append((f"{len(most) - len(own)} others ({rest})", "#8a949e"))
    if len(values) > sum(counts.values()):
        legend.append((f"not known ({len(values) - sum(counts.values())})", "#d0d7dd"))
    return ["#d0d7dd" if v is None else own.get(str(v), "#8a949e") for v in values], legend
