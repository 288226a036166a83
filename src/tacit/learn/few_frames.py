"""How a picture lies before a network that few labels teach: what it sees, where, and the way there and back for masks and answers.

picture   RGB at one length of the shorter side, normalised as ImageNet is        (vgg-unet, timm)
fundus    the field of view at one diameter, its even green                       (the U-Net of phantom-fundus)
chest     a radiograph stretched to a square, its ranks                           (the U-Net of phantom-chest)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError
from tacit.prepare.field import as_rgb
from tacit.prepare.frame import as_plane, even_light, field_of, framed, plane_values
from tacit.prepare.radiograph import chest_frame, planes_of
from tacit.prepare.space import to_size
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD

RIM = 2  # px at a field's edge that teach nothing
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A picture before the network."""

    planes: Plane  # (c, h, w)
    inside: Plane  # (h, w), 1 where there is something to learn
    lay: Callable[[Plane], Plane]  # a plane of the picture (H, W) → (h, w)
    back: Callable[[Plane], Plane]  # (h, w) → the picture's own size (H, W)


def seen_by(kind: str, picture: NDArray, side: int) -> Seen:
    """A picture (H, W) or (H, W, 3) as a network of `kind` sees it. side: px of the shorter side, the field's diameter, or the frame.

    Raises InputError for a picture that the frame cannot hold.
    """
    return {"fundus": _fundus, "chest": _chest}.get(kind, _picture)(picture, side)


def _picture(picture: NDArray, side: int) -> Seen:
    rgb = as_rgb(picture)
    full: tuple[int, int] = (rgb.shape[0], rgb.shape[1])
    if min(full) < 8:
        raise InputError(f"a picture of {full[0]}×{full[1]} px is too small to learn from; give one of at least 8 px a side")
    zoom = side / min(full)
    small: tuple[int, int] = (max(round(full[0] * zoom), 1), max(round(full[1] * zoom), 1))
    x = (to_size(rgb, small).astype(np.float32) / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_SD)
    planes = np.ascontiguousarray(x.transpose(2, 0, 1), np.float32)
    return Seen(planes, np.ones(small, np.float32), lambda plane: to_size(plane, small), lambda plane: to_size(plane, full))


def _fundus(picture: NDArray, side: int) -> Seen:
    square, frame = framed(picture, side)
    planes = plane_values(as_plane(even_light(square), field_of(square, RIM)))[None]
    return Seen(planes, field_of(square, RIM).astype(np.float32), frame.laid, frame.back)


def _chest(picture: NDArray, side: int) -> Seen:
    full: tuple[int, int] = (picture.shape[0], picture.shape[1])
    planes = planes_of(chest_frame(picture, side))
    return Seen(planes, np.ones((side, side), np.float32), lambda plane: to_size(plane, (side, side)), lambda plane: to_size(plane, full))
