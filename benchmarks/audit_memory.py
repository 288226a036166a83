"""Peak memory of `tacit audit` at N, 4 N and 16 N pictures, each in a process of its own.

    python benchmarks/audit_memory.py          prints a table, writes benchmarks/results/audit_memory.json

Pictures of 256 × 256 px, 25 to a folder, so that folders are judged as stacks too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from interleaved import write

N = 100
JOB = """
import sys
from tacit.use.audit import audit
audit(sys.argv[1], sys.argv[2])
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def main() -> None:
    rows = {}
    with tempfile.TemporaryDirectory() as place:
        rng = np.random.default_rng(0)
        made = 0
        for times in (1, 4, 16):
            folder = Path(place) / "in"
            for k in range(made, N * times):
                (folder / f"{k // 25:03d}").mkdir(parents=True, exist_ok=True)
                coarse = rng.integers(0, 255, (16, 16), np.uint8)
                Pillow.fromarray(coarse).resize((256, 256)).save(folder / f"{k // 25:03d}" / f"{k:05d}.png")
            made = N * times
            done = subprocess.run([sys.executable, "-c", JOB, folder, Path(place) / f"out{times}"], capture_output=True, text=True, check=True)
            rows[f"{made} pictures"] = {"peak_mb": round(int(done.stdout.splitlines()[-1]) / 1024, 1)}
    peaks = [r["peak_mb"] for r in rows.values()]
    growth = round(max(peaks) / peaks[0] - 1, 4)
    print(rows, "growth", growth)
    write("audit_memory", rows, ["pillow"], growth=growth)


if __name__ == "__main__":
    main()
