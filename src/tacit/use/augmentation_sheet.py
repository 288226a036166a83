"""The augmentations of a pretraining run one by one: the same picture under each alone, by name, as strong as the run's views draw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tacit.files import write_atomic
from tacit.learn.sources import Source
from tacit.prepare.colour_jitter import OPERATIONS
from tacit.prepare.views import PRESETS, ViewConfig, ViewDraw, apply
from tacit.report.page import Panel
from tacit.report.picture import embedded, png, sheet
from tacit.run import Run

COLUMNS = 5  # panels in a row
LEAST_SIDE = 176  # px of a panel; smaller views are enlarged, so that their names fit
STRIP, TEXT = 38, 14  # px of the two lines below a panel, and of their letters


@dataclass(frozen=True)
class Alone:
    """One augmentation by itself. strength: a factor, share, angle or SD, in words; often: in what share of the views; both "" for the picture itself."""

    name: str
    strength: str
    often: str
    draw: ViewDraw


def augmentation_panels(run: Run, source: Source, c: Any, seed: int) -> list[Panel]:
    """figures/augmentations.png of the first item of the first epoch, as a figure of the page; none for a method whose `views` are no preset's."""
    if not isinstance(c.views, str):
        return []
    picture = source.item(int(source.order(seed, 0)[0]), seed, 0)
    drawn = png(augmentation_sheet(picture, c.views, c.size))
    write_atomic(run.folder / "figures" / "augmentations.png", drawn)
    caption = (
        "one picture under each augmentation alone, at the end of the range that the views draw from; "
        "below each how strong, and in what share of the views (of view a / of view b where they differ)"
    )
    return [Panel("augmentations", embedded(drawn, "png"), None, caption)]


def augmentation_sheet(picture: NDArray[np.uint8], views: str, size: int) -> NDArray[np.uint8]:
    """The panels of `alone` in rows, named. picture: (h, w, 3) RGB; views: a preset's name; size: px of a view."""
    panels = []
    for each in alone((picture.shape[0], picture.shape[1]), views, size):
        seen = np.rint(np.clip(apply(picture, each.draw), 0, 1) * 255).astype(np.uint8)
        panels.append(_named(seen, each.name, ", ".join(part for part in (each.strength, each.often) if part)))
    return sheet(panels, columns=COLUMNS)


def alone(shape: tuple[int, int], views: str, size: int) -> list[Alone]:
    """The picture's middle square as it is, then each augmentation that a view of the preset can have, alone, at the end of its range.

    shape: (h, w) of the picture; views: a name of `tacit.prepare.views.PRESETS`; size: px of a view. Of two views the stronger range is shown.
    """
    pair = PRESETS[views]
    side = min(shape)

    def draw(extent: int = side, **changed: Any) -> ViewDraw:
        top, left = (shape[0] - extent) // 2, (shape[1] - extent) // 2
        return ViewDraw(shape=shape, size=size, box=(top, left, top + extent, left + extent), **changed)

    def strongest(strength: Callable[[ViewConfig], float], used: Callable[[ViewConfig], float]) -> float:
        return max((strength(v) for v in pair if used(v) > 0), default=0.0)

    found = [Alone("original", "", "", draw())]
    least = min(v.scale[0] for v in pair)
    if least < 1:
        extent = min(max(round((least * shape[0] * shape[1]) ** 0.5), 1), side)
        found.append(Alone("crop", f"{least:.0%} of the area", _often([1.0 if v.scale[0] < 1 else 0.0 for v in pair]), draw(extent)))
    if any(v.flip for v in pair):
        found.append(Alone("mirror", "", _often([v.flip for v in pair]), draw(flip=True)))
    if any(v.turns for v in pair):
        found.append(Alone("turn", "90°", _often([0.75 if v.turns else 0.0 for v in pair]), draw(turns=1)))
    for name in OPERATIONS:
        by = strongest(attrgetter(name), lambda v: v.jitter)
        if by:
            factor = by if name == "hue" else 1 - by if name == "brightness" else 1 + by  # most pictures are bright already
            strength = f"{factor:+.2g} turns" if name == "hue" else f"factor {factor:.2g}"
            found.append(Alone(name, strength, _often([v.jitter if getattr(v, name) else 0.0 for v in pair]), draw(operations=((name, factor),))))
    if any(v.grey for v in pair):
        found.append(Alone("grey", "", _often([v.grey for v in pair]), draw(grey=True)))
    sigma = strongest(lambda v: v.sigma[1], lambda v: v.blur)
    if sigma:
        found.append(Alone("blur", f"SD {sigma:g} px", _often([v.blur for v in pair]), draw(sigma=sigma)))
    if any(v.solarise for v in pair):
        found.append(Alone("solarise", "", _often([v.solarise for v in pair]), draw(solarise=True)))
    gain, shift = strongest(lambda v: v.stain_gain, lambda v: v.stain), strongest(lambda v: v.stain_shift, lambda v: v.stain)
    if gain or shift:
        stain = ((1 + gain, 1 - gain), (shift, -shift))  # haematoxylin up, eosin down
        found.append(Alone("stain", f"H {1 + gain:.2g}, E {1 - gain:.2g}", _often([v.stain for v in pair]), draw(stain=stain)))
    return found


def _often(shares: list[float]) -> str:
    """Shares of view a and of view b in words, once where they are alike."""
    return "in " + " / ".join(f"{share:.0%}" for share in (shares if shares[0] != shares[1] else shares[:1]))


def _named(seen: NDArray[np.uint8], name: str, words: str) -> NDArray[np.uint8]:
    """A square view with its name and a line of words below; no narrower than LEAST_SIDE."""
    side = max(len(seen), LEAST_SIDE)
    large = seen if side == len(seen) else cv2.resize(seen, (side, side), interpolation=cv2.INTER_NEAREST)
    strip = Pillow.new("RGB", (side, STRIP), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((1, 1), name, fill="black", font=ImageFont.load_default(TEXT))
    pen.text((1, 1 + STRIP // 2), words, fill="#5b6b7a", font=ImageFont.load_default(TEXT - 2))
    return np.concatenate([large, np.asarray(strip, np.uint8)])
