"""The verb that learns and names classes: classify fit, classify predict, classify compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.options import Assignments, ConfigFile, Device, GapsChoice, Json, Out, Overwrite, Resume, Seed, Threads, Track
from tacit.cli.printing import close
from tacit.errors import SOME_FAILED

classify = typer.Typer(
    help="Learn the classes of CT series or pictures from few labels (fit), name those of new ones (predict), put such runs side by side (compare).",
    rich_markup_mode=None,
)


@classify.command()
def fit(
    source: Annotated[Path, typer.Argument(metavar="SERIES", help="DICOM trees, volume files, folders of slices, pictures, or an audit's manifest.")],
    out: Out,
    labels: Annotated[Path, typer.Option(help="CSV case,class[,patient].")],
    pipeline: Annotated[
        str,
        typer.Option(
            help="two-level: texture (or --model) of slices, then what they say along a series; end-to-end: a network from pixels to classes; gate: cases of low and of high contrast, each to a pipeline of their own."
        ),
    ] = "two-level",
    model: Annotated[
        str | None,
        typer.Option(
            help="A network, such as covnet-small or 02_COVNet-18 (docs/series_models.md): of end-to-end, or of two-level in place of texture; of gate 09_COVNet-CSR-Gate."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="What its backbone begins with: model/encoder.safetensors of tacit pretrain, or phantom:ct, taught by drawn slices.")
    ] = None,
    unlabelled: Annotated[Path | None, typer.Option(help="Cases without labels that join by the network's own answers.")] = None,
    unit: Annotated[str | None, typer.Option(help="What a case is, where pictures in folders could be either: picture or series.")] = None,
    steps: Annotated[str | None, typer.Option(help="How a case is prepared, as for tacit prepare; else lungs, 1 mm, every fifth slice, 224 px.")] = None,
    gaps: GapsChoice = "refuse",
    no_twins: Annotated[
        bool, typer.Option("--no-twins", help="Leave out the same pipeline on rims, backgrounds and lungs alone (a quarter of the time).")
    ] = False,
    tune: Annotated[int, typer.Option(help="Try so many settings first, on some of the patients; the best is judged on the others.")] = 0,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    config: ConfigFile = None,
    set: Assignments = None,
    as_json: Json = False,
) -> None:
    """Learn to tell classes; every figure is out of fold, no patient on two sides."""
    from tacit.use.classify_fit import classify_fit as run

    result = run(
        source, out, labels=labels, pipeline=pipeline, model=model, weights=weights, unlabelled=unlabelled, unit=unit, steps=steps, gaps=gaps,
        twins=not no_twins, tune=tune, seed=seed, device=device, threads=threads, resume=resume, overwrite=overwrite, track=track, config=config, set=set,
    )  # fmt: skip
    if as_json:
        print(
            json.dumps(
                {"out": str(out), "cases": result.cases, "failed": result.failed, "figures": result.figures, "twins": result.twins, "tuning": result.tuning},
                indent=1,
            )
        )
        if result.failed:
            raise typer.Exit(SOME_FAILED)
        return
    found = result.figures
    print(f"{found['cases']} cases of {found['patients']} patients, out of fold, 95% interval over patients:")
    for name in ("auc", "accuracy", "macro_f1"):
        print(f"  {name:<10} {found[name]:.3f}   [{found['interval'][name][0]:.3f}, {found['interval'][name][1]:.3f}]")
    print(f"  {'class':<14} {'precision':>9} {'recall':>7} {'F1':>7} {'support':>8}")
    for row in found["classes"]:
        print(f"  {row['class']:<14} {row['precision']:>9.3f} {row['recall']:>7.3f} {row['f1']:>7.3f} {row['support']:>8}")
    for kind, values in result.twins.items():
        print(f"  {kind:<16} {_twin(values)}")
    if result.tuning:
        held = result.tuning["held_out"]
        print(f"  settings were searched, so the figures above are optimistic; patients that no trial saw: auc {held['auc']:.3f}, {held['cases']} cases")
    close(out, result.failed, f"tacit classify predict NEW -o OUT2 --model {out}")


@classify.command()
def predict(
    source: Annotated[Path, typer.Argument(metavar="NEW", help="New cases, as for fit; no label is needed.")],
    out: Out,
    model: Annotated[Path, typer.Option(help="OUT of tacit classify fit.")],
    no_pages: Annotated[
        bool, typer.Option("--no-pages", help="Leave out the page and the map of each case: most of the time where a case is one picture.")
    ] = False,
    device: Device = "cpu",
    threads: Threads = 1,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Name the class of new cases, with the spread of the members and each slice's evidence."""
    from tacit.use.classify_predict import classify_predict as run

    result = run(source, out, model=model, pages=not no_pages, device=device, threads=threads, overwrite=overwrite)
    if as_json:
        print(json.dumps({"out": str(out), "cases": result.answers, "failed": result.failed}, indent=1))
        if result.failed:
            raise typer.Exit(SOME_FAILED)
        return
    print(f"{result.cases} cases classified, {result.failed} failed; answers: {out / 'tables' / 'cases.csv'}")
    close(out, result.failed, f"open {out / 'report.html'}")


@classify.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="OUT folders of classify fit (out of fold) or predict; the first is compared with.")],
    out: Out,
    labels: Annotated[Path | None, typer.Option(help="CSV case,class[,patient]; wanted where all are runs of predict.")] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put runs side by side on the same cases: figures, paired differences, tests, and the votes of all."""
    from tacit.use.classify_compare import classify_compare as run

    result = run(runs, out, labels=labels, seed=seed, overwrite=overwrite)
    if as_json:
        shown = {
            "out": str(out),
            "cases": result.cases,
            "left_out": result.left_out,
            "models": result.models,
            "gains": result.gains,
            "warnings": result.warnings,
        }
        print(json.dumps(shown, indent=1))
        return
    print(f"{result.cases} cases that all answered, {result.left_out} left out, 95% interval over patients:")
    wide = max(len(name) for name in result.models)
    for name, found in result.models.items():
        figures = "   ".join(f"{m} {found[m]:.3f} [{found['interval'][m][0]:.3f}, {found['interval'][m][1]:.3f}]" for m in ("auc", "accuracy", "macro_f1"))
        print(f"  {name:<{wide}}   {figures}")
    for gain in result.gains:
        (low, high), p = gain["auc_interval"], gain["delong_p_holm"] if gain["delong_p_holm"] is not None else gain["mcnemar_p_holm"]
        test = "DeLong" if gain["delong_p_holm"] is not None else "McNemar"
        print(f"  {gain['model']} − {gain['first']}: auc {gain['auc']:+.3f} [{low:+.3f}, {high:+.3f}], {test} p {p:.3f} after Holm")
    for line in result.warnings:
        print(f"  {line}", file=sys.stderr)
    close(out, 0, f"open {out / 'report.html'}")


def _twin(values: dict[str, Any]) -> str:
    if "why" in values:
        return f"not taught: {values['why']}"
    low, high = values["interval"]["auc"]
    return f"auc {values['auc']:.3f} [{low:.3f}, {high:.3f}], {values['cases']} cases"
