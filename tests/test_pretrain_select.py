"""Labels take part in pretraining only where the user asks for it by name, and then everything says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tacit
from tacit.cli import app
from tacit.errors import InputError, OutputError, UsageError
from tacit.learn.pretraining import METHODS
from tacit.phantom import tissue
from tacit.read.pairs import read_pairs
from tacit.read.picture import read_picture
from tacit.report.pair_score import best_threshold
from tacit.report.picture import png
from tacit.report.track import Curves
from tacit.use.encoder import find_encoder
from tacit.use.model import load_model

TINY = ["backbone.name=test_efficientnet", "size=32", "hidden=32", "projection=16", "train.batch=4", "train.epochs=3", "train.checkpoint_every=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/ with ten pictures, and pairs.csv beside it."""
    place = tmp_path_factory.mktemp("pairs")
    (place / "in").mkdir()
    for k in range(10):
        (place / "in" / f"{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(k), (72, 96), 2.0).picture))
    rows = [f"{a}.png,{b}.png,{(a + b) % 3 % 2}" for a in range(10) for b in range(a)]
    (place / "pairs.csv").write_text("a,b,label\n" + "\n".join(rows) + "\n")
    return place


@pytest.fixture(scope="module")
def chosen(folder: Path) -> Path:
    result = tacit.pretrain(folder / "in", folder / "out", select=folder / "pairs.csv", root=folder / "in", set=[*TINY, "select.every=1"])
    assert result.selection.startswith("uses labels: ")
    return folder / "out"


def test_the_best_threshold_is_that_of_all_thresholds() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 40):
        for levels in (3, 1000):
            distance, same = rng.integers(0, levels, n) / levels * 4, rng.integers(0, 2, n)
            accuracy, threshold = best_threshold(distance, same)
            tried = [-1.0, 9.0, *distance, *(distance + 1e-9)]
            assert accuracy == max(float(np.mean((distance < t) == same.astype(bool))) for t in tried)
            assert accuracy == np.mean((distance < threshold) == same.astype(bool))
    for bad in ([np.nan], []):
        with pytest.raises(InputError, match="finite distances"):
            best_threshold(np.array(bad), np.ones(len(bad)))


def test_the_kept_checkpoint_is_the_best_on_the_pairs_and_everything_says_that_labels_took_part(folder: Path, chosen: Path) -> None:
    record = json.loads((chosen / "run.json").read_text())
    seen = dict(Curves(chosen / "metrics.csv").stages()["byol"]["pair accuracy (uses labels)"])
    assert len(seen) == 6 and record["uses_labels"] is True  # 3 epochs of 2 steps
    assert record["select"]["accuracy"] == pytest.approx(max(seen.values()), abs=1e-5) and record["select"]["step"] == 1 + max(
        seen, key=lambda s: (seen[s], -s)
    )
    pairs = read_pairs(folder / "pairs.csv", folder / "in")
    vectors = {p: find_encoder(model=chosen).features([read_picture(p)])[0].astype(float) for p in (folder / "in").glob("*.png")}
    distance = np.array([2 - 2 * (vectors[q.a] @ vectors[q.b]) / np.linalg.norm(vectors[q.a]) / np.linalg.norm(vectors[q.b]) for q in pairs])
    accuracy, threshold = best_threshold(distance, np.array([q.label for q in pairs]))
    assert (accuracy, threshold) == pytest.approx((record["select"]["accuracy"], record["select"]["threshold_distance"]), abs=1e-5)
    for name in ("report.html", "model/card.md", "log.txt"):
        assert "uses labels" in (chosen / name).read_text().lower(), name
    assert load_model(chosen, METHODS)[1]["uses_labels"] is True
    assert "No label took part" not in (chosen / "model" / "card.md").read_text()


def test_the_console_says_which_checkpoint_was_kept(folder: Path, chosen: Path, capsys: pytest.CaptureFixture) -> None:
    app(["pretrain", str(folder / "in"), "-o", str(chosen), "--select", str(folder / "pairs.csv"), "--root", str(folder / "in"), "--resume",
         *(w for s in [*TINY, "select.every=1"] for w in ("--set", s))], standalone_mode=False)  # fmt: skip
    step = json.loads((chosen / "run.json").read_text())["select"]["step"]
    assert f"uses labels: of the checkpoints that after {step} steps" in capsys.readouterr().out


