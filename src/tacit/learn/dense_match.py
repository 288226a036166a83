"""One-shot landmarks by a pixel's features: the place of a picture whose surroundings look most like those of the marked point.

"Unsupervised Local Discrimination for Medical Images", Chen, Wang, Peng and others, arXiv 2108.09440: centre-sensitive averaging,
    v̇(p) = normalise(Σ_d W(d) v(p + d)),  W a Gaussian window that peaks at its centre,  answer = argmax_p v̇(p)·support.
Ours differs: from coarse to fine, sub-pixel, and the answer is asked back: does it find the marked point in the template?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tacit.config import Config, Positive, Share
from tacit.learn.classical.register import Looks, Points, from_frame, to_frame
from tacit.learn.located import Located, Picture
from tacit.parts.components import principal_components

Features = Callable[[Picture], NDArray[np.float32]]  # picture → (d, side, side)
Averaged = list[NDArray[np.float32]]  # (d, s, s) unit vectors, a window each
PLANES = 3  # components of features that are registered as looks


class DenseMatchConfig(Config):
    windows: Annotated[tuple[Share, ...], Field(min_length=1)] = (
        0.375,
        0.125,
    )  # of the averaging, shares of the frame's side, coarse to fine; σ is a quarter of each. The published one: a cell of the learning's 8 × 8 grid
    reach: Positive = 1.0  # how far from the coarser answer the next one is sought, shares of the coarser window
    near: Share = 0.02  # of the frame's diagonal: asked back, the template answers at the marked point if nearer than this


class DenseMatch:
    """`fit` takes the template and its points, `locate` any picture. features: unit vectors of a picture's pixels, (d, side, side)."""

    Config = DenseMatchConfig

    def __init__(self, features: Features, config: DenseMatchConfig | None = None) -> None:
        self.features, self.config = features, config or DenseMatchConfig()

    def fit(self, template: Picture, points: Points, pictures: Sequence[Picture] = ()) -> DenseMatch:
        """template, points (p, 2) row, col in its px; pictures are not needed. In place."""
        self._template = self.averaged(self.features(template))
        self._start = to_frame(points, template.shape[:2], self._template[0].shape[1])
        return self

    def locate(self, picture: Picture) -> Located:
        """The points on a picture. Confidence: the cosine where the answer leads back to the marked point, the less the farther it leads off."""
        there, side = self.averaged(self.features(picture)), self._template[0].shape[1]
        found, cosine = self.match(self._template, self._start, there)
        back, _ = self.match(there, found, self._template)
        off = np.linalg.norm(back - self._start, axis=1)
        near = self.config.near * np.sqrt(2) * side
        shape = (picture.shape[0], picture.shape[1])
        confidence = np.clip(cosine, 0, 1) * np.minimum(1, near / np.maximum(off, 1e-9))
        return Located(from_frame(found, shape, side), confidence, off * float(np.sqrt(shape[0] * shape[1])) / side)

    def match(self, a: Averaged, points: Points, b: Averaged) -> tuple[Points, NDArray[np.float64]]:
        """Where b is most like a at points (p, 2), and the cosine there, at the finest window."""
        places, cosines = [], []
        for point in points:
            where, likeness = self._coarse_to_fine(a, point, b)
            places.append(_between(likeness, *where))
            cosines.append(float(likeness[where]))
        return np.array(places, np.float64).reshape(-1, 2), np.array(cosines)

    def averaged(self, v: NDArray[np.float32]) -> Averaged:
        """v̇ of features (d, s, s) at each window, coarse to fine."""
        found = []
        for share in self.config.windows:
            window = max(int(share * v.shape[1]) // 2 * 2 + 1, 3)
            mean = np.stack([cv2.GaussianBlur(plane, (window, window), window / 4, borderType=cv2.BORDER_REFLECT) for plane in v])
            found.append(np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=0), 1e-9), np.float32))
        return found

    def _coarse_to_fine(self, a: Averaged, point: NDArray[np.float64], b: Averaged) -> tuple[tuple[int, int], NDArray[np.float32]]:
        """The pixel of the best place, at each finer window sought round the coarser answer, and how like each pixel is at the finest."""
        side = b[0].shape[1]
        row, col = (int(np.clip(round(v), 0, side - 1)) for v in point)
        rows, cols = np.mgrid[:side, :side]
        far = np.zeros((side, side), bool)
        for one, other, share in zip(a, b, self.config.windows, strict=True):
            likeness = np.tensordot(one[:, row, col], other, axes=1)  # (s, s)
            best = np.unravel_index(int(np.where(far, -np.inf, likeness).argmax()), likeness.shape)
            where = (int(best[0]), int(best[1]))
            far = np.hypot(rows - where[0], cols - where[1]) > self.config.reach * share * side
        return where, likeness


class FeaturePlanes:
    """The strongest components of a template's features as grey planes, which pictures can be registered by. Made once, called for each picture."""

    def __init__(self, features: Features, template: Picture, side: int) -> None:
        self.features, self.side = features, side
        v = features(template)
        flat = v.reshape(len(v), -1).T.astype(np.float64)
        self.components = principal_components(lambda: [flat], min(PLANES, len(v)))
        values = self.components.places(flat)
        self.low, self.high = np.quantile(values, 0.01, axis=0), np.quantile(values, 0.99, axis=0)

    def __call__(self, picture: Picture) -> Looks:
        """(PLANES, side, side) uint8."""
        v = self.features(picture)
        values = self.components.places(v.reshape(len(v), -1).T.astype(np.float64))
        scaled = np.clip(255 * (values - self.low) / np.maximum(self.high - self.low, 1e-9), 0, 255).astype(np.uint8)
        planes = scaled.T.reshape(-1, *v.shape[1:])
        return np.stack([cv2.resize(np.ascontiguousarray(p), (self.side, self.side), interpolation=cv2.INTER_LINEAR) for p in planes])


def _between(likeness: NDArray[np.float32], row: int, col: int) -> tuple[float, float]:
    """The top of parabolas through the best pixel and its neighbours, along rows and columns."""
    return row + _top(likeness[max(row - 1, 0) : row + 2, col], row), col + _top(likeness[row, max(col - 1, 0) : col + 2], col)


def _top(three: NDArray[np.float32], at: int) -> float:
    if len(three) < 3 or at == 0:
        return 0.0
    before, middle, after = (float(v) for v in three)
    bend = before - 2 * middle + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < -1e-12 else 0.0
