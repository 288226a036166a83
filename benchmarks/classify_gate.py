"""What the contrast gate of `tacit classify` is worth on UCSD COVID-CT, and what it separates. Resumable; one JSON file a row and seed.

    python benchmarks/classify_gate.py [ROW…] [--seeds 0]

`no-gate`: one two-level pipeline. `count-at-maximum`, `rms-contrast`, `entropy`, `percentile-range`: a gate by this number, two clusters, a two-level pipeline each
side. Taught by the official train list, scored on its 203 test pictures; beside each gate, how well format, size and times of the files tell its
branch. Then all rows that are there against `no-gate`, paired. Images: ucsd-covid-ct below TACIT_DATA, else ../shared/data.
"""

from __future__ import annotations

import json
import os

import tacit
from classify import RESULTS, WORK, asked, fitted_and_scored, ucsd
from provenance import stamp
from tacit.files import write_atomic
from tacit.prepare.gate import GATES

PLACE = RESULTS / "gate"
ROWS = ("no-gate", *GATES)


def run(row: str, seed: int) -> None:
    place = PLACE / f"{row}-seed{seed}.json"
    if place.exists():
        return
    (train, table), new = ucsd("train"), ucsd("test")
    for path in train.iterdir():
        os.utime(path, (0, 0))  # the times of copies made class by class would tell the class
    options = {} if row == "no-gate" else {"pipeline": "gate", "set": [f"by={row}"]}
    found, result = fitted_and_scored(f"gate-{row}-{seed}", (train, table), new, seed, twins=False, **options)
    gate = json.loads((WORK / f"gate-{row}-{seed}-run" / "run.json").read_text()).get("gate")
    result |= {"row": row, "taught_by": found.cases, "gate": gate}
    test, seconds = result["test"], result["seconds"]
    write_atomic(place, json.dumps(result | stamp(seed), indent=1) + "\n")
    print(
        f"{row} seed {seed}: out of fold {found.figures['auc']:.3f}, test auc {test['auc']:.3f} {test['interval']['auc']}, {seconds['cpu']} CPU s", flush=True
    )
    if gate:
        print(f"  {gate['low']} low, {gate['high']} high. {gate['said']}", flush=True)


def compare(seed: int) -> None:
    """The gates against no gate on the test pictures, paired."""
    known = [row for row in ROWS if (WORK / f"gate-{row}-{seed}-answers" / "run.json").exists()]
    if "no-gate" not in known or len(known) < 2:
        return
    out = WORK / f"gate-{seed}-compared"
    found = tacit.classify_compare([WORK / f"gate-{row}-{seed}-answers" for row in known], out, labels=ucsd("test")[1], seed=seed, overwrite=out.exists())
    write_atomic(PLACE / f"compared-seed{seed}.json", json.dumps({"rows": known, "gains": found.gains} | stamp(seed), indent=1) + "\n")
    for gain in found.gains:
        print(f"{gain['model']}: area {gain['auc']:+.3f} {gain['auc_interval']}, DeLong p after Holm {gain['delong_p_holm']}")


def main() -> None:
    rows, seeds = asked(__doc__, ROWS, [0])
    for seed in seeds:
        for row in rows:
            run(row, seed)
        compare(seed)


if __name__ == "__main__":
    main()
