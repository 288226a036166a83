"""`tacit classify` as a user runs it: UCSD COVID-CT (official split) and drawn CTs. Resumable; one JSON file a row.

    python benchmarks/classify.py [ROW…] [--seed 0]
    python benchmarks/classify.py --list

`ucsd`: learnt on the train list alone, slices of one paper on one side, scored on the 203 test slices; intervals: papers drawn with replacement, as
the set names no patient. `ucsd-twins`: what rims, backgrounds and lungs alone tell, out of fold inside train. `drawn`: learnt on 48 drawn CTs (teach), scored
on 36 whose parameters they never had (fresh); `drawn-texture`: the same without the network of lesions;
`drawn-brief`: with three members of 300 slices, a quarter of the time. Needs the images below TACIT_DATA (or ../shared/data) for `ucsd`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

import tacit
from provenance import stamp
from tacit.files import write_atomic
from tacit.read.labels import read_labels
from tacit.report.classes import figures
from tacit.use.classify_fit import FitResult
from tacit.use.draw_ct import draw_cts

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "ucsd-covid-ct"
RESULTS, WORK = ROOT / "benchmarks" / "results" / "classify", ROOT / "benchmarks" / "work" / "classify"
PAPER = re.compile(r"^(\d{4}\.\d\d\.\d\d\.\d+)")  # a preprint's number begins the names of its slices
ROWS = ("ucsd", "ucsd-twins", "drawn", "drawn-brief", "drawn-texture")


def ucsd(part: str) -> tuple[Path, Path]:
    """The slices of one list of the official split, and their labels; `patient` is the paper that a slice was cut from, or the slice."""
    folder, table = WORK / f"ucsd-{part}", WORK / f"ucsd-{part}.csv"
    rows = []
    for kind in ("COVID", "NonCOVID"):
        for name in (DATA / "splits" / kind / f"{part}CT_{kind}.txt").read_text().split("\n"):
            if name.strip():
                source = next(p for p in (DATA / f"CT_{kind}").iterdir() if p.stem == Path(name.strip()).stem)
                case = source.stem.replace("%", "-")
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / f"{case}{source.suffix}")
                paper = PAPER.match(source.stem)
                rows.append((case, kind, paper.group(1) if paper else source.stem.split("%")[0]))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "class", "patient"), *rows])
    return folder, table


def drawn(split: str, count: int, seed: int) -> tuple[Path, Path]:
    """Drawn CTs and their labels."""
    out = WORK / f"drawn-{split}"
    if not (out / "labels.csv").exists():
        draw_cts(out, count=count, split=split, seed=seed, overwrite=out.exists())
    return out / "volumes", out / "labels.csv"


def scored(model: Path, source: Path, table: Path, out: Path) -> dict[str, Any]:
    """The answers for new cases, by what truth says."""
    answers = tacit.classify_predict(source, out, model=model, overwrite=out.exists()).answers
    labels = read_labels(table)
    p = np.array([[a[f"p_{c}"] for c in labels.classes] for a in answers])
    y = np.array([labels.classes.index(labels.of[a["case"]]) for a in answers])
    return figures(p, y, labels.classes, np.array([labels.patient[a["case"]] for a in answers]))


def fitted_and_scored(name: str, taught_by: tuple[Path, Path], new: tuple[Path, Path], seed: int, **more: Any) -> tuple[FitResult, dict[str, Any]]:
    """A fit on (folder, labels), and what it is worth out of fold and on new cases, with its seconds. The run and the answers lie in WORK by `name`."""
    cpu, wall, out = time.process_time(), time.monotonic(), WORK / f"{name}-run"
    found = tacit.classify_fit(taught_by[0], out, labels=taught_by[1], seed=seed, overwrite=out.exists(), **more)
    seconds = {"cpu": round(time.process_time() - cpu, 1), "wall": round(time.monotonic() - wall, 1)}
    return found, {"out_of_fold": found.figures, "seconds": seconds, "test": scored(out, *new, WORK / f"{name}-answers")}


def run(row: str, seed: int) -> None:
    place = RESULTS / f"{row}-seed{seed}.json"
    if place.exists():
        return
    (source, table), new = (drawn("teach", 48, 1), drawn("fresh", 36, 2)) if row.startswith("drawn") else (ucsd("train"), ucsd("test"))
    changed = {"drawn-texture": ["lesions=false"], "drawn-brief": ["members=3", "inner=2", "rows=300"]}.get(row)
    more: dict[str, Any] = {"twins": row == "ucsd-twins", "set": changed}
    found, result = fitted_and_scored(f"{row}-seed{seed}", (source, table), new, seed, **more)
    result |= {"row": row, "set": more["set"], "twins": found.twins, "failed": found.failed}
    write_atomic(place, json.dumps(result | stamp(seed), indent=1) + "\n")
    test = result["test"]
    print(
        f"{row} seed {seed}: test auc {test['auc']:.3f} {test['interval']['auc']}, out of fold {found.figures['auc']:.3f}, {result['seconds']['cpu']} CPU s",
        flush=True,
    )


def asked(doc: str | None, known: tuple[str, ...], seeds: list[int]) -> tuple[list[str], list[int]]:
    """Rows and seeds that a benchmark on UCSD's pictures is asked for; none where --list asks for their names."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=", ".join(known))
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(known))
        return [], []
    if unknown := [row for row in options.rows if row not in known]:
        parser.error(f"unknown row {unknown[0]!r}; known are {', '.join(known)}")
    if not DATA.is_dir():
        parser.error(f"no slices at {DATA}; set TACIT_DATA")
    os.environ.setdefault("TACIT_CACHE", str(WORK / "cache"))
    return options.rows or list(known), options.seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ROWS))
        return
    if unknown := [row for row in options.rows if row not in ROWS]:
        parser.error(f"unknown row {unknown[0]!r}; known are {', '.join(ROWS)}")
    if not DATA.is_dir() and not all(row.startswith("drawn") for row in options.rows or ROWS):
        parser.error(f"no slices at {DATA}; set TACIT_DATA")
    os.environ.setdefault("TACIT_CACHE", str(WORK / "cache"))
    for row in options.rows or ROWS:
        run(row, options.seed)


if __name__ == "__main__":
    main()
