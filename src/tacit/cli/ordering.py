"""Verbs that put a collection in order: audit, prepare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import GapsChoice, Out, Overwrite, Seed, Threads
from tacit.cli.printing import close


def audit(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A folder of anything (pictures, DICOM, NIfTI, slides), a file or a zip.")],
    out: Out,
    labels: Annotated[Path | None, typer.Option(help="CSV case,class: classes of files, cases, series or patients.")] = None,
    near: Annotated[int, typer.Option(help="Bits (of 64) by which the hashes of near twins may differ.")] = 5,
    keep_identifiers: Annotated[bool, typer.Option("--keep-identifiers", help="Write patients and series as they are, not as pseudonyms.")] = False,
    salt: Annotated[str | None, typer.Option(help="Makes pseudonyms repeatable; keep it secret.")] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Say what is in a folder and what is wrong with it, and write a clean manifest. Nothing is deleted or changed in place."""
    from tacit.use.audit import audit as run

    result = run(source, out, labels=labels, near=near, keep_identifiers=keep_identifiers, salt=salt, seed=seed, threads=threads, overwrite=overwrite)
    print(f"{result.files} files, {result.kept} kept, {result.series} series, {result.near_pairs} pairs of near twins, {result.failed} failed")
    for reason, count in result.reasons.items():
        print(f"  {count:>6}  {reason}")
    for line in result.warnings:
        print(line, file=sys.stderr)
    verb = "segment" if result.pictures else "lungs"
    close(out, result.failed, f"tacit {verb} {out / 'manifest.csv'} -o OUT")


def prepare(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Pictures or volumes: a file, folder, glob, zip, list or manifest.")],
    out: Out,
    steps: Annotated[str, typer.Option(help="A recipe, e.g. canonical,spacing=1,window=-500:1500,he+clahe; see docs/prepare.md.")],
    target: Annotated[Path | None, typer.Option(help="Whose colours reinhard and macenko bring to; else INPUT's own.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of pictures that do not state it.")] = None,
    gaps: GapsChoice = "refuse",
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Write images after a recipe of steps: window, contrast, stains, spacing, lungs … Each keeps the history of what was done."""
    from tacit.use.prepare import prepare_images as run

    result = run(source, out, steps=steps, target=target, mpp=mpp, gaps=gaps, threads=threads, overwrite=overwrite)  # type: ignore[arg-type]
    print(f"{result.written} images written, {result.failed} failed; what was done: {out / 'tables' / 'prepared.csv'}")
    close(out, result.failed, f"tacit audit {out / 'images'} -o OUT", report=False)
