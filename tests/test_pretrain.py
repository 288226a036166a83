from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tacit
from tacit.errors import ConfigError, InputError, OutputError, UsageError
from tacit.learn.byol import ByolConfig
from tacit.learn.pretraining import METHODS, view_batches, views_of
from tacit.learn.sources import Pictures
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.weights import save_tensors
from tacit.phantom import tissue
from tacit.read.picture import read_picture
from tacit.report.picture import embedded, png
from tacit.use.encoder import find_encoder
from tacit.use.pretrain import PretrainResult

TINY = ["backbone.name=resnet10t", "size=32", "hidden=32", "projection=16", "train.batch=4", "train.epochs=2", "train.checkpoint_every=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tissue")
    for k in range(10):
        (place / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (72, 96), 2.0).picture))
    return place


def weights(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


def test_a_folder_becomes_features_and_the_encoder_can_be_used_elsewhere(folder: Path, tmp_path: Path) -> None:
    result = tacit.pretrain(folder, tmp_path / "a", preset="histology", set=TINY)
    assert (result.images, result.failed) == (10, 0) and 0 < result.loss < 4.5 and result.rank > 1
    for name in ("report.html", "figures/views.png", "figures/augmentations.png", "metrics.csv", "model/model.json", "model/card.md", "run.json"):
        assert (tmp_path / "a" / name).stat().st_size > 0, name
    assert embedded((tmp_path / "a" / "figures" / "augmentations.png").read_bytes(), "png") in (tmp_path / "a" / "report.html").read_text()
    torch.manual_seed(5)
    backbone = Backbone(BackboneConfig(name="resnet10t", weights=str(tmp_path / "a" / "model" / "encoder.safetensors"))).eval()
    assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, backbone.width)


def test_masks_beside_the_pictures_change_nothing(folder: Path, tmp_path: Path) -> None:
    tacit.pretrain(folder, tmp_path / "a", set=TINY)
    for name, seed in (("scrambled", 1), ("other", 2)):
        place = tmp_path / name
        (place / "masks").mkdir(parents=True)
        for picture in folder.glob("*.png"):
            (place / picture.name).write_bytes(picture.read_bytes())
            (place / "masks" / picture.name).write_bytes(png(np.random.default_rng(seed).integers(0, 5, (72, 96)).astype(np.uint8)))
        (place / "Grade.csv").write_text("name,patient ID,grade\n" + "".join(f"{k},{k % seed},{'benign' if k % 2 else 'malignant'}\n" for k in range(10)))
        tacit.pretrain(place, tmp_path / f"{name}-out", set=TINY)
        assert weights(tmp_path / f"{name}-out") == weights(tmp_path / "a")


def test_a_resumed_run_with_other_images_is_refused_and_a_finished_one_does_nothing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    for picture in folder.glob("*.png"):
        (place / picture.name).write_bytes(picture.read_bytes())
    first = tacit.pretrain(place, tmp_path / "a", set=TINY)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert tacit.pretrain(place, tmp_path / "a", set=TINY, resume=True) == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*") if p.is_file()} == before
    (place / "0.png").write_bytes((place / "1.png").read_bytes())
    with pytest.raises(OutputError, match="have changed"):
        tacit.pretrain(place, tmp_path / "a", set=TINY, resume=True)


def test_batches_are_pure_functions_of_the_step_and_an_epoch_shows_every_picture(folder: Path) -> None:
    seen: list[Path] = []

    def read(path: Path) -> np.ndarray:
        seen.append(path)
        return read_picture(path).pixels

    paths = sorted(folder.glob("*.png"))
    a, b = (view_batches(Pictures(paths, read, most_bytes=1), views_of(ByolConfig(views="byol", size=32)), 5, 3) for _ in range(2))
    assert torch.equal(a(7)["a"], b(7)["a"]) and not torch.equal(a(7)["a"], a(7)["b"])
    seen.clear()
    a(0), a(1)
    assert sorted(seen) == paths
    few = view_batches(Pictures(paths[:2], read), views_of(ByolConfig(views="byol", size=32)), 5, 3)(0)
    assert few["a"].shape == (5, 3, 32, 32)


