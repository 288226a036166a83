"""Weights & Biases: written to OUT/track/wandb without a network, for `wandb sync`; to the server only where WANDB_MODE says online."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

from tacit.report.trackers.contract import PROJECT, About, Outcome, Point

AWAY = ("online", "run", "shared")  # modes of WANDB_MODE that open a connection
PLACES = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")  # where W&B writes beside its own folder, else below the home folder
PICTURES = 24  # of a run at most


class Wandb:
    """Nothing of the machine, the user, git or the program is sent, and no crash report."""

    PACKAGES = ("wandb",)
    places: ClassVar[dict[str, str]] = {}  # what the last run of this process said

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about
        self.mode: Any = mode if (mode := os.environ.get("WANDB_MODE", "")) in AWAY else "offline"
        self.local = self.mode == "offline"
        self.run: Any = None
        self.step = 0  # the first one that the server does not have

    def begin(self) -> None:
        """A new offline run; with a server the one of this key goes on."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        for variable in PLACES:
            if os.environ.get(variable) in (None, self.places.get(variable)):  # the user's own stays
                os.environ[variable] = self.places[variable] = str(self.folder.resolve())
        import wandb

        if self.run is not None:
            self.run.finish()
        if self.local:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            silent=True,
            console="off",
            host="tacit",  # else the name of the machine
            disable_git=True,
            disable_code=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
        )
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.about.key,
            name=f"{self.about.verb} {self.about.key}",
            job_type=self.about.verb,
            dir=str(self.folder),
            config={**self.about.settings, "command": self.about.command, **self.about.facts},
            mode=self.mode,
            resume=None if self.local else "allow",
            reinit="create_new",
            settings=quiet,
        )
        self.step = 0 if self.local else int(self.run.step)

    def has(self, point: Point) -> bool:
        """What lies before the server's step."""
        return point.place < self.step

    def send(self, points: list[Point]) -> None:
        """Values of one stage and step are one row, whose number is its place in metrics.csv; `stage/step` is the axis of the stage's curves."""
        rows: dict[int, dict[str, float]] = {}
        for point in points:
            axis = f"{point.curve.split('/')[0]}/step"
            rows.setdefault(point.place, {axis: point.step})[point.curve] = point.value
        for place, values in rows.items():
            axis = next(iter(values))
            for curve in values:
                if curve != axis:
                    self.run.define_metric(curve, step_metric=axis)
            self.run.log(values, step=place)

    def finish(self, outcome: Outcome) -> None:
        """Final numbers as the summary; the data's fingerprint, the model, and tables with the page as artifacts; figures as pictures."""
        import wandb

        self.run.summary.update({**outcome.figures, "status": outcome.status})
        pictures = outcome.pictures(self.local)
        if pictures:
            self.run.log({f"figures/{p.stem}": wandb.Image(str(p)) for p in pictures[:PICTURES]})
        if outcome.data:
            data = wandb.Artifact(f"data-{outcome.data[:16]}", type="dataset", metadata={"fingerprint": outcome.data, "files": len(outcome.hashes)})
            with data.new_file("hashes.txt", encoding="utf-8") as file:
                file.write("\n".join(outcome.hashes) + "\n")
            self.run.log_artifact(data)
        files = [*outcome.tables(self.local), *pictures, *outcome.pages(self.local)]
        if files:
            report = wandb.Artifact(f"report-{self.about.key}", type="report")
            for path in files:
                report.add_file(str(path), name=str(path.relative_to(outcome.folder)), policy="immutable")
            self.run.log_artifact(report)
        if outcome.model is not None:
            model = wandb.Artifact(f"tacit-{self.about.verb.replace(' ', '-')}", type="model", metadata={"data": outcome.data, "key": self.about.key})
            for path in sorted(outcome.model.iterdir()):
                model.add_file(str(path), policy="immutable")
            self.run.log_artifact(model)
        self.run.finish(exit_code=0 if outcome.status == "finished" else 1)
