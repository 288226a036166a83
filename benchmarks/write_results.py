"""docs/results.md from benchmarks/results/*.json, so that no figure in it is typed by hand.

python benchmarks/write_results.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from write_chest import chest
from write_classify import classes
from write_ct import drawn_cts
from write_distance import distances
from write_few_labels import few_labels
from write_index import index
from write_landmarks import landmarks
from write_pairs import pairs
from write_query import queries
from write_rivals import rivals
from write_shape_guided import shape_guided
from write_slides import slide_costs, slide_torture, slides_equal, whole_slides
from write_speed import order, speed
from write_vessels import vessels

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = ROOT / "docs" / "results.md"
MAIN = ["phantom", "phantom-fast", "mssg", "mssg-from-phantom", "mssg-as-published", "mssg-paper", "mssg-border-only", "mssg-random", "haematoxylin"]
HEAD = """# Results

Written by `make docs` from `benchmarks/results/`; every row names the command that repeats it. Data: GlaS (Sirinukunwattana et al. 2017), learnt on
the 85 train images **without labels**, scored on them (train) and on 60 others (testA). mIoU: mean over background and gland of IoU, intersections
and unions summed over the data set. ± is the SD over seeds; one seed has none. Minutes:\nwall time of learning and writing the train masks, one thread on a shared two-core machine. 79 of the 80 official test images share a patient with train.
The drawings' ranges were shaped while looking at GlaS overlays: expect less on tissue unlike colon.
"""
PUBLISHED = """
## Published figures, not measured here

| method | mIoU | supervision |
|---|---|---|
| proposal: random net | .343 | none |
| PiCIE, as the proposal reproduced it / as MSSG's paper has it | .393 / .488 | none |
| DeepCluster | .40 | none |
| SGSCN | .52 | none |
| proposal: stage 1 / + filled prior (train) / final | .411 / .493 / .563 | none |
| MSSG (pretrained WideResNet-38, 4 GPUs) | .627 | none |
| OEEM / MAA | .776 / .820 | image labels |
| supervised U-Net, IoU per image, testA | .84 | masks |
"""


def load() -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((RESULTS / "glas").glob("*.json")):
        found = json.loads(path.read_text())
        rows.setdefault(found["row"], []).append(found)
    return rows


def cell(runs: list[dict[str, Any]], part: str, name: str, group: str | None = None, digits: int = 3) -> str:
    values = [(r[part]["by_class"][group] if group else r[part]["figures"])[name] for r in runs]
    text = f"{np.mean(values):.{digits}f}"
    text = text if digits == 0 else text.lstrip("0")
    return text + (f" ± {np.std(values, ddof=1):.3f}".replace("0.", ".") if len(values) > 1 and digits else "")


def line(name: str, runs: list[dict[str, Any]], seed: str = "") -> str:
    minutes = np.mean([r["seconds"]["learning_run"] for r in runs]) / 60
    low, high = runs[0]["testA"]["interval"]["miou"]
    cells = [
        f"`{name}`",
        seed or str(len(runs)),
        cell(runs, "train", "miou"),
        f"**{cell(runs, 'testA', 'miou')}**",
        f"{low:.2f}–{high:.2f}",
        cell(runs, "testA", "miou", "benign"),
        cell(runs, "testA", "miou", "malignant"),
        cell(runs, "testA", "dice_per_image"),
        cell(runs, "testA", "object_f1"),
        cell(runs, "testA", "object_dice"),
        cell(runs, "testA", "object_hausdorff_px", digits=0),
        f"{minutes:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


TABLE = (
    "| row | seeds | train | testA | 95% over patients (first seed) | benign | malignant | Dice per image | object F1 | object Dice | Hausdorff px | minutes |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|\n"
)


def written() -> str:
    rows = load()
    text = HEAD + "\n## The methods\n\n" + TABLE + "\n".join(line(n, rows[n]) for n in MAIN if n in rows) + "\n"
    text += mssg_parts(rows)
    short = sorted((n for n in rows if n.startswith("short")), key=lambda n: (n != "short", n))
    if short:
        text += "\n## The phantom method, part by part\n\nA shortened run (one teacher, 600 steps each, 3.72 µm per px) as reference `short`; one thing changed in each row.\n"
        text += (
            "Two equal runs with other seeds differ by about .02: smaller differences say nothing.\n\n"
            + TABLE
            + "\n".join(line(n, rows[n]) for n in short)
            + "\n"
        )
    text += extra("mssg_stages.json", stages) + rivals(RESULTS) + PUBLISHED
    text += (
        extra("baselines.json", baselines)
        + extra("apply.json", applying)
        + extra("splitting.json", splitting)
        + extra("scale.json", scale)
        + extra("torture.json", torture)
        + extra("report_backbones.json", backbones)
    )
    text += (
        vessels(RESULTS)
        + chest(RESULTS)
        + extra("ct_phantom.json", drawn_cts)
        + classes(RESULTS)
        + landmarks(RESULTS)
        + few_labels(RESULTS)
        + shape_guided(RESULTS)
        + queries(RESULTS)
        + extra("pairs.json", pairs)
        + index(RESULTS)
        + distances(RESULTS)
        + extra("slides_segment.json", whole_slides)
        + extra("slides_equal.json", slides_equal)
        + extra("slides_cost.json", slide_costs)
        + extra("torture_slides.json", slide_torture)
        + order(RESULTS)
        + speed(RESULTS)
    )
    text += "\n## Commands\n\n" + "\n".join(f"- `{n}`: `{r[0]['command']}`" for n, r in rows.items()) + "\n"
    return text


def mssg_parts(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Each part of MSSG changed beside the reference that it changes, seed by seed; a reference that was not run is not spoken of."""
    parts = [n for n in rows if n.startswith("mssg") and n not in MAIN]
    lines, alone = [], []
    for name in ("mssg", "mssg-paper"):
        changed = [n for n in parts if n.startswith("mssg-paper-") == (name == "mssg-paper")]
        seeds = sorted({r["seed"] for n in changed for r in rows[n]})
        for seed in seeds:
            runs = {n: [r for r in rows.get(n, []) if r["seed"] == seed] for n in (name, *changed)}
            lines += [line(n, found, str(seed)) for n, found in runs.items() if found]
            alone += [f"`{n}`" for n in changed if runs[n] and not runs[name]]
    if not lines:
        return ""
    spread = [r["testA"]["figures"]["miou"] for r in rows.get("mssg", [])]
    return (
        "\n## MSSG, part by part\n\nOne part changed in each row, below the reference of the same seed, one run each."
        + (
            f" Of the {len(spread)} seeds of `mssg` itself testA runs from {min(spread):.3f} to {max(spread):.3f}: less says nothing."
            if len(spread) > 1
            else ""
        )
        + (f" Without a reference of their seed: {', '.join(alone)}." if alone else "")
        + "\n\n"
        + TABLE.replace("| seeds |", "| seed |").replace(" (first seed)", "")
        + "\n".join(lines)
        + "\n"
    )


