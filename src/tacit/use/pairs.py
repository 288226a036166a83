"""`tacit pairs`: are two images of one kind? A distance, a threshold, an answer, and whether it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.config import build, merge, parse_assignments, read_toml
from tacit.errors import InputError, UsageError
from tacit.files import write_atomic
from tacit.learn.pair_metric import distances, vectors
from tacit.read.facts import read_facts
from tacit.read.pairs import Pair, read_pairs
from tacit.report.pair_score import area, errors_at
from tacit.run import Run, as_csv, command_line, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.encoder import DEFAULT_ENCODER, Encoder, find_encoder
from tacit.use.pair_calibrate import Calibrated, PairsConfig, check_images, check_labels, from_labels, from_views
from tacit.use.pair_images import Encoded, encode, named
from tacit.use.pair_threshold import GIVEN, Threshold, encoder_record, find_threshold, save_threshold, without_nan
from tacit.use.report_pairs import Answer, write_report

PAIRS_HEADER = ("a", "b", "distance", "decision", "sure", "p_same")
SUBMISSION_HEADER = ("pair", "a", "b", "label")


@dataclass(frozen=True)
class PairsResult:
    """What a run came to. answers: a row of pairs.csv each, in the order of the list. worth: of the answers, where the list itself has labels."""

    folder: Path
    threshold: float
    how: str
    answers: tuple[dict[str, Any], ...]
    failed: int  # images
    undecided: int  # pairs of failed images
    figures: dict[str, Any]
    worth: dict[str, Any] | None
    warnings: tuple[str, ...]


def decide_pairs(
    pairs: str | Path,
    out: str | Path,
    *,
    encoder: str | None = None,
    model: str | Path | None = None,
    weights: str | None = None,
    calibrate: str | Path | None = None,
    metric: Literal["linear", "raw"] = "linear",
    threshold: str | float | None = None,
    root: str | Path | None = None,
    patients: str | Path | None = None,
    mpp: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> PairsResult:
    """Decides the pairs of a CSV a,b[,label]: pairs.csv, submission.csv, threshold.json and the report. Labels in it only judge the answers.

    encoder, model, weights: see `find_encoder`; None = DEFAULT_ENCODER · calibrate: CSV of labelled pairs that teach threshold and metric · metric: linear, or
    raw = the threshold alone · threshold: a distance 2 − 2·cos from 0 to 4, or the threshold.json of an earlier run; without it and without
    `calibrate` it comes from views of the images and no label · root: folder of bare file names · patients: a table of names and patients, kept
    apart when the threshold is judged · mpp: µm per px of pictures that state none. Raises TacitError; an image that cannot be used is a row of failures.csv.
    """
    c = build(PairsConfig, _without_own(read_toml(Path(config)) if config else {}), parse_assignments(set or []))
    asked = list_of(pairs, root)
    labelled = _labelled(calibrate, root, c)
    if calibrate is None and threshold is None:
        check_images(len(named(asked)), c)
    if metric not in ("linear", "raw"):
        raise UsageError(f"--metric {metric!r} is unknown; known are linear, raw")
    if threshold is not None and calibrate is not None:
        raise UsageError("--threshold and --calibrate exclude each other: a threshold is given or learnt; leave one out")
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100")
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a seed from 0")
    patient = _patients(patients, named([*asked, *labelled]))
    asked_device, device = device, prepare_device(device, threads)
    found = find_encoder(encoder or DEFAULT_ENCODER, model=model, weights=weights, device=device)
    given = None if threshold is None else find_threshold(str(threshold), found)
    options = {
        "input": str(pairs), "encoder": found.name, "model": str(model) if model else None, "weights": weights, "calibrate": str(calibrate) if calibrate else None,
        "metric": metric, "threshold": None if threshold is None else str(threshold), "patients": str(patients) if patients else None, "mpp": mpp, "seed": seed,
    }  # fmt: skip
    settings = {"pairs": options, **plain(c)}
    command = command_line(
        "pairs", pairs, out, decide_pairs.__kwdefaults__, encoder=encoder, model=model, weights=weights, calibrate=calibrate, metric=metric, threshold=threshold,
        root=root, patients=patients, mpp=mpp, seed=seed, device=asked_device, threads=threads, config=config, set=set,
    )  # fmt: skip
    reads = [pairs, calibrate, model, weights, threshold if isinstance(threshold, (str, Path)) else None, patients, config, *named([*asked, *labelled])]
    with open_run(out, command=command, settings=settings, reads=reads, overwrite=overwrite) as run:
        run.record |= {"seed": seed, "device": device, "threads": threads, "encoder": encoder_record(found), "uses_labels": bool(labelled)}
        encoded = encode(named([*labelled, *asked]), found, run, mpp)
        _check_usable(asked, encoded, run)
        calibrated = None
        if given is None:
            calibrated = _calibrated(asked, labelled, encoded, found, patient, c, calibrate, metric, mpp, seed)
            given = replace(calibrated.threshold, about=without_nan(calibrated.threshold.about))
        answers = _answered(asked, encoded, given)
        worth = _worth(answers)
        warnings = [*found.warnings, *(calibrated.warnings if calibrated else ()), *_overlap(asked, labelled, patient)]
        save_threshold(run.folder, given, found)
        folder = Path(pairs).parent if root is None else Path(root)
        rows = [_row(a, folder) for a in answers]
        write_atomic(run.folder / "pairs.csv", as_csv(PAIRS_HEADER, [tuple("" if r[k] is None else r[k] for k in PAIRS_HEADER) for r in rows]))
        write_atomic(
            run.folder / "submission.csv", as_csv(SUBMISSION_HEADER, [_submitted(k + 1, a, r) for k, (a, r) in enumerate(zip(answers, rows, strict=True))])
        )
        write_report(run, answers, given, calibrated, found, worth, settings, warnings)
        undecided = sum(a.distance is None for a in answers)
        run.record |= {"pairs": len(answers), "undecided": undecided, "threshold_distance": given.decision.threshold, "threshold_from": given.how}
        for line in warnings:
            run.say(line)
        return PairsResult(
            Path(out), given.decision.threshold, given.how, tuple(rows), len(run.failures), undecided, given.about.get("figures") or {}, worth, tuple(warnings)
        )


def list_of(path: str | Path, root: str | Path | None) -> list[Pair]:
    """The pairs of a CSV, whether or not their images are there. Raises UsageError for a list that cannot be understood."""
    try:
        return read_pairs(path, root, must_exist=False)
    except InputError as error:
        raise UsageError(str(error)) from error


def _without_own(tables: dict[str, Any]) -> dict[str, Any]:
    """A run's config.toml is a settings file too: its table of options is no setting."""
    return merge({}, {k: v for k, v in tables.items() if k != "pairs"})


