"""The part of docs/results.md that shows whole slides: memory, the join, the tissue of a large one, two workers, kills."""

from __future__ import annotations

from typing import Any


def whole_slides(found: dict[str, Any]) -> str:
    """Rows that have not been measured are left out."""
    rows = found["rows"]
    text = f"\n## Whole slides\n\nOne thread, made slides, mostly glass, a tiny network; labels as large as level 0. `{found['command']}`\n\n"
    text += "| slide | peak above the network, MB | CPU s | tiles looked at |\n|---|---|---|---|\n"
    for name, row in rows.items():
        if name.startswith("memory"):
            side = int(name.split()[1])
            text += f"| {side:,} × {side:,} px | {row['above_mb']:.0f} | {row['cpu_s']:.0f} | {row['tiles']} |\n"
    for r in (row for name, row in rows.items() if name.startswith("join")):
        text += f"\nOf {r['size']:,}² px of tissue in {r['tiles']} tiles the join takes {r['join_share']:.1%} of the network's time; MONAI's SlidingWindowInferer with the same network, "
        text += f"tiles and overlap takes {r['monai']:.1f} CPU s, ours {r['ours']:.1f} ({r['ratio_cpu']:.2f}×), median of {r['rounds']}.\n"
    if "mask" in rows:
        r = rows["mask"]
        text += f"\nTissue and tile places of a slide of 100,000 × 100,000 px: {r['cpu_s']:.1f} CPU s ({r['wall_s']:.1f} s on a busy machine; wanted: 10), median of {r['rounds']}.\n"
    if "workers" in rows:
        r = rows["workers"]
        text += f"\nTwo workers decode {r['scaling']:.2f}× as fast as one, {r['share']:.2f} of what two processes of this machine reach at all ({r['machine_scaling']:.2f}×; wanted: .9).\n"
    return text


def slide_torture(r: dict[str, Any]) -> str:
    """What kills did to runs over slides."""
    wrong = "; ".join(r["wrong"]) or "none differs from an unbroken run, no slide was done twice"
    return f"\n{r['kills']} kills of runs over {r['slides']} slides ({r['of_workers']} of a worker), {r['runs']} runs finished: {wrong}. `{r['command']}`\n"
