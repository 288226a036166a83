"""The part of docs/results.md about distances between data sets: speed beside geomloss, memory, and whether the distance foretells transfer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def distances(results: Path) -> str:
    """Both parts, as far as their result files are there."""
    text = ""
    for name, write in (("speed", speed), ("use", use)):
        path = results / "distance" / f"{name}.json"
        if path.exists():
            text += write(json.loads(path.read_text()))
    return text


def speed(found: dict[str, Any]) -> str:
    lines, said = [], ""
    for name, r in found["rows"].items():
        if "ours_cpu_s" in r:
            peer = f"{r['peer_cpu_s']:.2f}" if "peer_cpu_s" in r else ""
            ratio = f"{r['ratio_cpu']:.1f}× ({r['ratio_cpu_lowest_round']:.1f}×)" if "ratio_cpu" in r else ""
            off = f"{r['deviation']:+.0%}" if "deviation" in r else ""
            lines.append(f"| {name} | {r['ours_cpu_s']:.2f} | {r['wanted_s']:.0f} | {peer} | {ratio} | {off} |")
        else:
            said += f"\n{name}: peak {r['peak_mb']:.0f} MB (wanted {r['wanted_mb']}), {r['cpu_s'] / 60:.0f} CPU minutes. `{found['command']} --memory`\n"
    return (
        "\n## Distances between data sets: speed\n\nOTDD of drawn features, 64 numbers, three labels, one thread, CPU seconds, median of the rounds. The peer is geomloss as the published code calls it "
        f"(entropic, blur √0.1, debiased); deviation: of its OTDD² from the exact one. `{found['command']}`\n\n| job | ours, s | wanted, s | peer, s | ratio | the peer's deviation |\n|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
        + said
    )


def use(found: dict[str, Any]) -> str:
    lines = []
    for name, r in found["rows"].items():
        cells = [f"{r[way]['spearman']:+.2f} [{r[way]['interval'][0]:+.2f}, {r[way]['interval'][1]:+.2f}]" for way in ("OTDD", "features alone", "means")]
        best = list(r["best_by_distance"].values())
        picked, mean, top = (sum(b[k] for b in best) / len(best) for k in ("area", "mean_area", "best_area"))
        lines.append(
            f"| {name} | {r['pairs']} | {r['area_lowest']:.2f}–{r['area_highest']:.2f} | {' | '.join(cells)} | {picked:.3f} / {mean:.3f} / {top:.3f} |"
        )
    text = (
        "\n## Distances between data sets: do they foretell transfer?\n\nSpearman between −distance and the area under the ROC curve that a logistic regression taught on the source reaches on the target; 95% by drawing sources and "
        f"targets again. Last column: mean area of the nearest source / of any source / of the best source. `{found['command']}`\n\n| data, features | pairs | areas | OTDD | features alone (λy = 0) | means | nearest / any / best |\n|---|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )
    for r in found.get("slides", {}).values():
        (low, high), halves = r["interval"], " and ".join(f"{h:.2f}" for h in r["split_half"])
        text += f"\n`{r['command']}`: {r['names'][0]} against {r['names'][1]} {r['otdd']:.2f} [{low:.2f}, {high:.2f}], halves {halves}, both at half {r['at_half']:.2f}, p {r['p_value']:.2f}; "
        d = r["label_distance"][0]
        text += "labels: " + ", ".join(f"{la} – {lb} {v:.2f}" for la, row in zip(d["labels_a"], d["matrix"]) for lb, v in zip(d["labels_b"], row)) + ".\n"
    return text
