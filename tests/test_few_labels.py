"""`tacit segment --labels`: a few masks teach; what is loaded, what stands still, what is recorded, what is refused, what is never read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.config import build
from tacit.errors import InputError, OutputError, UsageError
from tacit.learn.byol import Byol
from tacit.learn.chest_taught import ChestTaught
from tacit.learn.dense_cl import Densecl
from tacit.learn.few_frames import seen_by
from tacit.learn.few_labels import FewLabels, FewLabelsConfig, Labelled, held_out_dice, in_windows, view_batches
from tacit.learn.few_networks import start_of
from tacit.learn.fundus_taught import FundusTaught
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.learn.pix_pro import Pixpro
from tacit.learn.workshop import Workshop
from tacit.parts.train import fit
from tacit.parts.weights import load_tensors
from tacit.phantom import chest, fundus
from tacit.report.picture import png
from tacit.use.few_labels import begin, few_network, find_labels
from tacit.use.model import load_model, save_model

BRIEF = ["side=48", "views.size=48", "network.vgg.width=8", "frozen.epochs=1", "frozen.steps=2", "whole.epochs=1", "whole.steps=2"]
LEARNS = ["network.kind=chest", "side=64", "views.size=64", "frozen.epochs=1", "frozen.steps=30", "whole.epochs=1", "whole.steps=50"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six drawn chests, true lungs of all in truth/, of two of them in few/; runs of several methods that have learnt nothing."""
    place = tmp_path_factory.mktemp("few")
    for folder in ("in", "truth", "few"):
        (place / folder).mkdir()
    for i in range(6):
        drawing = chest.draw(np.random.default_rng([5, i]), (80 + 4 * i, 96))
        mask = png((drawing.planes[0] > 127).astype(np.uint8) * 255)
        (place / "in" / f"c{i}.png").write_bytes(png(drawing.picture))
        (place / "truth" / f"c{i}.png").write_bytes(mask)
        if i < 2:
            (place / "few" / f"c{i}.png").write_bytes(mask)
    torch.manual_seed(3)
    small = {"backbone": {"name": "resnet10t"}, "size": 32}
    for name, method, network in (
        ("ld", "local-discrimination", LocalDiscrimination(build(LocalDiscrimination.Config, {"network": {"width": 8}, "size": 48}))),
        ("byol", "byol", Byol(build(Byol.Config, small))),
        ("chest", "phantom-chest", ChestTaught(build(ChestTaught.Config, {"side": 48, "network": {"width": 4, "depth": 3}}))),
        ("fundus", "phantom-fundus", FundusTaught(build(FundusTaught.Config, {"diameter": 128, "network": {"width": 4, "depth": 3}}))),
        ("densecl", "densecl", Densecl(build(Densecl.Config, small | {"queue": 8}))),
        ("pixpro", "pixpro", Pixpro(build(Pixpro.Config, small | {"hidden": 8}))),
    ):
        save_model(place / name / "model", method, network, {"images": 7, "seed": 0})
    return place


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """Begun at the local discrimination run, by the command line."""
    words = [w for s in BRIEF if not s.startswith("network") for w in ("--set", s)]
    done = CliRunner().invoke(app, ["segment", str(place / "in"), "-o", str(place / "o"), "--model", str(place / "ld"), "--labels", str(place / "few"), *words])
    assert done.exit_code == 0, done.output
    assert "6 images segmented, 0 failed" in done.stdout and "tacit segment NEW" in done.stdout
    return place / "o"


def labelled(few: FewLabels, place: Path, count: int) -> list[Labelled]:
    """The first drawn chests with their lungs, in the network's frame."""
    found = []
    for i in range(count):
        picture, mask = (cv2.imread(str(place / folder / f"c{i}.png"), cv2.IMREAD_UNCHANGED) for folder in ("in", "truth"))
        found.append(Labelled.of(few.seen(picture), (mask > 0)[None]))
    return found


