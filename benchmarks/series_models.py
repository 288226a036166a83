"""How long the networks for series take for one answer and for one step of learning, on one thread.

    python benchmarks/series_models.py     prints a table, writes benchmarks/results/series_models.json

A series of 150 slices of 1 mm is prepared as COVNet asks: every fifth slice, 30 slices of 224 × 224. An answer is one forward pass without
gradients, a step is one of the training loop's on one series, in bf16. Random weights: they take as long as taught ones. Networks take turns.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import torch

from interleaved import one_thread
from provenance import ROOT, stamp
from tacit.learn.series_models import PRESETS, series_model
from tacit.parts.train import Steps

ANSWERED = ("02_COVNet-18", "01_COVNet-50", "06_COVNet-CSR", "covnet-small", "c3d", "p3d", "c3d-small", "p3d-small", "conv-lstm-small")
LEARNT = ("covnet-small", "c3d-small", "conv-lstm-small")
SLICES, SIDE, ROUNDS = 30, 224, 5
MOST_S = 15.0  # an answer of COVNet-18


def main() -> None:
    one_thread()
    x = torch.rand((1, SLICES, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    told = {"x": x, "label": torch.tensor([1])}
    jobs: dict[tuple[str, str], Any] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in ANSWERED:
        torch.manual_seed(0)
        model = series_model(name).eval()
        rows[name] = {"network": PRESETS[name][0], "weights_million": round(sum(p.numel() for p in model.parameters()) / 1e6, 2)}
        jobs[name, "answer"] = lambda model=model: model(x).logits
    for name in LEARNT:
        torch.manual_seed(0)
        model = series_model(name)
        jobs[name, "step"] = lambda steps=Steps(model, model.config.train, seed=0): steps(told, 0)
    found: dict[tuple[str, str], list[tuple[float, float]]] = {job: [] for job in jobs}
    for k in range(ROUNDS + 1):  # the first does not count
        for job, run in jobs.items():
            clocks = time.process_time(), time.perf_counter()
            if job[1] == "answer":
                with torch.no_grad():
                    run()
            else:
                run()
            if k:
                found[job].append((time.process_time() - clocks[0], time.perf_counter() - clocks[1]))
    for (name, kind), times in found.items():
        cpu, wall = np.median(times, 0)
        rows[name] |= {f"{kind}_cpu_s": round(float(cpu), 3), f"{kind}_wall_s": round(float(wall), 3)}
    for name, row in rows.items():
        print(f"{name:<18}", "  ".join(f"{k} {v}" for k, v in row.items()))
    kept = rows["02_COVNet-18"]["answer_cpu_s"] <= MOST_S
    print(f"COVNet-18 answers in {rows['02_COVNet-18']['answer_cpu_s']} s of CPU time; wanted at most {MOST_S}: {'kept' if kept else 'NOT kept'}")
    record = {"slices": SLICES, "side_px": SIDE, "threads": 1, "rounds": ROUNDS, "rows": rows, "wanted_s": MOST_S, "kept": kept, **stamp(0)}
    (ROOT / "benchmarks" / "results" / "series_models.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
