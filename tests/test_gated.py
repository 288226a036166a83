from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy.stats.contingency import association as cramer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.config import build
from tacit.errors import ConfigError, InputError
from tacit.image import Image
from tacit.learn.gated import Gated, GatedConfig
from tacit.learn.pipelines import PIPELINES
from tacit.learn.two_level import TwoLevelConfig
from tacit.learn.workshop import Workshop
from tacit.prepare.associate import association, cramers_v
from tacit.prepare.gate import rms_contrast, two_clusters
from tacit.read.labels import Labels
from tacit.report.classes import area
from tacit.use.classify_members import fewer_members
from tacit.use.cohort import Case
from tacit.use.model import load_model, save_model
from test_classify import BRIEF, rows_of
from test_two_level import slice_of

BRIEF_TABLES: dict[str, Any] = {
    "members": 2, "texture": {"side": 64, "words": 16, "samples": 3000}, "first": {"c": [1.0], "gamma": [0.1], "folds": 2},
}  # fmt: skip
SETTINGS = [f"{side}.settings.{text}" for side in ("low", "high") for text in BRIEF] + ["by=rms-contrast"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def config(**settings: Any) -> GatedConfig:
    both = {"low": {"settings": BRIEF_TABLES}, "high": {"settings": BRIEF_TABLES}}
    return build(GatedConfig, both, {"classes": ["ill", "well"], "by": "rms-contrast"}, settings)


def cases_of(network: Gated, count: int, seed: int = 0) -> tuple[list[dict[str, Any]], np.ndarray, np.ndarray]:
    """Pictures as the network keeps them, their classes and patients: of every patient one of full and one of a third of the contrast."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) // 2 % 2
    pictures = []
    for i in range(count):
        grey = slice_of(rng, y[i] == 0)
        pictures.append(grey if i % 2 else (128 + (grey.astype(float) - 128) / 3).astype(np.uint8))
    network.look(pictures, 0)
    return [network.kept(p[None]) for p in pictures], y.astype(np.int64), np.array([f"p{i // 2}" for i in range(count)])


def untempered(p: np.ndarray, network: Any) -> np.ndarray:
    return np.log(p[:, 0] / p[:, 1]) / float(network.weights[0])


def test_each_case_is_answered_by_the_branch_of_its_contrast() -> None:
    network = Gated(config())
    cases, y, groups = cases_of(network, 32)
    p, chosen = network.fit(cases, y, groups, Workshop())
    numbers = network.numbers(cases)
    assert float(network.threshold) == two_clusters(numbers) and network.sides(numbers).tolist() == ["low", "high"] * 16
    assert [c["branch"] for c in chosen] == ["low"] * 2 + ["high"] * 2 and area(p, y) > 0.9
    found = network.answers(cases)
    stripped = [
        {name.removeprefix("low."): a for name, a in case.items() if name.startswith("low.")} for case in cases
    ]  # kept once: both branches are the same
    assert not any(name.startswith("high.") for case in cases for name in case)
    for i, side in enumerate(("low", "high")):
        own = getattr(network, side).answers(stripped[i::2])
        assert np.array_equal(found.p[i::2], own.p) and np.array_equal(found.low[i::2], own.low) and np.array_equal(found.high[i::2], own.high)
    assert all(s.shape == (1, 2) for s in found.slices) and network.maps(cases[0]) is None


def test_the_number_is_taken_over_the_slices_and_the_threshold_may_be_given() -> None:
    stack = np.stack([slice_of(np.random.default_rng(i), False, 64) // (i + 1) for i in range(3)])
    each = np.array([rms_contrast(plane) for plane in stack])
    for over, expected in (("mean", each.mean()), ("median", np.median(each)), ("largest", each.max())):
        network = Gated(config(over=over, threshold=0.1))
        network.look(list(stack), 0)
        kept = network.kept(stack)
        assert network.numbers([kept])[0] == pytest.approx(expected) and len(kept["gate"]) == 3
    network.threshold.fill_(float(each.max()))
    assert network.sides(each).tolist() == ["low"] * 3  # as graygate: high is above, not at


def test_a_patient_on_both_sides_of_the_gate_teaches_nothing_about_itself() -> None:
    network = Gated(config(threshold=0.15))
    cases, y, groups = cases_of(network, 32)
    p, _ = network.fit(cases, y, groups, Workshop())
    before = untempered(p[:1], network.low)
    other = [dict(case) for case in cases]
    rng = np.random.default_rng(9)
    for name in other[1]:  # the same patient's case beyond the gate becomes nonsense
        if name != "gate":
            other[1][name] = rng.normal(size=other[1][name].shape).astype(np.float32)
    again = Gated(network.config)
    q, _ = again.fit(other, y, groups, Workshop())
    assert untempered(q[:1], again.low) == pytest.approx(before, abs=1e-9)
    assert np.abs(untempered(q[3::2], again.high) - untempered(p[3::2], network.high)).max() > 1e-6  # others' answers beyond the gate do change


def test_a_threshold_by_labels_is_chosen_without_the_patients_that_it_is_scored_on() -> None:
    c = config(threshold="labels", folds=2, candidates=2)
    network = Gated(c)
    cases, y, groups = cases_of(network, 48)
    p, _ = network.fit(cases, y, groups, Workshop())
    numbers = network.numbers(cases)
    worth = {
        t: area(Gated(config(threshold=t)).fit(cases, y, groups, Workshop())[0], y) for t in (two_clusters(numbers), *np.quantile(numbers, [1 / 3, 2 / 3]))
    }
    assert worth[float(network.threshold)] == max(worth.values()) and len(worth) == 3 and area(p, y) > 0.8
    other = [dict(case) for case in cases]
    other[1] = {name: a if name == "gate" else np.ones_like(a) for name, a in cases[1].items()}
    q, _ = Gated(c).fit(other, y, groups, Workshop())
    assert q[0] == pytest.approx(p[0], abs=1e-12) and not np.allclose(q[1], p[1])


def test_branches_of_their_own_settings_are_saved_and_loaded(tmp_path: Path) -> None:
    network = Gated(config(high={"settings": {"texture": {"words": 8}}}))
    assert network.high.config.texture.words == 8 and network.low.config.texture.words == 16 and network.high.config.members == 2
    cases, y, groups = cases_of(network, 24)
    assert any(name.startswith("high.") for name in cases[0])
    network.fit(cases, y, groups, Workshop())
    save_model(tmp_path / "model", "gate", network, {"images": 24}, "a card")
    again, _ = load_model(tmp_path, PIPELINES)
    assert float(again.threshold) == float(network.threshold) and np.array_equal(again.answers(cases).p, network.answers(cases).p)
    again.device = "meta"
    assert (again.device, again.low.device, again.high.device) == ("meta",) * 3


def test_what_a_gate_cannot_do_is_said() -> None:
    network = Gated(config(threshold=0.01))
    cases, y, groups = cases_of(network, 16)
    with pytest.raises(InputError, match=r"branch low \(rms-contrast up to 0.01\) has 0 of 16 cases, of class 'ill' 0 of 0 patients; .*--set threshold="):
        network.fit(cases, y, groups, Workshop())
    one_class = np.where(np.arange(16) % 2, y, 0)
    with pytest.raises(InputError, match=r"branch low .* has 8 of 16 cases, of class 'well' 0 of 0 patients"):
        Gated(config()).fit(cases, one_class.astype(np.int64), groups, Workshop())
    with pytest.raises(InputError, match="none of 1 thresholds leaves both branches enough"):
        Gated(config(threshold="labels", folds=2, candidates=1)).fit(cases[:8], one_class[:8].astype(np.int64), groups[:8], Workshop())
    with pytest.raises(InputError, match="for every case, so it parts none; give another --set threshold= or by="):
        Gated(config()).fit([cases[0]] * 8, y[:8], groups[:8], Workshop())
    few = Gated(config(low={"settings": {"members": 4, "first": {"folds": 3}}}))
    with pytest.raises(InputError, match=r"branch low \(4 cases of 4 patients\): a class has one patient only.*--set threshold= or by="):
        few.fit([dict(c) for c in cases[:8]], y[:8], groups[:8], Workshop())
    for settings, said in (
        ({"by": "loudness"}, "setting by"),
        ({"threshold": "guess"}, "setting threshold"),
        ({"low": {"pipeline": "three-level"}}, "low: .*'three-level' is unknown; known are two-level"),
        ({"high": {"pipeline": "gate"}}, "a gate leads to no gate"),
        ({"low": {"settings": {"membrs": 3}}}, "low: unknown setting 'membrs'; the nearest known one is 'members'"),
        ({"low": {"settings": {"unit": "series"}}}, "low.settings.unit is no setting to change"),
        ({"lower": {}}, "unknown setting 'lower'; the nearest known one is 'low'"),
    ):
        with pytest.raises(ConfigError, match=said):
            config(**settings)
    assert GatedConfig().low.pipeline == "two-level" and Gated().low.config == TwoLevelConfig()


def test_association_is_that_of_scipy_and_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    high = rng.random(80) < 0.4
    words = [str(w) for w in np.where(rng.random(80) < 0.7, np.where(high, "sharp", "soft"), rng.choice(["soft", "sharp", "bone"], 80))]
    table = np.array([[sum(w == kind and h == side for w, h in zip(words, high, strict=True)) for side in (False, True)] for kind in ("soft", "sharp", "bone")])
    assert association(list(words), high) == ("cramers-v", pytest.approx(cramer(table, method="cramer", correction=False)))
    numbers = rng.normal(size=80) - high
    found = association([*numbers[:79], None], high)
    assert found == ("auc", pytest.approx(roc_auc_score(~high[:79], numbers[:79])))
    assert cramers_v(["a", "b"] * 4, [True, False] * 4) == pytest.approx(1) and np.isnan(cramers_v(["a"] * 4, [True, False] * 2))
    assert np.isnan(association([1.0] * 4, np.array([True, False] * 2))[1]) and np.isnan(association([1.0, 2.0], np.ones(2, bool))[1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pictures/ of 32 patients, half ill, half faint: faint ones are JPEG of low quality. same/ has one quality for all. new/ as pictures/."""
    place = tmp_path_factory.mktemp("gated")
    rng = np.random.default_rng(0)
    for folder, count in (("pictures", 32), ("same", 32), ("new", 8)):
        (place / folder).mkdir()
        for i in range(count):
            faint = i // 2 % 2 == 1
            grey = slice_of(rng, i % 2 == 1)
            grey = (128 + (grey.astype(float) - 128) / 3).astype(np.uint8) if faint else grey
            Pillow.fromarray(grey).save(place / folder / f"{i:02d}.jpg", quality=85 if faint and folder != "same" else 95)
    rows = [f"{i:02d},{'ill' if i % 2 else 'well'},patient{i}" for i in range(32)]
    (place / "labels.csv").write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    return place


def test_a_gate_says_that_it_separates_sources(place: Path, tmp_path: Path) -> None:
    words = ["classify", "fit", str(place / "pictures"), "-o", str(tmp_path / "o"), "--labels", str(place / "labels.csv"), "--pipeline", "gate", "--no-twins"]
    done = CliRunner().invoke(app, [*words, *(w for text in SETTINGS for w in ("--set", text))])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["pipeline"] == "gate" and record["figures"]["auc"] > 0.8 and (record["gate"]["low"], record["gate"]["high"]) == (16, 16)
    gate = rows_of(tmp_path / "o" / "tables" / "gate.csv")
    assert [r["branch"] for r in gate] == ["low" if i // 2 % 2 else "high" for i in range(32)]
    assert all((float(r["value"]) > record["gate"]["threshold"]) == (r["branch"] == "high") for r in gate)
    (line,) = [w for w in record["warnings"] if "separates sources" in w]
    assert "jpeg quality area 1.00" in line
    assert not any("members asked" in w for w in record["warnings"])
    facts = rows_of(tmp_path / "o" / "tables" / "gate_facts.csv")
    assert facts[0] == {"fact": "jpeg quality", "measure": "auc", "strength": "1.0000"}
    branches = {r["branch"]: r for r in rows_of(tmp_path / "o" / "tables" / "gate_branches.csv")}
    assert float(branches["low"]["share_ill"]) == 0.5 == float(branches["high"]["share_well"]) and float(branches["high"]["auc"]) > 0.8
    html = (tmp_path / "o" / "report.html").read_text()
    assert "separates sources" in html and "What goes with the branch" in html and html.count("data:image/png") == 2
    result = tacit.classify_predict(place / "new", tmp_path / "p", model=tmp_path / "o")
    assert [a["branch"] for a in result.answers] == ["high", "high", "low", "low"] * 2
    assert sum(a["class"] == ("ill" if i % 2 else "well") for i, a in enumerate(result.answers)) >= 6


def test_a_branch_with_fewer_members_than_asked_is_said() -> None:
    labels = Labels({f"c{i}": ("ill", "well")[i % 2] for i in range(8)}, {f"c{i}": f"p{i}" for i in range(8)}, ("ill", "well"), True)
    cases = [Case(name, "picture", (), lambda: Image(np.zeros((4, 4), np.uint8), "hw"), "") for name in labels.of]
    network = Gated(GatedConfig())
    taught = [{"branch": "low", "member": {}}] * 5 + [{"branch": "high", "member": {}}] * 2
    (line,) = fewer_members(network, taught, cases, labels)
    assert line.startswith("branch high: 5 members asked, 2 possible: the rarest class, 'ill', has 4 patients on both sides of the gate")
    assert fewer_members(network, taught[:5] + [{"branch": "high", "member": {}}] * 5, cases, labels) == []


def test_a_gate_on_contrast_alone_is_no_alarm(place: Path, tmp_path: Path) -> None:
    tacit.classify_fit(place / "same", tmp_path / "o", labels=place / "labels.csv", pipeline="gate", twins=False, set=SETTINGS)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert not any("separates sources" in w for w in record["warnings"]) and "separates" not in record["gate"]["said"]
    assert record["gate"]["classes_cramers_v"] == 0.0 and record["gate"]["value_alone_interval"][0] < 0.6
    assert not any("leans" in w for w in record["warnings"])


def test_a_gate_whose_number_tells_the_class_says_so(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(3), []
    (tmp_path / "in").mkdir()
    for i in range(48):
        faint, ill = i % 12 >= 6, i % 12 in (0, 1, 2, 3, 4, 6)  # of six faint ones one is ill, of six others five
        grey = slice_of(rng, ill)
        Pillow.fromarray((128 + (grey.astype(float) - 128) / 3).astype(np.uint8) if faint else grey).save(tmp_path / "in" / f"{i:02d}.png")
        rows.append(f"{i:02d},{'ill' if ill else 'well'},p{i}")
    (tmp_path / "l.csv").write_text("case,class,patient\n" + "\n".join(rows) + "\n")
    tacit.classify_fit(tmp_path / "in", tmp_path / "o", labels=tmp_path / "l.csv", pipeline="gate", twins=False, set=SETTINGS)
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert record["gate"]["classes_cramers_v"] == pytest.approx(2 / 3, abs=1e-4) and any("leans" in w for w in record["warnings"]), record["gate"]
