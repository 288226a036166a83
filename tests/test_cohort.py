from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import nibabel
import numpy as np
import pytest

from tacit.errors import InputError, ReadError, UsageError
from tacit.read.facts import read_facts
from tacit.read.labels import read_labels
from tacit.use.cohort import find_cohort
from tacit.use.distance_labels import read_table
from tacit.use.shelf import Shelf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(tmp_path: Path) -> Any:
    failed: list[tuple[str, str]] = []
    return SimpleNamespace(folder=tmp_path / "out", failures=[], fail=lambda path, error: failed.append((str(path), error.reason)), failed=failed)


def picture(path: Path, value: int, side: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((side, side), value, np.uint8))


def chest(path: Path, seed: int = 0) -> None:
    """A body of water with two lungs of air, 40 × 64 × 64 at 5 mm."""
    z, y, x = np.mgrid[:40, :64, :64]
    hu = np.full((40, 64, 64), -1000, np.int16)
    hu[((y - 32) / 22) ** 2 + ((x - 32) / 28) ** 2 < 1] = 20
    for side in (-1, 1):
        hu[((y - 32) / 15) ** 2 + ((x - 32 - 13 * side) / 9) ** 2 + ((z - 20) / 16) ** 2 < 1] = -850
    hu[:, 50:53, 30:34] = 600  # a spine
    hu = (hu + np.random.default_rng(seed).integers(-20, 20, hu.shape)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-5.0, -5.0, 5.0, 1.0])), path)


def test_single_pictures_are_cases(tmp_path: Path) -> None:
    for name in ("b", "a"):
        picture(tmp_path / "in" / f"{name}.png", 90)
    cases = find_cohort(tmp_path / "in", run(tmp_path))
    assert [(c.name, c.unit) for c in cases] == [("a", "picture"), ("b", "picture")]
    stack = cases[0].prepared()
    assert stack.shape == (1, 224, 224) and stack.dtype == np.uint8 and (stack == 90).all()


def test_folders_of_slices_are_series_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for case in ("p1", "p2"):
        for number in (10, 9, 2):
            picture(tmp_path / "in" / case / f"slice_{number}.png", 10 * number)
    cases = find_cohort(tmp_path / "in", run(tmp_path))
    assert [(c.name, c.unit) for c in cases] == [("p1", "series"), ("p2", "series")]
    assert cases[0].prepared()[:, 0, 0].tolist() == [20, 90, 100]
    with pytest.raises(InputError, match="are called 'slice_10'"):  # as pictures their names are not unique
        find_cohort(tmp_path / "in", run(tmp_path), unit="picture")
    picture(tmp_path / "in" / "p3" / "slice_2.png", 7)  # a series of one slice among longer ones
    assert [(c.name, c.unit) for c in find_cohort(tmp_path / "in", run(tmp_path))] == [("p1", "series"), ("p2", "series"), ("p3", "series")]
    one = find_cohort(tmp_path / "in" / "p1", run(tmp_path), unit="series")
    assert [(c.name, len(c.prepared())) for c in one] == [("p1", 3)]
    picture(tmp_path / "in" / "p2" / "slice_11.png", 5, side=48)
    with pytest.raises(ReadError, match="another size"):
        find_cohort(tmp_path / "in", run(tmp_path))[1].prepared()


def test_a_volume_is_prepared_once(tmp_path: Path, cache: Path) -> None:
    chest(tmp_path / "in" / "one.nii.gz")
    case = find_cohort(tmp_path / "in", run(tmp_path))[0]
    stack = case.prepared()
    assert case.unit == "series" and stack.shape[1:] == (224, 224) and 10 < len(stack) < 45 and stack.std() > 10
    kept = list((cache / "prepared").iterdir())
    assert len(kept) == 1
    again = find_cohort(tmp_path / "in", run(tmp_path))[0]
    object.__setattr__(again, "read", lambda: pytest.fail("it was decoded again"))
    assert np.array_equal(again.prepared(), stack)
    kept[0].write_bytes(kept[0].read_bytes()[:1000])  # half-written by a machine that lost power
    assert np.array_equal(find_cohort(tmp_path / "in", run(tmp_path))[0].prepared(), stack)
    assert len(list((cache / "prepared").iterdir())) == 1
    find_cohort(tmp_path / "in", run(tmp_path), gaps="tolerate")[0].prepared()  # read by another rule: no stack of its own is taken from the cache
    assert len(list((cache / "prepared").iterdir())) == 2
    blind = find_cohort(tmp_path / "in", run(tmp_path), steps="canonical,size=64:64")[0]
    with pytest.raises(InputError, match=r"from -[0-9]+ to [0-9]+; 0 to 255, or 0 to 1, are expected: add window"):
        blind.prepared()
    other = find_cohort(tmp_path / "in", run(tmp_path), steps="canonical,lungs,size=64:64,window=-500:1500")[0]
    assert other.prepared().shape[1:] == (64, 64)


