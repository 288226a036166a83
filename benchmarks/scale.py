"""How well the spacing is estimated: folders of drawn tissue at known spacings, then real folders where there are any.

    python benchmarks/scale.py          prints a table, writes benchmarks/results/scale.json

The first column is what `tacit.prepare.scale.NUCLEUS_UM` is taken from: the half-width of nuclei, as measured, on drawings
of one set of seeds. The check uses other seeds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from provenance import stamp
from tacit.phantom import tissue
from tacit.prepare.scale import APPARENT_PX, NUCLEUS_UM, estimate_mpp
from tacit.read.picture import read_picture

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
SPACINGS = (0.25, 0.3, 0.35, 0.5, 0.62, 0.8, 1.0, 1.2)
PICTURES, SHAPE = 16, (400, 560)  # a folder as `tacit phantom` draws it
TAUGHT, CHECKED = (5, 6, 7), (11, 12, 13)  # seeds of the folders that NUCLEUS_UM is taken from, and of those that are checked


def drawn(um: float, seed: int) -> list[np.ndarray]:
    return [tissue.draw(np.random.default_rng([seed, int(um * 100), i]), SHAPE, um).picture for i in range(PICTURES)]


def main() -> None:
    result: dict[str, object] = {"apparent_px": APPARENT_PX, "nucleus_um_in_use": NUCLEUS_UM, "seeds": [*TAUGHT, *CHECKED], **stamp()}
    widths = [np.log(NUCLEUS_UM * um / estimate_mpp(drawn(um, seed))) for um in SPACINGS for seed in TAUGHT]
    measured = float(np.exp(np.mean(widths)))
    result["nucleus_um_measured"] = measured
    print(f"half-width of drawn nuclei as measured: {measured:.3f} µm (in use: {NUCLEUS_UM})")
    folders = {}
    for um in SPACINGS:
        for seed in CHECKED:
            folders[f"drawn at {um}, seed {seed}"] = {"true": um, "estimated": estimate_mpp(drawn(um, seed))}
    if (DATA / "glas").is_dir():
        glas = [read_picture(p).pixels for p in sorted((DATA / "glas" / "images").glob("*.jpg"))[::3]]
        folders["GlaS"] = {"true": 0.62, "estimated": estimate_mpp(glas)}
    if (DATA / "her2st").is_dir():
        tiles = []
        for path in sorted((DATA / "her2st").glob("*.jpg")):
            section = np.asarray(Pillow.open(path).convert("RGB"))
            corners = [(r, c) for r in range(1000, 8500, 1000) for c in range(1000, 8500, 1000)]
            tiles += [section[r : r + 600, c : c + 800] for r, c in corners if (section[r : r + 600, c : c + 800].min(-1) < 225).mean() > 0.8]
        folders["HER2ST sections"] = {"true": 0.78, "estimated": estimate_mpp(tiles)}
    for name, row in folders.items():
        row["ratio"] = row["estimated"] / row["true"]
        print(f"{name:<24} true {row['true']:.2f}  estimated {row['estimated']:.3f}  ratio {row['ratio']:.2f}")
    result["folders"] = folders
    (ROOT / "benchmarks" / "results" / "scale.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    Pillow.MAX_IMAGE_PIXELS = None
    main()
