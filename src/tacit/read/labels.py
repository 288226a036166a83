"""A CSV of classes: `case,class[,patient]`. Classes are names, never numbers in disguise; a case has one class, a patient may have many cases. NA is a name, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tacit.errors import InputError
from tacit.read.facts import read_text

MOST_CLASSES = 20


@dataclass(frozen=True)
class Labels:
    """case → class, and case → patient (the case itself where no patient is named). classes: their names, sorted; their places are the numbers 0 … k − 1."""

    of: dict[str, str]
    patient: dict[str, str]
    classes: tuple[str, ...]
    patients_known: bool


def read_labels(path: str | Path) -> Labels:
    """The labels of a CSV or Parquet file. Raises InputError for a missing column, an empty cell, a case with two classes, or fewer than two classes."""
    import pandas as pd

    place = Path(path)
    try:
        table = pd.read_parquet(place) if place.suffix.lower() == ".parquet" else read_text(place)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {path} cannot be read: {str(error).splitlines()[0]}") from error
    table = table.rename(columns={c: str(c).strip().lower() for c in table.columns})
    missing = [c for c in ("case", "class") if c not in table.columns]
    if missing:
        raise InputError(f"--labels {path}: no column {missing[0]!r} among {', '.join(map(str, table.columns))}; expected case,class[,patient]")
    known = "patient" in table.columns
    of: dict[str, str] = {}
    patient: dict[str, str] = {}
    for number, row in enumerate(table.to_dict("records"), 2):
        if any(pd.isna(row[c]) or not str(row[c]).strip() for c in ("case", "class")):
            raise InputError(f"--labels {path}, line {number}: an empty cell; expected case,class[,patient]")
        case, kind = str(row["case"]).strip(), str(row["class"]).strip()
        if of.get(case, kind) != kind:
            raise InputError(f"--labels {path}, line {number}: case {case!r} is {kind!r} here and {of[case]!r} above; a case has one class")
        of[case] = kind
        patient[case] = str(row["patient"]).strip() if known and not pd.isna(row["patient"]) and str(row["patient"]).strip() else case
    classes = tuple(sorted(set(of.values())))
    if len(classes) < 2:
        raise InputError(f"--labels {path}: {len(of)} cases of {'the one class ' + classes[0] if classes else 'no class'}; at least two classes are expected")
    if len(classes) > MOST_CLASSES:
        raise InputError(f"--labels {path}: {len(classes)} classes ({', '.join(classes[:4])} …); at most {MOST_CLASSES} are expected")
    return Labels(of, patient, classes, known)
