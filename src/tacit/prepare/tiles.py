"""A slide cut into overlapping tiles, and what was predicted for them joined without seams, in bands.

A tile lies where enough tissue is. A joined pixel is the mean of the tiles that cover it, weighted by a window that falls off
as sin² towards a tile's edge, the weights divided by their sum. Rows that no later tile can touch are handed on at once, so that
memory is one row of tiles, whatever the height of the slide; `Grid.stripe` bounds the width too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ConfigError, InputError
from tacit.prepare.tissue import Tissue
from tacit.read.slide import Slide, stated_mpp
from tacit.read.slide_readers import nearest


@dataclass(frozen=True)
class Grid:
    """Square tiles of `size` px at `um_per_px`, as a plan.

    places: (n, 2) row and column of each tile in pixels of the canvas, which is the slide at `um_per_px`, row by row.
    shape: (h, w) of the canvas. factor: level-0 pixels a canvas pixel is wide. columns: half-open, what a join covers.
    """

    places: NDArray[np.int64]
    shape: tuple[int, int]
    size: int
    overlap: int
    um_per_px: float
    factor: float
    columns: tuple[int, int]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def level0(self) -> NDArray[np.int64]:
        """(n, 2) row and column of each tile's upper left corner in level-0 pixels."""
        return np.floor(self.places * self.factor + 0.5).astype(np.int64)

    def stripe(self, left: int, right: int) -> Grid:
        """The tiles that touch the canvas columns from `left` up to `right`; joined, they give these columns alone."""
        if not 0 <= left < right <= self.shape[1]:
            raise InputError(f"a stripe from column {left} to {right}: it must lie within the {self.shape[1]} columns of the slide")
        touching = (self.places[:, 1] < right) & (self.places[:, 1] + self.size > left)
        return replace(self, places=self.places[touching], columns=(left, right))


def grid(
    slide: Slide, um_per_px: float, size: int, overlap: int = 0, *, mpp: float | None = None, tissue: Tissue | None = None, least_tissue: float = 0.1
) -> Grid:
    """Tiles of `size` px at `um_per_px`, neighbours sharing `overlap` px, where at least `least_tissue` (0–1) of a tile is tissue.

    The last tile of a row or column is moved back to end with the slide. Without `tissue` every tile is taken; tiles
    without any tissue are never taken where it is given. mpp: the slide's
    µm per pixel where its file states none; raises InputError where nobody does, ConfigError for sizes that cannot be.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ConfigError(f"tiles of {size} px with an overlap of {overlap} px: at least 1 px, and less overlap than that")
    if not (np.isfinite(um_per_px) and um_per_px > 0) or not 0 <= least_tissue <= 1:
        raise ConfigError(f"um_per_px {um_per_px} must be positive and least_tissue {least_tissue} between 0 and 1")
    factor = um_per_px / stated_mpp(slide, mpp)
    shape = max(nearest(slide.shape[0] / factor), 1), max(nearest(slide.shape[1] / factor), 1)
    rows, cols = (_starts(length, size, overlap) for length in shape)
    places = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
    plan = Grid(places, shape, size, overlap, um_per_px, factor, (0, shape[1]))
    if tissue is None:
        return plan
    rows, cols = plan.level0.T
    return replace(plan, places=places[tissue.share(rows, cols, size * factor) >= max(least_tissue, 1e-12)])


def cut(slide: Slide, plan: Grid) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Each tile of the plan in turn: row, column on the canvas, and its pixels (size, size, 3) RGB, white outside the slide."""
    for (row, col), (top, left) in zip(plan.places.tolist(), plan.level0.tolist(), strict=True):
        yield row, col, slide.scaled(top, left, (plan.size, plan.size), plan.factor)


class Join:
    """Predictions of a plan's tiles, joined; finished rows go to `write(row, band)`, band (rows, width[, c]) float32.

    Bands come from the top of the canvas to its end, each row once, 0 where no tile was. Use it in a `with` block, which hands on
    the last rows. channels: of a prediction, None for (size, size). A band has at most `size` rows, and no more are held.
    """

    def __init__(self, plan: Grid, write: Callable[[int, NDArray[np.float32]], None], *, channels: int | None = None) -> None:
        self.plan, self.write = plan, write
        self._ends = () if channels is None else (channels,)
        width = plan.columns[1] - plan.columns[0]
        self._sum = np.zeros((plan.size, width, channels or 1), np.float32)  # ring: canvas row r is at r % size
        self._weight = np.zeros((plan.size, width), np.float32)
        self._window = window(plan.size, plan.overlap)
        self._done = 0  # canvas rows handed on

    def add(self, row: int, col: int, prediction: NDArray) -> None:
        """Adds a tile's (size, size[, c]) at its canvas place. Tiles come row by row, as `cut` gives them; raises InputError otherwise."""
        size, (first, last) = self.plan.size, self.plan.columns
        if prediction.shape != (size, size, *self._ends):
            raise InputError(f"the prediction at row {row}, column {col} is {prediction.shape}, expected {(size, size, *self._ends)}")
        if row < self._done:
            raise InputError(f"the tile at row {row} comes after rows up to {self._done} were finished; give tiles row by row")
        self._finish(min(row, self.plan.shape[0]))
        left, right, height = max(col, first), min(col + size, last), min(size, self.plan.shape[0] - row)
        if left >= right or height <= 0:
            return
        weight = self._window[:height, left - col : right - col]
        weighted = prediction.reshape(size, size, -1)[:height, left - col : right - col] * weight[..., None]
        start = row % size
        upper = min(size - start, height)  # rows before the ring's end
        for ring, part in ((slice(start, start + upper), slice(0, upper)), (slice(0, height - upper), slice(upper, height))):
            self._sum[ring, left - first : right - first] += weighted[part]
            self._weight[ring, left - first : right - first] += weight[part]

    def close(self) -> None:
        """Hands on all rows that are left."""
        self._finish(self.plan.shape[0])

    def __enter__(self) -> Join:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()

    def _finish(self, until: int) -> None:
        size = self.plan.size
        while self._done < until:
            start = self._done % size
            rows = min(until - self._done, size - start)
            ring = slice(start, start + rows)
            band: NDArray[np.float32] = np.zeros(self._sum[ring].shape, np.float32)
            for left in range(0, band.shape[1], size):  # most of a slide's width is glass
                cols = slice(left, left + size)
                weight = self._weight[ring, cols]
                if weight.any():
                    band[:, cols] = self._sum[ring, cols] / np.where(weight > 0, weight, 1)[..., None]
                    self._sum[ring, cols], self._weight[ring, cols] = 0, 0
            self.write(self._done, band.reshape(rows, band.shape[1], *self._ends))
            self._done += rows


def window(size: int, overlap: int) -> NDArray[np.float32]:
    """Weights (size, size): 1 inside, falling as sin² over `overlap` px at each side, so that regular neighbours sum to one."""
    ramp = min(overlap, size // 2)
    side = np.ones(size)
    rise = np.sin((np.arange(ramp) + 0.5) / max(ramp, 1) * np.pi / 2) ** 2
    side[:ramp] = rise
    side[size - ramp :] = rise[::-1]
    return np.outer(side, side).astype(np.float32)


def _starts(length: int, size: int, overlap: int) -> NDArray[np.int64]:
    """Where tiles start along a side: one step apart, the last one moved back to end with it."""
    if length <= size:
        return np.zeros(1, np.int64)
    step = size - overlap
    count = -(-(length - size) // step) + 1
    return np.minimum(np.arange(count) * step, length - size).astype(np.int64)
