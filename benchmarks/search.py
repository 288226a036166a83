"""Exact search against FAISS, the opening of a large index, and what the approximate index finds.

    python benchmarks/search.py [--large]        prints a table, writes benchmarks/results/search.json

One thread each, taking turns. 100,000 × 512 numbers in fp16 for us; FAISS's IndexFlatIP gets the same values in fp32 at unit length. Rows that
differ between the two are counted, with how far apart their distances are. --large writes a million rows (1 GB) below benchmarks/work, opens
them in fresh processes, and builds the approximate index (many minutes).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from interleaved import ROOT, one_thread, race, write
from tacit.parts.nearest import Nearest
from tacit.use.index_lock import writing
from tacit.use.search import Search
from tacit.use.store import About, Store, vectors_of

N, WIDTH, QUERIES, K = 100_000, 512, 200, 10
LARGE = 1_000_000
WORK = ROOT / "benchmarks" / "work" / "search"
OPEN = """
import json, sys, time
start, cpu = time.perf_counter(), time.process_time()
from tacit.use.store import Store
import lancedb
imported, cpu = time.perf_counter(), time.process_time() - cpu
store = Store.open(sys.argv[1])
rows, made = len(store), store.about.encoder
opened = time.perf_counter()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({"rows": rows, "import_s": imported - start, "import_cpu_s": cpu, "open_s": opened - imported, "peak_mb": peak}))
"""


def drawn(kind: str, n: int, seed: int) -> np.ndarray:
    """Vectors (n, WIDTH) fp16: random directions, or two thousand clusters as tiles of slides make them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, WIDTH), dtype=np.float32)
    if kind == "clusters":
        middles = np.random.default_rng(1).standard_normal((2000, WIDTH), dtype=np.float32)
        x = 1 + middles[rng.integers(0, 2000, n)] + 0.5 * x
    return x.astype(np.float16)


def unit(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float32)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def against_faiss(kind: str) -> dict[str, Any]:
    x, q = drawn(kind, N, 0), drawn(kind, QUERIES, 7)
    ours, theirs = Nearest(x), faiss.IndexFlatIP(WIDTH)
    theirs.add(unit(x))
    asked = unit(q)
    rows, far = ours.search(q, K)
    _, ids = theirs.search(asked, K)
    differ = rows != ids
    wide = unit(x).astype(np.float64)
    gap = max((abs(2 - 2 * float(wide[j] @ asked[i].astype(np.float64)) - far[i, r]) for i, r in np.argwhere(differ) for j in [ids[i, r]]), default=0.0)
    found = {"hits": int(differ.size), "hits_that_differ": int(differ.sum()), "their_distances_differ_by": gap}
    batch = race(lambda: ours.search(q, K), lambda: theirs.search(asked, K), calls=1)
    single = race(lambda: ours.search(q[:1], K), lambda: theirs.search(asked[:1], K), calls=20)
    per_query = {f"{who}_{clock}_ms_a_query": round(batch[f"{who}_{clock}_ms"] / QUERIES, 3) for who in ("ours", "peer") for clock in ("cpu", "wall")}
    return {f"{kind}: {QUERIES} queries at once": batch | per_query | found, f"{kind}: one query": single}


def large_index() -> Path:
    """A million rows, written as an append writes them."""
    place = WORK / "large"
    if (place / "whole").exists():
        return place / "index"
    shutil.rmtree(place, ignore_errors=True)
    about = About("drawn", {}, "0", {}, "0", WIDTH, "fp16", 256.0, {"name": "none"})
    with writing(place / "index") as folder:
        store = Store.create(folder, about)
        for first in range(0, LARGE, 10_000):
            x = drawn("clusters", 10_000, first)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), type=vectors_of(about))
            slide = [f"/slides/{i // 2000}.svs" for i in range(first, first + 10_000)]
            place_in = [i % 2000 for i in range(first, first + 10_000)]
            store.add(pa.table({"vector": vectors, "path": slide, "sha256": slide, "row": place_in, "col": place_in, "tiles": [2000] * 10_000}))
        store.tidy()
    (place / "whole").touch()
    return place / "index"


def opening(index: Path) -> dict[str, Any]:
    """Medians over five fresh processes."""
    runs = [json.loads(subprocess.run([sys.executable, "-c", OPEN, index], capture_output=True, text=True, check=True).stdout) for _ in range(5)]
    return {name: round(float(np.median([r[name] for r in runs])), 4) for name in runs[0]}


def loading(index: Path) -> dict[str, Any]:
    store, clock = Store.open(index), time.perf_counter()
    vectors = store.vectors()
    read = time.perf_counter() - clock
    search, q = Search(store, way="exact"), drawn("clusters", 20, 7)
    search.nearest(q[:1], K)
    clock = time.perf_counter()
    for i in range(20):
        search.nearest(q[i : i + 1], K)
    return {"read_s": round(read, 2), "held_mb": round(vectors.nbytes / 2**20), "exact_ms_a_query": round((time.perf_counter() - clock) / 20 * 1e3, 1)}


def approximate(index: Path) -> dict[str, Any]:
    with writing(index):
        store, clock = Store.open(index), time.perf_counter()
        if not store.has_approximate:
            store.build_approximate()
        built = time.perf_counter() - clock
    search, q = Search(store, way="approximate"), drawn("clusters", 20, 7)
    recall, asked = search.recall(K)
    clock = time.perf_counter()
    for i in range(20):
        search.nearest(q[i : i + 1], K)
    return {"build_s": round(built, 1), "recall_at_10": round(recall, 4), "rows_asked": asked, "ms_a_query": round((time.perf_counter() - clock) / 20 * 1e3, 1)}


def main() -> None:
    one_thread()
    faiss.omp_set_num_threads(1)
    place = ROOT / "benchmarks" / "results" / "search.json"
    rows = json.loads(place.read_text())["rows"] if place.exists() else {}
    for kind in ("random", "clusters"):
        rows |= against_faiss(kind)
    if "--large" in sys.argv:
        index = large_index()
        rows["a million rows: opening"] = opening(index)
        rows["a million rows: exact"] = loading(index)
        print(rows["a million rows: opening"], rows["a million rows: exact"], flush=True)
        rows["a million rows: approximate"] = approximate(index)
        print(rows["a million rows: approximate"])
    write("search", rows, ["faiss-cpu", "lancedb"])


if __name__ == "__main__":
    main()
