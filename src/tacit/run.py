"""A run folder: what was asked, on what, with what, and what came of it; locked while it is written, resumable after.

OUT/
  run.json       command, versions, device, seed, inputs with hashes, counts, times, peak memory, status
  config.toml    every setting, as used
  log.txt        what happened, line by line
  metrics.csv    curves of learning
  failures.csv   file, reason, remedy of every item that failed
  checkpoints/   state of an unfinished run      model/   what was learnt
  track/         what --track wrote for W&B, TensorBoard, MLflow
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from tacit.cases import Cases
from tacit.config import Config, read_toml, to_toml
from tacit.errors import OutputError, ReadError, StorageError, UsageError
from tacit.files import storage_error, to_resume, write_atomic
from tacit.run_folder import check_apart, clear, take

SECRET = ("salt",)  # options that no record may hold
PACKAGES = ["tacit", "torch", "numpy", "opencv-python-headless", "pillow", "scikit-image", "scipy", "timm", "segmentation-models-pytorch"]


@dataclass
class Run:
    """An open run folder. Use `open_run`, which locks it and closes it whatever happens."""

    folder: Path
    record: dict[str, Any]
    failures: list[tuple[str, str, str]] = field(default_factory=list)  # file, reason, remedy
    earlier: dict[str, Any] = field(default_factory=dict)  # run.json of the run that is resumed
    writes: bool = True  # False: a further process of the run, which the first one writes for
    hashes: dict[str, str] = field(default_factory=dict)  # of the files that the run reads
    told: Callable[[dict[tuple[str, int, str], float]], None] | None = None  # is given the rows of metrics.csv whenever they are saved
    _clock: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        """Appends a line to log.txt."""
        if not self.writes:
            return
        try:
            with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{time.monotonic() - self._clock:9.1f}s  {line}\n")
        except OSError as error:
            raise storage_error(self.folder / "log.txt", error) from error

    def fail(self, path: object, error: ReadError) -> None:
        """Lists an item that could not be used; the batch goes on."""
        row = (str(path), error.reason, error.remedy)
        if self.writes and row not in self.failures:
            self.failures.append(row)
            self.say(f"failed: {error}")

    def check_same(self, hashes: dict[str, str], where: object) -> None:
        """Keeps the fingerprint of the files that the run reads. Raises OutputError where the run that is resumed began with others."""
        self.hashes, data = hashes, Cases.fingerprint(hashes)
        if self.earlier.get("data", data) != data:
            raise OutputError(f"--resume wants the files of the first run, but some in {where} have changed since; use --overwrite")
        self.record["data"] = data

    @property
    def finished_before(self) -> bool:
        """Whether the run that is resumed had nothing left to do."""
        return self.record is self.earlier

    @property
    def seconds(self) -> float:
        """Wall seconds so far, earlier sittings of a resumed run included."""
        return float(self.record.get("seconds_before", 0.0)) + time.monotonic() - self._clock

    def save_record(self) -> None:
        """Writes run.json and failures.csv as they stand."""
        self.record["seconds"] = round(self.seconds, 2)
        self.record["failed"] = len(self.failures)
        self.record["peak_mb"] = max(peak_mb(), float(self.earlier.get("peak_mb") or 0.0))
        write_atomic(self.folder / "run.json", json.dumps(self.record, indent=1, ensure_ascii=False, default=str) + "\n")
        write_atomic(self.folder / "failures.csv", as_csv(("file", "reason", "remedy"), self.failures))


def as_csv(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Rows as CSV text with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue()


@contextlib.contextmanager
def open_run(
    out: str | Path,
    *,
    command: str,
    settings: dict[str, Any],
    reads: Iterable[str | Path | None],
    resume: bool | None = None,
    overwrite: bool = False,
    reopen: bool = False,
) -> Iterator[Run]:
    """Opens OUT for one run: empty, or its own to `resume`, or to `overwrite`; locked against a second process.

    settings: everything that decides the result; a resumed run must have the same. reads: every path that the run reads — none
    may lie in an OUT that is replaced; what is no path on this disk (None, a name) is passed over. resume: None where the verb has no
    such option, so that no message recommends it. reopen: a finished run that is resumed is gone on with, since it may be given more
    than before. Raises OutputError.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"OUT {folder} is a file; give a folder")
    present = {p.name for p in folder.iterdir()} if folder.exists() else set()
    if resume and present - {".lock"} and "run.json" not in present:
        raise OutputError(f"OUT {folder} holds files but no run.json, so there is no run to resume; give another folder")
    if present - {".lock"} and (overwrite or not resume):
        check_apart(folder, reads)
    if present - {".lock"} and not (resume or overwrite):
        ways = "give another folder, or" if resume is None else "give another folder, --resume to finish the run in it, or"
        raise OutputError(f"OUT {folder} is not empty; {ways} --overwrite to replace it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise storage_error(folder, error) from error
    with lock:
        take(lock, folder)
        if overwrite:
            clear(folder, present)
        earlier = _earlier(folder, settings) if resume else {}
        run = Run(folder, earlier if earlier.get("status") == "finished" and not reopen else _record(command, earlier), earlier=earlier)
        if resume:
            run.failures = _earlier_failures(folder)
        try:
            if run.finished_before:
                yield run  # nothing is missing, nothing is written
            else:
                run.save_record()
                write_atomic(folder / "config.toml", to_toml(settings))
                run.say(("resumed: " if resume else "") + command)
                yield from _kept(run)
        except UsageError:
            if not earlier and not run.failures:  # refused before anything was done: the corrected command finds OUT as it was
                clear(folder, {p.name for p in folder.iterdir()})
            raise
        except StorageError as error:
            if resume is None:
                raise
            raise to_resume(error) from error
        finally:
            with contextlib.suppress(OSError):
                (folder / ".lock").unlink()


def joined_run(out: str | Path) -> Run:
    """The run in OUT that the first of several processes has opened, for another one: it reads and writes nothing."""
    record = _read_record(Path(out))
    return Run(Path(out), record, earlier=record if record.get("status") == "finished" else {}, writes=False)


def _kept(run: Run) -> Iterator[Run]:
    """Gives the run away, and writes how it ended whatever happens."""
    try:
        yield run
    except KeyboardInterrupt:
        run.record["status"] = "interrupted"
        run.save_record()
        raise
    except BaseException as error:
        run.record["status"] = f"stopped: {type(error).__name__}"
        with contextlib.suppress(Exception):  # the disk may be the very reason; the first error is the one to show
            run.say(f"stopped: {error}")
            run.save_record()
        raise
    run.record["status"] = "finished"
    run.save_record()


def command_line(verb: str, source: str | Path, out: str | Path, defaults: dict[str, Any] | None = None, /, **options: Any) -> str:
    """The command that repeats a run. Options that are None, False or their default are left out, lists repeated; a salt is never written.

    defaults: those of the verb's function (its `__kwdefaults__`), which are those of the command line.

    >>> command_line("audit", "my scans", "out", {"near": 5, "seed": 0}, near=3, seed=0, keep_identifiers=True, salt="secret")
    "tacit audit 'my scans' -o out --near 3 --keep-identifiers"
    >>> command_line("phantom", "tissue", "out", n=4, set=["nuclei.size=2", "stroma=0"])
    'tacit phantom tissue -o out -n 4 --set nuclei.size=2 --set stroma=0'
    """
    words = ["tacit", *verb.split(), str(source), "-o", str(out)]
    for name, given in options.items():
        flag = f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}"
        if given is None or given is False or name in SECRET or (name in (defaults or {}) and given == (defaults or {})[name]):
            continue
        for value in given if isinstance(given, (list, tuple)) else [given]:
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def _earlier(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """run.json of the run to be resumed, {} where it died before writing one. Raises OutputError where the settings differ."""
    if not (folder / "run.json").exists():
        return {}
    earlier = _read_record(folder)
    change = difference(read_toml(folder / "config.toml"), json.loads(json.dumps(settings, default=str)))
    if change:
        raise OutputError(f"--resume wants the settings of the first run, but {change}; repeat the first command or use --overwrite")
    return earlier


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise OutputError(f"{folder}/run.json cannot be read ({error}); use --overwrite to start anew") from error
    return record


def _record(command: str, earlier: dict[str, Any]) -> dict[str, Any]:
    return {
        **earlier,
        "command": command,
        "status": "running",
        "started": earlier.get("started", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
        "seconds_before": earlier.get("seconds", 0.0),
        "versions": versions(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": platform.python_version(), "cores": os.cpu_count()},
    }


def _earlier_failures(folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "failures.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(r["file"], r["reason"], r["remedy"]) for r in csv.DictReader(file)]


def difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """The first setting that differs, in words; "" where none does. None and absent are the same."""
    for key in sorted(set(before) | set(now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) or isinstance(new, dict):
            inner = difference(old or {}, new or {}, f"{prefix}{key}.")
            if inner:
                return inner
        elif old != new:
            return f"{prefix}{key} was {old!r} and is now {new!r}"
    return ""


def versions() -> dict[str, str]:
    """Version of Python and of each package that decides a result."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def peak_mb() -> float:
    """The most memory that this process has held so far, in MB (2²⁰ bytes); everything in it counts, not the run alone."""
    status = Path("/proc/self/status")
    if status.exists():  # of the program itself; what getrusage says includes the process that started it
        return round(
            next(int(line.split()[1]) for line in status.read_text(encoding="ascii", errors="replace").splitlines() if line.startswith("VmHWM")) / 1024, 1
        )
    kilo = 1 if platform.system() == "Linux" else 1024  # macOS counts bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / kilo / 1024, 1)


def plain(settings: Config) -> dict[str, Any]:
    """A config as nested plain values, ready for TOML and JSON."""
    return dict(settings.model_dump(mode="json"))