def test_labels_that_are_not_asked_for_change_nothing_and_training_itself_never_sees_them(folder: Path, tmp_path: Path) -> None:
    free = tacit.pretrain(folder / "in", tmp_path / "free", set=TINY)
    assert free.selection == "" and json.loads((tmp_path / "free" / "run.json").read_text())["uses_labels"] is False
    assert (
        "No label took part" in (tmp_path / "free" / "model" / "card.md").read_text() and "uses labels" not in (tmp_path / "free" / "report.html").read_text()
    )
    swapped = (folder / "pairs.csv").read_text().replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n")
    (folder / "swapped.csv").write_text(swapped)
    losses = []
    for name in ("pairs", "swapped"):
        tacit.pretrain(folder / "in", tmp_path / name, select=folder / f"{name}.csv", root=folder / "in", set=[*TINY, "train.log_every=1"])
        stages = Curves(tmp_path / name / "metrics.csv").stages()["byol"]
        losses.append(stages["loss"])
        assert len(stages["pair accuracy (uses labels)"]) == 3  # at each epoch's end
    assert losses[0] == losses[1]


def test_an_interrupted_selection_goes_on_as_if_it_had_not_been(folder: Path, chosen: Path, tmp_path: Path) -> None:
    import shutil

    again = tmp_path / "again"
    shutil.copytree(chosen, again)
    record = json.loads((again / "run.json").read_text())
    (again / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    (again / "checkpoints" / "byol" / "done.safetensors").unlink()
    tacit.pretrain(folder / "in", again, select=folder / "pairs.csv", root=folder / "in", set=[*TINY, "select.every=1"], resume=True)
    a, b = (load_model(place, METHODS)[0].state_dict() for place in (chosen, again))
    assert all(torch.equal(a[k], b[k]) for k in a) and json.loads((again / "run.json").read_text())["select"] == record["select"]
    (again / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    (folder / "other.csv").write_text((folder / "pairs.csv").read_text() + "0.png,1.png,1\n")
    with pytest.raises(OutputError, match=r"select was '.*pairs.csv' and is now"):
        tacit.pretrain(folder / "in", again, select=folder / "other.csv", root=folder / "in", set=[*TINY, "select.every=1"], resume=True)
    record["select"]["sha256"] = "0"
    (again / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    with pytest.raises(OutputError, match="pairs of the first run"):
        tacit.pretrain(folder / "in", again, select=folder / "pairs.csv", root=folder / "in", set=[*TINY, "select.every=1"], resume=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.png,1.png,1\n2.png,99.png,0\n", "line 2: there is no image .*99.png"),
        ("0.png,1.png,1\n2.png,3.png,1\n", "all 2 pairs are same; pairs of both kinds"),
        ("0.png,1.png,0\n", "all 1 pairs are different"),
        ("0.png,1.png,1\n2.png,3.png,maybe\n", "line 2: label 'maybe'"),
        ("0.png,1.png,1\n2.png\n", "line 2: 1 cells"),
        ("0.png,1.png,1\n2.png,3.png\n", "1 of 2 pairs have no label"),
        ("0.png,1.png,1\n2.png,torn.png,0\n", r"torn\.png: not a picture"),
    ],
)
def test_what_is_wrong_with_the_pairs_is_said_before_anything_is_learnt(folder: Path, tmp_path: Path, text: str, said: str) -> None:
    for k in range(4):
        (tmp_path / f"{k}.png").write_bytes((folder / "in" / f"{k}.png").read_bytes())
    (tmp_path / "torn.png").write_bytes(b"no picture at all")
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        tacit.pretrain(folder / "in", tmp_path / "o", select=tmp_path / "p.csv", set=TINY)
    assert not (tmp_path / "o" / "checkpoints").exists()


def test_a_root_without_pairs_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--select PAIRS\.csv"):
        tacit.pretrain(folder / "in", tmp_path / "o", root=folder, set=TINY)
