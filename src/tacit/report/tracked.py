"""A run told to the trackers that were asked for: each row of metrics.csv once, what it came to at the end; a tracker that fails never harms the run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tacit.errors import MissingError, UsageError
from tacit.report.trackers.contract import About, Outcome, Point, Tracker, curve_name
from tacit.report.trackers.to_mlflow import MLflow
from tacit.report.trackers.to_tensorboard import TensorBoard
from tacit.report.trackers.to_wandb import Wandb

TRACKERS: dict[str, Any] = {"wandb": Wandb, "tensorboard": TensorBoard, "mlflow": MLflow}
Key = tuple[str, int, str]  # stage, step, name


def check_trackers(names: list[str]) -> None:
    """Raises UsageError for an unknown tracker, MissingError for one whose package is not installed. Imports none of them."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--track {name!r} is unknown; known are {', '.join(TRACKERS)}")
        missing = [p for p in TRACKERS[name].PACKAGES if importlib.util.find_spec(p) is None]
        if missing:
            raise MissingError(f"--track {name} needs the package {' and '.join(missing)}, which is not installed; pip install 'tacit[track]'")


class Tracked:
    """The trackers of one sitting. Called with the rows of metrics.csv whenever these are saved; a resumed run sends those of earlier sittings first."""

    def __init__(self, names: list[str], folder: Path, about: About, say: Callable[[str], None]) -> None:
        self.say = say
        self.alive: dict[str, Tracker] = {name: TRACKERS[name](folder / name, about) for name in dict.fromkeys(names)}
        self.sent: dict[Key, float] = {}
        self.last = -1  # the place that was sent last
        self.stale = False  # whether what was sent is no longer what metrics.csv says
        self._each(lambda tracker: tracker.begin())

    def __call__(self, rows: dict[Key, float]) -> None:
        """Sends the rows that were not sent yet."""
        points = self._points(rows)
        new = [p for key, p in points.items() if key not in self.sent]
        self.stale |= any(key in self.sent and self.sent[key] != p.value for key, p in points.items()) or any(p.place < self.last for p in new)
        self.sent |= {key: p.value for key, p in points.items()}
        self.last = max([self.last, *(p.place for p in new)])
        if new:
            self._each(lambda tracker: tracker.send(kept) if (kept := [p for p in new if not tracker.has(p)]) else None)

    def finish(self, rows: dict[Key, float], outcome: Outcome) -> None:
        """Sends what is missing, writes stores in OUT anew where rows have changed since they were sent, and closes all."""
        self(rows)
        if self.stale:
            everything = list(self._points(rows).values())
            self._each(lambda tracker: _again(tracker, everything))
        self._each(lambda tracker: tracker.finish(outcome))

    def _points(self, rows: dict[Key, float]) -> dict[Key, Point]:
        """Rows with their places; values as metrics.csv writes them, so that a resumed run sends the same."""
        places: dict[tuple[str, int], int] = {}
        for stage, step, _ in rows:
            places.setdefault((stage, step), len(places))
        found = {key: Point(places[key[:2]], curve_name(key[0], key[2]), key[1], float(f"{value:.6g}")) for key, value in rows.items()}
        return dict(sorted(found.items(), key=lambda pair: pair[1].place))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.alive.items()):
            try:
                do(tracker)
            except Exception as error:  # noqa: BLE001  other people's software: whatever it raises, the run goes on without it
                del self.alive[name]
                words = (str(error).splitlines() or [""])[0]
                self.say(f"--track {name} failed and is left out from here on ({type(error).__name__}: {words}); metrics.csv has all curves")


def _again(tracker: Tracker, points: list[Point]) -> None:
    if tracker.local:
        tracker.begin()
        tracker.send(points)
