"""Drawn fundus photographs: branching vessels with exact truth on a drawn retina, or on a real one that is given.

Every range is a setting of `FundusConfig`: variety teaches better than realism. Lengths are pixels of a field 540 px wide (about
13 mm for a camera of 45°), scaled to the field that is drawn.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Range, Share
from tacit.phantom.drawing import Drawing
from tacit.phantom.fundus_ground import add_distractors, draw_ground
from tacit.phantom.texture import smooth_noise
from tacit.phantom.vessel_tree import STEP, Branch, Habit, grow

CLASSES = ("vessel",)
NOMINAL = 540.0  # px of the field that all lengths refer to
FIELD_UM = 13_000.0  # nominal diameter of a 45° field on the retina
FINER = 4  # vessels are painted at this many times the resolution
CHANNELS = np.array([0.35, 1.0, 0.8], np.float32)  # how dark a vessel is in red and blue, in shares of green


class FundusConfig(Config):
    # the tree; px of a field 540 px wide
    roots: Range = (6.0, 13.0)  # vessels that leave the disc, arteries and veins in turn
    loose: Range = (0.0, 7.0)  # vessels that come in from elsewhere
    width: Range = (3.0, 8.5)  # of a root, px
    least: Range = (1.0, 1.8)  # width at which a branch ends, px
    bend: Range = (0.004, 0.028)  # SD of the change of curvature a step of 3 px, radians
    parting: Range = (5.0, 16.0)  # length between partings, in vessel widths
    taper: Range = (0.0, 0.15)  # share of the width lost in 100 px
    spread: Range = (0.5, 1.5)  # angle between children, radians
    share: Range = (0.07, 0.18)  # most of the field that vessels may cover: beyond it the thinnest are left out
    # the look
    contrast: Range = (0.12, 0.5)  # how much darker than its surroundings a wide vein is in green, share
    artery: Range = (0.55, 1.0)  # contrast of arteries, share of the veins'
    thin: Range = (0.4, 1.0)  # contrast of the thinnest vessels, share of the widest's
    reflex: Share = 0.6  # share of pictures whose wide vessels have a light streak in the middle
    soft: Range = (0.3, 1.3)  # SD of the vessels' blur, px
    wall: Range = (0.3, 0.8)  # contrast of a vessel's outer third, share of its middle's
    patchy: Range = (0.0, 0.35)  # SD of the contrast's change along the vessels
    # the surroundings
    distractors: Share = 0.7  # how much else is drawn: bleedings, exudates, streaks, edges
    blur: Range = (0.0, 1.1)  # SD of the point spread, px
    noise: Range = (0.5, 6.0)  # SD of the camera's noise, grey levels


CONFIG = FundusConfig


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int],
    um_per_px: float | None = None,
    config: FundusConfig | None = None,
    *,
    stains: NDArray | None = None,
    background: NDArray[np.uint8] | None = None,
) -> Drawing:
    """One photograph with a field as large as `shape` (h, w) lets it be, black outside.

    background: a real retina without vessels, (h, w, 3) uint8, 0 outside its field, to draw on instead. um_per_px says nothing here (the field
    fills the picture, and the drawing says what spacing that is for a field of 13 mm) and neither do stains; both belong to every generator.
    labels: 1 … n, the number of the tree. A pure function of the generator's state.
    """
    c = config or FundusConfig()
    u = rng.uniform
    field, centre, diameter = _field(rng, shape, background)
    scale = diameter / NOMINAL
    side = -1.0 if rng.random() < 0.5 else 1.0
    disc = centre + diameter * np.array([u(-0.08, 0.08), side * (u(0.2, 0.42) if rng.random() < 0.8 else u(0.0, 0.2))])
    macula = disc + diameter * np.array([u(-0.02, 0.1), -side * u(0.28, 0.36)])
    contrast, thin, artery, most = u(*c.contrast), u(*c.thin), u(*c.artery), u(*c.share)
    branches = _trees(rng, c, (disc - centre) / scale + NOMINAL / 2, most)
    shift = (centre - scale * NOMINAL / 2, scale)
    mask, trees = _truth(branches, shape, shift)
    reflex = u(0.2, 0.9) if rng.random() < c.reflex else 0.0
    depth = _depth(rng, branches, shape, shift, (thin, artery, reflex, u(*c.soft), u(*c.wall)))
    depth *= contrast * np.clip(1 + u(*c.patchy) * smooth_noise(rng, shape, 60 * scale), 0.2, 1.8)
    if background is None:
        planes: NDArray = draw_ground(rng, shape, scale, (float(disc[0]), float(disc[1])), (float(macula[0]), float(macula[1])))
    else:
        planes = (background.astype(np.float32) / np.float32(255)).astype(np.float32)
    add_distractors(rng, planes, scale, c.distractors if background is None else 0.5 * c.distractors)
    planes *= 1 - np.clip(depth[..., None] * CHANNELS, 0, 0.95)
    picture = _photographed(rng, planes, field, scale, c, real=background is not None)
    labels = _consecutive(np.where(mask & field, np.maximum(trees, 1), 0).astype(np.int32))
    known = {"contrast": contrast, "thin": thin, "artery": artery, "reflex": reflex, "share": float((labels > 0).sum() / max(field.sum(), 1))}
    known |= {"branches": float(len(branches)), "trees": float(labels.max()), "field_px": float(diameter)}
    return Drawing(picture, labels, FIELD_UM / diameter, known)


def _field(rng: np.random.Generator, shape: tuple[int, int], background: NDArray[np.uint8] | None) -> tuple[NDArray[np.bool_], NDArray[np.float64], float]:
    """Mask, middle (row, col) and diameter in px."""
    h, w = shape
    if background is not None:
        mask = background.any(-1)
        where = np.argwhere(mask)
        low, high = where.min(0), where.max(0) + 1
        return np.asarray(mask, bool), (low + high - 1) / 2, float((high - low).max())
    rows, cols = np.ogrid[:h, :w]
    diameter = min(h, w) * float(rng.uniform(0.92, 1.1))
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    return np.asarray(np.hypot(rows - centre[0], cols - centre[1]) <= diameter / 2, bool), centre, diameter


def _trees(rng: np.random.Generator, c: FundusConfig, disc: NDArray, most: float) -> list[Branch]:
    """Trees in the square (0, 540)², from the disc and from elsewhere, until `most` of its area is covered."""
    u = rng.uniform
    habit = Habit(u(*c.bend), u(0.03, 0.09), u(*c.parting), u(*c.taper), u(*c.least), u(0.5, 1.0), u(*c.spread))
    roots, loose = round(u(*c.roots)), round(u(*c.loose))
    ways = u(0, 2 * np.pi) + 2 * np.pi * (np.arange(roots) + 0.35 * rng.standard_normal(roots)) / max(roots, 1)
    starts = [(disc + 14 * rng.standard_normal(2), float(way), u(*c.width)) for way in ways]
    for _ in range(loose):
        at, way = NOMINAL * rng.uniform(-0.02, 1.02, 2), u(0, 2 * np.pi)
        starts.append((at, way, c.width[0] + (c.width[1] - c.width[0]) * u() ** 2 * 0.8))
    grown = [b for k, (root, way, width) in enumerate(starts) for b in grow(rng, root, way, width, habit, k + 1, bool(k % 2), NOMINAL)]
    kept, covered, room = [], 0.0, most * np.pi * (NOMINAL / 2) ** 2
    for branch in sorted(grown, key=lambda b: -float(b.widths.mean())):  # the thinnest are left out first
        covered += STEP * float(branch.widths.sum())
        kept.append(branch)
        if covered > room:
            break
    return kept


def _painted(canvas: NDArray[np.uint8], branch: Branch, value: float, shift: tuple[NDArray, float], share: float = 1.0, most: int = 10**6) -> None:
    """The branch's line at `share` of its width on a canvas FINER times as fine, in place; pieces of one thickness together."""
    points = ((branch.points[:, ::-1] * shift[1] + shift[0][::-1] + 0.5) * FINER - 0.5) * 16
    points = np.rint(points).astype(np.int32)
    thick = np.clip(np.rint(branch.widths * shift[1] * FINER * share), 1, most).astype(int)
    cuts = [0, *(np.flatnonzero(np.diff(thick)) + 1).tolist(), len(thick)]
    for a, b in zip(cuts[:-1], cuts[1:], strict=True):
        cv2.polylines(canvas, [points[a : b + 1]], False, value, int(thick[a]), cv2.LINE_8, 4)


