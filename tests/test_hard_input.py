"""What people's folders hold besides good images, and commands that must not lose anything."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Pillow

import tacit
from conftest import save_drawings
from tacit.errors import ConfigError, InputError, OutputError, UsageError
from tacit.read.folder import find_cases, read_grades
from tacit.use.info import describe


def rule(source: object, out: Path, **options: object) -> tacit.segment:
    return tacit.segment(source, out, method="haematoxylin", **options)


def images(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "tables" / "images.csv").set_index("image")


def test_overwrite_never_deletes_what_the_run_reads(drawn: Path, tmp_path: Path) -> None:
    save_drawings(tmp_path / "x", 1)
    run = tmp_path / "run"
    rule(drawn, run, mpp=1.2)
    shutil.copytree(tmp_path / "x" / "images", run / "images")
    before = sorted(str(p) for p in run.rglob("*"))
    with pytest.raises(OutputError, match="which this run reads"):
        rule(run / "images", run, mpp=1.2, overwrite=True)
    with pytest.raises(OutputError, match="which this run reads"):
        tacit.segment(drawn, run, model=run, mpp=1.2, overwrite=True)
    with pytest.raises(InputError, match="does not exist"):
        rule(tmp_path / "typo", run, overwrite=True)
    with pytest.raises(ConfigError):
        rule(drawn, run, overwrite=True, set=["blur=3"])
    assert sorted(str(p) for p in run.rglob("*")) == before


def test_resume_leaves_a_folder_that_is_no_run_alone(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match=r"no run\.json"):
        rule(drawn, tmp_path, mpp=1.2, resume=True)
    assert (tmp_path / "report.html").read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_resume_refuses_changed_images_however_often_it_is_asked(tmp_path: Path) -> None:
    folder = save_drawings(tmp_path / "f", 2)
    rule(folder, tmp_path / "o", mpp=1.2)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    (tmp_path / "o" / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    Pillow.fromarray(np.zeros((50, 50, 3), np.uint8)).save(folder / "images" / "t0.png")
    for _ in range(3):
        with pytest.raises(OutputError, match="have changed"):
            rule(folder, tmp_path / "o", mpp=1.2, resume=True)


def test_every_image_has_its_own_spacing_and_unknown_ones_are_estimated(tmp_path: Path) -> None:
    from tacit.phantom import tissue

    for i, folder in enumerate("xyz"):
        (tmp_path / folder).mkdir()
        Pillow.fromarray(tissue.draw(np.random.default_rng(i), (300, 400), 0.6).picture).save(tmp_path / folder / "a.png")
    tifffile.imwrite(tmp_path / "m.tif", np.asarray(Pillow.open(tmp_path / "x" / "a.png")), resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    pd.DataFrame({"path": ["x/a.png", "y/a.png", "z/a.png", "m.tif"], "mpp": [0.5, 0.8, None, None]}).to_csv(tmp_path / "l.csv", index=False)
    result = rule(tmp_path / "l.csv", tmp_path / "o")
    table = images(tmp_path / "o")
    assert result.mpp_source == "mixed"
    assert table.loc["x_a", "mpp"] == pytest.approx(0.5) and table.loc["y_a", "mpp"] == pytest.approx(0.8) and table.loc["m", "mpp"] == pytest.approx(0.5)
    assert np.isnan(table.loc["z_a", "mpp"])
    given = rule(tmp_path / "l.csv", tmp_path / "g", mpp=1.0)
    assert given.mpp_source == "mixed" and images(tmp_path / "g").loc["m", "mpp"] == pytest.approx(0.5)


@pytest.mark.parametrize("bad", ["abc", -1, 0])
def test_a_list_with_a_wrong_spacing_is_named(drawn: Path, tmp_path: Path, bad: object) -> None:
    pd.DataFrame({"path": [str(drawn / "images" / "t0.png")] * 2, "mpp": [bad, 1.0]}).to_csv(tmp_path / "l.csv", index=False)
    with pytest.raises(InputError, match="expected µm per pixel"):
        rule(tmp_path / "l.csv", tmp_path / "o")


def test_a_spacing_that_makes_no_sense_is_a_row_and_no_crash(drawn: Path, tmp_path: Path) -> None:
    for mpp in (100.0, 0.01):
        with pytest.raises(InputError, match=r"none of the 4 images could be segmented.*(too coarse|are left)"):
            rule(drawn, tmp_path / f"o{mpp}", mpp=mpp)
        assert (tmp_path / f"o{mpp}" / "failures.csv").read_text().count("\n") == 5


def test_long_names_pipes_and_names_that_are_no_text(drawn: Path, tmp_path: Path) -> None:
    shutil.copy(drawn / "images" / "t0.png", tmp_path / f"{'long' * 60}.png")
    shutil.copy(drawn / "images" / "t1.png", tmp_path / "färbung 🔬 a.png")
    os.mkfifo(tmp_path / "pipe.png")
    shutil.copy(drawn / "images" / "t2.png", os.fsencode(tmp_path) + b"/\xff\xfe.png")
    cases = find_cases(tmp_path)
    assert len(cases) == 2 and any("not UTF-8" in why for _, why in cases.skipped)
    out = tmp_path / "🔬 out"
    assert rule(tmp_path, out, mpp=1.2, classes="drüse 🔬").images == 2
    assert rule(tmp_path, out, mpp=1.2, classes="drüse 🔬", resume=True).images == 2
    assert tacit.compare([out])[0]["images"] == 2


def test_a_damaged_or_empty_grade_table_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "Grade.csv").write_text("")
    assert read_grades(tmp_path) is None
    (tmp_path / "Grade.csv").write_text("name,patient,grade\na,1,x\na,2,y\nb,,z\n")
    found = read_grades(tmp_path)
    assert found is not None and found["name"].tolist() == ["a", "b"] and found["patient"].tolist() == ["1", None]


def test_a_run_is_not_its_own_input(drawn: Path, tmp_path: Path) -> None:
    rule(drawn, tmp_path / "o", mpp=1.2)
    with pytest.raises(InputError, match="OUT of a run"):
        rule(tmp_path / "o", tmp_path / "p", mpp=1.2)


def test_mask_folders_with_a_prefix(tmp_path: Path) -> None:
    for folder in ("train_images", "train_masks"):
        (tmp_path / folder).mkdir()
        Pillow.new("RGB", (20, 20)).save(tmp_path / folder / "a.png")
    assert [str(p.parent.name) for _, p in find_cases(tmp_path)] == ["train_images"]


def test_a_runs_own_config_can_be_given_back(drawn: Path, tmp_path: Path) -> None:
    rule(drawn, tmp_path / "o", mpp=1.2, set=["blur_um=3.0"])
    rule(drawn, tmp_path / "p", mpp=1.2, config=tmp_path / "o" / "config.toml")
    assert (tmp_path / "o" / "masks" / "t0.png").read_bytes() == (tmp_path / "p" / "masks" / "t0.png").read_bytes()
    assert "blur_um=3.0" in json.loads((tmp_path / "o" / "run.json").read_text())["command"]


@pytest.mark.parametrize("setting", ["um_per_px=0", "um_per_px=nan", "blur_um=-1", "instances.threshold=5", "instances=5"])
def test_settings_out_of_range_are_named(drawn: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.split("=")[0].split(".")[-1]):
        rule(drawn, tmp_path / "o", set=[setting])


@pytest.mark.parametrize("options", [{"seed": -1}, {"learn_from": 0}, {"classes": "a,b"}, {"classes": " "}])
def test_options_out_of_range_are_named(drawn: Path, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        rule(drawn, tmp_path / "o", **options)


def test_an_image_without_glands_leaves_tables_with_headers(tmp_path: Path) -> None:
    Pillow.new("RGB", (80, 90), (240, 240, 240)).save(tmp_path / "white.png")
    rule(tmp_path / "white.png", tmp_path / "o", mpp=0.62)
    table = pd.read_csv(tmp_path / "o" / "tables" / "glands.csv")
    assert len(table) == 0 and {"image", "area_px", "area_um2", "lumen_share"} <= set(table.columns)


def test_a_picture_given_as_truth_is_refused(drawn: Path, tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 255, (150, 190, 3), dtype=np.uint8)
    (tmp_path / "truth").mkdir()
    for i in range(4):
        Pillow.fromarray(big).save(tmp_path / "truth" / f"t{i}.png")
    with pytest.raises(InputError, match="looks like a picture"):
        tacit.evaluate(drawn / "masks", tmp_path / "truth")


def test_damaged_models_and_runs_are_named(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for text in ("[]", "{", '{"method": "phantom"}', '{"method": "none", "config": {}}'):
        (tmp_path / "model" / "model.json").write_text(text)
        with pytest.raises(UsageError, match=r"model\.json is damaged"):
            tacit.segment(drawn, tmp_path / "o", model=tmp_path)
    (tmp_path / "r").mkdir()
    for name in ("run.json", "log.txt"):
        (tmp_path / "r" / name).write_text("{")
    with pytest.raises(InputError, match="damaged"):
        describe(tmp_path / "r")
