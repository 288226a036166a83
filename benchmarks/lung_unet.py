"""The lung U-Net taught by morphology, by a person's masks, and with drawn opacities, beside morphology alone, on 4 CT volumes.

    python benchmarks/lung_unet.py DATA         DATA holds lung-masks/ (id001 … id004 with masks); writes benchmarks/results/lung_unet.json

Two-fold: taught on two volumes, measured on the other two, against the masks of a person. One seed, four patients, 3 mm in-plane:
the figures tell whether it works, not which of two close ones is better. Lesion: a ball of consolidation (radius 22 mm, 40 HU, its
middle 10 mm within the lung from the chest wall) is put into each lung of the held-out volume; `lesion_kept` is the share of the
balls' voxels within the person's mask that the answer holds. Seconds are CPU seconds of one thread.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from interleaved import one_thread, write
from tacit.config import build
from tacit.image import Image
from tacit.learn.lung_unet import LungUnet, LungUnetConfig
from tacit.learn.workshop import Workshop
from tacit.prepare.lung import find_lungs
from tacit.prepare.space import canonical
from tacit.read.nifti import read_volume

FOLDS = ((("id001", "id002"), ("id003", "id004")), (("id003", "id004"), ("id001", "id002")))
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "taught by morphology": ("morphology", {}),
    "taught by morphology, opacities drawn": ("morphology", {"opacities": 0.5}),
    "taught by a person's masks": ("person", {}),
}


def dice(a: NDArray, b: NDArray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def with_lesions(image: Image, lung: NDArray) -> tuple[Image, NDArray]:
    """The volume with a ball in each lung at its outer wall, and the balls' voxels within the lung."""
    assert image.spacing_mm is not None
    upright, back = canonical(image)
    inside = canonical(replace(image, pixels=lung.astype(np.uint8)))[0].pixels > 0
    depth = distance_transform_edt(inside, sampling=upright.spacing_mm)
    z, y, x = (np.arange(n) * s for n, s in zip(upright.shape, upright.spacing_mm, strict=True))
    ball = np.zeros_like(inside)
    planes = np.flatnonzero(inside.any((1, 2)))
    for outward in (1, -1):
        k = int(planes[len(planes) * 2 // 5])
        rows, cols = np.nonzero((depth[k] >= 10) & (depth[k] < 14))
        at = int(np.argmin(cols * outward + abs(rows - rows.mean()) * 0.3))
        ball |= (z[:, None, None] - z[k]) ** 2 + (y[:, None] - y[rows[at]]) ** 2 + (x - x[cols[at]]) ** 2 <= 22**2
    ball &= inside
    hu = upright.pixels.copy()
    hu[ball] = 40 + 20 * np.random.default_rng(0).standard_normal(int(ball.sum()))
    return replace(image, pixels=np.ascontiguousarray(back(hu))), back(ball)


def main(place: Path) -> None:
    one_thread()
    names = [n for fold in FOLDS for n in fold[0]]
    images = {n: read_volume(place / "lung-masks" / f"{n}.nii.gz") for n in names}
    person = {n: read_volume(place / "lung-masks" / f"{n}_mask.nii.gz").pixels > 0 for n in names}
    ill = {n: with_lesions(images[n], person[n]) for n in names}
    clock = time.process_time()
    morphology = {n: find_lungs(images[n]).mask for n in names}
    seconds = (time.process_time() - clock) / len(names)
    ill_morphology = {n: find_lungs(ill[n][0]).mask for n in names}
    rows: dict[str, Any] = {"morphology": row(morphology, ill_morphology, person, ill) | {"find_cpu_s": round(seconds, 2)}}
    for name, (teacher, settings) in ROWS.items():
        masks = morphology if teacher == "morphology" else person
        answers, ill_answers, times = {}, {}, []
        for learnt, held in FOLDS:
            network, start = LungUnet(build(LungUnetConfig, settings)), time.process_time()
            network.fit([(images[n], masks[n]) for n in learnt], Workshop())
            taught = time.process_time()
            answers |= {n: network.find(images[n]).mask for n in held}
            times.append((taught - start, (time.process_time() - taught) / len(held)))
            ill_answers |= {n: network.find(ill[n][0]).mask for n in held}
        fit_s, find_s = np.mean(times, 0)
        rows[name] = row(answers, ill_answers, person, ill) | {"fit_cpu_s": round(float(fit_s), 1), "find_cpu_s": round(float(find_s), 2)}
        rows[name]["dice_with_morphology"] = {n: round(dice(answers[n] > 0, morphology[n] > 0), 4) for n in names}
        print(name, rows[name], flush=True)
        write("lung_unet", rows, [], settings=LungUnetConfig().model_dump(mode="json"), seed=0, volumes=names)


def row(found: dict[str, NDArray], found_ill: dict[str, NDArray], person: dict[str, NDArray], ill: dict[str, tuple[Image, NDArray]]) -> dict[str, Any]:
    scores = {n: round(dice(found[n] > 0, person[n]), 4) for n in found}
    kept = {n: round(float((found_ill[n] > 0)[ill[n][1]].mean()), 3) for n in found}
    ill_dice = {n: round(dice(found_ill[n] > 0, person[n]), 4) for n in found}
    means = {"dice_mean": round(float(np.mean(list(scores.values()))), 4), "lesion_kept_mean": round(float(np.mean(list(kept.values()))), 3)}
    return means | {"dice": scores, "dice_with_lesions": ill_dice, "lesion_kept": kept}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
