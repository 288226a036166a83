"""Lesions planted in drawn lungs: ground glass, consolidation, crazy paving, each with its exact mask.

COVID: several foci of ground glass in both lungs, under the pleura, mostly below and behind; some with septal lines (crazy paving).
CAP: one consolidation in one lobe, bounded by its fissures, with air in its bronchi. Where a focus lies and how it grows follows the usual
descriptions of both; sizes are drawn so that all foci together fill the drawn share of the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tacit.phantom.ct_body import Body, Section
from tacit.phantom.ct_grid import Plane, SolidNoise, ellipsoid
from tacit.phantom.ct_lung import LATTICE_MM, LOBES
from tacit.phantom.ct_tubes import Tubes, paint, tree

KINDS = ("none", "ground-glass", "consolidation", "crazy-paving")  # a mask's values
GROUND_GLASS, CONSOLIDATION, CRAZY_PAVING = 1, 2, 3
LEAST_HU = 130.0  # a lesion is at least so much denser than the lung round it
MOST_HU = -250.0  # but not denser than this, unless it is a consolidation
MOSTLY = 0.6  # of the foci of a patient with dense ones
SOFT_MM = 5.0  # width of the edge of ground glass
BRONCHI, BRONCHUS_MM = 16, 0.75  # ends of the open airways in a consolidation, and their radius there
EDGE = 0.1  # a focus ends where its soft edge has fallen to this


@dataclass(frozen=True)
class Focus:
    """One lesion: an ellipsoid with a wavy edge, flat along the pleura."""

    kind: int
    centre: tuple[float, float, float]  # x, y, z mm
    radii: tuple[float, float, float]  # along the pleura, across it, along z, mm
    turn: float  # of the first radius from x towards y, radians
    hu: float
    lobe: int  # index of LOBES that bounds it, −1 for none
    left: bool


def plan(rng: np.random.Generator, b: Body, places: NDArray[np.float32], lobe_of: NDArray[np.uint8], label: str) -> tuple[Focus, ...]:
    """The foci of a phantom of class `label`: normal, COVID, CAP, or lesion (one of the two). places: of `lattice`; lobe_of: the lobe of each."""
    if label == "lesion":
        label = ("COVID", "CAP")[int(rng.integers(2))]
    if label == "normal":
        return ()
    wanted = b.p["covid_share" if label == "COVID" else "cap_share"] * len(places) * LATTICE_MM**3  # mm³
    foci = _covid(rng, b, places, wanted) if label == "COVID" else _cap(rng, b, places, lobe_of, wanted)
    for _ in range(4):
        foci = _sized(foci, places, lobe_of, wanted)
    return foci


def _sized(foci: tuple[Focus, ...], places: NDArray[np.float32], lobe_of: NDArray[np.uint8], wanted: float) -> tuple[Focus, ...]:
    """The foci all larger or smaller by one factor, nearer to filling `wanted` mm³ of the lungs."""
    held = np.zeros(len(places), bool)
    for f in foci:
        edge = 0.8 if f.kind == CONSOLIDATION else 0.3 * SOFT_MM
        off = places[:, 2::-1] - np.asarray(f.centre, np.float32)
        cos, sin = np.cos(f.turn), np.sin(f.turn)
        turned = np.stack([cos * off[:, 0] + sin * off[:, 1], cos * off[:, 1] - sin * off[:, 0], off[:, 2]], 1)
        inside = (1 - np.linalg.norm(turned / f.radii, axis=1)) * min(f.radii) > -edge
        held |= inside & ((lobe_of == f.lobe) if f.lobe >= 0 else ((lobe_of >= 3) == f.left))
    factor = float(np.clip(np.cbrt(wanted / max(held.sum() * LATTICE_MM**3, LATTICE_MM**3)), 0.6, 1.6))
    return tuple(replace(f, radii=(f.radii[0] * factor, f.radii[1] * factor, f.radii[2] * factor)) for f in foci)


def _covid(rng: np.random.Generator, b: Body, places: NDArray[np.float32], wanted: float) -> tuple[Focus, ...]:
    count = int(rng.integers(4, 9))
    sizes = rng.dirichlet(np.full(count, 2.5)) * wanted
    paved = rng.random() < 0.5
    weight = (places[:, 3] < 18) * (places[:, 3] > 6) * (1.15 - np.clip(places[:, 0] / b.height, -0.3, 1)) * (0.35 + (places[:, 1] > 0))
    weight = np.where(_near_wall(b, places), weight, 0)
    found: list[Focus] = []
    for i in range(count):
        left = bool(i % 2)
        own = np.where((places[:, 2] > b.askew) == left, weight, 0)
        for f in found:  # apart from those that are there
            own = np.where(np.linalg.norm(places[:, 2::-1] - np.asarray(f.centre), axis=1) < 1.5 * f.radii[0], 0, own)
        if not own.any():
            continue
        z, y, x = (float(v) for v in places[rng.choice(len(places), p=own / own.sum()), :3])
        flat, tall = float(rng.uniform(0.5, 0.85)), float(rng.uniform(0.8, 1.3))
        radius = float(np.cbrt(sizes[i] / (4.19 * flat * tall * 0.72)))  # some of it lies beyond the pleura
        kind = CRAZY_PAVING if paved and rng.random() < 0.5 else GROUND_GLASS
        hu = b.p["dense_glass_hu" if b.p["dense_glass"] and rng.random() < MOSTLY else "ground_glass_hu"]
        found.append(Focus(kind, (x, y, z), (radius, flat * radius, tall * radius), float(np.arctan2(y, x) + np.pi / 2), hu, -1, left))
    return tuple(found)


def _near_wall(b: Body, places: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Near the ribs or the diaphragm, not only near the heart."""
    y, x = places[:, 1] / b.p["cage_depth"], places[:, 2] / b.p["cage_width"]
    return np.asarray((np.hypot(x, y) > 0.62) & (np.abs(places[:, 2] - b.askew) > 0.3 * b.p["cage_width"]))