def test_two_masks_teach_lungs(place: Path, tmp_path: Path) -> None:
    tacit.segment(place / "in", tmp_path / "o", labels=place / "few", classes="lungs", set=LEARNS)
    unseen = [cv2.imread(str(folder / f"c{i}.png"), cv2.IMREAD_UNCHANGED) > 0 for i in range(2, 6) for folder in (place / "truth", tmp_path / "o" / "masks")]
    scores = [f1_score(t.ravel(), a.ravel()) for t, a in zip(unseen[::2], unseen[1::2], strict=True)]
    everything = [f1_score(t.ravel(), np.ones(t.size, bool)) for t in unseen[::2]]
    assert np.mean(scores) > 0.75 > np.mean(everything) + 0.1


@pytest.mark.parametrize("name", ["ld", "byol", "densecl", "pixpro", "chest", "fundus"])
def test_the_encoder_that_is_loaded_is_the_runs(place: Path, name: str) -> None:
    few, said = few_network(find_labels(place / "few", place / "in"), place / name, "lungs", {})
    begin(few, place / name, 0)
    theirs = load_tensors(place / name / "model" / "weights.safetensors")[0]
    ours = few.state_dict()
    pairs = {
        "ld": ("network.encoder.", "network.net.encoder."),
        **dict.fromkeys(("byol", "densecl", "pixpro"), ("encoder.net.", "network.encoder.model.")),
        "chest": ("network.", "network."),
        "fundus": ("network.", "network."),
    }
    there, here = pairs[name]
    shared = [k for k in theirs if k.startswith(there) and not k.startswith("network.head")]
    assert len(shared) > 20 and "7 images" in said
    for k in shared if name != "ld" else [k for k in shared if "decoder" not in k]:
        assert torch.equal(theirs[k], ours[here + k.removeprefix(there)]), k


def test_decoders_and_heads_are_kept_or_fresh(place: Path) -> None:
    labels = find_labels(place / "few", place / "in")
    kept = few_network(labels, place / "ld", None, {"network": {"keep": "network"}})[0]
    begin(kept, place / "ld", 0)
    fresh = few_network(labels, place / "ld", None, {})[0]
    begin(fresh, place / "ld", 0)
    theirs = load_tensors(place / "ld" / "model" / "weights.safetensors")[0]["network.decoder.0.0.weight"]
    assert torch.equal(kept.state_dict()["network.net.decoder.0.0.weight"], theirs)
    assert not torch.equal(fresh.state_dict()["network.net.decoder.0.0.weight"], theirs)
    head = load_tensors(place / "chest" / "model" / "weights.safetensors")[0]["network.head.weight"]
    for name, row in (("heart", 1), ("clavicles", 2)):
        few = few_network(labels, place / "chest", name, {})[0]
        begin(few, place / "chest", 0)
        assert torch.equal(few.state_dict()["network.head.weight"][0], head[row])
    unnamed = few_network(labels, place / "chest", None, {})[0]
    begin(unnamed, place / "chest", 0)
    assert not any(torch.equal(unnamed.state_dict()["network.head.weight"][0], h) for h in head)


def test_weights_that_do_not_fit_are_named(place: Path) -> None:
    labels = find_labels(place / "few", place / "in")
    few = few_network(labels, place / "ld", None, {"network": {"vgg": {"width": 16}}})[0]
    with pytest.raises(UsageError, match=r"0 are missing \(none\) and \d+ of another shape \(net.encoder.0.0.weight \(8, 3, 3, 3\) for \(16, 3, 3, 3\)"):
        begin(few, place / "ld", 0)
    other = few_network(labels, place / "byol", None, {"network": {"backbone": "resnet18"}})[0]
    with pytest.raises(UsageError, match=r"tensors [1-9]\d* are missing \(encoder.model"):
        begin(other, place / "byol", 0)
    whole = few_network(labels, place / "byol", None, {"network": {"keep": "network"}})[0]
    with pytest.raises(UsageError, match="without a decoder"):
        begin(whole, place / "byol", 0)
    with pytest.raises(UsageError, match="no settings to change"):
        few_network(labels, place / "ld", None, {"start": "byol"})


