"""What anybody would try first: the marked point's surroundings slid over the picture (normalised cross-correlation), or the point copied."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tacit.config import Config, Count, Share
from tacit.learn.classical.register import Points, equalised, from_frame, grey_frame, to_frame
from tacit.learn.located import Located, Picture


class TemplateMatchConfig(Config):
    side: Count = 256  # px of the frame
    patch: Share = 0.25  # of the frame's side: the piece round the point that is looked for
    blur: float = 3.0  # px of the frame, before anything is compared
    mirror: bool = False  # look for the mirrored piece too


class TemplateMatch:
    """`fit` takes the template and its points, `locate` any picture. Confidence is the correlation at the answer, 0–1."""

    Config = TemplateMatchConfig

    def __init__(self, config: TemplateMatchConfig | None = None) -> None:
        self.config = config or TemplateMatchConfig()

    def fit(self, template: Picture, points: Points, pictures: Sequence[Picture] = ()) -> TemplateMatch:
        """points (p, 2) row, col in the template's px; pictures are not needed. In place."""
        c = self.config
        wide, half = self._wide(template), self._half
        start = to_frame(points, template.shape[:2], c.side)
        self._whole = np.clip(np.round(start), 0, c.side - 1).astype(int)
        self._rest = start - self._whole  # part of a pixel, kept
        self._patches = [np.ascontiguousarray(wide[r : r + 2 * half + 1, q : q + 2 * half + 1]) for r, q in self._whole]
        return self

    def locate(self, picture: Picture) -> Located:
        """The points on a picture."""
        wide, places, likeness = self._wide(picture), [], []
        for patch, rest in zip(self._patches, self._rest, strict=True):
            tried = [(patch, rest)] + ([(np.ascontiguousarray(patch[:, ::-1]), rest * [1, -1])] if self.config.mirror else [])
            answers = []
            for piece, part in tried:
                map_ = cv2.matchTemplate(wide, piece, cv2.TM_CCOEFF_NORMED)
                place = np.unravel_index(int(map_.argmax()), map_.shape)
                answers.append((float(map_[place]), np.asarray(place) + part))
            best = max(answers, key=lambda each: each[0])
            places.append(best[1])
            likeness.append(best[0])
        points = from_frame(np.array(places, np.float64).reshape(-1, 2), (picture.shape[0], picture.shape[1]), self.config.side)
        return Located(points, np.clip(likeness, 0, 1), np.full(len(points), np.nan))

    @property
    def _half(self) -> int:
        return max(int(self.config.side * self.config.patch / 2), 1)

    def _wide(self, picture: Picture) -> np.ndarray:
        """The equalised frame, blurred, reflected beyond its edges by half a patch."""
        grey = equalised(grey_frame(picture, self.config.side))
        grey = cv2.GaussianBlur(grey, (0, 0), self.config.blur) if self.config.blur else grey
        half = self._half
        return cv2.copyMakeBorder(grey, half, half, half, half, cv2.BORDER_REFLECT)


class CopyPoints:
    """The template's points at the same share of height and width: what a method must beat. It is sure of nothing."""

    def fit(self, template: Picture, points: Points, pictures: Sequence[Picture] = ()) -> CopyPoints:
        """points (p, 2) row, col in the template's px. In place."""
        self._share = to_frame(points, template.shape[:2], 1)
        return self

    def locate(self, picture: Picture) -> Located:
        """The points on a picture."""
        n = len(self._share)
        return Located(from_frame(self._share, (picture.shape[0], picture.shape[1]), 1), np.zeros(n), np.full(n, np.nan))