def _cap(rng: np.random.Generator, b: Body, places: NDArray[np.float32], lobe_of: NDArray[np.uint8], wanted: float) -> tuple[Focus, ...]:
    lobe = int(rng.choice(len(LOBES), p=(0.2, 0.17, 0.28, 0.12, 0.23)))
    own = (lobe_of == lobe) & _near_wall(b, places) & (places[:, 3] > 5) & (places[:, 3] < 16)
    if not own.any():
        own = lobe_of == lobe
    z, y, x = (float(v) for v in places[rng.choice(np.flatnonzero(own)), :3])
    flat, tall = float(rng.uniform(0.6, 0.85)), float(rng.uniform(0.65, 1.0))
    radius = float(np.cbrt(wanted / (4.19 * flat * tall * 0.72)))
    turn = float(np.arctan2(y, x - b.askew - np.sign(x - b.askew) * 30) + rng.uniform(-0.4, 0.4))  # long towards the hilum, as a segment is
    return (Focus(CONSOLIDATION, (x, y, z), (radius, flat * radius, tall * radius), turn, b.p["consolidation_hu"], lobe, x > b.askew),)


class Lesions:
    """The foci of one phantom, ready to be laid into its slices."""

    def __init__(self, foci: tuple[Focus, ...], b: Body, seed: int) -> None:
        self.foci, self.b = foci, b
        self.wave, self.fine = SolidNoise(seed, 18.0), SolidNoise(seed + 1, 7.0)
        self.bronchi = [_bronchi(np.random.default_rng([seed, 3, i]), f) if f.kind == CONSOLIDATION else None for i, f in enumerate(foci)]
        self.cells = [_cells(np.random.default_rng([seed, 2, i]), f, b.p["septa_mm"]) if f.kind == CRAZY_PAVING else None for i, f in enumerate(foci)]

    def without(self) -> Lesions:
        """The same phantom's lesions, taken away."""
        return Lesions((), self.b, 0)

    def lay(self, s: Section, lung: Plane, lobe: NDArray[np.uint8], smooth: Plane, hu: Plane, lumen: Plane) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """What the lesions add to a slice, HU (h, w), at least 1 wherever their mask is and 0 elsewhere; and the mask of `KINDS`.

        lung: share of lung · smooth: normal parenchyma, HU · hu: the slice without lesions and noise · lumen: share of airway. (h, w) each.
        """
        added, kinds = np.zeros(hu.shape, np.float32), np.zeros(hu.shape, np.uint8)
        near = [found for found in zip(self.foci, self.cells, self.bronchi, strict=True) if abs(s.z - found[0].centre[2]) < 1.6 * found[0].radii[2]]
        if not near:
            return added.astype(np.int16), kinds
        one = replace(s.grid, shape=(1, *s.grid.shape[1:]), origin_mm=(s.z, *s.grid.origin_mm[1:]))
        wave, fine = self.wave.at(s.grid, s.z), self.fine.at(s.grid, s.z)
        for f, cells, bronchi in near:
            rough, soft = (0.6, 3.5) if f.kind == CONSOLIDATION else (1.0, SOFT_MM)
            inside = ellipsoid(s.x, s.y, s.z, f.centre, f.radii, f.turn) + rough * min(f.radii) * (0.22 * wave + 0.05 * fine)
            share = np.clip(inside / max(soft, s.grid.px) + 0.5, 0, 1) * lung * ((s.x > self.b.askew) == f.left)
            share *= (lobe == f.lobe) if f.lobe >= 0 else 1.0
            mask = (share > EDGE) & (lung >= 0.5)
            if not mask.any():
                continue
            target = np.maximum(f.hu + 18 * fine + 10 * wave, np.minimum(smooth + LEAST_HU, MOST_HU))
            open_air = lumen if bronchi is None else np.maximum(lumen, paint(bronchi, one, 0, 1)[0])
            more = share * (1 - open_air) * np.clip(target - hu, 0, None)
            if cells is not None:
                more[mask] += share[mask] * self.b.p["septa_hu"] * _lines(cells, s, mask)
            kinds[mask & (more >= added)] = f.kind
            added[mask] = np.maximum(added[mask], np.maximum(more[mask], 1))
        return np.rint(added).astype(np.int16), kinds


