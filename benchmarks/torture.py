"""Kills a learning run again and again, resumes it, and wants the weights and masks of an unbroken run, byte for byte.

python benchmarks/torture.py [KILLS]      writes benchmarks/results/torture.json
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from provenance import stamp

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "torture"
TINY = "draw.pictures=16 teachers=2 train.epochs=2 train.steps=30 train.batch=4 train.checkpoint_every=3 student.epochs=2 student.steps=30 student.batch=4"
TINY += " student.checkpoint_every=3 network.width=8 data.size=48 adapt.zooms=[1.0]"


def words(out: Path) -> list[str]:
    sets = [w for s in TINY.split() for w in ("--set", s)]
    return [sys.executable, "-m", "tacit", "segment", str(WORK / "made" / "images"), "-o", str(out), "--mpp", "1.0", *sets]


def same(a: Path, b: Path) -> bool:
    files = ["model/weights.safetensors", "tables/glands.csv", *(f"masks/{p.name}" for p in sorted((a / "masks").iterdir()))]
    return all((a / f).read_bytes() == (b / f).read_bytes() for f in files)


def main(kills: int) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "tacit", "phantom", "tissue", "-n", "6", "-o", str(WORK / "made")], check=True, stdout=subprocess.DEVNULL)
    clock = time.monotonic()
    subprocess.run(words(WORK / "whole"), check=True, stdout=subprocess.DEVNULL)
    whole = time.monotonic() - clock
    done, rounds, wrong = 0, 0, 0
    draw = random.Random(0)
    while done < kills:
        out, rounds = WORK / f"broken-{rounds}", rounds + 1
        finished = False
        while not finished and done < kills:
            process = subprocess.Popen([*words(out), *(["--resume"] if out.exists() else [])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                finished = process.wait(draw.uniform(1.0, 0.8 * whole)) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
        if not finished:
            subprocess.run([*words(out), "--resume"], check=True, stdout=subprocess.DEVNULL)
        wrong += not same(WORK / "whole", out)
        print(f"{done} kills, {rounds} runs finished, {wrong} differ", flush=True)
    result = {"kills": done, "runs": rounds, "runs_that_differ": wrong, "unbroken_seconds": whole, **stamp(0)}
    (ROOT / "benchmarks" / "results" / "torture.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
