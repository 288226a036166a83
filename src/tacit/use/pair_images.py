"""The images that pairs name: each is read and encoded once; one that cannot be is listed, and its pairs fall out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ReadError
from tacit.image import Image
from tacit.prepare.views import PRESETS, apply, draw_view
from tacit.read.pairs import Pair
from tacit.read.picture import read_picture
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.encoder import BATCH, Encoder

LARGEST_VIEW = 512  # px a side


@dataclass(frozen=True)
class Encoded:
    """features (n, width), and the row of each path that could be encoded."""

    features: NDArray[np.float64]
    row: dict[Path, int]

    def has(self, pair: Pair) -> bool:
        """Whether both images of a pair are there."""
        return pair.a in self.row and pair.b in self.row

    def ends(self, pairs: Sequence[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the pairs' first and second images."""
        return np.array([self.row[p.a] for p in pairs], np.int64), np.array([self.row[p.b] for p in pairs], np.int64)


def named(pairs: Iterable[Pair]) -> list[Path]:
    """Every image of the pairs once, in the order in which they come."""
    return list(dict.fromkeys(path for pair in pairs for path in (pair.a, pair.b)))


def read_image(path: Path, mpp: float | None) -> Image:
    """The picture at `path`, with `mpp` where it states no spacing. Raises ReadError."""
    if not path.is_file():
        raise ReadError(path, "there is no such image", "correct the name, or give the images' folder with --root")
    image = read_picture(path)
    return image.with_mpp(mpp, "given") if mpp and image.spacing_mm is None else image


def encode(paths: Sequence[Path], encoder: Encoder, run: Run, mpp: float | None) -> Encoded:
    """Features of every image that can be read, a batch in memory at a time."""
    rows: dict[Path, int] = {}
    parts: list[NDArray[np.float64]] = []
    with Bar("encoding") as bar:
        for first in range(0, len(paths), BATCH):
            good: list[tuple[Path, Image]] = []
            for path in paths[first : first + BATCH]:
                try:
                    good.append((path, read_image(path, mpp)))
                except ReadError as error:
                    run.fail(path, error)
            found = encoder.features([image for _, image in good]).astype(np.float64)
            for (path, _), vector in zip(good, found, strict=True):
                if np.isfinite(vector).all():
                    rows[path] = len(parts)
                    parts.append(vector)
                else:
                    run.fail(path, ReadError(path, f"its features by {encoder.name} are not finite", "leave the image out"))
            bar.advance(min(first + BATCH, len(paths)), len(paths))
    return Encoded(np.array(parts) if parts else np.zeros((0, encoder.width)), rows)


def encode_views(paths: Sequence[Path], encoder: Encoder, mpp: float | None, preset: str, seed: int) -> NDArray[np.float64]:
    """Features of two random views of each image, (n, 2, width)."""
    parts = []
    with Bar("encoding views") as bar:
        for index, path in enumerate(paths):
            parts.append(encoder.features(two_views(read_image(path, mpp), preset, np.random.default_rng([seed, 55, index]))).astype(np.float64))
            bar.advance(index + 1, len(paths))
    return np.stack(parts)


def two_views(image: Image, preset: str, rng: np.random.Generator) -> list[Image]:
    """Two random views: crops, turned, with other stains, each at the spacing that it has on the slide where the image states one."""
    views = []
    side = min(*image.shape, LARGEST_VIEW)
    for config in PRESETS[preset]:
        draw = draw_view(rng, (image.shape[0], image.shape[1]), config.model_copy(update={"size": side}))
        seen = Image(np.round(apply(image.pixels, draw) * 255).astype(np.uint8), source=image.source)
        top, left, bottom, right = draw.box
        zoom = float(np.sqrt((bottom - top) * (right - left))) / side  # px of the image in one of the view
        views.append(seen.with_mpp(image.mpp * zoom, image.spacing_source) if image.mpp else seen)
    return views
