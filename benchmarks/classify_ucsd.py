"""How many labels `tacit classify` needs on UCSD COVID-CT, and what its framing tells. Resumable; one JSON file a row and seed.

    python benchmarks/classify_ucsd.py [ROW…] [--seeds 0 1 2]
    python benchmarks/classify_ucsd.py --list

`labels-10` … `labels-100`: this share of the train list's pictures of each class, drawn by the seed, teaches; the 203 test pictures are scored. `train-and-val`: all
of the train and val lists. `ring-only`, `background-only`, `lung-only`: the same on twins of all train and test pictures (`prepare/twins.py`); where no lung is
found there is no such twin, and the picture is counted. Images: ucsd-covid-ct below TACIT_DATA, else ../shared/data.
"""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from classify import RESULTS, WORK, asked, fitted_and_scored, ucsd
from provenance import stamp
from tacit.files import write_atomic
from tacit.prepare.twins import KINDS, twin
from tacit.read.picture import read_picture

SHARES = (10, 25, 50, 100)
TWINS = tuple(kind.replace(" ", "-") for kind in KINDS)
ROWS = (*(f"labels-{share}" for share in SHARES), "train-and-val", *TWINS)
Table = list[tuple[str, str, str]]  # case, class, patient


def table_of(path: Path) -> Table:
    """The rows of a CSV case,class,patient."""
    with path.open(newline="") as file:
        return [(r["case"], r["class"], r["patient"]) for r in csv.DictReader(file)]


def kept_as(rows: Table, folder: Path, name: str, sources: list[Path]) -> tuple[Path, Path]:
    """A folder of these cases alone, and its labels."""
    place, table = folder / name, folder / f"{name}.csv"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    known = {path.stem: path for source in sources for path in source.iterdir()}
    for case, _, _ in rows:
        shutil.copyfile(known[case], place / known[case].name)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "class", "patient"), *rows])
    return place, table


def share_of(rows: Table, percent: int, seed: int) -> Table:
    """This share of each class, drawn by the seed, at least two of different patients."""
    rng = np.random.default_rng([seed, percent])
    kept: Table = []
    for kind in sorted({r[1] for r in rows}):
        own = [r for r in rows if r[1] == kind]
        order = [own[i] for i in rng.permutation(len(own))]
        kept += order[: max(round(len(own) * percent / 100), 2)]
    return sorted(kept)


def twins_of(part: str, kind: str) -> tuple[Path, Path, int]:
    """The twins of a list's pictures, their labels, and of how many no lung was found."""
    source, table = ucsd(part)
    place, own = WORK / f"ucsd-{part}-{kind.replace(' ', '-')}", WORK / f"ucsd-{part}-{kind.replace(' ', '-')}.csv"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    known, rows, without = {path.stem: path for path in source.iterdir()}, [], 0
    for row in table_of(table):
        grey = np.round(read_picture(known[row[0]]).pixels.astype(np.float32).mean(2)).astype(np.uint8)
        other = twin(cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA), kind)
        if other is None:
            without += 1
        else:
            cv2.imwrite(str(place / f"{row[0]}.png"), other)
            rows.append(row)
    with own.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "class", "patient"), *rows])
    return place, own, without


def run(row: str, seed: int) -> None:
    place = RESULTS / "ucsd" / f"{row}-seed{seed}.json"
    if place.exists():
        return
    (train, table), new, without = ucsd("train"), ucsd("test"), 0
    if row.startswith("labels-"):
        train, table = kept_as(share_of(table_of(table), int(row[7:]), seed), WORK, f"ucsd-{row}-{seed}", [train])
    elif row == "train-and-val":
        val, more = ucsd("val")
        train, table = kept_as(table_of(table) + table_of(more), WORK, "ucsd-train-and-val", [train, val])
    else:
        kind = row.replace("-", " ")
        train, table, first = twins_of("train", kind)
        *new_, second = twins_of("test", kind)
        new, without = (new_[0], new_[1]), first + second
    found, result = fitted_and_scored(f"ucsd-{row}-{seed}", (train, table), new, seed, twins=False)
    result |= {"row": row, "taught_by": found.cases, "without_lungs": without}
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(place, json.dumps(result | stamp(seed), indent=1) + "\n")
    test, seconds = result["test"], result["seconds"]
    ill = next(r for r in test["classes"] if r["class"] == "COVID")
    print(
        f"{row} seed {seed}: {found.cases} teach, test auc {test['auc']:.3f} {test['interval']['auc']}, F1 {ill['f1']:.3f}, {seconds['cpu']} CPU s", flush=True
    )


def main() -> None:
    rows, seeds = asked(__doc__, ROWS, [0, 1, 2])
    for seed in seeds:
        for row in rows:
            run(row, seed)


if __name__ == "__main__":
    main()
