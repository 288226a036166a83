"""`tacit index --list` and `--delete`: what an index holds, and rows taken out of it."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from tacit.errors import InputError, UsageError
from tacit.read.folder import is_pattern
from tacit.use.index_lock import writing
from tacit.use.store import Store, quoted


def list_index(index: str | Path) -> dict[str, Any]:
    """What made the index, its columns, and a row for each file: path, rows, slide, patient, site, label."""
    store = Store.open(index)
    about = asdict(store.about)
    about["normalisation"] = about["normalisation"]["name"]
    shown = ["path", "slide", "patient", "site", "label"]
    files: dict[str, dict[str, Any]] = {}
    for row in store.read(shown).to_pylist():
        files.setdefault(row["path"], row | {"rows": 0})["rows"] += 1
    return {
        "index": str(index),
        "rows": len(store),
        "approximate": store.has_approximate,
        **about,
        "columns": list(store.columns),
        "files": list(files.values()),
    }


def delete_from_index(index: str | Path, what: list[str]) -> int:
    """Deletes the rows that `what` names, and says how many: paths, globs of paths, or COLUMN=VALUE. Raises InputError where one fits nothing."""
    if not what:
        raise UsageError("--delete needs a path, a glob in quotes, or COLUMN=VALUE")
    Store.open(index)  # an index that is not there is not made
    with writing(index) as place:
        store = Store.open(place)
        wheres = [_where(store, one) for one in what]
        for one, where in zip(what, wheres, strict=True):
            if not store.count(where):
                raise InputError(f"--delete {one!r} fits no row of the index; see: tacit index {index} --list")
        deleted = sum(store.delete(where) for where in wheres)
        store.tidy()
    return deleted


def _where(store: Store, one: str) -> str:
    name, sign, value = one.partition("=")
    if sign and name in store.columns and not Path(one).exists():
        kind = store.columns[name]
        if pa.types.is_string(kind):
            return f"{name} = {quoted(value)}"
        try:
            return f"{name} = {float(value):.17g}"
        except ValueError as error:
            raise UsageError(f"--delete {one!r}: the column {name} holds numbers") from error
    path = str(Path(one).absolute())
    if not is_pattern(one):
        return f"path = {quoted(path)}"
    fitting = {p for p in store.read(["path"])["path"].to_pylist() if fnmatchcase(p, path)}
    return f"path IN ({', '.join(map(quoted, sorted(fitting)))})" if fitting else "false"
