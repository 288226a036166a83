"""Everything round the glands: fibres, scattered nuclei, other tissue, vessels, mucin lakes, and the white outside.

None of it is truth; all of it is what a network could mistake for a gland. Lengths in the config are µm.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Range
from tacit.phantom.outline import Labels
from tacit.phantom.texture import Plane, along_level, fibres, honeycomb, smooth_noise, stamp


class StromaConfig(Config):
    """Ranges of what surrounds glands, and how often each feature is drawn (shares of pictures)."""

    eosin: Range = (0.12, 0.6)  # counterstain of the fibres
    fibre_um: Range = (15.0, 120.0)  # length of a streak
    nuclei_per_mm2: Range = (500.0, 9000.0)  # scattered nuclei, before clustering
    loose: float = 0.35  # white gaps between fibres
    other_tissue: float = 0.35  # muscle, fat or blood over part of the picture
    follicle: float = 0.15  # dense lymphoid aggregates
    vessels: float = 0.35
    outside: float = 0.22  # white glass beyond the tissue's edge
    surface: float = 0.6  # share of those edges lined by surface epithelium
    mucin_lake: float = 0.12
    buds: float = 0.25  # small clusters of tumour cells that are no gland


@dataclass
class Ground:
    """The stroma's planes, the glands that remain, and the masks that are painted last."""

    nuclear: Plane
    counter: Plane
    labels: Labels
    glass: NDArray[np.bool_]  # beyond the tissue
    clefts: NDArray[np.bool_]  # white retraction round glands


def lay_ground(rng: np.random.Generator, labels: Labels, um: float, c: StromaConfig, p: dict[str, float]) -> Ground:
    """Paints the stroma round `labels`; glands in other tissue or beyond the edge are taken out of the labels."""
    shape = labels.shape
    glass = _glass(rng, shape, um) if rng.random() < c.outside else np.zeros(shape, bool)
    labels = np.where(glass, 0, labels).astype(np.int32)
    other = _region(rng, shape, um, rng.uniform(0.1, 0.5)) if rng.random() < c.other_tissue else np.zeros(shape, bool)
    lake = _region(rng, shape, um, rng.uniform(0.05, 0.3)) if rng.random() < c.mucin_lake else np.zeros(shape, bool)
    labels = _without(rng, labels, other | lake)
    free = labels == 0
    away = np.minimum(cv2.distanceTransform(free.astype(np.uint8), cv2.DIST_L2, 5), sum(shape)).astype(np.float32)

    direction = _direction(rng, shape, away, um)
    streaks = fibres(rng, direction, rng.uniform(*c.fibre_um) / um, rng.uniform(1.0, 4.0) / um)
    eosin = rng.uniform(*c.eosin)
    contrast = rng.uniform(0.15, 0.7)
    counter = eosin * np.clip(1 + contrast * streaks + rng.uniform(0.05, 0.35) * smooth_noise(rng, shape, 80 / um), 0.05, 3)
    nuclear = rng.uniform(0.0, 0.14) * np.clip(1 + 0.5 * smooth_noise(rng, shape, 30 / um), 0, 3)
    if rng.random() < c.loose:
        gaps = smooth_noise(rng, shape, rng.uniform(5, 20) / um) + 0.8 * streaks > rng.uniform(0.7, 1.8)
        counter = np.where(cv2.GaussianBlur(gaps.astype(np.float32), (0, 0), 0.7) > 0.5, 0.03, counter)
    counter, nuclear = _paint_other(rng, counter, nuclear, other, direction, um)
    if lake.any():
        wisps = np.clip(fibres(rng, direction, 80 / um, 2 / um), 0, 2)
        counter, nuclear = np.where(lake, 0.04 + 0.05 * wisps, counter), np.where(lake, 0.05 + 0.07 * wisps, nuclear)
    counter, nuclear = counter.astype(np.float32), nuclear.astype(np.float32)

    room = free & ~lake & ~glass
    if rng.random() < c.vessels:
        _vessels(rng, counter, nuclear, room & (away > 8 / um), um)
    _nuclei(rng, nuclear, counter, room, direction, um, c, p)
    if rng.random() < c.buds * (0.4 + p["malignancy"]):
        _buds(rng, nuclear, counter, room & (away > 12 / um), um, p)
    if glass.any() and rng.random() < c.surface:
        _surface(rng, nuclear, counter, glass, free, um, p)
    clefts = np.zeros(shape, bool)
    if p["cleft_um"]:
        ragged = p["cleft_um"] / um * np.clip(0.4 + smooth_noise(rng, shape, 60 / um), 0, 2)
        clefts = free & (away < ragged) & (away > 0)
    return Ground(nuclear, counter, labels, glass, clefts)


