"""`tacit phantom`: drawn pictures as files, with their truth, their parameters and a sheet to look at."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config, build, merge, parse_assignments, read_toml
from tacit.errors import UsageError
from tacit.files import write_atomic
from tacit.phantom import generator
from tacit.phantom.drawing import Drawing
from tacit.report.picture import outlined, png, sheet
from tacit.report.track import Bar
from tacit.run import as_csv, command_line, open_run, plain

COLOURS = ((20, 220, 80), (240, 60, 60), (60, 140, 255))  # of overlapping structures, in the order of the classes


def draw_sheet(
    name: str,
    out: str | Path,
    *,
    count: int = 16,
    mpp: float = 1.0,
    shape: tuple[int, int] = (400, 560),
    seed: int = 0,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> Path:
    """Writes images/, masks/ (16-bit instance labels), tables/parameters.csv and figures/sheet.png below OUT. Gives the sheet's path.

    Where structures overlap, as in a chest, planes/<class>/ holds each of them whole.
    """
    if count < 1 or not 0.05 <= mpp <= 20 or min(shape) < 16 or seed < 0:
        raise UsageError(
            f"wanted at least one picture of 16×16 px at --mpp from 0.05 to 20 and a seed from 0; got -n {count}, {shape[0]}×{shape[1]} px, --mpp {mpp}"
        )
    module = generator(name)
    kind = getattr(module, "CONFIG", None)
    settings = build(kind or Config, merge(read_toml(Path(config)) if config else {}, parse_assignments(set or [])))
    own = (settings,) if kind else ()
    record = {"phantom": {"name": name, "count": count, "mpp": mpp, "seed": seed, "shape": list(shape)}, "settings": plain(settings)}
    size = {"height": shape[0], "width": shape[1]}
    command = command_line("phantom", name, out, draw_sheet.__kwdefaults__, n=count, mpp=mpp, **size, seed=seed, config=config, set=set)
    with open_run(out, command=command, settings=record, reads=[name, config], overwrite=overwrite) as run:
        tiles, rows = [], []
        with Bar(f"drawing {name}") as bar:
            for index in range(count):
                drawing = module.draw(np.random.default_rng([seed, index]), shape, mpp, *own)
                stem = f"{Path(name).stem}_{index:04d}"
                write_atomic(run.folder / "images" / f"{stem}.png", png(drawing.picture))
                write_atomic(run.folder / "masks" / f"{stem}.png", png(drawing.labels.astype(np.uint16)))
                rows.append({"name": stem, **drawing.parameters})
                planes = () if drawing.planes is None else drawing.planes
                for kind, plane in zip(module.CLASSES, planes, strict=False):
                    write_atomic(run.folder / "planes" / kind / f"{stem}.png", png(plane))
                if index < 24:
                    tiles.append(_with_truth(drawing))
                bar.advance(index + 1, count)
        header = tuple(dict.fromkeys(k for row in rows for k in row))
        write_atomic(run.folder / "tables" / "parameters.csv", as_csv(header, [tuple(row.get(k, "") for k in header) for row in rows]))
        write_atomic(run.folder / "figures" / "sheet.png", png(sheet(tiles)))
        run.record |= {"images": count, "seed": seed}
    return Path(out) / "figures" / "sheet.png"


def _with_truth(drawing: Drawing) -> NDArray[np.uint8]:
    if drawing.planes is None:
        return outlined(drawing.picture, drawing.labels)
    tile = drawing.picture
    for plane, colour in zip(drawing.planes, cycle(COLOURS), strict=False):
        tile = outlined(tile, (plane > 0).astype(np.int32), colour, width=1)
    return tile
