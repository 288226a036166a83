"""`tacit classify compare`: runs of `tacit classify` side by side on the same cases, with paired differences, tests, and the votes of all."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit.cases import Cases
from tacit.errors import UsageError
from tacit.files import sha256
from tacit.report.models import beside, with_votes
from tacit.run import command_line, open_run
from tacit.use.classify_answers import read_answers, shared
from tacit.use.report_classify_compare import write_compare_report


@dataclass(frozen=True)
class CompareResult:
    """What a comparison came to. models: name → figures as `report.classes.figures` gives them; gains over the first, see `report.models.beside`."""

    folder: Path
    cases: int
    left_out: int
    models: dict[str, dict[str, Any]]
    gains: list[dict[str, Any]]
    warnings: list[str]


def classify_compare(
    runs: list[str] | list[Path],
    out: str | Path,
    *,
    labels: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> CompareResult:
    """Compares two or more OUTs of `tacit classify fit` (out of fold) or `predict` (with `labels`, CSV case,class[,patient]); names and defaults of the command line.

    Writes tables/models.csv, paired.csv, confusion.csv, cases.csv, left_out.csv, figures and report.html. Raises TacitError.
    """
    folders = [Path(run) for run in runs]
    if len(folders) < 2:
        raise UsageError(f"{len(folders)} RUN given; a comparison takes at least two OUT folders of tacit classify")
    if len({f.resolve() for f in folders}) < len(folders):
        raise UsageError("a RUN is named twice; name different ones to compare")
    found = shared([read_answers(folder) for folder in folders], labels)
    first, *others = folders
    command = command_line("classify compare", first, out, classify_compare.__kwdefaults__, labels=labels, seed=seed) + " " + shlex.join(map(str, others))
    settings = {"classify": {"runs": [str(f) for f in folders], "labels": str(labels) if labels else None, "seed": seed}}
    with open_run(out, command=command, settings=settings, reads=[*folders, labels], overwrite=overwrite) as run:
        hashes = {str(f): sha256(f / "run.json") for f in folders} | ({"labels": sha256(Path(labels))} if labels else {})
        run.record |= {"inputs": hashes, "data": Cases.fingerprint(hashes), "seed": seed, "device": "cpu", "uses_labels": True, "classes": list(found.classes)}
        models = with_votes(found.p)
        figures, gains = beside(models, found.labels, found.classes, found.patients, seed)
        run.record |= {"images": len(found.cases), "ok": len(found.cases), "left_out": len(found.left_out), "models": figures, "gains": gains}
        write_compare_report(run, settings, found, models, figures, gains)
        return CompareResult(Path(out), len(found.cases), len(found.left_out), figures, gains, run.record["warnings"])