def _labelled(calibrate: str | Path | None, root: str | Path | None, c: PairsConfig) -> list[Pair]:
    if calibrate is None:
        return []
    pairs = list_of(calibrate, root)
    check_labels(calibrate, pairs, c)
    return pairs


def _patients(table: str | Path | None, images: list[Path]) -> dict[Path, str]:
    """The patient of each image that the table names, by file name or stem."""
    if table is None:
        return {}
    try:
        facts = read_facts(Path(table))
    except InputError as error:
        raise UsageError(str(error)) from error
    found = {path: facts.get(path.name) or facts.get(path.stem) for path in images}
    patient = {path: str(row["patient"]) for path, row in found.items() if row and row["patient"] is not None}
    if not patient:
        raise UsageError(f"--patients {table} names none of the {len(images)} images, e.g. {images[0].name}; give names as the pairs do")
    return patient


def _check_usable(asked: Sequence[Pair], encoded: Encoded, run: Run) -> None:
    if not any(encoded.has(p) for p in asked):
        first = f"; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}" if run.failures else ""
        raise InputError(f"no pair has two images that can be used{first}")


def _calibrated(
    asked: Sequence[Pair],
    labelled: Sequence[Pair],
    encoded: Encoded,
    encoder: Encoder,
    patient: dict[Path, str],
    c: PairsConfig,
    calibrate: str | Path | None,
    metric: Literal["linear", "raw"],
    mpp: float | None,
    seed: int,
) -> Calibrated:
    if calibrate is None:
        return from_views(encoded, encoder, mpp, c, seed)
    usable = [p for p in labelled if encoded.has(p)]
    check_labels(calibrate, usable, c, "usable ")
    taking_part = {path for path in named(usable) if path in patient}
    return from_labels(encoded, usable, {path: patient[path] for path in taking_part}, c, metric=metric, seed=seed)


def _answered(asked: Sequence[Pair], encoded: Encoded, threshold: Threshold) -> list[Answer]:
    d = threshold.decision
    seen = vectors(encoded.features, threshold.metric)
    answers = []
    for pair in asked:
        if not encoded.has(pair):
            answers.append(Answer(pair))
            continue
        distance = distances(seen, *encoded.ends([pair]))
        p_same = d.p_same(distance)
        sure = None if threshold.how == GIVEN and d.sure_same is None and d.sure_different is None else bool(d.sure(distance)[0])
        answers.append(Answer(pair, float(distance[0]), bool(d.same(distance)[0]), sure, None if p_same is None else float(p_same[0])))
    return answers


def _worth(answers: Sequence[Answer]) -> dict[str, Any] | None:
    """The answers judged by the list's own labels; None unless pairs of both kinds have one."""
    judged = [a for a in answers if a.distance is not None and a.pair.label is not None]
    same = np.array([a.pair.label == 1 for a in judged], bool)
    if not len(same) or same.all() or not same.any():
        return None
    found = errors_at(np.array([a.same for a in judged], bool), same)
    auc = area(np.array([a.distance for a in judged], float), same)
    return {"pairs": len(judged), "auc": auc, **found, "always_one_answer": float(max(same.mean(), 1 - same.mean()))}


def _overlap(asked: Sequence[Pair], labelled: Sequence[Pair], patient: dict[Path, str]) -> list[str]:
    """A warning where what is judged has also taught."""
    if not labelled or not any(p.label is not None for p in asked):
        return []
    taught, judged = {*named(labelled)}, {*named(asked)}
    shared = len(taught & judged)
    patients = len({patient[p] for p in taught if p in patient} & {patient[p] for p in judged if p in patient})
    if not shared and not patients:
        return []
    what = f"{shared} images" + (f" and {patients} patients" if patient else "")
    return [f"{what} are in both lists, so the score on this list's own labels promises too much; the held-out figures do not"]


def _row(a: Answer, folder: Path) -> dict[str, Any]:
    known = a.distance is not None
    return {
        "a": _name(a.pair.a, folder),
        "b": _name(a.pair.b, folder),
        "distance": round(a.distance, 6) if a.distance is not None else None,
        "decision": ("same" if a.same else "different") if known else None,
        "sure": None if a.sure is None else ("yes" if a.sure else "no"),
        "p_same": None if a.p_same is None else round(a.p_same, 6),
    }


def _submitted(number: int, a: Answer, row: dict[str, Any]) -> tuple[Any, ...]:
    return number, row["a"], row["b"], "" if a.same is None else int(a.same)


def _name(path: Path, folder: Path) -> str:
    """As the list wrote it."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
