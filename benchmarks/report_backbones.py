"""The report's preset with its two backbones, one step each on the processor by `tacit pretrain` itself: does it run, how long, how much memory.

    python benchmarks/report_backbones.py [SIDE]     prints a table, writes benchmarks/results/report_backbones.json

Views of SIDE px (64) and four drawn pictures a batch, so that a laptop can do it; the command for a GPU is in docs/pretrain.md. Each runs in
a process of its own; the time is that of the whole command, most of it building, saving and describing networks of up to 88 million weights.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from provenance import ROOT, stamp
from tacit.parts.weights import load_tensors
from tacit.phantom import tissue
from tacit.report.picture import png

BACKBONES = ("resnext50_32x4d", "resnext101_32x8d")
PICTURES = 4


def one(backbone: str, folder: Path, out: Path, side: int) -> dict[str, float]:
    """A run of one step, in this process's only child so far or after smaller ones."""
    words = ["pretrain", str(folder), "-o", str(out), "--preset", "report", "--backbone", backbone]
    settings = [f"size={side}", f"train.batch={PICTURES}", "train.epochs=1", "train.steps=1"]
    clock = time.monotonic()
    subprocess.run([sys.executable, "-m", "tacit", *words, *(w for s in settings for w in ("--set", s))], check=True, stdout=subprocess.DEVNULL, env=os.environ)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    record = json.loads((out / "run.json").read_text())
    weights, _ = load_tensors(out / "model" / "encoder.safetensors")
    return {
        "weights_million": round(sum(w.numel() for w in weights.values()) / 1e6, 1),
        "loss": round(record["last"]["loss"], 4),
        "wall_s": round(time.monotonic() - clock, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }


def main(side: int) -> None:
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "in"
        folder.mkdir()
        for k in range(PICTURES):
            (folder / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (160, 200), 2.0).picture))
        for backbone in BACKBONES:  # the smaller first: the children's peak is the largest so far
            rows[backbone] = one(backbone, folder, Path(place) / backbone, side)
            print(backbone, rows[backbone])
    record = {"side_px": side, "pictures": PICTURES, "rows": rows, **stamp(0)}
    (ROOT / "benchmarks" / "results" / "report_backbones.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
