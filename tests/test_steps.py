from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tacit
from tacit.errors import InputError, UsageError
from tacit.image import Image
from tacit.phantom import tissue
from tacit.prepare.contrast import clahe, equalised
from tacit.prepare.stain import estimate_stains
from tacit.prepare.steps import PRESETS, STEPS, apply, recipe
from tacit.read.nifti import read_volume, write_nifti
from tacit.read.picture import read_picture
from tacit.report.picture import png
from test_lung import chest

ROOT = Path(__file__).resolve().parents[1]


def test_a_recipe_does_its_steps_in_order_and_writes_them_down() -> None:
    image, _ = chest()
    made = apply(image, recipe("window=-500:1500, he, mip=3, length=20:nearest"))
    assert made.pixels.shape == (20, 120, 160) and made.pixels.dtype == np.uint8
    assert [h.split()[0] for h in made.history] == ["window", "histogram", "maximum", "50×120×160"]
    first = np.clip((image.pixels[7].astype(float) + 1250) / 1500, 0, 1) * 255
    assert np.array_equal(apply(image, recipe("window=-500:1500,he")).pixels[7], equalised(np.rint(first).astype(np.uint8)))


def test_of_a_colour_picture_the_lightness_alone_changes() -> None:
    import cv2

    picture = tissue.draw(np.random.default_rng(0), (96, 128), 1.0).picture
    made = apply(Image(picture), recipe("clahe=2:4")).pixels
    before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2LAB).astype(int) for p in (picture, made))
    assert np.abs(after[..., 0] - clahe(before[..., 0].astype(np.uint8), clip=2, tiles=4)).mean() < 2.5  # through 8-bit RGB and back
    assert np.abs(after[..., 1:] - before[..., 1:]).mean() < 2.5


def test_the_preset_of_the_slides_gives_what_a_covnet_takes() -> None:
    image, _ = chest()
    made = apply(image, recipe("covnet"))
    assert made.pixels.shape[1:] == (224, 224) and made.pixels.dtype == np.uint8
    assert made.spacing_mm[0] == pytest.approx(5, rel=0.02)
    assert len(made.pixels) == pytest.approx(120 / 5, abs=2)  # the drawn lungs are about 124 mm high


def test_the_lungs_alone_keep_their_place() -> None:
    image, truth = chest()
    cut = apply(image, recipe("lungs"))
    index = np.argwhere(cut.pixels > -950)[0]
    world = cut.affine @ [*index[::-1], 1.0]
    before = np.rint(np.linalg.inv(image.affine) @ world).astype(int)[:3][::-1]
    assert image.pixels[tuple(before)] == cut.pixels[tuple(index)] and truth[tuple(before)]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("shrink", "unknown"), ("window=a:b", "wants numbers"), ("he=1", "at most 0"), ("window", "needs a value"), ("gamma=1:2", "at most 1")],
)
def test_a_wrong_recipe_is_refused_before_anything_is_read(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        recipe(text)


def test_a_step_that_does_not_fit_says_what_to_do() -> None:
    image, _ = chest()
    with pytest.raises(InputError, match="put a step window"):
        apply(image, recipe("clahe"))
    with pytest.raises(InputError, match="for volumes"):
        apply(Image(np.zeros((20, 20, 3), np.uint8)), recipe("mip=3"))


def test_every_step_is_documented() -> None:
    page = (ROOT / "docs" / "prepare.md").read_text()
    for name in (*STEPS, *PRESETS, "reinhard", "macenko"):
        assert f"`{name}" in page, name


def test_pictures_and_volumes_are_written_with_their_history(tmp_path: Path) -> None:
    image, _ = chest()
    write_nifti(tmp_path / "in" / "ct.nii.gz", image)
    (tmp_path / "in" / "a.png").write_bytes(png(tissue.draw(np.random.default_rng(0), (64, 80), 1.0).picture))
    result = tacit.prepare_images(tmp_path / "in", tmp_path / "out", steps="size=32:40", mpp=1.0)
    assert (result.written, result.failed) == (2, 0)
    assert read_picture(tmp_path / "out" / "images" / "a.png").pixels.shape == (32, 40, 3)
    made = read_volume(tmp_path / "out" / "images" / "ct.nii.gz")
    assert made.pixels.shape == (50, 32, 40) and made.spacing_mm == pytest.approx((3.0, 7.5, 8.0))
    table = (tmp_path / "out" / "tables" / "prepared.csv").read_text()
    assert "64×80 to 32×40, area" in table and "50×120×160 to 50×32×40, area" in table


def test_one_item_that_does_not_fit_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    image, _ = chest()
    write_nifti(tmp_path / "in" / "ct.nii.gz", image)
    (tmp_path / "in" / "a.png").write_bytes(png(np.zeros((64, 80, 3), np.uint8)))
    result = tacit.prepare_images(tmp_path / "in", tmp_path / "out", steps="mip=3")
    assert (result.written, result.failed) == (1, 1)
    assert "is for volumes" in (tmp_path / "out" / "failures.csv").read_text()


def test_colours_are_brought_to_a_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, stains in (("in", [[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]), ("target", [[0.55, 0.78, 0.30], [0.25, 0.90, 0.35]])):
        (tmp_path / name).mkdir()
        for k in range(2):
            (tmp_path / name / f"{k}.png").write_bytes(png(tissue.draw(rng, (128, 160), 1.0, stains=np.array(stains)).picture))
    folders = {name: tmp_path / name for name in ("in", "target")}
    for step in ("reinhard", "macenko"):
        tacit.prepare_images(folders["in"], tmp_path / step, steps=step, target=folders["target"])
        folders[step] = tmp_path / step / "images"
    seen = {name: [read_picture(p).pixels for p in sorted(folder.glob("*.png"))] for name, folder in folders.items()}
    mean = {name: np.mean([p.reshape(-1, 3).mean(0) for p in pictures], 0) for name, pictures in seen.items()}
    assert np.abs(mean["reinhard"] - mean["target"]).sum() < 0.5 * np.abs(mean["in"] - mean["target"]).sum()
    stains = {name: estimate_stains(pictures) for name, pictures in seen.items()}
    assert np.abs(stains["macenko"] - stains["target"]).max() < 0.5 * np.abs(stains["in"] - stains["target"]).max()
