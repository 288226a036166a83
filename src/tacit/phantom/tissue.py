"""Drawn glandular tissue with exact truth: picture, one label a gland, and the parameters that were drawn.

A gland is a ring of palisaded nuclei round cytoplasm, mucin or a lumen; stroma is bent fibres with scattered nuclei.
The picture is composed as optical density of two stains (Beer and Lambert: I = 255·10^(−Σ c·v)), blurred and made noisy last.
Ranges are wide on purpose: variety teaches better than realism (SynthSeg, Billot et al. 2023, arXiv 2107.09559).
Ours; no outside source code or image takes part. Every length in `TissueConfig` is in µm, so that a picture can be drawn at
any spacing; inside `draw` lengths are pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Range
from tacit.phantom import stroma
from tacit.phantom.drawing import Drawing
from tacit.phantom.outline import Labels, Layout, packed, placed, wobbled
from tacit.phantom.stroma import StromaConfig
from tacit.phantom.texture import Plane, along_level, honeycomb, smooth_noise, stamp

CLASSES = ("gland",)


class TissueConfig(Config):
    """Ranges from which each picture draws its parameters; edit them to teach other tissue."""

    # layout
    malignant: float = 0.5  # share of pictures drawn with disordered, crowded, irregular glands
    share: Range = (0.2, 1.0)  # gland area wanted / picture area
    radius_um: Range = (22.0, 100.0)  # half-width of a gland
    gap_um: Range = (3.0, 40.0)  # least stroma between two glands
    elongation: Range = (1.0, 3.2)  # length / width
    packed: float = 0.3  # share of pictures whose glands are packed back to back
    # epithelium
    nucleus_um: Range = (5.0, 9.5)  # mean diameter of an epithelial nucleus
    layers: Range = (1.0, 5.0)  # rows of nuclei in the border
    epithelium_um: Range = (12.0, 45.0)  # height of the epithelium, border to lumen
    mucin: Range = (0.0, 1.0)  # share of the epithelium's inner part that is pale mucin
    lumen: float = 0.75  # share of pictures whose glands open to a lumen where they are wide enough
    cribriform: float = 0.25  # share of malignant pictures with several lumina a gland
    debris: Range = (0.0, 0.8)  # how much of a lumen is filled
    solid: float = 0.35  # share of malignant pictures whose glands are filled with nuclei
    cleft: float = 0.3  # share of pictures with white clefts round glands
    # around the glands
    stroma: StromaConfig = StromaConfig()
    # staining and optics
    other_stain: float = 0.12  # share of pictures in haematoxylin and a brown or other second stain
    stain_jitter: float = 0.09  # SD of the stain vectors' components
    blur_um: Range = (0.3, 1.6)  # SD of the point spread
    noise: Range = (0.5, 7.0)  # SD of the camera's noise, grey levels


HAEMATOXYLIN = (0.650, 0.704, 0.286)  # optical density per RGB channel: Ruifrok and Johnston 2001
EOSIN = (0.072, 0.990, 0.105)
DAB = (0.268, 0.570, 0.776)


@dataclass
class _Tissue:
    """The planes that are composed: concentration of the nuclear stain and of the counterstain, both (h, w)."""

    nuclear: Plane
    counter: Plane
    parameters: dict[str, float] = field(default_factory=dict)


CONFIG = TissueConfig


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int],
    um_per_px: float,
    config: TissueConfig | None = None,
    *,
    stains: NDArray | None = None,
) -> Drawing:
    """One picture of glandular tissue.

    shape (h, w) px · um_per_px the spacing to draw at, µm · stains (2, 3) optical-density vectors to use instead of drawn ones.
    Gives the picture (h, w, 3) uint8 RGB, labels (h, w) int32 (0 = no gland) and the drawn parameters. A pure function of
    the generator's state.
    """
    config = config or TissueConfig()
    p = _parameters(rng, config)
    labels = _lay_out(rng, shape, um_per_px, p)
    ground = stroma.lay_ground(rng, labels, um_per_px, config.stroma, p)
    labels = ground.labels
    tissue = _Tissue(ground.nuclear, ground.counter, p)
    if labels.any():
        _fill_glands(rng, tissue, labels, um_per_px, p)
    stroma.cover(rng, ground, tissue.nuclear, tissue.counter, um_per_px, p)
    picture = _render(rng, tissue, um_per_px, config, stains, p)
    p["share"] = float((labels > 0).mean())
    p["glands"] = float(len(np.unique(labels)) - 1)
    return Drawing(picture, _consecutive(labels), um_per_px, p)


def _parameters(rng: np.random.Generator, c: TissueConfig) -> dict[str, float]:
    u = rng.uniform
    bad = float(rng.random() < c.malignant) * u(0.5, 1.0) or u(0.0, 0.35)  # malignancy 0–1
    radius = float(np.exp(u(*np.log(c.radius_um))))
    return {
        "malignancy": bad,
        "wanted_share": u(*c.share),
        "radius_um": radius,
        "radius_spread": u(0.05, 0.3) + 0.3 * bad,
        "gap_um": float(np.exp(u(*np.log(c.gap_um)))),
        "elongation": u(*c.elongation) if rng.random() < 0.6 else 1.0 + u(0, 0.4),
        "bend": u(0.0, 0.5),
        "angle": u(0, np.pi),
        "disorder": u(0.05, 1.0),
        "irregular": u(0.01, 0.05) + 0.22 * bad * u(),
        "squeeze": u(0.1, 0.6),
        "wobble_um": u(0.3, 2.0) + 6.0 * bad * u(),
        "packed": float(rng.random() < c.packed * (0.5 + bad)),
        "nucleus_um": u(*c.nucleus_um) * (0.9 + 0.25 * bad),
        "nucleus_stretch": u(1.0, 2.3),  # height / width of a palisaded nucleus
        "nucleus_dark": u(0.55, 1.35),  # nuclear stain of an epithelial nucleus
        "nucleus_crowding": u(0.75, 1.7),  # nuclear widths between neighbours in the palisade
        "missing": u(0.0, 0.3),
        "vesicular": u(0.0, 1.0) * bad,
        "layers": u(c.layers[0], c.layers[0] + (c.layers[1] - c.layers[0]) * (0.3 + 0.7 * bad)),
        "epithelium_um": u(*c.epithelium_um),
        "mucin": u(*c.mucin) * (1.0 if bad < 0.4 else u(0, 0.8)),
        "goblet_um": u(6.0, 16.0),
        "petals": float(rng.random() < 0.5),
        "cytoplasm_counter": u(0.2, 0.75),
        "cytoplasm_nuclear": u(0.02, 0.16) + 0.28 * bad * u(),
        "lumen": float(rng.random() < c.lumen),
        "cribriform": float(bad > 0.4 and rng.random() < c.cribriform),
        "debris": u(*c.debris) * (0.4 + 0.6 * bad),
        "solid": u(0.3, 1.0) if bad > 0.4 and rng.random() < c.solid else 0.0,
        "cleft_um": u(2.0, 12.0) if rng.random() < c.cleft else 0.0,
        "strength": u(0.45, 1.3),  # overall staining
        "counter_strength": u(0.5, 1.3),
    }


def _lay_out(rng: np.random.Generator, shape: tuple[int, int], um: float, p: dict[str, float]) -> Labels:
    layout = Layout(
        share=p["wanted_share"],
        radius=p["radius_um"] / um,
        spread=p["radius_spread"],
        gap=p["gap_um"] / um * (0.6 if p["packed"] else 1.0),
        elongation=p["elongation"],
        bend=p["bend"],
        angle=p["angle"],
        disorder=p["disorder"],
        irregular=p["irregular"],
        squeeze=p["squeeze"],
        wobble=p["wobble_um"] / um,
    )
    return wobbled(rng, (packed if p["packed"] else placed)(rng, shape, layout), layout)


def _consecutive(labels: Labels) -> Labels:
    names, flat = np.unique(labels, return_inverse=True)
    return np.asarray(flat.reshape(labels.shape) + (names[0] != 0), np.int32)


def inside_distance(labels: Labels) -> Plane:
    """Distance in px of every gland pixel to its own gland's edge (the picture's edge is no edge); 0 outside. (h, w)"""
    padded = np.pad(labels, 1, mode="edge")
    same = np.ones(labels.shape, bool)
    for d_row, d_col in ((0, 1), (2, 1), (1, 0), (1, 2)):
        same &= padded[d_row : d_row + labels.shape[0], d_col : d_col + labels.shape[1]] == labels
    solid = np.pad((same & (labels > 0)).astype(np.uint8), 1, mode="edge")
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.minimum(distance, sum(labels.shape)).astype(np.float32)  # no edge at all reads as FLT_MAX


def _fill_glands(rng: np.random.Generator, tissue: _Tissue, labels: Labels, um: float, p: dict[str, float]) -> None:
    """Cytoplasm, mucin, lumina, then nuclei on top; each gland varies round the picture's parameters."""
    shape, gland = labels.shape, labels > 0
    vary = 1 + 0.2 * rng.standard_normal((4, int(labels.max()) + 1)).astype(np.float32).clip(-2, 2)
    outside = inside_distance(labels)
    height = p["epithelium_um"] / um * vary[0][labels] * np.exp(0.25 * smooth_noise(rng, shape, 40 / um))
    lumen = gland & (outside > height) if p["lumen"] else np.zeros(shape, bool)
    if p["cribriform"]:
        lumen |= _holes(rng, gland & (outside > 0.6 * p["nucleus_um"] * 2 / um), um)
    depth = np.where(lumen, 0, outside).astype(np.float32)
    to_lumen = cv2.distanceTransform((~lumen).astype(np.uint8), cv2.DIST_L2, 5) if lumen.any() else np.full(shape, 1e3, np.float32)

    grain = smooth_noise(rng, shape, 5 / um)
    counter = p["cytoplasm_counter"] * vary[1][labels] * (1 + 0.15 * grain)
    nuclear = p["cytoplasm_nuclear"] * vary[2][labels] * (1 + 0.2 * smooth_noise(rng, shape, 8 / um))
    border = p["nucleus_um"] * p["nucleus_stretch"] / um * (0.4 + 0.6 * p["layers"])
    pale = _mucin(rng, depth, border, labels, um, p)
    counter, nuclear = counter * (1 - 0.8 * pale), nuclear * (1 - 0.55 * pale)
    filling, specks = _lumen_content(rng, shape, um, p)
    apical = np.exp(-np.abs(to_lumen) * um / 3.0) * (to_lumen > 0) * 0.25
    counter = np.where(lumen, filling, counter + apical)
    nuclear = np.where(lumen, specks, nuclear)
    tissue.counter[gland], tissue.nuclear[gland] = counter[gland], nuclear[gland]

    nuclei = _palisade(rng, depth, to_lumen, um, p)
    chromatin = np.clip(1 + 0.18 * smooth_noise(rng, shape, max(1.5 / um, 1.0)), 0.4, 1.6)
    opaque = nuclei * chromatin * gland * vary[3][labels]
    tissue.nuclear[:] = np.maximum(tissue.nuclear, opaque)


