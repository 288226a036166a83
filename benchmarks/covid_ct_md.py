"""Three real series of COVID-CT-MD through the whole way: audit, lungs, preparation, a slice classifier (infected or not, one patient left out), a page a case.

    python benchmarks/covid_ct_md.py [MODEL]

Two patients have labelled slices, so nothing here is a claim of accuracy: it shows that the way runs on real files, DICOM among them. MODEL: the OUT of a
`tacit classify fit` on drawn CTs (`classify.py drawn` leaves one in work/classify/drawn-seed0-run); where it is given, the real series are shown to it too. Of the
DICOM series only a part is there, so that it answers only where MODEL was taught with `--gaps tolerate`. Images: covid-ct-md below TACIT_DATA, else ../shared/data.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import tacit
from provenance import stamp
from tacit.errors import InputError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.prepare.steps import apply, recipe
from tacit.read.nifti import read_volume

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data") / "covid-ct-md"
WORK = ROOT / "benchmarks" / "work" / "covid_ct_md"
PLACE = ROOT / "benchmarks" / "results" / "classify" / "covid_ct_md" / "slices.json"
SLICES = "canonical,size=224:224,window=-500:1500"  # every slice of its own and whole (lungs would crop the stack), so that its label is its own
BRIEF = ["members=2", "size=112", "train.epochs=6", "train.steps=10"]  # two patients: folds inside folds, as texture's grids want them, cannot be made


def labelled_slices() -> tuple[Path, Path, dict[str, int]]:
    """The slices of the two labelled series as pictures, their labels with patients, and how many are infected."""
    folder, table = WORK / "slices", WORK / "slices.csv"
    folder.mkdir(parents=True, exist_ok=True)
    rows, infected = [], {}
    with np.load(DATA / "slice_labels.npz") as of:
        for patient in of.files:
            volume = read_volume(DATA / "nifti" / f"{patient}.nii.gz")
            labels = of[patient]
            plain = np.broadcast_to(labels[:, None, None], (len(labels), 4, 4)).astype(np.int16)
            turned = apply(Image(np.ascontiguousarray(plain), "dhw", volume.spacing_mm, affine=volume.affine), recipe("canonical")).pixels[:, 0, 0]
            stack = apply(volume, recipe(SLICES)).pixels
            assert len(stack) == len(turned)
            for number, (plane, label) in enumerate(zip(stack, turned, strict=True), 1):
                grey = plane if plane.dtype == np.uint8 else np.round(255 * np.clip(plane, 0, 1)).astype(np.uint8)
                cv2.imwrite(str(folder / f"{patient}-{number:03d}.png"), grey)
                rows.append((f"{patient}-{number:03d}", "infected" if label else "free", patient))
            infected[patient] = int(turned.sum())
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "class", "patient"), *rows])
    return folder, table, infected


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"no series at {DATA}; set TACIT_DATA")
    os.environ.setdefault("TACIT_CACHE", str(WORK / "cache"))
    WORK.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}
    audit = tacit.audit(DATA / "dicom", WORK / "audit", overwrite=True)
    result["audit"] = {"files": audit.files, "kept": audit.kept, "reasons": audit.reasons}
    lungs = tacit.lungs(DATA / "nifti", WORK / "lungs", overwrite=True)
    result["litres"] = {name: round(litres, 2) for name, litres in lungs.litres.items()}
    folder, table, result["infected_slices"] = labelled_slices()
    cpu = time.process_time()
    found = tacit.classify_fit(folder, WORK / "slice-model", labels=table, unit="picture", pipeline="end-to-end", set=BRIEF, twins=False, overwrite=True)
    record = json.loads((WORK / "slice-model" / "run.json").read_text())
    result["left_out_patient"] = {"figures": found.figures, "twins": found.twins, "warnings": record["warnings"], "cpu_s": round(time.process_time() - cpu, 1)}
    if len(sys.argv) > 1:
        for kind in ("nifti", "dicom"):
            try:
                answers: Any = tacit.classify_predict(DATA / kind, WORK / f"answers-{kind}", model=sys.argv[1], overwrite=True).answers
            except InputError as error:
                answers = str(error).replace(str(DATA), DATA.name)
            result[f"drawn_model_on_{kind}"] = answers
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(PLACE, json.dumps(result | stamp(0), indent=1) + "\n")
    figures = found.figures
    print(f"slices of the patient left out: auc {figures['auc']:.3f}, accuracy {figures['accuracy']:.3f}; {record['warnings'][0]}")


if __name__ == "__main__":
    main()
