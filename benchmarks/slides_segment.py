"""Whole slides: memory at three sizes, the join beside the network, the same network under MONAI, and the tissue of a slide of 100,000 px.

    python benchmarks/slides_segment.py [PART …]        mask join-2048 memory join-4096 workers idle; writes benchmarks/results/slides_segment.json after each row

Rows that are there are not measured again (delete the file to begin anew). One thread. The made slides are mostly glass, with drawn tissue in a
few places from corner to corner: what is measured is what grows with height and width, not the network, which is tiny and untaught.
memory: each slide in a process of its own that may map 8 GB; the peak above what the process holds once the network has answered one batch.
The network sees level-0 pixels, so that the plane of labels is as large as the slide.
idle: how often a worker of `tacit segment --workers` has no thread that runs or waits for a core, looked at every 20 ms from the first slide's end until
there are no slides left to begin.
"""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import tifffile
import torch

from provenance import stamp
from tacit.config import build
from tacit.learn.phantom_taught import PhantomTaught
from tacit.learn.predict import tiles_probability
from tacit.parts.unet import UNetConfig
from tacit.phantom import tissue
from tacit.prepare.colour import lab_statistics, standardised
from tacit.prepare.tiles import cut, grid
from tacit.prepare.tissue import slide_tissue
from tacit.read.slide import Slide, open_slide
from tacit.read.slide_readers import PictureReader
from tacit.use.engines import by_processes, one_after_another
from tacit.use.instances import InstancesConfig
from tacit.use.model import save_model
from tacit.use.slide_predict import SlidesConfig, predict_slide
from tacit.use.slide_task import find_glands

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "slides_segment.json"
WORK = ROOT / "benchmarks" / "work" / "slides-segment"
TILE, PLACE = 512, 2048  # px of the made slides' tiles; of a place with tissue
GLASS = (244, 243, 245)
MPP = 0.25
SIZES = (15_000, 30_000, 60_000)
ROUNDS = 5
TASKS = 12  # of the row of workers


