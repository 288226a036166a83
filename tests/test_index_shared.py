"""Several processes write one index: the rows of one process, each once, whoever is killed and whoever comes twice."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tacit.cli import app
from tacit.errors import InputError, OutputError, UsageError
from tacit.use import index_settle
from tacit.use.index import index_images
from tacit.use.index_lock import Shared, sharing, writing
from tacit.use.index_task import tasks_of
from tacit.use.query import query
from tacit.use.store import OF_TASK, SHARED, About, Store
from test_index import draw, slide_of

TEXTURE: dict[str, Any] = {"encoder": "texture", "tile_um": 100.0, "mpp": 1.0, "commit_rows": 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of twelve pictures, two of them with the same pixels, and a slide, with patients."""
    place = tmp_path_factory.mktemp("many")
    names = []
    for k in range(12):
        draw(place / f"{k:02d}.png", k % 10)  # 10 and 11 are 0 and 1 again: equally far from everything
        names.append(f"{k:02d}.png")
    slide_of(place / "s.svs")
    names.insert(5, "s.svs")
    pd.DataFrame({"path": names, "patient": [f"P{k % 4}" for k in range(13)], "age": range(13)}).to_csv(place / "list.csv", index=False)
    return place / "list.csv"


@pytest.fixture(scope="module")
def one(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index that one process makes."""
    place = tmp_path_factory.mktemp("one") / "index"
    index_images(images, place, **TEXTURE)
    return place


def rows(index: Path) -> list[dict[str, Any]]:
    """Every row with its row_id and the bytes of its vector, in order of row_id."""
    store = Store.open(index)
    vectors = [v.tobytes() for v in store.vectors()]
    return [row | {"vector": v} for row, v in zip(store.read(sorted(store.columns)).to_pylist(), vectors, strict=True)]


def hits(index: Path, images: Path) -> list[Any]:
    return query(index, [images.parent / "00.png", images.parent / "11.png"], k=15, mpp=1.0).answers


def reported(index: Path) -> int:
    log = index / "log.txt"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(int(line.split("written: ")[1].split()[0]) for line in lines if "written: " in line)


def alone(index: Path) -> set[str]:
    """What lies beside the table when all is done."""
    return {p.name for p in index.iterdir() if not p.name.startswith((".part-", ".lock", ".gate"))} - {"images.lance", "log.txt"}


def started(images: Path, index: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tacit", "index", str(images), "-o", str(index), "--encoder", "texture", "--tile-um", "100", "--mpp", "1", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_write_what_one_does_also_when_one_of_them_is_killed(images: Path, one: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            if reported(tmp_path / "i") >= 2:
                for worker in multiprocessing.active_children()[:1]:
                    os.kill(worker.pid or 0, signal.SIGKILL)
                    killed.append(worker.pid or 0)
            time.sleep(0.002)

    watcher = threading.Thread(target=kill, daemon=True)
    watcher.start()
    done = index_images(images, tmp_path / "i", workers=2, **TEXTURE)
    assert killed and (done.failed, done.added + done.there, done.in_index) == (0, 13, len(rows(one)))  # there: what the killed one had written
    assert rows(tmp_path / "i") == rows(one) and hits(tmp_path / "i", images) == hits(one, images)
    assert alone(tmp_path / "i") == {"failures.csv"}
    again = index_images(images, tmp_path / "i", shard="0/1", **TEXTURE)
    assert (again.rows, again.there, again.in_index) == (0, 13, done.in_index) and rows(tmp_path / "i") == rows(one)


def test_two_parts_at_once_give_one_index(images: Path, one: Path, tmp_path: Path) -> None:
    parts = [started(images, tmp_path / "i", "--shard", f"{k}/2") for k in range(2)]
    said = [p.communicate(timeout=200) for p in parts]
    assert [p.returncode for p in parts] == [0, 0], said
    assert rows(tmp_path / "i") == rows(one) and hits(tmp_path / "i", images) == hits(one, images)
    assert alone(tmp_path / "i") == {"failures-0-of-2.csv", "failures-1-of-2.csv"}


def test_parts_may_come_one_after_the_other_in_any_order(images: Path, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_images(images, tmp_path / "i", shard="1/2", **TEXTURE)
    held = rows(tmp_path / "i")
    assert 0 < first.in_index < len(rows(one)) and all(r["row_id"] >= SHARED for r in held)
    order = [r["path"] for r in rows(one)]
    assert [r["path"] for r in held] == [p for p in order if p in {r["path"] for r in held}]  # ties are broken as they will be
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    for name, value in {"COUNT": "2", "MIN": "0", "MAX": "1", "STEP": "1"}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    last = index_images(images, tmp_path / "i", shard="auto", **TEXTURE)
    assert (first.added + last.added, last.in_index) == (13, len(rows(one)))
    assert rows(tmp_path / "i") == rows(one) and not (tmp_path / "i" / ".shared.json").exists()


def test_a_command_that_is_killed_loses_nothing_and_goes_on(images: Path, one: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    code = f"from tacit.use.index import index_images\nif __name__ == '__main__': index_images({str(images)!r}, {str(index)!r}, workers=2, **{TEXTURE!r})"
    (tmp_path / "job.py").write_text(code)
    process = subprocess.Popen([sys.executable, str(tmp_path / "job.py")], start_new_session=True)
    while reported(index) < 4 and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)  # the first process and its workers
    process.wait()
    said = reported(index)
    held = rows(index)
    assert 4 <= said <= len(held) < len(rows(one)) and len({(r["path"], r["row"], r["col"]) for r in held}) == len(held)
    index_images(images, index, workers=2, **TEXTURE)
    assert rows(index) == rows(one)


def test_one_process_settles_what_parts_that_never_ended_have_left(images: Path, one: Path, tmp_path: Path) -> None:
    index_images(images, tmp_path / "i", shard="0/2", **TEXTURE)
    held = [r["path"] for r in rows(tmp_path / "i")]
    done = index_images(images, tmp_path / "i", **TEXTURE)
    assert done.in_index == len(rows(one)) and [r["row_id"] for r in rows(tmp_path / "i")] == list(range(done.in_index))
    assert [r["path"] for r in rows(tmp_path / "i")][: len(held)] == held and not (tmp_path / "i" / ".shared.json").exists()
    ours = {(r["path"], r["row"], r["col"]): r | {"row_id": 0} for r in rows(one)}
    assert {(r["path"], r["row"], r["col"]): r | {"row_id": 0} for r in rows(tmp_path / "i")} == ours


def test_the_same_files_by_two_processes_at_once_do_not_appear_twice(images: Path, one: Path, tmp_path: Path) -> None:
    both = [started(images, tmp_path / "i", *more) for more in (("--workers", "2"), ("--workers", "2"), ("--shard", "0/2"), ())]
    said = [p.communicate(timeout=300)[1] for p in both]
    codes = [p.returncode for p in both]
    assert 0 in codes and set(codes) <= {0, 2} and all("tacit: " in s for s, code in zip(said, codes, strict=True) if code), said
    done = index_images(images, tmp_path / "i", **TEXTURE)
    ours, theirs = ([(r["path"], r["row"], r["col"], r["vector"]) for r in rows(i)] for i in (tmp_path / "i", one))
    assert done.failed == 0 and sorted(ours, key=str) == sorted(theirs, key=str)


def about_of(index: Path, **changes: Any) -> About:
    return About(**(vars(Store.open(index).about) | changes))


@pytest.mark.parametrize(
    ("other", "error", "said"),
    [
        (lambda images, i: index_images(images, i, **TEXTURE), OutputError, "written by another process"),
        (lambda images, i: index_images(images, i, workers=2, **TEXTURE), OutputError, "parts of another command"),
        (lambda images, i: index_images(images, i, shard="0/2", **TEXTURE), OutputError, "parts of another command"),
        (
            lambda images, i: index_images(images, i, shard="0/3", **(TEXTURE | {"encoder": "timm:resnet10t"})),
            UsageError,
            "by texture.*asked for is timm:resnet10t",
        ),
    ],
)
def test_other_commands_wait_while_parts_are_at_work(
    images: Path, one: Path, tmp_path: Path, other: Callable[..., Any], error: type[Exception], said: str
) -> None:
    with sharing(tmp_path / "i", Shared(about_of(one), "of other files", 3), 0):
        with pytest.raises(error, match=said):
            other(images, tmp_path / "i")
        with (
            pytest.raises(OutputError, match=r"part 0/3 .* being done by another process"),
            sharing(tmp_path / "i", Shared(about_of(one), "of other files", 3), 0),
        ):
            pass
        with sharing(tmp_path / "i", Shared(about_of(one), "of other files", 3), 1) as second:
            assert second.number == 1
    with writing(tmp_path / "i"), pytest.raises(OutputError, match="written by another process"):
        index_images(images, tmp_path / "i", shard="0/2", **TEXTURE)


def test_a_new_content_and_new_facts_are_shared_out_too(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images.parent, tmp_path / "in")
    index_images(tmp_path / "in" / "list.csv", tmp_path / "i", workers=1, shard="0/1", **TEXTURE)
    shutil.copy(tmp_path / "in" / "03.png", tmp_path / "in" / "02.png")
    table = pd.read_csv(tmp_path / "in" / "list.csv").assign(site=["A"] * 13)
    table.to_csv(tmp_path / "in" / "list.csv", index=False)
    parts = [index_images(tmp_path / "in" / "list.csv", tmp_path / "i", shard=f"{k}/2", **TEXTURE) for k in range(2)]
    assert [sum(getattr(p, what) for p in parts) for what in ("replaced", "there", "filled", "rows")] == [1, 12, 12, 1]
    held = rows(tmp_path / "i")
    assert {r["site"] for r in held} == {"A"} and len({r["row_id"] for r in held}) == len(held) and max(r["row_id"] for r in held) < SHARED
    digests = {Path(r["path"]).name: r["sha256"] for r in held}
    assert digests["02.png"] == digests["03.png"] and len([r for r in held if r["path"].endswith("02.png")]) == 1


def test_a_bad_file_is_a_failure_of_its_part_and_a_zip_is_refused(images: Path, tmp_path: Path) -> None:
    shutil.copytree(images.parent, tmp_path / "in")
    (tmp_path / "in" / "02.png").write_bytes(b"no picture")
    done = CliRunner().invoke(app, ["index", str(tmp_path / "in"), "-o", str(tmp_path / "i"), "--encoder", "texture", "--mpp", "1", "--shard", "0/1"])
    assert done.exit_code == 3 and f"{tmp_path / 'i' / 'failures-0-of-1.csv'}" in done.stdout
    assert "02.png" in (tmp_path / "i" / "failures-0-of-1.csv").read_text()
    shutil.make_archive(str(tmp_path / "z"), "zip", images.parent)
    for options in ({"workers": 2}, {"shard": "0/2"}):
        with pytest.raises(UsageError, match="unpack it first"):
            index_images(tmp_path / "z.zip", tmp_path / "j", encoder="texture", **options)  # type: ignore[arg-type]
    for options in ({"workers": 0}, {"shard": "2/2"}, {"engine": "odd"}, {"address": "a:1"}):
        with pytest.raises(UsageError):
            index_images(images, tmp_path / "j", encoder="texture", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "j").exists()


def test_a_part_of_bad_files_alone_does_not_hold_up_the_others(images: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(b"no picture")
    slide_of(tmp_path / "in" / "1.svs")
    with pytest.raises(InputError, match=r"none of the 1 images could be indexed; the first: .*0\.png"):
        index_images(tmp_path / "in", tmp_path / "i", shard="0/2", **TEXTURE)
    done = index_images(tmp_path / "in", tmp_path / "i", shard="1/2", **TEXTURE)
    assert done.in_index > 1 and rows(tmp_path / "i")[0]["row_id"] == 0 and not (tmp_path / "i" / ".shared.json").exists()


def test_mean_and_sd_are_those_of_the_part_that_begins(tmp_path: Path) -> None:
    for k in range(34):
        draw(tmp_path / "in" / f"{k:02d}.png", k)
    how: dict[str, Any] = {"encoder": "texture", "mpp": 1.0, "precision": "fp32"}
    index_images(tmp_path / "in", tmp_path / "one", normalise="standard", **how)
    index_images(tmp_path / "in", tmp_path / "i", normalise="standard", shard="1/2", **how)
    index_images(tmp_path / "in", tmp_path / "i", shard="0/2", **how)
    assert rows(tmp_path / "i") == rows(tmp_path / "one") and Store.open(tmp_path / "i").about == Store.open(tmp_path / "one").about


def test_pieces_of_many_processes_are_joined_at_the_end(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.use.store.MANY_PIECES", 5)
    index_images(images, tmp_path / "i", shard="0/1", **(TEXTURE | {"commit_rows": 1}))
    fragments = Store.open(tmp_path / "i")._table.stats()["fragment_stats"]["num_fragments"]
    assert fragments == 1 and np.array_equal(Store.open(tmp_path / "i").row_ids(), np.arange(len(rows(tmp_path / "i"))))


def test_a_part_that_two_machines_did_without_locks_counts_once(images: Path, one: Path, tmp_path: Path) -> None:
    index_images(images, tmp_path / "i", shard="0/2", **TEXTURE)
    store = Store.open(tmp_path / "i")
    copies = store._table.search().where(f"row_id < {SHARED + (1 << OF_TASK)}").to_arrow()
    for batch in copies.to_batches(max_chunksize=1):  # what the other machine wrote at the same time
        store._table.add(batch)
    assert len(store) == len(np.unique(store.ids("true"))) + len(copies) and len(copies) > 1
    index_images(images, tmp_path / "i", shard="1/2", **TEXTURE)
    assert rows(tmp_path / "i") == rows(one)


def test_row_ids_of_many_tasks_are_settled_in_order_wherever_it_is_interrupted(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(one, tmp_path / "i")
    store, held = Store.open(tmp_path / "i"), len(rows(one))
    order = np.random.default_rng(0).permutation(held)
    for k in order.tolist():  # three rows a task, tasks 2, 5, 8, …; those of the first ten rows stay as they were
        if k >= 10:
            store.renumber(f"row_id = {k}", str(SHARED + ((3 * (k // 3) + 2) << OF_TASK) + k % 3))
    assert [r["path"] for r in rows(tmp_path / "i")] == [r["path"] for r in rows(one)]
    monkeypatch.setattr(index_settle, "AT_ONCE", 2)
    whole, changes = Store.renumber, []

    def stopped(self: Store, where: str, row_id: str) -> None:
        changes.append(where)
        if len(changes) == 2:
            raise KeyboardInterrupt
        whole(self, where, row_id)

    with monkeypatch.context() as killed:
        killed.setattr(Store, "renumber", stopped)
        with pytest.raises(KeyboardInterrupt):
            index_settle.settle(Store.open(tmp_path / "i"))
    assert [r["path"] for r in rows(tmp_path / "i")] == [r["path"] for r in rows(one)] and rows(tmp_path / "i") != rows(one)
    index_settle.settle(Store.open(tmp_path / "i"))
    assert rows(tmp_path / "i") == rows(one)


def test_a_networks_vectors_are_those_of_one_process_to_the_last_bit(tmp_path: Path) -> None:
    for k in range(70):
        draw(tmp_path / "in" / f"{k:02d}.png", k)
    slide_of(tmp_path / "in" / "45.svs")
    how: dict[str, Any] = {"encoder": "phantom", "mpp": 1.0, "tile_um": 60.0, "precision": "fp32"}
    index_images(tmp_path / "in", tmp_path / "one", **how)
    for k in (2, 0, 1):
        index_images(tmp_path / "in", tmp_path / "i", shard=f"{k}/3", **how)
    assert rows(tmp_path / "i") == rows(tmp_path / "one") and len(rows(tmp_path / "i")) > 80


def test_tasks_hold_every_file_once_in_order_and_slides_alone(images: Path) -> None:
    from tacit.use.index_items import find_items

    items, _ = find_items(images, None)
    many = [i for _ in range(400) for i in items]
    for parts in (1, 3):
        tasks = tasks_of(many, parts)
        assert [i for some in tasks for i in some] == many and all(len(some) == 1 for some in tasks if any(i.path.suffix == ".svs" for i in some))
    assert {len(some) for some in tasks_of([items[0]] * 102_400, 1)} == {512} and [len(some) for some in tasks_of(items, 2)] == [5, 1, 7]


def test_a_file_that_another_process_is_just_writing_is_no_stranger(images: Path, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "..shared.json.x1y2.part").touch()
    assert index_images(images, tmp_path / "i", **TEXTURE).added == 13
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "notes.part").touch()
    with pytest.raises(OutputError, match=r"holds notes\.part"):
        index_images(images, tmp_path / "j", **TEXTURE)
