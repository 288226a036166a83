"""`tacit classify fit`: cases with classes → members that classify new ones, and what they are worth out of fold beside their twins.

find the cases, match the labels → describe each (its slices as numbers) → the words, without labels → members → scores by patient, twins → keep, report
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.config import build, chosen_settings
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256
from tacit.learn.two_level import Blocks, TwoLevel, TwoLevelConfig, evenly
from tacit.prepare.steps import recipe
from tacit.prepare.twins import KINDS, twin
from tacit.read.folder import named_files
from tacit.read.labels import Labels, read_labels
from tacit.report.classes import figures
from tacit.report.track import Bar
from tacit.run import Run, command_line, open_run, plain
from tacit.use.cohort import Case, find_cohort
from tacit.use.device import prepare_device
from tacit.use.model import save_model
from tacit.use.report_classify import write_fit_report

NAME = "two-level"
WORDS_FROM = 400  # slices that the words are learnt from, at most
CARD = """# A Tacit model

Method `two-level`: texture of slices, SVM and XGBoost, {members} members, taught by the classes of {cases} cases of {patients} patients. It uses labels.
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


def classify_fit(
    source: str | Path,
    out: str | Path,
    *,
    labels: str | Path,
    unit: str | None = None,
    steps: str | None = None,
    gaps: str = "refuse",
    twins: bool = True,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> FitResult:
    """Learns to tell the classes of `labels` (CSV case,class[,patient]) from the cases that `source` names; same names and defaults as the command line.

    unit: picture or series (None: by what is there) · steps: how cases are prepared (see `tacit prepare`) · gaps: refuse, tolerate or interpolate ·
    twins: teach the same on rims, backgrounds and lungs alone, which shows what framing tells. Raises TacitError; one case's failure is a row.
    """
    chosen = chosen_settings(config, set, "classify")
    named = read_labels(labels)
    if steps is not None:
        recipe(steps)  # what is wrong with it is said before anything is read
    if taken := {"classes", "unit"} & chosen.keys():
        raise UsageError(f"{min(taken)} is no setting to change: classes come from --labels, what a case is from --unit")
    c = build(TwoLevelConfig, {"classes": list(named.classes)}, chosen)
    command = command_line(
        "classify fit", source, out, classify_fit.__kwdefaults__, labels=labels, unit=unit, steps=steps, gaps=gaps, no_twins=not twins, seed=seed,
        threads=threads, config=config, set=set,
    )  # fmt: skip
    prepare_device("cpu", threads)
    options = {"input": str(source), "labels": str(labels), "unit": unit, "steps": steps, "gaps": gaps, "twins": twins, "seed": seed}
    settings = {"classify": options, **{name: value for name, value in plain(c).items() if name != "unit"}}
    with open_run(out, command=command, settings=settings, reads=[*named_files(source), labels, config], overwrite=overwrite) as run:
        cases = matched(find_cohort(source, run, unit=unit, steps=steps, gaps=gaps), named, run)
        network = TwoLevel(c.model_copy(update={"unit": cases[0].unit}))
        run.record |= {"seed": seed, "device": "cpu", "threads": threads, "uses_labels": True, "classes": list(named.classes), "unit": cases[0].unit}
        hashes = {"labels": sha256(Path(labels))} | {case.name: case.digest for case in cases}
        run.record |= {"inputs": hashes, "data": Cases.fingerprint(hashes)}
        _learn_words(network, cases, seed)
        usable, described, twin_described, lungless = _described(network, cases, twins, run)
        _check_patients(usable, named)
        y, groups = numbers_of(usable, named), np.array([named.patient[c.name] for c in usable])
        with Bar("members") as bar:
            p, members = network.fit(described, y, groups, seed, bar.advance)
        found = figures(p, y, named.classes, groups, seed)
        beside = {kind: _twin_figures(network, rows, usable, named, seed) for kind, rows in twin_described.items()}
        run.record |= {"images": len(usable), "ok": len(usable), "figures": found, "twins": beside, "members": members, "without_lungs": lungless}
        facts = {"classes": list(named.classes), "unit": cases[0].unit, "steps": steps, "gaps": gaps, "images": len(usable), "uses_labels": True, "seed": seed}
        card = CARD.format(members=int(network.used), cases=len(usable), patients=len(np.unique(groups)), classes=", ".join(named.classes))
        save_model(run.folder / "model", NAME, network, facts, card)
        write_fit_report(run, settings, usable, named, p, y, found, beside)
        return FitResult(Path(out), len(usable), len(run.failures), found, beside)


def matched(cases: list[Case], labels: Labels, run: Run) -> list[Case]:
    """The cases that have a class; a case without one, and a label without a case, are rows of failures.csv. Raises InputError where none is left."""
    known = {c.name for c in cases}
    for name in sorted(set(labels.of) - known):
        run.fail(name, ReadError(name, "the labels name it, but INPUT has no such case", "correct the name, or leave the row out"))
    for case in cases:
        if case.name not in labels.of:
            run.fail(case.paths[0], ReadError(case.paths[0], f"case {case.name!r} has no class in the labels", "add a row, or leave the case out"))
    kept = [c for c in cases if c.name in labels.of]
    if not kept:
        shown = ", ".join(sorted(known)[:3])
        raise InputError(f"none of the {len(cases)} cases ({shown} …) is among the {len(labels.of)} of the labels ({', '.join(sorted(labels.of)[:3])} …)")
    return kept


def numbers_of(cases: list[Case], labels: Labels) -> NDArray[np.int64]:
    """The classes of cases as places in labels.classes."""
    return np.array([labels.classes.index(labels.of[c.name]) for c in cases], np.int64)


def prepared(case: Case, run: Run) -> NDArray[np.uint8] | None:
    """The slices of a case; None where it cannot be used, which becomes a row of failures.csv."""
    try:
        return case.prepared()
    except ReadError as error:
        run.fail(error.path, error)
    except InputError as error:
        words, _, remedy = str(error).rpartition("; ")
        run.fail(case.paths[0], ReadError(case.paths[0], f"case {case.name}: {words or error}", remedy or "leave the case out"))
    return None


def _learn_words(network: TwoLevel, cases: list[Case], seed: int) -> None:
    """Words from a draw of slices; no label takes part. A case that cannot be read is told of later."""
    order = np.random.default_rng([seed, 104]).permutation(len(cases))
    planes: list[NDArray[np.uint8]] = []
    for index in order:
        if len(planes) >= WORDS_FROM:
            break
        try:
            stack = cases[int(index)].prepared()
        except InputError:
            continue
        planes += [stack[s] for s in evenly(len(stack), 4)]
    if not planes:
        raise InputError(f"none of the {len(cases)} cases can be read")
    network.texture.fit(planes[:WORDS_FROM], seed)


def _described(network: TwoLevel, cases: list[Case], twins: bool, run: Run) -> tuple[list[Case], list[Blocks], dict[str, list[tuple[int, Blocks]]], list[str]]:
    """The cases that can be used, their rows, those of their twins with the case's place, and the names of cases in which no lung was found."""
    usable: list[Case] = []
    described: list[Blocks] = []
    beside: dict[str, list[tuple[int, Blocks]]] = {kind: [] for kind in KINDS} if twins else {}
    lungless: list[str] = []
    with Bar("describing") as bar:
        for number, case in enumerate(cases):
            stack = prepared(case, run)
            if stack is not None:
                place = len(usable)
                usable.append(case)
                described.append(network.described(stack))
                for kind in beside:
                    planes = [t for t in (twin(plane, kind) for plane in stack[evenly(len(stack), network.config.slices)]) if t is not None]
                    if planes:
                        beside[kind].append((place, network.described(np.stack(planes))))
                    elif kind == "lung only":
                        lungless.append(case.name)
            bar.advance(number + 1, len(cases))
    if not usable:
        raise InputError(f"none of the {len(cases)} cases can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    return usable, described, {kind: rows for kind, rows in beside.items() if rows}, lungless


def _twin_figures(network: TwoLevel, rows: list[tuple[int, Blocks]], cases: list[Case], labels: Labels, seed: int) -> dict[str, Any]:
    """What the same pipeline is worth on a twin, out of fold; {"why": …} where it cannot be taught."""
    own = [cases[place] for place, _ in rows]
    y, groups = numbers_of(own, labels), np.array([labels.patient[c.name] for c in own])
    other = TwoLevel(network.config)
    try:
        p, _ = other.fit([blocks for _, blocks in rows], y, groups, seed)
    except InputError as error:
        return {"why": str(error)}
    return figures(p, y, labels.classes, groups, seed)


def _check_patients(cases: list[Case], labels: Labels) -> None:
    for name in labels.classes:
        patients = {labels.patient[c.name] for c in cases if labels.of[c.name] == name}
        if len(patients) < 2:
            raise InputError(f"class {name!r} has {len(patients)} patients that can be used; at least two a class are expected, so that one can be held out")
