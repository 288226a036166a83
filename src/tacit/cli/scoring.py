"""Verbs that judge answers: evaluate, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import Json
from tacit.errors import SOME_FAILED


def evaluate(
    predicted: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder of label maps, e.g. OUT/masks.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Folder of true masks of the same names.")],
    task: Annotated[str, typer.Option(help="segment.")] = "segment",
    as_json: Json = False,
) -> None:
    """Score masks against truth: mIoU, Dice, the GlaS contest's object figures, with intervals over patients."""
    from tacit.use.evaluate import evaluate as run

    result = run(predicted, truth, task=task)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['images']} images, 95% intervals over {result['over']}")
        for name, value in result["figures"].items():
            low_high = result["interval"].get(name)
            print(f"  {name:<30} {value:.3f}" + (f"   [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""))
        for label, values in result["by_class"].items():
            print(f"  {label:<30} miou {values['miou']:.3f}   object_f1 {values['object_f1']:.3f}   ({values['images']} images)")
        if result["truth_without_mask"]:
            print(f"  {result['truth_without_mask']} true masks have no prediction and do not count", file=sys.stderr)
        for name in result["missing"]:
            print(f"  no truth for {name}", file=sys.stderr)
        for row in result["failures"]:
            print(f"  {row['file']}: {row['reason']}", file=sys.stderr)
    if result["failures"] or result["missing"]:
        raise typer.Exit(SOME_FAILED)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="OUT folders of runs on the same data.")],
    as_json: Json = False,
) -> None:
    """Put runs into one table; refuses runs on different data."""
    from tacit.use.compare import compare as run
    from tacit.use.compare import printed

    rows = run(runs)
    print(json.dumps(rows, indent=1) if as_json else printed(rows))
