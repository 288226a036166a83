"""Cases and labels → what a pipeline keeps of every case that can be used, on disk, and of its twins beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError
from tacit.learn.case_answers import Pipeline, evenly
from tacit.learn.gated import BRANCHES, GatedConfig
from tacit.learn.pipelines import pipeline_named
from tacit.prepare.twins import KINDS, twin
from tacit.read.labels import Labels
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.cohort import VOLUMES, Case
from tacit.use.shelf import Shelf
from tacit.use.taught import give_weights

LOOKED_AT = 400  # slices of the draw without labels, at most
EACH = 4  # of them from a case
TWIN_SLICES = 24  # of a case that its twins are made of, evenly along it


@dataclass(frozen=True)
class Laid:
    """Cases that can be used with what a pipeline keeps of them; of each kind of twin the same, and whose they are (places among `cases`)."""

    cases: list[Case]
    kept: Shelf
    twins: dict[str, tuple[list[int], Shelf]]
    lungless: list[str]  # names of cases in which no lung was found, so that two of their twins are missing


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


def network_of(kind: Any, c: Any, cases: list[Case]) -> Any:
    """The pipeline of class `kind` with what the cases decide: what a case is, and that no lesions are looked for in what is not prepared as the lesion network
    learnt to see it; with the weights that drawings taught."""
    unlike = any(case.steps != VOLUMES for case in cases)
    blind: dict[str, Any] = {"lesions": False} if unlike and hasattr(c, "lesions") else {}
    for name in BRANCHES if unlike and isinstance(c, GatedConfig) else ():
        branch = getattr(c, name)
        if "lesions" in pipeline_named(branch.pipeline).Config.model_fields:
            blind[name] = branch.model_copy(update={"settings": branch.settings | {"lesions": False}})
    network = kind(c.model_copy(update={"unit": cases[0].unit, **blind}))
    give_weights(network)
    return network


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
        words, _, remedy = str(error).partition("; ")
        reason = words if case.name in words else f"case {case.name}: {words}"
        run.fail(case.paths[0], ReadError(case.paths[0], reason, remedy or "leave the case out"))
    return None


def drawn_slices(cases: list[Case], seed: int) -> list[NDArray[np.uint8]]:
    """Some slices of some cases, drawn by the seed; no label takes part. A case that cannot be read is told of later. Raises InputError where none can."""
    slices: list[NDArray[np.uint8]] = []
    for index in np.random.default_rng([seed, 104]).permutation(len(cases)):
        if len(slices) >= LOOKED_AT:
            break
        try:
            stack = cases[int(index)].prepared()
        except InputError:
            continue
        slices += [stack[s] for s in evenly(len(stack), EACH)]
    if not slices:
        raise InputError(f"none of the {len(cases)} cases can be read")
    return slices[:LOOKED_AT]


@contextmanager
def laid_out(pipeline: Pipeline, cases: list[Case], twins: bool, run: Run) -> Iterator[Laid]:
    """What the pipeline keeps of every case, read once; the shelves are in OUT and go when this ends. Raises InputError where no case can be used."""
    with ExitStack() as stack, Bar("preparing") as bar:
        kept = stack.enter_context(Shelf(run.folder / "cases"))
        beside = {kind: ([], stack.enter_context(Shelf(run.folder / "cases" / kind))) for kind in KINDS if twins}  # type: ignore[var-annotated]
        usable: list[Case] = []
        lungless: list[str] = []
        for number, case in enumerate(cases):
            slices = prepared(case, run)
            if slices is not None:
                kept.put(pipeline.kept(slices))
                for kind, (places, shelf) in beside.items():
                    planes = [t for t in (twin(plane, kind) for plane in slices[evenly(len(slices), TWIN_SLICES)]) if t is not None]
                    if planes:
                        places.append(len(usable))
                        shelf.put(pipeline.kept(np.stack(planes)))
                    elif kind == "lung only":
                        lungless.append(case.name)
                usable.append(case)
            bar.advance(number + 1, len(cases))
        if not usable:
            raise InputError(f"none of the {len(cases)} cases can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
        yield Laid(usable, kept, {kind: both for kind, both in beside.items() if both[0]}, lungless)


def check_patients(cases: list[Case], labels: Labels, least: int = 2) -> None:
    """Raises InputError where a class has fewer patients than a pipeline's folds need, so that some could be held out."""
    for name in labels.classes:
        patients = {labels.patient[c.name] for c in cases if labels.of[c.name] == name}
        if len(patients) < least:
            raise InputError(
                f"class {name!r} has {len(patients)} patients that can be used; at least {least} a class are expected, so that some can be held out"
            )
