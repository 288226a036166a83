"""The verb that finds landmarks: locate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import Assignments, ConfigFile, Device, Json, Overwrite, Resume, Seed, Threads, Track
from tacit.cli.printing import close
from tacit.errors import SOME_FAILED, UsageError


def locate(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Pictures: file, folder, glob, zip or CSV list.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the results; must be empty or new.")] = None,
    template: Annotated[Path | None, typer.Option(help="The picture whose points are marked.")] = None,
    points: Annotated[Path | None, typer.Option(help="CSV image,point,row,col: the template's points in px.")] = None,
    suggest_template: Annotated[bool, typer.Option("--suggest-template", help="Say which picture is best to mark; needs no OUT.")] = False,
    method: Annotated[str, typer.Option(help="paths, embedding (with --model), template-matching or copy.")] = "paths",
    model: Annotated[
        Path | None, typer.Option(help="A run of tacit pretrain, or of segment --phantom chest: pictures are registered by what it sees, too.")
    ] = None,
    phantom: Annotated[str | None, typer.Option(help="Teach a structure by drawings first and register by it, too: chest.")] = None,
    spacing_mm: Annotated[float | None, typer.Option("--spacing-mm", help="Millimetres per pixel of pictures that do not state it.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    config: ConfigFile = None,
    set: Assignments = None,
    as_json: Json = False,
) -> None:
    """Find the points that are marked on one picture on every other, each with a confidence."""
    from tacit.use.locate import locate as run

    if suggest_template:
        _suggest(source, seed, threads, config, set, as_json)
        return
    if out is None or template is None or points is None:
        raise UsageError("tacit locate FOLDER -o OUT --template IMAGE --points POINTS.csv; which image to mark: tacit locate FOLDER --suggest-template")
    result = run(
        source, out, template=template, points=points, method=method, model=model, phantom=phantom, spacing_mm=spacing_mm, seed=seed, device=device,
        threads=threads, resume=resume, overwrite=overwrite, track=track, config=config, set=set,
    )  # fmt: skip
    if as_json:
        print(json.dumps({"out": str(out), "images": result.images, "failed": result.failed, "points": result.points}, indent=1))
        if result.failed:
            raise typer.Exit(SOME_FAILED)
        return
    unsure = sum((row["confidence"] or 0) < 0.5 for row in result.points)
    sure = "none with a confidence (they are copied)" if method == "copy" else f"{unsure} of them unsure (confidence below 0.5)"
    print(f"{len(result.points)} points on {result.images} pictures, {sure}, {result.failed} pictures failed")
    print(f"answers: {out / 'points.csv'}")
    close(out, result.failed, f"tacit evaluate {out} TRUTH.csv --task locate")


def _suggest(source: Path, seed: int, threads: int, config: Path | None, set: list[str] | None, as_json: bool) -> None:
    from tacit.use.locate import suggested

    found, failed = suggested(source, seed=seed, threads=threads, config=config, set=set)
    for error in failed:
        print(f"failed: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps([{"image": str(path), "apart_percent": round(apart, 4)} for path, apart in found], indent=1))
        if failed:
            raise typer.Exit(SOME_FAILED)
        return
    print("image: how far ways that start there end apart on the others, % of the diagonal; the least is the one to mark")
    for path, apart in found[:10]:
        print(f"  {apart:6.2f}  {path}")
    print(f"next: tacit locate {source} -o OUT --template {found[0][0]} --points POINTS.csv")
    if failed:
        raise typer.Exit(SOME_FAILED)
