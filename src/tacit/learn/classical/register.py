"""Where each pixel of one picture lies in another: an affine map by ECC, then dense optical flow by DIS, on several looks at both pictures.

ECC: Evangelidis and Psarakis 2008, TPAMI 30:1858. DIS: Kroeger and others 2016, arXiv 1603.03590. Both as OpenCV has them.
A frame is a picture at side × side px, whatever its shape was; points are (row, col) in px, the middle of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]  # (side, side)
Looks = NDArray[np.uint8]  # (k, side, side), the first one decides the affine map
Points = NDArray[np.float64]  # (p, 2) row, col
Mapping = NDArray[np.float32]  # (side, side, 2): row and col in the other picture's frame
AFFINE_SIDE, AFFINE_STEPS = 64, 60  # px of the frame at which ECC works, and its iterations
COMPARED_BLUR = 3.0  # px, before a mirrored and a plain answer are compared


def grey_frame(picture: NDArray[np.uint8], side: int) -> Plane:
    """(h, w) or (h, w, 3) RGB → (side, side) grey; the shape is given up."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    how = cv2.INTER_AREA if min(grey.shape) >= side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(grey, (side, side), interpolation=how), np.uint8)


def equalised(grey: Plane) -> Plane:
    """Ranks of the grey values, then contrast by places (CLAHE, 8 × 8)."""
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(cv2.equalizeHist(grey)), np.uint8)


def edges(grey: Plane) -> Plane:
    """How fast the ranks change, at 2 px."""
    smooth = cv2.GaussianBlur(cv2.equalizeHist(grey).astype(np.float32), (0, 0), 2)
    return np.asarray(np.clip(4 * cv2.magnitude(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)), 0, 255), np.uint8)


def local(grey: Plane) -> Plane:
    """Each grey value less the mean round it, over the deviation there, both at 12 px."""
    x = grey.astype(np.float32)
    mean = cv2.GaussianBlur(x, (0, 0), 12)
    deviation = np.sqrt(cv2.GaussianBlur((x - mean) ** 2, (0, 0), 12))
    return np.asarray(np.clip(128 + 40 * (x - mean) / (deviation + 4), 0, 255), np.uint8)


LOOKS: dict[str, Callable[[Plane], Plane]] = {"grey": equalised, "edges": edges, "local": local}


def looks(picture: NDArray[np.uint8], names: tuple[str, ...], side: int) -> Looks:
    """The picture as the named looks see it, (k, side, side)."""
    grey = grey_frame(picture, side)
    return np.stack([LOOKS[name](grey) for name in names])


def affine(a: Plane, b: Plane) -> NDArray[np.float64]:
    """(2, 3): x, y, 1 of frame a → x, y of frame b. The identity where ECC finds nothing in common."""
    small = [cv2.GaussianBlur(cv2.resize(x, (AFFINE_SIDE, AFFINE_SIDE), interpolation=cv2.INTER_AREA), (0, 0), 1).astype(np.float32) for x in (a, b)]
    found = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(*small, found, cv2.MOTION_AFFINE, (3, AFFINE_STEPS, 1e-4), None, 3)  # type: ignore[call-overload,arg-type]
    except cv2.error:  # it did not converge
        return np.eye(2, 3)
    whole, zoom = np.asarray(found, np.float64), len(a) / AFFINE_SIDE
    whole[:, 2] = zoom * whole[:, 2] + (zoom - 1) / 2 * (1 - whole[:, :2].sum(1))
    return whole


def register(a: Looks, b: Looks, *, mirror: bool = False) -> list[Mapping]:
    """For each look, where every pixel of frame a lies in frame b.

    mirror: b is also tried with left and right exchanged, and taken so where it then is more like a.
    """
    plain = _register(a, b)
    if not mirror:
        return plain
    turned = _register(a, np.ascontiguousarray(b[:, :, ::-1]))
    if _likeness(a[0], b[0], plain[0]) >= _likeness(a[0], np.ascontiguousarray(b[0, :, ::-1]), turned[0]):
        return plain
    last = np.float32(b.shape[2] - 1)
    return [np.stack([m[..., 0], last - m[..., 1]], -1) for m in turned]


def at(mapping: Mapping, points: Points) -> Points:
    """The mapping at points (p, 2) between pixels, linear; outside the frame as at its edge."""
    row, col = (np.clip(points[:, k], 0, mapping.shape[k] - 1) for k in (0, 1))
    top, left = (np.minimum(v.astype(int), n - 2) for v, n in ((row, mapping.shape[0]), (col, mapping.shape[1])))
    down, right = (row - top)[:, None], (col - left)[:, None]
    above = mapping[top, left] * (1 - right) + mapping[top, left + 1] * right
    below = mapping[top + 1, left] * (1 - right) + mapping[top + 1, left + 1] * right
    return np.asarray(above * (1 - down) + below * down, np.float64)


def warped(plane: Plane, mapping: Mapping) -> Plane:
    """What the other picture holds where the mapping points."""
    col, row = (np.ascontiguousarray(mapping[..., k], np.float32) for k in (1, 0))
    return np.asarray(cv2.remap(plane, col, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def to_frame(points: Points, shape: tuple[int, int], side: int) -> Points:
    """Points of a picture (h, w) in its frame."""
    return np.asarray((points + 0.5) * side / np.asarray(shape) - 0.5)


def from_frame(points: Points, shape: tuple[int, int], side: int) -> Points:
    """Points of a frame in the picture (h, w)."""
    return np.asarray((points + 0.5) * np.asarray(shape) / side - 0.5)


def _register(a: Looks, b: Looks) -> list[Mapping]:
    found, side = affine(a[0], b[0]), a.shape[1]
    row, col = np.mgrid[:side, :side].astype(np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    mappings = []
    for one, other in zip(a, b, strict=True):
        moved = cv2.warpAffine(other, found, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        step = flow.calc(one, moved, None)  # type: ignore[call-overload]
        x, y = col + step[..., 0], row + step[..., 1]
        mappings.append(np.stack([found[1, 0] * x + found[1, 1] * y + found[1, 2], found[0, 0] * x + found[0, 1] * y + found[0, 2]], -1).astype(np.float32))
    return mappings


def _likeness(a: Plane, b: Plane, mapping: Mapping) -> float:
    one, other = (cv2.GaussianBlur(x, (0, 0), COMPARED_BLUR).ravel().astype(np.float64) for x in (a, warped(b, mapping)))
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(np.sqrt((one @ one) * (other @ other)), 1e-9))
