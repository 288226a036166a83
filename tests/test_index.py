"""An index is what was written to it: every file once, whatever happens, and never by two encoders."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Pillow
from typer.testing import CliRunner

from tacit.cli import app
from tacit.errors import InputError, OutputError, StorageError, UsageError
from tacit.phantom import tissue
from tacit.report.picture import png
from tacit.use.index import index_images
from tacit.use.index_lock import writing
from tacit.use.index_upkeep import delete_from_index, list_index
from tacit.use.store import Store

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))


def draw(place: Path, seed: int, side: int = 48) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(png(tissue.draw(np.random.default_rng(seed), (side, side), 2.0).picture))
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    for k in range(9):
        draw(place / f"{k}.png", k)
    return place


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Path:
    index_images(folder, tmp_path / "index", encoder="texture")
    return tmp_path / "index"


def slide_of(place: Path, side: int = 400, mpp: float | None = 1.0) -> Path:
    """A slide of drawn tissue, its left third glass."""
    picture = tissue.draw(np.random.default_rng(7), (side, side), 1.0).picture
    picture[:, : side // 3] = 244
    per_cm: dict[str, Any] = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    tifffile.imwrite(place, picture, tile=(128, 128), photometric="rgb", metadata=None, **per_cm)
    return place


def contents(index: Path, *columns: str) -> list[dict[str, Any]]:
    return Store.open(index).read([*columns]).to_pylist()


def files(index: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted((index / "images.lance").rglob("*")) if p.is_file()}


def test_the_same_files_again_change_nothing(folder: Path, index: Path) -> None:
    before, held = files(index), Store.open(index).vectors().copy()
    again = index_images(folder, index)
    assert (again.rows, again.added, again.there, again.in_index) == (0, 0, 9, 9)
    assert files(index) == before and np.array_equal(Store.open(index).vectors(), held)


def test_vectors_are_the_encoders_own_in_half_precision(folder: Path, index: Path) -> None:
    from tacit.read.picture import read_picture
    from tacit.use.encoder import find_encoder

    encoder, store = find_encoder("texture"), Store.open(index)
    paths = [Path(row["path"]) for row in contents(index, "path")]
    assert paths == sorted(folder.glob("*.png")) and all(p.is_absolute() for p in paths)
    assert np.array_equal(store.vectors(), encoder.features([read_picture(p) for p in paths]).astype(np.float16))
    about = store.about
    assert (about.weights_hash, about.preprocessing_hash) == (encoder.weights_hash, encoder.preprocessing_hash)
    assert (about.encoder, about.width, about.precision, about.normalisation) == ("texture", encoder.width, "fp16", {"name": "none"})


def test_more_files_are_appended_in_any_number_of_commands(folder: Path, tmp_path: Path, index: Path) -> None:
    for k in range(9):
        index_images(folder / f"{k}.png", tmp_path / "one by one", encoder="texture")
    assert np.array_equal(Store.open(tmp_path / "one by one").vectors(), Store.open(index).vectors())
    assert [r["row_id"] for r in contents(tmp_path / "one by one", "row_id")] == list(range(9))


def test_a_file_with_other_content_takes_the_place_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "in"
    shutil.copytree(folder, place)
    index_images(place, tmp_path / "i", encoder="texture")
    shutil.copy(place / "1.png", place / "2.png")
    done = index_images(place, tmp_path / "i")
    assert (done.rows, done.replaced, done.there, done.in_index) == (1, 1, 8, 9)
    rows = {Path(r["path"]).name: r for r in contents(tmp_path / "i", "path", "sha256")}
    assert rows["1.png"]["sha256"] == rows["2.png"]["sha256"] and len(rows) == 9
    assert index_images(place, tmp_path / "i").there == 9


def test_another_encoder_or_preprocessing_is_refused_with_both_hashes(folder: Path, index: Path) -> None:
    from tacit.use.encoder import find_encoder

    ours, theirs = find_encoder("texture"), find_encoder("timm:resnet10t")
    with pytest.raises(UsageError, match=f"{ours.weights_hash}.*{theirs.weights_hash}") as found:
        index_images(folder, index, encoder="timm:resnet10t")
    assert found.value.exit_code == 2
    held = Store.open(index)._table
    about = json.loads(held.schema.metadata[b"tacit"])
    from tacit.use.index import check_same
    from tacit.use.store import About

    with pytest.raises(UsageError, match=f"preprocessing 0123456789abcdef.*{ours.preprocessing_hash}"):
        check_same(About(**(about | {"preprocessing_hash": "0123456789abcdef"})), ours)
    for option, value in {"tile_um": 99.0, "normalise": "standard", "precision": "fp32"}.items():
        with pytest.raises(UsageError, match=option.replace("_", "-")):
            index_images(folder, index, **{option: value})
    assert len(Store.open(index)) == 9


def test_slides_become_tiles_of_their_tissue_with_their_places(folder: Path, tmp_path: Path) -> None:
    slide = slide_of(tmp_path / "s.svs")
    done = index_images(slide, tmp_path / "i", encoder="texture", tile_um=100.0)
    rows = contents(tmp_path / "i", "path", "slide", "row", "col", "side_px", "tiles", "mpp")
    assert done.added == 1 and done.rows == len(rows) > 6
    assert {r["slide"] for r in rows} == {"s"} and {r["tiles"] for r in rows} == {len(rows)} and {r["mpp"] for r in rows} == {1.0}
    assert all(abs(r["side_px"] - 100) <= 1 and r["col"] + 100 > 400 / 3 and max(r["row"], r["col"]) <= 301 for r in rows)
    from tacit.image import Image
    from tacit.read.slide import open_slide
    from tacit.use.encoder import find_encoder

    encoder = find_encoder("texture")
    with open_slide(slide) as opened:
        um = encoder.preprocessing["um_per_px"]
        tile = opened.tile_at(um, rows[3]["row"], rows[3]["col"], round(100 / um))
    expected = encoder.features([Image(tile).with_mpp(um, "metadata")]).astype(np.float16)
    assert np.array_equal(Store.open(tmp_path / "i").vectors()[3:4], expected)
    assert index_images(slide, tmp_path / "i").there == 1


def test_an_interrupted_slide_is_finished_and_a_slide_without_spacing_is_named(tmp_path: Path) -> None:
    slide = slide_of(tmp_path / "s.svs")
    index_images(slide, tmp_path / "i", encoder="texture", tile_um=100.0)
    whole = {tuple(r.values()) for r in contents(tmp_path / "i", "path", "row", "col")}
    Store.open(tmp_path / "i").delete("row_id % 3 = 1")  # what a kill between two commits leaves
    done = index_images(slide, tmp_path / "i")
    assert done.added == 1 and 0 < done.rows < len(whole)
    rows = contents(tmp_path / "i", "path", "row", "col")
    assert len(rows) == len(whole) and {tuple(r.values()) for r in rows} == whole
    bare = slide_of(tmp_path / "bare.svs", mpp=None)
    with pytest.raises(InputError, match=r"bare\.svs.*how many µm"):
        index_images(bare, tmp_path / "j", encoder="texture")
    with (tmp_path / "j" / "failures.csv").open(encoding="utf-8") as file:
        assert "--mpp" in next(csv.DictReader(file))["remedy"]
    assert index_images(bare, tmp_path / "j", encoder="texture", mpp=1.0, tile_um=100.0).rows > 6


def test_a_very_large_picture_is_cut_like_a_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.use.index_items.LARGE_PX", 100_000)
    draw(tmp_path / "large.png", 3, side=320)
    done = index_images(tmp_path / "large.png", tmp_path / "i", encoder="texture", mpp=1.0, tile_um=100.0)
    assert done.rows > 4 and all(r["row"] is not None for r in contents(tmp_path / "i", "row"))


def test_what_a_list_tells_of_images_is_kept_and_typed(folder: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "path": [str(folder / "0.png"), str(folder / "1.png")], "Patient ID": ["007", "8"], "Centre": ["A", None], "grade": ["benign", "malignant"],
            "mpp": [2.0, 2.0], "Age (years)": [61, None], "row_id": [5, 6], "slide": ["11", "12"],
        }
    )  # fmt: skip
    table.to_csv(tmp_path / "list.csv", index=False)
    index_images(tmp_path / "list.csv", tmp_path / "i", encoder="texture")
    first, second = contents(tmp_path / "i", "patient", "site", "label", "mpp", "age_years", "list_row_id", "slide", "row_id")
    assert first == {"patient": "007", "site": "A", "label": "benign", "mpp": 2.0, "age_years": 61.0, "list_row_id": 5.0, "slide": "11", "row_id": 0}
    assert (second["patient"], second["site"], second["age_years"]) == ("8", None, None)
    table.assign(path=[str(folder / "2.png"), str(folder / "3.png")], extra=["x", "y"]).to_parquet(tmp_path / "more.parquet")
    index_images(tmp_path / "more.parquet", tmp_path / "i")
    assert [r["extra"] for r in contents(tmp_path / "i", "extra")] == [None, None, "x", "y"]
    table.assign(path=[folder / "4.png", folder / "5.png"], **{"Age (years)": ["old", "young"]}).to_csv(tmp_path / "odd.csv", index=False)
    with pytest.raises(UsageError, match=r"'age_years' holds double.*string"):
        index_images(tmp_path / "odd.csv", tmp_path / "i")


def test_patients_may_come_later_and_change_only_themselves(folder: Path, index: Path, tmp_path: Path) -> None:
    vectors = Store.open(index).vectors().copy()
    (tmp_path / "p.csv").write_text("name,patient ID,grade (GlaS)\n" + "".join(f"{k},{k % 3},{'benign' if k % 2 else 'malignant'}\n" for k in range(9)))
    done = index_images(folder, index, patients=tmp_path / "p.csv")
    assert (done.rows, done.there, done.filled) == (0, 9, 9)
    rows = contents(index, "path", "patient", "label", "row_id")
    assert [r["patient"] for r in rows] == ["0", "1", "2"] * 3 and [r["row_id"] for r in rows] == list(range(9))
    assert np.array_equal(Store.open(index).vectors(), vectors)
    assert index_images(folder, index, patients=tmp_path / "p.csv").filled == 0
    (tmp_path / "other.csv").write_text("name,patient\nnobody,1\n")
    with pytest.raises(UsageError, match="names none of the 9 images"):
        index_images(folder, index, patients=tmp_path / "other.csv")
    (tmp_path / "torn.csv").write_text("name,patient\n1,A\n1,B\n")
    with pytest.raises(InputError, match="two patients: 'A' and 'B'"):
        index_images(folder, index, patients=tmp_path / "torn.csv")
    (tmp_path / "bare.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="column patient"):
        index_images(folder, index, patients=tmp_path / "bare.csv")


def test_one_path_twice_with_different_facts_is_a_failure_not_a_guess(folder: Path, tmp_path: Path) -> None:
    paths = [folder / "0.png", folder / "1.png", folder / "1.png", folder / "2.png", folder / "2.png"]
    pd.DataFrame({"path": paths, "patient": ["A", "B", "C", "D", "D"]}).to_csv(tmp_path / "l.csv", index=False)
    done = index_images(tmp_path / "l.csv", tmp_path / "i", encoder="texture")
    assert (done.rows, done.failed) == (2, 1)
    assert "1.png,\"the list names it twice, with patient 'B' and 'C'\",keep one of the two rows" in (tmp_path / "i" / "failures.csv").read_text()


def test_bad_pictures_are_rows_of_failures_and_exit_code_3(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "in"
    shutil.copytree(folder, place)
    (place / "bad.png").write_bytes(b"no picture")
    Pillow.new("RGB", (9, 9)).save(place / "tiny.png")
    Pillow.new("RGB", (40, 2000)).save(place / "strip.png")
    (place / "s.svs").write_bytes(b"no slide")
    done = CliRunner().invoke(app, ["index", str(place), "-o", str(tmp_path / "i"), "--encoder", "texture"])
    assert done.exit_code == 3 and "9 images added (9 rows), 0 there already, 4 failed" in done.stdout
    with (tmp_path / "i" / "failures.csv").open(encoding="utf-8") as file:
        reasons = {Path(r["file"]).name: r["reason"] for r in csv.DictReader(file)}
    assert set(reasons) == {"bad.png", "tiny.png", "strip.png", "s.svs"} and "too small" in reasons["tiny.png"] and "strip" in reasons["strip.png"]
    draw(tmp_path / "coarse.png", 1)
    with pytest.raises(InputError, match=r"at the encoder's .* px of it are left, 16 are needed"):
        index_images(tmp_path / "coarse.png", tmp_path / "j", encoder="texture", mpp=0.1)
    with pytest.raises(InputError, match="does not exist"):
        index_images(tmp_path / "nowhere", tmp_path / "k")
    assert not (tmp_path / "k").exists()


def test_a_vector_that_is_not_finite_does_not_get_in(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tacit.use import index as module

    known = module.find_encoder("texture")
    monkeypatch.setattr(module, "find_encoder", lambda *a, **b: replace(known, embed=lambda pictures: 1e5 * (1 + known.embed(pictures))))
    with pytest.raises(InputError, match="not finite"):
        index_images(folder / "0.png", tmp_path / "i", encoder="texture")
    assert index_images(folder / "0.png", tmp_path / "j", encoder="texture", precision="fp32").rows == 1
    assert Store.open(tmp_path / "j").vectors().dtype == np.float32


def test_normalise_standard_keeps_the_first_commands_mean_and_sd(tmp_path: Path) -> None:
    from tacit.use.encoder import find_encoder

    for k in range(40):
        draw(tmp_path / "in" / f"{k:02d}.png", k)
    index_images(tmp_path / "in", tmp_path / "raw", encoder="timm:resnet10t")
    index_images(tmp_path / "in", tmp_path / "i", encoder="timm:resnet10t", normalise="standard", precision="fp32")
    raw = Store.open(tmp_path / "raw").vectors().astype(np.float64)
    sd = np.where(raw.std(0) > 0, raw.std(0), 1)
    assert np.allclose(Store.open(tmp_path / "i").vectors(), (raw - raw.mean(0)) / sd, atol=0.05)
    draw(tmp_path / "new.png", 99)
    before = Store.open(tmp_path / "i").about
    index_images(tmp_path / "new.png", tmp_path / "i")
    assert Store.open(tmp_path / "i").about == before and find_encoder("timm:resnet10t").width == len(before.normalisation["mean"])
    with pytest.raises(UsageError, match="32 are needed"):
        index_images(tmp_path / "new.png", tmp_path / "few", encoder="texture", normalise="standard")


def test_deleting_by_path_glob_and_column(folder: Path, tmp_path: Path) -> None:
    pd.DataFrame({"path": [folder / f"{k}.png" for k in range(8)], "patient": list("AABBCCDD"), "age": range(8)}).to_csv(tmp_path / "l.csv", index=False)
    index = tmp_path / "i"
    index_images(tmp_path / "l.csv", index, encoder="texture")
    assert delete_from_index(index, ["patient=A"]) == 2 and delete_from_index(index, [str(folder / "2.png"), "age=5"]) == 2
    assert delete_from_index(index, [str(folder / "[67].png")]) == 2
    assert [Path(r["path"]).name for r in contents(index, "path")] == ["3.png", "4.png"]
    for what in ("patient=Z", str(folder / "0.png"), "nothing*.png"):
        with pytest.raises(InputError, match="fits no row"):
            delete_from_index(index, [what])
    with pytest.raises(UsageError, match="age holds numbers"):
        delete_from_index(index, ["age=old"])
    done = CliRunner().invoke(app, ["index", str(index), "--delete", "age=3", "--delete", "age=4", "--json"])
    assert json.loads(done.stdout) == {"deleted": 2} and list_index(index)["rows"] == 0
    assert index_images(tmp_path / "l.csv", index).rows == 8


def test_listing_says_what_made_it_and_what_it_holds(folder: Path, index: Path) -> None:
    said = json.loads(CliRunner().invoke(app, ["index", str(index), "--list", "--json"]).stdout)
    assert said["rows"] == 9 and said["encoder"] == "texture" and said["approximate"] is False and said["normalisation"] == "none"
    assert said["files"][0] == {"path": str(folder / "0.png"), "slide": None, "patient": None, "site": None, "label": None, "rows": 1}
    shown = CliRunner().invoke(app, ["index", "--list", str(index)]).stdout
    assert said["weights_hash"] in shown and "8.png" in shown
    told = json.loads(CliRunner().invoke(app, ["info", str(index), "--json"]).stdout)
    assert (told["kind"], told["rows"], told["files"]) == ("index", 9, 9)
    for words in (["index", str(folder)], ["index", str(index), "--list", "-o", "x"], ["index", str(index), "--list", "--delete", "a"]):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)


def test_a_folder_that_is_no_index_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.docx.*no index"):
        index_images(folder, tmp_path / "mine", encoder="texture")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.docx"]
    with pytest.raises(OutputError, match="is a file"):
        index_images(folder, folder / "0.png", encoder="texture")
    for place, said in ((tmp_path / "mine", "no index of Tacit"), (tmp_path / "nothing", "does not exist")):
        with pytest.raises(InputError, match=said):
            Store.open(place)
    assert not (tmp_path / "nothing").exists()


def test_a_foreign_table_and_a_damaged_one_are_named(index: Path, tmp_path: Path) -> None:
    import lancedb
    import pyarrow as pa

    lancedb.connect(str(tmp_path / "other")).create_table("images", pa.table({"vector": [[1.0, 2.0]]}))
    with pytest.raises(InputError, match="no index of Tacit"):
        Store.open(tmp_path / "other")
    piece = next((index / "images.lance" / "data").iterdir())
    whole = piece.read_bytes()
    piece.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputError, match="damaged"):
        Store.open(index).vectors()
    piece.unlink()
    with pytest.raises(InputError, match="damaged"):
        Store.open(index).vectors()
    for manifest in (index / "images.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"junk" * 50)
    with pytest.raises(InputError, match="damaged"):
        Store.open(index)


def test_one_writer_at_a_time_and_readers_are_not_locked_out(folder: Path, index: Path) -> None:
    with writing(index):
        with pytest.raises(OutputError, match="written by another process"):
            index_images(folder, index)
        assert Store.open(index).vectors().shape[0] == 9
    assert index_images(folder, index).there == 9


def test_ctrl_c_ends_with_what_was_begun_and_says_how_to_go_on(tmp_path: Path) -> None:
    for k in range(150):
        draw(tmp_path / "in" / f"{k:03d}.png", k % 7, side=64)
    words = [sys.executable, "-m", "tacit", "index", str(tmp_path / "in"), "-o", str(tmp_path / "i"), "--encoder", "texture"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (tmp_path / "i" / ".lock").exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and said.strip() == "tacit: interrupted; what was finished is saved, repeat the command to go on"
    held = len(Store.open(tmp_path / "i")) if (tmp_path / "i" / "images.lance").exists() else 0
    done = index_images(tmp_path / "in", tmp_path / "i", encoder="texture")
    assert held < 150 and (done.there, done.rows, done.in_index) == (held, 150 - held, 150)


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    import torture_index

    folder = torture_index.make(tmp_path / "in", pictures=20, side=400)
    whole, seconds = torture_index.unbroken(folder, tmp_path / "whole")
    assert len(whole) > 25
    kills, luck = 0, random.Random(1)
    while kills < 3:
        kills += not torture_index.killed(folder, tmp_path / "broken", luck, 0.5 * seconds)
    torture_index.unbroken(folder, tmp_path / "broken")
    assert torture_index.rows(tmp_path / "broken") == whole


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_full_disk_is_named_and_what_was_written_stays(folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        with pytest.raises(StorageError, match="the disk is full; free space and repeat the command"):
            index_images(folder, disk / "i", encoder="texture", commit_rows=1)
        held = len(Store.open(disk / "i"))
        assert len(Store.open(disk / "i").vectors()) == held and 1 <= held < 9
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        done = index_images(folder, disk / "i")
        assert (done.there, done.added, done.in_index) == (held, 9 - held, 9)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # LanceDB holds files open


def test_pieces_are_joined_when_there_are_many(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tacit.use.store.MANY_PIECES", 5)
    index_images(folder, tmp_path / "i", encoder="texture", commit_rows=1)
    assert len(list((tmp_path / "i" / "images.lance" / "data").iterdir())) >= 1
    store = Store.open(tmp_path / "i")
    assert len(store) == 9 and store.about.encoder == "texture" and [r["row_id"] for r in contents(tmp_path / "i", "row_id")] == list(range(9))


def test_a_zip_and_a_glob_and_wrong_options(folder: Path, tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "z"), "zip", folder)
    assert index_images(tmp_path / "z.zip", tmp_path / "i", encoder="texture").rows == 9
    assert index_images(str(folder / "[0-2].png"), tmp_path / "j", encoder="texture").rows == 3
    for options in ({"mpp": -1.0}, {"tile_um": 1.0}, {"normalise": "odd"}, {"precision": "fp8"}, {"encoder": "mystery"}, {"commit_rows": 0}):
        with pytest.raises(UsageError):
            index_images(folder, tmp_path / "k", **{"encoder": "texture", **options})
