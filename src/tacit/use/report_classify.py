"""The pages of `tacit classify`: what a fitted model is worth beside its twins; what was said of new cases and why."""

from __future__ import annotations

import math
from typing import Any

from tacit.config import to_toml
from tacit.files import write_atomic
from tacit.learn.temperature import reliability
from tacit.read.labels import Labels
from tacit.report.class_figures import worth_plot
from tacit.report.classes import FEW, TELLING
from tacit.report.page import Panel, page
from tacit.report.picture import embedded
from tacit.run import Run, as_csv
from tacit.use.cohort import Case
from tacit.use.report_gate import Extra
from tacit.use.shortcuts import METADATA

SHOWN = 24  # cases with pictures on the page
NAMED = 6  # facts that a warning names


def write_fit_report(
    run: Run,
    settings: dict[str, Any],
    cases: list[Case],
    labels: Labels,
    p: Any,
    y: Any,
    found: dict[str, Any],
    twins: dict[str, dict[str, Any]],
    extra: Extra | None = None,
) -> None:
    """tables/out_of_fold.csv, tables/classes.csv, tables/twins.csv, figures/worth.png and report.html. extra: what the pipeline adds to it."""
    extra = extra or Extra()
    rows = [
        (c.name, labels.of[c.name], labels.patient[c.name], labels.classes[int(q.argmax())], *(round(float(v), 4) for v in q))
        for c, q in zip(cases, p, strict=True)
    ]
    write_atomic(run.folder / "tables" / "out_of_fold.csv", as_csv(("case", "class", "patient", "named", *(f"p_{c}" for c in labels.classes)), rows))
    header = ("class", "precision", "recall", "f1", "support", "auc")
    write_atomic(run.folder / "tables" / "classes.csv", as_csv(header, [tuple(r[h] for h in header) for r in found["classes"]]))
    beside = [_twin_row("the cases", found), *(_twin_row(kind, values) for kind, values in twins.items())]
    twin_header = ("seen", "auc", "low", "high", "accuracy", "macro_f1", "cases", "note")
    write_atomic(run.folder / "tables" / "twins.csv", as_csv(twin_header, beside))
    bins, error = reliability(p, y)
    plot = worth_plot(p, y, labels.classes, bins, error)
    write_atomic(run.folder / "figures" / "worth.png", plot)
    run.record["calibration_error"] = round(error, 4)
    run.record["warnings"] = warnings = [*fit_warnings(found, twins, labels, cases), *extra.warnings]
    low, high = found["interval"]["auc"]
    text = page(
        title=f"{len(labels.classes)} classes, {found['cases']} cases of {found['patients']} patients",
        subtitle="Tacit classify: figures are out of fold, no patient on two sides"
        + ("; the settings were searched on these cases" if run.record.get("tuning") else ""),
        facts=[
            ("command", run.record["command"]),
            ("area under the ROC curve", f"{found['auc']:.3f} [{low:.3f}, {high:.3f}]"),
            ("accuracy", f"{found['accuracy']:.3f} [{found['interval']['accuracy'][0]:.3f}, {found['interval']['accuracy'][1]:.3f}]"),
            ("macro F1", f"{found['macro_f1']:.3f} [{found['interval']['macro_f1'][0]:.3f}, {found['interval']['macro_f1'][1]:.3f}]"),
            ("intervals", "95%, patients drawn with replacement" + ("" if labels.patients_known else "; no patient is named, so each case counts as one")),
            (
                "lungs",
                f"not found in {len(run.record['without_lungs'])} cases" if run.record.get("without_lungs") else "found in every case that was looked at",
            ),
            ("seconds", f"{run.seconds:.0f}"),
        ],
        galleries=[],
        figures=[Panel("Worth", embedded(plot, "png"), None, "ROC of each class, confusion (counts), reliability; out of fold."), *extra.figures],
        tables=[
            ("Classes", "", list(header), [[_number(r[h]) for h in header] for r in found["classes"]]),
            (
                "Twins",
                "The same pipeline where only a part of each picture is seen, and what the files' headers, times and sizes tell without any picture "
                "(logistic regression or a forest, the better one). What is told without the lungs is framing, scanner or source, not disease.",
                list(twin_header),
                [[_number(v) for v in row] for row in beside],
            ),
            *extra.tables,
        ],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
    )
    write_atomic(run.folder / "report.html", text)