def places(size: int) -> set[tuple[int, int]]:
    """Where tissue lies, in places: two corners, the middle and its neighbour."""
    last = size // PLACE - 1
    return {(0, 0), (last, last), (last // 2, last // 2), (last // 2, last // 2 + 1)}


def make_slide(path: Path, size: int) -> Path:
    """A deflated pyramid of five levels; a slide that is there is kept."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = [tissue.draw(np.random.default_rng([7, k]), (TILE, TILE), 0.5).picture for k in range(4)]
    order = np.random.default_rng(7).integers(0, 4, (PLACE // TILE, PLACE // TILE))
    place = np.concatenate([np.concatenate([drawn[k] for k in row], 1) for row in order])
    part = path.with_suffix(".part")
    with tifffile.TiffWriter(part, bigtiff=True) as file:
        for level in range(6):
            side = size >> level
            file.write(
                tiles(size, level, place), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), compression="zlib", photometric="rgb", metadata=None,
                subfiletype=int(level > 0), resolution=(1e4 / MPP / 2**level,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip
    part.replace(path)
    return path


def tiles(size: int, level: int, place: np.ndarray) -> Iterator[bytes]:
    import imagecodecs

    there, small = places(size), cv2.resize(place, (PLACE >> level, PLACE >> level), interpolation=cv2.INTER_AREA)
    glass = np.full((TILE, TILE, 3), GLASS, np.uint8)
    packed = imagecodecs.zlib_encode(glass, level=6)
    own, count = PLACE >> level, -(-(size >> level) // TILE)
    for i in range(count):
        for j in range(count):
            tile = None
            for r, c in there:
                top, left = r * own - i * TILE, c * own - j * TILE
                a, b, e, f = max(top, 0), max(left, 0), min(top + own, TILE), min(left + own, TILE)
                if a < e and b < f:
                    tile = glass.copy() if tile is None else tile
                    tile[a:e, b:f] = small[a - top : e - top, b - left : f - left]
            yield packed if tile is None else imagecodecs.zlib_encode(tile, level=1)


def tiny(um: float) -> PhantomTaught:
    """Untaught, looks once."""
    torch.manual_seed(0)
    return PhantomTaught(build(PhantomTaught.Config, {"data": {"um_per_px": um}, "network": {"width": 4, "depth": 2}, "adapt": {"zooms": [1.0]}})).eval()


def memory(path: str) -> None:
    """What runs in a process of its own: prints its row."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, c, own = tiny(MPP), SlidesConfig(overlap=64), InstancesConfig(threshold=0.5)
    statistics = np.array([[150, 140, 120], [30, 5, 5]], np.float32)
    some = np.random.default_rng(0).integers(0, 256, (c.batch, c.tile, c.tile, 3), dtype=np.uint8)
    network.tiles_probability(some, statistics)
    held = psutil.Process().memory_info().rss
    clock = time.monotonic()
    with tempfile.TemporaryDirectory(dir=WORK) as folder, open_slide(path) as slide:
        row = find_glands(slide, network, c, own, None, "gland", Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.monotonic() - clock
    print(
        json.dumps(
            {
                "held_mb": held / 1e6,
                "above_mb": (peak - held) / 1e6,
                "tiles": row["tiles"],
                "glands": row["glands"],
                "wall_s": seconds,
                "cpu_s": time.process_time(),
            }
        )
    )


def join(size: int) -> dict[str, Any]:
    """`size` px of tissue: ours, and MONAI's window over the same network, tiles, overlap and single look; CPU seconds, taking turns."""
    from monai.inferers import SlidingWindowInferer

    drawn = [tissue.draw(np.random.default_rng([5, k]), (TILE, TILE), 0.5).picture for k in range(6)]
    order = np.random.default_rng(5).integers(0, 6, (size // TILE, size // TILE))
    picture = np.concatenate([np.concatenate([drawn[k] for k in row], 1) for row in order])
    torch.manual_seed(0)
    config = build(PhantomTaught.Config, {"data": {"um_per_px": 1.0}, "network": UNetConfig(width=8).model_dump(), "adapt": {"zooms": [1.0]}})
    network = PhantomTaught(config).eval()
    network.tiles_probability = lambda t, s: tiles_probability([network], t, s, zooms=(1.0,), flips=1)  # type: ignore[method-assign]
    slide, c = Slide(Path("made.png"), PictureReader(picture, 1.0)), SlidesConfig(batch=4)
    inferer = SlidingWindowInferer((c.tile, c.tile), sw_batch_size=c.batch, overlap=c.overlap / c.tile, mode="gaussian")
    statistics = lab_statistics(picture)
    times: dict[str, list[float]] = {"ours": [], "monai": [], "network": [], "join": []}

    @torch.no_grad()
    def monai_window() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.sigmoid(inferer(torch.from_numpy(standardised(picture, statistics))[None], network).float())

    for _ in range(3):
        clock = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            p, seen = predict_slide(slide, network, c, None, Path(folder) / "p")
            p.close()
        times["ours"].append(time.process_time() - clock)
        times["network"].append(seen.network_seconds)
        times["join"].append(seen.join_seconds)
        clock = time.process_time()
        monai_window()
        times["monai"].append(time.process_time() - clock)
    row: dict[str, Any] = {name: float(np.median(values)) for name, values in times.items()}
    return row | {"join_share": row["join"] / row["network"], "ratio_cpu": row["monai"] / row["ours"], "size": size, "tiles": len(seen.plan), "rounds": 3}


def mask() -> dict[str, Any]:
    """Tissue and tile places of a slide of 100,000 px, opened anew each time."""
    path = make_slide(WORK / "100000.tif", 100_000)
    times = []
    for _ in range(ROUNDS):
        clock = time.process_time(), time.monotonic()
        with open_slide(path) as slide:
            found = slide_tissue(slide)
            plan = grid(slide, 0.5, TILE, 128, tissue=found)
        times.append((time.process_time() - clock[0], time.monotonic() - clock[1]))
    cpu, wall = np.median(times, 0).tolist()
    return {"cpu_s": cpu, "wall_s": wall, "tiles": len(plan), "rounds": ROUNDS}


def decode(path: str) -> int:
    """A task that is bound by decoding."""
    with open_slide(path, cache_bytes=0) as slide:
        plan = grid(slide, MPP, TILE, 0)
        return sum(int(tile[0, 0, 0]) for k, (_, _, tile) in enumerate(cut(slide, plan)) if k < 400)


def spin(path: str) -> int:
    """As long without a file: what two processes of this machine can do at all."""
    import imagecodecs

    packed = imagecodecs.zlib_encode(np.random.default_rng(0).integers(0, 64, (TILE, TILE, 3), dtype=np.uint8), level=1)
    return sum(imagecodecs.zlib_decode(packed)[0] for _ in range(400))


def workers() -> dict[str, Any]:
    """Seconds a task by one process and by two, once they are at work: decoding slides, and what the machine itself gives; taking turns."""
    path = str(make_slide(WORK / "15000.tif", 15_000))
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, work in (("decode", decode), ("machine", spin)):
            for count in (1, 2):
                results = by_processes(work, [path] * TASKS, count) if count > 1 else one_after_another(work, [path] * TASKS)
                ends = [time.monotonic() for _ in results]  # the first of each worker comes with its start
                times.setdefault(f"{name}_{count}", []).append((ends[-1] - ends[count - 1]) / (TASKS - count))
    row = {name: float(np.median(values)) for name, values in times.items()}
    scaling = {name: row[f"{name}_1"] / row[f"{name}_2"] for name in ("decode", "machine")}
    return row | {"scaling": scaling["decode"], "machine_scaling": scaling["machine"], "share": scaling["decode"] / scaling["machine"], "rounds": ROUNDS}


def idle() -> dict[str, Any]:
    """Shares of the time, of one worker and of two."""
    row: dict[str, Any] = {"slides": 8, "every_ms": 20}
    cohort = WORK / "cohort"
    for k in range(row["slides"]):
        make_slide(cohort / f"{k}.tif", 4_096)
    save_model(WORK / "run" / "model", "phantom", tiny(0.5), {"images": 0})
    for count in (1, 2):
        out = WORK / f"idle-{count}"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "tacit",
            "segment",
            str(cohort),
            "-o",
            str(out),
            "--model",
            str(WORK / "run"),
            "--workers",
            str(count),
            "--set",
            "instances.threshold=0.5",
        ]
        run = psutil.Process(subprocess.Popen(command, stdout=subprocess.DEVNULL).pid)
        seen: dict[int, list[bool]] = {}
        while run.is_running() and run.status() != psutil.STATUS_ZOMBIE:
            if not seen and (out / "slides").is_dir() and any((out / "slides").glob("*.json")):
                seen = {p.pid: [] for p in (run.children() if count > 1 else [run]) if count == 1 or "spawn_main" in " ".join(p.cmdline())}
            if seen and len(list((out / "slides").glob("*.json"))) > row["slides"] - count:
                break
            for process, looks in seen.items():
                looks.append(_at_work(process))
            time.sleep(row["every_ms"] / 1e3)
        if run.wait():
            raise SystemExit(f"{' '.join(command)} failed")
        row[f"idle_{count}"] = [round(1 - float(np.mean(looks)), 4) for looks in seen.values()]
        row[f"looks_{count}"] = [len(looks) for looks in seen.values()]
    return row


def _at_work(process: int) -> bool:
    """Whether a thread runs or waits for a core."""
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            if (task / "stat").read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def main(parts: list[str]) -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else {}

    def keep(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(name, json.dumps(row), flush=True)
        RESULT.write_text(json.dumps({"threads": 1, "rows": rows, **stamp(0)}, indent=1) + "\n")

    for part in parts:
        if part == "memory":
            for size in SIZES:
                if f"memory {size}" not in rows:
                    path = make_slide(WORK / f"{size}.tif", size)
                    done = subprocess.run([sys.executable, __file__, "--memory", str(path)], capture_output=True, text=True, check=True)
                    keep(f"memory {size}", json.loads(done.stdout.splitlines()[-1]))
        elif part not in rows:
            keep(part, join(int(part.removeprefix("join-"))) if part.startswith("join-") else {"mask": mask, "workers": workers, "idle": idle}[part]())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory(sys.argv[2])
    else:
        main(sys.argv[1:] or ["mask", "join-2048", "memory", "join-4096", "workers", "idle"])
