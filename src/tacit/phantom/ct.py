"""Drawn CTs of the chest with planted lesions and exact truth: which voxel is lung, which is what lesion, and the class of the whole.

A patient is drawn once (`draw_patient`), then scanned on any grid (`scan`), slab by slab, so memory is the answer's and little more. Classes:
normal; COVID (ground glass and crazy paving in both lungs, under the pleura); CAP (consolidation, one lobe). The lesions are small and normal lungs
vary widely, so that mean, maximum or histogram of the lungs' grey values do not tell the classes (docs/ct_phantom.md).
Ours; no outside source code or image takes part. Frame and axes: `ct_grid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tacit.errors import UsageError
from tacit.phantom import ct_scanner as scanner
from tacit.phantom.ct_body import SHELL_MM, WALL_MM, Body, body, draw_body, section
from tacit.phantom.ct_config import MIXTURES, CtConfig, Split, drawn_parameters
from tacit.phantom.ct_grid import Grid, Plane, SolidNoise, cover, lay, step
from tacit.phantom.ct_lesion import KINDS, Lesions, plan
from tacit.phantom.ct_lung import fissures, lattice, lobes, lung_depth, parenchyma
from tacit.phantom.ct_tubes import WALL_MM as AIRWAY_WALL_MM
from tacit.phantom.ct_tubes import Tubes, great_vessels, gullet, lung_tubes, main_airways, paint
from tacit.phantom.drawing import Drawing

CLASSES = KINDS[1:]
CONFIG = CtConfig
SLAB = 24  # slices drawn at a time
RIGHT, LEFT = 1, 2  # values in the mask of lungs, as in those of `tacit lungs`
WINDOW = (-600.0, 1500.0)  # centre and width of the lung window, HU


@dataclass(frozen=True)
class Patient:
    """A drawn patient, who may be scanned on several grids."""

    label: str
    body: Body
    vessels: Tubes
    great: Tubes
    airways: Tubes
    lesions: Lesions
    noises: dict[str, SolidNoise]
    noise_seed: int
    off: tuple[float, float]  # how far the table was off the middle, y and x, mm


@dataclass(frozen=True)
class Scan:
    """A CT with its truth, (d, h, w) each: slices from feet to head, rows to the back, columns to the patient's left."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]  # 0, 1 the patient's right lung, 2 the left; lesions are lung, too
    lesions: NDArray[np.uint8]  # 0, or an index of KINDS
    grid: Grid
    label: str
    parameters: dict[str, float]

    @property
    def lesion_share(self) -> float:
        """The lesions' share of the lungs, 0–1."""
        return float((self.lesions > 0).sum() / max((self.lungs > 0).sum(), 1))


@dataclass(frozen=True)
class TeacherSlice:
    """One axial slice with what a two-dimensional network is taught of it."""

    hu: NDArray[np.int16]  # (h, w)
    kind: int  # index of KINDS: the lesion that fills most of the slice, 0 without
    share: float  # of the slice's lung that lesions fill
    place: NDArray[np.uint8]  # (h, w) 0, or an index of KINDS
    lungs: NDArray[np.uint8]  # (h, w) 0, 1 right, 2 left
    label: str  # class of the patient
    spacing_mm: tuple[float, float]


def draw_patient(rng: np.random.Generator, *, label: str | None = None, split: Split = "teach", config: CtConfig | None = None) -> Patient:
    """A patient with parameters of `split`; label: a class of the mixture, drawn if None. A pure function of the generator's state."""
    c = config or CtConfig()
    known = MIXTURES[c.mixture]
    seeds = rng.integers(2**31, size=8).tolist()
    first = np.random.default_rng(seeds[0])
    drawn = str(first.choice(known))
    chosen = drawn if label is None else label
    if chosen not in {n for names in MIXTURES.values() for n in names}:
        raise UsageError(f"a CT phantom of class {label!r} is unknown; known are {', '.join(dict.fromkeys(n for m in MIXTURES.values() for n in m))}")
    p = drawn_parameters(np.random.default_rng(seeds[1]), c, split)
    b = body(np.random.default_rng(seeds[2]), p)
    waves = {"fine": 9.0, "coarse": 30.0, "grain": 6.0, "patches": 25.0, "bend": 34.0}
    noises = {name: SolidNoise(seeds[3] + i, mm) for i, (name, mm) in enumerate(waves.items())}
    places, lobe_of = lattice(b, noises["bend"])
    vessels, airways = lung_tubes(np.random.default_rng(seeds[4]), b, places)
    foci = plan(np.random.default_rng(seeds[5]), b, places, lobe_of, chosen)
    off = first.uniform(-8, 8, 2)
    lesions = Lesions(foci, b, seeds[6])
    return Patient(chosen, b, vessels, great_vessels(b), airways.plus(main_airways(b)), lesions, noises, seeds[7], (float(off[0]), float(off[1])))


