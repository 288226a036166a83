"""What pictures are compared by: small pixels, an encoder, or what a run learnt; brought to a few numbers by principal components of all sets together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.image import Image
from tacit.prepare.field import as_rgb
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.distance_input import Look
from tacit.use.encoder import find_encoder

Floats = NDArray[np.float64]
Change = Callable[[Image], Image]
DEFAULT_FEATURES = "texture"
WHY = {
    "texture": "the default: it needs no learning, sees grain and colour on tissue as on CT, and foretold transfer on both in the check of use (docs/distance.md)",
    "pixels": "small pixels: where things lie counts, framing and size too",
}
SIDE = 24  # px of a picture as small pixels
BATCH = 32  # looks whose pictures are in memory together
GREY, CLEAR = 4.0, 0.9  # levels between a pixel's channels, on average; the share of looks that decides


@dataclass(frozen=True)
class Maker:
    """name and why: said with every answer · preprocessing: how it wants pictures, as an encoder says · embed: images → (n, width)."""

    name: str
    why: str
    weights_hash: str | None
    preprocessing: dict[str, Any]
    embed: Callable[[Sequence[Image]], NDArray]


@dataclass(frozen=True)
class Seen:
    """x (n, width) and the looks (n,) that it is of · grey: the share of looks without colour · modalities: those that files state."""

    x: Floats
    looks: tuple[Look, ...]
    grey: float
    modalities: frozenset[str]


def find_features(name: str, device: str, seed: int = 0) -> Maker:
    """pixels, an encoder by name (docs/encoders.md), or the OUT of a run of `tacit pretrain`. Raises UsageError, MissingError."""
    if name == "pixels":
        return Maker("pixels", WHY["pixels"], None, {"shorter_side": SIDE * 8}, small_pixels)
    is_place = name not in WHY and (Path(name).exists() or "/" in name)
    try:
        found = find_encoder(model=name, device=device) if is_place and not name.startswith("timm:") else find_encoder(name, device=device)
    except UsageError as error:
        raise UsageError(
            f"--features {name!r}: {str(error).replace('--encoder', 'the encoder')}; pixels is known too, and the OUT of tacit pretrain"
        ) from error
    why = WHY.get(name, "what this run learnt" if is_place else "asked for")
    return Maker(found.name, why, found.weights_hash, found.preprocessing, found.features)


def small_pixels(images: Sequence[Image]) -> NDArray[np.float32]:
    """Each picture squeezed to 24 × 24 px, RGB 0–1, as a row."""
    shrunk = [cv2.resize(as_rgb(i.pixels), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in images]
    return np.asarray(np.stack(shrunk).reshape(len(images), -1) / 255, np.float32)


def see(looks: Sequence[Look], maker: Maker, run: Run, name: str, change: Change | None = None) -> Seen:
    """Features of the looks that can be read, in their order; the others are rows of failures.csv. Raises InputError where none can."""
    rows: list[Floats] = []
    kept: list[Look] = []
    grey: list[bool] = []
    modalities: set[str] = set()
    with Bar(f"looking at {name}") as bar:
        for first in range(0, len(looks), BATCH):
            batch: list[tuple[Look, list[Image]]] = []
            for look in looks[first : first + BATCH]:
                try:
                    images = [as_picture(i if change is None else change(i)) for i in look.read()]
                except ReadError as error:
                    run.fail(look.name, error)
                except InputError as error:
                    run.fail(look.name, ReadError(look.name, str(error).split(";")[0], "leave it, or the step, out"))
                else:
                    batch.append((look, images))
                    grey.append(bool(np.ptp(images[0].pixels[::8, ::8].astype(np.float32), axis=2).mean() < GREY))
                    modalities |= {i.modality for i in images} - {"picture"}
            vectors = np.asarray(maker.embed([i for _, images in batch for i in images]) if batch else np.zeros((0, 0)), np.float64)
            at = 0
            for look, images in batch:
                row = vectors[at : at + len(images)].mean(0)
                at += len(images)
                if np.isfinite(row).all():
                    rows.append(row)
                    kept.append(look)
                else:
                    run.fail(look.name, ReadError(look.name, f"its features by {maker.name} are NaN or infinite", "look at the picture, or leave it out"))
            bar.advance(min(first + BATCH, len(looks)), len(looks))
    if not rows:
        first_words = f": {run.failures[0][0]}: {run.failures[0][1]}" if run.failures else ""
        raise InputError(f"{name} is an empty side: none of its {len(looks)} looks can be used{first_words}")
    return Seen(np.stack(rows), tuple(kept), float(np.mean(grey)), frozenset(modalities))


def as_picture(image: Image) -> Image:
    """An image as RGB of 8 bits, as encoders want it."""
    return Image(as_rgb(image.pixels), "hwc", image.spacing_mm, image.spacing_source, image.modality, image.source, image.history)


def check_modalities(names: Sequence[str], seen: Sequence[Seen]) -> None:
    """Raises InputError where files state different modalities, or one side is grey throughout and another one coloured."""
    stated = sorted(set().union(*(s.modalities for s in seen)))
    if len(stated) > 1:
        raise InputError(f"modalities are mixed ({', '.join(stated)} by the files' headers): a distance between them says nothing; give sets of one modality")
    grey = [n for n, s in zip(names, seen, strict=True) if s.grey > CLEAR]
    coloured = [n for n, s in zip(names, seen, strict=True) if s.grey < 1 - CLEAR]
    if grey and coloured:
        raise InputError(
            f"modalities are mixed: {grey[0]} is grey, {coloured[0]} is coloured; give sets of one modality, or bring both to grey with tacit prepare"
        )


def reduced(parts: Sequence[Floats], names: Sequence[str], components: int) -> tuple[list[Floats], float]:
    """Parts (n, width) on the strongest components of all of them, each set counting alike; and the share of variance that is kept, 0–1.

    Raises InputError for parts of different width and for a part that is constant.
    """
    for part, name in zip(parts, names, strict=True):
        if part.shape[1] != parts[0].shape[1]:
            raise InputError(f"{names[0]} has {parts[0].shape[1]} features a sample, {name} has {part.shape[1]}; a distance needs the same features of both")
        if (part == part[0]).all():
            raise InputError(f"{name} has constant features: all {len(part)} samples are equal; look at the pictures, or take other --features")
    middle = np.mean([p.mean(0) for p in parts], axis=0)
    centred = [(p - middle) / np.sqrt(len(p)) for p in parts]
    width = len(middle)
    if width <= components:
        return [p - middle for p in parts], 1.0
    from scipy.linalg import eigh

    scatter = sum(p.T @ p for p in centred)
    values, axes = eigh(scatter, subset_by_index=(width - components, width - 1))
    kept = values > 1e-12 * values.max()
    axes = axes[:, kept]
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return [(p - middle) @ axes for p in parts], float(values[kept].sum() / np.trace(scatter))