def cover(rng: np.random.Generator, ground: Ground, nuclear: Plane, counter: Plane, um: float, p: dict[str, float]) -> None:
    """Paints clefts and glass over the finished planes, and smudges a part of some pictures. In place."""
    for white in (ground.clefts, ground.glass):
        counter[white] = 0.01 + 0.03 * rng.random()
        nuclear[white] = 0.005
    if rng.random() < 0.25:  # uneven section thickness or a fold
        thick = np.exp(rng.uniform(0.05, 0.3) * smooth_noise(rng, nuclear.shape, rng.uniform(80, 300) / um))
        nuclear *= thick
        counter *= thick


def _glass(rng: np.random.Generator, shape: tuple[int, int], um: float) -> NDArray[np.bool_]:
    """A side of the picture beyond a wavy line."""
    rows, cols = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    line = (rows - shape[0] / 2) * np.sin(angle) + (cols - shape[1] / 2) * np.cos(angle)
    wavy = line + rng.uniform(5, 30) / um * smooth_noise(rng, shape, rng.uniform(60, 250) / um)
    wavy += rng.uniform(0, 4) / um * smooth_noise(rng, shape, 12 / um)
    return np.asarray(wavy > rng.uniform(0.05, 0.45) * max(shape), bool)


def _region(rng: np.random.Generator, shape: tuple[int, int], um: float, share: float) -> NDArray[np.bool_]:
    """A connected-looking part of the picture that covers about `share` of it."""
    field = smooth_noise(rng, shape, rng.uniform(150, 500) / um) + 0.08 * smooth_noise(rng, shape, 15 / um)
    return np.asarray(field > np.quantile(field, 1 - share), bool)


def _without(rng: np.random.Generator, labels: Labels, region: NDArray[np.bool_]) -> Labels:
    """Labels without the glands that lie mostly in `region`; nine in ten of them go."""
    if not region.any() or not labels.any():
        return labels
    size = np.bincount(labels.ravel())
    within = np.bincount(labels.ravel(), weights=region.ravel().astype(float))
    gone = (within > 0.4 * np.maximum(size, 1)) & (rng.random(len(size)) < 0.9)
    gone[0] = False
    return np.where(gone[labels], 0, labels).astype(np.int32)


def _direction(rng: np.random.Generator, shape: tuple[int, int], away: Plane, um: float) -> Plane:
    """Where the fibres run: a bent common direction, at times wrapped round the glands. Radians, (h, w)."""
    common = rng.uniform(0, np.pi) + rng.uniform(0.1, 1.2) * smooth_noise(rng, shape, rng.uniform(80, 400) / um)
    if rng.random() < 0.5 and away.max() > 2:
        soft = cv2.GaussianBlur(away, (0, 0), 6 / um)
        round_glands = np.arctan2(cv2.Sobel(soft, cv2.CV_32F, 0, 1), cv2.Sobel(soft, cv2.CV_32F, 1, 0)) + np.pi / 2
        near = np.exp(-away * um / rng.uniform(10, 50))
        doubled = near * np.exp(2j * round_glands) + (1 - near) * np.exp(2j * common)  # directions have period π
        return np.asarray(np.angle(doubled) / 2, np.float32)
    return np.asarray(common, np.float32)