def without_lesions(patient: Patient) -> Patient:
    """The same patient, scanned with the same noise, without a lesion."""
    return replace(patient, label="normal", lesions=patient.lesions.without())


def grid_of(
    patient: Patient, config: CtConfig | None = None, *, shape: tuple[int, int, int] | None = None, spacing_mm: tuple[float, float, float] | None = None
) -> Grid:
    """Where the patient is scanned. Without a spacing: the drawn distance of slices and field; without a shape: all of the lungs."""
    c, b, p = config or CtConfig(), patient.body, patient.body.p
    low, high = b.low - 6, b.height + 8
    if spacing_mm is None:
        side = max(p["field_mm"], 2 * (p["cage_width"] + SHELL_MM + 14))
        pixels = max(shape[1:]) if shape else c.matrix
        spacing_mm = (p["slice_mm"] if shape is None else max((high - low) / shape[0], 0.5), side / pixels, side / pixels)
    if shape is None:
        side = max(p["field_mm"], 2 * (p["cage_width"] + SHELL_MM + 14))
        shape = (int((high - low) / spacing_mm[0]) + 1, round(side / spacing_mm[1]), round(side / spacing_mm[2]))
    if min(shape) < 1 or min(spacing_mm) <= 0:
        raise UsageError(f"a CT phantom wants a shape of three whole numbers from 1 and a spacing of three positive mm; got {shape} and {spacing_mm}")
    middle = ((low + high) / 2, (WALL_MM - 12) / 2 + patient.off[0], patient.off[1])
    origin = tuple(m - s * (n - 1) / 2 for m, s, n in zip(middle, spacing_mm, shape, strict=True))
    return Grid(shape, spacing_mm, (origin[0], origin[1], origin[2]))


def scan(patient: Patient, grid: Grid) -> Scan:
    """The patient on a grid, a slab of slices at a time. A pure function of both."""
    hu, lungs, lesions = (np.empty(grid.shape, kind) for kind in (np.int16, np.uint8, np.uint8))
    for first in range(0, grid.shape[0], SLAB):
        part = np.s_[first : min(first + SLAB, grid.shape[0])]
        _slab(patient, grid, first, hu[part], lungs[part], lesions[part])
    p = patient.body.p | {"lesion_foci": float(len(patient.lesions.foci))}
    return Scan(hu, lungs, lesions, grid, patient.label, p)


def draw_scan(
    rng: np.random.Generator,
    *,
    label: str | None = None,
    split: Split = "teach",
    config: CtConfig | None = None,
    shape: tuple[int, int, int] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
) -> Scan:
    """A patient drawn and scanned: `draw_patient`, `grid_of`, `scan`."""
    patient = draw_patient(rng, label=label, split=split, config=config)
    return scan(patient, grid_of(patient, config, shape=shape, spacing_mm=spacing_mm))


