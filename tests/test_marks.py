from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import tacit
from tacit.image import Image
from tacit.read.dicom_write import write_dicom_series
from tacit.read.marks import marks
from tacit.read.nifti import write_nifti
from tacit.use.cohort import find_cohort
from tacit.use.shortcuts import metadata_of, metadata_twin
from test_classify import BRIEF, rows_of
from test_cohort import run
from test_two_level import slice_of


def test_pictures_tell_their_format_and_quality(tmp_path: Path) -> None:
    grey = slice_of(np.random.default_rng(0), False)
    for quality in (30, 90):
        Pillow.fromarray(grey).save(tmp_path / f"{quality}.jpg", quality=quality)
    Pillow.fromarray(grey).save(tmp_path / "a.png", dpi=(72, 72))
    Pillow.fromarray(grey).save(tmp_path / "a.tif", software="Exporter 3")
    coarse, fine, png, tif = (marks(tmp_path / n) for n in ("30.jpg", "90.jpg", "a.png", "a.tif"))
    assert float(coarse["jpeg quality"]) > 3 * float(fine["jpeg quality"]) and coarse["format"] == "JPEG"
    assert (png["format"], png["height"], png["width"], png["mode"], png["dpi"]) == ("PNG", 96, 96, "L", 72.0)
    assert tif["software"] == "Exporter 3"
    (tmp_path / "bad.png").write_bytes(b"nothing")
    assert marks(tmp_path / "bad.png") == {} and marks(tmp_path / "gone.dcm") == {} and marks(tmp_path / "gone.nii.gz") == {}


def test_volumes_tell_what_their_header_says(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", Image(np.zeros((5, 6, 7), np.int16), "dhw", (2.5, 0.7, 0.8)))
    found = marks(tmp_path / "a.nii.gz")
    assert (found["width"], found["height"], found["slices"], found["data type"]) == (7, 6, 5, "int16")
    assert (found["spacing"], found["spacing of rows"], found["spacing of slices"]) == pytest.approx((0.8, 0.7, 2.5))
    (tmp_path / "a.mha").write_bytes(
        b"ObjectType = Image\nDimSize = 4 3 2\nElementType = MET_SHORT\nElementSpacing = 1 1 5\nElementDataFile = LOCAL\n" + bytes(48)
    )
    assert marks(tmp_path / "a.mha") == {"format": "metaimage", "DimSize": "4 3 2", "ElementSpacing": "1 1 5", "ElementType": "MET_SHORT", "width": 4, "height": 3, "slices": 2}  # fmt: skip
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:40])
    assert marks(tmp_path / "cut.nii.gz") == {}


def told(folder: Path, tmp_path: Path, betray: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The twins by labels that the files betray, and by ones that they cannot; every file changed at the same time."""
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    cases = find_cohort(folder, run(tmp_path))
    patients = [c.name for c in cases]
    return metadata_twin(cases, betray, patients, 0), metadata_twin(cases, ["a", "b", "b", "a"] * (len(cases) // 4), patients, 0)


def test_the_format_of_pictures_tells_the_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    for i in range(24):
        Pillow.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).save(tmp_path / "in" / f"{i:02d}.jpg", quality=95 if i % 2 else 60)
    found, chance = told(tmp_path / "in", tmp_path, ["a", "b"] * 12)
    assert found["auc"] == 1.0 and found["cases"] == 24 and "jpeg quality" in found["facts"] and "header" not in found
    assert chance["interval"]["auc"][0] < 0.6


def test_the_kernel_of_dicom_series_tells_the_class(tmp_path: Path) -> None:
    for i in range(12):
        image = Image(np.zeros((3, 16, 16), np.int16), "dhw", (2.0, 1.0, 1.0), affine=np.diag([-1.0, -1.0, 2.0, 1.0]))
        write_dicom_series(tmp_path / "in" / f"{i:02d}", image, patient=f"P{i:02d}", name=f"s{i:02d}", kernel="SHARP" if i % 2 else "SOFT")
    found, chance = told(tmp_path / "in", tmp_path, ["a", "b"] * 6)
    assert found["auc"] == 1.0 and "ConvolutionKernel" in found["facts"] and chance["interval"]["auc"][0] < 0.6


def test_the_spacing_and_the_times_of_volumes_tell_the_class(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(12):
        write_nifti(tmp_path / "in" / f"{i:02d}.nii.gz", Image(np.zeros((3, 8, 8), np.int16), "dhw", (5.0 if i % 2 else 2.0, 1.0, 1.0)))
    found, chance = told(tmp_path / "in", tmp_path, ["a", "b"] * 6)
    assert found["auc"] == 1.0 and "spacing of slices" in found["facts"] and chance["interval"]["auc"][0] < 0.6
    for i in range(12):
        write_nifti(tmp_path / "in" / f"{i:02d}.nii.gz", Image(np.zeros((3, 8, 8), np.int16), "dhw", (2.0, 1.0, 1.0)))
    same = ["a", "b"] * 6
    assert "no fact differs" in told(tmp_path / "in", tmp_path, same)[0]["why"]
    for i in range(12):
        os.utime(tmp_path / "in" / f"{i:02d}.nii.gz", (1e9 + i % 2 * 1e5 + i, 1e9 + i % 2 * 1e5 + i))
    cases = find_cohort(tmp_path / "in", run(tmp_path))
    late = metadata_twin(cases, same, [c.name for c in cases], 0)
    assert late["auc"] == 1.0 and set(late["facts"]) <= {"changed", "changed time of day"}


def test_too_few_cases_are_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(4):
        Pillow.fromarray(np.zeros((9 + i, 9), np.uint8)).save(tmp_path / "in" / f"{i}.png")
    cases = find_cohort(tmp_path / "in", run(tmp_path))
    assert "5 cases" in metadata_twin(cases, ["a", "b"] * 2, [c.name for c in cases], 0)["why"]
    assert set(metadata_of(cases)) >= {"format", "height", "changed", "files"} and "bytes" not in metadata_of(cases)


def test_a_classifier_says_when_files_alone_tell_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(2)
    (tmp_path / "in").mkdir()
    for i in range(24):
        Pillow.fromarray(slice_of(rng, i % 2 == 1, 64)).save(tmp_path / "in" / f"{i:02d}.jpg", quality=95 if i % 2 else 80)
    (tmp_path / "l.csv").write_text("case,class\n" + "".join(f"{i:02d},{'ill' if i % 2 else 'well'}\n" for i in range(24)))
    result = tacit.classify_fit(tmp_path / "in", tmp_path / "o", labels=tmp_path / "l.csv", set=BRIEF)
    assert result.twins["metadata only"]["auc"] == 1.0
    (line,) = [w for w in json.loads((tmp_path / "o" / "run.json").read_text())["warnings"] if "Without any picture" in w]
    assert "jpeg quality" in line and "area of 1.000" in line
    row = next(r for r in rows_of(tmp_path / "o" / "tables" / "twins.csv") if r["seen"] == "metadata only")
    assert (row["auc"], row["cases"], row["accuracy"]) == ("1.0", "24", "") and "jpeg quality" in row["note"]
    html = (tmp_path / "o" / "report.html").read_text()
    assert "metadata only" in html and "95" not in row["note"]  # names of facts, never their values
