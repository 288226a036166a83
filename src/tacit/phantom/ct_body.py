"""Everything of a drawn CT but the lungs: body, wall, bones, heart and mediastinum, what lies under the diaphragm, the table.

Proportions are those of textbooks of sectional anatomy for an adult who lies on the back with raised arms; Hounsfield units are the usual ones.
A slice at a time, in the frame of `ct_grid`, mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.phantom.ct_grid import Grid, Plane, SolidNoise, capsule, cover, ellipse, ellipsoid, lay, smaller, step

AIR, FAT, MUSCLE, CARTILAGE, LIVER, SPLEEN = -1000.0, -100.0, 52.0, 105.0, 58.0, 48.0  # HU
SHELL_MM = 11.0  # thickness of the rib layer
WALL_MM = 36.0  # behind the rib cage, over the spine
RIBS = 12


@dataclass(frozen=True)
class Body:
    """One patient. p: the drawn parameters by name; the rest are smaller variations, each drawn by `body`."""

    p: dict[str, float]
    ribs_drop: float  # how far ribs fall from the spine to the front, mm
    ribs_shift: float  # where the first one lies, share of their distance
    disc_shift: float  # where discs lie, share of their distance
    kyphosis: float  # how far the spine's middle lies behind its ends, mm
    dome: tuple[float, float]  # z of the diaphragm's top, right and left, mm
    fall: tuple[float, float]  # how deep the costophrenic angles lie below, mm
    askew: float  # x of the mediastinum's middle, mm
    crescents: tuple[float, float]  # collapsed lung at the back, right and left against the drawn thickness
    breast: float  # radius, mm; 0 without
    gas: float  # y up to which the stomach holds gas, mm
    blood: float  # HU
    table: tuple[float, float]  # gap under the back and thickness, mm
    noise_seed: int

    @property
    def height(self) -> float:
        """z of the apex, mm."""
        return self.p["lung_height"]

    @property
    def low(self) -> float:
        """z of the lowest lung, mm (about)."""
        return -max(self.fall) * 1.25


def body(rng: np.random.Generator, p: dict[str, float]) -> Body:
    """A patient with the parameters `p` of `drawn_parameters`."""
    u = rng.uniform
    return Body(
        p=p,
        ribs_drop=u(60, 95),
        ribs_shift=u(-0.4, 0.4),
        disc_shift=u(0, 1),
        kyphosis=u(4, 14),
        dome=(0.0, u(-16, 4)),
        fall=(u(38, 58), u(38, 58)),
        askew=u(-4, 4),
        crescents=(u(0.6, 1.2), u(0.6, 1.2)),
        breast=p["breasts"] * u(34, 52),
        gas=u(-60, -20),
        blood=u(34, 48) + p["contrast"] * p["enhancement_hu"],
        table=(u(0, 5), u(22, 40)),
        noise_seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Section:
    """One slice of a body: its depths, shared by all who draw in it. (h, w) each."""

    b: Body
    grid: Grid
    x: Plane
    y: Plane
    z: float
    cage: Plane  # mm inside the rib cage's inner face (negative outside)
    round: Plane  # 0 at the spine, .5 at the side, 1 at the breastbone
    under: Plane  # mm below the diaphragm (negative above)


def section(b: Body, grid: Grid, z: float) -> Section:
    """The slice of `b` at height z."""
    x, y = np.broadcast_arrays(grid.x, grid.y)
    a, d, back = cage_size(b, z)
    u, v = np.abs(x) / a, (y - back) / d
    far = (u**2.3 + np.abs(v) ** 2.3) ** np.float32(1 / 2.3) + np.float32(1e-4)
    cage = np.hypot(x, y - back) * (1 / far - 1)
    return Section(b, grid, x, y, z, cage, np.asarray(np.arctan2(u, v) / np.pi, np.float32), _under(b, x, y, z))


def cage_size(b: Body, z: float) -> tuple[float, float, float]:
    """Half-width and half-depth of the rib cage's inside at height z, and y of its middle, mm."""
    t = float(np.clip((z + 70) / (b.height + 70), 0, 1))
    low = 1 - 0.05 * float(np.clip((0.35 - t) / 0.35, 0, 1)) ** 2
    return (
        max(b.p["cage_width"] * low * (1 - t**3.4) ** 0.62, 2.0),
        max(b.p["cage_depth"] * (1 - t**4.5) ** 0.6, 2.0),
        22.0 * t**3,
    )


