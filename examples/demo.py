"""The main job from end to end, in minutes, without a network: `python examples/demo.py [OUT]`.

1. A real image: colon immunohistochemistry (haematoxylin and DAB) that scikit-image ships. Tacit learns on it and outlines its glands.
2. Made tissue with exact truth: what was learnt is applied and scored.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import tacit
from tacit.use.draw import draw_sheet


def main(out: Path) -> None:
    picture = Path(str(resources.files("skimage.data"))) / "ihc.png"
    if not picture.exists():
        sys.exit(f"scikit-image's {picture.name} is not in its wheel any more; give Tacit an image of your own")
    print("1/3  learning on one real image (colon, haematoxylin and DAB) without labels …", flush=True)
    tacit.segment(picture, out / "colon", budget="fast", overwrite=(out / "colon" / "run.json").exists())
    print("2/3  drawing tissue with exact truth, applying what was learnt …", flush=True)
    draw_sheet("tissue", out / "made", count=8, mpp=0.8, shape=(420, 600), seed=2026, overwrite=(out / "made" / "run.json").exists())
    tacit.segment(out / "made" / "images", out / "made-segmented", model=out / "colon", mpp=0.8, overwrite=(out / "made-segmented" / "run.json").exists())
    print("3/3  scoring against the exact truth …", flush=True)
    found = tacit.evaluate(out / "made-segmented" / "masks", out / "made" / "masks")
    figures, interval = found["figures"], found["interval"]["miou"]
    print(f"     {found['images']} made images: mIoU {figures['miou']:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], object F1 {figures['object_f1']:.3f}")
    print("     (drawings score drawings here; real figures are in docs/results.md)")
    print(f"report: {out / 'colon' / 'report.html'}")
    print(f"next: .venv/bin/tacit segment YOUR_FOLDER -o OUT     (or apply this run: --model {out / 'colon'})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-out"))
