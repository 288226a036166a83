"""`tacit lungs`: masks of the lungs of chest CTs as NIfTI, left and right apart, with their litres and pictures to judge them by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import build, merge, parse_assignments, read_toml, to_toml
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.prepare.contrast import window_uint8
from tacit.prepare.lung import LEFT, RIGHT, LungConfig, Lungs, find_lungs
from tacit.prepare.space import canonical
from tacit.read.nifti import write_nifti
from tacit.read.volume import Gaps
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg
from tacit.report.track import Bar
from tacit.run import Run, as_csv, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.volumes import each_volume, find_volumes

HEADER = ("name", "litres", "right_litres", "left_litres", "slices", "spacing_mm", "mean_hu", "emphysema_share", "dense_share", "warnings")
EMPHYSEMA_HU, DENSE_HU = -950, -500  # below: emphysema (the usual index); above, inside the lung: vessels and consolidation
TINTS = {RIGHT: (200, 60, 20), LEFT: (30, 80, 210)}
SHOWN = 6  # slices in a picture


@dataclass(frozen=True)
class LungsResult:
    """What a run came to: (name, litres) of every volume with lungs."""

    folder: Path
    litres: dict[str, float]
    failed: int


def lungs(
    source: str | Path,
    out: str | Path,
    *,
    gaps: Gaps = "refuse",
    threads: int = 1,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> LungsResult:
    """Writes masks/<name>.nii.gz (1 right, 2 left), tables/lungs.csv and report.html for every CT volume that `source` names.

    gaps: what to do about DICOM series with missing slices or uneven spacing: refuse, tolerate or interpolate. Raises TacitError;
    one volume's failure is a row of failures.csv.
    """
    if gaps not in ("refuse", "tolerate", "interpolate"):
        raise UsageError(f"--gaps {gaps!r} is unknown; known are refuse, tolerate, interpolate")
    c = build(LungConfig, merge(read_toml(Path(config)) if config else {}, parse_assignments(set or [])))
    prepare_device("cpu", threads)
    settings = {"lungs": {"input": str(source), "gaps": gaps}, **plain(c)}
    if not Path(source).exists():
        raise InputError(f"{source} does not exist; INPUT is a volume, a folder, a zip or a manifest")
    with open_run(out, command=f"tacit lungs {source} -o {out} --gaps {gaps}", settings=settings, overwrite=overwrite) as run:
        rows: list[tuple[Any, ...]] = []
        panels: list[Panel] = []
        found = find_volumes(source, run, gaps=gaps)
        with Bar("lungs") as bar:
            for one, image in each_volume(found, run, bar.advance):
                try:
                    answer = find_lungs(image, c)
                except InputError as error:
                    run.fail(one.paths[0], ReadError(one.paths[0], str(error).split(": ", 1)[-1], "look at the picture; give a chest CT in Hounsfield units"))
                    continue
                rows.append(_row(one.name, image, answer))
                write_nifti(run.folder / "masks" / f"{one.name}.nii.gz", replace(image, pixels=answer.mask))
                picture = montage(image, answer.mask)
                write_atomic(run.folder / "figures" / f"{one.name}.jpg", jpeg(picture))
                words = f"{answer.litres:.2f} L (right {answer.right_litres:.2f}, left {answer.left_litres:.2f})" + "".join(f"; {w}" for w in answer.warnings)
                panels.append(Panel(one.name, embedded(jpeg(picture), "jpeg"), None, words))
        if not rows:
            raise InputError(f"no lungs in {source}; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}")
        write_atomic(run.folder / "tables" / "lungs.csv", as_csv(HEADER, rows))
        run.record |= {"volumes": len(rows)}
        _report(run, rows, panels, settings)
        return LungsResult(Path(out), {r[0]: r[1] for r in rows}, len(run.failures))


def _row(name: str, image: Image, answer: Lungs) -> tuple[Any, ...]:
    inside = image.pixels[answer.mask > 0]
    spacing = "×".join(f"{s:.4g}" for s in image.spacing_mm or ())
    shares = (float((inside < EMPHYSEMA_HU).mean()), float((inside > DENSE_HU).mean()))
    numbers = [round(v, 4) for v in (answer.litres, answer.right_litres, answer.left_litres)]
    return (name, *numbers, len(image.pixels), spacing, round(float(inside.mean()), 1), *(round(s, 4) for s in shares), "; ".join(answer.warnings))


def montage(image: Image, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Slices from low to high in a row, the right lung tinted red, the left blue. (h, w, 3)"""
    upright = canonical(image)[0]
    sides = canonical(replace(image, pixels=mask))[0].pixels
    planes = np.flatnonzero(sides.any((1, 2)))
    tiles = []
    for k in planes[(np.linspace(0.06, 0.94, SHOWN) * (len(planes) - 1)).astype(int)]:
        grey = window_uint8(upright.pixels[k], -400, 1400)
        tile = np.repeat(grey[..., None], 3, -1)
        for side, tint in TINTS.items():
            where = sides[k] == side
            tile[where] = (0.62 * tile[where] + 0.38 * np.array(tint)).astype(np.uint8)
        ratio = (upright.spacing_mm[1] / upright.spacing_mm[2]) if upright.spacing_mm else 1.0
        tiles.append(cv2.resize(tile, (240, max(round(240 * ratio * tile.shape[0] / tile.shape[1]), 1)), interpolation=cv2.INTER_AREA))
    return np.hstack(tiles)


def _report(run: Run, rows: list[tuple[Any, ...]], panels: list[Panel], settings: dict[str, Any]) -> None:
    odd = [r for r in rows if r[-1]]
    text = page(
        title="Lungs",
        subtitle=run.record["command"],
        facts=[
            ("volumes", str(len(rows))),
            ("litres", f"{min(r[1] for r in rows):.2f} – {max(r[1] for r in rows):.2f}"),
            ("method", "morphology alone (docs/lungs.md); the patient's right lung is red, the left blue; slices run from the diaphragm up"),
        ],
        figures=panels[:60],
        galleries=[],
        tables=[("Volumes", "tables/lungs.csv", [h.replace("_", " ") for h in HEADER], [list(r) for r in rows[:400]])],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=[f"{r[0]}: {r[-1]}" for r in odd],
    )
    write_atomic(run.folder / "report.html", text)
