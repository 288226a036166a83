"""Names of series and volumes: whatever is added to a cohort, no name passes from one case to another."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom.uid import DigitalXRayImageStorageForPresentation

import tacit
from scans import body, write_dicom, write_series
from tacit.errors import InputError
from tacit.image import Image
from tacit.read.labels import read_labels
from tacit.read.nifti import write_nifti
from tacit.use.case_names import case_names, folder_of
from tacit.use.classify_cases import matched
from tacit.use.cohort import find_cohort
from tacit.use.volumes import find_volumes


def run(tmp_path: Path) -> Any:
    failed: list[tuple[str, str]] = []
    return SimpleNamespace(folder=tmp_path / "out", failures=failed, fail=lambda path, error: failed.append((str(path), error.reason)))


def series(folder: Path, count: int, uid: str) -> None:
    write_series(folder, body(count, 32), SeriesInstanceUID=uid, PatientID=folder.parent.name)


def volume(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(path, Image(body(4, 24), "dhw", (2.0, 1.0, 1.0)))


def named(source: Path, tmp_path: Path) -> dict[str, str]:
    """Name → the case's place below `source`."""
    return {case.name: str(case.place.relative_to(source)) for case in find_cohort(source, run(tmp_path))}


def test_a_name_never_passes_to_another_series_when_the_cohort_changes(tmp_path: Path) -> None:
    place = tmp_path / "in"
    series(place / "P001" / "CT", 5, "1.2.1")
    series(place / "P002" / "CT", 6, "1.2.2")
    assert named(place, tmp_path) == {"P001-CT": "P001/CT", "P002-CT": "P002/CT"}
    series(place / "P000" / "CT", 7, "1.2.0")  # before the others by name, the largest by slices
    assert named(place, tmp_path) == {"P000-CT": "P000/CT", "P001-CT": "P001/CT", "P002-CT": "P002/CT"}
    shutil.rmtree(place / "P000")
    shutil.rmtree(place / "P002")
    alone = named(place, tmp_path)
    assert alone == {"CT": "P001/CT"}
    (tmp_path / "l.csv").write_text("case,class\nCT,ill\nP001-CT,well\n")
    series(place / "P003" / "CT", 4, "1.2.3")
    told = run(tmp_path)
    found = matched(find_cohort(place, told), read_labels(tmp_path / "l.csv"), told)
    assert [case.name for case in found] == ["P001-CT"] and ("CT", "the labels name it, but INPUT has no such case") in told.failures


def test_every_part_of_a_cohort_gives_a_name_to_one_case_alone() -> None:
    """In all parts of a cohort a name that is not the last part of a path stands for one and the same case."""

    def ends(path: str) -> set[str]:
        parts = ["in", *path.split("/")]
        return {"-".join(parts[k:]) for k in range(len(parts))}

    paths = ["a/CT", "b/CT", "x/a/CT", "a-CT", "b/a-CT", "MR", "a/MR", "CT", "c/d/CT"]
    whose: dict[str, set[str]] = {}
    for size in range(1, len(paths) + 1):
        for part in itertools.combinations(paths, size):
            names = case_names([(Path("/in") / p, "1.2.3") for p in part])
            assert len(set(names)) == len(names)
            assert all(os.sep not in n for n in names)
            turned = case_names([(Path("/in") / p, "1.2.3") for p in part[::-1]])
            assert names == turned[::-1]
            for name, path in zip(names, part, strict=True):
                others = [p for p in part if p != path and name in ends(p)]
                assert not others  # no other case of this cohort could be meant
                whose.setdefault(name, set()).add(path)
    assert whose["x-a-CT"] == {"x/a/CT"} and whose["b-CT"] == {"b/CT"} and whose["d-CT"] == {"c/d/CT"}


def test_series_in_one_folder_are_told_by_their_uid(tmp_path: Path) -> None:
    place = tmp_path / "in"
    for uid, count in (("1.2.7.4", 5), ("1.2.7.5", 4)):
        write_series(place / "P001", body(count, 32), names=[f"{uid}_{k}.dcm" for k in range(count)], SeriesInstanceUID=uid)
    slices = {v.name: len(v.paths) for v in find_volumes(place, run(tmp_path))}
    assert slices == {"P001-4": 5, "P001-5": 4}
    write_series(place / "P001", body(9, 32), names=[f"z{k}.dcm" for k in range(9)], SeriesInstanceUID="1.2.8.4")
    slices = {v.name: len(v.paths) for v in find_volumes(place, run(tmp_path))}
    assert slices == {"P001-7.4": 5, "P001-5": 4, "P001-8.4": 9}


