from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tacit.errors import OutputError, ReadError, StorageError
from tacit.files import storage_error
from tacit.run import command_line, difference, open_run


def test_a_run_leaves_its_record(tmp_path: Path) -> None:
    with open_run(tmp_path / "o", command="tacit x", settings={"a": {"b": 1}}, reads=[]) as run:
        run.fail("p.png", ReadError("p.png", "torn", "mend it"))
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["status"] == "finished" and record["failed"] == 1 and record["versions"]["torch"]
    assert (tmp_path / "o" / "failures.csv").read_text() == "file,reason,remedy\np.png,torn,mend it\n"
    assert not (tmp_path / "o" / ".lock").exists()


def test_a_full_out_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"not empty.*--resume.*--overwrite"), open_run(tmp_path, command="", settings={}, reads=[], resume=False):
        pass


def test_resume_is_recommended_only_where_the_verb_has_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with (
        pytest.raises(OutputError, match=r"is not empty; give another folder, or --overwrite to replace it$"),
        open_run(tmp_path, command="", settings={}, reads=[]),
    ):
        pass
    for resume, said in ((None, "then repeat the command$"), (False, "then repeat the command with --resume$")):
        with pytest.raises(StorageError, match=said), open_run(tmp_path / str(resume), command="", settings={}, reads=[], resume=resume) as run:
            raise storage_error(run.folder / "masks" / "a.png", OSError(errno.ENOSPC, "No space left on device"))
    unwritable = pytest.raises(StorageError, match=r"may not be written: choose another OUT or change its permissions$")
    with unwritable, open_run(tmp_path / "o", command="", settings={}, reads=[], resume=False) as run:
        raise storage_error(run.folder / "a.png", OSError(errno.EACCES, "Permission denied"))


def test_overwrite_deletes_a_run_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "o"
    with open_run(out, command="", settings={}, reads=[]):
        (out / "masks").mkdir()
        (out / "masks" / "old.png").touch()
    with open_run(out, command="", settings={}, reads=[], overwrite=True):
        assert not (out / "masks").exists()
    (out / "thesis.docx").touch()
    with pytest.raises(OutputError, match=r"thesis\.docx"), open_run(out, command="", settings={}, reads=[], overwrite=True):
        pass
    assert (out / "thesis.docx").exists()


def test_resume_wants_the_same_settings(tmp_path: Path) -> None:
    with open_run(tmp_path / "o", command="", settings={"train": {"epochs": 3}}, reads=[]):
        pass
    with open_run(tmp_path / "o", command="", settings={"train": {"epochs": 3}}, reads=[], resume=True):
        pass
    with (
        pytest.raises(OutputError, match=r"train\.epochs was 3 and is now 4"),
        open_run(tmp_path / "o", command="", settings={"train": {"epochs": 4}}, reads=[], resume=True),
    ):
        pass


def test_resume_wants_the_same_files_and_remembers_those_of_the_first_run(tmp_path: Path) -> None:
    def again(hashes: dict[str, str]) -> str:
        with open_run(tmp_path / "o", command="", settings={}, reads=[], resume=(tmp_path / "o").exists()) as run:
            run.check_same(hashes, "my scans")
            return str(run.record["data"])

    assert again({"a": "1", "b": "2"}) == again({"b": "2", "a": "1"})
    for other in ({"a": "1"}, {"a": "1", "b": "3"}, {"a": "1", "c": "2"}):
        with pytest.raises(OutputError, match="some in my scans have changed since"):
            again(other)


def test_none_and_absent_are_the_same_setting() -> None:
    assert difference({"a": 1}, {"a": 1, "b": None}) == ""


def _hold(out: str, ready: str) -> None:
    with open_run(out, command="", settings={}, reads=[]):
        Path(ready).touch()
        time.sleep(60)


def test_two_runs_cannot_share_an_out_and_a_dead_owner_frees_it_at_once(tmp_path: Path) -> None:
    owner = multiprocessing.get_context("spawn").Process(target=_hold, args=(str(tmp_path / "o"), str(tmp_path / "ready")))
    owner.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    with pytest.raises(OutputError, match="another run"), open_run(tmp_path / "o", command="", settings={}, reads=[], resume=True):
        pass
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    with open_run(tmp_path / "o", command="", settings={}, reads=[], resume=True):
        pass


def test_an_error_inside_is_recorded(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(tmp_path / "o", command="", settings={}, reads=[]):
        _ = 1 / 0
    assert "ZeroDivisionError" in json.loads((tmp_path / "o" / "run.json").read_text())["status"]


def test_a_command_line_quotes_repeats_drops_defaults_and_never_tells_the_salt() -> None:
    defaults = {"near": 5, "seed": 0, "device": "cpu"}
    line = command_line(
        "audit", "my scans", Path("out"), defaults, near=3, seed=0, device=None, keep_identifiers=True, learn=False, n=4, set=["a.b=1", "c=d e"], salt="x"
    )
    assert line == "tacit audit 'my scans' -o out --near 3 --keep-identifiers -n 4 --set a.b=1 --set 'c=d e'"
