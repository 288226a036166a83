"""A search of settings: what it finds, that a killed one goes on to the same trials, and that its best is judged on patients that it never saw."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import tacit
from tacit.errors import InputError, TrainingError, UsageError
from tacit.learn.search_space import Choice, Space, Span, narrowed, nested, widened
from tacit.learn.table_classifier import grouped_folds
from tacit.learn.tune import Pruned, Trial, TuneConfig, importance, search
from tacit.run_folder import OWN as WRITTEN
from test_two_level import slice_of

pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages
SPACE: Space = {"x": Span(0.001, 1.0, log=True), "n": Span(1, 9), "how": Choice(("a", "b")), "radii": Choice(((1.0,), (1.0, 3.0)))}
OWN = {"x": 0.5, "n": 2, "how": "b", "radii": (1.0,)}


def hill(number: int, settings: dict[str, Any], earlier: list[Trial]) -> tuple[float, float | None]:
    """Largest at x = .03 with a; n and radii do not matter."""
    return 1 - 0.1 * (np.log10(settings["x"]) - np.log10(0.03)) ** 2 - 0.2 * (settings["how"] == "b"), None


def test_a_search_finds_the_hill_and_says_what_mattered() -> None:
    found = search(SPACE, OWN, 40, hill, TuneConfig(), seed=0)
    assert [t.number for t in found.trials] == list(range(40)) and found.trials[0].settings == OWN
    assert found.best.score is not None and found.best.score > 0.98 and found.best.settings["how"] == "a" and 0.01 < found.best.settings["x"] < 0.09
    late = [t.score for t in found.trials[20:] if t.score is not None]
    early = [t.score for t in found.trials[1:8] if t.score is not None]
    assert np.mean(late) > np.mean(early) + 0.05  # it learns from what it tried
    shares = importance(found)
    assert sum(shares.values()) == pytest.approx(1) and set(list(shares)[:2]) == {"x", "how"}
    for trial in found.trials:
        assert 0.001 <= trial.settings["x"] <= 1 and trial.settings["n"] in range(1, 10) and trial.settings["radii"] in ((1.0,), (1.0, 3.0))


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_search_that_stops_anywhere_goes_on_to_the_same_trials(stop: int, tmp_path: Path) -> None:
    def stopped(number: int, settings: dict[str, Any], earlier: list[Trial]) -> tuple[float, float | None]:
        if number == stop:
            raise KeyboardInterrupt
        return hill(number, settings, earlier)

    def without_clock(trials: list[Trial]) -> list[tuple[Any, ...]]:
        return [(t.number, t.settings, t.score, t.state, t.reason) for t in trials]

    whole = search(SPACE, OWN, 14, hill, TuneConfig(random=4), seed=3).trials
    with pytest.raises(KeyboardInterrupt):
        search(SPACE, OWN, 14, stopped, TuneConfig(random=4), seed=3, journal=tmp_path / "j.log")
    with (tmp_path / "j.log").open("a") as file:
        file.write('{"op_code":4,"worker')  # half a line, and the lock of a process that was killed
    (tmp_path / "j.log.lock").write_text("")
    again = search(SPACE, OWN, 14, hill, TuneConfig(random=4), seed=3, journal=tmp_path / "j.log").trials
    assert without_clock(again) == without_clock(whole)
    assert without_clock(search(SPACE, OWN, 14, hill, TuneConfig(random=4), seed=4).trials) != without_clock(whole)


def test_failed_and_pruned_trials_are_told_with_their_reasons_and_the_search_goes_on() -> None:
    def some(number: int, settings: dict[str, Any], earlier: list[Trial]) -> tuple[float, float | None]:
        if number == 1:
            raise TrainingError("the loss became nan at step 3\nmore")
        if number == 2:
            raise Pruned("below the median", 0.4)
        return (float("nan"), None) if number == 3 else hill(number, settings, earlier)

    found = search(SPACE, OWN, 12, some, TuneConfig(random=3), seed=0)
    assert [(t.state, t.reason) for t in found.trials[1:4]] == [
        ("failed", "the loss became nan at step 3"), ("pruned", "below the median"), ("failed", "the score is not a number: a class has no case on one side"),
    ]  # fmt: skip
    assert found.trials[2].screened == 0.4 and found.best.number not in (1, 2, 3)
    small = search({"how": SPACE["how"]}, {"how": "a"}, 6, lambda k, s, e: (float(s["how"] == "a"), None), TuneConfig(random=2), seed=0)
    assert len({t.reason for t in small.trials} - {""}) >= 1 and all(t.seconds == 0 for t in small.trials if t.reason.startswith("the settings of trial"))
    with pytest.raises(InputError, match="none of 2 trials could be scored; the first: no"):
        search(SPACE, OWN, 2, refuse, TuneConfig(), seed=0).best  # noqa: B018


def refuse(number: int, settings: dict[str, Any], earlier: list[Trial]) -> tuple[float, float | None]:
    raise InputError("no")


def test_no_trial_begins_after_the_time_is_over() -> None:
    def slow(number: int, settings: dict[str, Any], earlier: list[Trial]) -> tuple[float, float | None]:
        time.sleep(0.3)
        return hill(number, settings, earlier)

    assert 1 <= len(search(SPACE, OWN, 50, slow, TuneConfig(minutes=0.01), seed=0).trials) <= 3


def test_what_the_user_names_is_not_searched_and_what_is_there_lies_inside() -> None:
    space = {"a.b": Span(1, 4), "a.c": Choice(("x", "y")), "d": Span(0.1, 1.0, series=True), "gone": Span(1, 2)}
    assert set(narrowed(space, "series", {"a": {"b": 3}})) == {"a.c", "d", "gone"}
    assert set(narrowed(space, "picture", {})) == {"a.b", "a.c", "gone"}
    wide, own = widened(space, {"a": {"b": 9, "c": "z"}, "d": 0.01})
    assert wide == {"a.b": Span(1, 9), "a.c": Choice(("z", "x", "y")), "d": Span(0.01, 1.0, series=True)} and own == {"a.b": 9, "a.c": "z", "d": 0.01}
    assert nested(own) == {"a": {"b": 9, "c": "z"}, "d": 0.01}


BRIEF = [
    "members=3", "inner=2", "texture.samples=2000", "texture.words=16", "first.c=[1.0]", "first.gamma=[0.1]", "first.folds=2", "first.trees=false", "first.vote=soft", "first.rounds=[20]",
    "first.depth=[2]", "texture.radii=[1.0]", "tune.random=2", "tune.held=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ of 24 patients, half of them ill, and a broken file; their labels."""
    place = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    (place / "pictures").mkdir()
    for i in range(24):
        cv2.imwrite(str(place / "pictures" / f"p{i:02d}.png"), slice_of(rng, i % 2 == 1))
    (place / "pictures" / "broken.png").write_bytes(b"no picture")
    rows = [f"p{i:02d},{'ill' if i % 2 else 'well'},{i}" for i in range(24)]
    (place / "labels.csv").write_text("case,class,patient\n" + "\n".join([*rows, "broken,ill,99"]) + "\n")
    return place


