"""How learning goes: curves to CSV always, a progress bar where somebody is looking."""

from __future__ import annotations

import csv
import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tacit.files import write_atomic

Told = Callable[[dict[tuple[str, int, str], float]], None]
PATIENCE = 2.0  # seconds before a bar appears


class Bar:
    """A progress bar with the remaining time on stderr; appears after two seconds, only on a terminal, of several processes the first one's."""

    def __init__(self, what: str) -> None:
        self.what, self.started = what, time.monotonic()
        self.shown: Progress | None = None

    def __enter__(self) -> Bar:
        return self

    def advance(self, done: int, total: int) -> None:
        """Says that `done` of `total` are finished."""
        if self.shown is None:
            if os.environ.get("RANK", "0") != "0" or not sys.stderr.isatty() or time.monotonic() - self.started < PATIENCE:
                return
            columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self.shown.start()
            self.task = self.shown.add_task(self.what, total=total)
        self.shown.update(self.task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self.shown is not None:
            self.shown.stop()


class Curves:
    """Rows stage, step, name, value in metrics.csv; a resumed stage replaces the rows after its checkpoint. told: is given all rows after each save."""

    HEADER = ("stage", "step", "name", "value")

    def __init__(self, path: Path | None, told: Told | None = None) -> None:
        self.path, self.told = path, told
        self.rows: dict[tuple[str, int, str], float] = {}
        if path is not None and path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    self.rows[row["stage"], int(row["step"]), row["name"]] = float(row["value"])

    def log(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Keeps the values of one step."""
        for name, value in values.items():
            self.rows[stage, step, name] = value

    def save(self) -> None:
        """Writes the file. Atomic."""
        if self.path is None:
            return
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.HEADER)
        writer.writerows((*key, f"{value:.6g}") for key, value in self.rows.items())
        write_atomic(self.path, text.getvalue())
        if self.told is not None:
            self.told(self.rows)

    def stages(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """stage → name → [(step, value)], in order of writing."""
        found: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for (stage, step, name), value in self.rows.items():
            found.setdefault(stage, {}).setdefault(name, []).append((step, value))
        return found
