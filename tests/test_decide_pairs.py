"""`tacit pairs` from files to answers, and what it says of lists that cannot be used."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, UsageError
from tacit.read.pairs import read_pairs
from tacit.report.picture import png

QUICK = ["folds=6", "inner_folds=3", "draws=40", "dims=12", "curve=[10]"]
TEXTURE: dict[str, Any] = {"encoder": "texture", "set": QUICK}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images of two kinds, fine and coarse grain, of any colour, from nine patients; labelled pairs of six of them, others to be decided."""
    place = tmp_path_factory.mktemp("grain")
    rng = np.random.default_rng(0)
    (place / "images").mkdir()
    for k in range(36):
        grain = gaussian_filter(rng.normal(size=(64, 64)), (0.6, 2.0)[k % 2])
        grey = 128 + 45 * grain / grain.std()
        colour = np.clip(grey[..., None] + rng.uniform(-60, 60, 3), 0, 255).astype(np.uint8)
        (place / "images" / f"{k:02d}.png").write_bytes(png(colour))
    (place / "patients.csv").write_text("image,patient\n" + "".join(f"{k:02d}.png,p{k // 4}\n" for k in range(36)))
    write(place / "labelled.csv", [(a, b) for a in range(24) for b in range(a + 1, 24) if (a * b + a + 3 * b) % 5 == 0])
    write(place / "asked.csv", [(a, b) for a in range(24, 36) for b in range(a + 1, 36) if (a + b) % 3])
    return place


