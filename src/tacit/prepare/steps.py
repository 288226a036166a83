"""The steps of `tacit prepare` by name: each takes an `Image` and gives the `Image` after it, with a line in its history.

A recipe is text: `canonical,spacing=1,window=-500:1500,he+clahe`. Numbers follow `=`, several are parted by `:`. One explicit table
says what there is; every step works on pictures and, where that makes sense, on volumes slice by slice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError
from tacit.image import Image
from tacit.prepare import contrast
from tacit.prepare.lung_hull import Region, alone, lung_region
from tacit.prepare.resample import How, isotropic, to_length, to_shape, to_spacing_mm
from tacit.prepare.smooth import perona_malik
from tacit.prepare.space import canonical
from tacit.prepare.stain import RUIFROK, separate

COVNET = "canonical,lungs,slices-mm=1,every=5,size=224:224,window=-500:1500,mip=3"  # the slides' preparation; they give no slab: 3 slices is ours
SERIES = (
    "canonical,lungs=-1000:hull,slices-mm=1,every=5,size=224:224,window=-500:1500,mip=3"  # the same with hulls of the lungs: lungs alone lose consolidations
)
PRESETS = {"covnet": COVNET, "series": SERIES}
SEEN_FIRST = ("macenko", "reinhard")  # need to have seen the target's colours: tacit.use.prepare


@dataclass(frozen=True)
class Step:
    """A step of a recipe, ready to be done: `words` is how it was written."""

    words: str
    do: Callable[[Image], Image]


def recipe(text: str) -> list[Step]:
    """The steps that a text asks for. Raises UsageError naming the step that is unknown or has wrong numbers."""
    words = [w.strip() for part in text.split(",") for w in PRESETS.get(part.strip(), part).split(",") if w.strip()]
    if not words:
        raise UsageError(f"--steps is empty; known are {', '.join(sorted((*STEPS, *PRESETS)))}")
    return [_step(word) for word in words]


def apply(image: Image, steps: list[Step]) -> Image:
    """The image after all steps."""
    for step in steps:
        image = step.do(image)
    return image


def _step(word: str) -> Step:
    name, _, text = word.partition("=")
    if name not in STEPS:
        raise UsageError(f"--steps: {name!r} is unknown; known are {', '.join(sorted((*STEPS, *PRESETS, *SEEN_FIRST)))}")
    make, wanted = STEPS[name]
    given = text.split(":") if text else []
    try:
        values = [value if kind is str else kind(value) for kind, value in zip(wanted, given, strict=False)]
    except ValueError as error:
        raise UsageError(f"--steps: {word!r} wants numbers after '=' ({error})") from error
    if len(given) > len(wanted):
        raise UsageError(f"--steps: {word!r} has {len(given)} values, at most {len(wanted)} are known")
    try:
        return Step(word, make(*values))
    except TypeError as error:
        raise UsageError(f"--steps: {word!r} needs a value, for example {EXAMPLES.get(name, name + '=1')}") from error


def _by_slice(image: Image, words: str, change: Callable[[NDArray], NDArray]) -> Image:
    """A step on pixels that is done slice by slice in volumes and to the whole of a picture."""
    if image.axes != "dhw":
        return image.after(words, change(image.pixels))
    first = change(image.pixels[0])
    made = np.empty((len(image.pixels), *first.shape), first.dtype)
    made[0] = first
    for k in range(1, len(made)):
        made[k] = change(image.pixels[k])
    return image.after(words, made)


def _on_light(image: Image, words: str, change: Callable[[NDArray], NDArray]) -> Image:
    """A step on grey levels; of a colour picture the lightness alone changes. Levels must be 8 or 16 bit."""
    if image.pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{image.name}: {words} wants 8- or 16-bit levels, these are {image.pixels.dtype}; put a step window=LEVEL:WIDTH before it")
    if image.axes != "hwc":
        return _by_slice(image, words, change)
    lab = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = change(np.ascontiguousarray(lab[..., 0]))
    return image.after(words, np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)))


def _volume(image: Image, words: str) -> Image:
    if image.axes != "dhw":
        raise InputError(f"{image.name}: the step {words} is for volumes, this is a picture")
    return image


def _window(level: float, width: float) -> Callable[[Image], Image]:
    if not (np.isfinite([level, width]).all() and width > 0):
        raise UsageError(f"--steps: window={level:g}:{width:g} wants a level and a positive width, for example window=-500:1500")
    return lambda i: _by_slice(i, f"window {level:g}, {width:g}", lambda x: contrast.window_uint8(x, level, width))


def _equalise() -> Callable[[Image], Image]:
    return lambda i: _on_light(i, "histogram equalised", contrast.equalised)


def _clahe(clip: float = 2.0, tiles: int = 8) -> Callable[[Image], Image]:
    return lambda i: _on_light(i, f"CLAHE, clip {clip:g}, {tiles}×{tiles} tiles", lambda x: contrast.clahe(x, clip=clip, tiles=tiles))


def _both(clip: float = 2.0, tiles: int = 8) -> Callable[[Image], Image]:
    return lambda i: _on_light(i, f"equalised, then CLAHE, clip {clip:g}", lambda x: contrast.equalised_then_clahe(x, clip=clip, tiles=tiles))


def _gamma(exponent: float) -> Callable[[Image], Image]:
    return lambda i: _on_light(i, f"gamma {exponent:g}", lambda x: contrast.gamma(x, exponent))


def _smooth(kappa: float, steps: int = 10) -> Callable[[Image], Image]:
    def do(i: Image) -> Image:
        words = f"Perona–Malik, kappa {kappa:g}, {steps} steps"
        smooth = lambda x: _rounded(perona_malik(x, kappa=kappa, steps=steps), x.dtype)
        if i.axes == "hwc":
            return i.after(words, np.stack([smooth(np.ascontiguousarray(i.pixels[..., c])) for c in range(3)], -1))
        return i.after(words, _rounded(perona_malik(i.pixels, kappa=kappa, steps=steps, spacing=i.spacing_mm), i.pixels.dtype))

    return do


def _rounded(values: NDArray, dtype: np.dtype) -> NDArray:
    return np.rint(values).astype(dtype) if dtype.kind in "iu" else values.astype(dtype)


def _mip(slices: int) -> Callable[[Image], Image]:
    return lambda i: _volume(i, "mip").after(f"maximum over {slices} slices", contrast.slab_maximum(i.pixels, slices=slices))


def _spacing(mm: float, how: How = "area") -> Callable[[Image], Image]:
    return lambda i: to_spacing_mm(i, (mm,) * len(i.shape), how)


def _slices_mm(mm: float, how: How = "linear") -> Callable[[Image], Image]:
    return lambda i: to_spacing_mm(_volume(i, "slices-mm"), (mm, None, None), how)


def _size(height: int, width: int, how: How = "area") -> Callable[[Image], Image]:
    return lambda i: to_shape(i, (*i.shape[:-2], height, width), how)


def _length(slices: int, how: How = "linear") -> Callable[[Image], Image]:
    if not 1 <= slices <= 4096:
        raise UsageError(f"--steps: length={slices} wants 1 to 4096 slices")
    return lambda i: to_length(_volume(i, "length"), slices, how)


def _every(slices: int) -> Callable[[Image], Image]:
    def do(i: Image) -> Image:
        spacing = (i.spacing_mm[0] * slices, *i.spacing_mm[1:]) if i.spacing_mm else None
        affine = i.affine * np.array([1, 1, slices, 1.0]) if i.affine is not None else None
        return replace(_volume(i, "every").after(f"every slice of {slices}", i.pixels[::slices], spacing), affine=affine)

    return do


def _lungs(outside_hu: float = -1000.0, region: str = "air") -> Callable[[Image], Image]:
    if region not in get_args(Region):
        raise UsageError(f"--steps: lungs={outside_hu:g}:{region} wants one of {', '.join(get_args(Region))}, for example lungs=-1000:hull")
    around = "their hulls" if region == "hull" else "lungs"

    def do(i: Image) -> Image:
        where = lung_region(_volume(i, "lungs"), "hull" if region == "hull" else "air")
        return alone(i, where, outside_hu, f"{around} alone, cut to their box, {outside_hu:g} outside")

    return do


def _haematoxylin() -> Callable[[Image], Image]:
    def do(i: Image) -> Image:
        if i.axes != "hwc":
            raise InputError(f"{i.name}: haematoxylin is a step for colour pictures")
        amount = separate(i.pixels, RUIFROK)[..., 0]
        return replace(i, axes="hw", pixels=np.clip(amount * 127.5, 0, 255).astype(np.uint8), history=(*i.history, "haematoxylin: 2 units of density are 255"))

    return do


STEPS: dict[str, tuple[Callable[..., Callable[[Image], Image]], tuple[type, ...]]] = {
    "canonical": (lambda: lambda i: canonical(i)[0], ()),
    "spacing": (_spacing, (float, str)),
    "slices-mm": (_slices_mm, (float, str)),
    "isotropic": (lambda to="finest", how="area": lambda i: isotropic(i, to, how), (str, str)),
    "size": (_size, (int, int, str)),
    "length": (_length, (int, str)),
    "every": (_every, (int,)),
    "window": (_window, (float, float)),
    "he": (_equalise, ()),
    "clahe": (_clahe, (float, int)),
    "he+clahe": (_both, (float, int)),
    "gamma": (_gamma, (float,)),
    "smooth": (_smooth, (float, int)),
    "mip": (_mip, (int,)),
    "lungs": (_lungs, (float, str)),
    "haematoxylin": (_haematoxylin, ()),
}
EXAMPLES = {"window": "window=-500:1500", "size": "size=224:224", "length": "length=64:cubic", "gamma": "gamma=0.8", "mip": "mip=3", "smooth": "smooth=30:10"}
