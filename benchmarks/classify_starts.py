"""What a network of `tacit classify` begins with, on UCSD COVID-CT, by share of the labels; texture beside it, and their vote. Resumable; one JSON file a row and seed.

    python benchmarks/classify_starts.py [ROW…] [--seeds 0]
    python benchmarks/classify_starts.py --list

A row is START-SHARE: `random`, `drawn` (`--weights phantom:ct`), `self-trans` (MoCo on the pictures of SARS-CoV-2-CT, then on the train list's without labels) and
`byol` (on the train list's, as many steps as both of MoCo) begin the same ResNet-18 of `--pipeline end-to-end`, as `NETWORK` says; `texture` is the default
pipeline; `vote` the mean of all rows of that share that are there. 203 test pictures; intervals: papers drawn with replacement.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import tacit
from classify import DATA, RESULTS, WORK, asked, ucsd
from classify_ucsd import kept_as, share_of, table_of
from provenance import stamp
from tacit.files import write_atomic
from tacit.read.labels import read_labels
from tacit.report.classes import figures
from tacit.report.paired_tests import area_test
from tacit.use.taught import drawn_backbone

BACKBONE = "resnet18"
NETWORK = [
    "size=128",
    "members=2",
    "vote_epochs=10",
    "train.epochs=16",
    "train.steps=5",
    "train.lr=1e-3",
    "train.checkpoint_every=80",
]  # 32 pictures a step; one rate and length for all starts, chosen before any figure was seen
SHARES = (10, 25, 100)
STARTS = ("texture", "random", "drawn", "self-trans", "byol")
ROWS = tuple(f"{start}-{share}" for share in SHARES for start in (*STARTS, "vote"))
PRETRAIN = ["size=128", "train.epochs=14", "train.steps=10"]  # 32 pictures a step


def learnt(name: str, seed: int, method: str, source: Path, weights: Path | None, settings: list[str]) -> tuple[Path, float]:
    """An encoder learnt on the pictures of a folder without labels, and its CPU seconds."""
    out = WORK / f"start-{name}-{seed}"
    clock = out / "clock.json"
    if not clock.exists():
        cpu = time.process_time()
        tacit.pretrain(
            source, out, method=method, backbone=BACKBONE, weights=str(weights) if weights else None, set=settings, seed=seed, overwrite=out.exists()
        )
        write_atomic(clock, json.dumps(time.process_time() - cpu))
    return out / "model" / "encoder.safetensors", float(json.loads(clock.read_text()))


def start_of(start: str, seed: int) -> tuple[str | None, float]:
    """--weights of a start, and the CPU seconds that they took."""
    images = ucsd("train")[0]
    if start == "drawn":
        clock = WORK / "start-drawn.json"
        cpu = time.process_time()
        drawn_backbone(BACKBONE)
        if not clock.exists():
            write_atomic(clock, json.dumps(time.process_time() - cpu))
        return "phantom:ct", float(json.loads(clock.read_text()))
    if start == "self-trans":
        source, first = learnt("moco-source", seed, "moco", DATA.parent / "sars-cov-2-ct", None, [*PRETRAIN, "queue=1024"])
        target, second = learnt("moco-target", seed, "moco", images, source, [*PRETRAIN, "queue=1024"])
        return str(target), first + second
    if start == "byol":
        weights, seconds = learnt("byol", seed, "byol", images, None, [*PRETRAIN, "train.epochs=28"])
        return str(weights), seconds
    return None, 0.0


def run(row: str, seed: int) -> None:
    place = RESULTS / "starts" / f"{row}-seed{seed}.json"
    if place.exists():
        return
    start, _, share = row.rpartition("-")
    (train, table), (new, truth) = ucsd("train"), ucsd("test")
    labels = read_labels(truth)
    cases = sorted(labels.of)
    y, papers = np.array([labels.classes.index(labels.of[c]) for c in cases]), np.array([labels.patient[c] for c in cases])
    result: dict[str, Any] = {"row": row, "start": start, "share": int(share)}
    others = {s: p for s in STARTS if (p := _answers(s, int(share), seed, cases, labels.classes)) is not None}
    if start == "vote":
        if len(others) < 2:
            return
        p = np.mean(list(others.values()), axis=0)
        result["of"] = list(others)
    else:
        weights, seconds = start_of(start, seed)
        taught, own = kept_as(share_of(table_of(table), int(share), seed), WORK, f"starts-{share}-{seed}", [train])
        more: dict[str, Any] = {} if start == "texture" else {"pipeline": "end-to-end", "model": "02_COVNet-18", "weights": weights, "set": NETWORK}
        cpu, out = time.process_time(), WORK / f"starts-{row}-{seed}-run"
        found = tacit.classify_fit(taught, out, labels=own, seed=seed, twins=False, overwrite=out.exists(), **more)
        result |= {"cpu": round(time.process_time() - cpu, 1), "start_cpu": round(seconds, 1), "taught_by": found.cases, "out_of_fold": found.figures}
        answers = WORK / f"starts-{row}-{seed}-answers"
        told = tacit.classify_predict(new, answers, model=out, pages=False, overwrite=answers.exists()).answers
        write_atomic(WORK / f"starts-{row}-{seed}.json", json.dumps({a["case"]: [a[f"p_{c}"] for c in labels.classes] for a in told}))
        p = _answers(start, int(share), seed, cases, labels.classes)
        assert p is not None
    if start != "texture" and "texture" in others:
        k = labels.classes.index("COVID")
        test = area_test(others["texture"][:, k], p[:, k], y == k, papers)
        result["over_texture"] = {"auc": test.difference, "se": test.se, "p": test.p}
    result["test"] = figures(p, y, labels.classes, papers)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps(result | stamp(seed), indent=1) + "\n")
    print(f"{row} seed {seed}: test auc {result['test']['auc']:.3f} {result['test']['interval']['auc']}, {result.get('cpu', '')} CPU s", flush=True)


def _answers(start: str, share: int, seed: int, cases: list[str], classes: tuple[str, ...]) -> Any:
    path = WORK / f"starts-{start}-{share}-{seed}.json"
    if not path.exists():
        return None
    known = json.loads(path.read_text())
    return np.array([known[case] for case in cases]).reshape(-1, len(classes))


def main() -> None:
    rows, seeds = asked(__doc__, ROWS, [0])
    for seed in seeds:
        for row in rows:
            run(row, seed)


if __name__ == "__main__":
    main()
