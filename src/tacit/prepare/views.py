"""Seeded random views: drawn as a small record, applied, replayed on another image, and undone per pixel.

The record (`ViewDraw`) holds everything random, so that a view is a pure function of picture and record. A view is: crop,
resample to a square, mirror, quarter turns, then the colours (stain, jitter, grey, blur, solarise). Chen et al. 2020 (SimCLR, arXiv
2002.05709, appendix A) and Grill et al. 2020 (BYOL, arXiv 2006.07733, appendix B) give the defaults.

Frames: points are (row, col) with the middle of the first pixel at (0, 0), as everywhere here; boxes are half-open.
`view_matrix`, `view` and `colour_shift` are the free crops by any angle with which drawn lessons are cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, Count, Range, Share
from tacit.errors import InputError
from tacit.prepare.colour_jitter import OPERATIONS, blurred, jittered, restained, solarised
from tacit.prepare.stain import draw_stain_jitter, stain_matrix

IMAGENET_MEAN, IMAGENET_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NORMALISING = np.column_stack([np.diag(1 / np.array(IMAGENET_SD)), -np.array(IMAGENET_MEAN) / IMAGENET_SD]).astype(np.float32)
_ROTATIONS = (-1, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
MOST_CHANNELS = 64  # OpenCV's limit is 128
TRIES = 10  # crops that are drawn before the largest one in the middle is taken, as torchvision does


class ViewConfig(Config):
    """How one view is drawn; the defaults are BYOL's first view."""

    size: Count = 224  # px a side
    scale: Range = (0.08, 1.0)  # crop's area / picture's area
    ratio: Range = (3 / 4, 4 / 3)  # crop's width / height, log-uniform
    flip: Share = 0.5  # probability of a mirrored view (left and right change places)
    turns: bool = False  # quarter turns, each of the four as likely; with flip also up and down
    jitter: Share = 0.8  # probability of the four colour operations together, in random order
    brightness: Share = 0.4  # factors are uniform in 1 ± this
    contrast: Share = 0.4
    saturation: Share = 0.2
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # turns of the colour circle, uniform in ± this
    grey: Share = 0.2  # probability of a grey view
    blur: Share = 1.0  # probability of a Gaussian blur
    sigma: Range = (0.1, 2.0)  # its SD, px of the view
    solarise: Share = 0.0  # probability of inverting the bright half
    stain: Share = 0.0  # probability of a jitter of haematoxylin and eosin
    stain_gain: Share = 0.2  # their amounts are scaled by 1 ± this
    stain_shift: Share = 0.02  # and moved by ± this, optical density


_SIMCLR = ViewConfig(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5)
_REPORT = ViewConfig(jitter=0.5, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.4, blur=0.4, solarise=0.4)
_HISTOLOGY = ViewConfig(scale=(0.4, 1.0), turns=True, hue=0.0, grey=0.0, blur=0.5, stain=0.8)

PRESETS: dict[str, tuple[ViewConfig, ViewConfig]] = {  # the two views of a picture
    "byol": (ViewConfig(), ViewConfig(blur=0.1, solarise=0.2)),
    "simclr": (_SIMCLR, _SIMCLR),
    "report": (_REPORT, _REPORT),  # its code jittered the whole picture before the crop; here the crop comes first
    "histology": (_HISTOLOGY, _HISTOLOGY),  # hue and grey would erase what tells nuclei from stroma; the stains vary instead
}


@dataclass(frozen=True)
class ViewDraw:
    """All that was random in one view; plain numbers, so that it can be written down.

    shape: (h, w) of the picture. box: top, left, bottom, right of the crop, half-open. turns: quarter turns against the clock,
    after the mirroring. operations: colour operations with their factors, in order. stain: gains and shifts of haematoxylin
    and eosin, or None. sigma: SD of the blur in px of the view, 0 for none.
    """

    shape: tuple[int, int]
    size: int
    box: tuple[int, int, int, int]
    flip: bool = False
    turns: int = 0
    stain: tuple[tuple[float, float], tuple[float, float]] | None = None
    operations: tuple[tuple[str, float], ...] = ()
    grey: bool = False
    sigma: float = 0.0
    solarise: bool = False

    def __post_init__(self) -> None:
        (h, w), (top, left, bottom, right) = self.shape, self.box
        if not (0 <= top < bottom <= h and 0 <= left < right <= w and self.size >= 1 and self.turns in range(4)):
            raise InputError(f"a view of {self.size} px, turns {self.turns}, box {self.box} does not fit a picture of {h}×{w}")


