"""Peak memory of `tacit index` at N, 4 N and 16 N pictures, and at one and four slides' worth of tiles, each in a process of its own.

python benchmarks/index_memory.py          prints a table, writes benchmarks/results/index_memory.json
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow

from interleaved import write
from tacit.phantom import tissue

N = 100
JOB = """
import sys
import torch
torch.set_num_threads(1)
from tacit.use.index import index_images
done = index_images(sys.argv[1], sys.argv[2], encoder="texture", mpp=1.0, tile_um=128)
print(done.rows, next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def peak(source: Path, index: Path) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", JOB, source, index], capture_output=True, text=True, check=True)
    rows, kilobytes = done.stdout.split()
    return {"rows": int(rows), "peak_mb": round(int(kilobytes) / 1024, 1)}


def main() -> None:
    found = {}
    with tempfile.TemporaryDirectory() as place:
        rng, made = np.random.default_rng(0), 0
        for times in (1, 4, 16):
            folder = Path(place) / "in"
            folder.mkdir(exist_ok=True)
            for k in range(made, N * times):
                Pillow.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).resize((96, 96)).save(folder / f"{k:05d}.png")
            made = N * times
            found[f"{made} pictures"] = peak(folder, Path(place) / f"i{times}")
        field = tissue.draw(np.random.default_rng(3), (512, 512), 1.0).picture
        for name, (down, across) in {"slide": (4, 4), "slide of 16 times the area": (16, 16)}.items():
            slide = Path(place) / f"{down}.svs"
            per_cm = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
            tifffile.imwrite(slide, np.tile(field, (down, across, 1)), tile=(256, 256), photometric="rgb", compression="jpeg", metadata=None, **per_cm)
            found[name] = peak(slide, Path(place) / f"s{down}")
    pictures, slides = [[r["peak_mb"] for n, r in found.items() if w in n] for w in ("pictures", "slide")]
    growth = {"pictures": round(max(pictures) / pictures[0] - 1, 4), "slides": round(max(slides) / slides[0] - 1, 4)}
    print(found, growth)
    write("index_memory", found, ["lancedb"], growth=growth)


if __name__ == "__main__":
    main()
