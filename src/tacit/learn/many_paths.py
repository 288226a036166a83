"""One marked picture, many unlabelled ones: a point reaches each picture along many ways, straight and through others, and the middle of them is the answer.

Ours, 2026. A single registration fails grossly now and then; ways through other pictures fail at other places, so their median holds, and
how far they lie apart says how sure it is. Registration: learn/classical/register.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from tacit.config import Config, Count, Share
from tacit.learn.classical.register import LOOKS, Looks, Points, at, from_frame, looks, register, to_frame
from tacit.learn.located import Located, Picture

Planes = Callable[[Picture], Looks]  # what else is registered: structure that was found, or features; (m, side, side)
SMALL, SMALL_BLUR = 32, 0.5  # px a side at which pictures are compared to find the typical ones


class ManyPathsConfig(Config):
    side: Count = 256  # px of the frame in which pictures are registered
    looks: tuple[str, ...] = ("grey", "edges", "local")  # each gives a way of its own: grey values, their edges, contrast by places
    through: Annotated[int, Field(ge=0)] = 24  # other pictures that ways go through; 0 = the straight ways alone
    mirror: bool = False  # pictures may be mirrored, as left and right eyes are
    near: Share = 0.02  # of the frame's diagonal: ways that end so near to the answer agree with it

    @field_validator("looks")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(LOOKS):
            raise ValueError(f"expected some of {', '.join(LOOKS)}")
        return value


class ManyPaths:
    """`fit` takes the template and pictures without marks, `locate` any picture."""

    Config = ManyPathsConfig

    def __init__(self, config: ManyPathsConfig | None = None, planes: Planes | None = None) -> None:
        self.config = config or ManyPathsConfig()
        self.planes = planes
        self._stations: list[tuple[list[Looks], list[list[Points]]]] = []  # a picture as it is looked at, and where the points lie in its frame, by each look

    def fit(self, template: Picture, points: Points, pictures: Sequence[Picture]) -> ManyPaths:
        """template (h, w[, 3]), points (p, 2) row, col in its px, pictures that ways may go through (`typical` chooses good ones). In place."""
        c = self.config
        seen = self._look(template)
        start = to_frame(points, template.shape[:2], c.side)
        self._stations = [(seen, [[start] * len(group) for group in seen])]
        for picture in pictures[: c.through]:
            other = self._look(picture)
            self._stations.append((other, [[at(m, start) for m in register(a, b, mirror=c.mirror)] for a, b in zip(seen, other, strict=True)]))
        return self

    def ways(self, picture: Picture) -> Points:
        """Where each way ends, (w, p, 2) in the picture's frame."""
        target = self._look(picture)
        ends = []
        for seen, places in self._stations:
            for a, b, starts in zip(seen, target, places, strict=True):
                ends += [at(m, start) for m, start in zip(register(a, b, mirror=self.config.mirror), starts, strict=True)]
        return np.stack(ends)

    def locate(self, picture: Picture) -> Located:
        """The points on a picture; their confidence is the share of the ways that agree."""
        c, shape = self.config, (picture.shape[0], picture.shape[1])
        ends = self.ways(picture)
        middle = np.median(ends, 0)
        apart = np.linalg.norm(ends - middle, axis=2)  # (w, p) px of the frame
        zoom = float(np.sqrt(shape[0] * shape[1])) / c.side
        agree = (apart <= c.near * np.sqrt(2) * c.side).mean(0)
        return Located(from_frame(middle, shape, c.side), agree, np.median(apart, 0) * zoom)

    def _look(self, picture: Picture) -> list[Looks]:
        """Grey looks, and what else there is: each group finds its own affine map."""
        seen = looks(picture, self.config.looks, self.config.side)
        return [seen] if self.planes is None else [seen, self.planes(picture)]


def thumbnail(picture: Picture) -> NDArray[np.float32]:
    """(1024,): the picture, small, without its mean, at unit length."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    small = cv2.resize(cv2.equalizeHist(grey), (SMALL, SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), SMALL_BLUR) - small.mean()
    return np.asarray((small / max(float(np.linalg.norm(small)), 1e-6)).ravel(), np.float32)


def typical(thumbnails: NDArray[np.float32]) -> NDArray[np.int64]:
    """Indices of pictures by thumbnails (n, 1024), the one most like all others first."""
    return np.argsort(-(thumbnails @ thumbnails.mean(0)), kind="stable")


def disagreement(pictures: Sequence[Picture], config: ManyPathsConfig | None = None, *, grid: int = 8) -> NDArray[np.float64]:
    """(n,): how far ways that start at a picture end apart on the others, px of the frame; the least is the picture to mark.

    The ways start at grid × grid points over the middle seven tenths of the picture; straight ones and those through every other picture; the first look alone.
    """
    c = config or ManyPathsConfig()
    seen = [looks(p, c.looks[:1], c.side) for p in pictures]
    n, line = len(seen), np.linspace(0.15, 0.85, grid) * c.side
    start = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    maps = {(i, j): register(seen[i], seen[j], mirror=c.mirror)[0] for i in range(n) for j in range(n) if i != j}
    found = np.zeros(n)
    for i in range(n):
        for k in range(n):
            if k != i:
                ends = np.stack([at(maps[i, k], start), *(at(maps[j, k], at(maps[i, j], start)) for j in range(n) if j not in (i, k))])
                found[i] += float(np.median(np.linalg.norm(ends - np.median(ends, 0), axis=2))) / max(n - 1, 1)
    return found
