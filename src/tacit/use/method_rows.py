"""The rows of a table of methods: which runs they ask for, and those runs, each in a process of its own, so that none can stop the others.

A row is a method, for clusters a number of them, and a seed; its run is an ordinary `tacit segment` in OUT/runs, resumed where it is there already.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit.config import read_toml
from tacit.errors import SOME_FAILED, InputError, ReadError, UsageError
from tacit.learn.methods import METHODS
from tacit.learn.rivals import K_MEANS, LEARNT_BEFORE_K, RIVALS
from tacit.learn.structures import STRUCTURES
from tacit.run import command_line

RULES = ("haematoxylin", "mssg-paper", "vessel-filters", "lung-rule")  # they learn nothing from a folder
PASSED = ("--mpp", "--device", "--threads")  # words that the application of a model has too
REMEDY = "see its log.txt in runs/; mend it and repeat the command with --resume, the other rows are kept"


@dataclass(frozen=True)
class Row:
    """One run to be made or that is there. Made by `plan` or `given`."""

    label: str  # as the table has it: the method, for clusters with their number
    seed: int
    words: tuple[str, ...]  # of the command, after INPUT and -o OUT; () for a run that is there
    folder: Path
    shares: Path | None = None  # the run whose learning it uses

    @property
    def name(self) -> str:
        """Of the row in messages and folders."""
        return f"{self.label} seed {self.seed}"


def plan(out: Path, methods: Sequence[str], seeds: Sequence[int], clusters: Sequence[int], options: Sequence[str], settings: Sequence[str]) -> list[Row]:
    """The rows of all methods, numbers of clusters and seeds. options: words for every run; settings: METHOD.name=value.

    A method is a name of `tacit segment --method`, or k-means:RUN for the features of an earlier run. Raises UsageError for an unknown one.
    """
    own = _settings(methods, settings)
    rows = []
    for asked in methods:
        method, _, run = asked.partition(":")
        label = f"{method}:{Path(run).name}" if run else method
        for seed in seeds:
            first: Path | None = None
            for k in clusters if method in RIVALS else (None,):
                name = f"{label.replace(':', '-')}{f'-k{k}' if k else ''}-seed{seed}"
                words = ["--method", method, *(["--model", run] if run else []), *own.get(asked, own.get(method, []))]
                shares = first if first is not None and method in LEARNT_BEFORE_K else None
                if shares is not None:
                    words = ["--method", K_MEANS, "--model", str(shares)]
                words += ["--set", f"clusters={k}"] if k else []
                rows.append(Row(f"{label} k={k}" if k else label, seed, (*words, "--seed", str(seed), *options), out / "runs" / name, shares))
                first = first or rows[-1].folder
    return rows


def given(runs: Sequence[Path]) -> list[Row]:
    """Rows of runs that are there. Runs of one method, alike but for the seed, are one row of the table."""
    found = []
    for run in runs:
        record, settings = record_of(run), read_toml(run / "config.toml")
        method = settings.get("segment", {}).get("method")
        if not str(record.get("command", "")).startswith("tacit segment ") or method is None:
            raise InputError(f"{run} is no run of tacit segment; give the OUT of one")
        k = len(record.get("classes", [])) if method in RIVALS else None
        found.append(Row(f"{method} k={k}" if k else str(method), int(record["seed"]), (), Path(run)))
    for row in found:
        twins = [r for r in found if (r.label, r.seed) == (row.label, row.seed)]
        if len(twins) > 1:  # one method under other settings
            return [Row(r.folder.name, r.seed, (), r.folder) for r in found]
    return found


def make(row: Row, data: str, test: str | None) -> ReadError | None:
    """Runs what the row asks for, and its model on `test`. Gives why it failed, in one line, or None; pictures that failed are the run's own affair."""
    commands = [[data, "-o", str(row.folder), *row.words]] if row.words else []
    if test is not None:
        commands.append([test, "-o", str(on_test(row)), "--model", str(row.folder), *_kept_for_test(row.words)])
    for words in commands:
        done = subprocess.run([sys.executable, "-m", "tacit", "segment", *words, "--resume"], capture_output=True, text=True, check=False)
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode not in (0, SOME_FAILED):
            said = [line for line in done.stderr.splitlines() if line.startswith("tacit: ")]
            reason = said[-1].removeprefix("tacit: ") if said else f"it ended with exit code {done.returncode}"
            return ReadError(row.name, reason, REMEDY)
    return None


