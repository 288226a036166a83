"""`tacit compare RUN… --jobs few-label,query`: what pretraining is worth, a row for each run of `tacit pretrain`, a column for each job.

few-label   `tacit segment --labels` begun at the run, taught by the masks of few pictures; mIoU on pictures whose masks taught nobody
query       `tacit index --model RUN`: mean average precision of the k most alike, other patients only
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.cases import Cases
from tacit.config import to_toml
from tacit.errors import SOME_FAILED, InputError, ReadError, TacitError, UsageError
from tacit.files import write_atomic
from tacit.read.folder import find_cases, find_truth, named_files
from tacit.report.methods import of_method
from tacit.report.page import page
from tacit.report.track import Bar
from tacit.run import Run, as_csv, open_run
from tacit.use.device import prepare_device
from tacit.use.evaluate_query import evaluate_query
from tacit.use.method_rows import command_of, record_of, unlike
from tacit.use.report_methods import ends, spread
from tacit.use.score_masks import score_masks

JOBS = ("few-label", "query")


@dataclass(frozen=True)
class JobsResult:
    """What a comparison came to. rows: RUN → column → {"mean", "sd", "interval"}."""

    folder: Path
    rows: dict[str, dict[str, dict[str, Any]]]
    failed: list[str]


def compare_jobs(
    runs: Sequence[str | Path],
    out: str | Path,
    *,
    jobs: Sequence[str],
    data: str | Path,
    truth: str | Path | None = None,
    labels: str | Path | None = None,
    shots: Sequence[int] = (1, 5),
    k: int = 10,
    seeds: Sequence[int] = (0,),
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    set: Sequence[str] | None = None,
) -> JobsResult:
    """One row a RUN of `tacit pretrain`, one column a job (few-label: one a number of masks).

    truth: masks of pictures of `data`, for few-label; which pictures teach is a draw of each seed, the same for all RUNs, and the larger numbers hold the
    smaller; those that teach in none are scored · labels: for query, CSV or Parquet with a column path (or name) and a column label, and patient where it
    is known · set: settings of `tacit segment --labels`. A cell that fails is named, the others go on. Raises UsageError where the RUNs learnt from different pictures.
    """
    folders = [Path(r) for r in runs]
    _check(folders, jobs, truth, labels, shots)
    settings = {"compare": {"runs": [str(f) for f in folders], "jobs": list(jobs), "data": str(data), "truth": str(truth) if truth else None,
                            "labels": str(labels) if labels else None, "shots": list(shots), "k": k, "set": list(set or [])}}  # fmt: skip
    command = command_of(
        out, folders, compare_jobs.__kwdefaults__, jobs=tuple(jobs), data=data, truth=truth, labels=labels, shots=tuple(shots), k=k, seeds=tuple(seeds), seed=seed,
        device=device, threads=threads, set=list(set or []),
    )  # fmt: skip
    device = prepare_device(device, threads)
    reads = [*named_files(data), truth, labels, *folders]
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run:
        run.failures.clear()
        cases = find_cases(data)
        with Bar("hashing") as bar:
            run.check_same(cases.hashes(bar.advance), data)
        run.record |= {"seed": seed, "device": device, "uses_labels": True, "images": len(cases)}
        found: dict[str, dict[str, dict[str, Any]]] = {_name(f, folders): {} for f in folders}
        common = ["--device", device, "--threads", str(threads)]
        for folder in folders:
            cells = found[_name(folder, folders)]
            if "few-label" in jobs:
                cells |= _few(
                    folder, _name(folder, folders), cases, str(data), Path(str(truth)), shots, seeds, [*common, *_words("--set", set or [])], seed, run
                )
            if "query" in jobs:
                cells |= _query(folder, _name(folder, folders), str(data), str(labels), k, common, seed, run)
        if not any(found.values()):
            raise InputError(f"no job of any RUN has an answer; the first: {run.failures[0][0]}: {run.failures[0][1]}")
        _write(run, settings, found)
        run.record |= {"jobs": found, "status": "finished"}
        run.save_record()
        return JobsResult(Path(out), found, [f"{name}: {why}" for name, why, _ in run.failures])


def jobs_table(rows: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, str]]:
    """The rows as text: value, SD over seeds, interval."""
    columns = list(dict.fromkeys(c for cells in rows.values() for c in cells))
    return [{"run": name} | {c: f"{spread(cells[c])} {ends(cells[c]['interval'])}" if c in cells else "–" for c in columns} for name, cells in rows.items()]


def _check(folders: Sequence[Path], jobs: Sequence[str], truth: str | Path | None, labels: str | Path | None, shots: Sequence[int]) -> None:
    unknown = [j for j in jobs if j not in JOBS]
    if unknown or not jobs:
        raise UsageError(f"--jobs {','.join(jobs)!r}: known are {', '.join(JOBS)}")
    for job, given, option in (("few-label", truth, "--truth MASKS"), ("query", labels, "--labels CSV")):
        if job in jobs and given is None:
            raise UsageError(f"--jobs {job} needs {option}")
    if not shots or min(shots) < 1:
        raise UsageError(f"--shots {','.join(map(str, shots))}: expected numbers of masks from 1")
    if not folders or len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("--jobs compares RUNs of tacit pretrain: name one or more, each once")
    first = record_of(folders[0])
    for folder in folders:
        record = record_of(folder)
        if not str(record.get("command", "")).startswith("tacit pretrain "):
            raise InputError(f"{folder} is no run of tacit pretrain; --jobs compares what pretraining learnt")
        if record["data"] != first["data"]:
            known = "inputs" in first and "inputs" in record
            why = (
                unlike(first["inputs"], record["inputs"])
                if known
                else f"{first.get('images')} and {record.get('images')} pictures, fingerprints {first['data']} and {record['data']}"
            )
            raise UsageError(f"{folders[0]} and {folder} cannot be compared, they learnt from other pictures: {why}")


def _name(folder: Path, folders: Sequence[Path]) -> str:
    return folder.name if len({f.name for f in folders}) == len(folders) else str(folder)


def _words(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _few(
    folder: Path, name: str, cases: Cases, data: str, truth: Path, shots: Sequence[int], seeds: Sequence[int], options: list[str], draw: int, run: Run
) -> dict[str, Any]:
    """few-label@n for each n."""
    masks = find_truth(truth, [n for n, _ in cases], like="a picture")
    if len(masks) <= max(shots):
        raise InputError(f"--shots {max(shots)} of {len(masks)} pictures with truth: none is left to be scored; ask for fewer")
    patients = {n: p if p is not None else n for n, p in zip(cases.table["name"], cases.table["patient"], strict=True)}
    cells: dict[str, Any] = {}
    for n in shots:
        scored = []
        for seed in seeds:
            order = [sorted(masks)[i] for i in np.random.default_rng([seed, 41]).permutation(len(masks))]
            rest, out = sorted(order[max(shots) :]), run.folder / "runs" / f"{name.replace('/', '_')}-few{n}-seed{seed}"
            taught = run.folder / "input" / f"few{n}-seed{seed}"
            for picture in order[:n]:
                taught.mkdir(parents=True, exist_ok=True)
                link = taught / masks[picture].name
                if not link.is_symlink():
                    os.symlink(masks[picture].resolve(), link)
            what = f"{name}, few-label@{n} seed {seed}"
            if _done(what, ["segment", data, "-o", str(out), "--labels", str(taught), "--model", str(folder), "--seed", str(seed), *options, "--resume"], run):
                found = score_masks(out, truth).tallies
                scored.append({p: found[p] for p in rest if p in found})
        if len(scored) == len(seeds):
            cells[f"few-label@{n}"] = of_method(scored, patients, {}, draw)["figures"]["miou"]
    return cells


def _query(folder: Path, name: str, data: str, labels: str, k: int, options: list[str], draw: int, run: Run) -> dict[str, Any]:
    index = run.folder / "runs" / f"{name.replace('/', '_')}-index"
    if not _done(f"{name}, query", ["index", data, "-o", str(index), "--model", str(folder), "--patients", labels, *options], run):
        return {}
    try:
        found = evaluate_query(index, k=k, seed=draw)
    except TacitError as error:
        run.fail(name, ReadError(f"{name}, query", str(error), "give --labels with a column label for these pictures"))
        return {}
    figure = f"average_precision@{k}"
    return {f"query AP@{k}": {"mean": found["figures"][figure], "sd": None, "interval": found["interval"][figure]}}


def _done(what: str, words: list[str], run: Run) -> bool:
    """Whether a command in a process of its own came to an end; else what it said is a failure."""
    done = subprocess.run([sys.executable, "-m", "tacit", *words], capture_output=True, text=True, check=False)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode in (0, SOME_FAILED):
        return True
    said = [line for line in done.stderr.splitlines() if line.startswith("tacit: ")]
    run.fail(
        what, ReadError(what, said[-1].removeprefix("tacit: ") if said else f"exit code {done.returncode}", "mend it and repeat the command with --resume")
    )
    return False


def _write(run: Run, settings: dict[str, Any], found: dict[str, dict[str, dict[str, Any]]]) -> None:
    rows = jobs_table(found)
    flat = [(name, column, v["mean"], v["sd"], *(v["interval"] or ("", ""))) for name, cells in found.items() for column, v in cells.items()]
    write_atomic(run.folder / "tables" / "jobs.csv", as_csv(("run", "job", "value", "sd", "low", "high"), flat))
    note = "few-label@n: mIoU after n masks, on pictures whose masks teach in no number; query: mean average precision. ± SD over seeds, 95% over patients."
    text = page(
        title=f"{len(found)} pretrained networks, {len(rows[0]) - 1} columns of jobs",
        subtitle="Tacit compare --jobs: features learnt without labels, judged by what few labels make of them",
        facts=[("command", run.record["command"]), ("images", str(run.record["images"])), ("seconds", f"{run.seconds:.0f}")],
        galleries=[],
        tables=[("Jobs", note, list(rows[0]), [list(r.values()) for r in rows])],
        failures=run.failures,
        settings=to_toml(settings),
    )
    write_atomic(run.folder / "report.html", text)
