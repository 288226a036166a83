"""What parting touching glands is worth: object figures of one learnt model with cores as seeds, and without.

    python benchmarks/splitting.py RUN      writes benchmarks/results/splitting.json

RUN is the OUT of a finished run on GlaS train (benchmarks/work/phantom-seed0 after benchmarks/glas.py). Scored on testA.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from glas import DATA, ROOT, WORK, folders, tacit
from provenance import stamp
from tacit import evaluate


def main(run: Path) -> None:
    if not DATA.is_dir():
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    found = {}
    for name, words in {"cores part touching glands": [], "connected pieces only": ["--set", "instances.core=1.1"]}.items():
        out = WORK / f"splitting-{len(words)}"
        tacit("segment", folders()["testA"], "-o", out, "--model", run, "--mpp", 0.62, *words, *(["--overwrite"] if out.exists() else []))
        figures = evaluate(out / "masks", DATA / "masks")["figures"]
        found[name] = {k: figures[k] for k in ("miou", "object_f1", "object_dice", "object_hausdorff_px", "objects_predicted", "objects_true")}
        print(name, {k: round(v, 3) for k, v in found[name].items()})
    (ROOT / "benchmarks" / "results" / "splitting.json").write_text(json.dumps({"found": found, **stamp()}, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
