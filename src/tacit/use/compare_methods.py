"""`tacit compare --methods … --data FOLDER --truth MASKS -o OUT`: methods run, or runs collected, and put into one table that can be made again.

plan → each row in a process of its own (finished ones are kept) → score the pictures that all rows answered → tables, overlays, report
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256
from tacit.read.folder import count_masks, find_cases, find_truth, named_files, read_grades
from tacit.read.labels import read_labels
from tacit.report.methods import common, kept, of_method, paired
from tacit.report.score import Tally
from tacit.report.track import Bar
from tacit.run import Run, open_run
from tacit.use.device import prepare_device
from tacit.use.method_rows import Row, check_alike, command_of, cost, given, make, on_test, plan, record_of
from tacit.use.report_methods import write_methods_report
from tacit.use.score_masks import Scored, masks_of, score_masks

COLLAPSED = "collapsed:"
ENOUGH = 0.5  # share of the pictures that a row must answer to be in the table


@dataclass(frozen=True)
class MethodsResult:
    """What a comparison came to. methods: label → part (data, test) → what `report.methods.of_method` gives, with naming and cost; paired: see there."""

    folder: Path
    methods: dict[str, dict[str, Any]]
    paired: list[dict[str, Any]]
    failed: list[str]  # rows that failed or collapsed, with why
    warnings: list[str]


@dataclass(frozen=True)
class Part:
    """Pictures on which all rows are scored: those of --data, or those of --test."""

    name: str
    scored: dict[str, list[Scored]]  # label → one a seed
    runs: dict[str, Path]  # label → the run whose overlays are shown
    pictures: list[str]  # that all rows have


def compare_methods(
    out: str | Path,
    *,
    truth: str | Path,
    runs: Sequence[str | Path] = (),
    methods: Sequence[str] = (),
    data: str | Path | None = None,
    test: str | Path | None = None,
    seeds: Sequence[int] = (0,),
    clusters: Sequence[int] = (2, 5),
    against: str | None = None,
    groups: str | Path | None = None,
    field: str | Path | None = None,
    budget: str = "full",
    mpp: float | None = None,
    learn_from: int = 400,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    set: Sequence[str] | None = None,
) -> MethodsResult:
    """Runs methods on `data` (and applies them to `test`), or collects runs of `tacit segment`, and scores all against `truth`.

    Clusters without names are named by the truth of the scored pictures, and their rows say so; no truth reaches a run. against: the label that the
    others are tested against (default: the first row) · groups: CSV case,class[,patient], such as benign and malignant; a Grade.csv beside the truth is
    read by itself · field: folder of fields of view · seed: of the bootstrap. A row that fails is named in failures.csv, the others go on. Raises
    TacitError for what no row could do, and where runs saw or learnt from different pictures.
    """
    _check(runs, methods, data, test, seeds, clusters)
    folder = Path(out)
    options = ["--budget", budget, "--learn-from", str(learn_from), *(["--mpp", str(mpp)] if mpp is not None else [])]
    rows = [
        *plan(folder, methods, seeds, clusters, [*options, "--device", device, "--threads", str(threads)], list(set or [])),
        *given([Path(r) for r in runs]),
    ]
    labels = list(dict.fromkeys(row.label for row in rows))
    if against is not None and against not in labels:
        raise UsageError(f"--against {against!r} is no row; rows are {', '.join(labels)}")
    settings = {
        "compare": {
            "data": str(data) if data else None, "truth": str(truth), "test": str(test) if test else None, "field": str(field) if field else None,
            "groups": str(groups) if groups else None, "budget": budget, "mpp": mpp, "learn_from": learn_from, "seed": seed, "set": list(set or []),
        }
    }  # fmt: skip
    command = command_of(
        out, runs, compare_methods.__kwdefaults__, methods=tuple(methods), data=data, truth=truth, test=test, seeds=tuple(seeds), clusters=tuple(clusters),
        against=against, groups=groups, field=field, budget=budget, mpp=mpp, learn_from=learn_from, seed=seed, device=device, threads=threads, set=list(set or []),
    )  # fmt: skip
    device = prepare_device(device, threads)
    reads = [*(named_files(data) if data else []), *(named_files(test) if test else []), truth, groups, field, *runs]
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run:
        run.failures.clear()  # what failed before is tried again
        hashes = _hashes(data, test, groups)
        run.check_same(hashes, data or "the runs")
        run.record |= {"inputs": hashes, "seed": seed, "device": device, "uses_labels": True, "rows": [row.name for row in rows]}
        done = _made(rows, data, test, run)
        check_alike(done)
        who, kinds = _facts(Path(truth), groups)
        parts = [_scored("data", done, Path(truth), field, False, run)]
        if test is not None:
            parts.append(_scored("test", done, Path(truth), field, True, run))
        found, differences = _figures(parts, done, against, who, kinds, seed)
        _say_extra(Path(truth), parts, run)
        run.record |= {"methods": found, "paired": differences, "ok": len(done)}
        write_methods_report(run, settings, parts, found, differences, Path(truth))
        run.record["status"] = "finished"
        run.save_record()
        return MethodsResult(folder, found, differences, [f"{name}: {why}" for name, why, _ in run.failures], run.record["warnings"])


def _check(
    runs: Sequence[str | Path], methods: Sequence[str], data: str | Path | None, test: str | Path | None, seeds: Sequence[int], clusters: Sequence[int]
) -> None:
    if not methods and not runs:
        raise UsageError("nothing to compare: name --methods and their --data, or RUNs of tacit segment")
    if bool(methods) != bool(data):
        raise UsageError("--methods and --data go together: the methods learn from the pictures of --data")
    if test is not None and not methods:
        raise UsageError("--test is for --methods: a RUN is scored on the pictures that it answered")
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"--seeds {','.join(map(str, seeds))}: expected numbers from 0, each once")
    if not clusters or len({*clusters}) < len(clusters):
        raise UsageError(f"--clusters {','.join(map(str, clusters))}: expected numbers of clusters, each once")
    if data is not None and any(Path(str(s)).suffix.lower() == ".zip" for s in (data, test)):
        raise UsageError("a zip cannot be compared on: every row would unpack it; unpack it and give the folder")


def _hashes(data: str | Path | None, test: str | Path | None, groups: str | Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, source in (("data", data), ("test", test)):
        if source is not None:
            with Bar(f"hashing {name}") as bar:
                found |= {f"{name}: {k}": v for k, v in find_cases(source).hashes(bar.advance).items()}
    return found | ({"groups": sha256(Path(groups))} if groups else {})


def _made(rows: list[Row], data: str | Path | None, test: str | Path | None, run: Run) -> list[Row]:
    """Runs every row; gives those that have answers. Raises InputError where none has."""
    done = []
    with Bar("methods") as bar:
        for index, row in enumerate(rows):
            error = make(row, str(data), str(test) if test is not None else None)
            if error is not None:
                run.fail(row.name, error)
            else:
                done.append(row)
                run.say(f"{row.name}: done")
            run.save_record()
            bar.advance(index + 1, len(rows))
    if not done:
        raise InputError(f"none of {len(rows)} rows has answers; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    return done


def _facts(truth: Path, groups: str | Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """picture → patient, and → group."""
    if groups is not None:
        labels = read_labels(groups)
        stem = lambda names: {Path(k).stem: v for k, v in names.items()}
        return stem(labels.patient), stem(labels.of)
    table = read_grades(truth)
    if table is None:
        return {}, {}
    columns = {c: {n: v for n, v in zip(table["name"], table[c], strict=True) if v is not None} for c in ("patient", "label")}
    return columns["patient"], columns["label"]


def _scored(name: str, rows: list[Row], truth: Path, field: str | Path | None, test: bool, run: Run) -> Part:
    """Scores every row on the pictures of a part; rows that cannot be scored are named and left out."""
    scored: dict[str, list[Scored]] = {}
    places: dict[str, Path] = {}
    for row in rows:
        place = on_test(row) if test else row.folder
        try:
            found = score_masks(place, truth, Path(field) if field else None)
        except (InputError, ReadError) as error:
            run.fail(row.name, ReadError(row.name, f"{name}: {error}", "see its log.txt in runs/"))
            continue
        for failure in found.failures:
            run.fail(failure.path, failure)
        scored.setdefault(row.label, []).append(found)
        places.setdefault(row.label, place)
        _warn_of(row, place, found, name, run)
    most = max((len(s.tallies) for seeds in scored.values() for s in seeds), default=0)
    for label in [label for label, seeds in scored.items() if any(len(s.tallies) < ENOUGH * most for s in seeds)]:
        few = min(len(s.tallies) for s in scored.pop(label))
        run.fail(label, ReadError(label, f"{name}: it answered {few} of {most} pictures, too few for the table", "see failures.csv of its run"))
    if not scored:
        raise InputError(f"no row could be scored against {truth}; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    return Part(name, scored, places, sorted(common({label: [s.tallies for s in seeds] for label, seeds in scored.items()})))


def _warn_of(row: Row, place: Path, found: Scored, part: str, run: Run) -> None:
    """Clusters that collapsed, pictures that a run could not answer, truth that is missing: named as failures, the row stays."""
    record = record_of(place)
    for line in record.get("warnings", []):
        if line.startswith(COLLAPSED):
            run.fail(row.name, ReadError(row.name, line.rstrip("."), "another seed, or other settings; the row is in the table as it is"))
    if record.get("failed"):
        run.fail(row.name, ReadError(row.name, f"{part}: {record['failed']} pictures failed", f"see {place.name}/failures.csv in runs/"))
    for name in found.missing:
        run.fail(name, ReadError(name, "there is no truth of this name, so it does not count", "give its mask, or leave the picture out"))


def _say_extra(truth: Path, parts: list[Part], run: Run) -> None:
    answered = {name for part in parts for place in part.runs.values() for name in masks_of(place)}
    extra = count_masks(truth) - len(find_truth(truth, sorted(answered)))
    left_out = {part.name: max(len(s.tallies) for seeds in part.scored.values() for s in seeds) - len(part.pictures) for part in parts}
    warnings = [f"{extra} true masks have no picture here and do not count."] if extra > 0 else []
    warnings += [f"{n} pictures of {name} count for no row, since some row has no answer about them." for name, n in left_out.items() if n]
    warnings += [f"{part.name} is one picture: its figures have no interval." for part in parts if len(part.pictures) == 1]
    run.record["warnings"] = warnings


def _figures(
    parts: list[Part], rows: list[Row], against: str | None, who: dict[str, str], kinds: dict[str, str], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What each label comes to on each part, and the differences on the last part, on pictures that all rows have."""
    found: dict[str, Any] = {}
    tallies: dict[str, list[dict[str, Tally]]] = {}
    patients: dict[str, str] = {}
    for part in parts:
        if not part.pictures:
            raise InputError(f"no picture of {part.name} was answered by all rows; see failures.csv of the runs")
        tallies = kept({label: [s.tallies for s in seeds] for label, seeds in part.scored.items()}, {*part.pictures})
        patients = {p: who.get(p, p) for p in part.pictures}
        for label, seeds in part.scored.items():
            own = [row for row in rows if row.label == label]
            costs = [cost(row) for row in own]
            found.setdefault(
                label,
                {
                    "seeds": [row.seed for row in own],
                    "naming": seeds[0].how,
                    "seconds": sum(c["seconds"] for c in costs) / len(costs),
                    "peak_mb": max(c["peak_mb"] for c in costs),
                    "parts": {},
                },
            )["parts"][part.name] = of_method(tallies[label], patients, kinds, seed)
    first = against if against in tallies else next(iter(tallies))
    return found, paired(tallies, first, patients, seed)
