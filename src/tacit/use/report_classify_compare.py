"""The tables and the page of `tacit classify compare`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.report.classes import FEW, Rows
from tacit.report.model_figures import confusions_plot, f1_plot, rocs_plot
from tacit.report.page import Panel, page
from tacit.report.picture import embedded
from tacit.run import Run, as_csv
from tacit.use.classify_answers import Shared

MEASURES = ("accuracy", "auc", "macro_f1")
EACH = ("precision", "recall", "f1", "support", "auc")
GAIN = ("model", "first", *(c for m in MEASURES for c in (m, f"{m}_low", f"{m}_high")), "delong_p", "delong_p_holm", "patients_first_better",
        "patients_this_better", "mcnemar_p", "mcnemar_p_holm")  # fmt: skip


def write_compare_report(
    run: Run, settings: dict[str, Any], found: Shared, models: dict[str, Rows], figures: dict[str, dict[str, Any]], gains: list[dict[str, Any]]
) -> None:
    """tables/*.csv, figures/*.png and report.html. models and figures: by the same names, the runs first."""
    classes, tables = found.classes, run.folder / "tables"
    flat = [_flat(name, own) for name, own in figures.items()]
    write_atomic(tables / "models.csv", as_csv(tuple(flat[0]), [tuple(row.values()) for row in flat]))
    gain_rows = [_gain_row(gain) for gain in gains]
    write_atomic(tables / "paired.csv", as_csv(GAIN, [tuple("" if v is None else v for v in row) for row in gain_rows]))
    confusion = [
        (m, a, b, n) for m, own in figures.items() for a, row in zip(classes, own["confusion"], strict=True) for b, n in zip(classes, row, strict=True)
    ]
    write_atomic(tables / "confusion.csv", as_csv(("model", "class", "named", "cases"), confusion))
    named = {name: [classes[int(j)] for j in p.argmax(1)] for name, p in models.items()}
    cases = [
        (case, classes[int(found.labels[i])], found.patients[i], *(named[name][i] for name in models), *(round(float(p[i, j]), 4) for p in models.values() for j in range(len(classes))))
        for i, case in enumerate(found.cases)
    ]  # fmt: skip
    write_atomic(tables / "cases.csv", as_csv(("case", "class", "patient", *models, *(f"{name} p_{c}" for name in models for c in classes)), cases))
    write_atomic(tables / "left_out.csv", as_csv(("case", "why"), found.left_out))
    drawn = {"roc": rocs_plot(models, found.labels, classes), "f1": f1_plot(figures, classes), "confusion": confusions_plot(figures, classes)}
    for name, png in drawn.items():
        write_atomic(run.folder / "figures" / f"{name}.png", png)
    run.record["warnings"] = warnings = _warnings(found)
    patients = len(np.unique(found.patients))
    each = ["model", "class", *EACH]
    text = page(
        title=f"{len(found.p)} classifiers, {len(found.cases)} cases of {patients} patients",
        subtitle="Tacit classify compare: the same cases for all; the first RUN is what the others are compared with",
        facts=[
            ("command", run.record["command"]),
            ("compared", ", ".join(found.p)),
            ("cases", f"{len(found.cases)} that all answered, {len(found.left_out)} left out"),
            ("intervals", "95%, patients drawn with replacement, the same draws for all" + ("" if found.patients_known else "; no patient is named, so each case counts as one")),
            ("votes", "soft: the mean of the runs' probabilities; hard: the majority, ties to the larger mean. Nothing is weighted, so nothing is learnt from the labels"),
            ("tests", _tests(len(gains), len(classes))),
            ("seconds", f"{run.seconds:.0f}"),
        ],
        figures=[
            Panel("ROC", embedded(drawn["roc"], "png"), None, "All on the same cases."),
            Panel("F1", embedded(drawn["f1"], "png"), None, "By class, with the number of cases; hatched: the votes."),
            Panel("Confusion", embedded(drawn["confusion"], "png"), None, "Counts; darker: a larger share of the true class."),
        ],
        galleries=[],
        tables=[
            ("Models", "Macro AUC is the mean over classes, each against the rest.", ["model", *MEASURES], [[m, *(_ranged(own[x], own["interval"][x]) for x in MEASURES)] for m, own in figures.items()]),
            ("Classes", "", each, [[m, row["class"], *(_number(row[x]) for x in EACH)] for m, own in figures.items() for row in own["classes"]]),
            ("Gains over the first", "Paired, on the same draws of patients. An interval that holds 0 is no gain.", ["model", *MEASURES, "DeLong p", "Holm", "patients better: first, this", "McNemar p", "Holm"], [_gain_cells(g) for g in gains]),
            ("Left out", "All are in tables/left_out.csv.", ["case", "why"], [list(row) for row in found.left_out[:50]]),
        ][: None if found.left_out else 3],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
    )  # fmt: skip
    write_atomic(run.folder / "report.html", text)


def _tests(count: int, classes: int) -> str:
    areas = (
        "DeLong's of the areas, summed over patients (not of the hard vote: heads counted rank cases in few steps)"
        if classes == 2
        else "none of the areas, as DeLong's is for two classes (see the intervals)"
    )
    return f"{areas}; McNemar's exact one of who is right, a patient counting once; Holm's correction over {count} comparisons"


def _warnings(found: Shared) -> list[str]:
    said = list(found.warnings)
    counts = {c: len(np.unique(found.patients[found.labels == j])) for j, c in enumerate(found.classes)}
    few = ", ".join(f"{c}: {n}" for c, n in counts.items() if n < FEW)
    if few:
        said.append(f"Too few patients for a claim that one is better ({few}; at least {FEW} a class).")
    if not found.patients_known:
        said.append("No patient is named: cases of one patient count as many, and every interval may be too narrow.")
    return said


def _flat(name: str, own: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "cases": own["cases"], "patients": own["patients"]}
    for m in MEASURES:
        row |= {m: own[m], f"{m}_low": own["interval"][m][0], f"{m}_high": own["interval"][m][1]}
    for of_class in own["classes"]:
        row |= {f"{x}_{of_class['class']}": of_class[x] for x in EACH}
    return row


def _gain_row(gain: dict[str, Any]) -> tuple[Any, ...]:
    flat = gain | {f"{m}_{end}": gain[f"{m}_interval"][i] for m in MEASURES for i, end in enumerate(("low", "high"))}
    return tuple(flat[c] for c in GAIN)


def _gain_cells(gain: dict[str, Any]) -> list[Any]:
    better = f"{gain['patients_first_better']}, {gain['patients_this_better']}"
    tests = [_chance(gain[t]) for t in ("delong_p", "delong_p_holm", "mcnemar_p", "mcnemar_p_holm")]
    return [gain["model"], *(_ranged(gain[m], gain[f"{m}_interval"], "+") for m in MEASURES), *tests[:2], better, *tests[2:]]


def _ranged(value: float, ends: list[float], sign: str = "") -> str:
    return f"{value:{sign}.3f} [{ends[0]:{sign}.3f}, {ends[1]:{sign}.3f}]"


def _chance(p: float | None) -> str:
    return "–" if p is None else f"{p:.3f}" if p >= 0.001 else "< .001"


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) and math.isfinite(value) else value