def read_draw(record: Mapping[str, Any]) -> ViewDraw:
    """The draw that `dataclasses.asdict` made a record of, also after JSON, which turns tuples into lists."""
    return ViewDraw(**{name: _as_tuples(value) for name, value in record.items()})


def draw_view(rng: np.random.Generator, shape: tuple[int, int], config: ViewConfig = ViewConfig()) -> ViewDraw:
    """One draw for a picture of `shape` (h, w); the same generator state gives the same draw."""
    b, c, s, h, stained, jittery, grey, blurry, solarise, flip, sigma, turns = rng.random(12).tolist()
    ranges = (config.brightness, config.contrast, config.saturation, config.hue)
    turned = [(2 * u - 1) * width for u, width in zip((b, c, s, h), ranges, strict=True)]
    operations = [(name, by if name == "hue" else 1 + by) for name, by in zip(OPERATIONS, turned, strict=True) if by]
    order = rng.permutation(len(operations)).tolist() if jittery < config.jitter else []
    low, high = config.sigma
    return ViewDraw(
        shape=(int(shape[0]), int(shape[1])),
        size=config.size,
        box=_draw_box(rng, int(shape[0]), int(shape[1]), config),
        flip=flip < config.flip,
        turns=int(4 * turns) if config.turns else 0,
        stain=draw_stain_jitter(rng, config.stain_gain, config.stain_shift) if stained < config.stain else None,
        operations=tuple(operations[i] for i in order),
        grey=grey < config.grey,
        sigma=low + (high - low) * sigma if blurry < config.blur else 0.0,
        solarise=solarise < config.solarise,
    )


def apply(picture: NDArray, draw: ViewDraw) -> NDArray[np.float32]:
    """The view of `picture` that `draw` says: (size, size, 3) or (size, size), float32 from 0 to 1.

    picture: (h, w, 3) RGB or (h, w) grey, uint8, uint16, or float32 from 0 to 1. Resampling is bilinear with antialiasing, as
    torchvision's `resized_crop(antialias=True)` on a tensor of the same type, from which it differs by no more than 2/255; stain
    and saturation need colour and pass grey pictures by. Raises InputError for another type or a picture of another shape.
    """
    return _seen(picture, draw)


def apply_to_map(values: NDArray, draw: ViewDraw) -> NDArray:
    """A per-pixel map (h, w[, c]) of the picture, such as labels, seen with the view's geometry only: nearest value, same type.

    Raises InputError for a map of another shape than the picture's.
    """
    _check_shape(values, draw)
    top, left, bottom, right = draw.box
    rows = top + _nearest(draw.size, bottom - top)
    cols = left + _nearest(draw.size, right - left)
    return _placed(values[rows[:, None], cols], draw)


def normalised(view: NDArray[np.float32]) -> NDArray[np.float32]:
    """A view as networks want it: (3, size, size), minus ImageNet's mean, over its SD; grey is repeated."""
    planes = np.empty((3, *view.shape[:2]), np.float32)
    cv2.split(cv2.transform(_coloured(view), _NORMALISING), list(planes))
    return planes


def normalised_views(picture: NDArray, draws: Sequence[ViewDraw]) -> NDArray[np.float32]:
    """Views of one picture as a batch, (n, 3, size, size): what `normalised(apply(picture, draw))` gives for each, in fewer passes.

    Raises InputError as `apply` does, and for draws of different sizes or none.
    """
    if len({draw.size for draw in draws}) != 1:
        raise InputError(f"a batch needs views of one size, these are of {sorted({draw.size for draw in draws})}; draw them with one size")
    batch = np.empty((len(draws), 3, draws[0].size, draws[0].size), np.float32)
    for draw, planes in zip(draws, batch, strict=True):
        if picture.ndim == 2 or draw.solarise:
            planes[:] = normalised(apply(picture, draw))
        else:  # a blur and an affine map of colour may change places, and the jitter has one pending anyway
            cv2.split(_seen(picture, draw, last=_NORMALISING), list(planes))
    return batch


def to_picture(points: NDArray, draw: ViewDraw) -> NDArray[np.float64]:
    """Points (n, 2), (row, col) of the view, in the picture's frame; exact, pixels' middles are whole numbers in both frames."""
    row, col = np.asarray(points, np.float64).T
    last = draw.size - 1
    for _ in range(draw.turns):
        row, col = col, last - row
    if draw.flip:
        col = last - col
    top, left, bottom, right = draw.box
    return np.stack([top + (row + 0.5) * (bottom - top) / draw.size - 0.5, left + (col + 0.5) * (right - left) / draw.size - 0.5], axis=1)


