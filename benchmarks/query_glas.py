"""What a query finds on whole GlaS images: benign or malignant among the ten nearest, the same patient let in and left out.

    python benchmarks/query_glas.py          prints a table, writes benchmarks/results/query_glas.json

Needs the images below TACIT_DATA (or ../shared/data). Labels judge; none takes part in the search. Intervals over patients.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from glas import DATA, ROOT
from interleaved import one_thread
from provenance import stamp
from tacit import evaluate, index_images

ENCODERS = {"phantom+texture": {}, "phantom": {}, "texture": {}, "timm:resnet18": {}, "timm:resnet18, standard": {"normalise": "standard"}}
MPP = 0.62


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"no GlaS images at {DATA}; set TACIT_DATA")
    one_thread()
    rows: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, options in ENCODERS.items():
            index = Path(place) / name.replace(":", "-")
            asked = name.split(",")[0]
            made = index_images(DATA / "images", index, encoder=asked, mpp=MPP, **options)
            name = name.replace(asked, made.encoder)  # which says of a timm network that its weights are random
            for way, same in (("patient left out", False), ("same patient let in", True)):
                found = evaluate(index, task="query", include_same_patient=same)
                rows.setdefault(name, {})[way] = {k: found[k] for k in ("figures", "interval", "chance", "commonest_class", "queries", "over")}
                figure, (low, high) = found["figures"]["majority@10"], found["interval"]["majority@10"]
                print(f"{name:<40} {way:<20} majority@10 {figure:.3f} [{low:.3f}, {high:.3f}]  by chance {found['chance']['majority@10']:.3f}", flush=True)
    (ROOT / "benchmarks" / "results" / "query_glas.json").write_text(json.dumps({"rows": rows, **stamp(0)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
