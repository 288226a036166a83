"""Tasks shared by processes: every task once, a killed process loses nothing, one that always dies is named, Ctrl-C waits for what is at hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tacit.errors import UsageError
from tacit.use.engines import Lost, by_processes, check_engine, one_after_another


def squared(task: tuple[str, int]) -> int:
    """Notes each beginning; 13 always kills its process, 7 the first time."""
    folder, number = task
    begun = len(list(Path(folder).glob(f"{number}-*")))
    (Path(folder) / f"{number}-{os.getpid()}").touch()
    if number == 13 or (number == 7 and begun == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def test_every_task_has_its_result_whoever_dies(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), n) for n in (1, 7, 2, 13, 3, 4)]
    found = {task[1]: result for task, result in by_processes(squared, tasks, 2)}
    lost = found.pop(13)
    assert found == {n: n * n for n in (1, 7, 2, 3, 4)}
    assert isinstance(lost, Lost) and "killed 2 times (signal 9)" in lost.reason
    assert {n: len(list(tmp_path.glob(f"{n}-*"))) for n in (1, 2, 3, 4, 7, 13)} == {1: 1, 2: 1, 3: 1, 4: 1, 7: 2, 13: 2}


def test_one_after_another_gives_the_same(tmp_path: Path) -> None:
    tasks = [(str(tmp_path), n) for n in (1, 2, 3)]
    assert list(one_after_another(squared, tasks)) == list(zip(tasks, (1, 4, 9), strict=True))


SLOW = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tacit.use.engines import by_processes
from test_engines import slow
if __name__ == "__main__":
    for task, result in by_processes(slow, [({folder!r}, n) for n in range(6)], 2):
        (Path({folder!r}) / f"result-{{task[1]}}").touch()
"""


def slow(task: tuple[str, int]) -> int:
    """Says when it begins and when it has ended."""
    folder, number = task
    (Path(folder) / f"begun-{number}").touch()
    time.sleep(1)
    (Path(folder) / f"ended-{number}").touch()
    return number


def test_ctrl_c_waits_for_the_tasks_at_hand_and_begins_no_other(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SLOW.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    with subprocess.Popen([sys.executable, tmp_path / "run.py"], stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("begun-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    begun, ended, told = (sorted(p.name.split("-")[1] for p in tmp_path.glob(f"{what}-*")) for what in ("begun", "ended", "result"))
    assert begun == ended == told and 1 <= len(begun) <= 3


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="--workers 0"):
        check_engine("local", 0, None)
    with pytest.raises(UsageError, match="'dask' is unknown"):
        check_engine("dask", 1, None)
