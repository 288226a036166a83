"""The options that several verbs share, each with its flag and its one line of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results; must be empty or new.")]
Seed = Annotated[int, typer.Option(help="Every random draw follows from it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Threads = Annotated[int, typer.Option(help="Threads of torch and OpenCV; more than one pays only on an idle machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Finish the interrupted run in OUT.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the earlier run in OUT.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="One setting, e.g. train.epochs=5; may be repeated.")]
GapsChoice = Annotated[str, typer.Option(help="Series with missing or uneven slices: refuse, tolerate or interpolate.")]
Track = Annotated[list[str] | None, typer.Option("--track", help="Also keep curves, settings and model for wandb, tensorboard or mlflow, below OUT/track.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