def _truth(branches: list[Branch], shape: tuple[int, int], shift: tuple[NDArray, float]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Pixels that vessels cover by half or more, and the number of the tree, both (h, w)."""
    fine = np.zeros((shape[0] * FINER, shape[1] * FINER), np.uint8)
    trees = np.zeros_like(fine)
    for branch in branches:
        _painted(fine, branch, 255, shift)
        _painted(trees, branch, branch.tree, shift)
    mask = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA) >= 128
    number = cv2.resize(cv2.dilate(trees, np.ones((FINER, FINER), np.uint8)), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return mask, number


def _depth(
    rng: np.random.Generator, branches: list[Branch], shape: tuple[int, int], shift: tuple[NDArray, float], look: tuple[float, ...]
) -> NDArray[np.float32]:
    """How dark every pixel is made, 1 in the middle of a wide vein. look: thin, artery, reflex, soft, wall. (h, w)"""
    thin, artery, reflex, soft, wall = look
    widest = max((float(b.widths.max()) for b in branches), default=1.0)
    layers = []
    for is_artery in (False, True):
        fine = np.zeros((shape[0] * FINER, shape[1] * FINER), np.uint8)
        for b in sorted((b for b in branches if b.artery == is_artery), key=lambda b: float(b.widths.mean())):
            wide = float(b.widths.mean())
            dark = 250 * (thin + (1 - thin) * (wide / widest) ** 0.7) * (artery if is_artery else 1.0) * float(np.exp(0.1 * rng.standard_normal()))
            dark = float(np.clip(dark, 5, 255))
            _painted(fine, b, wall * dark, shift)
            _painted(fine, b, dark, shift, 0.7)
            if reflex and wide > 3.2:
                _painted(fine, b, dark * (1 - 0.7 * reflex * (1.0 if is_artery else 0.5)), shift, 0.3)
        layer = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 250
        layers.append(cv2.GaussianBlur(layer, (0, 0), max(soft * shift[1], 0.2)))
    return np.asarray(1 - (1 - layers[0].clip(0, 1)) * (1 - layers[1].clip(0, 1)), np.float32)


def _photographed(
    rng: np.random.Generator, planes: NDArray[np.float32], field: NDArray[np.bool_], scale: float, c: FundusConfig, *, real: bool
) -> NDArray[np.uint8]:
    """Blur, noise, the field's dark border. A real background has its own blur and noise, so only a little is added."""
    blur, noise = rng.uniform(*c.blur) * scale, rng.uniform(*c.noise)
    light = planes * 255
    if not real and blur > 0.2:
        light = cv2.GaussianBlur(light, (0, 0), blur)
    grain = noise * rng.standard_normal(light.shape).astype(np.float32)
    if rng.random() < 0.6:  # a camera's noise after JPEG is coarser than a pixel
        grain = 1.8 * cv2.GaussianBlur(grain, (0, 0), 0.8)
    light = np.clip(light + (0.35 * grain if real else grain), 1, 255)
    return np.where(field[..., None], light, 0).astype(np.uint8)


def _consecutive(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels renamed 1, 2, 3 … in order; 0 stays."""
    there = np.bincount(labels.ravel(), minlength=1) > 0
    there[0] = False
    return np.asarray((np.cumsum(there) * there)[labels], np.int32)
