"""Drawn CTs: can the simplest scores tell who has a lesion? How well does the lung rule find drawn lungs? How fast are they drawn?

    python benchmarks/ct_phantom.py [PHANTOMS]       prints tables, writes benchmarks/results/ct_phantom.json

The scores see the Hounsfield units inside the drawn lungs: their mean, their maximum, and their histogram of 32 bins with a logistic regression
(five folds, a phantom is a patient; the strongest of three penalties counts). An AUC below .5 is turned round. Half of the phantoms are normal.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import tracemalloc

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from provenance import ROOT, stamp
from tacit.phantom import ct
from tacit.prepare.lung import find_lungs
from tacit.use.draw_ct import image_of

ORDER = ("normal", "COVID", "normal", "CAP")
SPACING = (4.0, 3.0, 3.0)
SEED = 7


def scores(scan: ct.Scan) -> list[float]:
    """Mean, maximum and 32 shares of the lungs' HU."""
    inside = scan.hu[scan.lungs > 0]
    return [float(inside.mean()), float(inside.max()), *(np.histogram(inside, 32, (-1024, 400))[0] / len(inside))]


def turned(truth: np.ndarray, score: np.ndarray) -> float:
    """AUC, the better way round."""
    auc = float(roc_auc_score(truth, score))
    return round(max(auc, 1 - auc), 3)


def trivial(rows: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """AUC of each of the three scores."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    by_histogram = [
        float(
            roc_auc_score(
                truth,
                cross_val_predict(
                    make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000)), rows[:, 2:], truth, cv=folds, method="decision_function"
                ),
            )
        )
        for c in (0.1, 1.0, 10.0)
    ]
    return {"mean": turned(truth, rows[:, 0]), "maximum": turned(truth, rows[:, 1]), "histogram": round(max(by_histogram), 3)}


def asked(count: int) -> dict[str, dict[str, float]]:
    """The three scores on fresh phantoms: any lesion, COVID alone, CAP alone."""
    rows, labels, shares = [], [], []
    for i in range(count):
        scan = ct.draw_scan(np.random.default_rng([SEED, i]), label=ORDER[i % 4], split="fresh", spacing_mm=SPACING)
        rows.append(scores(scan))
        labels.append(ORDER[i % 4])
        shares.append(scan.lesion_share)
        print(f"\r{i + 1} of {count}", end="", file=sys.stderr)
    x, y, share = np.asarray(rows), np.asarray(labels), np.asarray(shares)
    found = {"lesion": trivial(x, y != "normal")}
    for name in ("COVID", "CAP"):
        kept = (y == name) | (y == "normal")
        found[name] = trivial(x[kept], y[kept] == name) | {"lesion_share_of_lungs_median": round(float(np.median(share[y == name])), 4)}
    return found


def lungs(count: int = 12) -> dict[str, dict[str, float]]:
    """Dice of the lung rule against the drawn lungs, both splits."""
    found = {}
    for split in ("teach", "fresh"):
        by_class: dict[str, list[float]] = {}
        for i in range(count):
            label = ("normal", "COVID", "CAP")[i % 3]
            scan = ct.draw_scan(np.random.default_rng([11, i]), label=label, split=split, spacing_mm=(2.5, 2.0, 2.0))
            a, b = find_lungs(image_of(scan)).mask > 0, scan.lungs > 0
            by_class.setdefault(label, []).append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
        found[split] = {f"{label}_{what}": round(float(f(v)), 4) for label, v in by_class.items() for what, f in (("mean", np.mean), ("lowest", np.min))}
    return found


def speed(rounds: int = 5) -> dict[str, float]:
    """Seconds for 128 × 256 × 256, patient and scan, median; memory held beyond the answer for 64 and 128 slices."""
    cpu, wall = [], []
    for i in range(rounds):
        clocks = time.process_time(), time.perf_counter()
        ct.draw_scan(np.random.default_rng(i), label="COVID", shape=(128, 256, 256), spacing_mm=(2.4, 1.4, 1.4))
        cpu.append(time.process_time() - clocks[0])
        wall.append(time.perf_counter() - clocks[1])
    beyond = {}
    for slices in (64, 128):
        patient = ct.draw_patient(np.random.default_rng(0), label="COVID")
        grid = ct.grid_of(patient, shape=(slices, 256, 256), spacing_mm=(2.4, 1.4, 1.4))
        tracemalloc.start()
        scan = ct.scan(patient, grid)
        beyond[slices] = (tracemalloc.get_traced_memory()[1] - scan.hu.nbytes - scan.lungs.nbytes - scan.lesions.nbytes) / 2**20
        tracemalloc.stop()
    return {
        "cpu_s": round(float(np.median(cpu)), 2),
        "wall_s": round(float(np.median(wall)), 2),
        "rounds": rounds,
        "mb_beyond_answer_64_slices": round(beyond[64], 1),
        "mb_beyond_answer_128_slices": round(beyond[128], 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    cv2.setNumThreads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    record = {"speed_128x256x256": speed(), "lung_rule_dice": lungs(), "phantoms": count, "spacing_mm": SPACING, "split": "fresh", "auc": asked(count)}
    print(json.dumps(record, indent=1))
    (ROOT / "benchmarks" / "results" / "ct_phantom.json").write_text(json.dumps(record | stamp(SEED), indent=1) + "\n")


if __name__ == "__main__":
    main()
