"""Pictures in order of likeness: the one that was asked for at the left, large, and what was found beside it, with its distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

CELL, GAP, LINE, ACROSS = 164, 12, 17, 5  # px: side of a hit, between hits, height of a line of text; hits in a row
INK, SOFT, GROUND, BLANK = (28, 39, 51), (91, 107, 122), (251, 252, 253), (232, 236, 240)
SAME, OTHER, PLAIN = (46, 125, 72), (200, 85, 61), (217, 224, 230)


@dataclass(frozen=True)
class Shown:
    """A picture (h, w, 3) RGB of a gallery, None where its file is gone, with lines of text below it; the first is bold.

    alike: whether it has the query's label, None where one of the two is not known.
    """

    picture: NDArray[np.uint8] | None
    lines: tuple[str, ...]
    alike: bool | None = None


def ranking(query: Shown, hits: list[Shown]) -> NDArray[np.uint8]:
    """The query at the left, the hits in rows of five beside it, (h, w, 3) RGB. Green frames have the query's label, red ones another."""
    text = LINE * max(len(s.lines) for s in (query, *hits))
    rows = max(-(-len(hits) // ACROSS), 1)
    flat = _flatness([s.picture for s in (query, *hits) if s.picture is not None])
    large, cell = (2 * CELL + GAP, round((2 * CELL + GAP) * flat)), (CELL, round(CELL * flat))  # (w, h)
    height = GAP + max(rows * (cell[1] + text + GAP), large[1] + text + GAP)
    page = Pillow.new("RGB", (GAP * 3 + large[0] + ACROSS * (CELL + GAP), height), GROUND)
    draw = ImageDraw.Draw(page)
    _put(page, draw, query, (GAP, GAP), large, INK)
    for i, hit in enumerate(hits):
        corner = GAP * 3 + large[0] + (i % ACROSS) * (CELL + GAP), GAP + (i // ACROSS) * (cell[1] + text + GAP)
        _put(page, draw, hit, corner, cell, {True: SAME, False: OTHER, None: PLAIN}[hit.alike])
    return np.asarray(page)


def _flatness(pictures: list[NDArray[np.uint8]]) -> float:
    """Height over width of the cells: that of the tallest picture, between 0.5 and 1."""
    return min(max([p.shape[0] / p.shape[1] for p in pictures] + [0.5]), 1.0) if pictures else 1.0


def _put(page: Pillow.Image, draw: ImageDraw.ImageDraw, shown: Shown, corner: tuple[int, int], size: tuple[int, int], frame: tuple[int, int, int]) -> None:
    """Draws a picture into its cell, size (w, h), with a frame and its lines of text."""
    (left, top), (width, height) = corner, size
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=BLANK)
    if shown.picture is not None:
        small = fitted(shown.picture, width, height)
        h, w = small.shape[:2]
        page.paste(Pillow.fromarray(small), (left + (width - w) // 2, top + (height - h) // 2))
    else:
        draw.text((left + 8, top + height // 2 - 8), "file not there", fill=SOFT, font=_font(False))
    draw.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=frame, width=3)
    for i, line in enumerate(shown.lines):
        draw.text((left, top + height + 4 + i * LINE), _short(line, width, bold=i == 0), fill=INK if i == 0 else SOFT, font=_font(i == 0))


def fitted(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The whole picture, as large as fits into width × height px."""
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = max(round(picture.shape[1] * factor), 1), max(round(picture.shape[0] * factor), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), np.uint8)


@lru_cache
def _font(bold: bool) -> Any:
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf", 12)


def _short(line: str, width: int, *, bold: bool) -> str:
    """The line, its middle left out where it is longer than `width` px: ends of names tell more than middles."""
    font = _font(bold)
    if font.getlength(line) <= width:
        return line
    for kept in range(len(line) - 2, 2, -1):
        cut = f"{line[: (kept + 1) // 2]}…{line[len(line) - kept // 2 :]}"
        if font.getlength(cut) <= width:
            return cut
    return line[:1]
