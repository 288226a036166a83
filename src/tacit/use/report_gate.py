"""What a gate separates: which case went where, the classes of each branch, and the facts of the files that go with the branch.

A gate on contrast is worth having where contrast is what it separates. Where headers, times or sizes of the files tell the branch, it separates sources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.files import write_atomic
from tacit.learn.case_answers import Rows
from tacit.learn.gated import BRANCHES, Gated
from tacit.prepare.associate import association, cramers_v
from tacit.prepare.explore import shortcut
from tacit.read.labels import Labels
from tacit.report.classes import TELLING, area, draws_of, interval_of, one_area
from tacit.report.gate_figure import gate_plot
from tacit.report.page import Panel
from tacit.report.picture import embedded
from tacit.run import Run, as_csv
from tacit.use.cohort import Case
from tacit.use.shortcuts import metadata_of

NAMED, STRONG = 3, 0.3  # facts that the sentence names at most; how strong on the scale of `_strength` they must be
SHOWN = 15  # facts on the page


@dataclass(frozen=True)
class Extra:
    """What a pipeline adds to the page of `tacit classify fit`."""

    tables: list[tuple[str, str, list[str], list[list[Any]]]] = field(default_factory=list)
    figures: list[Panel] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def gate_report(network: Gated, cases: list[Case], kept: Any, labels: Labels, p: Rows, y: NDArray[np.int64], run: Run) -> Extra:
    """Writes tables/gate.csv, tables/gate_branches.csv, tables/gate_facts.csv and figures/gate.png; gives what the page shows. p (n, k) out of fold, y (n,)."""
    numbers = network.numbers(kept)
    sides, threshold = network.sides(numbers), float(network.threshold)
    groups = np.array([labels.patient[c.name] for c in cases])
    write_atomic(run.folder / "tables" / "gate.csv", as_csv(("case", "value", "branch"), [(c.name, f"{v:.6g}", s) for c, v, s in zip(cases, numbers, sides, strict=True)]))  # fmt: skip
    header, rows = _branches(network, p, y, sides, groups)
    write_atomic(run.folder / "tables" / "gate_branches.csv", as_csv(tuple(header), [tuple(row) for row in rows]))
    columns = metadata_of(cases)
    facts = sorted(((name, *association(column, sides == "high")) for name, column in columns.items()), key=lambda f: -_strength(f[1], f[2]))
    facts = [f for f in facts if np.isfinite(f[2])]
    write_atomic(run.folder / "tables" / "gate_facts.csv", as_csv(("fact", "measure", "strength"), [(n, m, f"{v:.4f}") for n, m, v in facts]))
    plot = gate_plot(numbers, y, labels.classes, threshold, f"{network.config.by}, {network.config.over} of the slices" if network.config.unit == "series" else network.config.by)  # fmt: skip
    write_atomic(run.folder / "figures" / "gate.png", plot)
    said, telling = _sentence(columns, facts, sides, groups, run.record["seed"])
    alone, ends = _alone(numbers, y, groups, len(labels.classes), run.record["seed"])
    by_class = cramers_v([labels.classes[int(j)] for j in y], sides.tolist())
    run.record["gate"] = {"by": network.config.by, "threshold": threshold, "low": int((sides == "low").sum()), "high": int((sides == "high").sum()), "said": said,
                          "classes_cramers_v": round(by_class, 4), "value_alone_auc": round(alone, 4), "value_alone_interval": ends}  # fmt: skip
    note = f"{network.config.by} above {threshold:.4g} is high. {said} Classes and branches go together with Cramér's V {by_class:.3f}; the number alone tells the classes with an area of {alone:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]."
    shown = [[n, "area" if m == "auc" else "Cramér's V", f"{v:.3f}"] for n, m, v in facts[:SHOWN]]
    tables: list[tuple[str, str, list[str], list[list[Any]]]] = [
        ("Gate", note, header, [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in rows])
    ]
    if shown:
        tables.append(("What goes with the branch", "Each fact of the files alone, on these very cases: .5 is chance for an area, 0 for Cramér's V. All are in tables/gate_facts.csv.", ["fact", "measure", "strength"], shown))  # fmt: skip
    warnings = [said] if telling else []
    if ends[0] > TELLING:
        warnings.append(
            f"The gate's {network.config.by} alone tells the classes with an area of {alone:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]: the branches hold other shares "
            "of the classes, and the one that answers leans to its own. Look whether that is disease or export."
        )
    return Extra(tables, [Panel("Gate", embedded(plot, "png"), None, "The number of each case by class; right of the line is high.")], warnings)


def _branches(network: Gated, p: Rows, y: NDArray[np.int64], sides: NDArray[np.str_], groups: NDArray) -> tuple[list[str], list[list[Any]]]:
    """A row a branch: its pipeline, its cases and patients, the share of each class, and what it is worth out of fold."""
    classes = network.CLASSES
    header = ["branch", "pipeline", "cases", "patients", *(f"share_{c}" for c in classes), "accuracy", "auc"]
    rows: list[list[Any]] = []
    for side in BRANCHES:
        own = sides == side
        shares = [round(float((y[own] == j).mean()), 4) for j in range(len(classes))]
        worth = [round(float((p[own].argmax(1) == y[own]).mean()), 4), round(area(p[own], y[own]), 4)]
        rows.append([side, getattr(network.config, side).pipeline, int(own.sum()), len(np.unique(groups[own])), *shares, *worth])
    return header, rows


def _sentence(columns: Any, facts: list[tuple[str, str, float]], sides: NDArray[np.str_], groups: NDArray, seed: int) -> tuple[str, bool]:
    """What the gate separates in plain words, and whether it is an alarm."""
    found = shortcut("the branch", columns, [str(s) for s in sides], [str(g) for g in groups], seed=seed)
    if found is None:
        return (
            "Whether the files' headers, times and sizes tell the branch cannot be judged: nothing differs between them, or a branch has too few patients.",
            False,
        )
    ends = f"an area of {found.auc:.3f} [{found.interval[0]:.3f}, {found.interval[1]:.3f}]"
    if found.interval[0] <= TELLING:
        return f"Headers, times and sizes of the files alone do not tell the branch ({ends}).", False
    most = ", ".join(
        f"{name} {'V' if measure == 'cramers-v' else 'area'} {value:.2f}" for name, measure, value in facts[:NAMED] if _strength(measure, value) >= STRONG
    )
    return (
        f"The gate separates sources of the files, not contrast: their headers, times and sizes alone tell the branch with {ends}{f'; most of all {most}' if most else ''}.",
        True,
    )


def _strength(measure: str, value: float) -> float:
    """Areas and Cramér's V on one scale, 0 to 1; what is nan last."""
    return -1.0 if not np.isfinite(value) else 2 * value - 1 if measure == "auc" else value


def _alone(numbers: Rows, y: NDArray[np.int64], groups: NDArray, k: int, seed: int) -> tuple[float, list[float]]:
    """The area with which the number alone tells the classes, each against the rest in the direction that it points on all cases, and its interval over patients."""
    turned = [1 if one_area(numbers, y == j) >= 0.5 else -1 for j in range(k)]
    table = np.stack([sign * numbers for sign in turned], 1)
    return area(table, y), interval_of([area(table[d], y[d]) for d in draws_of(groups, seed)])