def spine_y(b: Body, z: float) -> float:
    """y of the vertebral bodies' middle at height z, mm."""
    return b.p["cage_depth"] * 0.64 - b.kyphosis * ((z - 0.45 * b.height) / (0.6 * b.height)) ** 2


def _under(b: Body, x: Plane, y: Plane, z: float) -> Plane:
    w, d = b.p["cage_width"], b.p["cage_depth"]
    left = x > b.askew
    middle = np.where(left, 0.5 * w, -0.5 * w)
    fall, top = np.where(left, b.fall[1], b.fall[0]), np.where(left, b.dome[1], b.dome[0])
    outward = np.where(left, x - middle, middle - x)
    u = outward / np.where(outward > 0, 0.52 * w, 0.8 * w)
    v = (y + 8) / np.where(y > -8, 0.95 * d, 1.45 * d)
    q = u * u + v * v
    slope = 2 * fall * np.sqrt(q) / (0.6 * w)
    return np.asarray((top - fall * q - z) / np.sqrt(1 + slope * slope), np.float32)


def outline(s: Section) -> Plane:
    """mm inside the skin."""
    b, z = s.b, s.z
    t = (z + 70) / (b.height + 70)
    wall = b.p["fat"] + b.p["muscle"] + SHELL_MM
    up = float(step(t, 0.66, 1.02))
    a = (b.p["cage_width"] + wall) * (1 + 0.2 * up)
    front, back = b.p["cage_depth"] + 0.75 * wall - 22 * up, b.p["cage_depth"] + WALL_MM + 0.5 * b.p["fat"] - 8 * up
    middle, half = (back - front) / 2, (back + front) / 2
    far = ((np.abs(s.x) / a) ** 2.5 + (np.abs(s.y - middle) / half) ** 2.5) ** np.float32(0.4) + np.float32(1e-4)
    deep = np.hypot(s.x, s.y - middle) * (1 / far - 1)
    if b.breast:
        for side in (-1, 1):
            lobe = ellipsoid(
                s.x, s.y, z, (side * 0.58 * b.p["cage_width"], -front + 16, 0.35 * b.height), (b.breast * 1.4, b.breast, b.breast * 1.4), side * 0.35
            )
            deep = -smaller(-deep, -lobe, 24.0)
    return np.asarray(deep, np.float32)


def draw_body(s: Section, noise: tuple[SolidNoise, SolidNoise]) -> Plane:
    """HU (h, w) of the slice with everything but lungs, vessels and airways. noise: of about 9 and 30 mm."""
    px = s.grid.px
    hu = np.full(s.x.shape, AIR, np.float32)
    _table(s, hu)
    fine, coarse = noise[0].at(s.grid, s.z), noise[1].at(s.grid, s.z)
    skin = outline(s)
    lay(hu, cover(skin, px), 20.0)
    lay(hu, cover(skin - 2, px), FAT + 6 * coarse)
    _wall(s, hu, skin, fine, coarse)
    inside = cover(s.cage + SHELL_MM - 2, px)
    lay(hu, inside * cover(skin - 4, px), MUSCLE - 14 + 12 * fine)
    _ribs(s, hu, skin, coarse)
    lay(hu, cover(s.cage - 1, px), FAT + 8 * coarse)  # what is not lung inside the cage begins as fat
    _abdomen(s, hu, coarse)
    _heart(s, hu, fine)
    _spine(s, hu, fine)
    _front(s, hu, fine)
    return hu