def test_the_first_phase_leaves_the_encoder_bit_equal_and_the_second_does_not(place: Path) -> None:
    for stages, stays in ((["whole"], True), ([], False)):
        chosen: dict[str, Any] = {"side": 48, "views": {"size": 32}, "frozen": {"epochs": 1, "steps": 2}, "whole": {"epochs": 0 if stages else 1, "steps": 2}}
        few = few_network(find_labels(place / "few", place / "in"), place / "ld", None, chosen)[0]
        begin(few, place / "ld", 0)
        before = {k: v.clone() for k, v in few.state_dict().items()}
        few.teach(labelled(few, place, 2), Workshop(0))
        same = {k: torch.equal(v, before[k]) for k, v in few.state_dict().items()}
        encoder = [k for k in same if k.startswith("network.net.encoder.")]
        assert all(same[k] for k in encoder) == stays and any("running_mean" in k for k in encoder)
        assert not any(same[k] for k in same if k.startswith("network.head.") and k.endswith("weight"))
        assert all(p.requires_grad for p in few.parameters())


def test_a_random_start_learns_as_a_whole_at_once(place: Path) -> None:
    few = FewLabels(build(FewLabelsConfig, {"side": 48, "views": {"size": 32}, "frozen": {"epochs": 1, "steps": 1}, "whole": {"epochs": 0}}))
    before = few.state_dict()["network.net.encoder.0.0.weight"].clone()
    few.teach(labelled(few, place, 1), Workshop(0))
    assert not torch.equal(before, few.state_dict()["network.net.encoder.0.0.weight"])


def test_a_run_that_was_stopped_ends_at_the_same_weights(place: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"model": place / "ld", "labels": place / "few", "set": [s for s in BRIEF if not s.startswith("network")]}
    from tacit.parts import train

    steps, calls = train.Steps.__call__, []

    def stopping(self: Any, batch: Any, step: int) -> Any:
        calls.append(step)
        if len(calls) == 4:  # the last step of the second phase
            raise KeyboardInterrupt
        return steps(self, batch, step)

    monkeypatch.setattr(train.Steps, "__call__", stopping)
    with pytest.raises(KeyboardInterrupt):
        tacit.segment(place / "in", tmp_path / "o", **options)
    monkeypatch.undo()
    assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "interrupted"
    tacit.segment(place / "in", tmp_path / "o", resume=True, **options)
    assert (tmp_path / "o" / "model" / "weights.safetensors").read_bytes() == (run / "model" / "weights.safetensors").read_bytes()
    shutil.copytree(place / "few", tmp_path / "few")
    with pytest.raises(OutputError, match="labels was"):
        tacit.segment(place / "in", tmp_path / "o", resume=True, **(options | {"labels": tmp_path / "few"}))


def test_changed_masks_are_refused_when_resuming(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "few", tmp_path / "few")
    tacit.segment(place / "in", tmp_path / "o", labels=tmp_path / "few", set=BRIEF)
    mask = cv2.imread(str(tmp_path / "few" / "c0.png"), cv2.IMREAD_UNCHANGED)
    (tmp_path / "few" / "c0.png").write_bytes(png(np.ascontiguousarray(mask[::-1])))
    with pytest.raises(OutputError, match=r"some in .* have changed since"):
        tacit.segment(place / "in", tmp_path / "o", labels=tmp_path / "few", set=BRIEF, resume=True)


def test_everything_says_how_many_labels_it_uses(place: Path, run: Path, tmp_path: Path) -> None:
    record, about = (json.loads((run / p).read_text()) for p in ("run.json", "model/model.json"))
    assert record["uses_labels"] is True and record["labels"] == 2 and record["labelled"] == ["c0", "c1"] and "local-discrimination" in record["start"]
    assert about["labels"] == 2 and about["uses_labels"] is True and about["config"]["start"] == "local-discrimination"
    assert "uses 2 labels" in (run / "model" / "card.md").read_text()
    page = (run / "report.html").read_text()
    assert (
        "uses 2 labels" in page
        and "no mask took part" not in page
        and "learnt without labels" not in page.lower().replace("local-discrimination, learnt without labels", "")
    )
    tacit.segment(place / "in", tmp_path / "o", model=run)
    applied = json.loads((tmp_path / "o" / "run.json").read_text())
    assert applied["uses_labels"] is True and applied["labels"] == 2 and applied["classes"] == ["structure"]
    assert "uses 2 labels" in (tmp_path / "o" / "report.html").read_text()
    for i in range(6):
        assert (tmp_path / "o" / "masks" / f"c{i}.png").read_bytes() == (run / "masks" / f"c{i}.png").read_bytes()
    shape = cv2.imread(str(run / "masks" / "c4.png"), cv2.IMREAD_UNCHANGED).shape
    assert shape == (96, 96) and (run / "probability" / "structure" / "c4.png").exists()


