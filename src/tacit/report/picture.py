"""Pictures for people: outlines over an image, sheets of pictures with their truth, curves."""

from __future__ import annotations

import base64
import io
from itertools import cycle
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

OUTLINE = (20, 220, 80)
COLOURS = ((20, 220, 80), (240, 60, 60), (60, 140, 255), (250, 190, 40), (200, 80, 220))  # of several structures, in order
MOST_SIDE = 900  # px of a picture in the report


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture (h, w[, 3 or 4]) as the bytes of a PNG."""
    return _encoded(picture, "PNG")


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A picture (h, w, 3) as the bytes of a JPEG, quality 88."""
    return _encoded(picture, "JPEG", quality=88)


def _encoded(picture: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def embedded(content: bytes, kind: str) -> str:
    """A data URI, so that a page needs no other file."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def shrunk(picture: NDArray, longest: int = MOST_SIDE) -> NDArray:
    """The picture with its longer side at most `longest`; label maps (int32) keep their values."""
    factor = longest / max(picture.shape[:2])
    if factor >= 1:
        return picture
    size = (max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1))
    how = cv2.INTER_NEAREST if picture.dtype == np.int32 else cv2.INTER_AREA
    kept = picture.astype(np.float32) if picture.dtype == np.int32 else picture
    return np.asarray(cv2.resize(kept, size, interpolation=how)).astype(picture.dtype)


def edges(labels: NDArray[np.int32], width: int = 2) -> NDArray[np.bool_]:
    """Pixels within about `width` px of where one label meets another."""
    edge = np.zeros(labels.shape, np.uint8)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return np.asarray(cv2.dilate(edge, np.ones((width, width), np.uint8)) > 0)


def overlay(labels: NDArray[np.int32], colour: tuple[int, int, int] = OUTLINE) -> NDArray[np.uint8]:
    """Outlines and a faint tint on a clear ground, (h, w, 4) RGBA, to lie over the image."""
    clear = np.zeros((*labels.shape, 4), np.uint8)
    clear[labels > 0] = (*colour, 38)
    clear[edges(labels)] = (*colour, 255)
    return clear


def outlined(picture: NDArray[np.uint8], labels: NDArray[np.int32], colour: tuple[int, int, int] = OUTLINE, width: int = 2) -> NDArray[np.uint8]:
    """The picture with every outline drawn on it."""
    drawn = picture.copy()
    drawn[edges(labels, width)] = colour
    return drawn


def in_colours(picture: NDArray[np.uint8], planes: list[NDArray[np.int32]]) -> NDArray[np.uint8]:
    """The picture with each structure's outline in a colour of its own; planes (h, w), 0 outside."""
    drawn = picture
    for plane, colour in zip(planes, cycle(COLOURS), strict=False):
        drawn = outlined(drawn, plane, colour, width=1)
    return drawn


def in_tints(picture: NDArray[np.uint8], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The picture with every label as a tint of its own over its grey; labels (h, w), 0 clear."""
    many = max(int(labels.max()), 1)
    hues = np.array([[(180 * k * 5 // 8) % 180 if many <= 8 else 180 * k // many, 200, 255] for k in range(many)], np.uint8)
    tints = np.vstack([[[255, 255, 255]], cv2.cvtColor(hues[None], cv2.COLOR_HSV2RGB)[0]])
    grey = picture.astype(np.float32).mean(2, keepdims=True)
    return np.rint(0.45 * tints[labels] + 0.55 * grey).astype(np.uint8)


def sheet(tiles: list[NDArray[np.uint8]], columns: int = 4, gap: int = 6) -> NDArray[np.uint8]:
    """Pictures in rows on white, each at the size of the first."""
    h, w = tiles[0].shape[:2]
    rows = (len(tiles) + columns - 1) // columns
    page = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = gap + (i // columns) * (h + gap), gap + (i % columns) * (w + gap)
        fitted = tile if tile.shape[:2] == (h, w) else cv2.resize(tile, (w, h), interpolation=cv2.INTER_AREA)
        page[top : top + h, left : left + w] = fitted
    return page


def curves(stages: dict[str, dict[str, list[tuple[int, float]]]], name: str = "loss") -> bytes | None:
    """A PNG with one panel a stage of the value `name` against the step; None where there is nothing to draw."""
    drawn = {stage: values[name] for stage, values in stages.items() if name in values}
    if not drawn:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(drawn), 2.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(drawn), squeeze=False)[0]
    for ax, (stage, points) in zip(axes, drawn.items(), strict=True):
        steps, values = np.asarray(points).T
        ax.plot(steps, values, lw=0.6, color="#9db8d2")
        if len(values) > 9:
            smooth = np.convolve(values, np.ones(9) / 9, mode="valid")
            ax.plot(steps[4:-4], smooth, lw=1.4, color="#1f4e79")
        ax.set(title=stage, xlabel="step", ylabel=name if ax is axes[0] else "")
        ax.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    return buffer.getvalue()
