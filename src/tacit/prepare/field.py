"""The field of view of a fundus photograph, found without labels, and every photograph brought to one field diameter.

A camera leaves a dark border round a bright field: a disc, often cut by the picture's edges. The field is what is brighter than the
border, made whole by the circle that fits its outline. A picture without a dark border is all field.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

LEAST_DIAMETER = 96  # px; in less no vessel can be told from noise
LEAST_LIGHT = 16.0  # grey levels (of 255) that the brightest tenth has at least
BORDER_DARK = 0.45  # a corner is border where it is darker than this share of the middle
TRIPLES = 300  # circles tried
AT = 0.42  # the field begins this far from the border's mean log light to the field's


@dataclass(frozen=True)
class Field:
    """Where the retina is seen."""

    mask: NDArray[np.bool_]  # (h, w)
    centre: tuple[float, float]  # row, col of the circle's middle, px
    diameter: float  # px; of the circle, or the longer side where there is no border


def as_rgb(picture: NDArray) -> NDArray[np.uint8]:
    """A picture (h, w) or (h, w, 3) of uint8, uint16 or float 0–1 as (h, w, 3) uint8; grey is repeated.

    uint16 is divided by the smallest of 8, 10, 12, 14 or 16 bits that holds it. Raises InputError for another shape or type, and for
    numbers that are not finite or outside 0–1.
    """
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3) or picture.size == 0:
        raise InputError(f"a fundus photograph is (h, w) or (h, w, 3), this array is {picture.shape}; drop transparency and choose one picture")
    if picture.dtype.kind == "f":
        low, high = float(picture.min()), float(picture.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("the picture holds numbers that are not finite (NaN or infinite); expected 0–1; mend or drop it")
        if low < 0 or high > 1:
            raise InputError(
                f"a picture of floats was expected within 0–1, this one runs from {low:.3g} to {high:.3g}; divide it by its largest possible value"
            )
        levels = np.round(picture * 255).astype(np.uint8)
    elif picture.dtype == np.uint16:
        bits = next(b for b in (8, 10, 12, 14, 16) if int(picture.max()) < 2**b)
        levels = np.round(picture.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    elif picture.dtype == np.uint8:
        levels = picture
    else:
        raise InputError(f"a picture of uint8, uint16 or float was expected, this one is {picture.dtype}; convert it")
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels


def find_field(picture: NDArray) -> Field:
    """The field of a photograph (h, w) or (h, w, 3) as `as_rgb` takes it.

    Raises InputError for a picture that is black, or whose field is smaller than 96 px across.
    """
    rgb = as_rgb(picture)
    h, w = rgb.shape[:2]
    if max(h, w) < LEAST_DIAMETER or min(h, w) < LEAST_DIAMETER // 2:
        raise InputError(f"a picture of {h}×{w} px is too small for vessels: expected a field of {LEAST_DIAMETER} px or more; give the full resolution")
    factor = min(1.0, 720 / max(h, w))
    size = (max(round(w * factor), 1), max(round(h * factor), 1))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if factor < 1 else rgb
    light = cv2.GaussianBlur(small[..., 0].astype(np.float32), (0, 0), 1.0)  # red: the retina is red, a film's border is not
    bright = float(np.percentile(light, 90))
    if bright < LEAST_LIGHT:
        raise InputError(f"the picture is black: its brightest tenth is {bright:.0f} of 255 in red; check the exposure or drop it")
    if not _has_border(light):
        return Field(np.ones((h, w), bool), ((h - 1) / 2, (w - 1) / 2), float(max(h, w)))
    inner, circle = _disc(light)
    big = cv2.resize(inner.astype(np.float32), (w, h), interpolation=cv2.INTER_LINEAR) > 0.5 if factor < 1 else inner
    row, col, diameter = ((circle[0] + 0.5) / factor - 0.5, (circle[1] + 0.5) / factor - 0.5, circle[2] / factor)
    if diameter < LEAST_DIAMETER:
        raise InputError(f"the field is only {diameter:.0f} px across, expected {LEAST_DIAMETER} or more; crop the picture less or give the full resolution")
    return Field(np.asarray(big, bool), (row, col), diameter)


def _has_border(light: NDArray[np.float32]) -> bool:
    """Whether at least two corners are much darker than the middle."""
    h, w = light.shape
    a, b = max(h // 40, 2), max(w // 40, 2)
    corners = [float(np.median(c)) for c in (light[:a, :b], light[:a, -b:], light[-a:, :b], light[-a:, -b:])]
    middle = float(np.median(light[h // 4 : -h // 4, w // 4 : -w // 4]))
    return sum(c < BORDER_DARK * middle for c in corners) >= 2


def _level(light: NDArray[np.float32]) -> float:
    """The grey that parts border and field: between the means of the two classes that Otsu's rule finds in log light."""
    from skimage.filters import threshold_otsu

    log = np.log(light + 8)
    at = threshold_otsu(log)
    low, high = float(log[log <= at].mean()), float(log[log > at].mean())
    return float(np.exp(low + AT * (high - low)) - 8)


