"""Tubes of a drawn CT: vessels and airways that branch from the hila to every part of the lungs, great vessels, windpipe; and their painting.

A tree is made from the points that it has to reach: from its root it runs towards their middle, parts them in two by where they lie, and goes on
with either half. A branch that serves n points is ∛n times as wide as the last twigs (Murray 1926), so trees taper from the hilum to the pleura.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.phantom.ct_body import Body, spine_y
from tacit.phantom.ct_grid import Grid
from tacit.phantom.ct_lung import CARINA, HILUM

Points = NDArray[np.float32]  # (n, 3) z, y, x mm
TWIGS = 520  # points that each tree of one lung reaches
TWIG_MM = 0.5  # radius of a twig at usual calibre
WALL_MM = 0.9  # thickness of an airway's wall
AIRWAY_POINTS = 7  # branches that serve fewer points have no visible airway


@dataclass(frozen=True)
class Tubes:
    """Rods: start and end (n, 3) z, y, x mm, radius at both (n, 2) mm; served (n,): points that each serves."""

    start: Points
    end: Points
    radius: NDArray[np.float32]
    served: NDArray[np.int64]

    @staticmethod
    def of(rods: list[tuple[tuple[float, float, float], tuple[float, float, float], float, float]]) -> Tubes:
        """From (start, end, radius, radius) with points as x, y, z."""
        start, end, r0, r1 = zip(*rods, strict=True)
        turned = [np.asarray(p, np.float32)[:, ::-1] for p in (start, end)]
        return Tubes(turned[0], turned[1], np.stack([r0, r1], 1).astype(np.float32), np.ones(len(rods), np.int64))

    def plus(self, other: Tubes) -> Tubes:
        """Both together."""
        both = ((self.start, other.start), (self.end, other.end), (self.radius, other.radius))
        start, end, radius = (np.concatenate(pair) for pair in both)
        return Tubes(start, end, radius, np.concatenate((self.served, other.served)))

    def wider(self, mm: float) -> Tubes:
        """The same rods, `mm` thicker all round."""
        return Tubes(self.start, self.end, self.radius + np.float32(mm), self.served)


def tree(rng: np.random.Generator, root: Points, points: Points, twig: float) -> Tubes:
    """The rods of a tree from `root` (3,) to every one of `points`, each branch bent once."""
    starts, ends, radii, served = [], [], [], []
    todo = [(np.asarray(root, np.float32), points)]
    while todo:
        here, ahead = todo.pop()
        n = len(ahead)
        middle = ahead.mean(0)
        share = 1.0 if n == 1 else float(rng.uniform(0.3, 0.5))
        there = here + np.float32(share) * (middle - here)
        length = float(np.linalg.norm(there - here))
        bend = (here + there) / 2 + rng.standard_normal(3).astype(np.float32) * np.float32(0.07 * length)
        wide = twig * n ** (1 / 3)
        after = wide if n > 1 else 0.6 * wide
        starts += [here, bend]
        ends += [bend, there]
        radii += [(wide, wide), (wide, after)]
        served += [n, n]
        if n > 1:
            away = ahead - there
            axis = np.linalg.svd(away - away.mean(0), full_matrices=False)[2][0] if n > 2 else ahead[1] - ahead[0]
            order = np.argsort(away @ axis)
            cut = min(max(round(n * float(rng.uniform(0.3, 0.7))), 1), n - 1)
            todo += [(there, ahead[order[:cut]]), (there, ahead[order[cut:]])]
    return Tubes(np.asarray(starts, np.float32), np.asarray(ends, np.float32), np.asarray(radii, np.float32), np.asarray(served, np.int64))


def lung_tubes(rng: np.random.Generator, b: Body, places: NDArray[np.float32]) -> tuple[Tubes, Tubes]:
    """Vessels and airways (lumen) inside both lungs. places: of `lattice`."""
    vessels, airways = [], []
    for side in (-1, 1):
        own = places[((places[:, 2] > b.askew) == (side > 0)) & (places[:, 3] > 3)]
        hilum = np.array([HILUM * b.height + 4 * side, 0, b.askew + side * 27], np.float32)
        vein = np.array([0.28 * b.height, 0.06 * b.p["cage_depth"], b.askew + side * 20], np.float32)
        twig = TWIG_MM * b.p["vessels"]
        for root, is_artery in ((hilum, True), (vein, False)):
            chosen = rng.choice(len(own), min(TWIGS, len(own)), replace=False)
            reach = own[chosen, :3] + rng.uniform(-2.5, 2.5, (len(chosen), 3)).astype(np.float32)
            grown = tree(rng, root, reach, twig)
            vessels.append(grown)
            if is_artery:
                airways.append(_beside(grown))
    return vessels[0].plus(vessels[1]).plus(vessels[2]).plus(vessels[3]), airways[0].plus(airways[1])


def _beside(arteries: Tubes) -> Tubes:
    """Airways that run with the larger arteries, behind and above them: a signet ring where they are cut across."""
    large = arteries.served >= AIRWAY_POINTS
    radius = np.minimum(0.85 * arteries.radius[large], 4.8)
    off = (arteries.radius[large].mean(1, keepdims=True) + radius.mean(1, keepdims=True) + WALL_MM) * np.array([[0.5, 0.75, 0.43]], np.float32)
    return Tubes(arteries.start[large] + off, arteries.end[large] + off, radius.astype(np.float32), arteries.served[large])


def great_vessels(b: Body) -> Tubes:
    """Aorta, cavae, pulmonary arteries and veins, branches of the arch."""
    h, d, m = b.height, b.p["cage_depth"], b.askew
    arch, hilum = CARINA * h + 12, HILUM * h
    front, low = spine_y(b, arch) - 20, spine_y(b, 0) - 18
    top = h + 40
    return Tubes.of(
        [
            ((m + 4, -0.22 * d, 0.25 * h), (m - 12, -0.32 * d, 0.45 * h), 14, 15),
            ((m - 12, -0.32 * d, 0.45 * h), (m - 4, -0.2 * d, arch), 15, 13),
            ((m - 4, -0.2 * d, arch), (m + 16, 0.12 * d, arch + 2), 12.5, 12),
            ((m + 16, 0.12 * d, arch + 2), (m + 23, front, arch - 14), 12, 11.5),
            ((m + 23, front, arch - 14), (m + 18, low, 10), 11.5, 10.5),
            ((m + 18, low, 10), (m + 4, low - 6, -140), 10.5, 9.5),
            ((m - 4, -0.16 * d, arch), (-20, -0.05 * d, top), 6, 5),
            ((m + 6, -0.06 * d, arch), (16, -0.02 * d, top), 4.5, 4),
            ((m + 14, 0.08 * d, arch), (28, 0.16 * d, top), 5, 4.5),
            ((m - 27, -0.2 * d, 0.3 * h), (m - 26, -0.24 * d, 0.78 * h), 9, 8),
            ((m - 26, -0.24 * d, 0.78 * h), (-40, -0.1 * d, top), 7, 6),
            ((m - 26, -0.24 * d, 0.78 * h), (38, -0.16 * d, 0.95 * h), 6, 6),
            ((m + 16, -0.42 * d, 0.3 * h), (m + 18, -0.2 * d, hilum), 13, 12),
            ((m + 18, -0.2 * d, hilum), (m + 28, 0, hilum + 4), 11, 8),
            ((m + 18, -0.16 * d, hilum - 2), (m - 28, 0, hilum - 4), 10, 8),
            ((m - 26, 0.08 * d, 0.28 * h), (m + 26, 0.08 * d, 0.28 * h), 7, 7),
            ((m - 26, 0.1 * d, 0.08 * h), (m - 24, 0.2 * d, -140), 11, 11),
        ]
    )


def main_airways(b: Body) -> Tubes:
    """Lumen of the windpipe and the main bronchi."""
    h, m, d = b.height, b.askew, b.p["cage_depth"]
    carina = (m + 1, 0.12 * d, CARINA * h)
    return Tubes.of(
        [
            ((m - 2, 0.02 * d + 8, h + 45), carina, 8.5, 8.8),
            (carina, (m - 31, 6, HILUM * h + 6), 7.2, 6.0),
            (carina, (m + 33, 9, HILUM * h + 8), 6.6, 5.6),
            ((m - 31, 6, HILUM * h + 6), (m - 40, 12, HILUM * h - 22), 5.4, 4.4),
            ((m + 33, 9, HILUM * h + 8), (m + 42, 14, HILUM * h - 18), 5.2, 4.2),
        ]
    )


def gullet(b: Body) -> Tubes:
    """The oesophagus, closed."""
    h, m = b.height, b.askew
    return Tubes.of(
        [
            ((m + 6, spine_y(b, h) - 24, h + 40), (m + 4, spine_y(b, 0.4 * h) - 24, 0.4 * h), 7, 7),
            ((m + 4, spine_y(b, 0.4 * h) - 24, 0.4 * h), (m + 10, spine_y(b, 0) - 34, -40), 7, 8),
        ]
    )


def paint(tubes: Tubes, grid: Grid, first: int, count: int) -> NDArray[np.float32]:
    """The share of every voxel that rods cover, (count, h, w) 0–1, in the slices from `first` on. What is thinner than a voxel is faint."""
    share = np.zeros((count, *grid.shape[1:]), np.float32)
    spacing = np.asarray(grid.spacing_mm, np.float32)
    origin = np.asarray(grid.origin_mm, np.float32) + np.array([first * spacing[0], 0, 0], np.float32)
    widest = tubes.radius.max(1, keepdims=True) + spacing.max()
    low = np.ceil((np.minimum(tubes.start, tubes.end) - widest - origin) / spacing).astype(int)
    high = np.floor((np.maximum(tubes.start, tubes.end) + widest - origin) / spacing).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, share.shape)
    axes = [origin[a] + spacing[a] * np.arange(share.shape[a], dtype=np.float32) for a in range(3)]
    px = float(np.cbrt(np.prod(spacing)))
    for i in np.flatnonzero((low < high).all(1)):
        box = tuple(slice(int(a), int(z)) for a, z in zip(low[i], high[i], strict=True))
        line = tubes.end[i] - tubes.start[i]
        z, y, x = axes[0][box[0], None, None] - tubes.start[i, 0], axes[1][None, box[1], None] - tubes.start[i, 1], axes[2][box[2]] - tubes.start[i, 2]
        t = np.clip((z * line[0] + y * line[1] + x * line[2]) / max(float(line @ line), 1e-6), 0, 1)
        far = np.sqrt((z - t * line[0]) ** 2 + (y - t * line[1]) ** 2 + (x - t * line[2]) ** 2)
        r = tubes.radius[i, 0] + t * (tubes.radius[i, 1] - tubes.radius[i, 0])
        seen = np.maximum(r, px / 2)
        faint = np.minimum((r / seen) ** 2, 1)
        np.maximum(share[box], faint * np.clip((seen - far) / px + 0.5, 0, 1), out=share[box])
    return share