def to_view(points: NDArray, draw: ViewDraw) -> NDArray[np.float64]:
    """Points (n, 2), (row, col) of the picture, in the view's frame: the inverse of `to_picture`. Outside the crop they lie outside 0…size − 1."""
    row, col = np.asarray(points, np.float64).T
    top, left, bottom, right = draw.box
    row, col = (row + 0.5 - top) * draw.size / (bottom - top) - 0.5, (col + 0.5 - left) * draw.size / (right - left) - 0.5
    last = draw.size - 1
    if draw.flip:
        col = last - col
    for _ in range(draw.turns):
        row, col = last - col, row
    return np.stack([row, col], axis=1)


def undo(values: NDArray, draw: ViewDraw) -> tuple[NDArray, NDArray[np.bool_]]:
    """A per-pixel map (n, n[, c]) of the view laid back onto the picture, (h, w[, c]), and where it is valid, (h, w): in the crop.

    n is any size: a network's coarse map covers the same crop. Floats are bilinear (float32, or float64 if they came so; the
    outermost half pixel of the map is repeated), other types nearest; 0 outside the crop. Raises InputError unless square.
    """
    if values.ndim not in (2, 3) or values.shape[0] != values.shape[1] or values.size == 0:
        raise InputError(f"a map of a view is square, (n, n) or (n, n, c); this is {values.shape}")
    top, left, bottom, right = draw.box
    upright = np.rot90(values, -draw.turns)
    upright = np.ascontiguousarray(upright[:, ::-1] if draw.flip else upright)
    height, width = bottom - top, right - left
    if np.issubdtype(values.dtype, np.floating):
        kind = np.float64 if values.dtype == np.float64 else np.float32
        fitted = _bilinear(upright.astype(kind), (height, width))
    else:
        fitted = upright[_nearest(height, len(values))[:, None], _nearest(width, len(values))]
    out = np.zeros((*draw.shape, *values.shape[2:]), fitted.dtype)
    valid = np.zeros(draw.shape, bool)
    out[top:bottom, left:right], valid[top:bottom, left:right] = fitted, True
    return out, valid


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _draw_box(rng: np.random.Generator, h: int, w: int, config: ViewConfig) -> tuple[int, int, int, int]:
    """A crop of random area and side ratio anywhere in the picture; after ten that do not fit, the largest one in the middle."""
    (small, large), (narrow, wide) = config.scale, config.ratio
    for _ in range(TRIES):
        area_at, ratio_at, row_at, col_at = rng.random(4).tolist()
        area = h * w * (small + (large - small) * area_at)
        ratio = narrow * (wide / narrow) ** ratio_at
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= h and 0 < width <= w:
            top, left = int(row_at * (h - height + 1)), int(col_at * (w - width + 1))
            return top, left, top + height, left + width
    height, width = max(min(h, round(w / narrow)), 1), max(min(w, round(h * wide)), 1)
    top, left = (h - height) // 2, (w - width) // 2
    return top, left, top + height, left + width


def _seen(picture: NDArray, draw: ViewDraw, last: NDArray | None = None) -> NDArray[np.float32]:
    """The view; `last` is an affine map of colour, for a view that is not solarised."""
    _check_shape(picture, draw)
    x = _levels(_placed(_resampled(picture, draw), draw), picture.dtype)  # our own array from here, so the rest may work in it
    if x.ndim == 3 and draw.stain is not None:
        x = restained(x, stain_matrix(*draw.stain))
    operations = (*draw.operations, ("saturation", 0.0)) if draw.grey else draw.operations
    x = jittered(x, operations, in_place=True, last=last)
    x = blurred(x, draw.sigma, in_place=True)
    return solarised(x) if draw.solarise else x


def _coloured(view: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.merge([view] * 3), np.float32) if view.ndim == 2 else view


