"""`tacit classify predict`: what a fitted model says of new cases: a class with its probabilities and their spread, and each slice's evidence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tacit.errors import InputError, ReadError
from tacit.files import write_atomic
from tacit.learn.case_answers import Kept
from tacit.learn.gated import Gated
from tacit.learn.pipelines import PIPELINES
from tacit.read.folder import named_files
from tacit.report.track import Bar
from tacit.run import Run, as_csv, command_line, open_run, plain
from tacit.use.classify_cases import prepared
from tacit.use.cohort import Case, find_cohort
from tacit.use.device import prepare_device
from tacit.use.model import load_model
from tacit.use.report_case import write_case_page, write_thumb
from tacit.use.report_classify import write_predict_report


@dataclass(frozen=True)
class PredictResult:
    """What a run came to. answers: a dict a case, as in tables/cases.csv."""

    folder: Path
    cases: int
    failed: int
    answers: list[dict[str, Any]]


def classify_predict(
    source: str | Path,
    out: str | Path,
    *,
    model: str | Path,
    pages: bool = True,
    device: str = "cpu",
    threads: int = 1,
    overwrite: bool = False,
) -> PredictResult:
    """Classifies the cases that `source` names with the OUT of `tacit classify fit`; same names and defaults as the command line.

    Writes tables/cases.csv (case, class, p_<class>, low_<class>, high_<class>: the members' mean, least and most; taught: whether the very same files taught
    the model, so that its answer proves nothing; of a gate value, branch; path: its file or folder), tables/slices.csv,
    reports/<case>.html and report.html. pages: False leaves out the pages and maps of single cases, most of the time where a case is one picture.
    Cases are prepared as those that taught the model. Raises TacitError; one case's failure is a row of failures.csv.
    """
    network, about = load_model(model, PIPELINES)
    command = command_line("classify predict", source, out, classify_predict.__kwdefaults__, model=model, no_pages=not pages, device=device, threads=threads)
    device = prepare_device(device, threads)
    network.device = device
    settings = {"classify": {"input": str(source), "model": str(model)}, **plain(network.config)}
    with open_run(out, command=command, settings=settings, reads=[*named_files(source), model], overwrite=overwrite) as run:
        cases = find_cohort(source, run, unit=about["unit"], steps=about["steps"], gaps=about["gaps"])
        run.record["inputs"] = {case.name: case.digest for case in cases}
        rows: list[dict[str, Any]] = []
        slices: list[tuple[Any, ...]] = []
        with Bar("classifying") as bar:
            for number, case in enumerate(cases):
                stack = prepared(case, run) if alike(case, about.get("recipes"), run) else None
                if stack is not None:
                    kept = network.kept(stack)
                    answer = network.answers([kept])
                    own = _row(case.name, network.CLASSES, answer) | {"taught": "yes" if case.digest in about.get("taught_by", []) else "no"}
                    rows.append(own | (_gate(network, kept) if isinstance(network, Gated) else {}) | {"path": str(case.place)})
                    if pages:
                        write_case_page(run, rows[-1], answer.slices[0], stack, network.maps(kept), network.CLASSES, network.HEAT)
                    else:
                        write_thumb(run, case.name, stack[int(answer.slices[0][:, int(answer.p[0].argmax())].argmax())])
                    slices += [(case.name, s + 1, *(round(float(v), 4) for v in curve)) for s, curve in enumerate(answer.slices[0])]
                bar.advance(number + 1, len(cases))
        if not rows:
            raise InputError(f"none of the {len(cases)} cases can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
        header = tuple(rows[0])
        write_atomic(run.folder / "tables" / "cases.csv", as_csv(header, [tuple(row[h] for h in header) for row in rows]))
        write_atomic(run.folder / "tables" / "slices.csv", as_csv(("case", "slice", *(f"p_{c}" for c in network.CLASSES)), slices))
        run.record |= {"images": len(cases), "ok": len(rows), "unit": about["unit"], "classes": list(network.CLASSES)}
        write_predict_report(run, settings, rows, network.CLASSES, pages)
        return PredictResult(Path(out), len(rows), len(run.failures), rows)


def alike(case: Case, recipes: list[str] | None, run: Run) -> bool:
    """Whether the case is prepared as one of those that taught the model (None: it does not say); where it is not, that is a row of failures.csv."""
    if recipes is not None and case.steps not in recipes:
        reason = f"case {case.name} is prepared by {case.steps!r}; those that taught the model by {' or '.join(map(repr, recipes))}"
        run.fail(case.paths[0], ReadError(case.paths[0], reason, "give cases of the kind that taught it (volumes, or pictures), or fit again with --steps"))
    return recipes is None or case.steps in recipes


def _gate(network: Gated, kept: Kept) -> dict[str, Any]:
    """The number of a case at the gate and the branch that it took."""
    numbers = network.numbers([kept])
    return {"value": float(f"{numbers[0]:.6g}"), "branch": str(network.sides(numbers)[0])}


def _row(name: str, classes: tuple[str, ...], answer: Any) -> dict[str, Any]:
    p, low, high = answer.p[0], answer.low[0], answer.high[0]
    row: dict[str, Any] = {"case": name, "class": classes[int(np.argmax(p))]}
    for prefix, values in (("p", p), ("low", low), ("high", high)):
        row |= {f"{prefix}_{c}": round(float(v), 4) for c, v in zip(classes, values, strict=True)}
    return row
