"""`tacit index` by one process and by two: the same rows, and how much sooner. Taking turns, each run a process of its own.

python benchmarks/index_workers.py          prints a table, writes benchmarks/results/index_workers.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from interleaved import write
from tacit.phantom import tissue
from tacit.report.picture import png
from tacit.use.store import OF_TASK, SHARED, About, Store, vectors_of

PICTURES, ROUNDS, ENCODER = 640, 5, "phantom+texture"
SETTLED, WIDTH, TOGETHER = 40_000, 512, (64, 10_000)  # rows that are numbered anew; rows of a task: of small ones, of slides
JOB = """
import json, resource, sys, time
if __name__ == '__main__':
    from tacit.use.index import index_images
    clock = time.perf_counter()
    done = index_images(sys.argv[1], sys.argv[2], encoder=sys.argv[4], mpp=1.0, tile_um=128, workers=int(sys.argv[3]))
    own, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(r.ru_utime + r.ru_stime for r in (own, theirs))
    print(json.dumps({'rows': done.in_index, 'wall_s': time.perf_counter() - clock, 'cpu_s': cpu, 'peak_mb': own.ru_maxrss / 1024, 'peak_mb_of_a_worker': theirs.ru_maxrss / 1024}))
"""


def make(folder: Path) -> Path:
    """Pictures, and a slide of 289 tiles."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    fields = [tissue.draw(rng, (128, 128), 1.0).picture for _ in range(60)]
    for k in range(PICTURES):
        (folder / f"{k:05d}.png").write_bytes(png(np.roll(fields[k % 60], 1 + k // 60, axis=1)))
    slide = np.tile(tissue.draw(rng, (512, 512), 1.0).picture, (4, 4, 1))
    tifffile.imwrite(folder / "slide.svs", slide, tile=(256, 256), photometric="rgb", metadata=None, resolution=(1e4, 1e4), resolutionunit="CENTIMETER")
    return folder


def once(job: Path, folder: Path, index: Path, workers: int) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, job, folder, index, str(workers), ENCODER], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def same(a: Path, b: Path) -> bool:
    """Whether two indexes hold the same rows, with the same row_ids and bytes."""
    first, second = Store.open(a), Store.open(b)
    columns = sorted(first.columns)
    return first.read(columns).equals(second.read(columns)) and first.vectors().tobytes() == second.vectors().tobytes()


def settled(place: Path, together: int) -> dict[str, float]:
    """Seconds and memory of numbering the rows of a shared run anew, in a process of its own."""
    code = (
        f"import sys, resource, time; sys.path.insert(0, {str(Path(__file__).parent)!r}); from index_workers import unsettled; from tacit.use.index_settle import settle; from pathlib import Path\n"
        f"store = unsettled(Path(sys.argv[1]), {together}); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024; clock = time.perf_counter(); settle(store)\n"
        "print(time.perf_counter() - clock, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, store.row_ids()[-1] + 1)"
    )
    seconds, before, after, rows = map(float, subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True).stdout.split())
    return {"rows": int(rows), "rows_a_second": round(rows / seconds), "more_mb": round(after - before, 1)}


def unsettled(place: Path, together: int) -> Store:
    """An index as parts leave it: tasks of `together` rows, written in no order."""
    import pyarrow as pa

    place.mkdir()
    about = About("made", {"encoder": "made", "model": None, "weights": None}, "0", {}, "0", WIDTH, "fp16", 256.0, {"name": "none"})
    store, rng = Store.create(place, about), np.random.default_rng(0)
    for task in rng.permutation(SETTLED // together).tolist():
        vectors = rng.standard_normal((together, WIDTH)).astype(np.float16)
        rows = {"vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=vectors_of(about)), "path": [f"{task}.svs"] * together}
        store.add(pa.table(rows), SHARED + (task << OF_TASK))
    return store


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, job = make(Path(place) / "in"), Path(place) / "job" / "job.py"
        job.parent.mkdir()
        job.write_text(JOB)
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        equal = []
        for k in range(ROUNDS):
            for workers in (1, 2) if k % 2 else (2, 1):
                runs[workers].append(once(job, folder, Path(place) / f"{k}-{workers}", workers))
            equal.append(same(Path(place) / f"{k}-1", Path(place) / f"{k}-2"))
        numbered = {f"rows numbered anew, {n} a task": settled(Path(place) / f"settled-{n}", n) for n in TOGETHER}
    found = {}
    for workers, each in runs.items():
        middle = {key: statistics.median(r[key] for r in each) for key in each[0]}
        found[f"{workers} process{'es' * (workers > 1)}"] = {k: round(v, 2) for k, v in middle.items()} | {
            "rows_a_second": round(middle["rows"] / middle["wall_s"], 1)
        }
    ratios = [a["wall_s"] / b["wall_s"] for a, b in zip(runs[1], runs[2], strict=True)]
    more = {"times_as_fast": round(statistics.median(ratios), 2), "of_rounds": [round(r, 2) for r in ratios], "equal": all(equal), "encoder": ENCODER}
    print(json.dumps(found | numbered | more, indent=1))
    write("index_workers", found | numbered, ["lancedb"], rounds=ROUNDS, load_average=os.getloadavg()[2], **more)


if __name__ == "__main__":
    main()
