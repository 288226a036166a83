"""The audit's figures and page: what is there, what is wrong, what is alike, what could betray the class."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tacit.config import to_toml
from tacit.errors import ReadError
from tacit.files import write_atomic
from tacit.prepare.explore import ClassImages, Shortcut
from tacit.read.picture import read_picture
from tacit.report import figures
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg
from tacit.run import Run, as_csv
from tacit.use.audit_items import Item, SeriesRow

if TYPE_CHECKING:
    from tacit.use.audit import AuditResult

MOST_ROWS, MOST_PAIRS, MOST_CLASSES = 200, 8, 6


def write_audit_report(
    run: Run,
    result: AuditResult,
    items: list[Item],
    rows: list[SeriesRow],
    pairs: list[tuple[Any, ...]],
    classes: ClassImages,
    shortcuts: list[Shortcut],
    settings: dict[str, Any],
) -> None:
    """figures/*.png and report.html."""
    drawn = {name: png for name, png in _figures(items, classes).items() if png}
    for name, png in drawn.items():
        write_atomic(run.folder / "figures" / f"{name}.png", png)
    kinds = Counter(i.kind for i in items)
    facts = [
        ("files", f"{result.files}: " + ", ".join(f"{n} {k}" for k, n in kinds.most_common())),
        ("kept in the manifest", f"{result.kept} of {result.files}"),
        ("series", f"{result.series}, {sum(bool(r.words or r.missing or r.duplicate or r.foreign or r.shuffled) for r in rows)} of them with something wrong"),
        ("classes", ", ".join(f"{k} {n}" for k, n in Counter(i.label for i in items if i.keep and i.label).most_common()) or "not known"),
        ("patients", str(len({i.patient for i in items if i.patient}) or "not known")),
        (
            "near twins",
            f"{result.near_pairs} pairs, {sum(p[4] is False for p in pairs)} of them across splits, {sum(p[3] is False for p in pairs)} across classes",
        ),
        ("took", f"{run.seconds:.0f} s"),
    ]
    plots = [Panel(name.replace("_", " "), embedded(png, "png"), None, CAPTIONS[name]) for name, png in drawn.items()]
    galleries = [("Near twins", "The most alike first; both pictures of a pair side by side.", _twin_panels(pairs))]
    tables = [
        ("What was found", "How often each reason stands in manifest.csv.", ["reason", "files"], [[k, v] for k, v in result.reasons.items()]),
        (
            "Series",
            f"tables/series.csv holds all {len(rows)}.",
            ["series", "kind", "slices", "missing", "duplicate", "foreign", "shuffled", "spacing, mm", "tilt, °", "in words"],
            [[r.series, r.kind, r.slices, r.missing, r.duplicate, r.foreign, r.shuffled, _number(r.spacing_mm), r.tilt_deg, r.words] for r in rows[:MOST_ROWS]],
        ),
        (
            "Shortcut audit",
            "How well facts that have nothing to do with disease tell the class: cross-validated AUC with its 95% interval over patients. "
            "Near .5 is good; an interval above .5 means that a network may learn the scanner instead of the patient.",
            ["facts", "AUC", "95% interval", "cases", "patients", "used"],
            [[s.name, f"{s.auc:.3f}", f"{s.interval[0]:.3f} – {s.interval[1]:.3f}", s.cases, s.groups, ", ".join(s.features)] for s in shortcuts],
        ),
    ]
    header = ("facts", "auc", "low", "high", "cases", "groups", "used")
    lines = [(s.name, round(s.auc, 4), round(s.interval[0], 4), round(s.interval[1], 4), s.cases, s.groups, " ".join(s.features)) for s in shortcuts]
    write_atomic(run.folder / "tables" / "shortcuts.csv", as_csv(header, lines))
    text = page(
        title="Audit",
        subtitle=run.record["command"],
        facts=facts,
        figures=plots,
        galleries=galleries,
        tables=[t for t in tables if t[3]],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings_of(rows, pairs, shortcuts),
    )
    write_atomic(run.folder / "report.html", text)


CAPTIONS = {
    "distributions": "grey values, contrast and size of every readable picture or slice, by class where classes are known",
    "class_images": "mean and SD of each class, one window for all, and the difference of the means",
    "times": "when files were changed and series taken, by class: classes that lie apart can be told by time alone",
}


def warnings_of(rows: list[SeriesRow], pairs: list[tuple[Any, ...]], shortcuts: list[Shortcut]) -> list[str]:
    """What a person should know before anything else, one sentence each."""
    found = [
        f"{s.name} alone tell the class: AUC {s.auc:.2f} [{s.interval[0]:.2f}, {s.interval[1]:.2f}]. Any accuracy on this collection may be theirs."
        for s in shortcuts
        if s.alarming
    ]
    across = sum(p[4] is False for p in pairs)
    if across:
        found.append(f"{across} {_pairs(across)} of near twins lie in two splits: a test on such pictures tests memory. tables/pairs.csv names them.")
    odd = sum(p[3] is False for p in pairs)
    if odd:
        found.append(f"{odd} {_pairs(odd)} of near twins carry different classes: one of each two labels may be wrong.")
    broken = [r for r in rows if r.missing or r.foreign or r.duplicate]
    if broken:
        found.append(f"{len(broken)} of {len(rows)} series have missing, foreign or duplicate slices.")
    return found


def _pairs(count: int) -> str:
    return "pair" if count == 1 else "pairs"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _figures(items: list[Item], classes: ClassImages) -> dict[str, bytes | None]:
    times = times_of(items)
    return {"distributions": _distributions(items), "class_images": _class_images(classes), "times": figures.over_time(times) if times else None}


def _distributions(items: list[Item]) -> bytes | None:
    seen = [i for i in items if "grey_mean" in i.facts]
    if not seen:
        return None
    panels: dict[str, dict[str, list[float]]] = {}
    for name, words in (("grey_mean", "mean grey value"), ("contrast", "contrast (1st–99th percentile)"), ("width", "width, px"), ("height", "height, px")):
        by_class: dict[str, list[float]] = defaultdict(list)
        for item in seen:
            by_class[item.label].append(float(item.facts[name]))
        panels[words] = dict(sorted(by_class.items()))
    spaced: dict[str, list[float]] = defaultdict(list)
    for item in items:
        if item.keep and item.spacing:
            spaced[item.label].append(float(item.spacing.split("×")[0]))
    if spaced:
        panels["spacing, mm (of slices, or of pixels)"] = dict(sorted(spaced.items()))
    return figures.histograms(panels)


def _class_images(classes: ClassImages) -> bytes | None:
    names = sorted(classes.count, key=lambda n: -classes.count[n])[:MOST_CLASSES]
    names = [n for n in names if classes.count[n] > 1]
    if not names:
        return None
    shown = [(f"mean, {n} ({classes.count[n]})", classes.mean[n], False) for n in names] + [(f"SD, {n}", classes.deviation(n), False) for n in names]
    shown += [(f"{a} − {b}", classes.difference(a, b), True) for a, b in list(combinations(names, 2))[:6]]
    return figures.grey_row(shown)


def times_of(items: list[Item]) -> dict[str, dict[str, list[float]]]:
    """When kept items with a class were changed and taken: what → class → days since the first of all, for what at least two classes state."""
    changed: dict[str, list[float]] = defaultdict(list)
    taken: dict[str, list[float]] = defaultdict(list)
    for item in items:
        if not (item.keep and item.label):
            continue
        try:
            changed[item.label].append(item.path.stat().st_mtime / 86400)
        except OSError:
            continue
        date = str(item.facts.get("header StudyDate", ""))
        if len(date) == 8 and date.isdigit():
            try:
                taken[item.label].append(float(datetime.strptime(date, "%Y%m%d").toordinal()))
            except ValueError:
                continue
    panels: dict[str, dict[str, list[float]]] = {}
    for title, groups in (("file changed", changed), ("study taken", taken)):
        if len(groups) > 1:
            first = min(min(v) for v in groups.values())
            panels[title] = {label: [t - first for t in times] for label, times in sorted(groups.items())}
    return panels


def _twin_panels(pairs: list[tuple[Any, ...]]) -> list[Panel]:
    panels = []
    for a, b, distance, *_ in pairs:
        try:
            left, right = (read_picture(Path(p)).pixels for p in (a, b))
        except ReadError:
            continue  # slices and volumes are named in the table
        size = (left.shape[1] * 320 // left.shape[0], 320)
        both = np.hstack([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (left, right)])
        panels.append(Panel(f"{Path(a).name} and {Path(b).name}", embedded(jpeg(both), "jpeg"), None, f"{distance} of 64 bits apart"))
        if len(panels) >= MOST_PAIRS:
            break
    return panels
