"""Speed and memory of applying a learnt model: images per second on one core, and peak memory at N, 4N, 16N images.

    python benchmarks/apply.py          writes benchmarks/results/apply.json

The images are drawn (775×522 px at 0.62 µm per px), so that anyone can run it; the network has the default size. Each size
is a process of its own; memory is its peak resident set. The table of N images is the same files under other names.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from provenance import stamp
from tacit.learn.phantom_taught import PhantomTaught
from tacit.phantom import tissue
from tacit.use.model import save_model

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "benchmarks" / "work" / "apply"
SIZES = (25, 100, 400)


def prepare() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "images").mkdir(parents=True)
    for i in range(12):
        Pillow.fromarray(tissue.draw(np.random.default_rng([3, i]), (522, 775), 0.62).picture).save(WORK / "images" / f"{i}.jpg", quality=95)
    save_model(WORK / "run" / "model", "phantom", PhantomTaught().eval(), {"images": 0, "spacing_source": "given"})
    for size in SIZES:
        folder = WORK / f"of-{size}"
        folder.mkdir()
        for i in range(size):
            os.link(WORK / "images" / f"{i % 12}.jpg", folder / f"image_{i:04d}.jpg")


def measure(size: int) -> dict[str, float]:
    """One process; its own CPU seconds, wall seconds and peak resident memory in MB."""
    words = [sys.executable, "-m", "tacit", "segment", str(WORK / f"of-{size}"), "-o", str(WORK / f"out-{size}"), "--model", str(WORK / "run"), "--mpp", "0.62"]
    clock = time.monotonic()
    process = subprocess.Popen([*words, "--overwrite"] if (WORK / f"out-{size}").exists() else words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - clock, "peak_mb": used.ru_maxrss / 1024}


def main() -> None:
    prepare()
    found = {size: measure(size) for size in SIZES}
    startup = [measure(SIZES[0]) for _ in range(4)]
    small = np.median([found[SIZES[0]]["cpu"], *[s["cpu"] for s in startup]])
    per_image = (found[400]["cpu"] - small) / (400 - SIZES[0])
    growth = found[400]["peak_mb"] / found[100]["peak_mb"] - 1
    result = {
        "images_per_cpu_second": 1 / per_image,
        "images_per_cpu_second_with_startup": 400 / found[400]["cpu"],
        "images_per_wall_second_with_startup": 400 / found[400]["wall"],
        "memory_growth_100_to_400": growth,
        "sizes": found,
        "threads": 1,
        "machine": {"cores": os.cpu_count(), "load_before": os.getloadavg()},
        **stamp(),
    }
    print(f"{1 / per_image:.2f} images per CPU second; peak {found[100]['peak_mb']:.0f} MB at 100, {found[400]['peak_mb']:.0f} MB at 400 ({growth:+.1%})")
    (ROOT / "benchmarks" / "results" / "apply.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
