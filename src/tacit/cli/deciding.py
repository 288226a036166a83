"""The verb that decides about images: pairs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import Assignments, ConfigFile, Device, Json, Out, Overwrite, Seed, Threads
from tacit.cli.printing import close
from tacit.errors import SOME_FAILED


def pairs(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="CSV a,b[,label] of images, with a header or none; labels in it only judge.")],
    out: Out,
    encoder: Annotated[str | None, typer.Option(help="phantom+texture (if none is given), phantom, texture, or timm:NAME.")] = None,
    model: Annotated[Path | None, typer.Option(help="The encoder that this run of tacit pretrain learnt.")] = None,
    weights: Annotated[str | None, typer.Option(help="With --encoder timm:NAME: FILE.safetensors or hub:NAME.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="CSV a,b,label of labelled pairs (1 = same, 0 = different) that teach threshold and metric.")] = None,
    metric: Annotated[str, typer.Option(help="With --calibrate: linear, or raw for the threshold alone.")] = "linear",
    threshold: Annotated[str | None, typer.Option(help="A distance from 0 to 4, or the threshold.json of an earlier run.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the images that the lists name; else each list's own.")] = None,
    patients: Annotated[Path | None, typer.Option(help="CSV name,patient: patients are kept apart when the threshold is judged.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of images that do not state it.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set: Assignments = None,
    as_json: Json = False,
) -> None:
    """Say of pairs of images whether they are of one kind: distance, answer, and whether it is sure."""
    from tacit.use.pairs import decide_pairs as run

    result = run(
        pairs,
        out,
        encoder=encoder,
        model=model,
        weights=weights,
        calibrate=calibrate,
        metric=metric,  # type: ignore[arg-type]
        threshold=threshold,
        root=root,
        patients=patients,
        mpp=mpp,
        seed=seed,
        device=device,
        threads=threads,
        overwrite=overwrite,
        config=config,
        set=set,
    )
    for line in result.warnings:
        print(line, file=sys.stderr)
    if as_json:
        record = asdict(result)
        shown = {k: record[k] for k in ("threshold", "how", "figures", "worth", "failed", "undecided")}
        print(json.dumps({**shown, "pairs": record["answers"]}, indent=1))
        if result.failed:
            raise typer.Exit(SOME_FAILED)
        return
    said = [row["decision"] for row in result.answers]
    sure = sum(row["sure"] == "yes" for row in result.answers)
    print(
        f"{said.count('same')} same, {said.count('different')} different, {sure} of them sure; same is a distance up to {result.threshold:.4f} ({result.how})"
    )
    if result.undecided:
        print(f"{result.undecided} pairs have no answer: an image of theirs could not be used")
    if result.figures:
        f = result.figures
        print(
            f"held-out pairs: accuracy {f['accuracy']['value']:.3f} (one answer for all {f['always_one_answer']['value']:.3f}), "
            f"area {f['auc']['value']:.3f}, equal error {f['equal_error']['value']:.3f}"
        )
    if result.worth:
        w = result.worth
        print(f"this list's labels: accuracy {w['accuracy']:.3f} (one answer for all {w['always_one_answer']:.3f}), area {w['auc']:.3f}")
    print(f"answers: {out / 'pairs.csv'}, {out / 'submission.csv'}")
    close(out, result.failed, f"tacit pairs NEW.csv -o OUT --threshold {out / 'threshold.json'}")
