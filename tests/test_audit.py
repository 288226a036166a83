"""The audit from end to end on folders with known defects."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from pydicom.uid import RLELossless

import tacit
from scans import body, write_dicom, write_pictures, write_series
from tacit.errors import InputError, UsageError
from tacit.prepare.explore import CANVAS, ClassImages
from tacit.use.audit import audit
from tacit.use.audit_items import Item
from tacit.use.lungs import lungs
from tacit.use.report_audit import times_of

COLUMNS = "path,sha256,kind,patient,series,position,spacing,keep,reason"
SECRETS = ("Meier^Anna", "4711-AB", "19591231", "20210304", "1.2.826.77.88", "1.2.840.777.", "Doe^Jane")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def manifest(out: Path) -> dict[str, dict[str, str]]:
    return {Path(r["path"]).name: r for r in rows(out / "manifest.csv")}


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() + str(p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def messy(folder: Path) -> Path:
    """Two patients as DICOM, pictures of three kinds, and whatever else lies about."""
    anna = {
        "PatientName": "Meier^Anna", "PatientID": "4711-AB", "PatientBirthDate": "19591231", "StudyDate": "20210304", "SeriesInstanceUID": "1.2.826.77.88",
        "StudyInstanceUID": "1.2.840.777.1", "Manufacturer": "ACME",
    }  # fmt: skip
    paths = write_series(folder / "a", body(24, 64), **anna)
    paths[11].unlink()
    write_series(folder / "a" / "again", body(24, 64)[5:6], places=[10.0], names=["zz_again.dcm"], InstanceNumber=6, **anna)
    write_series(folder / "a" / "odd", body(1, 64, seed=9), places=[3.0], names=["other_patient.dcm"], **(anna | {"PatientID": "Doe^Jane"}))
    write_series(folder / "b", body(20, 64, seed=3), names=[f"b{k:02d}" for k in range(20)], SeriesInstanceUID="1.2.840.777.5", PatientID="P2")
    write_dicom(folder / "scout.dcm", np.zeros((40, 30), np.uint16), SeriesInstanceUID="1.2.840.777.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_dicom(
        folder / "report.dcm", np.zeros((4, 4), np.uint16), Rows=None, Columns=None, PatientName="Doe^Jane", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"
    )
    bad = write_dicom(folder / "cut.dcm", np.zeros((40, 30), np.uint16), PatientName="Doe^Jane", SeriesInstanceUID="1.2.840.777.7")
    bad.write_bytes(bad.read_bytes()[:-500])
    flipped = write_dicom(folder / "flipped.dcm", np.zeros((40, 30), np.uint16), RescaleSlope=1, SeriesInstanceUID="1.2.840.777.8", syntax=RLELossless)
    flipped.write_bytes(flipped.read_bytes()[:-40])
    write_pictures(folder / "stack ü", body(20, 64, seed=5))
    (folder / "notes.txt").write_text("hello")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "stack ü" / "slice_000.png").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("messy")
    source = messy(folder / "in")
    before = digests(source)
    audit(source, folder / "out", salt="s")
    return source, folder / "out", before


def test_nothing_in_the_input_is_changed(audited: tuple[Path, Path, dict[str, str]]) -> None:
    assert digests(audited[0]) == audited[2]


def test_the_manifest_names_every_file_once_with_its_hash_and_its_reason(audited: tuple[Path, Path, dict[str, str]]) -> None:
    source, out, _ = audited
    assert (out / "manifest.csv").read_text(encoding="utf-8").splitlines()[0] == COLUMNS
    found = rows(out / "manifest.csv")
    assert sorted(r["path"] for r in found) == sorted(str(p.resolve()) for p in source.rglob("*") if p.is_file())
    assert all(r["sha256"] == hashlib.sha256(Path(r["path"]).read_bytes()).hexdigest() for r in found)
    by_name = manifest(out)
    wanted = {
        "zz_again.dcm": "duplicate", "other_patient.dcm": "foreign: another patient", "report.dcm": "without pixels", "cut.dcm": "cut short", "flipped.dcm": "unreadable",
        "notes.txt": "a table or text", "empty.png": "empty", "cut.png": "unreadable",
    }  # fmt: skip
    for name, words in wanted.items():
        assert by_name[name]["keep"] == "false" and words in by_name[name]["reason"], by_name[name]
    assert "missing: 1 slice" in by_name["slice_010.dcm"]["reason"] and by_name["slice_010.dcm"]["keep"] == "true"
    dropped = {n for n, r in by_name.items() if r["keep"] == "false"} - set(wanted)
    assert dropped == set()
    assert [float(by_name[f"b{k:02d}"]["position"]) for k in range(20)] == pytest.approx([30 + 2 * k for k in range(20)])
    assert by_name["b03"]["spacing"] == "2×0.8×0.7"


def test_the_series_table_counts_what_was_planted(audited: tuple[Path, Path, dict[str, str]]) -> None:
    found = {(r["kind"], int(r["slices"])): r for r in rows(audited[1] / "tables" / "series.csv")}
    a = found["dicom", 25]
    assert (a["missing"], a["duplicate"], a["foreign"], a["shuffled"]) == ("1", "1", "1", "0")
    for key in (("dicom", 20), ("stack of pictures", 20)):
        assert all(found[key][c] == "0" for c in ("missing", "duplicate", "foreign", "shuffled"))


def test_failures_are_listed_with_remedies(audited: tuple[Path, Path, dict[str, str]]) -> None:
    found = {Path(r["file"]).name: r for r in rows(audited[1] / "failures.csv")}
    assert {"report.dcm", "cut.dcm", "flipped.dcm", "empty.png", "cut.png"} <= set(found)
    assert all(r["reason"] and r["remedy"] for r in found.values())


def test_no_name_number_date_or_uid_of_a_patient_is_in_any_output(audited: tuple[Path, Path, dict[str, str]]) -> None:
    for path in audited[1].rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("latin-1")
            assert not [s for s in SECRETS if s in text], path


def test_identifiers_stay_where_they_are_asked_for(audited: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    audit(audited[0], tmp_path / "out", keep_identifiers=True)
    text = (tmp_path / "out" / "manifest.csv").read_text()
    assert "4711-AB" in text and "1.2.826.77.88" in text


def test_pseudonyms_repeat_with_a_salt_and_only_then(audited: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    source = tmp_path / "in"
    shutil.copytree(audited[0] / "b", source)
    names = []
    for n, salt in enumerate(("s", "s", None, None)):
        audit(source, tmp_path / f"out{n}", salt=salt)
        names.append({(r["patient"], r["series"]) for r in rows(tmp_path / f"out{n}" / "manifest.csv")})
        assert salt is None or not any(re.search(rf"\b{salt}\b", p.read_text()) for p in (tmp_path / f"out{n}").glob("*.toml"))
    assert names[0] == names[1] and names[1] != names[2] != names[3] and all(len(n) == 1 for n in names)
    both = {r["patient"] for r in rows(audited[1] / "manifest.csv") if Path(r["path"]).parent.name == "b"}
    assert {p for p, _ in names[0]} == both


def test_good_files_come_out_the_same_with_and_without_bad_ones(audited: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    source, out, _ = audited
    good = tmp_path / "in"
    for name in ("b", "stack ü"):
        shutil.copytree(source / name, good / name)
    audit(good, tmp_path / "out", salt="s")
    for table in ("manifest.csv", "tables/images.csv"):
        alone, among = ({Path(r["path"]).name + Path(r["path"]).parent.name: r for r in rows(o / table)} for o in (tmp_path / "out", out))
        for key, row in alone.items():
            ignored = ("path", "series", "label") if row.get("kind") == "picture" else ("path", "label")
            assert {k: v for k, v in row.items() if k not in ignored} == {k: v for k, v in among[key].items() if k not in ignored}


def test_the_manifest_is_an_input_of_segment_and_of_lungs(tmp_path: Path, drawn: Path) -> None:
    source = tmp_path / "in"
    shutil.copytree(drawn / "images", source / "tissue")
    shutil.copy(source / "tissue" / "t0.png", source / "tissue" / "zz_copy.png")
    audit(source, tmp_path / "audit")
    tacit.segment(tmp_path / "audit" / "manifest.csv", tmp_path / "masks", method="haematoxylin", mpp=1.2)
    assert sorted(p.stem for p in (tmp_path / "masks" / "masks").glob("*.png")) == ["t0", "t1", "t2", "t3"]


def test_lungs_takes_the_kept_slices_of_a_manifest(tmp_path: Path) -> None:
    from test_lung import chest

    image, _ = chest()
    mm = {"mm": 3.0, "PixelSpacing": [2.0, 2.0]}
    write_series(tmp_path / "in", np.clip(image.pixels, -1024, 3000), **mm)
    mm["InstanceNumber"] = 99
    write_series(tmp_path / "in" / "x", np.clip(image.pixels[7:9], -1024, 3000), places=[21.0, 24.0], names=["zz_again1.dcm", "zz_again2.dcm"], **mm)
    audit(tmp_path / "in", tmp_path / "audit")
    plain, listed = (lungs(s, tmp_path / o) for s, o in ((tmp_path / "in", "l1"), (tmp_path / "audit" / "manifest.csv", "l2")))
    assert list(plain.litres.values()) == list(listed.litres.values()) and len(listed.litres) == 1
    assert manifest(tmp_path / "audit")["zz_again1.dcm"]["keep"] == "false"


def test_hashes_are_those_that_imagehash_prints(tmp_path: Path) -> None:
    import imagehash

    rng = np.random.default_rng(0)
    grey = np.uint8(np.clip(np.cumsum(rng.standard_normal((90, 120)), 1) * 12 + 120, 0, 255))
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], -1)
    folder = tmp_path / "in"
    folder.mkdir()
    Pillow.fromarray(grey).save(folder / "grey.png")
    Pillow.fromarray(colour).save(folder / "rgb.png")
    Pillow.fromarray(colour).save(folder / "rgb.jpg")
    Pillow.fromarray(colour).convert("P").save(folder / "palette.png")
    Pillow.fromarray(np.dstack([colour, grey])).save(folder / "rgba.png")
    Pillow.fromarray(grey.astype(np.uint16) * 200).save(folder / "deep.png")
    audit(folder, tmp_path / "out")
    found = {Path(r["path"]).name: r for r in rows(tmp_path / "out" / "tables" / "images.csv")}
    assert set(found) == {p.name for p in folder.iterdir()}
    for name, row in found.items():
        if name == "deep.png":  # 16 bit is hashed as Tacit shows it, scaled to 8 bit; Pillow would clip it at 255
            assert re.fullmatch(r"[0-9a-f]{16}", row["phash"])
            continue
        with Pillow.open(folder / name) as picture:
            for column in ("phash", "whash", "dhash"):
                assert row[column] == str(getattr(imagehash, column)(picture)), (name, column)
            assert row["ahash"] == str(imagehash.average_hash(picture)), name


def test_a_zip_is_audited_like_its_folder_and_its_class_folders_are_classes(tmp_path: Path) -> None:
    for n, name in enumerate(("benign", "malign")):
        write_pictures(tmp_path / "in" / name, body(4, 32, seed=n, mm=40.0))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted((tmp_path / "in").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "in"))
    audit(tmp_path / "in", tmp_path / "o1")
    audit(tmp_path / "in.zip", tmp_path / "o2")
    one, two = ([{k: v for k, v in r.items() if k != "path"} for r in rows(tmp_path / o / "tables" / "images.csv")] for o in ("o1", "o2"))
    assert one == two and {r["label"] for r in two} == {"benign", "malign"}


def test_one_file_is_enough(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "in", body(1, 64))
    assert audit(path, tmp_path / "out").kept == 1


def test_nothing_usable_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="nothing in"):
        audit(tmp_path / "in", tmp_path / "o1")
    (tmp_path / "in" / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"a\.png"):
        audit(tmp_path / "in", tmp_path / "o2")
    with pytest.raises(InputError, match="does not exist"):
        audit(tmp_path / "gone", tmp_path / "o3")
    with pytest.raises(UsageError, match="near"):
        audit(tmp_path / "in", tmp_path / "o4", near=99)


def test_an_audit_inside_its_own_input_does_not_look_at_itself(tmp_path: Path) -> None:
    write_pictures(tmp_path, body(10, 64))
    for _ in range(2):
        assert audit(tmp_path, tmp_path / "out", overwrite=True).files == 10
    with pytest.raises(UsageError):
        audit(tmp_path, tmp_path, overwrite=True)


@pytest.mark.parametrize("kind", ["dicom", "pictures"])
def test_defects_planted_in_a_stack_are_found_and_good_slices_stay(tmp_path: Path, kind: str) -> None:
    stack, other = body(48, 64, seed=1, mm=3.0), body(30, 64, seed=7, mm=3.0)
    order = [*range(10), *range(11, 20), 30, *range(20, 30), *range(31, 48)]  # 10 missing, 30 before 20
    planes = [stack[i] for i in order]
    planes.insert(5, other[12])
    planes.insert(40, stack[order[37]])
    volume = np.stack(planes)
    numbers = [k if k < 11 else k + 1 for k in range(len(planes))]  # the name of the missing one stays free
    names = [f"s{n:03d}" for n in numbers]
    if kind == "dicom":
        write_series(tmp_path / "in", volume, places=[3.0 * n for n in numbers], names=[n + ".dcm" for n in names])
    else:
        write_pictures(tmp_path / "in", volume, [n + ".png" for n in names])
    audit(tmp_path / "in", tmp_path / "out")
    found = {Path(p).stem: r for p, r in manifest(tmp_path / "out").items()}
    assert found["s005"]["reason"].startswith("foreign") and "duplicate" in found["s041"]["reason"] + found["s038"]["reason"] + found["s039"]["reason"]
    assert "shuffled" in found["s021"]["reason"] and "missing: 1 slice" in found["s010"]["reason"]
    assert sum(r["keep"] == "false" for r in found.values()) == 2
    (row,) = rows(tmp_path / "out" / "tables" / "series.csv")
    assert (row["missing"], row["duplicate"], row["foreign"], row["shuffled"]) == ("1", "1", "1", "1")


@pytest.mark.parametrize("mm", [2, 4, 8])
def test_real_series_as_dicom_and_as_pictures_lose_only_what_was_planted(data: Path, tmp_path: Path, mm: int) -> None:
    from tacit.read.nifti import read_volume

    a, b = (read_volume(data / "covid-ct-md" / "nifti" / f"{n}.nii.gz").pixels[:: mm // 2] for n in ("P001", "normal001"))
    planes = list(np.clip(a, -1024, 3000))
    at = len(planes) // 3
    planes.insert(at, np.clip(b[len(b) // 2], -1024, 3000))
    volume = np.stack(planes)
    write_series(tmp_path / "d", volume, mm=mm)
    write_pictures(tmp_path / "p", volume)
    for place in ("d", "p"):
        audit(tmp_path / place, tmp_path / f"out-{place}")
        dropped = [Path(r["path"]).stem for r in rows(tmp_path / f"out-{place}" / "manifest.csv") if r["keep"] == "false"]
        assert dropped == [f"slice_{at:03d}"]


def test_the_real_dicom_files_are_all_kept_though_most_of_their_series_is_missing(data: Path, tmp_path: Path) -> None:
    tacit.audit(data / "covid-ct-md" / "dicom", tmp_path / "out")
    with (tmp_path / "out" / "tables" / "series.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert [row[c] for c in ("slices", "missing", "duplicate", "foreign", "shuffled")] == ["48", "66", "0", "0", "0"]
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8") as file:
        assert all(line["keep"] == "true" for line in csv.DictReader(file))


def test_classes_below_split_folders_are_known_and_strange_labels_are_refused(tmp_path: Path) -> None:
    place, rng = tmp_path / "in", np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("COVID", "normal"):
            (place / split / label).mkdir(parents=True)
            for k in range(3):
                Pillow.fromarray(rng.integers(0, 255, (40, 50), dtype=np.uint8)).save(place / split / label / f"{k}.png")
    shutil.copy(place / "train" / "COVID" / "0.png", place / "test" / "normal" / "same.png")
    result = tacit.audit(place, tmp_path / "out")
    with (tmp_path / "out" / "tables" / "images.csv").open(encoding="utf-8") as file:
        assert {(r["split"], r["label"]) for r in csv.DictReader(file)} == {(s, c) for s in ("train", "test") for c in ("COVID", "normal")}
    assert result.files == 13 and result.pictures == 12  # the copy goes, and both its faults are said
    assert "same bytes" in (tmp_path / "out" / "manifest.csv").read_text(encoding="utf-8")
    (tmp_path / "labels.csv").write_text("case,class\nnobody,a\nnothing,b\n")
    with pytest.raises(UsageError, match="names none"):
        tacit.audit(place, tmp_path / "out2", labels=tmp_path / "labels.csv")


def test_a_mask_volume_is_no_image_and_nan_is_a_row(tmp_path: Path) -> None:
    from tacit.image import Image
    from tacit.read.nifti import write_nifti

    hu = body(12, 48).astype(np.float32)
    write_nifti(tmp_path / "in" / "ct.nii.gz", Image(hu, "dhw", (2.0, 1.0, 1.0)))
    write_nifti(tmp_path / "in" / "ct_mask.nii.gz", Image((hu > 0).astype(np.uint8), "dhw", (2.0, 1.0, 1.0)))
    hu[3, 4, 5] = np.nan
    write_nifti(tmp_path / "in" / "nan.nii.gz", Image(hu, "dhw", (2.0, 1.0, 1.0)))
    tacit.audit(tmp_path / "in", tmp_path / "out")
    with (tmp_path / "out" / "manifest.csv").open(encoding="utf-8") as file:
        kinds = {Path(r["path"]).name: (r["kind"], r["keep"]) for r in csv.DictReader(file)}
    assert kinds["ct_mask.nii.gz"] == ("mask", "false") and kinds["ct.nii.gz"] == ("volume", "true")
    with pytest.raises(InputError, match="not finite"):
        lungs(tmp_path / "in" / "nan.nii.gz", tmp_path / "out3")


def test_class_images_are_numpys_mean_and_sd() -> None:
    rng = np.random.default_rng(0)
    stacks = {"ill": rng.integers(0, 256, (7, CANVAS, CANVAS)).astype(np.uint8), "well": rng.integers(60, 90, (3, CANVAS, CANVAS)).astype(np.uint8)}
    found = ClassImages()
    for label, place in (("ill", 0), ("well", 0), ("ill", 1), ("ill", 2), ("well", 1), ("ill", 3), ("ill", 4), ("well", 2), ("ill", 5), ("ill", 6)):
        found.add(label, stacks[label][place])
    for label, stack in stacks.items():
        assert found.count[label] == len(stack) and np.allclose(found.mean[label], np.mean(stack, axis=0), atol=1e-9)
        assert np.allclose(found.deviation(label), np.std(stack, axis=0, ddof=1), atol=1e-9)
    assert np.allclose(found.difference("ill", "well"), np.mean(stacks["ill"], axis=0) - np.mean(stacks["well"], axis=0), atol=1e-9)


def test_class_images_by_hand() -> None:
    """10 and 20: mean 15, SD √50; one picture of 7 at twice the size: mean 7, SD 0; their difference 8 and −8."""
    found = ClassImages()
    for label, value, side in (("a", 10, CANVAS), ("b", 7, 2 * CANVAS), ("a", 20, CANVAS)):
        found.add(label, np.full((side, side), value, np.uint8))
    assert found.mean["a"].shape == (CANVAS, CANVAS) and (found.mean["a"] == 15).all() and np.allclose(found.deviation("a"), 50**0.5)
    assert (found.mean["b"] == 7).all() and (found.deviation("b") == 0).all()
    assert (found.difference("a", "b") == 8).all() and (found.difference("b", "a") == -8).all()


def test_times_are_days_since_the_first_of_all(tmp_path: Path) -> None:
    items = []
    for name, label, day, date in (
        ("a", "ill", 100.5, "20210327"), ("b", "ill", 103, "20210329"), ("c", "well", 101, "20210326"), ("d", "", 1, "19000101"), ("e", "well", 102, "20211399"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (day * 86400, day * 86400))
        items.append(Item(tmp_path / name, "picture", label=label, facts={"header StudyDate": date}))
    items += [Item(tmp_path / "gone", "picture", label="ill"), Item(tmp_path / "d", "picture", label="well", keep=False)]
    assert times_of(items) == {
        "file changed": {"ill": [0, 2.5], "well": [0.5, 1.5]},
        "study taken": {"ill": [1, 3], "well": [0]},
    }  # the clocks change on the 28th
    assert times_of([i for i in items if i.label != "well"]) == {}