def _bronchi(rng: np.random.Generator, f: Focus) -> Tubes:
    """Airways that stay open in a consolidation: a tree from its end near the hilum."""
    out = rng.standard_normal((BRONCHI, 3))
    out *= 0.9 * rng.random((BRONCHI, 1)) ** (1 / 3) / np.linalg.norm(out, axis=1, keepdims=True)
    cos, sin = np.cos(f.turn), np.sin(f.turn)
    u, v, w = (out * f.radii).T
    points = np.stack([w, sin * u + cos * v, cos * u - sin * v], 1) + np.asarray(f.centre)[::-1]
    root = np.array([f.centre[2], f.centre[1] - sin * f.radii[0], f.centre[0] - cos * f.radii[0]])
    return tree(rng, root.astype(np.float32), points.astype(np.float32), BRONCHUS_MM)


def _cells(rng: np.random.Generator, f: Focus, every: float) -> NDArray[np.float64]:
    """Middles of the secondary lobules round a focus: a shaken lattice, (n, 3) z, y, x mm."""
    reach = 1.5 * max(f.radii) + 2 * every
    side = np.arange(-reach, reach + every, every)
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
    return np.asarray(grid + rng.uniform(-0.4, 0.4, grid.shape) * every + np.asarray(f.centre)[::-1])


def _lines(cells: NDArray[np.float64], s: Section, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """1 on the septa between the lobules, 0 inside them, at the pixels of `mask`."""
    from scipy.spatial import cKDTree

    rows, cols = np.nonzero(mask)
    where = np.stack([np.full(len(rows), s.z), s.grid.y[rows, 0], s.grid.x[0, cols]], 1)
    near, _ = cKDTree(cells).query(where, k=2)
    wide = max(1.4, 0.9 * s.grid.px)
    return np.clip(1.2 - (near[:, 1] - near[:, 0]) / wide, 0, 1).astype(np.float32)  # twice the distance to the septum
