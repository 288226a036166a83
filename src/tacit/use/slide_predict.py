"""A slide's tiles of tissue → probabilities of gland and core over the whole slide, joined without seams, on disk.

The next tiles are decoded in a thread while the network looks at these. Memory is one row of tiles, at most `STRIPE` px wide: a slide that is
wider at the network's spacing is gone through in stripes. Colours are standardised by the tissue of the whole slide, so that tiles agree.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive, Share
from tacit.errors import ConfigError, ReadError
from tacit.prepare.colour import lab_statistics
from tacit.prepare.scratch import Blocks
from tacit.prepare.tiles import Grid, Join, cut, grid
from tacit.prepare.tissue import Tissue, slide_tissue
from tacit.read.slide import Slide

STRIPE = 16384  # px at the network's spacing that are joined side by side; a multiple of BLOCK
BLOCK = 512  # px of a block of probabilities
AHEAD = 2  # batches that are decoded while one is looked at
LOOKED_AT = 32  # tiles by which a slide's colours are standardised
NO_MPP = ("it does not state how many µm a pixel is", "give it with --mpp, or in a list with the columns path and mpp")


class SlidesConfig(Config):
    tile: Count = 512  # px that the network sees at once
    overlap: int = 128  # px that neighbouring tiles share; across them one fades into the other
    least_tissue: Share = 0.0  # of a tile that is looked at; 0 = any tissue
    batch: Count = 4  # tiles that the network sees together
    gzip_mb: Positive = 20.0  # larger GeoJSON is packed, .geojson.gz
    learn_um: Positive = 480.0  # side of the tiles that are learnt from, as many of each slide, --learn-from in all


@dataclass(frozen=True)
class Seen:
    """What was found out while a slide was looked at."""

    plan: Grid
    tissue: Tissue
    tissue_mm2: float
    far_from_drawing: float | None  # median over some tiles
    confidence: float  # mean of |2p − 1| where gland or core may be (p above 0)
    network_seconds: float
    join_seconds: float


def plan_tiles(slide: Slide, um_per_px: float, c: SlidesConfig, mpp: float | None) -> tuple[Grid, Tissue]:
    """Where the tissue is and which tiles are looked at. Raises ReadError where nobody states the spacing or there is no tissue."""
    if not 0 <= c.overlap < c.tile:
        raise ConfigError(f"slides.overlap={c.overlap}: expected from 0 to less than slides.tile={c.tile}")
    if slide.mpp is None and mpp is None:
        raise ReadError(slide.path, *NO_MPP)
    tissue = slide_tissue(slide, mpp=mpp)
    plan = grid(slide, um_per_px, c.tile, c.overlap, mpp=mpp, tissue=tissue, least_tissue=c.least_tissue)
    if not len(plan):
        raise ReadError(slide.path, "no tissue was found on it", "look at its overview; pale stains may need another slide scanner export, else leave it out")
    return plan, tissue


def predict_slide(slide: Slide, network: Any, c: SlidesConfig, mpp: float | None, place: Path) -> tuple[Blocks, Seen]:
    """Gland and core of every pixel at the network's spacing, (h, w, 2) uint8 with 255 = 1, 0 where no tile was; `place`: the scratch file.

    The caller closes the blocks. Raises ReadError for a damaged part.
    """
    plan, tissue = plan_tiles(slide, network.um_per_px, c, mpp)
    statistics, far = slide_colours(slide, plan, network)
    clock = np.zeros(2)  # network, join
    with ExitStack() as open_:
        p = open_.enter_context(Blocks(place, plan.shape, BLOCK, np.uint8, channels=2))
        writer = _Writer(p)
        for left in range(0, plan.shape[1], STRIPE):
            stripe = plan.stripe(left, min(left + STRIPE, plan.shape[1]))
            writer.begin(*stripe.columns)
            with Join(stripe, writer.write, channels=2) as join:
                for places, tiles in _batches(slide, stripe, c.batch):
                    began = time.perf_counter()
                    answers = network.tiles_probability(tiles, statistics).transpose(0, 2, 3, 1)
                    answered = time.perf_counter()
                    for (row, col), answer in zip(places, answers, strict=True):
                        join.add(row, col, answer)
                    clock += answered - began, time.perf_counter() - answered
        open_.pop_all()  # the caller's from here on
    um2 = (tissue.factor * plan.um_per_px / plan.factor) ** 2
    return p, Seen(plan, tissue, float(tissue.mask.sum()) * um2 * 1e-6, far, writer.confidence, *clock.tolist())


class _Writer:
    """Bands of a stripe as blocks of bytes."""

    def __init__(self, p: Blocks) -> None:
        self.p, self.sum, self.count = p, 0.0, 0

    def begin(self, left: int, right: int) -> None:
        self.left, self.right = left, right
        self.rows = np.zeros((self.p.side, right - left, 2), np.uint8)

    def write(self, row: int, band: NDArray[np.float32]) -> None:
        side, height = self.p.side, self.p.shape[0]
        while len(band):
            start = row % side
            part, band = band[: side - start], band[side - start :]
            for left in range(0, part.shape[1], side):  # most of a slide's width is glass
                some = part[:, left : left + side]
                self.rows[start : start + len(part), left : left + side] = np.rint(some * 255) if some.any() else 0
            row += len(part)
            if row % side == 0 or row == height:
                self._keep((row - 1) // side)

    def _keep(self, i: int) -> None:
        for j in range(self.left // self.p.side, -(-self.right // self.p.side)):
            top, left, bottom, right = self.p.box(i, j)
            block = self.rows[: bottom - top, left - self.left : right - self.left]
            if block.any():
                gland = block[..., 0][block.any(-1)].astype(np.float64)
                self.sum, self.count = self.sum + float(np.abs(2 * gland / 255 - 1).sum()), self.count + len(gland)
                self.p.write(i, j, block)

    @property
    def confidence(self) -> float:
        return self.sum / max(self.count, 1)


def slide_colours(slide: Slide, plan: Grid, network: Any) -> tuple[NDArray[np.float32], float | None]:
    """Lab mean and SD of the slide's tissue (2, 3), and how far it is from the drawings where the network knows; from some tiles of the whole slide."""
    some = np.unique(np.linspace(0, len(plan) - 1, LOOKED_AT).astype(int))
    pixels: list[NDArray[np.uint8]] = []
    far: list[float] = []
    for top, left in plan.level0[some].tolist():
        tile = slide.scaled(top, left, (plan.size, plan.size), plan.factor)
        pixels.append(tile[::2, ::2].reshape(-1, 1, 3))
        if hasattr(network, "far_from_drawing") and len(far) < 8:
            far.append(network.far_from_drawing(tile))
    return lab_statistics(np.concatenate(pixels)), float(np.median(far)) if far else None


def _batches(slide: Slide, plan: Grid, size: int) -> Iterator[tuple[list[list[int]], NDArray[np.uint8]]]:
    """(row, column) and pixels of the tiles, `size` at a time, decoded ahead in a thread; an error there is raised here."""

    def decoded(some: Grid) -> tuple[list[list[int]], NDArray[np.uint8]]:
        return some.places.tolist(), np.stack([tile for _, _, tile in cut(slide, some)])

    with ThreadPoolExecutor(1) as thread:
        ahead: deque[Future[tuple[list[list[int]], NDArray[np.uint8]]]] = deque()
        for first in range(0, len(plan), size):
            ahead.append(thread.submit(decoded, replace(plan, places=plan.places[first : first + size])))
            if len(ahead) > AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