def teacher_slices(
    rng: np.random.Generator, count: int, *, split: Split = "teach", config: CtConfig | None = None, matrix: int | None = None, a_patient: int = 4
) -> Iterator[TeacherSlice]:
    """`count` axial slices, `a_patient` of each drawn patient, half of a sick patient's through a lesion. matrix: rows and columns of a slice."""
    c = config or CtConfig()
    labels = MIXTURES[c.mixture]
    for i in range(count):
        if i % a_patient == 0:
            patient = draw_patient(rng, label=labels[(i // a_patient) % len(labels)], split=split, config=c)
            b, foci = patient.body, patient.lesions.foci
        side = max(b.p["field_mm"], 2 * (b.p["cage_width"] + SHELL_MM + 14))
        pixels = matrix or c.matrix
        whole = grid_of(patient, c, shape=(1, pixels, pixels), spacing_mm=(b.p["slice_mm"], side / pixels, side / pixels))
        z = float(rng.uniform(-10, 0.92 * b.height))
        if foci and i % 2:
            f = foci[int(rng.integers(len(foci)))]
            z = f.centre[2] + float(rng.uniform(-0.5, 0.5)) * f.radii[2]
        one = scan(patient, replace(whole, origin_mm=(z, *whole.origin_mm[1:])))
        sizes = np.bincount(one.lesions[0].ravel(), minlength=len(KINDS))[1:]
        kind = int(sizes.argmax()) + 1 if sizes.any() else 0
        yield TeacherSlice(one.hu[0], kind, one.lesion_share, one.lesions[0], one.lungs[0], patient.label, whole.spacing_mm[1:])


def draw(
    rng: np.random.Generator, shape: tuple[int, int], um_per_px: float | None = None, config: CtConfig | None = None, *, stains: NDArray | None = None
) -> Drawing:
    """One axial slice in the lung window, with its lesions: what every generator of `tacit.phantom` gives.

    shape (h, w) px · um_per_px: spacing, the settings' `voxel_mm` if None · stains are for tissue, and not used here.
    Gives the picture (h, w, 3) grey as RGB, planes (3, h, w) of 0 or 255 in the order of `CLASSES`, labels of the same kinds, and the parameters.
    """
    c = config or CtConfig()
    mm = c.voxel_mm if um_per_px is None else um_per_px / 1000
    patient = draw_patient(rng, config=c)
    b, foci = patient.body, patient.lesions.foci
    z = float(rng.uniform(0, 0.9 * b.height)) if not foci else foci[int(rng.integers(len(foci)))].centre[2]
    grid = grid_of(patient, c, shape=(1, *shape), spacing_mm=(b.p["slice_mm"], mm, mm))
    one = scan(patient, replace(grid, origin_mm=(z, *grid.origin_mm[1:])))
    grey = windowed(one.hu[0])
    planes = np.stack([(one.lesions[0] == k + 1).astype(np.uint8) * 255 for k in range(len(CLASSES))])
    return Drawing(
        np.repeat(grey[..., None], 3, 2), one.lesions[0].astype(np.int32), mm * 1000, one.parameters | {"share": one.lesion_share, "z_mm": z}, planes
    )


def windowed(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Grey levels of the lung window."""
    centre, width = WINDOW
    return np.clip((hu.astype(np.float32) - centre + width / 2) * (255 / width), 0, 255).astype(np.uint8)


def _slab(patient: Patient, grid: Grid, first: int, hu: NDArray[np.int16], lungs: NDArray[np.uint8], lesions: NDArray[np.uint8]) -> None:
    """Slices from `first` on, written into the three (n, h, w)."""
    b, p, px, n, beyond = patient.body, patient.body.p, grid.px, len(hu), scanner.beyond_circle(grid)
    tubes = [paint(t, grid, first - 1, n + 2) for t in (patient.vessels, patient.great, gullet(b), patient.airways.wider(AIRWAY_WALL_MM), patient.airways)]
    sharp, lumens = np.empty((2, n + 2, *grid.shape[1:]), np.float32)
    kept: list[tuple[Plane, Plane, NDArray[np.uint8]]] = []
    for i in range(n + 2):
        planes, depth, smooth, lobe = _slice(patient, grid, first - 1 + i, tuple(t[i] for t in tubes))
        z = grid.z(first - 1 + i)
        still = float(step(z, 0.6 * b.height, 0.15 * b.height))
        sharp[i] = scanner.spread(scanner.moved(planes, p["motion_mm"] * still, px), p["blur_mm"], px)
        lumens[i] = scanner.spread(tubes[4][i], p["blur_mm"], px)
        kept.append((depth, smooth, lobe))
    seen, lumen = scanner.thick(sharp, p["thickness"]), scanner.thick(lumens, p["thickness"])
    for i in range(n):
        depth, smooth, lobe = kept[i + 1]
        plain = scanner.sharpened(seen[i], p["sharpen"], px)
        hu[i] = scanner.stored(plain + scanner.noise(patient.noise_seed, grid, first + i, p))
        share = cover(depth, px)
        added, lesions[i] = patient.lesions.lay(section(b, grid, grid.z(first + i)), share, lobe, smooth, plain, lumen[i])
        hu[i] += added
        lungs[i] = np.where(share >= 0.5, np.where(grid.x < b.askew, RIGHT, LEFT), 0)
        if p["padded"]:
            hu[i][beyond], lungs[i][beyond], lesions[i][beyond] = scanner.LOWEST, 0, 0


def _slice(patient: Patient, grid: Grid, k: int, tubes: tuple[Plane, ...]) -> tuple[Plane, Plane, Plane, NDArray[np.uint8]]:
    """Slice k as it is, HU, before the scanner; depth inside the lungs, mm; normal parenchyma, HU; lobes. (h, w) each."""
    b, noises = patient.body, patient.noises
    s = section(b, grid, grid.z(k))
    hu = draw_body(s, (noises["fine"], noises["coarse"]))
    depth = lung_depth(s)
    oblique, horizontal = fissures(s, noises["bend"].at(grid, s.z))
    lung, smooth = parenchyma(s, depth, oblique, horizontal, (noises["grain"], noises["patches"], noises["coarse"]))
    small, great, closed, wall, lumen = tubes
    lay(hu, np.maximum(great, small * (s.cage > 0) * (s.under < 0)), b.blood)
    lay(hu, closed, 34.0)
    share = cover(depth, grid.px)
    lay(hu, share, lung)
    lay(hu, small * share, b.blood)
    lay(hu, wall * (1 - small), -20.0 * (1 - share) - 120 * share)
    lay(hu, lumen, -990.0)
    return hu, depth, smooth, lobes(s, oblique, horizontal)
