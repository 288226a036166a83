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
        text += f"\nTwo workers decode {r['scaling']:.2f}× as fast as one, {r['share']:.2f} of what two processes of this machine, which had other work too, reach at all ({r['machine_scaling']:.2f}×; wanted: .9).\n"
    if "idle" in rows:
        r = rows["idle"]
        one, two = (", ".join(f"{share:.1%}" for share in r[f"idle_{count}"]) for count in (1, 2))
        text += f"\nOver {r['slides']} slides one process has no thread at work {one} of the time, each of two workers {two} (gaps between slides and all other waiting; wanted: 5%).\n"
    return text


def slide_torture(r: dict[str, Any]) -> str:
    """What kills did to runs over slides."""
    wrong = "; ".join(r["wrong"]) or "none differs from an unbroken run, no slide was done twice"
    return f"\n{r['kills']} kills of runs over {r['slides']} slides ({r['of_workers']} of a worker), {r['runs']} runs finished: {wrong}. `{r['command']}`\n"


def slides_equal(r: dict[str, Any]) -> str:
    """A slide in blocks against one canvas."""
    said = "every gland is the same, no pixel differs" if r["same"] else f"**glands differ**, {r['pixels_that_differ']:,} pixels"
    size = sum(r["bytes"].values()) / 1e6
    return (
        f"\n{r['px']:,}² px of drawn tissue in {r['tiles']} tiles and {r['blocks']} blocks against one canvas in memory and rules on whole arrays: {r['glands']:,} glands, {said} "
        f"(the longest gland {r['longest_px']:,} px, blocks {r['block_px']}, halo {r['halo_px']}); its answer is {size:.1f} MB. `{r['command']}`\n"
    )


def slide_costs(r: dict[str, Any]) -> str:
    """What a mm² and a tile cost here, and by that what many would."""
    segment, index = r["rows"]["segment"], r["rows"]["index"]
    slides, area, tiles = 5_000, 150, 100_000_000
    hours, tile_hours = slides * area * segment["cpu_s_per_mm2"] / 3600, tiles * index["cpu_s_per_tile"] / 3600
    return (
        f"\nOne mm² of tissue costs `tacit segment` {segment['cpu_s_per_mm2']:.2f} CPU s (default network, twelve looks), a tile of 256 µm costs `tacit index` {index['cpu_s_per_tile'] * 1e3:.0f} CPU ms and "
        f"{index['bytes_per_tile']:,} bytes (default encoder), on one core of this machine while it was busy. By that, calculated and not run: {slides:,} slides of {area} mm² of tissue each take {hours:,.0f} core-hours; "
        f"an index of 1e8 tiles takes {tile_hours:,.0f} core-hours and {tiles * index['bytes_per_tile'] / 1e9:,.0f} GB. `{r['command']}`\n"
    )
