"""Brightness, contrast, saturation, hue, grey, blur and solarising of one view, on few passes over the pixels.

Pictures are float32 from 0 to 1, (h, w, 3) RGB or (h, w) grey, so nothing is rounded on the way. Each operation is defined as
torchvision's function of that name (transforms.v2.functional) and agrees with it within 2/255, on float pictures and, where
torchvision itself cuts to whole levels, on uint8 ones. Brightness, contrast and saturation are affine in RGB and are multiplied
into one 3×4 matrix as long as no level can leave 0–1 in between; where one can, it is clipped there, as torchvision does.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import ConfigError, InputError

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
GREY = np.array([0.2989, 0.587, 0.114])  # torchvision's weights of R, G, B
REACH = 3.0  # SDs of a Gaussian that are summed; beyond lies less than 0.003 of it, so no level moves by more than 0.7/255

Picture = NDArray[np.float32]
Matrix = NDArray[np.float64]  # (3, 4): RGB to RGB, with an offset


def jittered(x: Picture, operations: Sequence[tuple[str, float]], *, in_place: bool = False, last: Matrix | None = None) -> Picture:
    """`x` after (name, factor) operations in the order given; in a new array, or in `x` itself where asked.

    last: an affine map (3, 4) of colour after them all, such as a normalising one, that may leave 0–1 and costs no pass of its own.

    brightness, contrast, saturation: factor ≥ 0, 1 changes nothing, 0 is black, the mean grey, or grey. hue: −0.5 to 0.5 turns of
    the colour circle, 0 changes nothing. Grey pictures have no saturation or hue to change. Raises InputError for another type or
    shape, ConfigError for an unknown name or a factor out of range.
    """
    _check_view(x)
    for name, factor in operations:
        _check_operation(name, factor)
    x = x if in_place else x.copy()
    if x.ndim == 2:
        return _jittered_grey(x, operations)
    waiting: Matrix | None = None
    for name, factor in operations:
        if name == "hue":
            _pass(x, waiting)
            _turn_hue(x, factor)
            waiting = None
            continue
        waiting = _joined(_affine(name, factor, x, waiting), waiting)
        if factor > 1:  # only then can a level leave 0–1
            _pass(x, waiting)
            np.clip(x, 0, 1, out=x)
            waiting = None
    _pass(x, waiting if last is None else _joined(last, waiting))
    return x


def restained(x: Picture, matrix: NDArray[np.float32]) -> Picture:
    """`x` (h, w, 3) with an affine map (3, 4) of its optical density (`stain_matrix`), clipped to 0–1; black counts as 1/255."""
    y = np.maximum(x, np.float32(1 / 255))
    natural = matrix.astype(np.float32).copy()
    natural[:, 3] *= -np.log(10)  # the matrix moves −log10 of light, the pixels hold its natural logarithm
    cv2.exp(cv2.transform(cv2.log(y, dst=y), natural, dst=y), dst=y)
    return np.asarray(np.clip(y, 0, 1, out=y), np.float32)


def blurred(x: Picture, sigma: float, *, in_place: bool = False) -> Picture:
    """A Gaussian of SD `sigma` px, mirrored at the border without repeating it; 0 changes nothing."""
    if sigma <= 0:
        return x if in_place else x.copy()
    side = 2 * int(np.ceil(REACH * sigma)) + 1
    return np.asarray(cv2.GaussianBlur(x, (side, side), sigma, dst=x if in_place else None, borderType=cv2.BORDER_REFLECT_101), np.float32)


def solarised(x: Picture, threshold: float = 0.5) -> Picture:
    """Levels at or above `threshold` inverted, 1 − level."""
    return np.where(x >= threshold, np.float32(1) - x, x)


def _check_view(x: NDArray) -> None:
    if x.dtype != np.float32 or not (x.ndim == 2 or (x.ndim == 3 and x.shape[-1] == 3)):
        raise InputError(f"a view is float32 from 0 to 1, (h, w, 3) or (h, w); this is {x.dtype} {x.shape}")


def _check_operation(name: str, factor: float) -> None:
    if name not in OPERATIONS:
        raise ConfigError(f"the colour operation {name!r} is not known; there are {', '.join(OPERATIONS)}")
    if not (-0.5 <= factor <= 0.5 if name == "hue" else 0 <= factor < np.inf):
        raise ConfigError(f"{name} {factor}: hue is a turn from -0.5 to 0.5, the other factors are 0 or more")


def _affine(name: str, factor: float, x: Picture, waiting: Matrix | None) -> Matrix:
    """The operation as a (3, 4) matrix; contrast's mean is that of `x` after the matrix that is still waiting."""
    matrix = np.zeros((3, 4))
    matrix[0, 0] = matrix[1, 1] = matrix[2, 2] = factor
    if name == "saturation":
        matrix[:, :3] += (1 - factor) * GREY
    elif name == "contrast":
        mean = np.array(cv2.mean(x)[:3])
        matrix[:, 3] = (1 - factor) * (GREY @ (mean if waiting is None else waiting[:, :3] @ mean + waiting[:, 3]))
    return matrix


def _joined(then: Matrix, first: Matrix | None) -> Matrix:
    if first is None:
        return then
    joined = then[:, :3] @ first
    joined[:, 3] += then[:, 3]
    return joined


def _pass(x: Picture, matrix: Matrix | None) -> None:
    if matrix is not None:
        cv2.transform(x, matrix.astype(np.float32), dst=x)


def _turn_hue(x: Picture, turn: float) -> None:
    hsv = cv2.cvtColor(x, cv2.COLOR_RGB2HSV)
    hsv[..., 0] += np.float32(360 * (turn % 1))  # degrees; OpenCV wraps them on the way back, but only those above 360
    cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=x)


def _jittered_grey(x: Picture, operations: Sequence[tuple[str, float]]) -> Picture:
    for name, factor in operations:
        if name in ("brightness", "contrast"):
            rest = (1 - factor) * cv2.mean(x)[0] if name == "contrast" else 0.0
            np.clip(x * np.float32(factor) + np.float32(rest), 0, 1, out=x)
    return x