def _holes(rng: np.random.Generator, room: NDArray[np.bool_], um: float) -> NDArray[np.bool_]:
    """Round lumina of 6–22 µm half-width strewn over `room` (a cribriform gland)."""
    spots = np.argwhere(room)
    canvas = np.zeros(room.shape, np.uint8)
    if len(spots):
        count = max(int(len(spots) * um * um / rng.uniform(1500, 6000)), 1)
        centres = spots[rng.integers(0, len(spots), count)]
        axes = rng.uniform(6, 22, (count, 1)) / um * rng.uniform(0.6, 1.0, (count, 2))
        stamp(canvas, centres, axes, rng.uniform(0, np.pi, count), np.full(count, 255))
    return (canvas > 127) & room


def _mucin(rng: np.random.Generator, depth: Plane, border: float, labels: Labels, um: float, p: dict[str, float]) -> Plane:
    """How pale (0–1) the cytoplasm is: goblets as petals on the border or as a honeycomb, or plain pallor."""
    if p["mucin"] < 0.08:
        return np.zeros(depth.shape, np.float32)
    inner = np.clip((depth - 0.8 * border) * um / 3.0, 0, 1)
    goblet = p["goblet_um"] / um
    if p["petals"]:
        canvas = np.zeros(depth.shape, np.uint8)
        length = max(p["epithelium_um"] / um - border, goblet) / 2
        centres, angles = along_level(depth, border + 0.9 * length, 0.85 * goblet)
        keep = rng.random(len(centres)) < 0.35 + 0.65 * p["mucin"]
        axes = np.stack([np.full(len(centres), length), np.full(len(centres), 0.42 * goblet)], 1)
        axes = axes * rng.uniform(0.75, 1.15, axes.shape)
        stamp(canvas, centres[keep], axes[keep], angles[keep], rng.uniform(150, 255, int(keep.sum())))
        cells = canvas.astype(np.float32) / 255
        cells = np.maximum(cells, 0.6 * (depth > border + 1.8 * length))
    else:
        cells = np.clip(honeycomb(rng, depth.shape, goblet) * 2.5, 0, 1)
    patchy = np.clip(0.5 + p["mucin"] + 0.5 * smooth_noise(rng, depth.shape, 60 / um), 0, 1)
    some = (rng.random(int(labels.max()) + 1) < 0.3 + 0.7 * p["mucin"]).astype(np.float32)[labels]
    return np.asarray(inner * cells * patchy * some * min(0.35 + p["mucin"], 1.0), np.float32)