def test_little_memory_changes_no_picture(folder: Path) -> None:
    paths = sorted(folder.glob("*.png"))
    small = Pictures(paths, lambda p: read_picture(p).pixels, most_bytes=3 * 72 * 96 * 3)
    for index in (0, 1, 2, 3, 0, 9):
        assert np.array_equal(small[index], read_picture(paths[index]).pixels)
    assert len(small.kept) <= 3 and small.held == sum(p.nbytes for p in small.kept.values())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"method": "mystery"}, UsageError, "byol, simclr"),
        ({"preset": "fast"}, UsageError, "histology"),
        ({"method": "moco", "preset": "report"}, UsageError, "none"),
        ({"backbone": "resnet1"}, ConfigError, "did you mean"),
        ({"set": ["train.batch=1"]}, UsageError, "at least two"),
        ({"set": ["views=upside"]}, ConfigError, "simclr"),
        ({"set": ["momentom=1"]}, ConfigError, "momentum"),
    ],
)
def test_wrong_choices_are_refused(folder: Path, tmp_path: Path, options: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        tacit.pretrain(folder, tmp_path / "o", **options)


def test_one_picture_is_too_few_and_damage_is_a_row(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.mkdir()
    (place / "bad.png").write_bytes(b"no picture")
    for k in range(2):
        (place / f"{k}.png").write_bytes((folder / f"{k}.png").read_bytes())
    assert tacit.pretrain(place, tmp_path / "o", set=[*TINY, "train.epochs=1"]).failed == 1
    (place / "1.png").unlink()
    with pytest.raises(InputError, match="at least two"):
        tacit.pretrain(place, tmp_path / "p", set=TINY)


def test_a_picture_of_one_value_teaches_nothing_and_is_a_row(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tacit.cli import run

    place, whole = tmp_path / "in", tmp_path / "whole"
    for each in (place, whole):
        each.mkdir()
        for k in range(2):
            (each / f"{k}.png").write_bytes((folder / f"{k}.png").read_bytes())
    (place / "black.png").write_bytes(png(np.zeros((40, 40, 3), np.uint8)))
    (place / "pink.png").write_bytes(png(np.full((40, 40, 3), (250, 190, 220), np.uint8)))
    brief = [*TINY, "train.epochs=1"]
    result = tacit.pretrain(place, tmp_path / "o", set=brief)
    rows = (tmp_path / "o" / "failures.csv").read_text().splitlines()[1:]
    assert (
        (result.images, result.failed) == (2, 2)
        and all("the same value" in row for row in rows)
        and {"black.png", "pink.png"} == {Path(r.split(",")[0]).name for r in rows}
    )
    tacit.pretrain(whole, tmp_path / "p", set=brief)
    assert weights(tmp_path / "o") == weights(tmp_path / "p")
    (place / "1.png").unlink()
    monkeypatch.setattr("sys.argv", ["tacit", "pretrain", str(place), "-o", str(tmp_path / "q"), *(w for s in brief for w in ("--set", s))])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 4 and "1 of 3 pictures and slides can be used; at least two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--set", "train.batch=1"], 2, "train.batch=1: batch norm and contrast need at least two pictures a batch"),
        (["--set", "train.lr=1e35", "--set", "train.precision=fp32"], 1, "the loss became nan at step"),
        (["--weights", "bad.safetensors"], 4, "conv1.0.weight holds 1 values that are not finite"),
        (["--weights", "torn.safetensors"], 4, "torn.safetensors: these weights cannot be read"),
        (["--weights", "none.safetensors"], 5, "there is no such file"),
        (["--mpp", "0"], 2, "--mpp 0.0"),
    ],
)
def test_what_stops_a_run_is_one_line_with_its_exit_code(
    folder: Path, tmp_path: Path, words: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tacit.cli import run

    monkeypatch.chdir(tmp_path)
    state = Backbone(BackboneConfig(name="resnet10t")).net.state_dict()
    state["conv1.0.weight"][0, 0, 0, 0] = float("nan")
    save_tensors(tmp_path / "bad.safetensors", state)
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "bad.safetensors").read_bytes()[:5000])
    settings = [w for s in (*TINY, "train.epochs=4") for w in ("--set", s)]
    monkeypatch.setattr("sys.argv", ["tacit", "pretrain", str(folder), "-o", "o", *settings, *words])
    with pytest.raises(SystemExit) as stopped:
        run()
    printed = capsys.readouterr().err
    assert stopped.value.code == code and said in printed and printed.count("\n") == 1
    if code == 1:
        assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "stopped: TrainingError"
    else:
        assert not (tmp_path / "o" / "checkpoints").exists()


def test_every_method_is_named() -> None:
    assert set(METHODS) == {"byol", "simclr", "simsiam", "moco", "vae-byol", "densecl", "pixpro", "local-discrimination", "phantom-byol"}


DENSE = {"densecl": ["queue=8"], "pixpro": ["hidden=32"]}
DENSE_SIZE = ["backbone.name=resnet10t", "size=64", "projection=16", "train.batch=4", "train.epochs=3", "train.log_every=1"]


