"""The lesion network on drawn patients whose parameters it never had: does its map lie on the lesions? Resumable; one JSON file a row and seed.

    python benchmarks/lesions.py [ROW…] [--seeds 0]

`maps`: 36 fresh drawn CTs (`benchmarks/classify.py`, row drawn), prepared as `tacit classify` prepares them, their masks by the same geometry. Dice of each kind where
it was drawn, over a case's pixels; the pointing game: the map's maximum in a sick case lies on a lesion, exactly or with one prepared pixel to spare
(Zhang et al. 2016, arXiv 1608.00507, allow fifteen); the area under the curve of lesion volume alone, sick against normal. `dicom`: six of the same patients as
DICOM series and as NIfTI, classified by the model of the row `drawn`. `real`: what share of seven real series is marked (COVID-CT-MD, and CTs with masks of lungs). A seed other than 0 is taught first (half an hour), on its own drawings.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

import cv2
import numpy as np

import tacit
from classify import DATA, WORK, drawn
from provenance import ROOT, stamp
from tacit.files import write_atomic
from tacit.learn.lesion_features import SERIES_COLUMNS, series_features
from tacit.learn.lesion_lessons import PLANES, LesionLesson, lesson_of
from tacit.phantom.ct_lesion import KINDS
from tacit.prepare.steps import SERIES, apply, recipe
from tacit.read.labels import read_labels
from tacit.read.nifti import read_volume
from tacit.report.classes import area
from tacit.report.picture import outlined, png
from tacit.use.draw_ct import draw_cts
from tacit.use.taught import taught

RESULTS = ROOT / "benchmarks" / "results" / "lesions"
ROWS = ("maps", "dicom", "real")
REAL = ("covid-ct-md/nifti", "lung-masks")  # below TACIT_DATA
SPARE = np.ones((3, 3), np.uint8)  # a prepared pixel each way


def lessons() -> list[tuple[str, str, LesionLesson]]:
    """(case, class, prepared slices and truth) of the fresh patients."""
    volumes, table = drawn("fresh", 36, 2)
    labels, found = read_labels(table), []
    for path in sorted(volumes.glob("*.nii.gz")):
        case = path.name.removesuffix(".nii.gz")
        masks = [read_volume(volumes.parent / "masks" / what / path.name).pixels.astype(np.uint8) for what in ("lungs", "lesions")]
        found.append((case, labels.of[case], lesson_of(read_volume(path), *masks)))
    return found


def maps(seed: int) -> dict[str, Any]:
    """Figures of the network of a seed."""
    network, rows, tiles = taught("lesions", seed=seed), [], []
    cpu = 0.0
    for case, label, lesson in lessons():
        start = time.process_time()
        p = network.probability(lesson.stack)
        cpu += time.process_time() - start
        lesion = p[:, 1:].sum(1)
        table = dict(zip(SERIES_COLUMNS, series_features(network.features(lesson.stack)), strict=True))
        row: dict[str, Any] = {"case": case, "class": label, "peak": round(float(lesion.max()), 4)}
        row["volume"] = round(float(sum(table[name] ** 2 for name in SERIES_COLUMNS if name.startswith("volume"))), 6)
        sick = lesson.truth >= 2
        if sick.any():
            s, y, x = np.unravel_index(int(lesion.argmax()), lesion.shape)
            near = cv2.dilate(sick[s].astype(np.uint8), SPARE)
            row |= {"hit": bool(sick[s, y, x]), "near": bool(near[y, x]), "dice": dice(lesion > 0.5, sick)}
            row["kinds"] = {name: dice(p.argmax(1) == k, lesson.truth == 1 + k) for k, name in enumerate(PLANES) if k and (lesson.truth == 1 + k).any()}
            row["shown"] = round(float((sick & (lesion > 0.5)).sum() / sick.sum()), 4)
        rows.append(row)
        tiles.append(tile(lesson, lesion))
        print(row, flush=True)
    write_atomic(WORK / f"lesions-seed{seed}.png", png(np.vstack(tiles)))
    ill = [row for row in rows if "hit" in row]
    truth = np.array([row["class"] != "normal" for row in rows]).astype(np.int64)
    score = np.array([row["volume"] for row in rows])
    share = (score - score.min()) / max(float(np.ptp(score)), 1e-9)
    mean = lambda values: round(float(np.mean(list(values))), 4)
    kinds = {name: [row["kinds"][name] for row in ill if name in row["kinds"]] for name in KINDS[1:]}
    return {
        "cases": len(rows),
        "pointing": mean(row["hit"] for row in ill),
        "pointing_one_pixel": mean(row["near"] for row in ill),
        "dice_any": mean(row["dice"] for row in ill),
        "dice": {name: {"mean": mean(values), "cases": len(values)} for name, values in kinds.items() if values},
        "volume_auc": round(float(area(np.stack([1 - share, share], 1), truth)), 4),
        "cpu_s_a_case": round(cpu / len(rows), 2),
        "rows": rows,
    }


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return round(2 * float((a & b).sum()) / max(float(a.sum() + b.sum()), 1.0), 4)


def tile(lesson: LesionLesson, lesion: np.ndarray) -> np.ndarray:
    """The slice with most drawn lesion (of a normal patient the highest peak): as it is, the truth outlined, the map."""
    sick = lesson.truth >= 2
    s = int(sick.sum((1, 2)).argmax()) if sick.any() else int(lesion.max((1, 2)).argmax())
    grey = np.repeat(lesson.stack[s][..., None], 3, 2)
    heat = np.stack([np.full_like(grey[..., 0], 0)] * 3, 2)
    heat[..., 0] = np.round(255 * lesion[s])
    return np.hstack([grey, outlined(grey, sick[s].astype(np.int32), (240, 60, 60), width=1), np.maximum(heat, grey // 3)])


def dicom(seed: int) -> dict[str, Any]:
    """Six fresh patients drawn both ways: the largest difference of any probability, and whether the classes agree. Needs the row `drawn` of classify.py."""
    model, answers = WORK / f"drawn-seed{seed}-run", {}
    for format, inside in (("nifti", "volumes"), ("dicom", "dicom")):
        out = WORK / f"both-{format}"
        if not (out / "labels.csv").exists():
            draw_cts(out, count=6, split="fresh", seed=4, format=format, overwrite=out.exists())
        result = tacit.classify_predict(out / inside, WORK / f"both-{format}-answers", model=model, overwrite=(WORK / f"both-{format}-answers").exists())
        answers[format] = {a["case"]: a for a in result.answers}
    names = [name for name in next(iter(answers["nifti"].values())) if name.startswith("p_")]
    pairs = [(a, answers["dicom"].get(case)) for case, a in answers["nifti"].items()]
    far = max(abs(a[n] - b[n]) for a, b in pairs if b for n in names)
    return {
        "cases": len(pairs),
        "found": len(answers["dicom"]),
        "same_class": sum(bool(b) and a["class"] == b["class"] for a, b in pairs),
        "largest_difference": round(far, 4),
    }


def real(seed: int) -> dict[str, Any]:
    """The share of the prepared pixels that is marked in each real series at hand; nobody marked their lesions, so it is a number to look at, not a score."""
    network, shares = taught("lesions", seed=seed), {}
    for path in [p for folder in REAL for p in sorted((DATA.parent / folder).glob("*.nii.gz")) if "_mask" not in p.name]:
        stack = apply(read_volume(path), recipe(SERIES)).pixels
        shares[path.name.removesuffix(".nii.gz")] = round(float((network.maps(stack) > 0.5).sum() / (stack > 0).sum()), 5)
    return {"marked_share": shares}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    if unknown := [row for row in options.rows if row not in ROWS]:
        parser.error(f"unknown row {unknown[0]!r}; known are {', '.join(ROWS)}")
    os.environ.setdefault("TACIT_CACHE", str(WORK / "cache"))
    cv2.setNumThreads(1)
    for row in options.rows or ROWS:
        for seed in options.seeds:
            place = RESULTS / f"{row}-seed{seed}.json"
            if not place.exists():
                found = {"maps": maps, "dicom": dicom, "real": real}[row](seed)
                write_atomic(place, json.dumps({"row": row} | found | stamp(seed), indent=1) + "\n")
            print(row, seed, {k: v for k, v in json.loads(place.read_text()).items() if k not in ("rows", "versions")}, flush=True)


if __name__ == "__main__":
    main()
