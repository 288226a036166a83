"""CPU seconds of a command that is stopped and resumed: added up over its sittings, kept in a file beside the run.

A sitting is written down before it begins and again when it ends, however it ends, so that one whose end was not seen (this process was killed with it) is known to be missing.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tacit.files import write_atomic


def seated(command: list[str], kept: Path) -> None:
    """Runs one sitting and adds it to `kept`; a command without `--resume` begins anew. Raises CalledProcessError.

    A run that is resumed while `kept` is not there began before its sittings were counted: they are one whose end was not seen.
    """
    earlier: list[float | None] = []
    if "--resume" in command:
        earlier = _sittings(kept) if kept.exists() else [None]
    _keep(kept, [*earlier, None])
    before = _children()
    try:
        subprocess.run(command, check=True)
    finally:
        _keep(kept, [*earlier, round(_children() - before, 2)])


def counted(kept: Path) -> dict[str, Any]:
    """cpu_seconds: of all sittings whose end was seen · sittings: how many there were · unseen: of those, how many are not in the sum."""
    sittings = _sittings(kept)
    return {"cpu_seconds": round(sum(s for s in sittings if s is not None), 2), "sittings": len(sittings), "unseen": sittings.count(None)}


def _sittings(kept: Path) -> list[float | None]:
    found: list[float | None] = json.loads(kept.read_text())["cpu_seconds"]
    return found


def _keep(kept: Path, sittings: list[float | None]) -> None:
    write_atomic(kept, json.dumps({"cpu_seconds": sittings}) + "\n")


def _children() -> float:
    """User and system seconds of the processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system
