"""The lungs of a drawn CT: where they are, their lobes and fissures, and how dense they are without a lesion.

The normal lung varies on purpose: expiration, gravity, patches, and a band of dependent density at the back that could be taken for ground glass.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.phantom.ct_body import Body, Section, cage_size, fat_shape, heart_shape, section, spine_shape, spine_y
from tacit.phantom.ct_grid import Grid, Plane, SolidNoise, cover, ellipse, ellipsoid, lay, smaller, step

LATTICE_MM = 5.0
CARINA = 0.60  # z of the carina, share of the lungs' height
HILUM = 0.45  # z of the hila, share of the lungs' height
LOBES = ("right upper", "right middle", "right lower", "left upper", "left lower")


def lung_depth(s: Section) -> Plane:
    """mm inside a lung (negative outside), corners rounded."""
    deep = smaller(s.cage, -s.under, 6.0)
    deep = smaller(deep, -_mediastinum(s), 5.0)
    return np.asarray(smaller(deep, -spine_shape(s), 6.0), np.float32)


def _mediastinum(s: Section) -> Plane:
    """mm inside what lies between the lungs."""
    b, z = s.b, s.z
    w, d = b.p["cage_width"], b.p["cage_depth"]
    _, depth, back = cage_size(b, z)
    up = float(step(z, 0.25 * b.height, 0.5 * b.height))
    front = 5 + 12 * float(step(z, 0.7 * b.height, 0.92 * b.height)) + 0.1 * np.clip(-s.y - depth + back + 22, 0, None)
    wavy = 2.5 * np.sin(z / 13 + b.disc_shift * 6) + 2 * np.sin(s.y / 15 + z / 31)
    septum = np.minimum(front - np.abs(s.x - b.askew - 3 - wavy), 6 - s.y)
    vessels = ellipse(s.x, s.y, (b.askew + 2, -0.08 * d + 0.5 * back), (0.14 * w + (0.12 * w - 5) * up, 0.52 * d)) - 60 * (1 - up)
    top = ellipse(s.x, s.y, (0, back - 4), (30, 0.62 * d)) - 8 + 8 * float(step(z, 0.72 * b.height, 0.9 * b.height))
    front_of_spine = spine_y(b, z) - 22
    behind = np.minimum(13 - np.abs(s.x - 4), s.y + 12)
    aorta = ellipse(s.x, s.y, (b.askew + 22, front_of_spine + 3), (15, 15)) - 40 * float(step(z, CARINA * b.height + 8, CARINA * b.height + 34))
    hila = [ellipsoid(s.x, s.y, z, (b.askew + side * 33, 2, HILUM * b.height + 6 * side), (19, 16, 24)) for side in (-1, 1)]
    between = np.maximum(np.maximum(septum, vessels + wavy), np.maximum(top + wavy, behind))
    return np.asarray(np.maximum(np.maximum(between, aorta), np.maximum(_heart_in_fat(s), np.maximum(*hila))), np.float32)


def _heart_in_fat(s: Section) -> Plane:
    heart = heart_shape(s)
    return heart if s.b.p["heart_fat"] <= 0 else np.asarray(-smaller(-heart, -fat_shape(s), 12.0), np.float32)


def fissures(s: Section, bend: Plane) -> tuple[Plane, Plane]:
    """mm above the oblique fissure of either lung, and mm above the right lung's horizontal one. bend: noise of about 30 mm."""
    h, d = s.b.height, s.b.p["cage_depth"]
    rise = 0.80 * h / (2 * d)
    oblique = (s.z - (0.32 * h + rise * s.y) - 4 * bend) / np.sqrt(1 + rise * rise)
    horizontal = s.z - 0.44 * h - 3 * bend + 0.12 * np.abs(s.x)
    return np.asarray(oblique, np.float32), np.asarray(horizontal, np.float32)


def lobes(s: Section, oblique: Plane, horizontal: Plane) -> NDArray[np.uint8]:
    """The lobe of every pixel as if all were lung: an index of `LOBES`."""
    right = np.where(oblique < 0, 2, np.where(horizontal < 0, 1, 0))
    return np.where(s.x < s.b.askew, right, np.where(oblique < 0, 4, 3)).astype(np.uint8)


def parenchyma(s: Section, depth: Plane, oblique: Plane, horizontal: Plane, noise: tuple[SolidNoise, SolidNoise, SolidNoise]) -> tuple[Plane, Plane]:
    """HU (h, w) of normal lung as if all were lung, and the same without its grain and fissures. noise: of about 6, 25 and 30 mm."""
    p, z = s.b.p, s.z
    grain, patches, coarse = (n.at(s.grid, z) for n in noise)
    back = s.y / p["cage_depth"]  # −1 in front, 1 at the back
    even = p["lung_hu"] + 0.5 * p["gravity_hu"] * back + p["patches_hu"] * (0.7 * patches + 0.5 * coarse)
    band = np.clip(1.15 - s.cage / p["dependent_mm"] + 0.25 * patches, 0, 1) * step(back, 0.25, 0.8) * float(step(z, 0.75 * s.b.height, 0.1 * s.b.height))
    smooth: Plane = np.clip(even + p["dependent_hu"] * band, -960, -350).astype(np.float32)
    low = float(step(z, 0.6 * s.b.height, 0.05 * s.b.height)) * np.where(s.x < s.b.askew, *s.b.crescents)
    crescent = cover(np.minimum(p["collapsed_mm"] * (low * step(back, 0.2, 0.75) * (1 + 0.3 * patches) + 0.1 * coarse) - s.cage, depth + 1), s.grid.px)
    lay(smooth, crescent, p["collapsed_hu"] + 12 * grain)
    line = np.clip(1.2 - np.abs(oblique), 0, 1) + (s.x < s.b.askew) * (oblique > 0) * np.clip(1.4 - np.abs(horizontal), 0, 1)
    thin = min(1.0, 1.3 / s.grid.px)
    core = 1 + np.clip(1 - depth / 3.0, 0, 1) * 0.3
    return np.asarray(smooth + p["grain_hu"] * grain * core + 160 * thin * np.clip(line, 0, 1) * (1 - crescent), np.float32), smooth


def lattice(b: Body, bend: SolidNoise) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points of the lungs on a lattice of 5 mm: (n, 4) z, y, x and the depth inside the lung, mm; and the lobe of each."""
    side = int(380 / LATTICE_MM)
    grid = Grid((1, side, side), (LATTICE_MM,) * 3, (0.0, -190.0, -190.0))
    points, names = [], []
    for z in np.arange(b.low, b.height + 1, LATTICE_MM):
        s = section(b, grid, float(z))
        depth = lung_depth(s)
        rows, cols = np.nonzero(depth > 0)
        points.append(np.stack([np.full(len(rows), z), grid.y[rows, 0], grid.x[0, cols], depth[rows, cols]], 1))
        names.append(lobes(s, *fissures(s, bend.at(grid, float(z))))[rows, cols])
    return np.concatenate(points).astype(np.float32), np.concatenate(names)