def _paint_other(rng: np.random.Generator, counter: Plane, nuclear: Plane, other: NDArray[np.bool_], direction: Plane, um: float) -> tuple[Plane, Plane]:
    """Muscle (dense, streaked), fat (white cells with thin walls) or blood (grainy, dense) inside `other`."""
    if not other.any():
        return counter, nuclear
    shape, kind = other.shape, rng.integers(0, 3)
    if kind == 0:
        streaks = fibres(rng, direction + rng.uniform(0, np.pi), 100 / um, 3 / um)
        dense = rng.uniform(0.35, 0.8) * np.clip(1 + 0.2 * streaks, 0.3, 2)
    elif kind == 1:
        walls = np.clip(1 - 6 * honeycomb(rng, shape, rng.uniform(35, 80) / um), 0, 1)
        dense = 0.02 + 0.4 * walls
    else:
        cells = np.clip(honeycomb(rng, shape, rng.uniform(5, 8) / um) * 2, 0, 1)
        dense = rng.uniform(0.3, 0.9) * cells + 0.05
    soft = cv2.GaussianBlur(other.astype(np.float32), (0, 0), rng.uniform(1, 12) / um)
    return counter * (1 - soft) + dense * soft, nuclear * (1 - 0.7 * soft)


def _vessels(rng: np.random.Generator, counter: Plane, nuclear: Plane, room: NDArray[np.bool_], um: float) -> None:
    """A few ringed holes: pink wall, thin dark lining, white or blood-filled lumen."""
    spots = np.argwhere(room)
    if not len(spots):
        return
    count = int(rng.integers(1, 5))
    centres = spots[rng.integers(0, len(spots), count)].astype(float)
    radius = np.exp(rng.uniform(np.log(5), np.log(28), (count, 1))) / um
    axes = radius * np.concatenate([rng.uniform(1, 2.2, (count, 1)), np.ones((count, 1))], 1)
    angles = rng.uniform(0, np.pi, count)
    for grow, level, plane in ((rng.uniform(2, 8) / um, rng.uniform(0.35, 0.8), counter), (0.0, 0.03 if rng.random() < 0.6 else 0.9, counter)):
        canvas = np.zeros(counter.shape, np.uint8)
        stamp(canvas, centres, axes + grow, angles, np.full(count, 255))
        soft = canvas.astype(np.float32) / 255 * room
        plane[:] = plane * (1 - soft) + level * soft
        nuclear *= 1 - 0.8 * soft


def _nuclei(
    rng: np.random.Generator,
    nuclear: Plane,
    counter: Plane,
    room: NDArray[np.bool_],
    direction: Plane,
    um: float,
    c: StromaConfig,
    p: dict[str, float],
) -> None:
    """Scattered nuclei in `room`: round and dark (lymphocytes), spindles along the fibres, clustered by drawn densities."""
    shape = room.shape
    per_mm2 = float(np.exp(rng.uniform(*np.log(c.nuclei_per_mm2))))
    clustering = rng.uniform(0.2, 1.3)
    density = np.exp(clustering * smooth_noise(rng, shape, rng.uniform(30, 200) / um))
    if rng.random() < c.follicle:
        density = density + rng.uniform(2, 6) * _region(rng, shape, um, rng.uniform(0.05, 0.3))
    density = density * room / max(density.mean(), 1e-6)
    count = int(min(per_mm2 * shape[0] * shape[1] * um * um * 1e-6 * density.mean(), 25_000))
    p["stroma_nuclei_per_mm2"] = per_mm2
    if count < 1 or density.sum() <= 0:
        return
    flat = np.searchsorted(np.cumsum(density.ravel()), rng.random(count) * density.sum()).clip(0, density.size - 1)
    centres = np.stack(np.unravel_index(flat, shape), 1) + rng.random((count, 2)) - 0.5
    round_share, size = rng.uniform(0.1, 0.95), rng.uniform(4.5, 7.5) / um
    is_round = rng.random(count) < round_share
    stretch = np.where(is_round, rng.uniform(1.0, 1.3, count), rng.uniform(1.8, 4.5, count))
    across = size / np.where(is_round, 1.0, 1.7) * np.exp(0.15 * rng.standard_normal(count))
    axes = 0.5 * np.stack([across * stretch, across], 1)
    r, col = np.clip(centres.astype(int), 0, np.asarray(shape) - 1).T
    angles = np.where(is_round, rng.uniform(0, np.pi, count), direction[r, col] + 0.25 * rng.standard_normal(count))
    dark = rng.uniform(0.5, 1.3) * np.exp(0.2 * rng.standard_normal(count))
    canvas = np.zeros(shape, np.uint8)
    stamp(canvas, centres, axes, angles, np.clip(dark * 160, 0, 255))
    if rng.random() < 0.4:  # plasma cells: a halo of cytoplasm
        halo = np.zeros(shape, np.uint8)
        stamp(halo, centres[is_round], axes[is_round] * 1.7, angles[is_round], np.full(int(is_round.sum()), 255))
        counter += 0.25 * rng.random() * (halo / 255.0).astype(np.float32) * room
    nuclear[:] = np.maximum(nuclear, canvas.astype(np.float32) / 160 * room)


