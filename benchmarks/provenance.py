"""What a result needs to be repeated: the command, the commit it ran at, the versions, the seed where one was drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tacit.run import versions

ROOT = Path(__file__).resolve().parents[1]
COMMIT = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()  # as the script began


def stamp(seed: int | None = None) -> dict[str, Any]:
    """To be laid into a result's record."""
    command = f"python benchmarks/{Path(sys.argv[0]).name}"
    return {"command": command, "commit": COMMIT, "versions": versions(), **({} if seed is None else {"seed": seed})}