def _lumen_content(rng: np.random.Generator, shape: tuple[int, int], um: float, p: dict[str, float]) -> tuple[Plane, Plane]:
    """Counterstain and nuclear stain inside lumina: clear, secretion, or dirty debris."""
    clump = np.clip(smooth_noise(rng, shape, rng.uniform(12, 60) / um) + 2.5 * p["debris"] - 1.2, 0, 1.5)
    filling = 0.03 + rng.uniform(0.2, 0.6) * clump * (1 + 0.3 * smooth_noise(rng, shape, 4 / um)) + 0.1 * rng.uniform() * rng.uniform()
    specks = np.zeros(shape, np.uint8)
    count = int(shape[0] * shape[1] * um * um * rng.uniform(1e-3, 6e-3) * p["debris"])
    centres = rng.uniform(0, 1, (count, 2)) * shape
    stamp(specks, centres, rng.uniform(0.8, 3.0, (count, 2)) / um, rng.uniform(0, np.pi, count), rng.uniform(60, 230, count))
    return np.asarray(filling, np.float32), np.asarray(specks / 230.0 * p["nucleus_dark"] * (clump > 0.1), np.float32)


def _palisade(rng: np.random.Generator, depth: Plane, to_lumen: Plane, um: float, p: dict[str, float]) -> Plane:
    """Nuclei in rows along the gland's outline, long axis across it; further rows looser. Nuclear stain, (h, w)."""
    width = p["nucleus_um"] / um / np.sqrt(p["nucleus_stretch"])
    tall = width * p["nucleus_stretch"]
    canvas = np.zeros(depth.shape, np.uint8)
    rows = int(p["layers"]) + (rng.random() < p["layers"] % 1)
    top = 255 / 1.6
    for row in reversed(range(max(rows, 1))):
        level = tall * (0.65 + 0.75 * row) + 0.6 / um
        centres, angles = along_level(depth, level, width * p["nucleus_crowding"] * (1 + 0.25 * row))
        if not len(centres):
            continue
        r, c = centres.astype(int).T
        keep = (rng.random(len(centres)) > p["missing"] * (1 + row)) & (to_lumen[r, c] > 0.6 * tall)
        n = int(keep.sum())
        scatter = rng.standard_normal((n, 2)) * width * (0.12 + 0.2 * row + 0.2 * p["malignancy"])
        axes = 0.5 * np.stack([np.full(n, tall), np.full(n, width)], 1) * np.exp((0.12 + 0.15 * p["malignancy"]) * rng.standard_normal((n, 2)))
        turned = angles[keep] + (0.15 + 0.35 * p["malignancy"]) * rng.standard_normal(n)
        dark = p["nucleus_dark"] * np.exp(0.18 * rng.standard_normal(n))
        stamp(canvas, centres[keep] + scatter, axes, turned, np.clip(dark * top, 0, 255))
        if p["vesicular"] > 0.3:
            pale = np.clip(dark * top * (1 - 0.6 * p["vesicular"]), 0, 255)
            stamp(canvas, centres[keep] + scatter, axes * 0.6, turned, pale)
    if p["solid"]:
        _strew(rng, canvas, (depth > tall * (0.65 + 0.75 * rows)) & (to_lumen > 0.6 * tall), width, top, p)
    return canvas.astype(np.float32) / top


