from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from tacit.errors import InputError
from tacit.read.folder import find_cases, find_truth, read_grades, read_mask
from tacit.read.tree import find_files


def picture(path: Path, value: int = 120) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(np.full((20, 20, 3), value, np.uint8)).save(path)
    return path


def names(cases) -> list[str]:
    return [n for n, _ in cases]


def test_glas_as_it_is_annotations_never_become_input(tmp_path: Path) -> None:
    for name in ("train_1", "train_2", "testA_1"):
        picture(tmp_path / f"{name}.bmp")
        picture(tmp_path / f"{name}_anno.bmp", 1)
    (tmp_path / "Grade.csv").write_bytes(
        b"name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\rtrain_1,4, benign, healthy\rtestA_1,7, malignant, poor\r"
    )
    cases = find_cases(tmp_path)
    assert names(cases) == ["testA_1", "train_1", "train_2"]
    assert cases.table["patient"].tolist()[:2] == ["7", "4"] and cases.table["label"].tolist()[:2] == ["malignant", "benign"]
    assert sum(why.startswith("an annotation") for _, why in cases.skipped) == 3
    assert set(find_truth(tmp_path, names(cases))) == set(names(cases))


def test_crag_as_it_is(tmp_path: Path) -> None:
    for part in ("train", "test"):
        picture(tmp_path / part / "Images" / f"{part}_1.png")
        picture(tmp_path / part / "Annotation" / f"{part}_1.png", 2)
    cases = find_cases(tmp_path)
    assert names(cases) == ["test_1", "train_1"] and all("Images" in str(p) for _, p in cases)
    truth = find_truth(tmp_path, names(cases))
    assert all("Annotation" in str(p) for p in truth.values())


@pytest.mark.parametrize("folder", ["masks", "Mask", "ground_truth", "labels"])
def test_mask_folders_are_known_by_name(tmp_path: Path, folder: str) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / folder / "a.png")
    assert len(find_cases(tmp_path)) == 1


def test_a_folder_that_itself_is_called_masks_can_be_input(tmp_path: Path) -> None:
    picture(tmp_path / "labels" / "a.png")
    assert len(find_cases(tmp_path / "labels")) == 1


def test_an_earlier_run_inside_the_input_is_no_input(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "out" / "figures" / "a.png")
    for name in ("run.json", "log.txt"):
        (tmp_path / "out" / name).touch()
    assert names(find_cases(tmp_path)) == ["a"]


def test_what_cannot_be_looked_at_is_named_for_pictures_as_for_files_of_any_kind(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    cases, tree = find_cases(tmp_path), find_files(tmp_path)
    assert [p for _, p in cases] == [p for p, _ in tree.files]
    assert cases.skipped == tuple((str(p.path), p.reason) for p in tree.problems) == ((str(tmp_path / "nowhere.png"), tree.problems[0].reason),)


def test_globs_lists_and_files(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "s" / f"{i}.png")
    assert len(find_cases(str(tmp_path / "s" / "[01].png"))) == 2
    assert names(find_cases(tmp_path / "s" / "2.png")) == ["2"]
    pd.DataFrame({"wsi": ["s/0.png", "s/1.png"], "mpp": [0.5, 0.25], "patient": ["p", "q"]}).to_csv(tmp_path / "l.csv", index=False)
    listed = find_cases(tmp_path / "l.csv")
    assert listed.table["mpp"].tolist() == [0.5, 0.25] and listed.table["patient"].tolist() == ["p", "q"]
    listed.table.to_parquet(tmp_path / "l.parquet")
    assert names(find_cases(tmp_path / "l.parquet")) == ["0", "1"]


def test_equal_names_in_two_folders_stay_apart(tmp_path: Path) -> None:
    picture(tmp_path / "x" / "a.png")
    picture(tmp_path / "y" / "a.png")
    assert names(find_cases(tmp_path)) == ["x_a", "y_a"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "none", "does not exist"),
        (lambda p: p, "no images in the folder"),
        (lambda p: str(p / "*.png"), "no images in the pattern"),
        (lambda p: _write(p / "a.docx", b"x"), "suffix .docx"),
        (lambda p: _write(p / "l.csv", b"a,b\n1,2\n"), "needs a column 'path'"),
        (lambda p: _write(p / "l.csv", b""), "cannot be read"),
        (lambda p: _write(p / "z.zip", b"PKnot"), "not a whole zip"),
    ],
)
def test_unusable_input_says_what_is_wrong(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_cases(make(tmp_path), unpack_to=tmp_path / "u")


def test_only_masks_is_not_input(tmp_path: Path) -> None:
    picture(tmp_path / "masks" / "a.png")
    with pytest.raises(InputError, match="1 annotation files"):
        find_cases(tmp_path)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_zip_is_unpacked_and_a_wicked_one_is_not(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as z:
        z.write(tmp_path / "a.png", "inner/ä b.png")
    assert names(find_cases(tmp_path / "good.zip", unpack_to=tmp_path / "u")) == ["ä b"]
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as z:
        z.writestr("../evil.png", b"x")
    with pytest.raises(InputError, match="written outside"):
        find_cases(tmp_path / "slip.zip", unpack_to=tmp_path / "u")
    assert not (tmp_path / "evil.png").exists()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.png", b"\0" * 2**25)
    with pytest.raises(InputError, match="bomb"):
        find_cases(tmp_path / "bomb.zip", unpack_to=tmp_path / "u")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(InputError, match="empty zip"):
        find_cases(tmp_path / "empty.zip", unpack_to=tmp_path / "u")


def test_masks_in_colour_or_saved_as_rgb_become_labels(tmp_path: Path) -> None:
    colours = np.zeros((6, 6, 3), np.uint8)
    colours[:3, :3], colours[3:, 3:] = (255, 0, 0), (0, 0, 9)
    Pillow.fromarray(colours).save(tmp_path / "m.png")
    labels = read_mask(tmp_path / "m.png")
    assert labels[5, 0] == 0 and len({labels[0, 0], labels[5, 5], 0}) == 3
    sixteen = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1000
    Pillow.fromarray(sixteen).save(tmp_path / "n.png")
    assert (read_mask(tmp_path / "n.png") == sixteen).all()


def test_real_glas_grades(data: Path) -> None:
    grades = read_grades(data / "glas")
    assert grades is not None and len(grades) == 145 and set(grades["label"]) == {"benign", "malignant"}
    cases = find_cases(data / "glas")
    assert len(cases) == 145 and cases.table["patient"].notna().all()
