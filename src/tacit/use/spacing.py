"""The first look at all images: which can be read, and how many µm a pixel of each is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import InputError, ReadError
from tacit.image import MICROSCOPE, Image, SpacingSource
from tacit.prepare.scale import estimate_mpp
from tacit.read.picture import read_picture
from tacit.report.track import Bar
from tacit.run import Run

MOST_ESTIMATED, ESTIMATED_PX = 40, 1_000_000  # pictures, and pixels of each, that an estimate is made from


@dataclass(frozen=True)
class Scale:
    """The spacing of every image by name, and where it comes from: the file, then --mpp, then the list, then an estimate."""

    known: dict[str, tuple[float, SpacingSource]]

    @property
    def typical(self) -> float:
        """Median µm per px over the images."""
        return float(np.median([mpp for mpp, _ in self.known.values()]))

    @property
    def source(self) -> str:
        """Where the spacing comes from; "mixed" where that differs between images."""
        sources = {source for _, source in self.known.values()}
        return sources.pop() if len(sources) == 1 else "mixed"

    def of(self, name: str, image: Image) -> Image:
        """The image with its spacing."""
        return image if image.spacing_source == "metadata" else image.with_mpp(*self.known[name])


def look(cases: Cases, run: Run, given_mpp: float | None) -> tuple[Cases, Scale]:
    """Reads every image once. What cannot be read becomes a failure; what has no spacing is estimated together.

    Raises InputError where nothing can be used.
    """
    listed = {n: float(v) for n, v in zip(cases.table["name"], cases.table["mpp"], strict=True) if v is not None and v == v}
    known: dict[str, tuple[float, SpacingSource]] = {}
    readable: list[bool] = []
    unknown: list[str] = []
    pictures: list[NDArray[np.uint8]] = []
    with Bar("reading") as bar:
        for index, (name, path) in enumerate(cases):
            image = _read(path, run)
            readable.append(image is not None)
            if image is None:
                continue
            if image.mpp is not None:
                known[name] = (image.mpp, "metadata")
            elif given_mpp is not None or name in listed:
                known[name] = (given_mpp if given_mpp is not None else listed[name], "given")
            else:
                unknown.append(name)
                if len(pictures) < MOST_ESTIMATED:
                    pictures.append(middle(image.pixels, ESTIMATED_PX))
            bar.advance(index + 1, len(cases))
    run.save_record()
    if not any(readable):
        raise InputError(f"none of the {len(cases)} images can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    if unknown:
        estimate = estimate_mpp(pictures)
        known |= dict.fromkeys(unknown, (estimate, "estimated"))
        run.say(f"{len(unknown)} images state no spacing; estimated from nucleus size: {estimate:.3f} µm per px (give it with --mpp if you know it)")
    return cases.where(readable), Scale(known)


def _read(path: Path, run: Run) -> Image | None:
    try:
        image = read_picture(path)
        if image.modality not in MICROSCOPE:
            what = f"its modality is {image.modality.upper()}, where an image of tissue was expected"
            raise ReadError(path, what, "leave it out; for radiographs and retinas there are --phantom chest and --phantom fundus")
        return image
    except ReadError as error:
        run.fail(path, error)
    except OSError as error:
        run.fail(path, ReadError(path, f"it cannot be read ({error.strerror or error})", "check that the file is there"))
    return None


def middle(picture: NDArray[np.uint8], most_px: int) -> NDArray[np.uint8]:
    """The picture, or the middle part of the same shape that has at most `most_px` pixels. (h, w, 3)"""
    h, w = picture.shape[:2]
    share = min(1.0, float(np.sqrt(most_px / (h * w))))
    height, width = max(int(h * share), 1), max(int(w * share), 1)
    top, left = (h - height) // 2, (w - width) // 2
    return picture[top : top + height, left : left + width]
