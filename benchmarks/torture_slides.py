"""Kills a run over slides again and again, the first process or a worker, resumes it, and wants the files of an unbroken run, byte for byte, none written twice.

python benchmarks/torture_slides.py [KILLS]      writes benchmarks/results/torture_slides.json
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

from provenance import stamp
from tacit.phantom import tissue

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "torture-slides"
SLIDES, SIDE = 8, 900
TINY = "draw.pictures=6 teachers=1 train.epochs=1 train.steps=6 train.batch=4 student.epochs=1 student.steps=6 student.batch=4 network.width=8 data.size=48 adapt.zooms=[1.0]"
ASIDE = {"run.json", "log.txt", "config.toml", "report.html", "failures.csv"}


def make(folder: Path) -> Path:
    """Slides of drawn tissue on glass."""
    folder.mkdir(parents=True)
    for k in range(SLIDES):
        picture = np.full((SIDE, SIDE, 3), 245, np.uint8)
        picture[80:-80, 80:-80] = tissue.draw(np.random.default_rng([3, k]), (SIDE - 160, SIDE - 160), 1.0).picture
        tifffile.imwrite(
            folder / f"s{k}.svs",
            picture,
            tile=(256, 256),
            compression="zlib",
            photometric="rgb",
            metadata=None,
            resolution=(1e4, 1e4),
            resolutionunit="CENTIMETER",
        )
    return folder


def words(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tacit", "segment", str(WORK / "slides"), "-o", str(out), "--workers", "2", *more]


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.name not in ASIDE and not p.name.endswith(".lock")}


def states(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (out / "slides").glob("s*.json")}


def workers_of(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True, check=False).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "spawn_main" in line]


def main(kills: int) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    make(WORK / "slides")
    sets = [w for s in TINY.split() for w in ("--set", s)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(words(WORK / "learnt", *sets), check=True, **quiet)
    model = ["--model", str(WORK / "learnt")]
    clock = time.monotonic()
    subprocess.run(words(WORK / "whole", *model), check=True, **quiet)
    seconds, wanted = time.monotonic() - clock, content(WORK / "whole")
    draw, done, of_workers, runs, wrong = random.Random(0), 0, 0, 0, []
    while done < kills:
        out, finished, runs = WORK / f"broken-{runs}", False, runs + 1
        while not finished:
            before = states(out)
            process = subprocess.Popen(words(out, *model, *(["--resume"] if out.exists() else [])), **quiet)
            try:
                finished = process.wait(draw.uniform(0.0, 0.9 * seconds) if done < kills else None) == 0
            except subprocess.TimeoutExpired:
                own = workers_of(process.pid)
                if own and draw.random() < 0.3:
                    os.kill(draw.choice(own), signal.SIGKILL)  # the run goes on with another worker
                    of_workers += 1
                    finished = process.wait() == 0
                else:
                    process.kill()
                    process.wait()
                done += 1
            again = [name for name, at in states(out).items() if name in before and before[name] != at]
            if again:
                wrong.append(f"{out.name}: done twice: {again}")
        if content(out) != wanted:
            wrong.append(f"{out.name}: other files than an unbroken run")
        print(f"{done} kills ({of_workers} of workers), {runs} runs finished, {len(wrong)} wrong", flush=True)
        shutil.rmtree(out)
    result = {"kills": done, "of_workers": of_workers, "runs": runs, "slides": SLIDES, "wrong": wrong, "unbroken_seconds": round(seconds, 2), **stamp(0)}
    (ROOT / "benchmarks" / "results" / "torture_slides.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
