"""The main job from end to end, as a person runs it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import tacit
from conftest import TINY, TINY_MSSG, save_drawings
from tacit.errors import ConfigError, InputError, MissingError, OutputError, UsageError
from tacit.read.folder import read_mask

PRODUCTS = [
    "config.toml",
    "failures.csv",
    "figures",
    "geojson",
    "log.txt",
    "masks",
    "metrics.csv",
    "model",
    "probability",
    "report.html",
    "run.json",
    "tables",
    "checkpoints",
]


def command(*words: object, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "tacit", *map(str, words)], capture_output=True, text=True, check=False)
    if check is not None:
        assert done.returncode == check, done.stderr + done.stdout
    return done


def mode_and_size(path: Path) -> tuple[str, tuple[int, int]]:
    with Pillow.open(path) as file:
        return file.mode, file.size


def sets(tiny: list[str]) -> list[str]:
    return [word for s in tiny for word in ("--set", s)]


@pytest.fixture(scope="module")
def learnt(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learnt") / "out"
    tacit.segment(drawn, out, mpp=1.2, set=TINY)
    return out


def test_out_holds_every_promised_product(learnt: Path, drawn: Path) -> None:
    assert sorted(p.name for p in learnt.iterdir()) == sorted(PRODUCTS)
    record = json.loads((learnt / "run.json").read_text())
    assert record["status"] == "finished" and record["ok"] == 4 and record["failed"] == 0 and len(record["inputs"]) == 4
    for i in range(4):
        assert mode_and_size(learnt / "masks" / f"t{i}.png") == ("I;16", (190, 150))
        labels = read_mask(learnt / "masks" / f"t{i}.png")
        features = json.loads((learnt / "geojson" / f"t{i}.geojson").read_text())["features"]
        assert len(features) == labels.max() == len(np.unique(labels[labels > 0]))
        assert mode_and_size(learnt / "probability" / f"t{i}.png") == ("L", (190, 150))
    with (learnt / "tables" / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["image"] for r in rows] == [f"t{i}" for i in range(4)] and float(rows[0]["glands_per_mm2"]) >= 0


def test_the_page_is_one_file_with_the_images_and_no_address(learnt: Path) -> None:
    page = (learnt / "report.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "t0" in page and "Research use only" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert 'id="outlines"' in page and "What failed" in page


def test_applying_gives_the_masks_of_the_run_that_learnt(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    tacit.segment(drawn, tmp_path / "o", model=learnt, mpp=1.2)
    for i in range(4):
        assert (tmp_path / "o" / "masks" / f"t{i}.png").read_bytes() == (learnt / "masks" / f"t{i}.png").read_bytes()


def test_truth_never_reaches_learning(drawn: Path, tmp_path: Path) -> None:
    """Masks present, absent and scrambled give equal weights, whatever the method."""
    for method, tiny in (("phantom", TINY), ("mssg", TINY_MSSG)):
        found = []
        grades = "name,patient,grade\n" + "\n".join(f"t{i},p{i % 2},benign" for i in range(4))
        for kind in ("present", "absent", "scrambled"):
            folder = tmp_path / method / kind
            shutil.copytree(drawn, folder)
            (folder / "Grade.csv").write_text(grades)
            for i in range(4):
                shutil.copy(folder / "masks" / f"t{i}.png", folder / "images" / f"t{i}_anno.png")
            if kind == "absent":
                shutil.rmtree(folder / "masks")
                (folder / "Grade.csv").unlink()
                for path in (folder / "images").glob("*_anno.png"):
                    path.unlink()
            elif kind == "scrambled":
                (folder / "Grade.csv").write_text(grades.replace("benign", "malignant"))
                for path in [*(folder / "masks").iterdir(), *(folder / "images").glob("*_anno.png")]:
                    Pillow.fromarray(np.random.default_rng(0).integers(0, 9, (150, 190)).astype(np.uint16)).save(path)
            tacit.segment(folder, tmp_path / method / f"{kind}-out", method=method, mpp=1.2, set=tiny)
            found.append((tmp_path / method / f"{kind}-out" / "model" / "weights.safetensors").read_bytes())
        assert found[0] == found[1] == found[2]


def test_killed_while_learning_and_resumed_is_bit_equal(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = ["segment", str(drawn), "-o", str(out), "--mpp", "1.2", *sets([*TINY, "train.checkpoint_every=2", "student.checkpoint_every=2"])]
    whole = tmp_path / "whole"
    command("segment", drawn, "-o", whole, "--mpp", 1.2, *sets([*TINY, "train.checkpoint_every=2", "student.checkpoint_every=2"]))
    process = subprocess.Popen([sys.executable, "-m", "tacit", *words])
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "teacher-2" / "last.safetensors").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    command(*words, check=2)  # not empty
    command(*words, "--resume")
    for name in ("model/weights.safetensors", "masks/t0.png", "tables/glands.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    before = (out / "run.json").read_bytes()
    command(*words, "--resume")  # finished: nothing is missing, nothing is done again
    assert (out / "run.json").read_bytes() == before


def test_ctrl_c_says_so_and_saves(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [sys.executable, "-m", "tacit", "segment", str(drawn), "-o", str(out), "--mpp", "1.2", *sets([*TINY, "train.steps=2000"])]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while not (out / "log.txt").exists():
        time.sleep(0.05)
    time.sleep(8)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in errors and "Traceback" not in errors
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"


def test_bad_images_are_rows_and_the_good_ones_come_out_as_without_them(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(drawn / "images", folder)
    (folder / "bad empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "t0.png").read_bytes()[:900])
    Pillow.new("RGB", (1, 1)).save(folder / "one.png")
    (folder / "notes.txt").write_text("no image")
    done = command("segment", folder, "-o", tmp_path / "o", "--model", learnt, "--mpp", 1.2, check=3)
    assert "failures.csv" in done.stdout
    with (tmp_path / "o" / "failures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {Path(r["file"]).name for r in rows} == {"bad empty.png", "cut.png", "one.png"} and all(r["reason"] and r["remedy"] for r in rows)
    for i in range(4):
        assert (tmp_path / "o" / "masks" / f"t{i}.png").read_bytes() == (learnt / "masks" / f"t{i}.png").read_bytes()


def test_sixteen_bit_clear_and_palette_images_work(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    with Pillow.open(drawn / "images" / "t0.png") as file:
        base = file.convert("RGB")
    folder = tmp_path / "kinds"
    folder.mkdir()
    base.convert("RGBA").save(folder / "rgba.png")
    base.quantize(64).save(folder / "palette.png")
    base.convert("CMYK").save(folder / "cmyk.tif")
    Pillow.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257).save(folder / "sixteen.png")
    tacit.segment(folder, tmp_path / "o", model=learnt, mpp=1.2)
    assert len(list((tmp_path / "o" / "masks").iterdir())) == 4
    assert (tmp_path / "o" / "masks" / "rgba.png").read_bytes() == (learnt / "masks" / "t0.png").read_bytes()


def test_without_spacing_micrometres_stay_empty_and_everything_says_estimated(drawn: Path, tmp_path: Path) -> None:
    result = tacit.segment(drawn, tmp_path / "o", method="haematoxylin")
    assert result.mpp_source == "estimated"
    with (tmp_path / "o" / "tables" / "glands.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows and all(r["area_um2"] == "" and float(r["area_px"]) > 0 for r in rows)
    assert json.loads((tmp_path / "o" / "model" / "model.json").read_text())["spacing_source"] == "estimated"
    assert "estimated from nucleus size" in (tmp_path / "o" / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "magic"}, UsageError, "known are phantom"),
        ({"budget": "huge"}, UsageError, "fast, full"),
        ({"mpp": -1.0}, UsageError, "micrometres per pixel"),
        ({"set": ["train.epoch=3"]}, ConfigError, r"nearest known one is 'train\.epochs'"),
        ({"phantom": "spleen"}, UsageError, "known are tissue"),
        ({"device": "tpu"}, UsageError, "known are cpu"),
        ({"threads": 0}, UsageError, "1 or more"),
        ({"model": "nowhere"}, MissingError, r"no model\.json"),
        ({"config": "none.toml"}, ConfigError, "cannot read"),
    ],
)
def test_a_wrong_word_is_named_and_nothing_is_written(drawn: Path, tmp_path: Path, options, error, words: str) -> None:
    with pytest.raises(error, match=words):
        tacit.segment(drawn, tmp_path / "o", **options)
    assert not (tmp_path / "o").exists() or list((tmp_path / "o").iterdir()) == []


def test_exit_codes_are_those_of_the_tree(drawn: Path, learnt: Path, tmp_path: Path) -> None:
    for words, code in (
        (("segment", tmp_path / "none", "-o", tmp_path / "a"), 4),
        (("segment", drawn, "-o", learnt), 2),
        (("segment", drawn, "-o", tmp_path / "b", "--methd", "x"), 2),
        (("segment", drawn, "-o", tmp_path / "c", "--model", tmp_path / "none"), 5),
        (("evaluate", tmp_path, drawn / "masks"), 4),
    ):
        done = command(*words, check=code)
        assert done.stderr.startswith("tacit: ") and done.stderr.count("\n") == 1 and not done.stdout


def test_a_folder_that_may_not_be_written_is_named(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        tacit.segment(drawn, tmp_path / "file", method="haematoxylin")


def test_an_input_of_bad_images_only_is_exit_four(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(InputError, match="none of the 1 images"):
        tacit.segment(tmp_path / "x.png", tmp_path / "o", method="haematoxylin")


def test_evaluate_scores_and_names_what_does_not_fit(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn / "masks", tmp_path / "masks")
    Pillow.new("L", (5, 5)).save(tmp_path / "masks" / "t1.png")
    (tmp_path / "masks" / "t2.png").unlink()
    done = command("evaluate", learnt / "masks", tmp_path / "masks", "--task", "segment", "--json", check=3)
    result = json.loads(done.stdout)
    assert result["images"] == 2 and result["missing"] == ["t2"] and "5×5" in result["failures"][0]["reason"]
    perfect = tacit.evaluate(drawn / "masks", drawn / "masks")
    assert perfect["figures"]["miou"] == 1 and perfect["figures"]["object_f1"] == 1


def test_compare_puts_runs_side_by_side_and_refuses_other_images(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    tacit.segment(drawn, tmp_path / "h", method="haematoxylin", mpp=1.2)
    tacit.evaluate(tmp_path / "h" / "masks", drawn / "masks")
    rows = tacit.compare([learnt, tmp_path / "h"])
    assert [r["method"] for r in rows] == ["phantom", "haematoxylin"] and rows[1]["miou"] > 0
    other = save_drawings(tmp_path / "other", 2, seed=9)
    tacit.segment(other, tmp_path / "x", method="haematoxylin", mpp=1.2)
    with pytest.raises(UsageError, match="only in the"):
        tacit.compare([learnt, tmp_path / "x"])


def test_phantom_draws_what_segment_and_evaluate_read(tmp_path: Path) -> None:
    command("phantom", "tissue", "-n", 3, "--height", 120, "--width", 150, "-o", tmp_path / "p")
    assert mode_and_size(tmp_path / "p" / "figures" / "sheet.png")[1][0] > 300
    result = tacit.segment(tmp_path / "p" / "images", tmp_path / "o", method="haematoxylin", mpp=1.0)
    assert result.images == 3
    assert tacit.evaluate(tmp_path / "o" / "masks", tmp_path / "p" / "masks")["images"] == 3


def test_info_and_doctor(learnt: Path, drawn: Path) -> None:
    assert "150" in command("info", drawn / "images" / "t0.png").stdout
    assert json.loads(command("info", learnt, "--json").stdout)["status"] == "finished"
    assert json.loads(command("info", drawn, "--json").stdout)["images"] == 4
    assert json.loads(command("doctor", "--json").stdout)["healthy"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_a_disk_that_fills_up_is_named_and_the_run_can_go_on(learnt: Path, drawn: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=120k", "none", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        done = command("segment", drawn, "-o", disk / "o", "--model", learnt, "--mpp", 1.2, check=1)
        assert "disk is full" in done.stderr and done.stderr.count("\n") == 1
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        command("segment", drawn, "-o", disk / "o", "--model", learnt, "--mpp", 1.2, "--resume")
        assert (disk / "o" / "masks" / "t3.png").read_bytes() == (learnt / "masks" / "t3.png").read_bytes()
        assert not list((disk / "o").rglob("*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
