"""Patches of GlaS that are one kind of tissue: wholly gland or wholly stroma, with grade, patient and image. The test bed of queries.

    python benchmarks/query_patches.py        prints what there is, writes benchmarks/work/query_patches-*.png to look at

Masks and grades are for judging only. Needs the images below TACIT_DATA (or ../shared/data).
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "glas"
MPP = 0.62  # µm per px of GlaS as published
LEAST_GLAND, MOST_GLAND_IN_STROMA = 0.75, 0.05  # share of a patch's pixels inside gland masks
EMPTY, MOST_EMPTY = 220, 0.3  # level of the darkest channel above which a pixel is glass, and the share of it that stroma may have
MOST_SHARED = 0.5  # of their area that two patches of one image may share


@dataclass(frozen=True)
class Patches:
    """n patches in the order of images' names. tissue: gland or stroma · grade: benign or malignant, of the image · both (n,) of str."""

    pictures: list[NDArray[np.uint8]]  # each (size, size, 3) RGB
    tissue: NDArray[np.str_]
    grade: NDArray[np.str_]
    patient: NDArray[np.str_]
    image: NDArray[np.str_]
    mpp: float  # µm per px

    def __len__(self) -> int:
        return len(self.pictures)


def glas_patches(data: Path = DATA, scale: float = 0.5, size: int = 128, *, most: int = 4, seed: int = 0) -> Patches:
    """Up to `most` patches of each tissue from every image below `data`, at seeded random places; at least one where the image has any.

    scale: of the images (.62 µm per px) before they are cut. size: px a side. An image alone decides its patches: leaving others out changes nothing.
    """
    found: list[tuple[NDArray[np.uint8], str, str, str, str]] = []
    for name, (patient, grade) in sorted(_grades(data / "grade.csv").items()):
        mask_file, picture_file = data / "masks" / f"{name}.png", data / "images" / f"{name}.jpg"
        if not (mask_file.is_file() and picture_file.is_file()):
            continue
        gland = (cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED) > 0).astype(np.float32)
        picture = cv2.cvtColor(cv2.imread(str(picture_file), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        shape = (round(gland.shape[1] * scale), round(gland.shape[0] * scale))
        gland, picture = (cv2.resize(each, shape, interpolation=cv2.INTER_AREA) for each in (gland, picture))
        if min(shape) < size:
            continue
        share, empty = _means(gland, size), _means((picture.min(2) > EMPTY).astype(np.float32), size)
        stroma = (share <= MOST_GLAND_IN_STROMA) & (empty <= MOST_EMPTY)
        for number, (tissue, fits) in enumerate((("gland", share >= LEAST_GLAND), ("stroma", stroma))):
            rng = np.random.default_rng([seed, number, *name.encode()])
            for row, col in _places(rng, fits, size, most):
                found.append((np.ascontiguousarray(picture[row : row + size, col : col + size]), tissue, grade, patient, name))
    pictures, *columns = zip(*found, strict=True)
    return Patches(list(pictures), *(np.array(c) for c in columns), mpp=MPP / scale)


def _grades(path: Path) -> dict[str, tuple[str, str]]:
    """name → (patient, grade) of every image."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    return {name: (patient, grade) for name, patient, grade, *_ in rows[1:]}


def _means(values: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """The mean of every square of `size` px, by its top left corner."""
    sums = cv2.integral(values)
    return np.asarray(sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


def _places(rng: np.random.Generator, fits: NDArray[np.bool_], size: int, most: int) -> list[tuple[int, int]]:
    """Up to `most` corners where `fits`, drawn one after another, none sharing more than MOST_SHARED with an earlier one."""
    chosen: list[tuple[int, int]] = []
    free = fits.copy()
    rows, cols = np.indices(fits.shape)
    while len(chosen) < most and free.any():
        row, col = divmod(int(rng.choice(np.flatnonzero(free))), fits.shape[1])
        chosen.append((row, col))
        shared = np.clip(size - abs(rows - row), 0, None) * np.clip(size - abs(cols - col), 0, None) / size**2
        free &= shared <= MOST_SHARED
    return chosen


def main() -> None:
    for scale, size in ((0.5, 128), (1.0, 128)):
        p = glas_patches(scale=scale, size=size)
        print(f"scale {scale:g}, {size} px, {p.mpp:.2f} µm per px: {len(p)} patches of {len(set(p.image))} images of {len(set(p.patient))} patients")
        for name, chosen in [(t, p.tissue == t) for t in ("gland", "stroma")] + [
            (f"{g} gland", (p.tissue == "gland") & (p.grade == g)) for g in ("benign", "malignant")
        ]:
            print(f"  {name:<16} {chosen.sum():>4} patches, {len(set(p.image[chosen])):>3} images, {len(set(p.patient[chosen])):>2} patients")
            shown = np.random.default_rng(0).permutation(np.flatnonzero(chosen))[:24]
            tiles = [cv2.cvtColor(p.pictures[i], cv2.COLOR_RGB2BGR) for i in shown]
            place = ROOT / "benchmarks" / "work" / f"query_patches-{scale:g}-{name.replace(' ', '-')}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), np.vstack([np.hstack(tiles[i : i + 8]) for i in range(0, len(tiles) - len(tiles) % 8, 8)]))


if __name__ == "__main__":
    main()