def test_no_truth_of_an_unlabelled_picture_is_read(place: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "in", tmp_path / "in")
    (tmp_path / "in" / "masks").mkdir()
    for i in range(6):
        noise = np.random.default_rng(i).integers(0, 2, (80 + 4 * i, 96)).astype(np.uint8)
        (tmp_path / "in" / "masks" / f"c{i}.png").write_bytes(png(noise))
    tacit.segment(tmp_path / "in", tmp_path / "o", model=place / "ld", labels=place / "few", set=[s for s in BRIEF if not s.startswith("network")])
    for file in ("model/weights.safetensors", "masks/c5.png"):
        assert (tmp_path / "o" / file).read_bytes() == (run / file).read_bytes()


def test_a_mask_that_cannot_teach_is_a_failure_and_the_rest_teach(place: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(place / "few", few)
    for name, mask in (
        ("c2", np.zeros((88, 96), np.uint8)),
        ("c3", np.full((92, 96), 255, np.uint8)),
        ("c4", np.pad(np.full((10, 10), 255, np.uint8), 4)),
        ("stray", np.pad(np.full((10, 10), 255, np.uint8), 4)),
    ):
        (few / f"{name}.png").write_bytes(png(mask))
    (few / "c5.png").write_bytes(b"x")
    done = tacit.segment(place / "in", tmp_path / "o", labels=few, set=BRIEF)
    assert done.images == 6 and done.failed == 5
    rows = (tmp_path / "o" / "failures.csv").read_text()
    for said in (
        "is empty: every pixel is 0",
        "every pixel of this mask is 255",
        "it is 18×18 px, its picture 96×96",
        "no picture of INPUT has this mask's name",
        "cannot be read",
    ):
        assert said in rows
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["labelled"] == ["c0", "c1"] and record["labels"] == 2


def test_what_cannot_be_taught_is_said(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    for name, mask in (
        ("empty", np.zeros((80, 96), np.uint8)),
        ("stray", np.eye(80, 96, dtype=np.uint8)),
        ("noise", np.arange(7680, dtype=np.uint8).reshape(80, 96)),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("z.png" if name == "stray" else "c0.png")).write_bytes(png(mask))
    (tmp_path / "colours").mkdir()
    (tmp_path / "colours" / "c0.png").write_bytes(png(np.random.default_rng(0).integers(0, 2, (80, 96, 3)).astype(np.uint8) * 255))
    tacit.segment(place / "in", tmp_path / "rule", method="lung-rule")
    for options, error, said in (
        ({"labels": tmp_path / "empty"}, InputError, "none of 1 masks can teach; .*is empty"),
        ({"labels": tmp_path / "stray"}, InputError, "^--labels .*stray holds no mask named like a picture of INPUT"),
        ({"labels": tmp_path / "noise"}, UsageError, "255 values above 0"),
        ({"labels": tmp_path / "colours"}, InputError, "7 colours, whose order is not known"),
        ({"labels": tmp_path / "none"}, InputError, "^--labels .*none does not exist or is no folder"),
        ({"labels": place / "few", "classes": "a,b"}, UsageError, r"the masks hold 1 values above 0 \(255\)"),
        ({"labels": place / "few", "method": "mssg"}, UsageError, "leave --method"),
        ({"labels": place / "few", "phantom": "chest"}, UsageError, "leave --method"),
        ({"labels": place / "few", "model": tmp_path / "rule"}, UsageError, "a run of lung-rule, which few labels cannot teach"),
        ({"labels": place / "few", "set": ["whole.epoch=3"]}, UsageError, "epochs"),
    ):
        with pytest.raises(error, match=said):
            tacit.segment(place / "in", out, **options)
        assert not out.exists()
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(UsageError, match="unpack it and give the folder"):
        tacit.segment(tmp_path / "a.zip", out, labels=place / "few")


def test_scores_leave_out_what_taught(place: Path, run: Path, tmp_path: Path) -> None:
    for predicted, classes in ((run, None), (run / "masks", "structure")):
        result = tacit.evaluate(predicted, place / "truth", task="structures", classes=classes)
        assert result["left_out"] == ["c0", "c1"] and result["images"] == 4 and result["missing"] == []
    said = CliRunner().invoke(app, ["evaluate", str(run), str(place / "truth"), "--task", "structures"])
    assert said.exit_code == 0 and "left out: 2 images whose own labels taught the run" in said.stdout
    tacit.segment(place / "in" / "c0.png", tmp_path / "o", labels=place / "few", set=BRIEF)
    with pytest.raises(InputError, match=r"all 1 images of .* taught the network"):
        tacit.evaluate(tmp_path / "o", place / "truth", task="structures")


def test_several_values_are_several_classes(place: Path, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for i in range(2):
        mask = (cv2.imread(str(place / "truth" / f"c{i}.png"), cv2.IMREAD_UNCHANGED) > 0).astype(np.uint8) * 4
        mask[:10] = 9
        (tmp_path / "few" / f"c{i}.png").write_bytes(png(mask))
    tacit.segment(place / "in", tmp_path / "o", labels=tmp_path / "few", classes="lungs,neck", set=BRIEF)
    assert json.loads((tmp_path / "o" / "run.json").read_text())["classes"] == ["lungs", "neck"]
    assert (tmp_path / "o" / "planes" / "neck" / "c0.png").exists()
    assert find_labels(tmp_path / "few", place / "in").values == (4, 9)
    few = load_model(tmp_path / "o", {"few-labels": FewLabels})[0]
    assert few.CLASSES == ("lungs", "neck") and int(few.labels_used) == 2


def test_a_fifth_of_five_chooses_the_weights_and_teaches_nothing(place: Path) -> None:
    c = build(FewLabelsConfig, {"side": 48, "views": {"size": 32}, "frozen": {"epochs": 2, "steps": 2}, "whole": {"epochs": 2, "steps": 2}})
    torch.manual_seed(0)
    few = FewLabels(c)
    shop = Workshop(0)
    few.teach(labelled(few, place, 5), shop)
    scores = {stage: note["score"] for stage, note in shop.chosen.items()}
    aside = np.random.default_rng([0, 91]).permutation(5)[0]
    judging = [labelled(few, place, 5)[aside]]
    assert held_out_dice(few, judging) == pytest.approx(max(scores.values()), abs=1e-6)
    weights = []
    for scrambled in (False, True):  # its truth does not reach the weights where it cannot choose
        torch.manual_seed(0)
        again = FewLabels(build(FewLabelsConfig, {"side": 48, "views": {"size": 32}, "frozen": {"epochs": 1, "steps": 2}, "whole": {"epochs": 0}}))
        own = labelled(again, place, 5)
        if scrambled:
            own[aside] = Labelled(own[aside].seen, 1 - own[aside].target)
        weights.append(again.teach(own, Workshop(0)).state_dict()["network.head.3.weight"])
    assert torch.equal(*weights)


def test_held_out_dice_equals_scikit_learns(place: Path) -> None:
    few = FewLabels(build(FewLabelsConfig, {"side": 48})).eval()
    own = labelled(few, place, 2)
    slow = [f1_score((one.target[0] > 0.5).ravel(), (in_windows(few, one.seen.planes)[0] > 0.5).ravel()) for one in own]
    assert held_out_dice(few, own) == pytest.approx(np.mean(slow))


def test_a_view_shows_picture_and_truth_in_one_place() -> None:
    rng = np.random.default_rng(0)
    few = FewLabels(build(FewLabelsConfig, {"side": 64, "views": {"size": 48, "colour": 0.0, "shift": 0.0, "turn": 180.0}}))
    picture = np.repeat(cv2.GaussianBlur(rng.random((64, 80)).astype(np.float32), (0, 0), 4)[..., None], 3, 2)
    picture = np.uint8(255 * (picture > np.median(picture)))
    own = Labelled.of(few.seen(picture), (picture[..., 0] > 0)[None])
    batch = view_batches([own], 4, few.config.views, 1)(3)
    same = view_batches([own], 4, few.config.views, 1)(3)
    assert torch.equal(batch["x"], same["x"])
    sure = (batch["weight"][:, 0] > 0.99) & ((batch["target"][:, 0] < 0.01) | (batch["target"][:, 0] > 0.99))
    assert sure.float().mean() > 0.5 and ((batch["x"][:, 0] > 0) == (batch["target"][:, 0] > 0.5))[sure].all()


def test_frames_bring_masks_there_and_back() -> None:
    drawing = fundus.draw(np.random.default_rng([3, 1]), (150, 190), None, fundus.FundusConfig())
    for kind, side, picture in (
        ("fundus", 200, drawing.picture),
        ("vgg-unet", 150, drawing.picture),
        ("chest", 96, chest.draw(np.random.default_rng(1), (90, 110)).picture),
    ):
        seen = seen_by(kind, picture, side)
        mask = np.zeros(picture.shape[:2], np.float32)
        mask[40:80, 50:100] = 1
        back = seen.back(seen.lay(mask)) > 0.5
        assert back.shape == mask.shape and f1_score(mask.ravel() > 0, back.ravel()) > 0.97
        assert seen.planes.shape[1:] == seen.inside.shape


@pytest.mark.parametrize("kind", ["vgg-unet", "timm", "chest"])
def test_any_picture_size_and_windows_answer_as_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    few = FewLabels(build(FewLabelsConfig, {"side": 40, "network": {"kind": kind, "backbone": "resnet10t", "vgg": {"width": 8}}})).eval()
    for shape in ((33, 47), (90, 41), (61, 61)):
        p = few.probability(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8))
        assert p.shape == (1, *shape) and 0 <= p.min() <= p.max() <= 1
    if kind == "vgg-unet":
        planes = np.random.default_rng(0).standard_normal((3, 40, 260)).astype(np.float32)
        whole = in_windows(few, planes)
        monkeypatch.setattr("tacit.learn.few_labels.WINDOW", 128)
        assert np.abs(in_windows(few, planes) - whole)[:, :, :96].max() < 0.05


def test_dice_and_cross_entropy_are_added_as_said() -> None:
    torch.manual_seed(0)
    few = FewLabels(build(FewLabelsConfig, {"cross_entropy": 0.5, "network": {"vgg": {"width": 8}}}))
    batch = {"x": torch.randn(2, 3, 32, 32), "target": (torch.rand(2, 1, 32, 32) > 0.6).float(), "weight": torch.ones(2, 1, 32, 32)}
    few.eval().requires_grad_(False)
    logits, target = few(batch["x"]).double(), batch["target"].double()
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * target).sum() + 1) / ((p * p + target).sum() + 1)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert float(few.loss(batch)["loss"]) == pytest.approx(float(dice + 0.5 * entropy), abs=1e-5)


def test_training_lowers_the_loss(place: Path) -> None:
    torch.manual_seed(0)
    few = FewLabels(build(FewLabelsConfig, {"side": 48, "views": {"size": 32}, "network": {"vgg": {"width": 8}}}))
    batches = view_batches(labelled(few, place, 2), 4, few.config.views, 0)
    before = float(few.train().loss(batches(0))["loss"].detach())
    train = few.config.whole.model_copy(update={"epochs": 1, "steps": 30})
    fit(few, batches, train, seed=0)
    assert float(few.train().loss(batches(0))["loss"].detach()) < 0.8 * before


def test_other_networks_are_no_start() -> None:
    from tacit.learn.classical.lung_rule import LungRule

    with pytest.raises(UsageError, match="give a run of tacit pretrain"):
        start_of(LungRule(), "lung-rule")
