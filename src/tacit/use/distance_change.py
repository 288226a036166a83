"""Candidate preparations by name: what is done to each picture of a source before it is compared with a target.

A candidate is a step of `tacit prepare`, or several joined by `/` (he/gamma=0.8). Two words ask the target first: `stain` brings colours to the
target's by Macenko (Reinhard is `reinhard`), `window` stretches the levels between the target's 1st and 99th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.image import Image
from tacit.prepare.stain_normalise import lab_look, macenko, reinhard, stain_look
from tacit.prepare.steps import SEEN_FIRST, apply, recipe
from tacit.use.cohort import VOLUMES
from tacit.use.distance_features import Change, as_picture
from tacit.use.distance_input import Look

ALIASES = {"stain": "macenko"}
WINDOW = "window"
SHOWN = 12  # of the target's pictures whose colours or levels are looked at


def candidates(text: str) -> list[str]:
    """The names of `--augmentations`, checked. Raises UsageError for an unknown step, an empty list, and a name given twice."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--augmentations is empty; give steps of tacit prepare, e.g. clahe,he,stain,window")
    for name in names:
        check(name, "--augmentations")
    if len(set(names)) < len(names):
        raise UsageError(f"--augmentations: {max(names, key=names.count)!r} is given twice")
    return names


def check(candidate: str, option: str) -> None:
    """Raises UsageError where a candidate has an unknown step."""
    for word in words_of(candidate):
        if word not in (*SEEN_FIRST, WINDOW):
            try:
                recipe(word)
            except UsageError as error:
                raise UsageError(f"{option}: {str(error).removeprefix('--steps: ')}, and stain and window without values") from error


def words_of(candidate: str) -> list[str]:
    """The steps of a candidate."""
    return [ALIASES.get(w.strip(), w.strip()) for w in candidate.split("/") if w.strip()]


def change_of(candidate: str, target: Sequence[Look]) -> Change:
    """What a candidate does to a picture. target: whose colours and levels are taken. Raises UsageError, InputError."""
    steps: list[Change] = []
    for word in words_of(candidate):
        if word in SEEN_FIRST:
            steps.append(_stained(word, _pictures(target)))
        elif word == WINDOW:
            low, high = np.percentile(np.concatenate([p[::4, ::4].ravel() for p in _pictures(target)]), [1, 99])
            steps.append(_applied(f"window={(low + high) / 2:g}:{max(float(high - low), 1):g}"))
        else:
            steps.append(_applied(word))

    def change(image: Image) -> Image:
        for step in steps:
            image = step(image)
        return image

    return change


def series_steps(candidate: str) -> tuple[str | None, str]:
    """For series, whose window is set on Hounsfield units before all else: how they are prepared then, and the steps that are left."""
    words = words_of(candidate)
    windows = [w for w in words if w.startswith(f"{WINDOW}=")]
    if not windows:
        return None, candidate
    prepared = ",".join(windows[-1] if part.startswith(f"{WINDOW}=") else part for part in VOLUMES.split(","))
    return prepared, "/".join(w for w in words if w not in windows)


def _applied(word: str) -> Change:
    steps = recipe(word)
    return lambda image: apply(image, steps)


def _stained(word: str, pictures: list[NDArray[np.uint8]]) -> Change:
    if word == "reinhard":
        wanted = lab_look(pictures)
        return lambda image: _coloured(image, reinhard(image.pixels, wanted))
    stains = stain_look(pictures)
    return lambda image: _coloured(image, macenko(image.pixels, stains))


def _coloured(image: Image, pixels: NDArray) -> Image:
    return replace(image, pixels=pixels, history=(*image.history, "colours of the target"))


def _pictures(target: Sequence[Look]) -> list[NDArray[np.uint8]]:
    """Some of the target's pictures, evenly. Raises InputError where none can be read."""
    chosen = [target[i] for i in np.unique(np.linspace(0, len(target) - 1, SHOWN).astype(int))]
    found = []
    for look in chosen:
        try:
            found.append(as_picture(look.read()[0]).pixels)
        except ReadError:
            continue  # said when its turn comes
    if not found:
        raise InputError("none of the target's pictures that were looked at can be read")
    return found