def _disc(light: NDArray[np.float32]) -> tuple[NDArray[np.bool_], tuple[float, float, float]]:
    """The field's mask and its circle (row, col, diameter): the largest bright piece and the circle through its free edge, cut as the piece is."""
    bright = (light > _level(light)).astype(np.uint8)
    reach = max(min(light.shape) // 60, 2)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    opened = cv2.morphologyEx(np.pad(bright, 2 * reach, mode="edge"), cv2.MORPH_OPEN, disk)[2 * reach : -2 * reach, 2 * reach : -2 * reach]
    opened = np.ascontiguousarray(opened if opened.any() else bright)
    edge = max(cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    mask = cv2.fillConvexPoly(np.zeros_like(opened), cv2.convexHull(edge), 1) > 0
    (h, w), ring = light.shape, edge[:, 0, ::-1].astype(np.float64)
    free = ring[(ring[:, 0] > 2) & (ring[:, 0] < h - 3) & (ring[:, 1] > 2) & (ring[:, 1] < w - 3)]
    fitted = _circle(free)
    box = ring.max(0) - ring.min(0) + 1
    if fitted is None or not 0.8 * box.max() <= fitted[2] <= 1.5 * np.hypot(*box):
        return mask, (float(ring[:, 0].mean()), float(ring[:, 1].mean()), float(box.max()))
    rows, cols = np.ogrid[:h, :w]
    round_ = np.hypot(rows - fitted[0], cols - fitted[1]) <= fitted[2] / 2
    inside = np.argwhere((opened > 0) & round_)
    (top, left), (low, right) = inside.min(0), inside.max(0) + 1
    cut = np.zeros_like(round_)
    cut[top:low, left:right] = round_[top:low, left:right]
    return cut, fitted


def _circle(points: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Row, col and diameter of the circle that most of the points (n, 2) lie on; None where there are few or they lie on a line.

    Circles through triples of points (always the same ones), the one with the most points within 1.5 px, then least squares on those:
    a shadow at one side of the field does not pull it.
    """
    if len(points) < 24:
        return None
    triples = points[np.random.default_rng(0).integers(0, len(points), (TRIPLES, 3))]  # (t, 3, 2)
    design = np.concatenate([2 * triples, np.ones((TRIPLES, 3, 1))], -1)
    sound = np.abs(np.linalg.det(design)) > 1.0
    if not sound.any():
        return None
    found = np.linalg.solve(design[sound], (triples[sound] ** 2).sum(-1)[..., None])[..., 0]  # (s, 3): row, col, r² − row² − col²
    radii = np.sqrt(np.maximum(found[:, 2] + (found[:, :2] ** 2).sum(1), 0))
    some = points[:: max(len(points) // 400, 1)]
    near = np.abs(np.hypot(*(some[None] - found[:, None, :2]).transpose(2, 0, 1)) - radii[:, None]) <= 1.5
    best = int(near.sum(1).argmax())
    kept = points[np.abs(np.hypot(*(points - found[best, :2]).T) - radii[best]) <= 1.5]
    (row, col, rest), *_ = np.linalg.lstsq(np.column_stack([2 * kept, np.ones(len(kept))]), (kept**2).sum(1), rcond=None)
    return float(row), float(col), 2 * float(np.sqrt(max(rest + row**2 + col**2, 0.0)))
