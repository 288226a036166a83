"""A slide of 4,096² px, gone through in bands and blocks, against the same tiles and weights on one canvas in memory: are all glands the same?

    python benchmarks/slides_equal.py        prints a row, writes benchmarks/results/slides_equal.json

The oracle holds the whole plane: tiles joined at once, and the rules of `tacit.prepare.regions` by whole-array operations of numpy and scipy. Labels may have
other numbers, no pixel may have another gland. The probability is darkness seen from near and far, so that how tiles are joined can be seen.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from provenance import ROOT, stamp
from tacit.phantom import tissue
from tacit.prepare.regions import Rules
from tacit.prepare.tiles import Join, cut
from tacit.read.slide import Slide
from tacit.read.slide_readers import PictureReader
from tacit.use.instances import InstancesConfig
from tacit.use.slide_predict import BLOCK, SlidesConfig, plan_tiles, slide_colours
from tacit.use.slide_task import REACH_UM, find_glands

SIZE, TILE = 4096, 512
CROSS = ((-1, 0), (0, -1), (0, 1), (1, 0))  # neighbours in reading order


class Darkness:
    """Stands for a network: gland is what is darker than the slide from near, core from near and far."""

    um_per_px = 1.0

    def tiles_probability(self, tiles: NDArray[np.uint8], statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        dark = (statistics[0, 0] - np.stack([cv2.cvtColor(t, cv2.COLOR_RGB2LAB)[..., 0] for t in tiles]).astype(np.float32)) / statistics[1, 0]
        near, far = (np.stack([cv2.GaussianBlur(d, (0, 0), s) for d in dark]) for s in (2.0, 6.0))
        return np.asarray(1 / (1 + np.exp(-np.stack([near, near + far], 1))))


def moved(plane: NDArray, dy: int, dx: int) -> NDArray:
    """What lies dy, dx beside each pixel; 0 outside."""
    out = np.zeros_like(plane)
    h, w = plane.shape
    out[max(-dy, 0) : h - max(dy, 0), max(-dx, 0) : w - max(dx, 0)] = plane[max(dy, 0) : h - max(-dy, 0), max(dx, 0) : w - max(-dx, 0)]
    return out


def oracle(p: NDArray[np.uint8], r: Rules) -> NDArray[np.int32]:
    """The rules on the whole plane p (h, w, 2) of gland and core; the network's spacing is that of the labels."""
    inside = p[..., 0] / 255 > r.threshold + 1e-9
    labels, _ = label((p[..., 1] / 255 > r.core + 1e-9) & inside)
    labels[np.bincount(labels.ravel())[labels] < r.core_px] = 0
    for _ in range(r.reach):
        before, free = labels.copy(), inside & (labels == 0)
        for dy, dx in CROSS:
            beside = moved(before, dy, dx)
            take = free & (labels == 0) & (beside > 0)
            labels[take] = beside[take]
    pieces, count = label(inside & (labels == 0))
    touched = np.zeros_like(labels)
    for dy, dx in CROSS:
        beside = moved(labels, dy, dx)
        take = (pieces > 0) & (touched == 0) & (beside > 0)
        touched[take] = beside[take]
    name = labels.max() + np.arange(count + 1)
    first = np.flatnonzero(touched.ravel())
    known, at = np.unique(pieces.ravel()[first], return_index=True)
    name[known] = touched.ravel()[first[at]]
    labels = np.where(pieces > 0, name[pieces], labels)
    holes, _ = label(~inside)
    area, (h, w) = np.bincount(holes.ravel()), p.shape[:2]
    for hole, (rows, columns) in enumerate(find_objects(holes), 1):
        if area[hole] < r.hole_px and rows.start > 0 and columns.start > 0 and rows.stop < h and columns.stop < w:
            own = holes[rows, columns] == hole
            labels[rows, columns][own] = labels[rows.start - 1, columns.start + int(own[0].argmax())]
    return np.where((np.bincount(labels.ravel())[labels] >= r.gland_px) & (labels > 0), labels, 0).astype(np.int32)


def main() -> None:
    field = [tissue.draw(np.random.default_rng([11, k]), (TILE, TILE), 1.0).picture for k in range(8)]
    order = np.random.default_rng(11).integers(0, 8, (SIZE // TILE, SIZE // TILE))
    picture = np.concatenate([np.concatenate([field[k] for k in row], 1) for row in order])
    slide, network, c = Slide(Path("drawn.png"), PictureReader(picture, 1.0)), Darkness(), SlidesConfig()
    plan, _ = plan_tiles(slide, network.um_per_px, c, None)
    tiles = list(cut(slide, plan))
    statistics, _ = slide_colours(slide, plan, network)
    bands: list[NDArray] = []
    clock = time.process_time()
    with Join(plan, lambda row, band: bands.append(band), channels=2) as join:
        for row, col, tile in tiles:
            join.add(row, col, network.tiles_probability(tile[None], statistics)[0].transpose(1, 2, 0))
    canvas = np.rint(np.concatenate(bands) * 255).astype(np.uint8)
    own = InstancesConfig(threshold=0.55, core=0.75, core_um2=60, gland_um2=200, hole_um2=500)
    rules = Rules(own.threshold, own.core, own.core_um2, own.gland_um2, own.hole_um2, round(REACH_UM), 1)
    truth = oracle(canvas, rules)
    seconds = [time.process_time() - clock]
    clock = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        glands = find_glands(slide, network, c, own, None, "gland", Path(place))["glands"]
        labels = tifffile.imread(Path(place) / "labels.tif")
        size = {name: (Path(place) / name).stat().st_size for name in ("labels.tif", "geojson", "glands.csv")}
    seconds.append(time.process_time() - clock)
    pairs = np.unique(labels.astype(np.int64) * (int(truth.max()) + 1) + truth)
    ours, theirs = np.divmod(pairs, int(truth.max()) + 1)
    same = bool(len(np.unique(ours)) == len(pairs) == len(np.unique(theirs)) and ((ours == 0) == (theirs == 0)).all())
    longest = max(max(r.stop - r.start, k.stop - k.start) for r, k in (b for b in find_objects(labels) if b is not None))
    blocks = (-(-SIZE // BLOCK)) ** 2
    row = {
        "px": SIZE,
        "tiles": len(tiles),
        "blocks": blocks,
        "glands": int(glands),
        "same": same,
        "pixels_that_differ": int(((labels > 0) != (truth > 0)).sum()),
    }
    row |= {
        "longest_px": int(longest),
        "block_px": BLOCK,
        "halo_px": rules.reach,
        "cpu_s": round(seconds[1], 1),
        "oracle_cpu_s": round(seconds[0], 1),
        "bytes": size,
    }
    print(row)
    (ROOT / "benchmarks" / "results" / "slides_equal.json").write_text(json.dumps(row | stamp(0), indent=1) + "\n")
    if not same:
        raise SystemExit("the glands differ")


if __name__ == "__main__":
    main()