def command_of(out: str | Path, runs: Sequence[str | Path], defaults: dict[str, Any] | None, **options: Any) -> str:
    """The command `tacit compare` that repeats a comparison; runs may be none. Lists stand with commas, settings are repeated."""
    joined = {n: ",".join(map(str, v)) if isinstance(v, (list, tuple)) and n != "set" else v for n, v in options.items() if v != ()}
    first, *rest = [*runs, ""]
    command = command_line("compare", first, out, defaults, **joined).replace("tacit compare '' -o", "tacit compare -o", 1)
    return f"{command} {shlex.join(map(str, rest[:-1]))}".strip()


def on_test(row: Row) -> Path:
    """Where the answers of a row about the other pictures lie."""
    return row.folder.with_name(row.folder.name + "-test")


def record_of(run: Path) -> dict[str, Any]:
    """run.json of a finished run. Raises InputError."""
    try:
        record: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run} is not the folder of a run (its run.json: {error})") from error
    if "data" not in record or record.get("status") != "finished":
        raise InputError(f"{run} is not finished ({record.get('status')}); finish it with --resume")
    return record


def cost(row: Row) -> dict[str, float]:
    """seconds of learning and answering, of what it shares too; peak_mb of memory."""
    records = [record_of(r) for r in (row.folder, row.shares) if r is not None]
    return {"seconds": float(sum(r["seconds"] for r in records)), "peak_mb": max(float(r.get("peak_mb") or 0) for r in records)}


def learnt_from(run: Path) -> tuple[str, dict[str, str]] | None:
    """The fingerprint and the files that the run's network learnt from; None where it learnt nothing, or nobody can tell any more."""
    record, settings = record_of(run), read_toml(run / "config.toml").get("segment", {})
    if settings.get("method") in RULES:
        return None
    if settings.get("model") is None or "learnt_from" in record:
        return (record["data"], record["inputs"]) if record.get("learnt_from") else None
    try:
        return learnt_from(Path(settings["model"]))
    except InputError:
        return None


def check_alike(rows: Sequence[Row]) -> None:
    """Raises UsageError, naming the difference, where two runs saw other pictures or learnt from others."""
    first, record = rows[0], record_of(rows[0].folder)
    taught = next(((r, t) for r in rows if (t := learnt_from(r.folder)) is not None), None)
    for row in rows[1:]:
        other = record_of(row.folder)
        if other["data"] != record["data"]:
            raise UsageError(f"{first.folder} and {row.folder} cannot be compared: {unlike(record['inputs'], other['inputs'])}")
    for row in rows:
        found = learnt_from(row.folder)
        if taught is not None and found is not None and found[0] != taught[1][0]:
            raise UsageError(f"{taught[0].folder} and {row.folder} cannot be compared, they learnt from other pictures: {unlike(taught[1][1], found[1])}")


def unlike(a: dict[str, str], b: dict[str, str]) -> str:
    """How two sets of images differ, in words."""
    only_a, only_b = sorted(set(a) - set(b)), sorted(set(b) - set(a))
    if only_a or only_b:
        return f"{len(only_a)} images are only in the first, {len(only_b)} only in the second (for example {(only_a or only_b)[0]})"
    changed = next(n for n in sorted(a) if a[n] != b[n])
    return f"the image {changed} has other content"


def _settings(methods: Sequence[str], settings: Sequence[str]) -> dict[str, list[str]]:
    """METHOD.name=value as words for each method."""
    known = METHODS | STRUCTURES
    for asked in methods:
        name, _, run = asked.partition(":")
        if name not in known or (run and name != K_MEANS):
            raise UsageError(f"--methods {asked!r} is unknown; known are {', '.join(known)}, and {K_MEANS}:RUN")
    if len(set(methods)) < len(methods):
        raise UsageError(f"--methods {','.join(methods)}: one is named twice")
    found: dict[str, list[str]] = {}
    for given_ in settings:
        method = next((m for m in sorted(methods, key=len, reverse=True) if given_.startswith(f"{m.partition(':')[0]}.")), None)
        if method is None or "=" not in given_:
            raise UsageError(f"--set {given_!r}: expected METHOD.setting=value, METHOD one of {', '.join(methods)}")
        found.setdefault(method, []).extend(["--set", given_.removeprefix(f"{method.partition(':')[0]}.")])
    return found


def _kept_for_test(words: Sequence[str]) -> list[str]:
    """The words of a run that its model's application has too."""
    return [w for at, w in enumerate(words) for before in [words[at - 1] if at else ""] if w in PASSED or before in PASSED]