def write_predict_report(run: Run, settings: dict[str, Any], rows: list[dict[str, Any]], classes: tuple[str, ...], pages: bool) -> None:
    """report.html: the cohort, the least sure cases first, each with its most telling slice; a page a case is in reports/ where such were asked for."""
    order = sorted(rows, key=lambda row: row[f"p_{row['class']}"])
    run.record["warnings"] = warnings = (
        [f"{sum(_apart(row, classes) for row in rows)} of {len(rows)} cases: the members do not agree on the class; look at them."]
        if any(_apart(row, classes) for row in rows)
        else []
    )
    if taught := sum(row["taught"] == "yes" for row in rows):
        warnings.append(
            f"{taught} of {len(rows)} cases taught this model (the same files): what it says of them proves nothing; the figures of fit are out of fold."
        )
    panels = [_panel(run, row) for row in order[:SHOWN]]
    counts = {c: sum(row["class"] == c for row in rows) for c in classes}
    text = page(
        title=f"{len(rows)} cases classified",
        subtitle="Tacit classify: the mean of the members, with the least and the most of them",
        facts=[
            ("command", run.record["command"]),
            ("cases", f"{len(rows)} classified, {len(run.failures)} failed"),
            ("named", ", ".join(f"{c} {n}" for c, n in counts.items())),
            ("seconds", f"{run.seconds:.0f}"),
        ],
        galleries=[("Least sure cases", "The most telling slice of each." + " A page for every case is in reports/." * pages, panels)],
        tables=[
            (
                "Cases",
                "All are in tables/cases.csv, every slice in tables/slices.csv.",
                list(rows[0]),
                [[_number(v) for v in row.values()] for row in order[:200]],
            )
        ],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings,
    )
    write_atomic(run.folder / "report.html", text)


def fit_warnings(found: dict[str, Any], twins: dict[str, dict[str, Any]], labels: Labels, cases: list[Case]) -> list[str]:
    """What a reader must know before believing a figure."""
    said = []
    patients = {c: len({labels.patient[case.name] for case in cases if labels.of[case.name] == c}) for c in labels.classes}
    few = [f"{c}: {n}" for c, n in patients.items() if n < FEW]
    if few:
        said.append(f"Too few patients for a claim of accuracy ({', '.join(few)}; at least {FEW} a class): these figures show that the pipeline runs, no more.")
    for kind in ("ring only", "background only"):
        row = twins.get(kind, {})
        if row.get("interval", {}).get("auc", [0.0])[0] > TELLING:
            said.append(
                f"Seen with {kind.replace(' only', '')} alone, the classes are told with an area of {row['auc']:.3f}: part of every figure here is framing or source."
            )
    metadata = twins.get(METADATA, {})
    if metadata.get("interval", {}).get("auc", [0.0])[0] > TELLING:
        told = ", ".join(metadata["facts"][:NAMED]) + (" …" if len(metadata["facts"]) > NAMED else "")
        said.append(
            f"Without any picture, by headers, times and sizes of the files alone ({told}), the classes are told with an area of {metadata['auc']:.3f}: "
            "scanner, date or source differ between the classes, and a picture may show them too."
        )
    if not labels.patients_known:
        said.append("No patient is named in the labels: slices of one patient may lie on two sides of a fold, and every figure may be too good.")
    return said


def _twin_row(name: str, values: dict[str, Any]) -> tuple[Any, ...]:
    if "why" in values:
        return (name, "", "", "", "", "", "", values["why"])
    low, high = values["interval"]["auc"]
    note = f"by {', '.join(values['facts'])}" if values.get("facts") else ""
    return (name, values["auc"], low, high, values.get("accuracy", ""), values.get("macro_f1", ""), values["cases"], note)


def _apart(row: dict[str, Any], classes: tuple[str, ...]) -> bool:
    """Whether another class may be likelier: some member gives it more than the least that one gives the named class."""
    return any(row[f"high_{c}"] > row[f"low_{row['class']}"] for c in classes if c != row["class"])


def _panel(run: Run, row: dict[str, Any]) -> Panel:
    caption = f"{row['class']} {row['p_' + row['class']]:.2f} [{row['low_' + row['class']]:.2f}, {row['high_' + row['class']]:.2f}]"
    picture = (run.folder / "figures" / "cases" / f"{row['case']}.jpg").read_bytes()
    return Panel(row["case"], embedded(picture, "jpeg"), None, caption)


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) and math.isfinite(value) else value