def _table(s: Section, hu: Plane) -> None:
    gap, thick = s.b.table
    deepest = s.b.p["cage_depth"] + WALL_MM + 0.5 * s.b.p["fat"]
    deep = s.y - (deepest + gap - s.x * s.x / 1300)  # mm below the mat's face
    px = s.grid.px
    lay(hu, cover(np.minimum(deep, thick - deep), px), -925.0)
    for at in (8.0, thick):
        lay(hu, cover(1.1 - np.abs(deep - at), px) * min(1.0, 2.2 / px), -150.0)


def _wall(s: Section, hu: Plane, skin: Plane, fine: Plane, coarse: Plane) -> None:
    """Muscle between ribs and fat, parted by thin planes of fat; shoulder blades in it."""
    b, px = s.b, s.grid.px
    fat = b.p["fat"] * (0.75 + 0.5 * np.abs(s.round - 0.5) + 0.06 * coarse)
    upper = float(step(s.z, 0.45 * b.height, 0.85 * b.height))
    spread = b.p["muscle"] * step(s.round, 1.05, 0.8) + 70 * upper + 34 * step(s.round, 0.3, 0.1) + 2 * coarse
    deep = np.minimum(skin - 2 - fat, s.cage + SHELL_MM + spread)
    planes = np.clip(1.5 - np.abs(coarse + 0.15 * fine) * 22, 0, 1) + 0.8 * np.clip(1.5 - np.abs(-s.cage - SHELL_MM - 7 - 3 * coarse), 0, 1)
    muscle = cover(deep, px) * (1 - 0.6 * np.clip(planes, 0, 1) * step(s.round, 0.05, 0.12))
    lay(hu, muscle, MUSCLE + 4 * fine)
    if b.breast:
        gland = (
            cover(skin - 9, px) * step(fine, 0.1, 0.9) * (s.y < -b.p["cage_depth"] - 14) * step(np.abs(s.x), 0.2 * b.p["cage_width"], 0.35 * b.p["cage_width"])
        )
        lay(hu, gland * float(step(abs(s.z - 0.35 * b.height), 60, 25)), 25.0)
    where = (s.z - 0.42 * b.height) / (0.6 * b.height)
    if 0 < where < 0.95:
        out = -s.cage - (SHELL_MM + 8 + 5 * np.sin(7 * s.round))
        low, high = 0.31 - 0.06 * where, 0.34 + 0.13 * where * (1 - 0.4 * where)
        blade = np.minimum(2.6 - np.abs(out), (np.minimum(s.round - low, high - s.round)) * 220)
        blade = np.minimum(blade, np.abs(s.x) - 0.52 * b.p["cage_width"])
        share = cover(np.minimum(blade, skin - 6), px) * min(1.0, 5.2 / px)
        lay(hu, share, 330 + 200 * np.abs(fine))
    for side in (-1, 1):
        head = capsule(s.x, s.y, s.z, (side * (b.p["cage_width"] + 26), 14, b.height + 6), (side * (b.p["cage_width"] + 30), 0, b.height + 60), 21.0)
        lay(hu, cover(np.minimum(head, skin - 6), px), 190 + 420 * np.exp(-((head / 3) ** 2)) + 25 * fine)


def _ribs(s: Section, hu: Plane, skin: Plane, coarse: Plane) -> None:
    b, px = s.b, s.grid.px
    out = -s.cage
    apart = (b.height + 70) / 11.2
    bent = np.clip(s.round, 0, 1)
    place = (b.height - 2 - s.z - b.ribs_drop * bent**1.15 + 5 * coarse * bent) / apart + b.ribs_shift
    number = np.clip(np.rint(place), 0, RIBS - 1)
    off = (place - number) * apart
    far = np.sqrt((off / 6.8) ** 2 + ((out - 5.8) / 4.1) ** 2)
    rib = cover((1 - far) * 4.1, px) * cover(skin - 3, px) * step(bent, 0.05, 0.08)
    ends = 0.80 - 0.02 * np.clip(number - 6, 0, 6)
    bone = rib * step(bent - ends, 0.01, -0.01)
    lay(hu, rib * step(bent, 0.95, 0.92) * (number < 10), CARTILAGE)
    lay(hu, bone, 190 + 520 * np.clip((far - 0.35) / 0.4, 0, 1))


