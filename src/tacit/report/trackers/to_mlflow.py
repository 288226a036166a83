"""MLflow: a database in OUT/track/mlflow, or the server that MLFLOW_TRACKING_URI names; `mlflow ui --backend-store-uri sqlite:///OUT/track/mlflow/mlflow.db`."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

from tacit.report.trackers.contract import PROJECT, About, Outcome, Point

BATCH = 1000  # metrics and 100 settings a call: MLflow's own limits
SETTINGS = 100
LONGEST = 6000  # characters of a setting


class MLflow:
    """Talks to the store by MLflow's client: nothing is patched, started in the background, or asked of git."""

    PACKAGES = ("mlflow", "sqlalchemy", "alembic")

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        self.local = not self.uri
        self.client: Any = None
        self.run = ""
        self.known: dict[str, set[int]] = {}

    def begin(self) -> None:
        """A new run; on a server the one with this run's key, if there is one."""
        for variable in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):  # MLflow reports its use over the network otherwise
            os.environ.setdefault(variable, "true")
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        if self.local:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        place = self.folder.resolve()
        self.client = MlflowClient(tracking_uri=self.uri or f"sqlite:///{place / 'mlflow.db'}", registry_uri=self.uri or f"sqlite:///{place / 'mlflow.db'}")
        found = self.client.get_experiment_by_name(PROJECT)
        files = {"artifact_location": (place / "artifacts").as_uri()} if self.local else {}
        experiment = found.experiment_id if found else self.client.create_experiment(PROJECT, **files)
        earlier = self.client.search_runs([experiment], f"tags.`tacit.key` = '{self.about.key}'")
        if earlier:
            self.run = earlier[0].info.run_id
            self.client.update_run(self.run, "RUNNING")
            return
        tags = {"tacit.key": self.about.key, "tacit.verb": self.about.verb, "tacit.command": self.about.command}
        tags |= {f"tacit.{k}": str(v) for k, v in self.about.facts.get("versions", {}).items()}
        self.run = self.client.create_run(experiment, run_name=f"{self.about.verb} {self.about.key}", tags=tags).info.run_id
        self._settings()

    def has(self, point: Point) -> bool:
        """Asks the store once a curve."""
        if point.curve not in self.known:
            self.known[point.curve] = set() if self.local else {m.step for m in self.client.get_metric_history(self.run, point.curve)}
        return point.step in self.known[point.curve]

    def send(self, points: list[Point]) -> None:
        """Many a call."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        rows = [Metric(p.curve, p.value, now, p.step) for p in points]
        for start in range(0, len(rows), BATCH):
            self.client.log_batch(self.run, metrics=rows[start : start + BATCH])

    def finish(self, outcome: Outcome) -> None:
        """Final numbers, tables, figures, the data's fingerprint with its hashes, and the model as a version in the registry."""
        self.send([Point(0, name, 0, value) for name, value in outcome.figures.items()])
        for folder, files in (("tables", outcome.tables(self.local)), ("figures", outcome.pictures(self.local)), (None, outcome.pages(self.local))):
            for file in files:
                self.client.log_artifact(self.run, str(file), folder)
        if outcome.data:
            self._data(outcome)
        if outcome.model is not None:
            self._model(outcome.model)
        stopped = "KILLED" if outcome.status == "interrupted" else "FAILED"
        self.client.set_terminated(self.run, "FINISHED" if outcome.status == "finished" else stopped)

    def _settings(self) -> None:
        from mlflow.entities import Param

        rows = [Param(name, str(value)[:LONGEST]) for name, value in flat(self.about.settings).items()]
        for start in range(0, len(rows), SETTINGS):
            self.client.log_batch(self.run, params=rows[start : start + SETTINGS])

    def _data(self, outcome: Outcome) -> None:
        from mlflow.entities import Dataset, DatasetInput

        of_it = Dataset(name="data", digest=outcome.data[:32], source_type="hashes", source="data/hashes.txt", profile=f'{{"files": {len(outcome.hashes)}}}')
        self.client.log_inputs(self.run, [DatasetInput(of_it, [])])
        self.client.log_text(self.run, "\n".join(outcome.hashes) + "\n", "data/hashes.txt")

    def _model(self, model: Path) -> None:
        from mlflow.exceptions import MlflowException

        self.client.log_artifacts(self.run, str(model), "model")
        name = f"{PROJECT} {self.about.verb}"
        try:
            self.client.get_registered_model(name)
        except MlflowException:
            self.client.create_registered_model(name)
        where = f"{self.client.get_run(self.run).info.artifact_uri}/model"
        self.client.create_model_version(name, where, run_id=self.run)


def flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one table, names joined by dots.

    >>> flat({"seed": 1, "train": {"lr": 0.1}})
    {'seed': 1, 'train.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in tables.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
