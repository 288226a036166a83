"""Speed and memory of a distance between data sets, beside geomloss as the published code of OTDD runs it.

    python benchmarks/distance.py [--memory]        prints a table, writes benchmarks/results/distance/speed.json

Drawn features: 64 numbers, three labels. 2 × 1,000 and 2 × 4,000 samples by ours (Gaussians of labels, cost, network simplex). The peer at n = 1,000: the published
code (microsoft/otdd; on no package index) gives geomloss's SamplesLoss its own cost, with the defaults sinkhorn, p = 2, debiased, blur √0.1, single precision, labels'
Gaussians by eigendecomposition and half of each squared distance as cost; that call is made here with our Gaussians (so that it counts none of its own time for them).
Deviation: of its value, doubled, from the exact one. --memory: 50,000 samples a side, Sinkhorn on all of them, and the default draw, each in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from interleaved import one_thread, race
from provenance import ROOT, stamp
from tacit.parts.gaussian_wasserstein import gaussians, label_distances
from tacit.use.distance import How, Labelled, labelled, otdd

PLACE = ROOT / "benchmarks" / "results" / "distance" / "speed.json"
WIDTH, LABELS, ENTREG = 64, 3, 0.1
WANTED = {1000: 1.0, 4000: 10.0}  # seconds
JOB = """
import sys, time
import torch
torch.set_num_threads(1)
sys.path.insert(0, "benchmarks")
from distance import drawn
from tacit.use.distance import How, otdd
a, b = drawn({n}, 0, {width}), drawn({n}, 1, {width})
clock = time.process_time()
found = otdd(a, b, How(solver="sinkhorn", epsilon={epsilon}))
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(found.value, time.process_time() - clock, int(peak) / 1024)
"""


def drawn(n: int, seed: int, width: int = WIDTH) -> Labelled:
    """Three Gaussian clouds whose variances fall along the axes, moved a little by the seed."""
    rng, middle = np.random.default_rng([seed, n]), 2 * np.random.default_rng(5).standard_normal((LABELS, width))
    y = rng.integers(0, LABELS, n)
    x = rng.standard_normal((n, width)) * np.linspace(1, 0.1, width) + middle[y] + 0.3 * seed * (np.arange(width) < 4)
    return labelled(f"set {seed}", x, y)


def published(a: Labelled, b: Labelled) -> Any:
    """A function that gives OTDD² as the published code has geomloss compute it, with our Gaussians of the labels."""
    from geomloss import SamplesLoss

    together = Labelled("both", np.concatenate([a.x, b.x]), np.concatenate([a.y, b.y + LABELS]), tuple(map(str, range(2 * LABELS))), a.keys + b.keys)
    own = gaussians(together.x, together.y, 2 * LABELS)
    table = torch.from_numpy(label_distances(own, own)).float()
    rows = [torch.from_numpy(np.hstack([x, y[:, None]])).float() for x, y in ((a.x, a.y), (b.x, b.y + LABELS))]

    def cost(z: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
        near = torch.cdist(z[:, :, :-1], z2[:, :, :-1]) ** 2 / 2
        kinds = table[z[:, :, -1].long()[:, :, None], z2[:, :, -1].long()[:, None, :]] / 2
        return near + kinds

    loss = SamplesLoss("sinkhorn", p=2, cost=cost, debias=True, blur=ENTREG**0.5, backend="tensorized")
    return lambda: float(loss(*rows))


def memory() -> dict[str, Any]:
    rows = {}
    for name, n, width, epsilon in (("50,000 samples a side, Sinkhorn, ε the mean cost", 50_000, 16, 1.0),):
        done = subprocess.run([sys.executable, "-c", JOB.format(n=n, width=width, epsilon=epsilon)], capture_output=True, text=True, check=True, cwd=ROOT)
        value, cpu, peak = map(float, done.stdout.split())
        rows[name] = {"otdd": round(value, 4), "cpu_s": round(cpu, 1), "peak_mb": round(peak), "wanted_mb": 1024, "features": width}
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    one_thread()
    rows: dict[str, Any] = {}
    if "--memory" in sys.argv:
        rows |= memory()
    else:
        for n in (1000, 4000):
            a, b = drawn(n, 0), drawn(n, 1)
            ours = lambda a=a, b=b: otdd(a, b, How(solver="exact"))
            peer = published(a, b) if n == 1000 else (lambda: None)
            found = race(ours, peer, calls=1, rounds=9 if n == 1000 else 5)
            row = {"ours_cpu_s": found["ours_cpu_ms"] / 1e3, "ours_wall_s": found["ours_wall_ms"] / 1e3, "wanted_s": WANTED[n], "rounds": found["rounds"]}
            if n == 1000:
                exact, theirs = ours().squared, 2 * peer()
                ours_sinkhorn = otdd(a, b, How(solver="sinkhorn")).squared
                row |= {"peer_cpu_s": found["peer_cpu_ms"] / 1e3, "peer_wall_s": found["peer_wall_ms"] / 1e3, "ratio_cpu": found["ratio_cpu"]}
                row |= {"ratio_cpu_lowest_round": found["ratio_cpu_lowest_round"], "otdd2_exact": exact, "otdd2_peer": theirs}
                row |= {"deviation": theirs / exact - 1, "otdd2_our_sinkhorn": ours_sinkhorn}
            rows[f"2 × {n:,} samples"] = row
            print(n, row, flush=True)
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    from importlib import metadata

    kept = json.loads(PLACE.read_text())["rows"] if PLACE.exists() else {}  # of the other part
    record = {"rows": kept | rows} | stamp(0)
    record["versions"] |= {p: metadata.version(p) for p in ("POT", "geomloss")}
    PLACE.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