def _abdomen(s: Section, hu: Plane, coarse: Plane) -> None:
    b, px = s.b, s.grid.px
    w, d = b.p["cage_width"], b.p["cage_depth"]
    deep = np.minimum(s.under, s.cage - 2)
    lay(hu, cover(deep, px) * cover(2.5 - s.under, px), MUSCLE)
    bright = b.p["contrast"] * 45
    liver = np.minimum(np.minimum(deep - 2.5, 0.28 * w + 8 * coarse - s.x - 0.3 * s.y), 20 + 0.75 * d - s.y)
    lay(hu, cover(liver, px), LIVER + bright + 3 * coarse)
    spleen = np.minimum(ellipsoid(s.x, s.y, s.z, (0.66 * w, 0.38 * d, -38), (0.3 * w, 0.5 * d, 52), 0.5), deep - 2)
    lay(hu, cover(spleen, px), SPLEEN + 1.3 * bright)
    stomach = np.minimum(ellipsoid(s.x, s.y, s.z, (0.42 * w, -0.3 * d, -40), (0.36 * w, 0.5 * d, 50), -0.4), deep - 4)
    lay(hu, cover(stomach, px), 40.0)
    lay(hu, cover(stomach - 4, px), np.where(s.y < b.gas, AIR + 20, 22 + 14 * coarse))


def heart_shape(s: Section) -> Plane:
    """mm inside the heart with its sac."""
    b, k = s.b, s.b.p["heart"]
    w, d = b.p["cage_width"], b.p["cage_depth"]
    more = b.p["heart_left"] * w
    low = 24 - (24 - s.z) * 0.5 if s.z < 24 else s.z  # it widens the shadow down to the diaphragm, on which it rests
    main = ellipsoid(s.x, s.y, low, (b.askew + 0.15 * w + more / 2, -0.3 * d, 24), (0.47 * w * k + more / 2, 0.5 * d * k, 44 * k), b.p["heart_turn"])
    atria = ellipsoid(s.x, s.y, s.z, (b.askew - 6, 0.02 * d, 46), (0.36 * w * k, 0.34 * d * k, 34 * k))
    return np.asarray(np.maximum(main, atria), np.float32)


def fat_shape(s: Section) -> Plane:
    """mm inside the fat that lies before the heart and fills the angles between it and the diaphragm, more on the left; heart_fat > 0."""
    b, fat = s.b, s.b.p["heart_fat"]
    w, d = b.p["cage_width"], b.p["cage_depth"]
    low = float(step(s.z, 0.55 * b.height, 0.12 * b.height))
    reach = fat * low * np.where(s.x < b.askew, 0.8, 2.2) - 0.7 * np.clip(s.y + 0.8 * d, 0, None)
    before = np.minimum(reach - np.abs(s.x - b.askew), -0.25 * d - s.y)
    beside = [
        ellipsoid(s.x, s.y, s.z, (b.askew + (0.5 + b.p["heart_left"]) * w, -0.6 * d, 6), (1.5 * fat + 1, 0.7 * fat + 1, 1.3 * fat + 1), 0.8),
        ellipsoid(s.x, s.y, s.z, (b.askew - 0.32 * w, -0.66 * d, 4), (fat + 1, 0.5 * fat + 1, fat + 1), -0.8),
    ]
    return np.asarray(np.maximum(before, np.maximum(*beside)), np.float32)


