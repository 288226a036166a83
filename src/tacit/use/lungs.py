"""`tacit lungs`: masks of the lungs of chest CTs as NIfTI, left and right apart, with their litres and pictures to judge them by.

Morphology finds them, or a U-Net that is learnt on the same volumes first, or one that an earlier run learnt (`use/lungs_learn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import build, chosen_settings, to_toml
from tacit.errors import InputError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.learn.lung_unet import LungUnet
from tacit.prepare.contrast import window_uint8
from tacit.prepare.lung import LEFT, RIGHT, Lungs, find_lungs
from tacit.prepare.space import canonical
from tacit.read.folder import named_files
from tacit.read.nifti import write_nifti
from tacit.read.volume import TOLERATED, Gaps
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg
from tacit.report.track import Bar
from tacit.report.tracked import check_trackers
from tacit.run import Run, as_csv, command_line, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.lungs_learn import LungsConfig, check_choice, hashes_of, learn_unet, load_unet, no_lungs
from tacit.use.tracking import tracked
from tacit.use.volumes import Found, each_volume, find_volumes

HEADER = ("name", "litres", "right_litres", "left_litres", "slices", "spacing_mm", "mean_hu", "emphysema_share", "dense_share", "method", "warnings")
EMPHYSEMA_HU, DENSE_HU = -950, -500  # below: emphysema (the usual index); above, inside the lung: vessels and consolidation
TINTS = {RIGHT: (200, 60, 20), LEFT: (30, 80, 210)}
METHOD = {"morphology": "morphology alone (docs/lungs.md)", "lung-unet": "a U-Net that was taught (docs/lungs.md, model/card.md)"}
SHOWN = 6  # slices in a picture


@dataclass(frozen=True)
class LungsResult:
    """What a run came to: (name, litres) of every volume with lungs."""

    folder: Path
    litres: dict[str, float]
    failed: int
    warnings: tuple[str, ...] = ()


def lungs(
    source: str | Path,
    out: str | Path,
    *,
    gaps: Gaps = "refuse",
    learn: bool = False,
    masks: str | Path | None = None,
    model: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    track: list[str] | None = None,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> LungsResult:
    """Writes masks/<name>.nii.gz (1 right, 2 left), tables/lungs.csv and report.html for every CT volume that `source` names.

    gaps: what to do about DICOM series with missing slices or uneven spacing: refuse, tolerate or interpolate. learn: a U-Net
    learns on the volumes first, from the masks that morphology makes of them or, where `masks` names a folder, from the masks
    there that have a volume's name, and then writes its own; it is kept in OUT/model. model: the OUT of such a run, whose
    U-Net writes the masks. Raises TacitError; one volume's failure is a row of failures.csv.
    """
    if gaps not in ("refuse", "tolerate", "interpolate"):
        raise UsageError(f"--gaps {gaps!r} is unknown; known are refuse, tolerate, interpolate")
    check_trackers(track or [])
    chosen = chosen_settings(config, set, "lungs")
    check_choice(learn, masks, model, seed, chosen)
    c = build(LungsConfig, chosen)
    command = command_line(
        "lungs", source, out, lungs.__kwdefaults__, gaps=gaps, learn=learn, masks=masks, model=model, seed=seed, device=device, threads=threads,
        track=track, config=config, set=set,
    )  # fmt: skip
    device = prepare_device(device, threads)
    network = load_unet(model, device) if model else None
    choice = {"learn": learn, "masks": str(masks) if masks else None, "model": str(model) if model else None, "seed": seed}
    settings = {"lungs": {"input": str(source), "gaps": gaps} | choice, **plain(c)}
    if not learn:
        del settings["unet"]  # nothing of it takes part
    if not Path(source).exists():
        raise InputError(f"{source} does not exist; INPUT is a volume, a folder, a zip or a manifest")
    reads = chain(named_files(source), named_files(masks) if masks else (), [model, config])
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run, tracked(run, track, "lungs", settings):
        found = find_volumes(source, run, gaps=gaps)
        run.check_same(hashes_of(found, masks), f"{source} or {masks}" if masks else source)
        if not run.finished_before:
            if learn:
                network = learn_unet(found, masks, c, run, seed=seed, device=device)
            rows, panels = _find_all(found, network, c, run)
            if not rows:
                raise InputError(f"no lungs in {source}; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}")
            write_atomic(run.folder / "tables" / "lungs.csv", as_csv(HEADER, rows))
            warnings = [f"{r[0]}: {r[-1]}" for r in rows if r[-1]]
            run.record |= {"volumes": len(rows), "litres": {r[0]: r[1] for r in rows}, "warnings": warnings}
            _report(run, rows, panels, settings)
        return LungsResult(Path(out), run.record["litres"], len(run.failures), tuple(run.record["warnings"]))


def _find_all(found: list[Found], network: LungUnet | None, c: LungsConfig, run: Run) -> tuple[list[tuple[Any, ...]], list[Panel]]:
    """Masks and pictures of every volume, written one by one; a row and a panel of each."""
    rows: list[tuple[Any, ...]] = []
    panels: list[Panel] = []
    with Bar("lungs") as bar:
        for one, image in each_volume(found, run, bar.advance):
            try:
                answer = network.find(image, c) if network else find_lungs(image, c)
            except InputError as error:
                run.fail(one.paths[0], no_lungs(one.paths[0], error))
                continue
            answer = replace(answer, warnings=(*answer.warnings, *(line for line in image.history if line.startswith(TOLERATED))))
            rows.append(_row(one.name, image, answer, "lung-unet" if network else "morphology"))
            write_nifti(run.folder / "masks" / f"{one.name}.nii.gz", replace(image, pixels=answer.mask))
            picture = jpeg(montage(image, answer.mask))
            write_atomic(run.folder / "figures" / f"{one.name}.jpg", picture)
            words = f"{answer.litres:.2f} L (right {answer.right_litres:.2f}, left {answer.left_litres:.2f})" + "".join(f"; {w}" for w in answer.warnings)
            panels.append(Panel(one.name, embedded(picture, "jpeg"), None, words))
    return rows, panels


def _row(name: str, image: Image, answer: Lungs, method: str) -> tuple[Any, ...]:
    inside = image.pixels[answer.mask > 0]
    spacing = "×".join(f"{s:.4g}" for s in image.spacing_mm or ())
    shares = (float((inside < EMPHYSEMA_HU).mean()), float((inside > DENSE_HU).mean()))
    numbers = [round(v, 4) for v in (answer.litres, answer.right_litres, answer.left_litres)]
    return (name, *numbers, len(image.pixels), spacing, round(float(inside.mean()), 1), *(round(s, 4) for s in shares), method, "; ".join(answer.warnings))


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
    text = page(
        title="Lungs",
        subtitle=run.record["command"],
        facts=[
            ("volumes", str(len(rows))),
            ("litres", f"{min(r[1] for r in rows):.2f} – {max(r[1] for r in rows):.2f}"),
            ("method", f"{METHOD[rows[0][-2]]}; the patient's right lung is red, the left blue; slices run from the diaphragm up"),
        ],
        figures=panels[:60],
        galleries=[],
        tables=[("Volumes", "tables/lungs.csv", [h.replace("_", " ") for h in HEADER], [list(r) for r in rows[:400]])],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=run.record["warnings"],
    )
    write_atomic(run.folder / "report.html", text)
