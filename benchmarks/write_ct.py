"""The section of docs/results.md on drawn CTs, from benchmarks/results/ct_phantom.json."""

from __future__ import annotations

from typing import Any


def drawn_cts(r: dict[str, Any]) -> str:
    """What the simplest scores tell, how the lung rule fares, speed."""
    s, seconds = r["lung_rule_dice"], r["speed_128x256x256"]
    rows = "\n".join(f"| {name} | " + " | ".join(f"{auc[score]:.3f}" for score in ("mean", "maximum", "histogram")) + " |" for name, auc in r["auc"].items())
    dice = "\n".join(
        f"| {split} | " + " | ".join(f"{found[f'{c}_mean']:.3f} ({found[f'{c}_lowest']:.3f})" for c in ("normal", "COVID", "CAP")) + " |"
        for split, found in s.items()
    )
    return (
        f"\n## Drawn chest CTs\n\nAUC of the simplest scores inside the drawn lungs on {r['phantoms']} fresh phantoms (half normal, a quarter COVID, a quarter CAP), .5 is chance; histogram: 32 bins, logistic regression, "
        "five folds, the strongest of three penalties. `python benchmarks/ct_phantom.py`\n\n"
        f"| who | mean | maximum | histogram |\n|---|---|---|---|\n{rows}\n\n"
        f"Dice of `tacit lungs` against the drawn lungs, mean (lowest) of four phantoms each, 2.5 × 2 × 2 mm; lesions and collapsed lung are lung.\n\n| split | normal | COVID | CAP |\n|---|---|---|---|\n{dice}\n\n"
        f"128 × 256 × 256 voxels, patient and scan: {seconds['cpu_s']:.1f} CPU seconds on one thread ({seconds['wall_s']:.1f} s of wall time, shared machine); memory beyond the answer "
        f"{seconds['mb_beyond_answer_64_slices']:.0f} MB for 64 slices, {seconds['mb_beyond_answer_128_slices']:.0f} MB for 128.\n"
    )