def _heart(s: Section, hu: Plane, fine: Plane) -> None:
    """Muscle with the chambers' blood in it."""
    b, px, k = s.b, s.grid.px, s.b.p["heart"]
    w, d = b.p["cage_width"], b.p["cage_depth"]
    deep = np.minimum(heart_shape(s) - 3, 1 - s.under)
    lay(hu, cover(deep, px), 44 + b.p["contrast"] * 40 + 2 * fine)
    more = b.p["heart_left"] * w
    chambers = (
        ellipsoid(s.x, s.y, s.z, (b.askew + 0.3 * w + 0.7 * more, -0.24 * d, 20), (0.23 * w * k + 0.2 * more, 0.2 * d * k, 30 * k), 0.6),
        ellipsoid(s.x, s.y, s.z, (b.askew + 0.02 * w, -0.52 * d, 22), (0.25 * w * k, 0.2 * d * k, 32 * k), 0.3),
        ellipsoid(s.x, s.y, s.z, (b.askew - 0.22 * w, -0.16 * d, 36), (0.17 * w * k, 0.24 * d * k, 28 * k)),
        ellipsoid(s.x, s.y, s.z, (b.askew + 0.02 * w, 0.12 * d, 48), (0.26 * w * k, 0.17 * d * k, 22 * k)),
    )
    for chamber in chambers:
        lay(hu, cover(np.minimum(chamber, deep - 2), px), b.blood)


def spine_shape(s: Section) -> Plane:
    """mm inside the spine and what clothes it: where lungs cannot be."""
    at = spine_y(s.b, s.z)
    return np.maximum(ellipse(s.x, s.y, (0, at), (19, 16)), ellipse(s.x, s.y, (0, at + 36), (27, 36)))


def _spine(s: Section, hu: Plane, fine: Plane) -> None:
    b, px, at = s.b, s.grid.px, spine_y(s.b, s.z)
    phase = (s.z / 25 + b.disc_shift) % 1
    disc = float(np.clip(1.5 - abs(phase - 0.5) * 14, 0, 1))
    bulk = ellipse(s.x, s.y, (0, at), (16.5, 13.5))
    bone = 165 + 22 * fine + 330 * np.exp(-((bulk / 1.8) ** 2)) + 120 * float(np.clip(2.2 - abs(abs(phase - 0.5) - 0.12) * 40, 0, 1))
    lay(hu, cover(bulk, px), (1 - disc) * bone + disc * 85)
    arch = np.maximum(2.6 - np.abs(ellipse(s.x, s.y, (0, at + 22), (11.5, 10.5))), np.minimum(3.6 - np.abs(np.abs(s.x) - 11.5), 11 - np.abs(s.y - at - 15)))
    pedicle = float(step(abs(phase - 0.05), 0.42, 0.3)) if phase < 0.55 else float(step(abs(phase - 1.05), 0.42, 0.3))
    lay(hu, cover(arch, px) * (0.35 + 0.65 * pedicle), 380 + 30 * fine)
    lay(hu, cover(ellipse(s.x, s.y, (0, at + 22), (8.5, 8)), px), 18.0)
    wing = np.minimum(4.2 - np.abs(s.y - at - 21 - 0.28 * np.abs(s.x)), np.minimum(np.abs(s.x) - 11, 36 - np.abs(s.x)))
    lay(hu, cover(wing, px) * pedicle, 330 + 40 * fine)
    thorn = np.minimum(3.2 - np.abs(s.x), np.minimum(s.y - at - 30, at + 54 - s.y))
    lay(hu, cover(thorn, px) * (0.4 + 0.6 * float(step(abs(phase - 0.5), 0.35, 0.2))), 360.0)


def _front(s: Section, hu: Plane, fine: Plane) -> None:
    """Breastbone and collarbones."""
    b, px = s.b, s.grid.px
    _, d, back = cage_size(b, s.z)
    t = s.z / b.height
    if 0.22 < t < 0.94:
        wide = 9 + 10 * float(step(t, 0.22, 0.4)) + 8 * float(step(t, 0.72, 0.86))
        plate = ellipse(s.x, s.y, (0, back - d - 4.5), (wide, 6.2))
        lay(hu, cover(plate, px), 130 + 15 * fine + 300 * np.exp(-((plate / 1.4) ** 2)))
    top = b.height
    _, d_top, back_top = cage_size(b, 0.9 * top)
    for side in (-1, 1):
        rod = capsule(s.x, s.y, s.z, (side * 21, back_top - d_top - 4, 0.93 * top), (side * b.p["cage_width"], back_top - 0.4 * d_top, top + 16), 6.5)
        lay(hu, cover(rod, px), 200 + 420 * np.exp(-((rod / 2) ** 2)))
