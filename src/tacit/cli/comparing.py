"""The verb compare: runs, indexes, methods or pretraining side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.options import Assignments, Device, Json, Overwrite, Resume, Seed, Threads
from tacit.cli.printing import close
from tacit.errors import SOME_FAILED, UsageError


def compare(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="[RUN]...", help="OUT folders of runs on the same data, or indexes of the same images.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="With --truth or --jobs: folder for the runs, tables, overlays and report.")] = None,
    methods: Annotated[str | None, typer.Option(help="Names as of segment --method, with commas; k-means:RUN for the features of a run.")] = None,
    data: Annotated[str | None, typer.Option(help="The pictures that --methods learn from and answer, or that --jobs are done on.")] = None,
    truth: Annotated[Path | None, typer.Option(help="Folder of true masks of the same names; no run sees it.")] = None,
    test: Annotated[str | None, typer.Option(help="Other pictures that what --methods learnt is applied to and scored on.")] = None,
    seeds: Annotated[str, typer.Option(help="One run a seed, with commas.")] = "0",
    clusters: Annotated[str, typer.Option(help="Numbers of clusters for methods without names, with commas.")] = "2,5",
    against: Annotated[str | None, typer.Option(help="The row that the others are tested against; else the first.")] = None,
    groups: Annotated[Path | None, typer.Option(help="CSV case,class[,patient]: groups apart, such as benign and malignant.")] = None,
    field: Annotated[Path | None, typer.Option(help="Folder of fields of view; only what lies inside counts.")] = None,
    budget: Annotated[str, typer.Option(help="Of --methods: full or fast.")] = "full",
    mpp: Annotated[float | None, typer.Option(help="Of --methods: micrometres per pixel of images that do not state it.")] = None,
    learn_from: Annotated[int, typer.Option(help="Of --methods: learn from at most this many images.")] = 400,
    jobs: Annotated[str | None, typer.Option(help="What RUNs of tacit pretrain are compared by: few-label, query, with commas.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Of --jobs query: CSV or Parquet with a column path and a column label, and patient.")] = None,
    shots: Annotated[str, typer.Option(help="Of --jobs few-label: numbers of masks that teach, with commas.")] = "1,5",
    label: Annotated[str, typer.Option(help="Of indexes: the column that holds the classes.")] = "label",
    k: Annotated[int, typer.Option("-k", "--k", help="Of indexes: how many of the most alike count.")] = 10,
    include_same_patient: Annotated[bool, typer.Option("--include-same-patient", help="Of indexes: leave out only the same image.")] = False,
    metric: Annotated[str, typer.Option(help="Of indexes: cosine or euclidean.")] = "cosine",
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    set: Assignments = None,
    as_json: Json = False,
) -> None:
    """Put runs into one table, or encoders by their indexes; run methods and score them (--methods); judge pretraining (--jobs)."""
    how = {"seed": seed, "device": device, "threads": threads, "resume": resume, "overwrite": overwrite, "set": set}
    if jobs is not None:
        if data is None:
            raise UsageError("--jobs needs --data, the pictures that they are done on")
        chosen: dict[str, Any] = {"jobs": _names(jobs), "data": data, "truth": truth, "labels": labels, "shots": _numbers("--shots", shots), "k": k}
        _jobs(runs or [], _needed(out), as_json, seeds=_numbers("--seeds", seeds), **chosen, **how)
    elif methods is not None or truth is not None:
        if truth is None:
            raise UsageError("--methods need --truth MASKS, which scores them and teaches none")
        chosen = {
            "runs": runs or [],
            "methods": _names(methods or ""),
            "data": data,
            "test": test,
            "seeds": _numbers("--seeds", seeds),
            "clusters": _numbers("--clusters", clusters),
        }
        chosen |= {"against": against, "groups": groups, "field": field, "budget": budget, "mpp": mpp, "learn_from": learn_from}
        _methods(_needed(out), as_json, truth=truth, **chosen, **how)
    else:
        if not runs or out is not None:
            raise UsageError("tacit compare RUN… prints a table of runs or indexes; with -o OUT give --truth MASKS, or --jobs")
        _runs(runs, as_json, label=label, k=k, include_same_patient=include_same_patient, metric=metric)


def _runs(runs: list[Path], as_json: bool, **options: Any) -> None:
    from tacit.use.compare import compare as run
    from tacit.use.compare import printed

    rows = run(runs, **options)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(printed(rows))
    if "figures" in rows[0]:
        print(f"{rows[0]['queries']} queries, the same {rows[0]['excluded']} left out, 95% intervals over {rows[0]['over']}; gains over the first row, paired")
        for line in rows[0]["warnings"]:
            print(f"  {line}", file=sys.stderr)


def _methods(out: Path, as_json: bool, **options: Any) -> None:
    from tacit.report.compare import tabulate
    from tacit.use.compare_methods import compare_methods as run
    from tacit.use.report_methods import ends, printed

    result = run(out, **options)
    if as_json:
        print(json.dumps({"out": str(out), "methods": result.methods, "paired": result.paired, "failed": result.failed, "warnings": result.warnings}, indent=1))
    else:
        for part in dict.fromkeys(p for own in result.methods.values() for p in own["parts"]):
            print(f"{part}:")
            print(tabulate(printed(result.methods, part)))
        for row in result.paired:
            print(
                f"  {row['method']} − {row['against']}: mIoU {row['difference']:+.3f} {ends(row['interval'], '+')}, sign test p {row['p_holm']:.3f} after Holm"
            )
    _end(out, as_json, result.failed, result.warnings)


def _jobs(runs: list[Path], out: Path, as_json: bool, **options: Any) -> None:
    from tacit.report.compare import tabulate
    from tacit.use.compare_jobs import compare_jobs as run
    from tacit.use.compare_jobs import jobs_table

    result = run(runs, out, **options)
    print(json.dumps({"out": str(out), "rows": result.rows, "failed": result.failed}, indent=1) if as_json else tabulate(jobs_table(result.rows)))
    _end(out, as_json, result.failed, [])


def _end(out: Path, as_json: bool, failed: list[str], warnings: list[str]) -> None:
    for line in [*warnings, *failed]:
        print(f"  {line}", file=sys.stderr)
    if not as_json:
        close(out, len(failed), f"open {out / 'report.html'}")
    elif failed:
        raise typer.Exit(SOME_FAILED)


def _needed(out: Path | None) -> Path:
    if out is None:
        raise UsageError("this needs -o OUT, the folder for the runs, tables and report")
    return out


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(n) for n in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: expected whole numbers with commas, for example 0,1,2") from error
