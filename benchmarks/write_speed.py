"""The part of docs/results.md that shows speed beside other packages: one table a result file with timed rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PEERS = {
    "cleaning": ("Cleaning", "imagehash, scikit-image"),
    "reading": ("Reading", "pydicom + numpy, SimpleITK, nibabel"),
    "lungs": ("Lungs", "the same steps in plain scipy"),
    "contrast": ("Contrast, 512×512", "scikit-image"),
    "views": ("Two normalised 224-px BYOL views from a file", "lightly"),
}


def speed(results: Path) -> str:
    """All tables, in a fixed order; files that are not there are left out."""
    text = "\n## Speed beside other packages\n\nCPU time on one thread, both ways taking turns, median of the rounds; the ratio is the peer's time over ours, in brackets that of the worst round.\n"
    for name, (title, peer) in PEERS.items():
        path = results / f"{name}.json"
        if path.exists():
            text += table(title, peer, json.loads(path.read_text()))
    if (results / "slides.json").exists():
        text += slides(json.loads((results / "slides.json").read_text()))
    return text


def table(title: str, peer: str, found: dict[str, Any]) -> str:
    rows = {n: r for n, r in found.get("rows", {}).items() if isinstance(r, dict) and "ratio_cpu" in r}
    lines = [f"| {n} | {r['ours_cpu_ms']:.3g} | {r['peer_cpu_ms']:.3g} | {r['ratio_cpu']:.1f}× ({r['ratio_cpu_lowest_round']:.1f}×) |" for n, r in rows.items()]
    head = f"\n### {title}\n\nBeside {peer}. `{found['command']}`\n\n| job | ours, ms | peer, ms | ratio |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def slides(found: dict[str, Any]) -> str:
    text = "\n### Tiles of slides\n\nBeside OpenSlide's `read_region`, RGB, difference of pixels 0, equal caches. Decoding alone is the most that any reader of these tiles could reach."
    text += f" `{found['command']}`\n\n| slide | regions | ratio | decoding alone would be |\n|---|---|---|---|\n"
    for slide, kinds in found["slides"].items():
        for kind, r in kinds.items():
            if isinstance(r, dict) and "ratio_cpu" in r:
                text += f"| {slide} | {kind} | {r['ratio_cpu']:.2f}× | {r['ratio_cpu_if_decoding_alone']:.2f}× |\n"
    return text