def _resampled(picture: NDArray, draw: ViewDraw) -> NDArray:
    """The crop at (size, size[, 3]) in levels of its type (uint16 as float32). torch does it: as Pillow does, in a third of the time on uint8."""
    import torch

    if picture.dtype not in (np.uint8, np.uint16, np.float32) or picture.shape[2:] not in ((), (3,)):
        raise InputError(f"a picture to view is (h, w, 3) or (h, w) of uint8, uint16 or float32, this is {picture.dtype} {picture.shape}")
    top, left, bottom, right = draw.box
    crop = picture[top:bottom, left:right]
    if picture.dtype == np.uint16:
        crop = crop.astype(np.float32)
    elif not crop.flags.writeable or min(crop.strides) < 0:  # torch takes neither
        crop = crop.copy()
    # unsqueezed before the axes are moved, the strides say "channels last", for which torch has a fast path on bytes
    planes = torch.from_numpy(crop if crop.ndim == 3 else crop[..., None]).unsqueeze(0).permute(0, 3, 1, 2)
    planes = planes if crop.dtype == np.uint8 else planes.contiguous()
    small = torch.nn.functional.interpolate(planes, (draw.size, draw.size), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(small if crop.ndim == 3 else small[..., 0])


def _levels(x: NDArray, kind: np.dtype) -> NDArray[np.float32]:
    """Levels of a picture of type `kind` as float32 from 0 to 1, in an array of its own."""
    unit = 1.0 if kind == np.float32 else float(np.iinfo(kind).max)
    return np.multiply(x, np.float32(1 / unit), dtype=np.float32, order="C")


def _placed(x: NDArray, draw: ViewDraw) -> NDArray:
    """Mirrored, then turned."""
    if x.dtype in (np.uint8, np.float32) and x.ndim <= 3 and x.flags.c_contiguous:  # several times as fast as a reversed copy
        x = np.asarray(cv2.flip(x, 1)).reshape(x.shape) if draw.flip else x
        return np.asarray(cv2.rotate(x, _ROTATIONS[draw.turns])).reshape(x.shape) if draw.turns else x
    x = x[:, ::-1] if draw.flip else x
    return np.ascontiguousarray(np.rot90(x, draw.turns) if draw.turns else x)


def _bilinear(values: NDArray, size: tuple[int, int]) -> NDArray:
    """values (n, n[, c]) at `size`, without antialiasing; OpenCV takes a limited number of channels at a time."""
    if values.ndim == 2:
        return np.asarray(cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR))
    out = np.empty((*size, values.shape[2]), values.dtype)
    for first in range(0, values.shape[2], MOST_CHANNELS):
        block = np.ascontiguousarray(values[..., first : first + MOST_CHANNELS])
        out[..., first : first + MOST_CHANNELS] = cv2.resize(block, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(*size, -1)
    return out


def _nearest(count: int, source: int) -> NDArray[np.int64]:
    """For each of `count` pixels that cover `source` pixels, the one that its middle lies in."""
    return ((np.arange(count) * 2 + 1) * source) // (2 * count)


def _check_shape(picture: NDArray, draw: ViewDraw) -> None:
    if picture.shape[:2] != draw.shape:
        raise InputError(f"the view was drawn for a picture of {draw.shape[0]}×{draw.shape[1]}, this one is {picture.shape}; draw anew for it")


def view_matrix(rng: np.random.Generator, shape: tuple[int, int], size: int, *, zoom: float = 0.25) -> NDArray[np.float64]:
    """The affine map from view pixels to picture pixels (2, 3), OpenCV's x, y order.

    A square of `size` px, zoomed by up to ±`zoom` (log-uniform), mirrored at random and turned by any angle, its centre inside
    the picture as far as the picture is large enough.
    """
    scale = float(np.exp(rng.uniform(-1, 1) * np.log1p(zoom)))
    angle = rng.uniform(0, 2 * np.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    half = size * scale / 2
    low = np.minimum(half * 0.7, np.asarray(shape) / 2)
    row, col = rng.uniform(low, np.maximum(np.asarray(shape) - low, low + 1e-6))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    turned = np.array([[cos * mirror, -sin], [sin * mirror, cos]])
    middle = (size - 1) / 2
    return np.hstack([turned, (np.array([col, row]) - turned @ [middle, middle])[:, None]])


def view(picture: NDArray, matrix: NDArray[np.float64], size: int) -> NDArray:
    """`picture` (h, w[, c]) seen through `matrix`: (size, size[, c]), bilinear, mirrored beyond the edge."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT_101))


def colour_shift(rng: np.random.Generator, x: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
    """A standardised picture (c, h, w) with each channel's contrast and level moved by about `amount` SDs."""
    gain = np.exp(amount * rng.standard_normal((len(x), 1, 1)))
    return np.asarray(x * gain + amount * rng.standard_normal((len(x), 1, 1)), np.float32)
