"""How a verb ends: where its answers are, what failed, the next useful command; answers as a table or as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from tacit.errors import SOME_FAILED


def close(out: Path, failed: int, following: str, *, report: bool = True) -> None:
    """The last lines of a verb, and the exit code when some items failed."""
    if report:
        print(f"report: {out / 'report.html'}")
    if failed:
        print(f"what failed and why: {out / 'failures.csv'}")
    print(f"next: {following}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def print_table(rows: dict[str, Any], as_json: bool) -> None:
    """A line a name, or JSON."""
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
    else:
        for key, value in rows.items():
            print(f"{key:<22} {value}")
