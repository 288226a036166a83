"""What runs of `tacit classify` said of the same cases: read from their folders, brought to one order, with the class and the patient of each case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.config import read_toml
from tacit.errors import InputError, UsageError
from tacit.read.labels import read_labels
from tacit.report.models import HARD, SOFT

NAMED = 5  # cases that a message names


@dataclass(frozen=True)
class Answered:
    """One run. p: case → (k,); of, patient: case → class and patient where the run knows them (what fit wrote), else empty. digests: case → its files' hash."""

    folder: Path
    kind: str  # fit or predict
    classes: tuple[str, ...]
    p: dict[str, NDArray[np.float64]]
    of: dict[str, str]
    patient: dict[str, str]
    digests: dict[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shared:
    """The cases that all runs answered and whose class is known. p: run → (n, k); labels (n,); left_out: (case, why)."""

    classes: tuple[str, ...]
    cases: list[str]
    p: dict[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    patients_known: bool
    left_out: list[tuple[str, str]]
    warnings: list[str]


def read_answers(run: str | Path) -> Answered:
    """The answers in the OUT of `tacit classify fit` (out of fold) or `predict`. Raises InputError where there are none."""
    folder = Path(run)
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run} is not the folder of a run (its run.json: {error}); give the OUT of tacit classify fit or predict") from error
    fitted, predicted = folder / "tables" / "out_of_fold.csv", folder / "tables" / "cases.csv"
    kind = "fit" if fitted.is_file() else "predict"
    if not str(record.get("command", "")).startswith(f"tacit classify {kind} ") or "classes" not in record:
        raise InputError(f"{run} is no run of tacit classify ({str(record.get('command', 'no command'))[:60]}); give the OUT of tacit classify fit or predict")
    if record.get("status") != "finished":
        raise InputError(f"{run} is not finished ({record.get('status')}); run it again")
    classes = tuple(str(c) for c in record["classes"])
    rows = _rows(fitted if kind == "fit" else predicted, classes)
    of, patient = ({row["case"]: row[column] for row in rows} if kind == "fit" else {} for column in ("class", "patient"))
    try:
        p = {row["case"]: np.array([float(row[f"p_{c}"]) for c in classes]) for row in rows}
    except ValueError as error:
        raise InputError(f"{run}: its table of answers is damaged ({error}); run tacit classify {kind} again") from error
    return Answered(
        folder, kind, classes, p, of, patient, dict(record.get("inputs", {})), _taught(folder, record) if kind == "predict" else _searched(folder, record)
    )


def shared(runs: list[Answered], labels: str | Path | None) -> Shared:
    """The runs' common cases, sorted. labels: CSV case,class[,patient], wanted where a run does not know the classes.

    Raises UsageError for unlike classes, for one case with two classes or patients, or without labels; InputError where no case is shared.
    """
    first = runs[0]
    for other in runs[1:]:
        if set(other.classes) != set(first.classes):
            raise UsageError(
                f"{first.folder} tells {', '.join(first.classes)} and {other.folder} tells {', '.join(other.classes)}; compare runs of the same classes"
            )
    of, patient, known = _truth(runs, labels)
    answered = [set(run.p) for run in runs]
    everywhere = set.intersection(*answered)
    cases = sorted(everywhere & set(of))
    if not cases:
        missing = "" if everywhere else f" ({', '.join(f'{run.folder} has {len(run.p)}, as {min(run.p)}' for run in runs)})"
        raise InputError(
            f"no case is answered by all {len(runs)} runs{missing}" if not everywhere else f"none of the {len(everywhere)} shared cases has a class in {labels}"
        )
    left_out = [(case, _why(case, runs)) for case in sorted(set.union(*answered) - set(cases))]
    unknown = sorted({of[c] for c in cases} - set(first.classes))
    if unknown:
        raise UsageError(f"the labels name the class {unknown[0]!r}, which the runs do not tell ({', '.join(first.classes)}); correct the labels")
    if len({of[c] for c in cases}) < 2:
        raise InputError(f"all {len(cases)} shared cases are {of[cases[0]]!r}; at least two classes are expected")
    p = {name: np.stack([run.p[c] for c in cases])[:, [run.classes.index(k) for k in first.classes]] for name, run in zip(_names(runs), runs, strict=True)}
    y = np.array([first.classes.index(of[c]) for c in cases], np.int64)
    warnings = [w for run in runs for w in run.warnings] + _changed(runs, cases)
    if left_out:
        some = ", ".join(case for case, _ in left_out[:NAMED])
        warnings.append(f"{len(left_out)} cases are not in the comparison ({some}{' …' if len(left_out) > NAMED else ''}): tables/left_out.csv says why.")
    return Shared(first.classes, cases, p, y, np.array([patient.get(c, c) for c in cases]), known, left_out, warnings)


def _truth(runs: list[Answered], labels: str | Path | None) -> tuple[dict[str, str], dict[str, str], bool]:
    """(case → class, case → patient, whether patients are named), from the runs and the labels."""
    sources = [(str(run.folder), run.of, run.patient) for run in runs if run.of]
    if labels is not None:
        given = read_labels(labels)
        sources.append((f"--labels {labels}", given.of, given.patient))
    if not sources:
        raise UsageError("runs of tacit classify predict do not know the true classes; give them with --labels case,class[,patient]")
    of: dict[str, str] = {}
    patient: dict[str, str] = {}
    said: dict[str, str] = {}
    for where, classes, patients in sources:
        named = any(who != case for case, who in patients.items())
        for case, kind in classes.items():
            if of.setdefault(case, kind) != kind:
                raise UsageError(f"case {case!r} is {of[case]!r} in {said[case]} and {kind!r} in {where}; the runs must be taught by the same labels")
            said.setdefault(case, where)
            if named and patient.setdefault(case, patients[case]) != patients[case]:
                raise UsageError(
                    f"case {case!r} is of patient {patient[case]!r} in one run and of {patients[case]!r} in {where}; give the runs the same patients"
                )
    return of, patient, bool(patient)


def _rows(path: Path, classes: tuple[str, ...]) -> list[dict[str, str]]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    missing = [c for c in ("case", "class", *(f"p_{k}" for k in classes)) if c not in table.columns]
    if missing or not len(table):
        raise InputError(f"{path}: {'no column ' + repr(missing[0]) if missing else 'no case'}; run tacit classify again")
    return [{str(k): str(v) for k, v in row.items()} for row in table.to_dict("records")]


def _taught(folder: Path, record: dict[str, Any]) -> tuple[str, ...]:
    """A warning where cases of a prediction taught its model, as far as the model's run is still there."""
    try:
        model = Path(read_toml(folder / "config.toml")["classify"]["model"])
        taught = json.loads((model / "run.json").read_text(encoding="utf-8"))["inputs"]
    except (OSError, ValueError, KeyError, InputError, UsageError):
        return ()
    known = {digest for name, digest in taught.items() if not name.startswith("--labels")}
    seen = sorted(name for name, digest in dict(record.get("inputs", {})).items() if digest in known)
    if not seen:
        return ()
    some = ", ".join(seen[:NAMED]) + (" …" if len(seen) > NAMED else "")
    return (f"{folder}: {len(seen)} of its cases ({some}) taught the very model that answers them; its figures are too good.",)


def _searched(folder: Path, record: dict[str, Any]) -> tuple[str, ...]:
    """A warning where the settings of a fit were searched on these very cases."""
    about = record.get("tuning")
    if not about:
        return ()
    return (f"{folder}: its settings were searched on these cases ({about['trials']} trials), so its figures here are optimistic beside runs that were not.",)


def _changed(runs: list[Answered], cases: list[str]) -> list[str]:
    first, said = runs[0], []
    for run in runs[1:]:
        other = [c for c in cases if c in first.digests and c in run.digests and first.digests[c] != run.digests[c]]
        if other:
            some = ", ".join(other[:NAMED]) + (" …" if len(other) > NAMED else "")
            said.append(f"{len(other)} cases of {run.folder} are made of other files than in {first.folder} ({some}): they are compared by name.")
    return said


def _why(case: str, runs: list[Answered]) -> str:
    absent = [str(run.folder) for run in runs if case not in run.p]
    return f"not answered by {', '.join(absent)}" if absent else "no class is known"


def _names(runs: list[Answered]) -> list[str]:
    """The folders' own names where these differ, else their paths; never the name of a vote."""
    ways = [[run.folder.name for run in runs], [str(run.folder) for run in runs], [str(run.folder.resolve()) for run in runs]]
    return next((names for names in ways if len(set(names)) == len(names) and not {SOFT, HARD} & set(names)), ways[-1])
