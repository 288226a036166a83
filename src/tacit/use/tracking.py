"""`--track`: what a verb's run says to trackers, from its folder: curves while it learns, figures, tables, data and model at the end."""

from __future__ import annotations

import contextlib
import math
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from tacit.report.track import Curves
from tacit.report.tracked import Tracked
from tacit.report.trackers.contract import About, Outcome, curve_name
from tacit.run import Run

FOLDER = "track"
ASIDE = ("versions", "machine", "inputs", "started", "seconds_before", "litres")  # of run.json: no result, or one with a case's name


def curves_of(run: Run) -> Curves:
    """metrics.csv of a run, told to its trackers whenever it is saved."""
    return Curves(run.folder / "metrics.csv" if run.writes else None, run.told)


@contextlib.contextmanager
def tracked(run: Run, track: list[str] | None, verb: str, settings: dict[str, Any]) -> Iterator[None]:
    """Tells the trackers in `track` how the run goes and, whatever happens, how it ends. A run that was finished before tells nothing."""
    names = track or []
    if not names or not run.writes or run.finished_before:
        yield
        return
    run.record.setdefault("track", secrets.token_hex(6))
    run.save_record()
    facts = {name: run.record[name] for name in ("versions", "machine")}
    about = About(run.record["track"], verb, run.record["command"], settings, facts)

    def say(line: str) -> None:
        run.say(line)
        print(line, file=sys.stderr)

    told = Tracked(names, run.folder / FOLDER, about, say)
    run.told = told
    status = "stopped"
    try:
        yield
        status = "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        with contextlib.suppress(OSError):  # the disk may be the very reason; the first error is the one to show
            _finish(run, told, status)


def _finish(run: Run, told: Tracked, status: str) -> None:
    found = numbers({k: v for k, v in run.record.items() if k not in ASIDE}) | {"seconds": round(run.seconds, 2), "failed": float(len(run.failures))}
    figures = {curve_name("final", name): value for name, value in found.items()} if status == "finished" else {}
    hashes = run.hashes or run.record.get("inputs", {})
    model = run.folder / "model" if status == "finished" and (run.folder / "model").is_dir() else None
    outcome = Outcome(status, figures, run.folder, run.record.get("data", ""), tuple(sorted(set(hashes.values()))), model)
    told.finish(Curves(run.folder / "metrics.csv").rows, outcome)


def numbers(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Every finite number of nested tables by its path; a pair of numbers is an interval, lists of other things are left out.

    >>> numbers({"auc": 0.9, "interval": {"auc": [0.8, 1.0]}, "names": ["a"], "done": True})
    {'auc': 0.9, 'interval/auc/low': 0.8, 'interval/auc/high': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, list) and len(value) == 2 and all(_number(v) for v in value):
            found |= {f"{prefix}{name}/low": float(value[0]), f"{prefix}{name}/high": float(value[1])}
        elif _number(value):
            found[f"{prefix}{name}"] = float(value)
    return found


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