def extra(name: str, write: Any) -> str:
    path = RESULTS / name
    return write(json.loads(path.read_text())) if path.exists() else ""


def baselines(r: dict[str, Any]) -> str:
    found = r["found"]
    return (
        "\n## The evaluator against known figures\n\n"
        f"Everything called gland: train {found['all_gland']['train']:.3f} (known .25). Haematoxylin rule: train {found['haematoxylin']['train']:.3f} (known .525), "
        f"testA {found['haematoxylin']['testA']:.3f} (known .488). `python benchmarks/baselines.py`\n"
    )


def applying(r: dict[str, Any]) -> str:
    return (
        "\n## Applying a model\n\n"
        f"{r['images_per_cpu_second']:.2f} images of 775×522 px per CPU second on one thread (reading, network, masks, GeoJSON, tables, report); peak memory "
        f"{r['sizes']['100']['peak_mb']:.0f} MB at 100 images, {r['sizes']['400']['peak_mb']:.0f} MB at 400 ({r['memory_growth_100_to_400']:+.1%}). `python benchmarks/apply.py`\n"
    )


def scale(r: dict[str, Any]) -> str:
    ratios: dict[str, list[float]] = {}
    for name, f in r["folders"].items():
        ratios.setdefault(name.split(",")[0], []).append(f["ratio"])
    rows = "\n".join(f"| {n} | {', '.join(f'{x:.2f}' for x in found)} |" for n, found in ratios.items())
    head = "\n## The estimated spacing\n\nEstimate over truth, one figure a folder; a drawn folder holds 16 pictures of 400×560 px. `python benchmarks/scale.py`\n\n"
    return f"{head}| folder, µm per px | estimated / true |\n|---|---|\n{rows}\n"


def stages(r: dict[str, Any]) -> str:
    steps = list(next(iter(r["found"].values())))
    lines = "\n".join(f"| {way} | " + " | ".join(f"{rows[s]['miou']:.3f}" for s in steps) + " |" for way, rows in r["found"].items())
    head = f"\n## MSSG's first stage, step by step\n\nmIoU on the {r['images']} train images, seed {r['seed']}; stage 2 is the row `mssg` above. `python benchmarks/mssg_stages.py`\n\n"
    return head + "| | " + " | ".join(steps) + " |\n|---|---|---|---|\n" + lines + "\n"


def splitting(r: dict[str, Any]) -> str:
    lines = "\n".join(
        f"| {n} | {f['object_f1']:.3f} | {f['object_dice']:.3f} | {f['object_hausdorff_px']:.0f} | {f['objects_predicted']:.0f} | {f['miou']:.3f} |"
        for n, f in r["found"].items()
    )
    head = "\n## Touching glands\n\nOne learnt model (`phantom`, seed 0) on testA. `python benchmarks/splitting.py RUN`\n\n| | object F1 | object Dice | Hausdorff px | objects | mIoU |\n|---|---|---|---|---|---|\n"
    return head + lines + "\n"


def torture(r: dict[str, Any]) -> str:
    return f"\n## Killed and resumed\n\n{r['kills']} kills over {r['runs']} runs; {r['runs_that_differ']} ended with other weights or masks than an unbroken run. `make torture`\n"


def backbones(r: dict[str, Any]) -> str:
    rows = "; ".join(
        f"`{n}` ({f['weights_million']:.0f} million weights) {f['cpu_s']:.0f} CPU s, peak {f['peak_mb'] / 1024:.1f} GB" for n, f in r["rows"].items()
    )
    return (
        "\n## The report's backbones\n\n"
        f"`tacit pretrain --preset report`, one step of {r['pictures']} pictures at {r['side_px']} px on the processor, loading and saving included: {rows}. `{r['command']}`\n"
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PLACE.exists() and PLACE.read_text() == written() else "docs/results.md is not what benchmarks/results say; run make docs")
    PLACE.write_text(written())
