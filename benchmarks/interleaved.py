"""Two ways of one job timed side by side: one thread, taking turns, so that a busy machine slows both alike."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from provenance import COMMIT
from tacit.run import versions

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7  # of which the median counts


def one_thread() -> None:
    """OpenCV and torch on one thread each; pin the process too (taskset -c 0) for the steadiest figures."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def race(ours: Callable[[], object], peer: Callable[[], object], *, calls: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """Milliseconds a call (median over rounds; `calls` in each) of both, CPU and wall time, and how many times as long the peer takes."""
    ours(), peer()  # imports and first allocations do not count
    cpu, wall = np.zeros((2, rounds)), np.zeros((2, rounds))
    for i in range(rounds):
        for who, job in enumerate((ours, peer)):
            clocks = time.process_time(), time.perf_counter()
            for _ in range(calls):
                job()
            cpu[who, i], wall[who, i] = time.process_time() - clocks[0], time.perf_counter() - clocks[1]
    (our_cpu, peer_cpu), (our_wall, peer_wall) = np.median(cpu, 1) / calls * 1e3, np.median(wall, 1) / calls * 1e3
    by_round = cpu[1] / cpu[0]
    return {
        "ours_cpu_ms": round(float(our_cpu), 4),
        "peer_cpu_ms": round(float(peer_cpu), 4),
        "ours_wall_ms": round(float(our_wall), 4),
        "peer_wall_ms": round(float(peer_wall), 4),
        "ratio_cpu": round(float(peer_cpu / our_cpu), 2),
        "ratio_cpu_lowest_round": round(float(by_round.min()), 2),
        "calls": calls,
        "rounds": rounds,
    }


def write(name: str, rows: dict[str, Any], peers: list[str], **more: object) -> None:
    """Prints the table and writes benchmarks/results/NAME.json with what is needed to repeat it."""
    for row, found in rows.items():
        if "ratio_cpu" in found:
            print(f"{row:<44} ours {found['ours_cpu_ms']:9.3f} ms   peer {found['peer_cpu_ms']:9.3f} ms   {found['ratio_cpu']:7.2f}×")
    record = {
        "command": f"python benchmarks/{Path(sys.argv[0]).name}",
        "threads": 1,
        "rows": rows,
        **more,
        "versions": versions() | {p: metadata.version(p) for p in peers},
        "commit": COMMIT,
    }
    (ROOT / "benchmarks" / "results" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
