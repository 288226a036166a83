"""The masks of a run against the truth, picture by picture: what `tacit compare` makes its table of. Like use/evaluate.py it reads truth.

A run whose clusters have no names gets them here, from the truth of all pictures that are scored; its row says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError
from tacit.read.folder import find_truth, read_mask
from tacit.read.picture import SUFFIXES
from tacit.report.cluster_naming import named
from tacit.report.score import Tally, tally
from tacit.report.track import Bar
from tacit.use.evaluate import separated

OWN = "its own"
LEAST_PIECE = 0.001  # of the picture: of a mask that holds no objects, smaller pieces are none


@dataclass(frozen=True)
class Scored:
    """What a run's masks are worth. names: which clusters are the structure, by their numbers in the masks; None where the run says itself."""

    tallies: dict[str, Tally]  # picture → sums, see `report.score`
    how: str
    names: tuple[int, ...] | None
    missing: list[str]  # pictures without truth
    failures: list[ReadError] = field(default_factory=list)


def score_masks(run: Path, truth: Path, inside: Path | None = None, *, things: bool = True) -> Scored:
    """Scores masks/ of a run. inside: a folder of fields of view; only what lies in them counts, and no objects are told. things: whether objects are scored
    too, which takes most of the time. Raises InputError where nothing can be scored."""
    masks = masks_of(run)
    true = find_truth(truth, list(masks))
    fields = find_truth(inside, list(masks)) if inside is not None else None
    failures: list[ReadError] = []
    pairs = _Pairs(masks, true, fields)
    names, how = None, OWN
    if unnamed(run):
        table = np.zeros((clusters_of(run), 2), np.int64)
        for name in true:
            try:
                table += _counts(*pairs.inside(name), len(table))
            except ReadError as error:
                failures.append(error)
        classes, how = named(table)
        names = tuple(int(k) + 1 for k in np.flatnonzero(classes == 1))
    tallies = {}
    with Bar("scoring") as bar:
        for index, name in enumerate(sorted(true)):
            try:
                tallies[name] = _tally(*pairs.of(name), names, pairs.field(name), things)
            except ReadError as error:
                failures += [error] if names is None else []
            bar.advance(index + 1, len(true))
    if not tallies:
        raise InputError(f"no mask of {run} could be scored: {failures[0].reason if failures else 'no name agrees'}")
    return Scored(tallies, how, names, sorted(set(masks) - set(true)), failures)


def structure_of(run: Path, name: str, names: tuple[int, ...] | None) -> NDArray[np.int32]:
    """What a run calls the structure in a picture, as labels (h, w); names as of `Scored`."""
    labels = read_mask(masks_of(run)[name])
    return objects(np.isin(labels, names)) if names is not None else separated(labels)


def masks_of(run: Path) -> dict[str, Path]:
    """name → mask of a run's masks/. Raises InputError where there are none."""
    folder = run / "masks"
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in SUFFIXES} if folder.is_dir() else {}
    if not found:
        raise InputError(f"no masks in {folder}; give the OUT of a finished tacit segment")
    return found


def unnamed(run: Path) -> bool:
    """Whether a run's masks hold clusters that nobody has named."""
    return all(c.startswith("cluster-") for c in _classes(run)) and bool(_classes(run))


def clusters_of(run: Path) -> int:
    """How many clusters such masks may hold."""
    return len(_classes(run))


def objects(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The connected pieces of a mask without objects, numbered from 1; pieces under a thousandth of the picture are none."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= LEAST_PIECE * mask.size
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0)
    return np.asarray(number[pieces], np.int32)


@dataclass(frozen=True)
class _Pairs:
    """Masks, truth and fields by the names of pictures; each read when it is asked for."""

    masks: dict[str, Path]
    true: dict[str, Path]
    fields: dict[str, Path] | None

    def of(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        ours, theirs = read_mask(self.masks[name]), read_mask(self.true[name])
        if ours.shape != theirs.shape:
            what = f"the truth is {theirs.shape[0]}×{theirs.shape[1]} px, the mask {ours.shape[0]}×{ours.shape[1]}"
            raise ReadError(self.true[name], what, "give the truth of this very image")
        return ours, theirs

    def field(self, name: str) -> NDArray[np.bool_] | None:
        if self.fields is None:
            return None
        if name not in self.fields:
            raise ReadError(self.true[name], "there is no field of view of this name", "give one for each image")
        inside = read_mask(self.fields[name]) > 0
        if inside.shape != read_mask(self.masks[name]).shape or not inside.any():
            raise ReadError(self.fields[name], "the field of view is empty, or of another size than the image", "mend it")
        return np.asarray(inside)

    def inside(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Both as rows of the pixels that count."""
        (ours, theirs), field_ = self.of(name), self.field(name)
        return (ours.ravel(), theirs.ravel()) if field_ is None else (ours[field_], theirs[field_])


def _classes(run: Path) -> list[str]:
    try:
        return list(json.loads((run / "run.json").read_text(encoding="utf-8")).get("classes", []))
    except (OSError, ValueError) as error:
        raise InputError(f"{run} is not the folder of a run (its run.json: {error})") from error


def _counts(labels: NDArray[np.int32], truth: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    """Pixels of clusters 1 … k outside and inside the structure, (k, 2)."""
    return np.stack([np.bincount(labels[(truth > 0) == inside], minlength=k + 1)[1 : k + 1] for inside in (False, True)], 1).astype(np.int64)


def _tally(labels: NDArray[np.int32], truth: NDArray[np.int32], names: tuple[int, ...] | None, inside: NDArray[np.bool_] | None, things: bool) -> Tally:
    mask = np.isin(labels, names) if names is not None else labels > 0
    if inside is not None:
        return tally(mask[inside][None].astype(np.int32), (truth[inside][None] > 0).astype(np.int32), objects=False)
    pixels = tally(mask.astype(np.int32), (truth > 0).astype(np.int32), objects=False)
    if not things:
        return pixels
    return tally(objects(mask) if names is not None or labels.max() <= 1 else labels, separated(truth)) | pixels  # objects without specks, pixels as they are
