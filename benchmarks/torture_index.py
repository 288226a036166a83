"""Kills `tacit index` again and again, runs it anew, and wants every row once, with the vectors of an unbroken index, and none lost that was reported.

python benchmarks/torture_index.py [KILLS [WORKERS]]      writes benchmarks/results/torture_index.json, with WORKERS torture_index_workers.json
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from provenance import stamp
from tacit.phantom import tissue
from tacit.report.picture import png
from tacit.use.store import Store, holds_table

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "torture-index"
ROWS = 3  # a commit, so that most kills fall near one
PROCESSES = multiprocessing.get_context("forkserver")  # forked from a process that has read most modules, but opened no index
PROCESSES.set_forkserver_preload(["torch", "tacit.use.index", "tacit.use.taught", "tacit.learn.texture"])


def make(folder: Path, pictures: int = 40, side: int = 640) -> Path:
    """Small pictures, and one slide that gives twenty-five tiles."""
    folder.mkdir(parents=True)
    for k in range(pictures):
        (folder / f"{k:03d}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (64, 64), 2.0).picture))
    slide = tissue.draw(np.random.default_rng(99), (side, side), 1.0).picture
    tifffile.imwrite(folder / "slide.svs", slide, tile=(128, 128), photometric="rgb", metadata=None, resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    return folder


def append(folder: str, index: str, ready: str, workers: int) -> None:
    """What is killed: the append itself, in a process of its own. `ready` is made when its modules are read."""
    import lancedb  # noqa: F401
    import torch

    from tacit.use import store
    from tacit.use.index import index_images

    torch.set_num_threads(1)
    store.TIDY_EVERY, store.MANY_PIECES = 4, 8  # so that pieces are joined while it may be killed
    Path(ready).touch()
    index_images(folder, index, encoder="texture", tile_um=128, mpp=2.0, commit_rows=ROWS, workers=workers)


def started(folder: Path, index: Path, workers: int = 1) -> Any:
    """A process that is about to append."""
    ready = index.with_name(f"{index.name}.ready")
    ready.unlink(missing_ok=True)
    process = PROCESSES.Process(target=append, args=(str(folder), str(index), str(ready), workers))
    process.start()
    while not ready.exists() and process.is_alive():
        time.sleep(0.005)
    return process


def reported(index: Path) -> int:
    """Rows that the log says are written."""
    log = index / "log.txt"
    return sum(int(n) for n in re.findall(r"written: (\d+) rows", log.read_text())) if log.exists() else 0


def rows(index: Path) -> dict[tuple, tuple[int, bytes]]:
    """(path, hash, row, column) → row_id and the bytes of its vector. Raises ValueError where a row is there twice."""
    store = Store.open(index)
    table = store.read(["path", "sha256", "row", "col"]).to_pylist()
    found = {tuple(row.values()): (i, vector.tobytes()) for row, i, vector in zip(table, store.row_ids().tolist(), store.vectors(), strict=True)}
    if len(found) < len(table):
        raise ValueError(f"{len(table) - len(found)} rows are there twice")
    return found


def killed(folder: Path, index: Path, draw: random.Random, whole: float, workers: int = 1) -> bool:
    """One append that is killed after up to `whole` seconds; whether it had come to its end before. Raises ValueError where what was reported is lost."""
    process = started(folder, index, workers)
    process.join(draw.uniform(0.0, whole))
    finished = process.exitcode == 0
    process.kill()
    process.join()
    said = reported(index)
    held = len(rows(index)) if holds_table(index) else 0
    if held < said:
        raise ValueError(f"{said} rows were reported as written, {held} are there")
    return finished


def unbroken(folder: Path, index: Path, workers: int = 1) -> tuple[dict[tuple, tuple[int, bytes]], float]:
    """The rows of an append that nobody killed, and its seconds."""
    process, clock = started(folder, index, workers), time.monotonic()
    process.join()
    return rows(index), time.monotonic() - clock


def main(kills: int, workers: int) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    folder = make(WORK / "images")
    unbroken(folder, WORK / "warm")
    whole, seconds = unbroken(folder, WORK / "whole")
    if workers > 1:
        shared, seconds = unbroken(folder, WORK / "shared", workers)
        if shared != whole:
            sys.exit("the rows of several processes are not those of one")
    draw, done, built, wrong = random.Random(0), 0, 0, []
    while done < kills:
        index = WORK / f"broken-{built}"
        built += 1
        try:
            while done < kills and not killed(folder, index, draw, 0.6 * seconds, workers):
                done += 1
            unbroken(folder, index, workers)
            if rows(index) != whole:
                wrong.append(f"{index.name}: other rows than an unbroken index")
        except ValueError as error:
            wrong.append(f"{index.name}: {error}")
        print(f"{done} kills, {built} indexes, {len(wrong)} wrong", flush=True)
    result = {
        "kills": done,
        "indexes": built,
        "rows": len(whole),
        "wrong": wrong,
        "unbroken_seconds": round(seconds, 2),
        **({"workers": workers} if workers > 1 else {}),
        **stamp(0),
    }
    (ROOT / "benchmarks" / "results" / f"torture_index{'_workers' * (workers > 1)}.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
