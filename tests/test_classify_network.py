"""`tacit classify fit --pipeline end-to-end` as a user runs it, and Self-Trans: features without labels twice, then labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.config import build, merge
from tacit.errors import InputError, MissingError, UsageError
from tacit.learn import ct_encoder
from tacit.learn.ct_encoder import CtEncoderConfig
from tacit.learn.pipelines import PIPELINES
from tacit.parts.train import TrainConfig
from tacit.parts.weights import load_tensors
from tacit.use.classify_network import network_asked
from tacit.use.model import load_model
from tacit.use.taught import drawn_backbone
from test_end_to_end import series

NETWORK = [
    "network.backbone.name=test_resnet", "size=32", "slices=6", "members=2", "train.epochs=2", "train.steps=3", "train.batch=2", "pictures=4",
    "train.precision=fp32",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """series/ of 8 patients, new/ and loose/ of 3 each; pictures/ of 10; labels of both."""
    place, rng = tmp_path_factory.mktemp("cases"), np.random.default_rng(0)
    for folder, count in (("series", 8), ("new", 3), ("loose", 3)):
        for i in range(count):
            (place / folder / f"{folder[0]}{i}").mkdir(parents=True)
            for s, plane in enumerate(series(rng, i % 2 == 1)[0]):
                cv2.imwrite(str(place / folder / f"{folder[0]}{i}" / f"{s}.png"), plane)
    (place / "pictures").mkdir()
    for i in range(10):
        cv2.imwrite(str(place / "pictures" / f"p{i}.png"), series(rng, i % 2 == 1, slices=1)[0][0])
    for name, count in (("series", 8), ("pictures", 10)):
        rows = [f"{name[0]}{i},{'ill' if i % 2 else 'well'},{i}" for i in range(count)]
        (place / f"{name}.csv").write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    return place


def sets(*more: str) -> list[str]:
    return [word for text in (*NETWORK, *more) for word in ("--set", text)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_network_is_taught_kept_and_asked(place: Path, tmp_path: Path) -> None:
    words = ["classify", "fit", str(place / "series"), "-o", str(tmp_path / "r"), "--labels", str(place / "series.csv"), "--pipeline", "end-to-end"]
    done = CliRunner().invoke(app, [*words, "--model", "02_COVNet-18", "--unlabelled", str(place / "loose"), "--no-twins", *sets("vote_epochs=2")])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["figures"]["cases"] == 8 and record["unlabelled"] == 3 and {"unlabelled/l0", "s0", "--labels series.csv"} <= set(record["inputs"])
    assert record["members"][0]["left_out"] == 4 and record["members"][0]["unlabelled"] == 3
    network, about = load_model(tmp_path / "r", PIPELINES)
    assert (about["method"], network.config.model, network.config.vote_epochs, network.config.train.lr) == ("end-to-end", "02_COVNet-18", 2, 1e-4)
    assert (tmp_path / "r" / "figures" / "features.png").stat().st_size > 1000
    assert {row["stage"] for row in rows_of(tmp_path / "r" / "metrics.csv")} == {"member0", "member1"}
    result = tacit.classify_predict(place / "new", tmp_path / "o", model=tmp_path / "r")
    assert [a["case"] for a in result.answers] == ["n0", "n1", "n2"]
    assert len(rows_of(tmp_path / "o" / "tables" / "slices.csv")) == len(list((place / "new").rglob("*.png")))  # left-out slices say what their neighbour says


def test_a_runs_own_settings_can_be_given_back(place: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"labels": place / "pictures.csv", "pipeline": "end-to-end", "twins": False}
    tacit.classify_fit(place / "pictures", tmp_path / "a", set=NETWORK, **options)
    tacit.classify_fit(place / "pictures", tmp_path / "b", config=tmp_path / "a" / "config.toml", **options)
    first, second = (load_tensors(tmp_path / name / "model" / "weights.safetensors")[0] for name in ("a", "b"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_twins_of_a_network_are_networks(place: Path, tmp_path: Path) -> None:
    result = tacit.classify_fit(place / "pictures", tmp_path / "r", labels=place / "pictures.csv", pipeline="end-to-end", set=NETWORK)
    assert "auc" in result.twins["ring only"]
    assert (tmp_path / "r" / "checkpoints" / "ring-only" / "member0").is_dir()


def test_self_trans_features_of_two_sets_without_labels_then_labels(place: Path, tmp_path: Path) -> None:
    moco = ["size=32", "queue=16", "projection=8", "train.epochs=1", "train.steps=2", "train.batch=4"]
    source = tacit.pretrain(place / "loose", tmp_path / "source", method="moco", backbone="test_resnet", set=moco)
    begin = tmp_path / "source" / "model" / "encoder.safetensors"
    target = tacit.pretrain(place / "pictures", tmp_path / "target", method="moco", backbone="test_resnet", weights=str(begin), set=moco)
    assert source and target
    weights = tmp_path / "target" / "model" / "encoder.safetensors"
    still = [*NETWORK, "train.lr=1e-12", "train.weight_decay=0.0", "vote_epochs=2"]
    tacit.classify_fit(place / "pictures", tmp_path / "r", labels=place / "pictures.csv", pipeline="end-to-end", weights=weights, twins=False, set=still)
    colours, kept = load_tensors(weights)[0], load_tensors(tmp_path / "r" / "model" / "weights.safetensors")[0]
    first, *others = [name for name, tensor in colours.items() if tensor.ndim == 4]
    for part in ("members.0.network", "members.1.network", "members.0.earlier.0"):
        assert torch.allclose(
            kept[f"{part}.encoder.net.{first}"], colours[first].sum(1, keepdim=True), atol=1e-6
        )  # one grey channel: those for colours, summed
        assert all(torch.allclose(kept[f"{part}.encoder.net.{name}"], colours[name], atol=1e-6) for name in others)
    assert "--weights 1" in json.loads((tmp_path / "r" / "run.json").read_text())["inputs"]
    weights.unlink()
    assert tacit.classify_predict(place / "pictures", tmp_path / "o", model=tmp_path / "r").cases == 10  # the model holds its own


def test_what_a_network_cannot_be_asked_is_said(place: Path, tmp_path: Path) -> None:
    def fit(out: str, **options: Any) -> None:
        asked = {"pipeline": "end-to-end", "set": NETWORK, "twins": False} | options
        tacit.classify_fit(place / "series", tmp_path / out, labels=place / "series.csv", **asked)

    with pytest.raises(UsageError, match="--unlabelled: only a network from pixels to classes takes that; add --pipeline end-to-end"):
        fit("a", pipeline="two-level", model="c3d", unlabelled=place / "loose", set=[])
    with pytest.raises(UsageError, match="--pipeline gate takes --model 09_COVNet-CSR-Gate alone"):
        fit("a", pipeline="gate", model="c3d", set=[])
    with pytest.raises(UsageError, match="c3d-small has no backbone"):
        fit("b", model="c3d-small", weights="w.safetensors", set=[])
    with pytest.raises(MissingError, match="there is no such file"):
        fit("c", weights=tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="none of its 8 cases is a series that is not labelled as well"):
        fit("d", unlabelled=place / "series")


def test_two_levels_take_a_network_of_slices_by_name_and_its_weights(place: Path, tmp_path: Path) -> None:
    moco = ["size=32", "queue=16", "projection=8", "train.epochs=1", "train.steps=2", "train.batch=4"]
    tacit.pretrain(place / "loose", tmp_path / "moco", method="moco", backbone="test_resnet", set=moco)
    weights = tmp_path / "moco" / "model" / "encoder.safetensors"
    few = ["members=2", "inner=2", "slices=3", "lesions=false", "first.c=[1.0]", "first.gamma=[0.1]", "second.length=4", "second.table.c=[1.0]"]
    still = [f"slice_network.{s}" for s in NETWORK if s.split("=")[0] not in ("slices", "members")] + ["slice_network.train.lr=1e-12"]
    words = ["classify", "fit", str(place / "series"), "-o", str(tmp_path / "r"), "--labels", str(place / "series.csv"), "--no-twins"]
    asked = [word for text in (*few, *still, "slice_network.train.weight_decay=0.0") for word in ("--set", text)]
    done = CliRunner().invoke(app, [*words, "--model", "02_COVNet-18", "--weights", str(weights), *asked])
    assert done.exit_code == 0, done.output
    network, about = load_model(tmp_path / "r", PIPELINES)
    assert (about["method"], network.config.witness, network.config.slice_network.model) == ("two-level", "network", "02_COVNet-18")
    begun, kept = load_tensors(weights)[0], load_tensors(tmp_path / "r" / "model" / "weights.safetensors")[0]
    deep = [name for name, tensor in begun.items() if tensor.ndim == 4][1:]
    assert all(torch.allclose(kept[f"members.1.first.network.learner.network.encoder.net.{name}"], begun[name], atol=1e-6) for name in deep)
    assert "--weights 1" in json.loads((tmp_path / "r" / "run.json").read_text())["inputs"]
    assert tacit.classify_predict(place / "new", tmp_path / "o", model=tmp_path / "r").cases == 3


def test_a_network_begins_with_what_drawings_taught(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = CtEncoderConfig(slices=4, a_patient=2, matrix=64, size=32, train=TrainConfig(epochs=1, steps=2, batch=4))
    monkeypatch.setattr(ct_encoder, "CtEncoderConfig", lambda backbone: small.model_copy(update={"backbone": backbone}))
    still = [*NETWORK, "train.lr=1e-12", "train.weight_decay=0.0"]
    tacit.classify_fit(place / "pictures", tmp_path / "r", labels=place / "pictures.csv", pipeline="end-to-end", weights="phantom:ct", twins=False, set=still)
    begun, kept = load_tensors(drawn_backbone("test_resnet"))[0], load_tensors(tmp_path / "r" / "model" / "weights.safetensors")[0]
    deep = [name for name, tensor in begun.items() if tensor.ndim == 4][1:]
    assert all(torch.allclose(kept[f"members.0.network.encoder.net.{name}"], begun[name], atol=1e-6) for name in deep)
    assert "--weights phantom:ct" in json.loads((tmp_path / "r" / "run.json").read_text())["command"]


def test_the_slides_gate_is_one_name() -> None:
    asked = network_asked(PIPELINES["gate"], "09_COVNet-CSR-Gate", "w.safetensors", None, {})
    c = build(
        PIPELINES["gate"].Config, {"unit": "series"}, merge(asked, {"low": {"settings": {"slice_network": {"network": {"backbone": {"weights": None}}}}}})
    )
    assert (c.by, c.low.pipeline, c.high.pipeline) == ("count-at-maximum", "two-level", "end-to-end")
    assert asked["low"]["settings"]["slice_network"]["network"] == {"backbone": {"weights": "w.safetensors"}}
    assert (c.low.settings["slice_network"]["model"], c.low.settings["slice_network"]["vote_epochs"]) == ("02_densenet_selftrans", 10)
    assert c.high.settings["model"] == "09_COVNet-CSR-Gate" and c.low.settings["witness"] == "network"


def test_a_gate_may_send_cases_to_networks(place: Path, tmp_path: Path) -> None:
    branches = [f"{side}.settings.{setting}" for side in ("low", "high") for setting in NETWORK]
    settings = ["low.pipeline=end-to-end", "high.pipeline=end-to-end", "by=rms-contrast", *branches, "low.settings.size=40"]
    for i in range(10):
        picture = cv2.imread(str(place / "pictures" / f"p{i}.png"), cv2.IMREAD_GRAYSCALE)
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / f"p{i}.png"), picture if i < 5 else 100 + picture // 8)
    rows = [f"p{i},{'ill' if i % 2 else 'well'},{i}" for i in range(10)]
    (tmp_path / "l.csv").write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    tacit.classify_fit(tmp_path / "in", tmp_path / "r", labels=tmp_path / "l.csv", pipeline="gate", twins=False, set=settings)
    assert (tmp_path / "r" / "checkpoints" / "cases" / "high" / "member0").is_dir()
    assert tacit.classify_predict(tmp_path / "in", tmp_path / "o", model=tmp_path / "r").cases == 10