def words(place: Path, out: Path, count: int = 5) -> list[str]:
    sets = [w for s in BRIEF for w in ("--set", s)]
    return [
        sys.executable,
        "-m",
        "tacit",
        "classify",
        "fit",
        str(place / "pictures"),
        "-o",
        str(out),
        "--labels",
        str(place / "labels.csv"),
        "--tune",
        str(count),
        "--no-twins",
        *sets,
    ]


@pytest.fixture(scope="module")
def searched(place: Path) -> Path:
    tacit.classify_fit(place / "pictures", place / "searched", labels=place / "labels.csv", tune=5, twins=False, set=BRIEF)
    return place / "searched"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_is_judged_on_patients_that_the_search_never_saw(place: Path, searched: Path) -> None:
    record = json.loads((searched / "run.json").read_text())
    about, rows = record["tuning"], rows_of(searched / "tables" / "tuning.csv")
    assert [r["trial"] for r in rows] == list("01234") and set(rows[0]) == {
        "trial",
        "state",
        "score",
        "screen",
        "seconds",
        "reason",
        "texture.side",
        "texture.grid",
    }
    assert (rows[0]["texture.side"], rows[0]["texture.grid"]) == ("128", "2")  # the settings as they were
    assert about["score"] == max(float(r["score"]) for r in rows if r["score"]) and about["trials"] == 5
    y, groups = np.arange(24) % 2, np.array([str(i) for i in range(24)])
    outer = len(next(iter(grouped_folds(y, groups, 4, 0)))[1])
    assert about["cases"] + about["held_out"]["cases"] == 24 and abs(about["held_out"]["cases"] - outer) <= 1
    assert 0 <= about["held_out_as_they_were"]["auc"] <= 1 and about["held_out_as_they_were"]["cases"] == about["held_out"]["cases"]
    assert any("so few patients say little" in w for w in record["warnings"])
    assert any("that it never saw" in w and "optimistic" in w for w in record["warnings"])
    html = (searched / "report.html").read_text()
    assert "Search of settings" in html and "that it never saw" in html
    assert (searched / "figures" / "tuning.png").stat().st_size > 10_000
    best = rows[about["best"]]
    model = json.loads((searched / "model" / "model.json").read_text())
    assert str(model["config"]["texture"]["side"]) == best["texture.side"] and model["config"]["texture"]["words"] == 16
    assert not list((searched / "checkpoints" / "tune").glob("trial-*"))
    assert {p.name for p in searched.iterdir()} <= set(WRITTEN)  # what --overwrite may replace


