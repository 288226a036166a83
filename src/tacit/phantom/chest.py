"""Drawn chest radiographs, seen from the front, with exact truth: lungs, heart, clavicles.

What X-rays meet is added up as thickness of tissue (Beer and Lambert), then goes through a detector's curve: two smooth dark lungs in a bright
body, mediastinum, heart, ribs behind and in front, clavicles, shoulder blades, arms, breasts, stomach gas, vessels; collimator edges, labels and
tubes on top. Ranges are wide on purpose: variety teaches better than realism (SynthSeg, Billot et al. 2023, arXiv 2107.09559).
Ours; no outside source code or image takes part. The frame is the chest itself: lengths in `ChestConfig` are shares of the rib cage (its half-width for X,
apex to costophrenic angle for Y) or of the picture, so a picture may have any size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Range, Share
from tacit.phantom import thorax
from tacit.phantom.chest_tissue import Layers, foreign, lay
from tacit.phantom.drawing import Drawing
from tacit.phantom.texture import displaced, smooth_noise
from tacit.phantom.thorax import Cage, Field, Frame

CLASSES = ("lungs", "heart", "clavicles")


class ChestConfig(Config):
    """Ranges from which each radiograph draws its parameters; edit them to teach other chests."""

    # where the chest lies in the picture
    half_width: Range = (0.31, 0.46)  # half-width of the rib cage / width of the picture
    height: Range = (0.58, 0.86)  # apex to costophrenic angle / height of the picture
    shift: Share = 0.05  # the chest's middle is moved by up to ± this share of the picture
    top: Range = (0.03, 0.20)  # Y of the apex / height of the picture
    turn: Share = 0.08  # tilt, up to ± radians
    rotated: Share = 0.08  # the mediastinum is moved by up to ± this, X: a patient who stands askew
    # organs
    apex: Range = (0.30, 0.46)  # X of the lungs' apices
    mediastinum: Range = (0.10, 0.21)  # half-width under the apices, X
    knob: Range = (0.0, 0.12)  # aortic knob, X
    dome: Range = (0.70, 0.90)  # Y of the diaphragm's top
    heart_size: Range = (0.82, 1.20)  # against the usual
    heart_width: Range = (0.78, 1.25)  # beyond its size
    clavicle: Range = (0.045, 0.082)  # thickness, X
    wobble: Share = 0.009  # SD by which all outlines are bent, share of the picture
    # what X-rays meet, in thicknesses of a chest wall
    lung: Range = (0.05, 0.5)  # what the lungs themselves hold
    heart: Range = (0.5, 1.8)  # the heart where it is thickest
    spine: Range = (0.4, 1.8)  # the spine, behind the mediastinum
    abdomen: Range = (0.9, 2.6)  # what lies under the diaphragm
    rib: Range = (0.03, 0.32)  # a rib behind; in front a part of it
    collarbone: Range = (0.10, 0.5)  # a clavicle
    vessels: Range = (0.0, 0.30)  # vessels and the hila they come from
    opacity: Share = 0.2  # share of pictures with shadows in the lungs
    breasts: Share = 0.35  # share of pictures with breast shadows
    gas: Share = 0.5  # share of pictures with gas under the left diaphragm
    arms: Share = 0.5  # share of pictures with air between arm and body
    # detector and film
    gain: Range = (0.25, 1.1)  # how fast the detector saturates
    gamma: Range = (0.6, 1.7)  # grey = level^gamma
    blur: Range = (0.0, 0.004)  # SD of the point spread / width of the picture
    noise: Range = (0.0, 0.02)  # SD / range of grey
    shading: Range = (0.0, 0.25)  # uneven exposure, share of a thickness
    labels: Share = 0.5  # share of pictures with black or white labels
    frame: Share = 0.35  # share of pictures with a collimator's edge
    tubes: Share = 0.12  # share of pictures with a tube, wire or box


CONFIG = ChestConfig


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int],
    um_per_px: float = 1.0,
    config: ChestConfig | None = None,
    *,
    stains: NDArray | None = None,
) -> Drawing:
    """One frontal chest radiograph, bone white.

    shape (h, w) px · um_per_px is only kept in the answer: the chest fills the picture whatever the spacing · stains are for tissue, and not used here.
    Gives the picture (h, w, 3) grey as RGB, planes (3, h, w) of 0 or 255 in the order of `CLASSES` (they overlap), labels of 1 lung, 2 heart and 3 clavicle,
    the later over the earlier, and the drawn parameters. A pure function of the generator's state.
    """
    c = config or ChestConfig()
    p = _parameters(rng, c)
    frame = _frame(shape, p)
    cage = _cage(rng, c, p)
    x, y = frame.fields()
    sides = [thorax.lung(cage, k, x, y) for k in (0, 1)]
    heart = frame.filled(thorax.heart(rng, p["heart_size"], p["heart_width"], p["heart_lift"], p["middle"], 0.012))
    bones = [
        thorax.clavicle(rng, k, 0.5 * p["middle"], p["clavicle"] * (1 + 0.1 * rng.standard_normal()), p["clavicle_low"], p["clavicle_rise"])[0] for k in (0, 1)
    ]
    clavicles = np.maximum(*[frame.filled(b) for b in bones])
    soft = np.clip(np.maximum(*sides) * frame.px + 0.5, 0, 1).astype(np.float32)  # the lungs' share of every pixel
    layers = Layers(frame, x, y, cage, soft * (1 - heart), heart, clavicles)
    thickness = lay(rng, layers, p)
    planes = np.stack([layers.lungs, heart, clavicles * _cage_share(cage, x, y, frame.px)])
    grey, planes = _bent(rng, thickness, planes, c.wobble * min(shape))
    level = _exposed(rng, grey, p)
    level = foreign(rng, level, p)
    sharp = planes > 0.5
    labels = np.zeros(shape, np.int32)
    for k in range(len(CLASSES)):
        labels[sharp[k]] = k + 1
        p[f"share_{CLASSES[k]}"] = float(sharp[k].mean())
    picture = np.repeat(np.clip(np.rint(level * 255), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Drawing(picture, labels, um_per_px, p, sharp.astype(np.uint8) * 255)


def _parameters(rng: np.random.Generator, c: ChestConfig) -> dict[str, float]:
    u = rng.uniform
    p = {name: float(u(*getattr(c, name))) for name in _DRAWN}
    height = min(p["height"], 0.97 - p["top"] * 0.5)
    return p | {
        "height": height,
        "shift": u(-1, 1) * c.shift,
        "turn": u(-1, 1) * c.turn * rng.random(),
        "middle": u(-1, 1) * c.rotated,
        "heart_lift": u(-0.04, 0.04) + 0.5 * (p["dome"] - 0.8),
        "clavicle_low": u(0.08, 0.24),
        "clavicle_rise": u(0.02, 0.26),
        "ribs_apart": u(0.085, 0.125),
        "ribs_drop": u(0.05, 0.30),
        "ribs_front": u(0.10, 0.32),
        "wall": u(1.05, 1.35),  # X of the body's side
        "shoulder": u(-0.2, 0.02),  # Y of the shoulders
        "neck": u(0.22, 0.42),
        "opacity": float(rng.random() < c.opacity) * u(0.2, 0.9),
        "breasts": float(rng.random() < c.breasts) * u(0.1, 0.55),
        "gas": float(rng.random() < c.gas) * u(0.2, 2.0),
        "arms": float(rng.random() < c.arms),
        "labels": float(rng.random() < c.labels),
        "frame": float(rng.random() < c.frame),
        "tubes": float(rng.random() < c.tubes),
    }


_DRAWN = (
    *("half_width", "height", "top", "apex", "mediastinum", "knob", "dome", "heart_size", "heart_width", "clavicle", "lung", "heart", "spine", "abdomen"),
    *("rib", "collarbone", "vessels", "gain", "gamma", "blur", "noise", "shading"),
)


def _frame(shape: tuple[int, int], p: dict[str, float]) -> Frame:
    h, w = shape
    cos, sin = np.cos(p["turn"]), np.sin(p["turn"])
    across, down = p["half_width"] * w, p["height"] * h
    matrix = np.array([[across * cos, -down * sin, (0.5 + p["shift"]) * w], [across * sin, down * cos, p["top"] * h]])
    return Frame(matrix, shape)


def _cage(rng: np.random.Generator, c: ChestConfig, p: dict[str, float]) -> Cage:
    """Both sides round the picture's parameters; the left diaphragm lies lower as a rule."""

    def pair(middle: float, spread: float) -> tuple[float, float]:
        a, b = middle + spread * rng.uniform(-1, 1, 2)
        return float(a), float(b)

    u = rng.uniform
    right, low = p["dome"], p["mediastinum"] + u(-0.02, 0.07)
    return Cage(
        apex=pair(p["apex"], 0.04),
        widest=pair(u(0.6, 0.95), 0.04),
        round=pair(u(1.8, 2.7), 0.15),
        taper=pair(u(0.0, 0.25), 0.05),
        inner=pair(p["mediastinum"], 0.02),
        inner_low=(low + u(-0.02, 0.02), low + u(-0.01, 0.07)),
        inner_deep=pair(u(0.08, 0.22), 0.03),
        dome=(right, float(np.clip(right + u(-0.03, 0.09), 0.6, 0.95))),
        dome_at=pair(u(0.38, 0.58), 0.05),
        steep=pair(u(1.8, 3.6), 0.3),
        fall=pair(u(0.0, 0.09), 0.02),
        scallop=pair(0.0, u(0, 0.012)),
        middle=p["middle"],
        knob=(p["knob"], u(0.22, 0.36), u(0.04, 0.075)),
        aorta=u(0.2, 1.0),
        trunk=(u(0.0, 0.16), u(0.36, 0.5)),
        vein=(u(0.0, 0.08), u(0.3, 0.45)),
    )


