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
    "byol_step": ("A step of BYOL, ResNet-18 at 224 px", "lightly's own modules on torchvision's network"),
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
    if (results / "series_models.json").exists():
        text += series(json.loads((results / "series_models.json").read_text()))
    return text


def table(title: str, peer: str, found: dict[str, Any]) -> str:
    rows = {n: r for n, r in found.get("rows", {}).items() if isinstance(r, dict) and "ratio_cpu" in r}
    lines = [f"| {n} | {r['ours_cpu_ms']:.3g} | {r['peer_cpu_ms']:.3g} | {r['ratio_cpu']:.1f}× ({r['ratio_cpu_lowest_round']:.1f}×) |" for n, r in rows.items()]
    head = f"\n### {title}\n\nBeside {peer}. `{found['command']}`\n\n| job | ours, ms | peer, ms | ratio |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


def order(results: Path) -> str:
    """Cleaning, lungs and memory: what was found, not how fast."""
    text = ""
    if (results / "cleaning.json").exists():
        text += cleaning(json.loads((results / "cleaning.json").read_text()))
    if (results / "lungs.json").exists():
        unet = results / "lung_unet.json"
        text += lungs(json.loads((results / "lungs.json").read_text()), json.loads(unet.read_text()) if unet.exists() else {})
    if (results / "audit_memory.json").exists():
        found = json.loads((results / "audit_memory.json").read_text())
        peaks = ", ".join(f"{r['peak_mb']:.0f} MB at {n}" for n, r in found["rows"].items())
        text += f"\n## Memory of an audit\n\nPeak {peaks}: {found['growth']:+.1%} at most. `{found['command']}`\n"
    return text


def cleaning(found: dict[str, Any]) -> str:
    kinds = [k for k in next(iter(found["planted"].values())) if k.startswith("recall")]
    lines = [
        f"| {spacing} | {r['planted']} | " + " | ".join(f"{r[k]:.3f}" if k in r else "" for k in kinds) + f" | {r['falsely removed']:.2%} |"
        for spacing, r in found["planted"].items()
    ]
    head = "\n## Slices that do not belong\n\nDefects planted in the three real series, judged by their pixels alone (1 mm: interpolated between slices). "
    near = found["near_pairs"]
    pairs = f"All pairs at {near['bits']} bits among {near['hashes']:,} hashes take {near['seconds_cpu']:.2f} CPU seconds."
    return (
        head
        + pairs
        + f" `{found['command']}`\n\n| slices | planted | "
        + " | ".join(kinds)
        + " | falsely removed |\n|---|---|"
        + "---|" * (len(kinds) + 1)
        + "\n"
        + "\n".join(lines)
        + "\n"
    )


def lungs(found: dict[str, Any], unet: dict[str, Any]) -> str:
    text = "\n## Lungs\n\nDice against masks of a person (lung-masks): " + ", ".join(f"{n} {d:.3f}" for n, d in found["dice"].items())
    text += ". Litres of the series of COVID-CT-MD: " + ", ".join(f"{n} {v:.2f}" for n, v in found["litres"].items()) + f". `{found['command']}`\n"
    if unet:
        text += '\nThe U-Net, taught on two volumes and measured on the other two; "kept" is the share of a planted 22-mm consolidation at the chest wall that the mask holds. '
        text += f"One seed. `{unet['command']}`\n\n| | Dice, mean | lowest | kept |\n|---|---|---|---|\n"
        text += (
            "\n".join(f"| {n} | {r['dice_mean']:.3f} | {min(r['dice'].values()):.3f} | {r['lesion_kept_mean']:.3f} |" for n, r in unet["rows"].items()) + "\n"
        )
    return text


def slides(found: dict[str, Any]) -> str:
    text = "\n### Tiles of slides\n\nBeside OpenSlide's `read_region`, RGB, difference of pixels 0, equal caches. Decoding alone is the most that any reader of these tiles could reach."
    text += f" `{found['command']}`\n\n| slide | regions | ratio | decoding alone would be |\n|---|---|---|---|\n"
    for slide, kinds in found["slides"].items():
        for kind, r in kinds.items():
            if isinstance(r, dict) and "ratio_cpu" in r:
                text += f"| {slide} | {kind} | {r['ratio_cpu']:.2f}× | {r['ratio_cpu_if_decoding_alone']:.2f}× |\n"
    return text


def series(found: dict[str, Any]) -> str:
    """Networks for a CT series; without a peer, as no package has them all."""
    text = f"\n### Networks for a CT series\n\nOne series of {found['slices']} slices of {found['side_px']}², random weights, one thread; C3D, P3D and ConvLSTM resample it. "
    text += f"Wanted of `02_COVNet-18`: an answer in {found['wanted_s']:.0f} s. `{found['command']}`\n\n| preset | weights, M | an answer, CPU s | a step of learning, CPU s |\n|---|---|---|---|\n"
    lines = [f"| {n} | {r['weights_million']:.1f} | {r['answer_cpu_s']:.2f} | {r.get('step_cpu_s', '')} |" for n, r in found["rows"].items()]
    return text + "\n".join(lines) + "\n"
