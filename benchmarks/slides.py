"""Speed of reading slides: RGB tiles, aligned and unaligned, against OpenSlide's read_region(...).convert("RGB"), at equal pixels.

    python benchmarks/slides.py          prints a table, writes benchmarks/results/slides.json

Each job opens the slide anew and reads a list of regions row by row, as a network would be fed; both sides keep 32 MiB of decoded
tiles. Rounds are interleaved, one thread; the figure is the median over rounds of CPU seconds, and the ratio of the medians.
The pixels of every region are compared once, before the clock runs. "decoding alone" is the same tiles through the decoder and
nothing else: no reader that decodes each tile once can be faster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import openslide
import tifffile

from tacit.phantom import tissue
from tacit.read.slide import open_slide
from tacit.read.slide_tiles import CACHE_BYTES, TileReader, direct_levels
from tacit.run import versions

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "slides"
ROUNDS = 7
MADE = (6144, 8192)  # px of the made slide, tiles of 256
Place = tuple[int, int, int]  # row, col, size in level-0 pixels


def make_slide(path: Path) -> None:
    """A JPEG pyramid of three levels (quality 85, 4:2:0), drawn tissue."""
    drawings = [tissue.draw(np.random.default_rng([9, i]), (512, 512), 0.5).picture for i in range(16)]
    order = np.random.default_rng(9).integers(0, 16, (MADE[0] // 512, MADE[1] // 512))
    picture = np.concatenate([np.concatenate([drawings[i] for i in row], 1) for row in order])
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            page = cv2.resize(picture, (MADE[1] >> level, MADE[0] >> level), interpolation=cv2.INTER_AREA)
            file.write(page, tile=(256, 256), compression="jpeg", compressionargs={"level": 85}, photometric="rgb", metadata=None, subfiletype=int(level > 0))


def places(shape: tuple[int, int], tile: int, kind: str) -> list[Place]:
    """Regions in scanning order that lie inside: the tiles themselves, or squares that cut across them."""
    h, w = min(shape[0], 4096), min(shape[1], 4096)
    size, step, start = {
        "aligned": (tile, tile, 0),
        "unaligned": (tile, tile, tile // 2 - 1),
        "unaligned 512": (512, 512, 37),
        "overlapping 512": (512, 448, 37),
    }[kind]
    return [(r, c, size) for r in range(start, h - size + 1, step) for c in range(start, w - size + 1, step)]


def theirs(path: Path, wanted: list[Place]) -> list[np.ndarray]:
    with openslide.OpenSlide(path) as slide:
        slide.set_cache(openslide.OpenSlideCache(CACHE_BYTES))
        return [np.asarray(slide.read_region((c, r), 0, (s, s)).convert("RGB")) for r, c, s in wanted]


def ours(path: Path, wanted: list[Place]) -> list[np.ndarray]:
    with open_slide(path, cache_bytes=CACHE_BYTES) as slide:
        return [slide.region(r, c, (s, s)) for r, c, s in wanted]


def decoding(path: Path, wanted: list[Place]) -> None:
    """Every tile that the regions touch, decoded once."""
    plan = direct_levels(path)[0]
    th, tw = plan.tile
    touched = {y * plan.across + x for r, c, s in wanted for y in range(r // th, -(-(r + s) // th)) for x in range(c // tw, -(-(c + s) // tw))}
    reader = TileReader(path, {0: plan}, cache_bytes=0)
    for index in sorted(touched):
        reader.tile(0, index)
    reader.close()


def clock(job: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.monotonic()
    job()
    return time.process_time() - cpu, time.monotonic() - wall


def measure(path: Path, tile: int, kind: str) -> dict[str, float | int]:
    with open_slide(path) as slide:
        wanted = places(slide.shape, tile, kind)
    difference = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(theirs(path, wanted), ours(path, wanted), strict=True))
    times: dict[str, list[tuple[float, float]]] = {"openslide": [], "tacit": [], "decoding": []}
    for _ in range(ROUNDS):
        times["openslide"].append(clock(lambda: theirs(path, wanted)))
        times["tacit"].append(clock(lambda: ours(path, wanted)))
        times["decoding"].append(clock(lambda: decoding(path, wanted)))
    row: dict[str, float | int] = {"regions": len(wanted), "pixel_difference": difference}
    for side, pairs in times.items():
        row[f"{side}_cpu_s"], row[f"{side}_wall_s"] = (float(np.median([pair[i] for pair in pairs])) for i in (0, 1))
    row["ratio_cpu"], row["ratio_wall"] = row["openslide_cpu_s"] / row["tacit_cpu_s"], row["openslide_wall_s"] / row["tacit_wall_s"]
    row["ratio_cpu_if_decoding_alone"] = row["openslide_cpu_s"] / row["decoding_cpu_s"]
    return row


def main() -> None:
    cv2.setNumThreads(1)
    rows: dict[str, dict[str, dict[str, float | int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.tif"
        make_slide(made)
        slides = {
            "made tiled JPEG TIFF": (made, 256),
            "CMU-1-Small-Region.svs (JPEG)": (DATA / "CMU-1-Small-Region.svs", 240),
            "TCGA-CR-7395-01A-01-TS1.svs (JPEG 2000)": (DATA / "TCGA-CR-7395-01A-01-TS1.svs", 256),
        }
        for name, (path, tile) in slides.items():
            if not path.is_file():
                print(f"{name}: not there ({path.parent}), skipped")
                continue
            rows[name] = {}
            for kind in ("aligned", "unaligned", "unaligned 512", "overlapping 512"):
                row = rows[name][kind] = measure(path, tile, kind)
                print(
                    f"{name:<42}{kind:<17}{row['regions']:>4} regions  difference {row['pixel_difference']}  "
                    f"OpenSlide {row['openslide_cpu_s']:.3f} s  tacit {row['tacit_cpu_s']:.3f} s  {row['ratio_cpu']:.2f}×  "
                    f"(wall {row['ratio_wall']:.2f}×, decoding alone {row['ratio_cpu_if_decoding_alone']:.2f}×)",
                    flush=True,
                )
    packages = ("openslide-python", "openslide-bin", "tifffile", "imagecodecs")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    result = {
        "command": "python benchmarks/slides.py",
        "commit": commit,
        "rounds": ROUNDS,
        "threads": 1,
        "cache_bytes": CACHE_BYTES,
        "target_ratio": 3,
        "slides": rows,
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": versions() | {package: metadata.version(package) for package in packages} | {"python": sys.version.split()[0]},
    }
    (ROOT / "benchmarks" / "results" / "slides.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
