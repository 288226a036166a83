"""What tables tell of images besides their pixels: patient, site, label, and whatever else they hold, by the columns' usual names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tacit.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("path", "wsi", "slide", "file", "filename", "image", "name", "case")  # columns that name an image, the first one counts
KNOWN = {  # our column ← the first of theirs whose name is or holds one of these words
    "patient": ("patient",),
    "site": ("site", "center", "centre", "hospital", "institution", "laboratory"),
    "label": ("label", "class", "grade", "diagnosis"),
}
TEXTS = ("slide", "path")  # text also where they look like numbers
Facts = dict[str, str | float | None]


def facts_of(table: pd.DataFrame, leave: frozenset[str] = frozenset()) -> list[Facts]:
    """A dict a row: patient, site and label by whatever they are called, then every other column but those in `leave`.

    Names become lower case with _ for other signs. Numbers are floats, everything else is text, empty cells are None.
    """
    import pandas as pd

    columns: dict[str, list[str | float | None]] = {}
    taken = {ours: found for ours, words in KNOWN.items() if (found := _called(table, words))}
    for ours, theirs in taken.items():
        columns[ours] = [_text(v) for v in table[theirs]]
    for name in table.columns:
        plain = plain_name(name)
        if plain in leave or name in taken.values() or not plain or plain in columns:
            continue
        values = table[name]
        numbers = pd.to_numeric(values, errors="coerce")
        if plain not in TEXTS and not pd.api.types.is_bool_dtype(values) and numbers.notna().any() and (numbers.notna() == values.notna()).all():
            columns[plain] = [None if pd.isna(v) else float(v) for v in numbers]
        else:
            columns[plain] = [_text(v) for v in values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)] if columns else [{} for _ in range(len(table))]


def read_facts(path: Path) -> dict[str, Facts]:
    """File name or stem → facts, of a CSV or Parquet table with a column that names images (path, file, image, name …) and one of patients.

    Raises InputError where one of the two is missing, or a name has two different patients.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.suffix.lower() == ".parquet" else read_text(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"--patients {path} cannot be read: {str(error).splitlines()[0]}") from error
    low = {plain_name(c): c for c in table.columns}
    name = next((low[n] for n in NAMES if n in low), None)
    if name is None or _called(table, KNOWN["patient"]) is None:
        raise InputError(f"--patients {path} needs a column path (or file, image, name) and a column patient; it has {', '.join(map(str, table.columns))}")
    found: dict[str, Facts] = {}
    for key, facts in zip(table[name], facts_of(table.drop(columns=[name])), strict=True):
        if pd.isna(key):
            continue
        key = Path(str(key).strip()).name
        if found.setdefault(key, facts)["patient"] != facts["patient"]:
            raise InputError(f"--patients {path} gives {key!r} two patients: {found[key]['patient']!r} and {facts['patient']!r}")
    return found


def read_text(path: Path) -> pd.DataFrame:
    """A CSV with every cell as text. In columns of names, patients, sites and labels NA, None and null are names too, and only nothing is nothing."""
    import pandas as pd

    usual = pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    exact = pd.read_csv(path, dtype=str, skipinitialspace=True, encoding="utf-8-sig", keep_default_na=False, na_values=[""])
    words = {*NAMES, "series", *(word for known in KNOWN.values() for word in known)}
    return usual.assign(**{c: exact[c] for c in usual.columns if words & set(plain_name(c).split("_"))})


def text_columns(path: Path) -> dict[str, type]:
    """The columns of a CSV that are names even where they look like numbers: patient 007 is not patient 7."""
    import pandas as pd

    names = pd.read_csv(path, nrows=0).columns
    words = {*TEXTS, *(word for known in KNOWN.values() for word in known)}
    return {name: str for name in names if words & set(plain_name(name).split("_"))}


def plain_name(name: object) -> str:
    """A column's name as SQL takes it without quotes.

    >>> plain_name("Grade (GlaS)")
    'grade_glas'
    """
    plain = re.sub(r"[^a-z0-9]+", "_", str(name).strip().lower()).strip("_")
    return f"_{plain}" if plain[:1].isdigit() else plain


def _called(table: pd.DataFrame, words: tuple[str, ...]) -> str | None:
    low = {c: plain_name(c) for c in table.columns}
    same = [c for word in words for c, n in low.items() if n == word]
    return next(iter(same + [c for word in words for c, n in low.items() if word in n.split("_")]), None)


def _text(value: object) -> str | None:
    """A cell as text: 7.0 is 7, nothing is None."""
    import pandas as pd

    if pd.isna(value):
        return None
    text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
    return text or None