def _buds(rng: np.random.Generator, nuclear: Plane, counter: Plane, room: NDArray[np.bool_], um: float, p: dict[str, float]) -> None:
    """Single tumour cells and clusters of up to five, which no pathologist would outline as a gland."""
    spots = np.argwhere(room)
    if not len(spots):
        return
    clusters = spots[rng.integers(0, len(spots), int(rng.integers(2, 10)))]
    centres = np.concatenate([s + rng.standard_normal((int(rng.integers(1, 6)), 2)) * 0.7 * p["nucleus_um"] / um for s in clusters])
    n, half = len(centres), 0.5 * p["nucleus_um"] / um
    axes, angles = half * np.exp(0.15 * rng.standard_normal((n, 2))), rng.uniform(0, np.pi, n)
    body, core = np.zeros(room.shape, np.uint8), np.zeros(room.shape, np.uint8)
    stamp(body, centres, axes * 1.8, angles, np.full(n, 255))
    stamp(core, centres, axes, angles, np.full(n, 255))
    soft = body.astype(np.float32) / 255
    counter[:] = counter * (1 - soft) + p["cytoplasm_counter"] * soft
    nuclear[:] = np.maximum(nuclear * (1 - soft) + p["cytoplasm_nuclear"] * soft, core.astype(np.float32) / 255 * p["nucleus_dark"])


def _surface(
    rng: np.random.Generator, nuclear: Plane, counter: Plane, glass: NDArray[np.bool_], free: NDArray[np.bool_], um: float, p: dict[str, float]
) -> None:
    """Surface epithelium along the glass: one row of nuclei under a band of cytoplasm. Looks glandular, is none."""
    depth = cv2.distanceTransform((~glass).astype(np.uint8), cv2.DIST_L2, 5)
    height = rng.uniform(14, 32) / um
    band = (depth > 0) & (depth < height * (1 + 0.15 * smooth_noise(rng, glass.shape, 40 / um))) & free
    counter[band], nuclear[band] = p["cytoplasm_counter"], p["cytoplasm_nuclear"]
    if p["mucin"] > 0.3:
        goblets = np.clip(honeycomb(rng, glass.shape, p["goblet_um"] / um) * 2.5, 0, 1) * (depth < 0.55 * height)
        counter[band] *= (1 - 0.8 * goblets)[band]
    width = p["nucleus_um"] / um / np.sqrt(p["nucleus_stretch"])
    canvas = np.zeros(glass.shape, np.uint8)
    for level in (0.7, 0.85)[: int(rng.integers(1, 3))]:
        centres, angles = along_level(depth, height * level, width * p["nucleus_crowding"])
        n = len(centres)
        axes = 0.5 * width * np.stack([np.full(n, p["nucleus_stretch"]), np.ones(n)], 1) * np.exp(0.12 * rng.standard_normal((n, 2)))
        stamp(canvas, centres + 0.15 * width * rng.standard_normal((n, 2)), axes, angles, np.full(n, 255))
    nuclear[:] = np.maximum(nuclear, canvas.astype(np.float32) / 255 * p["nucleus_dark"] * free)
