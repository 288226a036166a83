"""Shapes that a structure may have, without a picture of it: masks of another modality from a folder, or drawn ones.

A prior is masks alone. They say what vessels or lungs look like, never where they lie in a picture of yours.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, Count, Positive, Range
from tacit.errors import InputError, MissingError, ReadError, UsageError
from tacit.phantom import chest, fundus
from tacit.read.folder import read_mask
from tacit.read.picture import SUFFIXES
from tacit.read.walk import walk

SIMULATED = {"simulated:vessels": "vessel", "simulated:lungs": "lungs"}  # prior → structure
LEAST, MOST = 0.001, 0.9  # share of a mask that is structure
STRAY = 0.02  # share of pixels between the two values of a mask: edges that a resize left
SEEN = 0.3  # share of a mask's own share that a cut of it has at least, where ten tries find one


class ShapePriorConfig(Config):
    source: str = "simulated:vessels"  # a folder of binary masks of another modality, simulated:vessels or simulated:lungs
    drawn: Count = 60  # shapes that are drawn, of simulated ones
    scale: Range = (1.6, 2.6)  # shorter side of a mask / side of a view
    soften: Positive = 0.5  # SD of the blur of a mask's edge, px of a view: clusters are soft too


def structure_of(source: str) -> str:
    """The structure that a prior is of: a folder's is taken for vessels. Raises UsageError for an unknown simulation."""
    if source.startswith("simulated:") and source not in SIMULATED:
        raise UsageError(f"--shape-prior {source} is unknown; known are {', '.join(SIMULATED)}, or a folder of masks")
    return SIMULATED.get(source, "vessel")


def shapes(c: ShapePriorConfig, seed: int) -> list[NDArray[np.uint8]]:
    """The prior's masks, each (h, w) of 0 or 255; simulated ones are a function of the seed. Raises TacitError as `read_shapes`."""
    structure_of(c.source)
    return simulated_shapes(c.source, c.drawn, seed) if c.source in SIMULATED else read_shapes(Path(c.source))


def read_shapes(folder: Path) -> list[NDArray[np.uint8]]:
    """Every mask below a folder in order of names, each (h, w) of 0 or 255.

    Raises MissingError for no folder, InputError for one without masks or whose masks are all empty or all full, ReadError for one that is not binary.
    """
    if not folder.is_dir():
        raise MissingError(f"--shape-prior {folder}: there is no such folder; give a folder of binary masks, or one of {', '.join(SIMULATED)}")
    files = sorted(p for p in walk(folder)[0] if p.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"--shape-prior {folder} holds no mask; expected binary masks that end in {', '.join(SUFFIXES)}")
    masks = [_binary(path) for path in files]
    usable = [mask for mask in masks if LEAST <= float((mask > 0).mean()) <= MOST]
    if not usable:
        shares = [float((mask > 0).mean()) for mask in masks]
        raise InputError(
            f"--shape-prior {folder}: none of its {len(masks)} masks shows a shape (they are {min(shares):.1%} to {max(shares):.1%} structure, expected "
            f"{LEAST:.1%} to {MOST:.0%}); give masks that are 0 outside and one value inside"
        )
    return usable


def simulated_shapes(source: str, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """`count` drawn masks: vessels (540, 540) as phantom/fundus grows them, lungs (256, 256) as phantom/chest bends them. Of 0 or 255."""
    drawn = []
    for number in range(count):
        rng = np.random.default_rng([seed, 81, number])
        if SIMULATED[source] == "vessel":
            labels = fundus.draw(rng, (540, 540)).labels
            drawn.append(np.where(labels > 0, 255, 0).astype(np.uint8))
        else:
            planes = chest.draw(rng, (256, 256)).planes
            assert planes is not None  # a chest's organs overlap
            drawn.append(planes[chest.CLASSES.index("lungs")])
    return drawn


def prepared_shapes(masks: list[NDArray[np.uint8]], side: int, c: ShapePriorConfig) -> list[NDArray[np.float32]]:
    """The masks at the largest size that a view of `side` px sees them at, edges softened; (h, w) in 0–1 each."""
    found = []
    for mask in masks:
        factor = c.scale[1] * side / min(mask.shape)
        size = (max(round(mask.shape[1] * factor), 1), max(round(mask.shape[0] * factor), 1))
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        found.append(cv2.GaussianBlur(cv2.resize(mask, size, interpolation=how).astype(np.float32) / 255, (0, 0), c.soften))
    return found


def cut_shape(rng: np.random.Generator, prepared: list[NDArray[np.float32]], side: int, turn: float, c: ShapePriorConfig) -> NDArray[np.float32]:
    """A piece (side, side) in 0–1 of one of the prepared masks, mirrored and turned by up to ± `turn` degrees, 0 beyond its edge."""
    mask = prepared[int(rng.integers(len(prepared)))]
    piece = np.zeros((side, side), np.float32)
    for _ in range(10):
        zoom = c.scale[1] / rng.uniform(*c.scale)  # px of the mask a px of the piece
        angle, mirror = np.deg2rad(rng.uniform(-turn, turn)), -1.0 if rng.random() < 0.5 else 1.0
        linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1.0])
        free = np.maximum(np.array(mask.shape[::-1]) - zoom * side, 0) / 2
        middle = (np.array(mask.shape[::-1]) - 1) / 2 + free * rng.uniform(-1, 1, 2)
        matrix = np.hstack([linear, (middle - linear @ np.full(2, (side - 1) / 2))[:, None]])
        piece = cv2.warpAffine(mask, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=0.0)
        if piece.mean() >= SEEN * mask.mean():
            break
    return np.asarray(piece, np.float32)


def _binary(path: Path) -> NDArray[np.uint8]:
    """A mask as 0 or 255; one with more than a few pixels between its two values is no binary mask."""
    labels = read_mask(path)
    values, counts = np.unique(labels, return_counts=True)
    between = float(counts[1:-1].sum() / labels.size) if len(values) > 2 else 0.0
    if between > STRAY:
        raise ReadError(path, f"this mask has {len(values)} values, expected two: 0 outside and one inside", "give binary masks as the shape prior")
    return np.where(labels > (float(values[-1]) / 2 if len(values) > 1 else 0), 255, 0).astype(np.uint8)
