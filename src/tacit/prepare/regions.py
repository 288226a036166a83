"""Probabilities of gland and gland core → one label a gland, block by block, with the labels that the whole plane would give.

1. Pieces of core (above `core`, in what is gland, 4-connected); those that are too small count for nothing.
2. Each core grows through the gland's pixels around it, step by step, at most `reach` steps: its region. Where two meet they stop.
3. What no core reached, piece by piece, belongs to the region that it touches first in reading order; a piece that touches none is a gland of its own.
4. A hole (background that is enclosed) of less than `hole_px` belongs to what lies above its first pixel in reading order.
5. A gland of less than `gland_px` is dropped.

Every step but growth asks for whole pieces: they are numbered in each block and joined where blocks meet (union-find), so that only tables of
numbers are held. Growth sees as far as `reach`, and so does the margin of a block. Nothing depends on where the blocks lie.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.prepare.region_tables import Forest, Rest
from tacit.prepare.scratch import Blocks

UP, LEFT, RIGHT, DOWN = range(4)  # which neighbour a pixel touches, in reading order


@dataclass(frozen=True)
class Rules:
    """What counts, in label pixels; threshold and core 0–1. zoom: label pixels a pixel of the probabilities is wide, 1 or 2."""

    threshold: float
    core: float
    core_px: float
    gland_px: float
    hole_px: float
    reach: int
    zoom: int


@dataclass(frozen=True)
class Regions:
    """What `find_regions` gives: labels of a block by `lut[blocks.read(i, j)]`, 1 … count, 0 background."""

    blocks: Blocks
    lut: NDArray[np.int32]
    count: int
    last_block: NDArray[np.int64]  # (count + 1,) the last block in reading order that holds some of a gland


def find_regions(p: Blocks, rules: Rules) -> Regions:
    """Glands of a plane of probabilities. p: (h, w, 2) uint8, gland and core, 255 = 1, blocks of half the side of the labels' where zoom is 2.

    Scratch files lie beside that of `p`; the regions' own is the caller's to close.
    """
    shape, side = (p.shape[0] * rules.zoom, p.shape[1] * rules.zoom), p.side * rules.zoom
    with Blocks(p.path.with_suffix(".mask"), shape, side, np.uint8) as mask, Blocks(p.path.with_suffix(".cores"), shape, side, np.int32) as cores:
        core_of = _number_cores(p, mask, cores, rules)
        with ExitStack() as open_:
            regions = open_.enter_context(Blocks(p.path.with_suffix(".regions"), shape, side, np.int32))
            found = _grow_all(mask, cores, regions, core_of, rules)
            open_.pop_all()  # the caller's from here on
            return found


def gland_and_core(p: Blocks, box: tuple[int, int, int, int], zoom: int) -> NDArray[np.int16]:
    """Probabilities in a box of label pixels, (2, h, w) from 0 to 255·16: bilinear between pixels where zoom is 2, whatever lies around the box."""
    top, left, bottom, right = (v // zoom for v in box)
    if zoom == 1:
        return (p.window(top, left, bottom, right).transpose(2, 0, 1).astype(np.int16)) * 16
    a, b, c, d = max(top - 1, 0), max(left - 1, 0), min(bottom + 1, p.shape[0]), min(right + 1, p.shape[1])
    seen = p.window(a, b, c, d)
    pad = ((1 - (top - a), 1 - (c - bottom)), (1 - (left - b), 1 - (d - right)), (0, 0))
    x = np.pad(seen, pad, mode="edge").transpose(2, 0, 1).astype(np.int16)
    rows = np.empty((2, 2 * (bottom - top), x.shape[2]), np.int16)
    rows[:, 0::2], rows[:, 1::2] = 3 * x[:, 1:-1] + x[:, :-2], 3 * x[:, 1:-1] + x[:, 2:]
    out = np.empty((2, rows.shape[1], 2 * (right - left)), np.int16)
    out[..., 0::2], out[..., 1::2] = 3 * rows[..., 1:-1] + rows[..., :-2], 3 * rows[..., 1:-1] + rows[..., 2:]
    return out


def _number_cores(p: Blocks, mask: Blocks, cores: Blocks, rules: Rules) -> NDArray[np.int32]:
    """Fills `mask` and `cores`; gives what number a core's pieces have in common, 0 where the core is too small."""
    forest, area = Forest(), [np.zeros(1, np.int64)]
    above = np.zeros(mask.shape[1], np.int32)
    for i in range(mask.down):
        beside = np.zeros(0, np.int32)
        for j in range(mask.across):
            top, left, bottom, right = mask.box(i, j)
            if (i, j) not in p and not _touches(p, i, j):
                above[left:right], beside = 0, np.zeros(bottom - top, np.int32)
                continue
            gland, core = gland_and_core(p, (top, left, bottom, right), rules.zoom)
            inside = gland > rules.threshold * 4080
            count, pieces = cv2.connectedComponents(((core > rules.core * 4080) & inside).astype(np.uint8), connectivity=4)
            first = forest.grow(count - 1)
            area.append(np.bincount(pieces.ravel(), minlength=count)[1:])
            numbers = np.where(pieces > 0, pieces + (first - 1), 0).astype(np.int32)
            for old, new in ((above[left:right], numbers[0]), (beside, numbers[:, 0])):
                if len(old):
                    both = (old > 0) & (new > 0)
                    forest.join(old[both], new[both])
            above[left:right], beside = numbers[-1], numbers[:, -1]
            mask.write(i, j, inside.astype(np.uint8))
            cores.write(i, j, numbers)
    root = forest.roots()
    whole = np.bincount(root, weights=np.concatenate(area), minlength=len(root))
    return np.where(whole[root] >= rules.core_px, root, 0).astype(np.int32)


