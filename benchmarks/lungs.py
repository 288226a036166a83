"""The lung mask beside the plain scipy pipeline of tests/test_lung.py, voxel by voxel; Dice on real masks, litres of real series.

    TACIT_DATA=… python benchmarks/lungs.py          prints a table, writes benchmarks/results/lungs.json

The phantom: the drawn chest of tests/test_lung.py brought to 300 × 512 × 512 voxels of 1 × 0.625 × 0.625 mm. Without real data those rows are left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from interleaved import ROOT, one_thread, race, write
from tacit.prepare.lung import LungConfig, find_lungs, lung_mask
from tacit.read.nifti import read_volume

sys.path.insert(0, str(ROOT / "tests"))


def large(pixels: np.ndarray) -> np.ndarray:
    """The chest at 300 × 512 × 512, with new noise."""
    index = np.minimum(np.arange(300) * len(pixels) // 300, len(pixels) - 1)
    rng = np.random.default_rng(0)
    planes = [cv2.resize(plane, (512, 512), interpolation=cv2.INTER_LINEAR) for plane in pixels]
    return np.stack([np.int16(planes[k] + 20 * rng.standard_normal((512, 512), np.float32)) for k in index])


def main() -> None:
    from test_lung import chest, dice, plain_mask

    one_thread()
    hu, spacing, c = large(chest()[0].pixels), (1.0, 0.625, 0.625), LungConfig()
    equal = bool(np.array_equal(lung_mask(hu, spacing, c), plain_mask(hu, spacing, c)))
    rows = {
        "lung mask, 300 × 512 × 512": race(
            lambda: lung_mask(hu, spacing, c), lambda: plain_mask(hu, spacing, c), calls=1, rounds=int(os.environ.get("ROUNDS", 5))
        )
    }
    place = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
    overlap = {}
    for path in sorted((place / "lung-masks").glob("id*_mask.nii.gz")):
        image = read_volume(path.with_name(path.name.replace("_mask", "")))
        overlap[path.name[:5]] = round(dice(find_lungs(image).mask > 0, read_volume(path).pixels > 0), 4)
    litres = {p.name[:-7]: round(find_lungs(read_volume(p)).litres, 3) for p in sorted((place / "covid-ct-md" / "nifti").glob("*.nii.gz"))}
    print("voxel-equal", equal, "Dice", overlap, "litres", litres)
    write("lungs", rows, ["scipy"], voxel_equal=equal, dice=overlap, litres=litres)


if __name__ == "__main__":
    main()
