"""Ray: two nodes on this machine, one worker killed in the middle, and the result of one process, of slides and of an index; a clear word where Ray is not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import tacit
from conftest import TINY
from tacit.errors import UsageError
from tacit.use.store import Store
from test_index import draw
from test_slide import write_pyramid
from test_slides import SMALL, drawn_slide, files


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for k in range(4):
        write_pyramid(folder / f"s{k}.svs", drawn_slide((520, 520), 20 + k), mpp=1.0)
    return folder


def worker_of_ray(scratch: Path) -> int | None:
    """A process that has a file of a slide's scratch folder open: it is in the middle of the slide."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if int(place.name) != os.getpid() and any(str(scratch) in os.readlink(fd) for fd in (place / "fd").iterdir()):
                return int(place.name)
        except OSError:
            continue
    return None


def test_two_nodes_and_a_killed_worker_give_what_one_process_gives(drawn: Path, slides: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed (tacit[ray])")
    from ray.cluster_utils import Cluster

    tacit.segment(drawn, tmp_path / "learnt", mpp=1.2, set=TINY)
    tacit.segment(slides, tmp_path / "whole", model=tmp_path / "learnt", set=SMALL)
    before = signal.getsignal(signal.SIGTERM)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    killed: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 200
        while not killed and time.monotonic() < until:
            victim = worker_of_ray(tmp_path / "o" / "scratch")
            if victim is not None:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
            time.sleep(0.005)

    try:
        cluster.add_node(num_cpus=1)
        signal.signal(signal.SIGTERM, before)  # the nodes' own handler stays in this process
        watcher = threading.Thread(target=kill, daemon=True)
        watcher.start()
        result = tacit.segment(slides, tmp_path / "o", model=tmp_path / "learnt", engine="ray", address=cluster.address, set=SMALL)
        watcher.join(1)
        assert signal.getsignal(signal.SIGTERM) == before  # that of the driver is taken away again
    finally:
        cluster.shutdown()
    assert killed and (result.images, result.failed) == (4, 0)
    assert files(tmp_path / "o") == files(tmp_path / "whole")
    assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "finished"


def test_a_cluster_that_does_not_answer_is_named(drawn: Path, slides: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed (tacit[ray])")
    tacit.segment(drawn, tmp_path / "learnt", mpp=1.2, set=TINY)
    words = [sys.executable, "-m", "tacit", "segment", str(slides), "-o", str(tmp_path / "o"), "--model", str(tmp_path / "learnt"), "--engine", "ray"]
    done = subprocess.run([*words, "--address", "127.0.0.1:1"], capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "--address 127.0.0.1:1: no Ray cluster answers there" in done.stderr, done.stderr


def test_ray_that_is_not_installed_is_named(slides: Path, tmp_path: Path) -> None:
    """A process that cannot import ray."""
    code = "import sys; sys.modules['ray'] = None; sys.argv = ['tacit', *sys.argv[1:]]\nfrom tacit.cli import run; run()"
    words = [sys.executable, "-c", code, "segment", str(slides), "-o", str(tmp_path / "o"), "--model", str(tmp_path), "--engine", "ray"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 5 and "pip install 'tacit[ray]'" in done.stderr


def test_what_does_not_go_together_is_refused(slides: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --engine ray"):
        tacit.segment(slides, tmp_path / "o", model=tmp_path, address="a:1")
    with pytest.raises(UsageError, match="known are local, ray"):
        tacit.segment(slides, tmp_path / "o", model=tmp_path, engine="spark")
    with pytest.raises(UsageError, match="--workers 0"):
        tacit.segment(slides, tmp_path / "o", model=tmp_path, workers=0)


def test_an_index_by_ray_holds_the_rows_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed (tacit[ray])")
    for k in range(4):
        draw(tmp_path / "in" / f"{k}.png", k)
    write_pyramid(tmp_path / "in" / "s.svs", drawn_slide((420, 420), 3), mpp=1.0)
    tacit.index_images(tmp_path / "in", tmp_path / "one", encoder="texture", mpp=1.0, tile_um=100)
    done = tacit.index_images(tmp_path / "in", tmp_path / "i", encoder="texture", mpp=1.0, tile_um=100, engine="ray")
    assert (done.added, done.failed) == (5, 0) and done.in_index > 5
    stores = [Store.open(tmp_path / name) for name in ("i", "one")]
    assert stores[0].read(sorted(stores[0].columns)).equals(stores[1].read(sorted(stores[1].columns)))
    assert stores[0].vectors().tobytes() == stores[1].vectors().tobytes()