def test_the_snippet_is_settings_of_another_run(place: Path, searched: Path, tmp_path: Path) -> None:
    snippet = tomllib.loads((searched / "tuned.toml").read_text())
    assert set(snippet) == {"texture"} and set(snippet["texture"]) == {"side", "grid"}
    fixed = [s for s in BRIEF if not s.startswith("tune.")]
    result = tacit.classify_fit(place / "pictures", tmp_path / "o", labels=place / "labels.csv", twins=False, config=searched / "tuned.toml", set=fixed)
    assert result.figures == json.loads((searched / "run.json").read_text())["figures"]


def test_a_killed_study_goes_on_to_the_same_trials(place: Path, searched: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    process = subprocess.Popen(words(place, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and "trial 2:" not in ((out / "log.txt").read_text() if (out / "log.txt").exists() else ""):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said
    done = subprocess.run([*words(place, out), "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # the broken picture is a row

    def without_clock(folder: Path) -> list[dict[str, str]]:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in rows_of(folder / "tables" / "tuning.csv")]

    assert without_clock(out) == without_clock(searched)
    assert (out / "tables" / "out_of_fold.csv").read_text() == (searched / "tables" / "out_of_fold.csv").read_text()
    assert (out / "log.txt").read_text().count("trial 0:") == 1  # the trials before the kill were not done again


def test_the_screen_prunes(place: Path, tmp_path: Path) -> None:
    result = tacit.classify_fit(
        place / "pictures", tmp_path / "o", labels=place / "labels.csv", tune=8, twins=False, set=[*BRIEF, "tune.screen=0.5", "tune.random=1"], seed=1
    )
    rows = rows_of(tmp_path / "o" / "tables" / "tuning.csv")
    assert result.figures["cases"] == 24 and all(r["screen"] for r in rows if r["state"] != "failed")
    for r in rows:
        assert (r["state"] == "pruned") == (not r["score"]) and (r["state"] == "complete" or "below the median" in r["reason"])


def test_what_cannot_be_searched_is_said(place: Path, tmp_path: Path) -> None:
    def fit(**options: Any) -> None:
        tacit.classify_fit(place / "pictures", tmp_path / "o", labels=place / "labels.csv", **options)

    with pytest.raises(UsageError, match="at least two trials"):
        fit(tune=1)
    with pytest.raises(UsageError, match="they want --tune N"):
        fit(set=["tune.minutes=3"])
    named = ["texture.side=64", "texture.grid=2", "texture.radii=[1.0]", "texture.words=20", "first.c=[1.0]", "first.gamma=[1.0]", "first.vote=soft"]
    with pytest.raises(UsageError, match="leave one of them free"):
        fit(tune=3, set=[*named, "second.length=8", "second.how=area"])
    assert not (tmp_path / "o").exists()