def _strew(rng: np.random.Generator, canvas: NDArray[np.uint8], room: NDArray[np.bool_], width: float, top: float, p: dict[str, float]) -> None:
    """Nuclei without order all over `room`: a gland grown solid. In place."""
    pitch = width * p["nucleus_crowding"] * rng.uniform(1.0, 1.6)
    rows, cols = np.mgrid[0 : room.shape[0] : pitch, 0 : room.shape[1] : pitch]
    centres = np.stack([rows.ravel(), cols.ravel()], 1) + rng.uniform(-0.5, 0.5, (rows.size, 2)) * pitch
    r, c = np.clip(centres.astype(int), 0, np.asarray(room.shape) - 1).T
    centres = centres[room[r, c] & (rng.random(len(r)) < p["solid"])]
    n = len(centres)
    axes = 0.5 * width * np.exp(0.2 * rng.standard_normal((n, 2))) * [1.25, 1.0]
    angles = rng.uniform(0, np.pi, n)
    dark = np.clip(p["nucleus_dark"] * np.exp(0.18 * rng.standard_normal(n)) * top, 0, 255)
    stamp(canvas, centres, axes, angles, dark)
    if p["vesicular"] > 0.3:
        stamp(canvas, centres, axes * 0.6, angles, dark * (1 - 0.6 * p["vesicular"]))


