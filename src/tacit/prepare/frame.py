"""Fundus photographs in one frame: every field at one diameter in the middle of one square, what lies outside mirrored in, the light made even.

The frame holds RGB bytes; outside the field they are 0, inside at least 1, so the field travels with the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tacit.errors import InputError
from tacit.prepare.field import Field, as_rgb, find_field

RIM = 3  # px of the frame at the field's edge that are darkened by it, and mirrored over
LEVELS = 32.0  # of a byte, one standard deviation; 128 is the mean
SPREAD = 1 / 27  # SD of the Gaussian that is taken for the light, share of the diameter


@dataclass(frozen=True)
class Frame:
    """Where a photograph lies in the square, to bring answers back."""

    shape: tuple[int, int]  # h, w of the photograph
    scaled: tuple[int, int]  # h, w it has in the frame
    corner: tuple[int, int]  # row, col of its corner in the square; may be negative
    side: int  # px of the square
    field: Field  # in the photograph

    def back(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """A plane (side, side) of the frame at the photograph's own size (h, w); 0 outside the field."""
        scaled = np.zeros(self.scaled, np.float32)
        (top, left), (h, w) = self.corner, self.scaled
        a, b, c, d = max(top, 0), max(left, 0), min(top + h, self.side), min(left + w, self.side)
        scaled[a - top : c - top, b - left : d - left] = plane[a:c, b:d]
        return np.where(self.field.mask, cv2.resize(scaled, self.shape[::-1], interpolation=cv2.INTER_LINEAR), 0).astype(np.float32)

    def laid(self, plane: NDArray[np.float32]) -> NDArray[np.float32]:
        """A plane (h, w) of the photograph, such as a mask, as it lies in the frame, (side, side); 0 outside the photograph."""
        scaled = cv2.resize(plane, self.scaled[::-1], interpolation=cv2.INTER_AREA if self.scaled[0] < self.shape[0] else cv2.INTER_LINEAR)
        square = np.zeros((self.side, self.side), np.float32)
        (top, left), (h, w) = self.corner, self.scaled
        a, b, c, d = max(top, 0), max(left, 0), min(top + h, self.side), min(left + w, self.side)
        square[a:c, b:d] = scaled[a - top : c - top, b - left : d - left]
        return square


def framed(picture: NDArray, diameter: int = 540, margin: int = 18) -> tuple[NDArray[np.uint8], Frame]:
    """The photograph (h, w) or (h, w, 3), as `as_rgb` takes it, in its frame: (s, s, 3) uint8 with s = diameter + 2 · margin, px.

    Raises InputError as `find_field` does.
    """
    field, rgb = find_field(picture), as_rgb(picture)
    factor, side = diameter / field.diameter, diameter + 2 * margin
    (h, w), middle = rgb.shape[:2], side / 2
    scaled = (max(round(h * factor), 1), max(round(w * factor), 1))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    inside = np.where(field.mask[..., None], np.maximum(rgb, 1), 0).astype(np.uint8)
    small = cv2.resize(rgb, scaled[::-1], interpolation=how)
    seen = cv2.resize((inside[..., 0] > 0).astype(np.uint8) * 255, scaled[::-1], interpolation=cv2.INTER_AREA) >= 128
    small = np.where(seen[..., None], np.maximum(small, 1), 0).astype(np.uint8)
    corner = (round(middle - (field.centre[0] + 0.5) * factor), round(middle - (field.centre[1] + 0.5) * factor))
    square = np.zeros((side, side, 3), np.uint8)
    a, b, c, d = max(corner[0], 0), max(corner[1], 0), min(corner[0] + scaled[0], side), min(corner[1] + scaled[1], side)
    square[a:c, b:d] = small[a - corner[0] : c - corner[0], b - corner[1] : d - corner[1]]
    return square, Frame((h, w), scaled, corner, side, field)


def field_of(square: NDArray[np.uint8], rim: int = 0) -> NDArray[np.bool_]:
    """The field in a frame (s, s, 3), without its outermost `rim` px. (s, s)"""
    inside = square.any(-1).astype(np.uint8)
    return np.asarray(cv2.erode(np.pad(inside, 1), np.ones((2 * rim + 1,) * 2, np.uint8))[1:-1, 1:-1] > 0 if rim else inside > 0, bool)


def is_grey(square: NDArray[np.uint8]) -> bool:
    """Whether all three channels are alike."""
    return bool((square[..., 0] == square[..., 1]).all() and (square[..., 1] == square[..., 2]).all())


def mirrored(plane: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The plane (h, w) with what lies outside `inside` taken from its mirror image at the nearest edge, or from the edge itself."""
    if inside.all():
        return plane
    if not inside.any():
        raise InputError("the frame holds no field at all; make it with framed()")
    near = distance_transform_edt(~inside, return_distances=False, return_indices=True)  # (2, h, w)
    own = np.indices(plane.shape)
    limits = np.asarray(plane.shape)[:, None, None] - 1
    image = np.clip(2 * near - own, 0, limits)
    image = np.where(inside[image[0], image[1]], image, near)
    return np.asarray(plane[image[0], image[1]], np.float32)


def even_light(square: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Green over its local mean, less 1: the contrast of every pixel to its surroundings, mirrored outside the field. (s, s, 3) → (s, s)"""
    inside = field_of(square, RIM)
    green = mirrored(square[..., 1].astype(np.float32), inside if inside.any() else field_of(square))
    return np.asarray(green / np.maximum(local_mean(green, len(square) * SPREAD), 1.0) - 1, np.float32)


def local_mean(plane: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A Gaussian mean of SD `sigma` px, made at a quarter of the size. (h, w)"""
    h, w = plane.shape
    small = cv2.resize(plane, (max(w // 4, 1), max(h // 4, 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


def as_plane(contrast: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A contrast as bytes: over its SD inside the field (between its 1st and 99th percentile), ±4 SD kept. (s, s)"""
    values = contrast[inside] if inside.any() else contrast.ravel()
    low, high = np.percentile(values, [1, 99])
    spread = max(float(np.clip(values, low, high).std()), 1e-3)
    return np.clip(np.rint(contrast / spread * LEVELS + 128), 0, 255).astype(np.uint8)


def plane_values(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The standardised values of an `as_plane` plane, (…) in ±4."""
    return (plane.astype(np.float32) - 128) / np.float32(LEVELS)