def _cage_share(cage: Cage, x: Field, y: Field, px: float) -> Field:
    """1 where a pixel lies inside the rib cage or just outside it: readers outline clavicles only there."""
    lower = np.clip(y + 0.05, 0, 1)
    k = (x > 0).astype(int)
    wall = np.where(k == 0, thorax.outer(cage, 0, lower), thorax.outer(cage, 1, lower)) + 0.02
    return np.clip((wall - np.abs(x)) * px + 0.5, 0, 1).astype(np.float32)


def _bent(rng: np.random.Generator, thickness: Field, planes: NDArray[np.float32], amount: float) -> tuple[Field, NDArray[np.float32]]:
    """Picture and truth bent alike by a smooth field, so that no outline is a formula's."""
    shape = thickness.shape
    d_row, d_col = (amount * smooth_noise(rng, (shape[0], shape[1]), min(shape) / rng.uniform(2.5, 6)) for _ in range(2))
    everything = displaced(np.dstack([thickness, *planes]), d_row, d_col)
    return everything[..., 0], np.ascontiguousarray(everything[..., 1:].transpose(2, 0, 1))


def _exposed(rng: np.random.Generator, thickness: Field, p: dict[str, float]) -> Field:
    """Thickness → grey level 0–1, thick is bright: a saturating detector, uneven exposure, blur and noise."""
    shape = (thickness.shape[0], thickness.shape[1])
    uneven = thickness + p["shading"] * smooth_noise(rng, shape, min(shape) * rng.uniform(0.8, 2.0))
    level = np.clip(1 - np.exp(-p["gain"] * np.clip(uneven, 0, None)), 0, 1) ** p["gamma"]
    sigma = p["blur"] * shape[1]
    level = cv2.GaussianBlur(level.astype(np.float32), (0, 0), sigma) if sigma > 0.25 else level
    return np.asarray(level + p["noise"] * np.ptp(level) * smooth_noise(rng, shape, rng.uniform(1, 2.5)), np.float32)