def test_volumes_of_one_stem_are_told_by_folder_or_suffix(tmp_path: Path) -> None:
    place = tmp_path / "in"
    for name in ("P001/ct.nii.gz", "P002/ct.nii.gz", "P002/other.nii"):
        volume(place / name)
    assert named(place, tmp_path) == {"P001-ct": "P001/ct.nii.gz", "P002-ct": "P002/ct.nii.gz", "other": "P002/other.nii"}
    volume(place / "P001" / "ct.nii")
    assert named(place, tmp_path) == {"ct-nii": "P001/ct.nii", "ct-niigz": "P001/ct.nii.gz", "P002-ct": "P002/ct.nii.gz", "other": "P002/other.nii"}
    (tmp_path / "list.csv").write_text("path\nin/P001/ct.nii.gz\nin/P002/../P001/ct.nii.gz\n")  # one file, twice
    assert [v.name for v in find_volumes(tmp_path / "list.csv", run(tmp_path))] == ["ct"]


def test_names_are_safe_as_file_names() -> None:
    names = case_names([(Path("/in/P/CT"), "1/../../x"), (Path("/in/P/CT"), ""), (Path("/in/P/CT"), "")])
    assert names[0] == "CT-x" and len(set(names[:2])) == 2 and all("/" not in n and ".." not in n for n in names)
    long = case_names([(Path("/") / ("é" * 100) / "CT", "1"), (Path("/") / ("e" * 200) / "CT", "1")])
    assert len(set(long)) == 2 and all(len(n.encode()) <= 180 for n in long)
    assert case_names([(Path("/"), "1")]) == ["series"]


def test_a_series_over_several_folders_is_called_by_what_holds_them() -> None:
    assert folder_of([Path("in/P1/a/1.dcm"), Path("in/P1/b/2.dcm")]) == Path("in/P1") and folder_of([Path("x/1.dcm")] * 2) == Path("x")


def test_lungs_and_prepare_write_a_file_a_patient(tmp_path: Path) -> None:
    place = tmp_path / "in"
    for patient in ("P001", "P002"):
        volume(place / patient / "ct.nii.gz")
    tacit.prepare_images(place, tmp_path / "o", steps="window=-500:1500")
    assert sorted(p.name for p in (tmp_path / "o" / "images").iterdir()) == ["P001-ct.nii.gz", "P002-ct.nii.gz"]


def test_one_multi_frame_file_is_called_by_its_folder(tmp_path: Path) -> None:
    place = tmp_path / "in" / "P001"
    place.mkdir(parents=True)
    write_dicom(place / "IM0001.dcm", np.zeros((3, 32, 32), np.uint16), NumberOfFrames=3)
    (case,) = find_cohort(tmp_path / "in", run(tmp_path))
    assert case.name == "P001" and case.place == place / "IM0001.dcm"


def test_a_series_of_one_slice_is_said(tmp_path: Path) -> None:
    series(tmp_path / "in" / "P001" / "CT", 5, "1.2.1")
    series(tmp_path / "in" / "P002" / "CT", 1, "1.2.2")
    told = run(tmp_path)
    assert [v.name for v in find_volumes(tmp_path / "in", told)] == ["CT"]
    ((path, reason),) = told.failures
    assert "P002/CT" in path and reason.startswith("one slice only")
    alone = tmp_path / "in" / "P002"
    for number, verb in enumerate(
        (
            lambda out: tacit.lungs(alone, out),
            lambda out: tacit.prepare_images(alone, out, steps="window=-500:1500"),
            lambda out: tacit.distance([alone, tmp_path / "in" / "P001"], out),
        )
    ):
        with pytest.raises(InputError, match=r"the first of 1 failures: .*one slice only"):
            verb(tmp_path / f"o{number}")
    with pytest.raises(InputError, match=r"holds no case: .*the first of 1 failures: .*one slice only"):
        find_cohort(alone, run(tmp_path))


def test_a_radiograph_is_no_failed_series_where_pictures_are_read(tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for name, uid in (("a.dcm", "1.2.1"), ("b.dcm", "1.2.2")):
        stored = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
        write_dicom(place / name, stored, SeriesInstanceUID=uid, Modality="DX", SOPClassUID=DigitalXRayImageStorageForPresentation)
    assert tacit.prepare_images(place, tmp_path / "o", steps="gamma=1").failed == 0
    shutil.make_archive(str(tmp_path / "z"), "zip", place)
    assert tacit.prepare_images(tmp_path / "z.zip", tmp_path / "oz", steps="gamma=1").failed == 0
