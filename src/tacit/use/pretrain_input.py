"""What `tacit pretrain` learns from: pictures and whole slides, each looked at once, its own share by every process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import InputError, ReadError
from tacit.files import sha256, sha256_of_ends
from tacit.image import Image
from tacit.learn.sources import Both, Pictures, Places, Source, Tiles, TilesConfig, find_places
from tacit.parts.processes import is_first, rank, size, summed
from tacit.prepare.space import to_spacing
from tacit.read.folder import find_cases
from tacit.read.picture import read_picture
from tacit.read.slide import is_slide
from tacit.report.track import Bar
from tacit.run import Run


def find_input(source: str | Path | Cases) -> Cases | None:
    """Pictures and slides of INPUT; None for a zip, which is unpacked when OUT is open. Raises InputError."""
    if isinstance(source, Cases):
        return source
    return None if Path(source).suffix.lower() == ".zip" else find_cases(source, slides=True)


def unpacked(source: object, folder: Path) -> Cases:
    """Pictures and slides of a zip, below `folder`. Raises InputError."""
    return find_cases(Path(str(source)), unpack_to=folder, slides=True)


def digest(path: Path) -> str:
    """By which a file is known again; slides are too large to be read whole."""
    return sha256_of_ends(path) if is_slide(path) else sha256(path)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """(h, w, 3)"""
    return read_picture(path).pixels


def look(cases: Cases, c: TilesConfig, mpp: float | None, run: Run, um_per_px: float | None = None) -> tuple[Source, dict[str, int]]:
    """What can be learnt from, and how many pictures, slides and tiles of slides that is. What cannot be read, and a picture of one value, is a row of failures.csv.

    mpp: µm per pixel of what does not state it, where the cases do not either. um_per_px: what pictures are brought to; None leaves them as they are.
    Those of unknown spacing stay as they are and are counted. Raises InputError where less than two items are left.
    """
    paths = [path for _, path in cases]
    slides = [is_slide(path) for path in paths]
    spacing = [mpp if np.isnan(own) else float(own) for own in cases.table["mpp"].astype(float)]
    found: dict[int, Places] = {}
    good, unknown = torch.zeros(2, len(paths), dtype=torch.int64)

    def spacing_of(index: int, image: Image) -> float:
        """µm per pixel: what the list says, else the file, else --mpp; NaN where nobody does."""
        return next((float(each) for each in (cases.table["mpp"].iloc[index], image.mpp, mpp) if each is not None and not np.isnan(float(each))), np.nan)

    def look_at(index: int) -> None:
        try:
            if slides[index]:
                found[index] = find_places(paths[index], c, spacing[index])
            else:
                image = read_picture(paths[index])
                if (image.pixels == image.pixels[0, 0]).all():
                    raise ReadError(
                        paths[index], "every pixel of this picture has the same value, so nothing can be learnt from it", "leave it out, or export it anew"
                    )
                unknown[index] = int(um_per_px is not None and np.isnan(spacing_of(index, image)))
            good[index] = 1
        except ReadError as error:
            run.fail(paths[index], error)

    with Bar("reading") as bar:
        for index in range(rank(), len(paths), size()):
            look_at(index)
            bar.advance(index + 1, len(paths))
    seen, good, unknown = range(rank(), len(paths), size()), summed(good), summed(unknown)
    if is_first():  # why the other processes could not read theirs
        for index in np.flatnonzero(good.numpy() == 0).tolist():
            if index not in seen:
                look_at(index)
    at = {path: index for index, path in enumerate(paths)}

    def read(path: Path) -> NDArray[np.uint8]:
        image = read_picture(path)
        own = spacing_of(at[path], image)
        return image.pixels if um_per_px is None or np.isnan(own) else np.asarray(to_spacing(image.pixels, own, um_per_px), np.uint8)

    pictures = Pictures([path for path, ok, is_one in zip(paths, good, slides, strict=True) if ok and not is_one], read)
    places = _of_all(found, [index for index, ok in enumerate(good) if ok and slides[index]], paths)
    tiles = Tiles(places, c, run.fail)
    if len(pictures) + len(tiles) < 2:
        raise InputError(f"{int(good.sum())} of {len(cases)} pictures and slides can be used; at least two pictures or one slide are needed to learn from")
    counts = {"pictures": len(pictures), "slides": len(places), "tiles": sum(len(p.tiles()) for p in places), "unknown_spacing": int((good * unknown).sum())}
    return (Both(pictures, tiles) if places and len(pictures) else tiles if places else pictures), counts


def _of_all(found: dict[int, Places], wanted: list[int], paths: list[Path]) -> list[Places]:
    """The places of every slide that one of the processes has looked at."""
    about = torch.zeros(len(wanted), 5, dtype=torch.float64)
    for row, index in enumerate(wanted):
        if index in found:
            p = found[index]
            about[row] = torch.tensor([len(p.bits), p.columns, *p.canvas, p.factor], dtype=torch.float64)
    about = summed(about)
    ends = about[:, 0].cumsum(0).long().tolist()
    bits = torch.zeros(ends[-1] if ends else 0, dtype=torch.uint8)
    for row, index in enumerate(wanted):
        if index in found:
            bits[ends[row] - len(found[index].bits) : ends[row]] = torch.from_numpy(found[index].bits)
    bits = summed(bits)
    rows = zip(wanted, ends, about.tolist(), strict=True)
    return [Places(paths[i], bits[end - int(n) : end].numpy().copy(), int(columns), (int(h), int(w)), factor) for i, end, (n, columns, h, w, factor) in rows]
