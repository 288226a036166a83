"""`tacit classify fit`: cases with classes → a pipeline that classifies new ones, and what it is worth out of fold beside its twins.

find the cases, match the labels → a look without labels → what the pipeline keeps of each → members, scores by patient → twins → keep, report
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.config import build, chosen_settings, merge
from tacit.errors import InputError, UsageError
from tacit.files import sha256, write_atomic
from tacit.learn.case_answers import Kept
from tacit.learn.gated import Gated
from tacit.learn.pipelines import pipeline_named
from tacit.learn.tune import TuneConfig
from tacit.learn.workshop import Workshop
from tacit.prepare.steps import recipe
from tacit.read.folder import named_files
from tacit.read.labels import Labels, read_labels
from tacit.report.class_figures import features_plot
from tacit.report.classes import figures
from tacit.report.tracked import check_trackers
from tacit.run import Run, command_line, open_run, plain
from tacit.use.classify_cases import check_patients, drawn_slices, laid_out, matched, network_of, numbers_of
from tacit.use.classify_members import check_members, fewer_members
from tacit.use.classify_network import hashes_of, network_asked, shelved, weights_of, without_labels
from tacit.use.classify_tune import Tuning, check_tuning, tuned, with_tuning
from tacit.use.cohort import Case, find_cohort
from tacit.use.device import prepare_device
from tacit.use.model import save_model
from tacit.use.report_classify import write_fit_report
from tacit.use.report_gate import Extra, gate_report
from tacit.use.shortcuts import METADATA, metadata_twin
from tacit.use.tracking import curves_of, tracked

CARD = """# A Tacit model

