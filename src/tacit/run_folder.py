"""OUT before a run writes into it: locked, apart from what is read, and cleared of nothing that Tacit did not write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from tacit.errors import OutputError
from tacit.files import taken

OWN = [
    "images",
    "run.json",
    "manifest.csv",
    "config.toml",
    "log.txt",
    "metrics.csv",
    "failures.csv",
    "checkpoints",
    "model",
    "masks",
    "probability",
    "planes",
    "uncertainty",
    "geojson",
    "tables",
    "figures",
    "report.html",
    "reports",
    "pairs.csv",
    "points.csv",
    "submission.csv",
    "threshold.json",
    "metric.safetensors",
    "items",
    "cases",
    "runs",
    "track",
    "tuned.toml",
    "input",
    "labels",
    "slides",
    "scratch",
    "shards",
    ".lock",
]


def check_apart(folder: Path, reads: Iterable[str | Path | None]) -> None:
    """Refuses an OUT that is, or holds, what the run reads, or the link by which it is reached, or what a link leads to."""
    places = _both_ways(folder)
    for path in reads:
        if path is not None and os.path.lexists(path):
            ways = _both_ways(path)
            if any(way.is_relative_to(place) for way in ways for place in places):
                verb = "is" if ways & places else "holds"
                raise OutputError(f"OUT {folder} {verb} {path}, which this run reads (--overwrite would delete it); give another OUT")


def _both_ways(path: str | Path) -> set[Path]:
    """Where a path lies as it is written, and with its links followed."""
    return {Path(os.path.abspath(path)), Path(os.path.realpath(path))}


def take(lock: IO[str], folder: Path) -> None:
    """Locks what the kernel frees when its owner dies; refuses a folder that another process holds."""
    if not taken(lock):
        raise OutputError(f"OUT {folder} is being written by another run; wait for it or give another folder")


def clear(folder: Path, present: set[str]) -> None:
    """Deletes what Tacit wrote in `folder`, the names `present`. Refuses where other files are there, or a part of the same work still runs."""
    foreign = sorted(present - set(OWN))
    if foreign or (present - {".lock"} and "run.json" not in present):
        raise OutputError(f"--overwrite would delete what Tacit did not write in {folder} ({', '.join(foreign or sorted(present))[:120]}); give another folder")
    for lock in folder.glob("shards/*/.lock"):  # parts of the same work, each a run of its own
        with lock.open("a+") as file:
            take(file, lock.parent)
    for name in present - {".lock"}:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
