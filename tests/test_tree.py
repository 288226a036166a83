from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from scans import write_dicom, write_pictures
from tacit.errors import InputError
from tacit.read.folder import unpack
from tacit.read.tree import find_files, kind_of

GREY = np.zeros((3, 20, 20), np.int16)


def test_kinds_are_told_by_name_and_else_by_the_first_bytes(tmp_path: Path) -> None:
    write_pictures(tmp_path, GREY)
    write_dicom(tmp_path / "IM0001", np.zeros((4, 4), np.uint16))
    write_dicom(tmp_path / "1.2.840.99", np.zeros((4, 4), np.uint16))
    contents = {"a.nii.gz": b"x", "b.svs": b"x", "c.csv": b"x", "d.DCM": b"x", "e.zip": b"x", "f": b"", "g.exe": b"x", "DICOMDIR": b"x", "h.mhd": b"x"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = {p.name: kind for p, kind in find_files(tmp_path).files}
    assert found == {f"slice_00{k}.png": "picture" for k in range(3)} | {
        "IM0001": "dicom", "1.2.840.99": "dicom", "a.nii.gz": "volume", "b.svs": "slide", "c.csv": "table", "d.DCM": "dicom", "e.zip": "zip", "f": "empty",
        "g.exe": "other", "DICOMDIR": "other", "h.mhd": "volume",
    }  # fmt: skip


def test_links_end_and_are_named_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    write_pictures(tmp_path / "a" / "b", GREY)
    (tmp_path / "a" / "b" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "nowhere.png").symlink_to("gone.png")
    (tmp_path / "a" / ".hidden.png").write_bytes(b"x")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    tree = find_files(tmp_path)
    assert len(tree.files) == 3
    assert sorted(Path(str(p.path)).name for p in tree.problems) == ["nowhere.png", "self"]


def test_a_name_that_is_no_utf8_is_named_and_the_rest_is_found(tmp_path: Path) -> None:
    write_pictures(tmp_path, GREY)
    (tmp_path / os.fsdecode(b"bad\xff.png")).write_bytes(b"x")
    tree = find_files(tmp_path)
    assert len(tree.files) == 3 and "UTF-8" in tree.problems[0].reason
    str(tree.problems[0]).encode()


def test_one_file_an_empty_folder_and_nothing(tmp_path: Path) -> None:
    (path,) = write_pictures(tmp_path / "one", GREY[:1])
    assert find_files(path).files == ((path, "picture"),)
    (tmp_path / "empty").mkdir()
    assert find_files(tmp_path / "empty").files == ()
    with pytest.raises(InputError, match="does not exist"):
        find_files(tmp_path / "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    write_pictures(tmp_path / "good", GREY)
    (tmp_path / "shut").mkdir(mode=0)
    assert "cannot be read" in find_files(tmp_path).problems[0].reason
    assert kind_of(tmp_path / "shut" / "x") == "dicom"


def test_the_answers_of_an_earlier_run_are_no_input(tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", GREY)
    write_pictures(tmp_path / "in" / "out" / "masks" / "deep", GREY)
    for name in ("run.json", "log.txt"):
        (tmp_path / "in" / "out" / name).write_text("{}")
    assert {p.parent.name for p, _ in find_files(tmp_path / "in").files} == {"in"}


def test_zips_that_are_empty_broken_bombs_or_lead_outside_are_refused(tmp_path: Path) -> None:
    def packed(name: str, members: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for inner, content in members.items():
                archive.writestr(inner, content)
        return tmp_path / name

    good = packed("good.zip", {"ä b/1.png": b"x"})
    whole = good.read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-10])
    (tmp_path / "flip.zip").write_bytes(whole[:40] + bytes([whole[40] ^ 16]) + whole[41:])
    cases = {
        "empty zip": packed("empty.zip", {}),
        "outside": packed("up.zip", {"../evil.png": b"x"}),
        "which would be written outside": packed("root.zip", {"/evil.png": b"x"}),
        "zip bomb": packed("bomb.zip", {"a.png": bytes(2**25)}),
        "not a whole zip": tmp_path / "cut.zip",
        "cut.zip": tmp_path / "cut.zip",
        "flip.zip": tmp_path / "flip.zip",
    }
    for words, path in cases.items():
        with pytest.raises(InputError, match=words):
            unpack(path, tmp_path / "to")
    assert not (tmp_path / "evil.png").exists() and not (tmp_path / "to" / "evil.png").exists()
    assert (unpack(good, tmp_path / "to") / "ä b" / "1.png").read_bytes() == b"x"