Pipeline `{pipeline}`, {members} members, taught by the classes of {cases} cases of {patients} patients. It uses labels.
Classes: {classes}. Research use only, not a medical device.
"""


@dataclass(frozen=True)
class FitResult:
    """What a run came to. figures: out of fold, as `report.classes.figures` gives them."""

    folder: Path
    cases: int
    failed: int
    figures: dict[str, Any]
    twins: dict[str, dict[str, Any]]
    tuning: dict[str, Any] | None = None  # of --tune: what the settings are worth on patients that no trial saw; the figures above are optimistic then


def classify_fit(
    source: str | Path,
    out: str | Path,
    *,
    labels: str | Path,
    pipeline: str = "two-level",
    model: str | None = None,
    weights: str | Path | None = None,
    unlabelled: str | Path | None = None,
    unit: str | None = None,
    steps: str | None = None,
    gaps: str = "refuse",
    twins: bool = True,
    tune: int = 0,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    track: list[str] | None = None,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> FitResult:
    """Learns to tell the classes of `labels` (CSV case,class[,patient]) from the cases that `source` names; same names and defaults as the command line.

    pipeline: two-level, end-to-end or gate · model: the network of end-to-end, or of two-level in place of texture (docs/series_models.md) · weights: what it begins
    with, FILE.safetensors of `tacit pretrain` or phantom:ct (drawn slices taught it) · unlabelled: cases that teach end-to-end by its own answers · unit: picture or series (None: by
    what is there) · steps: how cases are prepared (see `tacit prepare`) · gaps: refuse, tolerate or interpolate · twins: teach the same on
    rims, backgrounds and lungs alone, and ask what headers, times and sizes of the files tell, which shows what is not disease · tune: try so
    many settings first, on some of the patients, and judge the best on the others · track: wandb, tensorboard, mlflow.
    Raises TacitError; one case's failure is a row.
    """
    check_trackers(track or [])
    chosen = chosen_settings(config, set, "classify")
    kind, named = pipeline_named(pipeline), read_labels(labels)
    if steps is not None:
        recipe(steps)  # what is wrong with it is said before anything is read
    if taken := {"classes", "unit"} & chosen.keys():
        raise UsageError(f"{min(taken)} is no setting to change: classes come from --labels, what a case is from --unit")
    how = build(TuneConfig, chosen.pop("tune", {}))
    chosen = merge(chosen, network_asked(kind, model, weights, unlabelled, chosen))
    c = build(kind.Config, {"classes": list(named.classes)}, chosen)
    begin = weights_of(plain(c))
    tuning = Tuning(kind, c, chosen, tune, how) if tune else None
    check_tuning(tuning, how)
    command = command_line(
        "classify fit", source, out, classify_fit.__kwdefaults__, labels=labels, pipeline=pipeline, model=model, weights=weights, unlabelled=unlabelled,
        unit=unit, steps=steps, gaps=gaps, no_twins=not twins, tune=tune, seed=seed, device=device, threads=threads, track=track, config=config, set=set,
    )  # fmt: skip
    device = prepare_device(device, threads)
    options = {"input": str(source), "labels": str(labels), "pipeline": pipeline, "unit": unit, "steps": steps, "gaps": gaps, "twins": twins, "seed": seed}
    options |= {"tune": tune} if tune else {}
    options |= {"unlabelled": str(unlabelled)} if unlabelled is not None else {}
    settings = {
        "classify": options,
        **({"tune": plain(how)} if tune else {}),
        **{name: value for name, value in plain(c).items() if name not in ("unit", "classes")},
    }
    reads = [*named_files(source), labels, config, *begin, *(named_files(unlabelled) if unlabelled is not None else [])]
    with (
        open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run,
        tracked(run, track, "classify fit", settings),
    ):
        if not run.finished_before:
            cases = matched(find_cohort(source, run, unit=unit, steps=steps, gaps=gaps), named, run)
            check_members(kind, chosen, cases, named)
            others = without_labels(unlabelled, cases, run, steps=steps, gaps=gaps)
            hashes = {f"--labels {Path(labels).name}": sha256(Path(labels))} | {case.name: case.digest for case in cases} | hashes_of(begin, others)
            run.check_same(hashes, source)
            run.record |= {"seed": seed, "device": device, "threads": threads, "uses_labels": True, "classes": list(named.classes)}
            run.record |= {"pipeline": pipeline, "unit": cases[0].unit, "inputs": hashes}
            c = tuned(tuning, cases, named, run, curves_of(run)) if tuning else c
            network = network_of(kind, c, cases)
            network.device = device
            _learn(network, cases, others, named, twins, run, settings)
            _keep(network, cases, steps, gaps, run)
        return FitResult(Path(out), run.record["images"], len(run.failures), run.record["figures"], run.record["twins"], run.record.get("tuning"))


def _keep(network: Any, cases: list[Case], steps: str | None, gaps: str, run: Run) -> None:
    """Writes model/, with how its cases were prepared, so that new ones are prepared alike."""
    record = run.record
    facts = {name: record[name] for name in ("classes", "unit", "uses_labels", "seed", "images")}
    facts["taught_by"] = sorted({case.digest for case in cases})  # so that an answer to one of them is not taken for evidence
    facts |= {"steps": steps, "gaps": gaps, "recipes": sorted({case.steps for case in cases})}
    card = CARD.format(
        pipeline=record["pipeline"],
        members=len(record["members"]),
        cases=record["images"],
        patients=record["figures"]["patients"],
        classes=", ".join(record["classes"]),
    )
    save_model(run.folder / "model", record["pipeline"], network, facts, card)


def _learn(network: Any, cases: list[Case], others: list[Case], labels: Labels, twins: bool, run: Run, settings: dict[str, Any]) -> None:
    """Teaches the pipeline in place, scores it and its twins, and writes the report."""
    seed, curves = run.record["seed"], curves_of(run)

    def fitted(pipeline: Any, own: list[Case], kept: Any, stage: str, **more: Any) -> tuple[Any, Any, Any, Any]:
        y, groups = numbers_of(own, labels), np.array([labels.patient[c.name] for c in own])
        shop = Workshop(seed, run.record["device"], run.folder / "checkpoints" / stage, curves, run.say)
        p, members = pipeline.fit(kept, y, groups, shop, **more)
        return p, y, members, figures(p, y, labels.classes, groups, seed)

    def twin_figures(places: list[int], kept: Sequence[Kept], stage: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = fitted(type(network)(network.config), [laid.cases[i] for i in places], kept, stage)[3]
        except InputError as error:
            return {"why": str(error)}
        return found

    network.look(drawn_slices(cases, seed), seed)
    with laid_out(network, cases, twins, run) as laid:
        check_patients(laid.cases, labels, getattr(network, "least_patients", 2))
        with shelved(network, others, run) as shelf:
            p, y, members, found = fitted(network, laid.cases, laid.kept, "cases", **({} if shelf is None else {"unlabelled": shelf}))
        if hasattr(network, "histograms"):
            firsts = [laid.kept[int(np.flatnonzero(y == k)[0])] for k in range(len(labels.classes))]
            write_atomic(run.folder / "figures" / "features.png", features_plot(network.histograms(firsts), labels.classes))
        beside = {kind: twin_figures(places, kept, kind.replace(" ", "-")) for kind, (places, kept) in laid.twins.items()}
        if twins:
            kinds, patients = ([of[c.name] for c in laid.cases] for of in (labels.of, labels.patient))
            beside[METADATA] = metadata_twin(laid.cases, kinds, patients, seed)
        count = len(laid.cases)
        run.record |= {"images": count, "ok": count, "figures": found, "twins": beside, "members": members, "without_lungs": laid.lungless}
        extra = gate_report(network, laid.cases, laid.kept, labels, p, y, run) if isinstance(network, Gated) else Extra()
        extra.warnings.extend(fewer_members(network, members, laid.cases, labels))
        write_fit_report(run, settings, laid.cases, labels, p, y, found, beside, with_tuning(extra, run))
