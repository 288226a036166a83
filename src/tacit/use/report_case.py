"""One page a case: its class with the members' spread, what each slice says, where the evidence lies, and the slices themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.files import write_atomic
from tacit.learn.case_answers import evenly
from tacit.report.class_figures import evidence_plot
from tacit.report.heat import coronal, heated, side_by_side
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg
from tacit.run import Run

TELLING, SEEN = 4, 12  # slices on the page: the most telling ones, and evenly along the case
Row = dict[str, Any]


def write_case_page(
    run: Run, row: Row, curve: NDArray[np.float64], stack: NDArray[np.uint8], heat: NDArray[np.float32] | None, classes: tuple[str, ...], meaning: str
) -> None:
    """reports/<case>.html; figures/cases/<case>.jpg, its most telling slice with the heat over it; figures/maps/<case>.jpg, where heat is given.

    row: of tables/cases.csv · curve (s, k): what each slice of the stack (s, h, w) says · heat (m, h', w') in 0–1: of m slices, evenly along the stack · meaning: what the heat
    says, in words.
    """
    name, own = row["case"], classes.index(row["class"])
    looked_at = evenly(len(stack), len(heat)) if heat is not None else np.arange(len(stack))
    said = curve[looked_at, own] if np.isfinite(curve).all() else np.ones(len(looked_at))
    strength = said if heat is None else said + 1e-3 * heat.reshape(len(heat), -1).max(1)
    telling = np.sort(np.argsort(-strength, kind="stable")[:TELLING])
    best = int(np.argmax(strength))
    shown, numbers = stack[looked_at], (looked_at + 1).tolist()
    where = meaning if heat is not None else "This pipeline tells no place inside a slice."
    most = side_by_side(shown[telling], [numbers[t] for t in telling], None if heat is None else heat[telling])
    figures = [Panel("Most telling slices", _picture(most), None, where)]
    if len(stack) > 1:
        if np.isfinite(curve).all():
            figures.insert(0, Panel("Evidence", embedded(evidence_plot(curve, classes), "png"), None, "What each slice says, by the mean of the members."))
        seen = evenly(len(stack), SEEN)
        figures.append(Panel("As it was seen", _picture(side_by_side(stack[seen], (seen + 1).tolist())), None, f"{len(seen)} of {len(stack)} prepared slices."))
        figures.append(Panel("From the front", _picture(coronal(stack)), None, "The brightest along each ray: what the preparation kept of lungs and lesions."))
    if heat is not None:
        write_atomic(run.folder / "figures" / "maps" / f"{name}.jpg", jpeg(side_by_side(shown, numbers, heat)))
    write_thumb(run, name, shown[best], None if heat is None else heat[best])
    text = page(
        title=f"{name}: {row['class']}",
        subtitle="Tacit classify: one case. The range is the least and the most that a member says, no confidence interval",
        facts=[(c, f"{row['p_' + c]:.3f}, members {row['low_' + c]:.3f} to {row['high_' + c]:.3f}") for c in classes] + [("slices", str(len(stack)))],
        galleries=[],
        figures=figures,
        tables=[],
        failures=[],
        settings=f"see ../config.toml; the whole cohort: ../report.html\n{run.record['command']}",
    )
    write_atomic(run.folder / "reports" / f"{name}.html", text)


def write_thumb(run: Run, name: str, plane: NDArray[np.uint8], heat: NDArray[np.float32] | None = None) -> None:
    """figures/cases/<name>.jpg: one slice (h, w), with its heat where there is one."""
    thumb = heated(plane, heat) if heat is not None else np.repeat(plane[..., None], 3, axis=2)
    write_atomic(run.folder / "figures" / "cases" / f"{name}.jpg", jpeg(thumb))


def _picture(picture: NDArray[np.uint8]) -> str:
    return embedded(jpeg(picture), "jpeg")
