"""The small verbs: phantom, info, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.options import Assignments, ConfigFile, Json, Out, Overwrite, Seed
from tacit.cli.printing import print_table
from tacit.errors import UsageError


def phantom(
    name: Annotated[str, typer.Argument(help="tissue, fundus, chest, ct, or your own .py file.")],
    out: Out,
    count: Annotated[int, typer.Option("-n", help="Pictures to draw.")] = 16,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel to draw at; 1 if not given. Not for ct.")] = None,
    height: Annotated[int | None, typer.Option(help="px; 400 if not given. Not for ct.")] = None,
    width: Annotated[int | None, typer.Option(help="px; 560 if not given. Not for ct.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="ct: nifti (if not given) or dicom.")] = None,
    split: Annotated[str | None, typer.Option(help="ct: teach (if not given), or fresh: parameters that teach never draws.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set: Assignments = None,
) -> None:
    """Draw pictures with exact truth: images, masks, their parameters, and one sheet to look at."""
    common: dict[str, Any] = {"count": count, "seed": seed, "overwrite": overwrite, "config": config, "set": set}
    if name == "ct":
        from tacit.use.draw_ct import draw_cts

        _refuse(name, {"--mpp": mpp, "--height": height, "--width": width}, "its grid is a setting: --set matrix=176, field_mm, slice_mm")
        print(f"sheet: {draw_cts(out, format=file_format or 'nifti', split=split or 'teach', **common)}")
        print(f"next: tacit lungs {out} -o OUT")
        return
    from tacit.use.draw import draw_sheet

    _refuse(name, {"--format": file_format, "--split": split}, "they are for ct")
    shape = (400 if height is None else height, 560 if width is None else width)
    print(f"sheet: {draw_sheet(name, out, mpp=1.0 if mpp is None else mpp, shape=shape, **common)}")
    drawn = f"--mpp {1.0 if mpp is None else mpp}" if name == "tissue" else f"--phantom {name}"
    print(f"next: tacit segment {out / 'images'} -o OUT {drawn}")


def _refuse(name: str, given: dict[str, object], instead: str) -> None:
    wrong = [option for option, value in given.items() if value is not None]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: no option of tacit phantom {name}; {instead}")


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