def _render(rng: np.random.Generator, tissue: _Tissue, um: float, c: TissueConfig, stains: NDArray | None, p: dict[str, float]) -> NDArray[np.uint8]:
    """Optical density → light → blur → noise. (h, w, 3) uint8 RGB"""
    if stains is None:
        second = EOSIN
        if rng.random() < c.other_stain:
            second = tuple(np.asarray(DAB) * rng.uniform(0.6, 1.2, 3))
        stains = np.asarray([HAEMATOXYLIN, second])
    vectors = np.clip(np.asarray(stains) + c.stain_jitter * rng.standard_normal((2, 3)), 0.02, None)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    planes = np.stack([tissue.nuclear * p["strength"], tissue.counter * p["strength"] * p["counter_strength"]], -1)
    density = planes.astype(np.float32) @ vectors.astype(np.float32)  # (h, w, 3)
    density = cv2.GaussianBlur(density, (0, 0), max(rng.uniform(*c.blur_um) / um, 0.3))
    lamp = rng.uniform(232, 255, 3) * (1 + 0.015 * smooth_noise(rng, density.shape[:2], max(density.shape) / 1.5)[..., None])
    light = lamp * np.power(10.0, -density)
    light += rng.uniform(*c.noise) * rng.standard_normal(light.shape)
    p["stain_h_r"], p["stain_h_b"] = float(vectors[0, 0]), float(vectors[0, 2])
    p["stain_e_r"], p["stain_e_b"] = float(vectors[1, 0]), float(vectors[1, 2])
    return np.clip(light, 0, 255).astype(np.uint8)