@pytest.mark.parametrize("name", DENSE)
def test_dense_methods_learn_say_how_it_goes_and_begin_other_verbs(folder: Path, tmp_path: Path, name: str) -> None:
    settings = [*DENSE_SIZE, *DENSE[name]]
    result = tacit.pretrain(folder, tmp_path / "a", method=name, set=settings)
    assert (result.images, result.backbone) == (10, "resnet10t") and np.isfinite(result.loss) and result.spread > 0.1 and result.rank > 1
    seen = (tmp_path / "a" / "metrics.csv").read_text()
    assert all(word in seen for word in {"densecl": ("global", "dense", "matched"), "pixpro": ("overlap",)}[name])
    again = tacit.pretrain(folder, tmp_path / "b", method=name, set=settings)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") and again.loss == result.loss
    assert tacit.index_images(folder, tmp_path / "index", model=tmp_path / "a").added == 10
    (tmp_path / "few").mkdir()
    for k in range(2):
        (tmp_path / "few" / f"{k}.png").write_bytes(png((tissue.draw(np.random.default_rng(k), (72, 96), 2.0).labels > 0).astype(np.uint8)))
    brief = ["side=64", "views.size=32", "frozen.epochs=1", "frozen.steps=1", "whole.epochs=1", "whole.steps=1"]
    taught = tacit.segment(folder, tmp_path / "masks", model=tmp_path / "a", labels=tmp_path / "few", set=brief)
    assert taught.images == 10 and name in json.loads((tmp_path / "masks" / "run.json").read_text())["start"]


TINY_LOCAL = ["network.width=8", "dimensions=8", "clusters=4", "grid=4", "size=32", "train.batch=4", "train.epochs=3", "train.checkpoint_every=2"]


def test_local_discrimination_learns_both_stages_resumes_and_is_an_encoder(folder: Path, tmp_path: Path) -> None:
    result = tacit.pretrain(folder, tmp_path / "a", method="local-discrimination", set=TINY_LOCAL)
    assert (result.images, result.backbone) == (10, "vgg-unet") and np.isfinite(result.loss)
    header = (tmp_path / "a" / "metrics.csv").read_text().splitlines()[0]
    assert "regions" in (tmp_path / "a" / "metrics.csv").read_text() and header
    assert (tmp_path / "a" / "figures" / "views.png").stat().st_size > 1000 and not (tmp_path / "a" / "figures" / "augmentations.png").exists()
    encoder = find_encoder(model=tmp_path / "a")
    vector = encoder.features([read_picture(next(folder.glob("*.png")))])
    assert vector.shape == (1, encoder.width) and np.isfinite(vector).all()
    again = tacit.pretrain(folder, tmp_path / "b", method="local-discrimination", set=TINY_LOCAL)
    assert weights(tmp_path / "a") == weights(tmp_path / "b") and again.loss == result.loss


def test_features_alone_are_no_damaged_model_and_the_next_command_fits_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tacit.cli import run

    def ran(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["tacit", *words])
        with pytest.raises(SystemExit) as stopped:
            run()
        assert stopped.value.code == 0
        return capsys.readouterr().out.splitlines()[-1]

    monkeypatch.chdir(tmp_path)
    settings = [[w for s in each for w in ("--set", s)] for each in ([*TINY_LOCAL, "train.epochs=1"], [*TINY, "train.epochs=1"])]
    following = ran("pretrain", str(folder), "-o", "local", "--method", "local-discrimination", *settings[0])
    assert following == "next: tacit segment FOLDER -o OUT --method clusters --model local"
    drawn = following.removeprefix("next: tacit ").replace("FOLDER", str(folder)).replace("OUT", "drawn")
    assert ran(*drawn.split()).startswith("next:") and (tmp_path / "drawn" / "masks").is_dir()
    following = ran("pretrain", str(folder), "-o", "byol", *settings[1])
    assert following == "next: tacit segment FOLDER -o OUT --method mssg --set network.encoder=resnet10t --set network.weights=byol/model/encoder.safetensors"
    for model, said in (
        ("local", "by local-discrimination, .*--labels MASKS, --shape-prior or --method clusters"),
        ("byol", "by byol, .*--labels MASKS or --method k-means"),
    ):
        with pytest.raises(UsageError, match=f"this run learnt features {said}") as told:
            tacit.segment(folder, tmp_path / "o", model=tmp_path / model)
        assert "damaged" not in str(told.value)
    (tmp_path / "refined").mkdir()
    (tmp_path / "refined" / "model.json").write_text('{"method": "phantom-byol", "config": {}}')
    with pytest.raises(UsageError, match=r"by phantom-byol, .*tacit index takes it"):
        tacit.segment(folder, tmp_path / "o", model=tmp_path / "refined")
    with pytest.raises(UsageError, match="this run learnt features by byol"):
        tacit.segment(folder, tmp_path / "o", method="clusters", model=tmp_path / "byol")


def test_a_network_that_timm_does_not_know_goes_to_an_index() -> None:
    result = PretrainResult(Path("run"), 4, 0, 1.0, 1.0, 1.0, "own-network", method="another")
    assert result.following == "tacit index FOLDER -o INDEX --model run"


def test_local_discrimination_has_a_network_of_its_own_and_wants_pictures_two_by_two(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has its own"):
        tacit.pretrain(folder, tmp_path / "a", method="local-discrimination", backbone="resnet18", set=TINY_LOCAL)
    with pytest.raises(UsageError, match="two by two"):
        tacit.pretrain(folder, tmp_path / "a", method="local-discrimination", set=[*TINY_LOCAL, "train.batch=3"])