def _touches(p: Blocks, i: int, j: int) -> bool:
    """Whether a neighbour is there, whose probabilities reach over the border."""
    return any((i + a, j + b) in p for a in (-1, 0, 1) for b in (-1, 0, 1))


def _grow_all(mask: Blocks, cores: Blocks, regions: Blocks, core_of: NDArray[np.int32], rules: Rules) -> Regions:
    rest = Rest(len(core_of))
    above = np.zeros(mask.shape[1], np.int32)
    for i in range(mask.down):
        beside = np.zeros(mask.box(i, 0)[2] - mask.box(i, 0)[0], np.int32)
        for j in range(mask.across):
            top, left, bottom, right = mask.box(i, j)
            framed = np.zeros((bottom - top + 1, right - left + 1), np.int32)
            framed[0, 1:], framed[1:, 0] = above[left:right], beside if j else 0
            if (i, j) in mask:
                grown, inside = _grown(mask, cores, core_of, (top, left, bottom, right), rules.reach)
                framed[1:, 1:] = _numbered(grown, inside, rest, i * mask.across + j, (top, left, bottom, right) if _at_edge(mask, i, j) else None, mask.shape)
                regions.write(i, j, framed[1:, 1:])
                _meet(framed, rest, top, left, mask.shape[1])
            rest.open_to_nothing(framed)
            above[left:right], beside = framed[-1, 1:], framed[1:, -1].copy()
    lut, count, last = rest.resolved(rules.hole_px, rules.gland_px)
    return Regions(regions, lut, count, last)


def _at_edge(mask: Blocks, i: int, j: int) -> bool:
    return i in (0, mask.down - 1) or j in (0, mask.across - 1)


def _grown(mask: Blocks, cores: Blocks, core_of: NDArray[np.int32], box: tuple[int, int, int, int], reach: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The cores' regions in a box, and what is gland there."""
    top, left, bottom, right = box
    a, b = max(top - reach, 0), max(left - reach, 0)
    wide = (a, b, min(bottom + reach, mask.shape[0]), min(right + reach, mask.shape[1]))
    inside = np.pad(mask.window(*wide).astype(bool), 1)  # a frame that nothing grows into
    grown = np.pad(core_of[cores.window(*wide)], 1)
    _grow(grown, inside, reach)
    rows, cols = slice(top - a + 1, bottom - a + 1), slice(left - b + 1, right - b + 1)
    return grown[rows, cols], inside[rows, cols]


def _grow(labels: NDArray[np.int32], inside: NDArray[np.bool_], steps: int) -> None:
    """Labels spread to free neighbours inside, all at once, a step at a time; of several that come together the one from above, left, right, below. In place."""
    flat, free, width = labels.ravel(), (inside & (labels == 0)).ravel(), labels.shape[1]
    beside = cv2.dilate(free.reshape(labels.shape).astype(np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)).astype(bool)
    front = np.flatnonzero((labels > 0) & beside)
    for _ in range(steps):
        found = []
        for step in (width, 1, -1, -width):  # where the label goes: it comes from above, left, right, below
            reached = front + step
            source = front[free[reached]]
            reached = source + step
            flat[reached], free[reached] = flat[source], False
            found.append(reached)
        front = np.concatenate(found)
        if not len(front):
            return


def _numbered(
    grown: NDArray[np.int32], inside: NDArray[np.bool_], rest: Rest, block: int, edge: tuple[int, int, int, int] | None, shape: tuple[int, int]
) -> NDArray[np.int32]:
    """The regions of a block with the pieces that no core reached and those of the background numbered too."""
    rest.saw_cores(grown, block)
    out = grown.copy()
    for is_hole, plane in ((False, inside & (grown == 0)), (True, ~inside)):
        count, pieces = cv2.connectedComponents(plane.astype(np.uint8), connectivity=4)
        first = rest.add(np.bincount(pieces.ravel(), minlength=count)[1:], is_hole, block)
        out[plane] = pieces[plane] + (first - 1)
    if edge is not None:  # background at the plane's edge is open
        top, left, bottom, right = edge
        sides = [(top == 0, out[0]), (left == 0, out[:, 0]), (bottom == shape[0], out[-1]), (right == shape[1], out[:, -1])]
        for at_edge, line in sides:
            if at_edge:
                rest.open(line)
    return out


def _meet(framed: NDArray[np.int32], rest: Rest, top: int, left: int, width: int) -> None:
    """Joins pieces of one kind over the block's upper and left border, and notes what touches what. framed: one row and column of the neighbours in front."""
    rest.join(framed[0, 1:], framed[1, 1:])
    rest.join(framed[1:, 0], framed[1:, 1])
    rows, cols = np.nonzero(framed[:-1, 1:] != framed[1:, 1:])
    upper, lower = framed[rows, cols + 1], framed[rows + 1, cols + 1]
    place = (rows + top).astype(np.int64) * width + cols + left  # of the lower pixel
    rest.touch(upper, lower, (place - width) * 4 + DOWN)
    rest.touch(lower, upper, place * 4 + UP)
    rows, cols = np.nonzero(framed[1:, :-1] != framed[1:, 1:])
    before, after = framed[rows + 1, cols], framed[rows + 1, cols + 1]
    place = (rows + top).astype(np.int64) * width + cols + left  # of the right pixel
    rest.touch(before, after, (place - 1) * 4 + RIGHT)
    rest.touch(after, before, place * 4 + LEFT)
