"""`tacit phantom ct`: drawn CTs as DICOM series or NIfTI, with masks of lungs and lesions, their classes and a sheet to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.config import build, merge, parse_assignments, read_toml
from tacit.errors import UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.phantom.ct import Scan, draw_scan, windowed
from tacit.phantom.ct_config import MIXTURES, CtConfig, Split
from tacit.read.dicom_write import write_dicom_series
from tacit.read.nifti import write_nifti
from tacit.report.picture import outlined, png, sheet
from tacit.report.track import Bar
from tacit.run import as_csv, command_line, open_run, plain

FORMATS = ("nifti", "dicom")
SHOWN, TILE = 24, 260  # cases on the sheet; height of a picture on it, px


def draw_cts(
    out: str | Path,
    *,
    count: int = 16,
    format: str = "nifti",
    split: str = "teach",
    seed: int = 0,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> Path:
    """Writes volumes/<case>.nii.gz or dicom/<case>/, masks/lungs and masks/lesions (NIfTI), labels.csv (case, class, patient),
    tables/parameters.csv and figures/sheet.png below OUT. Gives the sheet's path.

    Classes are those of the mixture, equally often, in an order drawn by the seed. split: which part of every range is drawn from
    (`phantom/ct_config.py`). A case depends on the seed and its number alone.
    """
    wanted: Split | None = next((s for s in get_args(Split) if s == split), None)
    if count < 1 or seed < 0 or format not in FORMATS or wanted is None:
        raise UsageError(
            f"wanted are -n from 1, --seed from 0, --format nifti or dicom, --split teach or fresh; got -n {count}, --seed {seed}, --format {format}, --split {split}"
        )
    settings = build(CtConfig, merge(read_toml(Path(config)) if config else {}, parse_assignments(set or [])))
    record = {"phantom": {"name": "ct", "count": count, "format": format, "split": split, "seed": seed}, "settings": plain(settings)}
    command = command_line("phantom", "ct", out, draw_cts.__kwdefaults__, n=count, format=format, split=split, seed=seed, config=config, set=set)
    with open_run(out, command=command, settings=record, reads=["ct", config], overwrite=overwrite) as run:
        tiles, rows, classes = [], [], []
        with Bar("drawing ct") as bar:
            for index in range(count):
                label = class_of(index, seed, settings)
                one = draw_scan(np.random.default_rng([seed, index]), label=label, split=wanted, config=settings)
                case, patient = f"ct_{index + 1:04d}", f"PHANTOM-{index + 1:04d}"
                _write(run.folder, case, patient, one, format, f"tacit phantom ct {split} {seed} {index} {settings.model_dump_json()}")
                classes.append((case, label, patient))
                rows.append({"case": case, **facts_of(one)})
                if index < SHOWN:
                    tiles.append(tile(one))
                bar.advance(index + 1, count)
        write_atomic(run.folder / "labels.csv", as_csv(("case", "class", "patient"), classes))
        write_atomic(run.folder / "tables" / "parameters.csv", as_csv(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        write_atomic(run.folder / "figures" / "sheet.png", png(sheet(tiles, columns=min(2, len(tiles)))))
        run.record |= {"volumes": count, "seed": seed, "split": split, "classes": {c: sum(row[1] == c for row in classes) for c in MIXTURES[settings.mixture]}}
    return Path(out) / "figures" / "sheet.png"


def class_of(index: int, seed: int, c: CtConfig) -> str:
    """The class of case `index`: every class once in each round, the rounds shuffled by the seed."""
    names = MIXTURES[c.mixture]
    return names[int(np.random.default_rng([seed, 1, index // len(names)]).permutation(len(names))[index % len(names)])]


def image_of(one: Scan) -> Image:
    """The scan as an image that knows its place."""
    return Image(one.hu, "dhw", one.grid.spacing_mm, "given", "ct", None, ("drawn",), one.grid.affine)


def facts_of(one: Scan) -> dict[str, Any]:
    """A row about the scan: class, litres, lesions, grid and every drawn parameter."""
    litres = float((one.lungs > 0).sum() * np.prod(one.grid.spacing_mm)) / 1e6
    grid = {"slices": one.grid.shape[0], "spacing_mm": "×".join(f"{v:.4g}" for v in one.grid.spacing_mm)}
    numbers = {name: round(value, 5) for name, value in one.parameters.items()}
    return {"class": one.label, "litres": round(litres, 4), "lesion_share": round(one.lesion_share, 5), **grid, **numbers}


def tile(one: Scan) -> NDArray[np.uint8]:
    """Four pictures in a row at the lung window: a slice, the same with its lesions outlined, another one, a coronal one. (h, w, 3)"""
    sick = one.lesions if one.lesions.any() else one.lungs
    areas = (sick > 0).sum((1, 2))
    inside = np.flatnonzero(areas)
    best, other = int(areas.argmax()), int(inside[len(inside) // 4])
    front = int((sick > 0).sum((0, 2)).argmax())
    tall, deep = one.grid.spacing_mm[0] * one.grid.shape[0], one.grid.spacing_mm[1] * one.grid.shape[1]
    size = (max(round(TILE * one.grid.shape[2] * one.grid.spacing_mm[2] / deep), 1), TILE)
    flat = [cv2.resize(windowed(one.hu[k]), size, interpolation=cv2.INTER_CUBIC) for k in (best, other)]
    upright = cv2.resize(windowed(one.hu[::-1, front]), (size[0], max(round(TILE * tall / deep), 1)), interpolation=cv2.INTER_CUBIC)
    rows = np.zeros((TILE, size[0]), np.uint8)
    top = max((TILE - len(upright)) // 2, 0)
    rows[top : top + len(upright)] = upright[:TILE]
    grey = [np.repeat(p[..., None], 3, 2) for p in (*flat, rows)]
    mask = cv2.resize(one.lesions[best], size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
    return np.hstack([grey[0], outlined(grey[0], mask, (240, 60, 60), width=1), grey[1], grey[2]])


def _write(folder: Path, case: str, patient: str, one: Scan, format: str, name: str) -> None:
    image = image_of(one)
    if format == "dicom":
        write_dicom_series(folder / "dicom" / case, image, patient=patient, name=name, kernel="SHARP" if one.parameters["sharpen"] > 0.35 else "SOFT")
    else:
        write_nifti(folder / "volumes" / f"{case}.nii.gz", image)
    for what, mask in (("lungs", one.lungs), ("lesions", one.lesions)):
        write_nifti(folder / "masks" / what / f"{case}.nii.gz", replace(image, pixels=mask))
