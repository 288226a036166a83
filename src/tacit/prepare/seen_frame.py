"""One frame for every picture of a kind, what a network is shown of it, and the way back: fundus photographs, radiographs, any other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.prepare.field import as_rgb
from tacit.prepare.frame import as_plane, even_light, field_of, framed
from tacit.prepare.radiograph import chest_frame
from tacit.prepare.space import to_size

Structure = Literal["vessel", "lungs", "structure"]
RIM = 2  # px at a fundus's edge that are not counted for its contrast


def frame_of(picture: NDArray, structure: Structure, side: int) -> NDArray[np.uint8]:
    """vessel: the field `side` px across, (s, s, 3) with s = side + 36 · lungs: ranks (side, side) · structure: RGB (side, side, 3), stretched.

    Raises InputError for a picture that cannot be of the kind.
    """
    if structure == "vessel":
        return framed(picture, side)[0]
    if structure == "lungs":
        return chest_frame(picture, side)
    return np.asarray(to_size(as_rgb(picture), (side, side)), np.uint8)


def shown(frame: NDArray[np.uint8], structure: Structure) -> NDArray[np.uint8]:
    """What a network sees of a frame: the even green of a fundus, mirrored outside its field, or ranks, (s, s); else RGB (s, s, 3)."""
    return as_plane(even_light(frame), field_of(frame, RIM)) if structure == "vessel" else frame


def inside_of(frame: NDArray[np.uint8], structure: Structure) -> NDArray[np.bool_]:
    """The field of a frame, (s, s); all of it but for a fundus."""
    return field_of(frame) if structure == "vessel" else np.ones(frame.shape[:2], bool)


def back_from(plane: NDArray[np.float32], picture: NDArray, structure: Structure, side: int) -> NDArray[np.float32]:
    """A plane (s, s) of the picture's frame at the picture's own size, (h, w); 0 outside the field."""
    if structure == "vessel":
        return framed(picture, side)[1].back(plane)
    return np.asarray(to_size(plane, (picture.shape[0], picture.shape[1])), np.float32)
