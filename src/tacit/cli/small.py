"""The small verbs: phantom, info, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import Assignments, ConfigFile, Json, Out, Overwrite, Seed
from tacit.cli.printing import print_table


def phantom(
    name: Annotated[str, typer.Argument(help="tissue, fundus, chest, or your own .py file.")],
    out: Out,
    count: Annotated[int, typer.Option("-n", help="Pictures to draw.")] = 16,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel to draw at.")] = 1.0,
    height: Annotated[int, typer.Option(help="px")] = 400,
    width: Annotated[int, typer.Option(help="px")] = 560,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set: Assignments = None,
) -> None:
    """Draw pictures with exact truth: images, masks, their parameters, and one sheet to look at."""
    from tacit.use.draw import draw_sheet

    sheet = draw_sheet(name, out, count=count, mpp=mpp, shape=(height, width), seed=seed, overwrite=overwrite, config=config, set=set)
    print(f"sheet: {sheet}")
    drawn = f"--mpp {mpp}" if name == "tissue" else f"--phantom {name}"
    print(f"next: tacit segment {out / 'images'} -o OUT {drawn}")


def info(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An image, a folder of images, or the OUT of a run.")],
    as_json: Json = False,
) -> None:
    """Say what a file, a folder or a run is."""
    from tacit.use.info import describe

    print_table(describe(path), as_json)


def doctor(as_json: Json = False) -> None:
    """Check the installation and say what this machine can do."""
    from tacit.use.info import health

    rows, healthy = health()
    print_table(rows, as_json)
    if not healthy:
        raise typer.Exit(5)