def write(path: Path, pairs: list[tuple[int, int]], labels: bool = True) -> Path:
    rows = [f"{a:02d}.png,{b:02d}.png" + (f",{int(a % 2 == b % 2)}" if labels else "") for a, b in pairs]
    path.write_text("\n".join(["a,b,label" if labels else "a,b", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def done(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("done") / "out"
    return out, tacit.decide_pairs(
        place / "asked.csv", out, calibrate=place / "labelled.csv", root=place / "images", patients=place / "patients.csv", **TEXTURE
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_pairs_of_new_patients_are_told_apart(place: Path, done: tuple[Path, Any]) -> None:
    out, result = done
    asked = rows(place / "asked.csv")
    assert result.worth["accuracy"] > 0.9 and result.how == "labelled pairs" and result.failed == result.undecided == 0
    answers = rows(out / "pairs.csv")
    assert [(r["a"], r["b"]) for r in answers] == [(r["a"], r["b"]) for r in asked]
    right = [(r["decision"] == "same") == (q["label"] == "1") for r, q in zip(answers, asked)]
    assert np.mean(right) == pytest.approx(result.worth["accuracy"])
    assert all((float(r["distance"]) <= result.threshold) == (r["decision"] == "same") for r in answers)
    assert {r["sure"] for r in answers} <= {"yes", "no"} and all(0 < float(r["p_same"]) < 1 for r in answers)
    assert [r["label"] for r in rows(out / "submission.csv")] == [str(int(r["decision"] == "same")) for r in answers]
    assert [p.label for p in read_pairs(out / "submission.csv", place / "images")] == [int(r["decision"] == "same") for r in answers]


def test_everything_that_is_known_of_the_threshold_is_written(done: tuple[Path, Any]) -> None:
    out, result = done
    record = json.loads((out / "threshold.json").read_text())
    assert record["threshold_distance"] == result.threshold and record["threshold_cosine"] == pytest.approx(1 - result.threshold / 2)
    assert record["uses_labels"] is True and record["intervals_over"] == "patients" and record["groups"] == 6
    assert set(record["figures"]) == {"auc", "equal_error", "accuracy", "false_same", "false_different", "share_sure", "accuracy_sure", "always_one_answer"}
    assert record["figures"]["always_one_answer"]["value"] == pytest.approx(
        max(record["pairs"]["same"], record["pairs"]["different"]) / record["pairs"]["labelled"]
    )
    assert record["curve"][0]["pairs"] == 10 < record["pairs"]["taught"] < record["pairs"]["scored"] == record["pairs"]["labelled"]
    page = (out / "report.html").read_text()
    for words in ("Threshold against accuracy", "Most alike", "Least sure", "Against the number of pairs", "one answer for all"):
        assert words in page
    for name in ("threshold", "pairs_needed"):
        assert (out / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "run.json").read_text())["uses_labels"] is True


def test_the_same_command_gives_the_same_bytes(place: Path, done: tuple[Path, Any], tmp_path: Path) -> None:
    out, _ = done
    tacit.decide_pairs(place / "asked.csv", tmp_path / "o", calibrate=place / "labelled.csv", root=place / "images", patients=place / "patients.csv", **TEXTURE)
    for name in ("pairs.csv", "submission.csv", "threshold.json", "metric.safetensors"):
        assert (tmp_path / "o" / name).read_bytes() == (out / name).read_bytes(), name


def test_an_earlier_threshold_decides_as_it_did(place: Path, done: tuple[Path, Any], tmp_path: Path) -> None:
    out, result = done
    for number, given in enumerate((out / "threshold.json", out)):
        again = tacit.decide_pairs(place / "asked.csv", tmp_path / f"o{number}", threshold=str(given), root=place / "images", **TEXTURE)
        assert again.answers == result.answers and again.threshold == result.threshold
    assert tacit.decide_pairs(place / "asked.csv", tmp_path / "o2", threshold=str(tmp_path / "o0"), root=place / "images", **TEXTURE).answers == result.answers
    with pytest.raises(UsageError, match=r"made with texture .*would be from timm:resnet10t.*calibrate again"):
        tacit.decide_pairs(place / "asked.csv", tmp_path / "o3", threshold=str(out), root=place / "images", encoder="timm:resnet10t")
    (tmp_path / "lonely.json").write_text((out / "threshold.json").read_text())
    with pytest.raises(UsageError, match=r"needs the metric.safetensors"):
        tacit.decide_pairs(place / "asked.csv", tmp_path / "o4", threshold=str(tmp_path / "lonely.json"), root=place / "images", **TEXTURE)
    assert not (tmp_path / "o4").exists()


def test_raw_distances_are_those_of_the_encoder(place: Path, tmp_path: Path) -> None:
    from tacit.read.picture import read_picture
    from tacit.use.encoder import find_encoder

    result = tacit.decide_pairs(place / "asked.csv", tmp_path / "o", calibrate=place / "labelled.csv", metric="raw", root=place / "images", **TEXTURE)
    encoder = find_encoder("texture")
    for row in result.answers[:5]:
        x, y = encoder.features([read_picture(place / "images" / row[k]) for k in ("a", "b")]).astype(float)
        assert row["distance"] == pytest.approx(2 - 2 * x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=2e-6)
    assert not (tmp_path / "o" / "metric.safetensors").exists()
    assert json.loads((tmp_path / "o" / "threshold.json").read_text())["intervals_over"] == "images"


def test_a_number_is_a_threshold(place: Path, tmp_path: Path) -> None:
    all_same = tacit.decide_pairs(write(place / "bare.csv", [(0, 1), (2, 4)], labels=False), tmp_path / "o", threshold=4, root=place / "images", **TEXTURE)
    assert [r["decision"] for r in all_same.answers] == ["same", "same"] and all_same.how == "given" and all_same.worth is None
    assert [r["sure"] for r in all_same.answers] == [None, None]
    for bad in ("4.5", "-1", "nan"):
        with pytest.raises(UsageError, match="from 0 "):
            tacit.decide_pairs(place / "bare.csv", tmp_path / "p", threshold=bad, root=place / "images", **TEXTURE)
    with pytest.raises(UsageError, match="no such file"):
        tacit.decide_pairs(place / "bare.csv", tmp_path / "p", threshold="nowhere.json", root=place / "images", **TEXTURE)
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no threshold\.json that tacit pairs wrote"):
        tacit.decide_pairs(place / "bare.csv", tmp_path / "p", threshold=str(tmp_path / "bad.json"), root=place / "images", **TEXTURE)


def test_without_labels_views_stand_in_and_it_says_so(place: Path, tmp_path: Path) -> None:
    asked = write(place / "unlabelled.csv", [(a, b) for a in range(10) for b in range(10, 16)], labels=False)
    one, two = (tacit.decide_pairs(asked, tmp_path / name, root=place / "images", **TEXTURE) for name in ("a", "b"))
    record = json.loads((tmp_path / "a" / "threshold.json").read_text())
    assert record["how"] == "views of the images, no labels" and record["uses_labels"] is False and record["p_same"] is None
    assert record["figures"]["auc"]["value"] > 0.6 and "not from labels" in one.warnings[0]
    assert one.answers == two.answers and all(r["p_same"] is None for r in one.answers)
    with pytest.raises(InputError, match="2 images are too few for a threshold without labels"):
        tacit.decide_pairs(write(place / "two.csv", [(0, 1)], labels=False), tmp_path / "c", root=place / "images", **TEXTURE)
    assert not (tmp_path / "c").exists()  # so that the corrected command may have it


def test_labels_of_the_list_itself_only_judge(place: Path, tmp_path: Path) -> None:
    plain, turned = place / "plain.csv", place / "turned.csv"
    pairs = [(a, b) for a in range(24, 36) for b in range(a + 1, 36) if (a + b) % 3]
    write(plain, pairs, labels=False)
    turned.write_text((place / "asked.csv").read_text().replace(",1\n", ",x\n").replace(",0\n", ",1\n").replace(",x\n", ",0\n"))
    found = [
        tacit.decide_pairs(path, tmp_path / path.stem, calibrate=place / "labelled.csv", root=place / "images", **TEXTURE)
        for path in (plain, turned, place / "asked.csv")
    ]
    assert found[0].answers == found[1].answers == found[2].answers
    assert found[0].worth is None and found[1].worth["accuracy"] == pytest.approx(1 - found[2].worth["accuracy"])
    again = tacit.decide_pairs(place / "labelled.csv", tmp_path / "self", calibrate=place / "labelled.csv", root=place / "images", **TEXTURE)
    assert any("are in both lists" in line for line in again.warnings)


def test_an_image_that_cannot_be_used_leaves_its_pairs_undecided(place: Path, tmp_path: Path) -> None:
    (place / "images" / "broken.png").write_bytes(b"\x89PNG and no more")
    (place / "images" / "tiny.png").write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    (place / "some.csv").write_text("00.png,01.png\n00.png,nowhere.png\nbroken.png,02.png\ntiny.png,03.png\n03.png,05.png\n")
    words = [
        "pairs",
        str(place / "some.csv"),
        "-o",
        str(tmp_path / "o"),
        "--root",
        str(place / "images"),
        "--encoder",
        "texture",
        "--threshold",
        "0.1",
        "--json",
    ]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 3
    said = json.loads(ran.stdout)
    assert (said["failed"], said["undecided"]) == (3, 3)
    assert [r["decision"] is None for r in said["pairs"]] == [False, True, True, True, False]
    reasons = {Path(r["file"]).name: r["reason"] for r in rows(tmp_path / "o" / "failures.csv")}
    assert (
        reasons["nowhere.png"] == "there is no such image" and "too small" in reasons["tiny.png"] and set(reasons) == {"nowhere.png", "tiny.png", "broken.png"}
    )
    assert [r["label"] == "" for r in rows(tmp_path / "o" / "submission.csv")] == [False, True, True, True, False]
    (place / "none.csv").write_text("nowhere.png,00.png\n")
    with pytest.raises(InputError, match="no pair has two images that can be used"):
        tacit.decide_pairs(place / "none.csv", tmp_path / "p", threshold=1, root=place / "images", **TEXTURE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n00.png,01.png\n", "no pair has a label; add a third column"),
        ("a,b,label\n00.png,01.png,1\n00.png,02.png,\n", "1 of 2 pairs have no label"),
        ("a,b,label\n" + "00.png,02.png,1\n" * 12, "0 of 12 pairs are different; at least two of each kind"),
        ("a,b,label\n" + "00.png,02.png,1\n00.png,01.png,0\n" * 4, "8 labelled pairs, at least 10 are needed"),
        ("a,b,label\n00.png,01.png,maybe\n", "line 2: label 'maybe'"),
        ("a,b,label\n00.png\n", "line 2: 1 cells"),
        ("", "holds no pairs"),
    ],
)
def test_a_labelled_list_that_cannot_teach_is_refused_before_anything_is_written(place: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    words = [
        "pairs",
        str(place / "asked.csv"),
        "-o",
        str(tmp_path / "o"),
        "--root",
        str(place / "images"),
        "--encoder",
        "texture",
        "--calibrate",
        str(tmp_path / "bad.csv"),
    ]
    ran = CliRunner().invoke(app, words)
    unread = "line 2" in said or said == "holds no pairs"
    assert isinstance(ran.exception, UsageError if unread else InputError) and ran.exception.exit_code == (2 if unread else 4)
    assert said in str(ran.exception) and not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metric": "cubic"}, "--metric 'cubic' is unknown"),
        ({"threshold": 1, "calibrate": "labelled.csv"}, "exclude each other"),
        ({"mpp": 0.0}, "--mpp 0.0"),
        ({"seed": -1}, "--seed -1"),
        ({"encoder": "magic"}, "--encoder 'magic' is unknown"),
        ({"patients": "asked.csv"}, "needs a column"),
        ({"set": ["fold=3"]}, "'folds'"),
    ],
)
def test_options_that_do_not_fit_are_refused(place: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    given = {k: place / v if k in ("calibrate", "patients") else v for k, v in options.items()}
    with pytest.raises(UsageError, match=said):
        tacit.decide_pairs(place / "asked.csv", tmp_path / "o", root=place / "images", **(TEXTURE | given))
    assert not (tmp_path / "o").exists()


def test_two_patients_cannot_be_kept_apart_and_it_says_so(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "two.csv"
    table.write_text("image,patient\n" + "".join(f"{k:02d}.png,{k // 2 % 2}\n" for k in range(36)))
    across = write(tmp_path / "across.csv", [(a, b) for a in range(0, 24, 4) for b in (*range(2, 24, 4), *range(3, 24, 4))])
    result = tacit.decide_pairs(place / "asked.csv", tmp_path / "o", calibrate=across, root=place / "images", patients=table, **TEXTURE)
    assert any("2 patients are too few to be kept apart" in line for line in result.warnings)
    assert json.loads((tmp_path / "o" / "threshold.json").read_text())["intervals_over"] == "images"


def test_ctrl_c_recommends_what_the_verb_has(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8)
    for k in range(200):
        (tmp_path / "in" / f"{k}.png").write_bytes(png(np.roll(noise, k)))
    (tmp_path / "pairs.csv").write_text("a,b\n" + "".join(f"{k}.png,{k + 1}.png\n" for k in range(199)))
    words = [
        sys.executable,
        "-m",
        "tacit",
        "pairs",
        str(tmp_path / "pairs.csv"),
        "-o",
        str(tmp_path / "o"),
        "--root",
        str(tmp_path / "in"),
        "--encoder",
        "texture",
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (tmp_path / "o" / "log.txt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and said.strip().splitlines()[-1] == "tacit: interrupted; repeat the command, with --overwrite where OUT was begun"
