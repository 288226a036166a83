"""The lung U-Net: learns from masks given or made, answers alike when loaded, never looks for masks, and says what it was."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tacit.config import build, parse_assignments
from tacit.errors import ConfigError, InputError, MissingError, OutputError, UsageError
from tacit.image import Image
from tacit.learn.lung_unet import LungUnet, LungUnetConfig, lesson_slices, slice_batches
from tacit.learn.workshop import Workshop
from tacit.parts.weights import load_into, save_tensors
from tacit.phantom.opacity import draw_opacities
from tacit.prepare.lung import LEFT, RIGHT, find_lungs
from tacit.read.nifti import read_volume, write_nifti
from tacit.use.lungs import lungs
from test_lung import chest, dice

TINY = ["network.width=4", "network.depth=2", "mm_per_px=5.0", "size=20", "slices=12", "train.epochs=2", "train.steps=60", "train.batch=4"]
TINIEST = [*TINY[:5], "train.epochs=1", "train.steps=6", "train.batch=2", "train.checkpoint_every=3"]


def unet(assignments: list[str] = TINY) -> LungUnet:
    return LungUnet(build(LungUnetConfig, parse_assignments(assignments)))


def moved(image: Image, truth: np.ndarray, by: int) -> tuple[Image, np.ndarray]:
    """Another chest: noisier, and shifted in its field of view."""
    noise = 20 * np.random.default_rng(by + 9).standard_normal(image.shape)
    return replace(image, pixels=np.int16(np.roll(image.pixels, by, 1) + noise)), np.roll(truth, by, 1)


@pytest.fixture(scope="module")
def taught() -> LungUnet:
    image, truth = chest()
    return unet().fit([(image, truth), moved(image, truth, 3)], Workshop())


def test_learnt_on_drawn_chests_it_finds_the_lungs_of_another(taught: LungUnet) -> None:
    image, truth = moved(*chest(), -4)
    found = taught.find(image)
    assert dice(found.mask > 0, truth > 0) > 0.93
    for side, litres in ((RIGHT, found.right_litres), (LEFT, found.left_litres)):
        assert dice(found.mask == side, truth == side) > 0.9
        assert litres == pytest.approx((found.mask == side).sum() * 12e-6)


def test_the_answer_lies_in_the_images_own_axes(taught: LungUnet) -> None:
    image, _ = chest()
    assert image.affine is not None
    matrix = image.affine.copy()
    matrix[:, 3] += matrix[:, 0] * (image.shape[2] - 1)
    matrix[:, 0] *= -1
    turned = matrix[:, [2, 0, 1, 3]]
    other = replace(image, pixels=np.ascontiguousarray(image.pixels[:, :, ::-1].transpose(1, 2, 0)), spacing_mm=(2.0, 2.0, 3.0), affine=turned)
    assert np.array_equal(taught.find(other).mask, taught.find(image).mask[:, :, ::-1].transpose(1, 2, 0))


def test_tiles_do_not_change_the_mask(taught: LungUnet) -> None:
    image, _ = chest()
    whole = taught.find(image).mask
    taught.config, kept = taught.config.model_copy(update={"tile": 12}), taught.config
    tiled = taught.find(image).mask
    taught.config = kept
    assert (whole != tiled).mean() < 1e-5  # a voxel at .5 may round either way


def test_the_loss_falls() -> None:
    image, truth = chest()
    shop = Workshop()
    unet().fit([(image, truth)], shop)
    curve = [v for (_, _, name), v in shop.curves.rows.items() if name == "loss"]
    assert np.mean(curve[-3:]) < 0.7 * np.mean(curve[:3])


def weights(seed: int = 0, assignments: list[str] = TINIEST, **shop: Any) -> dict[str, torch.Tensor]:
    image, truth = chest()
    return unet(assignments).fit([(image, truth)], Workshop(seed, **shop)).state_dict()


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def test_same_seed_same_weights_and_another_seed_others() -> None:
    assert equal(weights(), weights()) and not equal(weights(), weights(seed=1))


def test_a_run_killed_and_resumed_ends_with_equal_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tacit.learn.lung_unet as module

    whole = slice_batches

    def breaking(*args: Any) -> Any:
        batch = whole(*args)

        def at(step: int) -> Any:
            if step == 4:
                raise RuntimeError("killed")
            return batch(step)

        return at

    monkeypatch.setattr(module, "slice_batches", breaking)
    with pytest.raises(RuntimeError, match="killed"):
        weights(folder=tmp_path)
    monkeypatch.setattr(module, "slice_batches", whole)
    assert equal(weights(folder=tmp_path), weights())


def test_saved_and_loaded_answers_alike(taught: LungUnet, tmp_path: Path) -> None:
    save_tensors(tmp_path / "w.safetensors", taught.state_dict())
    other = LungUnet(taught.config)
    load_into(other, tmp_path / "w.safetensors")
    image, _ = chest()
    assert np.array_equal(taught.find(image).mask, other.find(image).mask)


def test_only_the_slices_asked_for_are_kept_most_of_them_of_lung() -> None:
    image, truth = chest()
    c = build(LungUnetConfig, {"slices": 8})
    lessons = lesson_slices(image, truth, c)
    assert len(lessons) == 8 and sum(bool(s.target.any()) for s in lessons) == 6
    assert {s.grey.shape for s in lessons} == {(96, 128)} and lessons[0].grey.dtype == lessons[0].target.dtype == np.uint8
    assert len(lesson_slices(image, truth, build(LungUnetConfig, {"slices": 500}))) == len(image.pixels)


def test_what_cannot_be_learnt_from_is_refused_by_name() -> None:
    image, truth = chest()
    with pytest.raises(InputError, match="no volume with a mask"):
        unet().fit([], Workshop())
    with pytest.raises(InputError, match="spacing and a mask of its shape"):
        lesson_slices(image, truth[1:], LungUnetConfig())
    with pytest.raises(InputError, match="not finite"):
        lesson_slices(replace(image, pixels=np.full(image.shape, np.nan, np.float32)), truth, LungUnetConfig())
    with pytest.raises(InputError, match="one channel"):
        unet(["network.channels_in=3"])


def test_opacities_are_drawn_inside_the_lungs_only() -> None:
    image, truth = chest()
    plane, lung = image.pixels[25], truth[25] > 0
    drawn = draw_opacities(np.random.default_rng(0), plane, lung, 2.0)
    assert np.array_equal(drawn[~lung], plane[~lung]) and drawn[lung].mean() > plane[lung].mean() + 20
    assert np.array_equal(drawn, draw_opacities(np.random.default_rng(0), plane, lung, 2.0))
    assert np.array_equal(draw_opacities(np.random.default_rng(0), plane, lung & False, 2.0), plane)


# The job: tacit lungs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """scans/ with two drawn chests."""
    image, truth = chest()
    for name, by in (("a", 0), ("b", 3)):
        write_nifti(tmp_path / "scans" / f"{name}.nii.gz", moved(image, truth, by)[0])
    return tmp_path


def put_masks(place: Path, kind: str) -> None:
    image, truth = chest()
    for name, by in (("a", 0), ("b", 3)):
        mask = moved(image, truth, by)[1]
        mask = np.random.default_rng(0).permuted(mask, axis=0) if kind == "scrambled" else mask
        write_nifti(place / f"{name}.nii.gz", replace(image, pixels=mask))


UNDER = [f"unet.{a}" for a in (*TINY[:5], "train.epochs=1", "train.steps=40", "train.batch=4")]  # enough to find some lung


def test_masks_nearby_change_nothing_that_is_learnt_without_them(folder: Path) -> None:
    found = []
    for kind in ("absent", "present", "scrambled"):
        if kind != "absent":
            put_masks(folder / "masks", kind)
            put_masks(folder / "lungs", kind)
        lungs(folder / "scans", folder / kind, learn=True, set=UNDER)
        found.append((folder / kind / "model" / "weights.safetensors").read_bytes())
    assert found[0] == found[1] == found[2]
    lungs(folder / "scans", folder / "given", learn=True, masks=folder / "masks", set=UNDER)
    assert (folder / "given" / "model" / "weights.safetensors").read_bytes() != found[0]


def test_learn_writes_the_networks_masks_and_a_later_run_applies_it(folder: Path) -> None:
    put_masks(folder / "masks", "present")
    (folder / "masks" / "b.nii.gz").unlink()  # one of two is enough
    done = lungs(folder / "scans", folder / "o", learn=True, masks=folder / "masks", set=[f"unet.{a}" for a in TINY])
    assert set(done.litres) == {"a", "b"} and done.failed == 0
    truth = chest()[1]
    assert dice(read_volume(folder / "o" / "masks" / "a.nii.gz").pixels > 0, truth > 0) > 0.9
    assert json.loads((folder / "o" / "model" / "model.json").read_text())["method"] == "lung-unet"
    assert "given" in (folder / "o" / "model" / "card.md").read_text()
    again = lungs(folder / "scans" / "b.nii.gz", folder / "p", model=folder / "o")
    assert again.litres == {"b": done.litres["b"]}
    with (folder / "p" / "tables" / "lungs.csv").open() as file:
        assert [r["method"] for r in csv.DictReader(file)] == ["lung-unet"]
    assert "unet" not in (folder / "p" / "config.toml").read_text()
    assert lungs(folder / "scans", folder / "o", learn=True, masks=folder / "masks", set=[f"unet.{a}" for a in TINY], resume=True).litres == done.litres


@pytest.mark.parametrize("learn", [False, True])
def test_a_resumed_run_whose_volumes_or_masks_have_changed_is_refused(folder: Path, learn: bool) -> None:
    options: dict[str, Any] = {"learn": True, "masks": folder / "masks", "set": UNDER} if learn else {}
    put_masks(folder / "masks", "present")
    first = lungs(folder / "scans", folder / "o", **options)
    assert lungs(folder / "scans", folder / "o", **options, resume=True).litres == first.litres
    changed = folder / ("masks" if learn else "scans") / "a.nii.gz"
    write_nifti(changed, moved(*chest(), 5)[0])
    with pytest.raises(OutputError, match="have changed"):
        lungs(folder / "scans", folder / "o", **options, resume=True)


def test_the_warnings_of_a_finished_run_come_back(folder: Path) -> None:
    first = lungs(folder / "scans", folder / "o", set=["plausible_litres=[50.0, 60.0]"])
    assert len(first.warnings) == 2 and first.warnings[0].startswith("a: ")
    assert lungs(folder / "scans", folder / "o", set=["plausible_litres=[50.0, 60.0]"], resume=True) == first


def test_without_learning_morphology_answers_and_says_so(folder: Path) -> None:
    lungs(folder / "scans", folder / "o", set=["opening=1"])
    lungs(folder / "scans", folder / "again", config=folder / "o" / "config.toml")
    assert "morphology" in (folder / "o" / "tables" / "lungs.csv").read_text() and not (folder / "o" / "model").exists()
    wanted = find_lungs(read_volume(folder / "scans" / "a.nii.gz")).mask
    assert np.array_equal(read_volume(folder / "again" / "masks" / "a.nii.gz").pixels, wanted)


def test_masks_that_do_not_fit_are_rows_of_failures(folder: Path) -> None:
    image, truth = chest()
    write_nifti(folder / "masks" / "a.nii.gz", replace(image, pixels=truth[:-1]))
    assert image.affine is not None
    write_nifti(folder / "masks" / "b.nii.gz", replace(image, pixels=truth, affine=image.affine + 9 * np.eye(4, k=3)))
    with pytest.raises(InputError, match="no volume has a mask to learn from"):
        lungs(folder / "scans", folder / "o", learn=True, masks=folder / "masks", set=UNDER)
    text = (folder / "o" / "failures.csv").read_text()
    assert "49, 120, 160" in text and "lies elsewhere" in text


def test_a_mask_whose_axes_point_elsewhere_is_turned_to_its_volume(folder: Path) -> None:
    put_masks(folder / "masks", "present")
    lungs(folder / "scans", folder / "o", learn=True, masks=folder / "masks", set=UNDER)
    for path in (folder / "masks").iterdir():
        mask = read_volume(path)
        matrix = mask.affine.copy()
        matrix[:, 3] += matrix[:, 0] * (mask.shape[2] - 1)
        matrix[:, 0] *= -1
        write_nifti(path, replace(mask, pixels=mask.pixels[:, :, ::-1], affine=matrix))
    lungs(folder / "scans", folder / "p", learn=True, masks=folder / "masks", set=UNDER)
    one, other = ((folder / o / "model" / "weights.safetensors").read_bytes() for o in "op")
    assert one == other


def test_choices_that_do_not_go_together_are_refused(folder: Path) -> None:
    scans, out = folder / "scans", folder / "o"
    for wrong, words in (
        ({"learn": True, "model": out}, "one of them"),
        ({"masks": scans}, "wants --learn"),
        ({"learn": True, "masks": folder / "none"}, "no such folder"),
        ({"learn": True, "seed": -1}, "seed"),
        ({"set": ["unet.size=20"]}, "want --learn"),
    ):
        with pytest.raises(UsageError, match=words):
            lungs(scans, out, **wrong)  # type: ignore[arg-type]
    with pytest.raises(MissingError, match="no model"):
        lungs(scans, out, model=folder)
    with pytest.raises(ConfigError, match=r"unet\.mm_per_px"):
        lungs(scans, out, learn=True, set=["unet.mm_per_pixel=3"])
    with pytest.raises(OutputError, match="would delete"):
        lungs(scans, folder, learn=True, masks=scans, overwrite=True)
