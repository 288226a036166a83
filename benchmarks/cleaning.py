"""Hashes beside imagehash, all near pairs of 1e5 hashes, SSIM beside scikit-image, and what is found of defects planted in real series.

    TACIT_DATA=… python benchmarks/cleaning.py          prints a table, writes benchmarks/results/cleaning.json

Hash stage: the picture as read to all four hashes, 512 × 512 grey; imagehash gets the picture already opened. Planted: in each of three
CT series (2 mm; 1 mm by the mean of neighbours, 4 to 8 mm by leaving out), one defect at a time, judged by the pixels alone.
Without real data that table is left out.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image as Pillow
from skimage.metrics import structural_similarity

from interleaved import ROOT, one_thread, race, write
from tacit.phantom import tissue
from tacit.prepare.hashes import _whash, as_hex, hashes
from tacit.prepare.similar import near_pairs, ssim
from tacit.read.nifti import read_volume

sys.path.insert(0, str(ROOT / "tests"))
PEERS = {"phash": imagehash.phash, "ahash": imagehash.average_hash, "dhash": imagehash.dhash, "whash": imagehash.whash}
DRAWS = 20


def pairs() -> dict[str, object]:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    values[1::10] = values[::10] ^ (np.uint64(1) << rng.integers(0, 64, 10_000, dtype=np.uint64))
    some = values[:10_000]
    found = near_pairs(some, 5)[0]
    wanted = np.concatenate(
        [
            np.stack([np.full(m.sum(), i), i + 1 + np.flatnonzero(m)], 1)
            for i in range(len(some) - 1)
            if (m := np.bitwise_count(some[i + 1 :] ^ some[i]) <= 5).any()
        ]
    )
    took = []
    for _ in range(5):
        clock = time.process_time()
        near_pairs(values, 5)
        took.append(time.process_time() - clock)
    return {
        "hashes": len(values),
        "bits": 5,
        "seconds_cpu": round(float(np.median(took)), 3),
        "equals_brute_force_on_10000": bool(np.array_equal(found, wanted)),
    }


def planted(place: Path) -> dict[str, dict[str, float]]:
    from test_sequence import KINDS, at_spacing, judged, plant

    volumes = [read_volume(p).pixels for p in sorted((place / "covid-ct-md" / "nifti").glob("*.nii.gz"))]
    table = {}
    for mm in (1, 2, 4, 6, 8) if volumes else ():
        sums = {kind: np.zeros(4) for kind in KINDS}
        for n in range(len(volumes)):
            stack, other = at_spacing(volumes[n], mm), at_spacing(volumes[(n + 1) % len(volumes)], mm)
            for kind in KINDS:
                for draw in range(DRAWS if mm > 1 else DRAWS // 4):
                    sums[kind] += judged(*plant(stack, other, kind, np.random.default_rng([mm, n, draw])), kind)
        total = sum(sums.values())
        table[f"{mm} mm"] = {f"recall {k}": round(float(s[1] / s[0]), 4) for k, s in sums.items()} | {
            "planted": int(total[0]),
            "falsely removed": round(float(total[3] / total[2]), 5),
        }
        print(mm, "mm", table[f"{mm} mm"])
    return table


def main() -> None:
    one_thread()
    grey = np.ascontiguousarray(tissue.draw(np.random.default_rng(0), (512, 512), 0.8).picture[..., 1])
    picture = Pillow.fromarray(grey)
    found = hashes(grey)
    same = all(as_hex(found[name]) == str(peer(picture)) for name, peer in PEERS.items())
    noisy = np.clip(grey + 12 * np.random.default_rng(1).standard_normal(grey.shape), 0, 255).astype(np.uint8)
    apart = abs(ssim(grey, noisy) - float(structural_similarity(grey, noisy, data_range=255)))
    rows = {
        "four hashes": race(lambda: hashes(grey), lambda: [peer(picture) for peer in PEERS.values()], calls=5),
        "wavelet hash alone": race(lambda: _whash(grey), lambda: imagehash.whash(picture), calls=5),
        "SSIM": race(lambda: ssim(grey, noisy), lambda: structural_similarity(grey, noisy, data_range=255), calls=5),
    }
    place = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
    more = {"hashes_equal": same, "ssim_difference": apart, "near_pairs": pairs(), "planted": planted(place)}
    print({k: v for k, v in more.items() if k != "planted"})
    write("cleaning", rows, ["ImageHash", "scikit-image"], **more)


if __name__ == "__main__":
    main()
