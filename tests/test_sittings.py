"""CPU seconds over the sittings of a benchmark's command: with real processes that burn them."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from sittings import counted, seated

BURN = "import sys, time\nwhile time.process_time() < {}: pass\nsys.exit({})"


def test_cpu_seconds_add_up_over_sittings_also_over_one_that_failed(tmp_path: Path) -> None:
    kept, before = tmp_path / "row-0.sittings.json", resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(subprocess.CalledProcessError):
        seated([sys.executable, "-c", BURN.format(0.4, 3)], kept)
    first = counted(kept)
    seated([sys.executable, "-c", BURN.format(0.6, 0), "--resume"], kept)
    found, after = counted(kept), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (first["sittings"], first["unseen"], found["sittings"], found["unseen"]) == (1, 0, 2, 0)
    assert first["cpu_seconds"] >= 0.39 and found["cpu_seconds"] >= first["cpu_seconds"] + 0.59
    assert found["cpu_seconds"] == pytest.approx(used, abs=0.05)


def test_a_sitting_whose_end_nobody_saw_is_known_to_be_missing(tmp_path: Path) -> None:
    kept = tmp_path / "row-0.sittings.json"
    killed = f"import sys; sys.path[:0] = {sys.path!r}\nfrom pathlib import Path\nfrom sittings import seated\n" + (
        f"seated([sys.executable, '-c', 'import os, signal; os.kill(os.getppid(), signal.SIGKILL)'], Path({str(kept)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    assert counted(kept) == {"cpu_seconds": 0, "sittings": 1, "unseen": 1}
    seated([sys.executable, "-c", BURN.format(0.2, 0), "--resume"], kept)
    assert counted(kept)["unseen"] == 1 and counted(kept)["sittings"] == 2 and counted(kept)["cpu_seconds"] >= 0.19


def test_a_run_that_began_before_its_sittings_were_counted_is_not_taken_for_whole(tmp_path: Path) -> None:
    kept = tmp_path / "row-0.sittings.json"
    seated([sys.executable, "-c", "", "--resume"], kept)
    assert (counted(kept)["sittings"], counted(kept)["unseen"]) == (2, 1)
    seated([sys.executable, "-c", ""], kept)
    assert (counted(kept)["sittings"], counted(kept)["unseen"]) == (1, 0)  # begun anew