def test_a_series_without_lungs_or_with_nan_or_of_other_values_is_said(tmp_path: Path) -> None:
    z, y, x = np.mgrid[:20, :32, :32]
    body = np.where(((y - 16) / 11) ** 2 + ((x - 16) / 14) ** 2 < 1, 20, -1000).astype(np.float32)  # of water, in a room, without air inside
    body[:, 24:26, 15:17] = 600  # a spine
    for name, values, said in (
        ("solid", body, r"no lungs were found \(no enclosed air of at least"),
        ("holes", np.where(z == 9, np.nan, body), "values that are not finite"),
        ("empty", np.zeros((20, 32, 32), np.float32), "are no Hounsfield units of a chest CT"),
    ):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32).transpose(2, 1, 0), np.diag([-5.0, -5.0, 5.0, 1.0])), tmp_path / name / f"{name}.nii")
        with pytest.raises(InputError, match=said):
            find_cohort(tmp_path / name, run(tmp_path))[0].prepared()


def test_a_file_that_vanishes_is_one_case_that_fails(tmp_path: Path) -> None:
    chest(tmp_path / "in" / "one.nii.gz")
    case = find_cohort(tmp_path / "in", run(tmp_path))[0]
    (tmp_path / "in" / "one.nii.gz").unlink()
    assert case.digest == "unreadable"
    with pytest.raises(ReadError, match=r"one\.nii\.gz"):
        case.prepared()


def test_what_is_no_cohort_is_said(tmp_path: Path) -> None:
    picture(tmp_path / "both" / "a.png", 10)
    chest(tmp_path / "both" / "b.nii.gz")
    with pytest.raises(InputError, match="give them apart"):
        find_cohort(tmp_path / "both", run(tmp_path))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no case"):
        find_cohort(tmp_path / "none", run(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        find_cohort(tmp_path / "nowhere", run(tmp_path))
    with pytest.raises(UsageError, match="picture, series"):
        find_cohort(tmp_path / "both", run(tmp_path), unit="volume")


def test_labels_are_read_and_faults_named(tmp_path: Path) -> None:
    def read(text: str) -> Any:
        (tmp_path / "l.csv").write_text(text, encoding="utf-8")
        return read_labels(tmp_path / "l.csv")

    found = read("\ufeffCase, Class ,patient\na,CAP,1\nb,COVID,1\nc,CAP,\n")
    assert found.classes == ("CAP", "COVID") and found.patient == {"a": "1", "b": "1", "c": "c"} and found.patients_known
    assert not read("case,class\n001,x\n02,y\n").patients_known and set(read("case,class\n001,x\n02,y\n").of) == {"001", "02"}
    odd = read("case,class,patient\na,None,NA\nb,NA,NA\nnull,nan,\n")
    assert odd.of == {"a": "None", "b": "NA", "null": "nan"} and odd.patient == {"a": "NA", "b": "NA", "null": "null"}
    for text, said in (
        ("case,kind\na,x\n", "no column 'class'"),
        ("case,class\na,x\nb,\n", "line 3: an empty cell"),
        ("case,class\na,x\na,y\n", "one class"),
        ("case,class\na,x\nb,x\n", "at least two classes"),
        ("case,class\n" + "".join(f"{i},c{i}\n" for i in range(30)), "at most 20"),
    ):
        with pytest.raises(InputError, match=said):
            read(text)
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "nowhere.csv")


def test_tables_of_patients_and_labels_know_the_name_na(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,patient,class,age\nNA,null,None,NA\nb,NA,,7\n")
    facts = read_facts(tmp_path / "t.csv")
    assert facts["NA"] == {"patient": "null", "label": "None", "age": None} and facts["b"] == {"patient": "NA", "label": None, "age": 7.0}
    assert read_table(tmp_path / "t.csv")["NA"]["label"] == "None"


def test_a_shelf_gives_back_what_was_put_and_leaves_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    put = [{"rows": rng.normal(size=(n, 3)).astype(np.float32), "slices": rng.integers(0, 255, (n, 4, 5)).astype(np.uint8)} for n in (2, 0, 5)]
    with Shelf(tmp_path / "cases") as shelf:
        for number, arrays in enumerate(put):
            shelf.put(arrays)
            assert np.array_equal(shelf[0]["rows"], put[0]["rows"]) and len(shelf) == number + 1  # read between writes
        for index in (-1, 0, 1, 2):
            for name, array in put[index].items():
                assert shelf[index][name].dtype == array.dtype and np.array_equal(shelf[index][name], array)
        assert [len(one["rows"]) for one in shelf[1:]] == [0, 5] and not shelf[2]["rows"].flags.writeable
        with pytest.raises(IndexError):
            shelf[3]
    assert not (tmp_path / "cases").exists()
