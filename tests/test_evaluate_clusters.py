"""`tacit evaluate --task clusters`: figures by hand, against scikit-learn and against all unions; who chooses on what; everything that is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from sklearn.metrics import adjusted_rand_score, f1_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from typer.testing import CliRunner

import tacit
from tacit.cli import app
from tacit.errors import InputError, UsageError
from tacit.phantom import fundus
from tacit.report.cluster_score import agreement, best_single, best_union, dice, intervals, on_others
from tacit.report.picture import png
from tacit.use.evaluate import evaluate
from tacit.use.evaluate_clusters import ORACLE

# rows: clusters 1, 2, 3 · columns: background, lungs, heart
TABLE = np.array([[50, 5, 5], [0, 20, 0], [10, 5, 5]])


def save(path: Path, labels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(labels.astype(np.uint8)))
    return path


def pixels(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps (1, n) of clusters, from 1, and of classes, from 0, that have this table."""
    flat = table.ravel()
    rows, columns = np.divmod(np.arange(len(flat)), table.shape[1])
    return np.repeat(rows + 1, flat)[None], np.repeat(columns, flat)[None]


def case(place: Path, tables: dict[str, np.ndarray]) -> tuple[Path, Path]:
    for name, table in tables.items():
        clusters, classes = pixels(table)
        save(place / "maps" / f"{name}.png", clusters)
        save(place / "truth" / f"{name}.png", classes)
    return place / "maps", place / "truth"


def test_figures_by_hand(tmp_path: Path) -> None:
    found = evaluate(*case(tmp_path, {"a": TABLE}), task="clusters", classes="lungs,heart")
    assert found["figures"]["purity"] == pytest.approx((50 + 20 + 10) / 100) and found["chance"]["purity"] == pytest.approx(60 / 100)
    assert found["chance"]["nmi"] == 0 and found["chance"]["ari"] == 0 and found["images"] == 1 and found["pixels"] == 100
    first, second, _ = found["clusters"]
    assert first == {
        "cluster": "cluster-1", "share": 0.6, "majority": "background",
        "classes": {"background": pytest.approx(50 / 60), "lungs": pytest.approx(5 / 60), "heart": pytest.approx(5 / 60)},
    }  # fmt: skip
    assert second["majority"] == "lungs" and second["classes"]["lungs"] == 1.0
    assert found["classes"]["lungs"]["share"] == 0.3 and found["classes"]["lungs"]["chance"] == pytest.approx(2 * 30 / 130)
    assert found["classes"]["lungs"]["single"] is None  # there is no other image to choose on


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 6, 3000), rng.integers(0, 4, 3000)
    b = np.where(rng.random(3000) < seed / 5, a % 4, b)
    found = agreement(contingency_matrix(a, b))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9) and found["ari"] == pytest.approx(adjusted_rand_score(a, b), abs=1e-9)
    assert found["purity"] == pytest.approx(np.mean([np.bincount(b[a == k]).argmax() == t for k, t in zip(a, b, strict=True)]))


@pytest.mark.parametrize(
    ("a", "b"), [([1, 1, 1], [2, 2, 2]), ([1, 1, 1], [1, 2, 2]), ([1, 2, 3], [4, 5, 6]), ([1, 2, 2], [1, 1, 1]), ([1, 1, 2, 2], [2, 2, 1, 1])]
)
def test_agreement_at_its_ends(a: list[int], b: list[int]) -> None:
    found = agreement(contingency_matrix(a, b))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(a, b)) and found["ari"] == pytest.approx(adjusted_rand_score(a, b))


def test_many_pixels_lose_no_digits() -> None:
    small = agreement(TABLE * 1000)
    large = agreement(TABLE * 10_000_000_000)
    assert all(large[name] == pytest.approx(float(small[name]), rel=1e-4) for name in small)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_union_is_the_best_of_all_subsets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = (rng.integers(0, 50, (7, 3)) * (rng.random((7, 3)) < 0.7)).astype(np.int64)
    subsets = [np.array(flags, bool) for flags in itertools.product([False, True], repeat=7) if any(flags)]
    for column in (1, 2):
        assert dice(table, column, best_union(table, column)) == pytest.approx(max(dice(table, column, s) for s in subsets))
        singles = [dice(table, column, s) for s in subsets if s.sum() == 1]
        assert dice(table, column, best_single(table, column)) == pytest.approx(max(singles)) and best_single(table, column).sum() == 1


def test_dice_is_that_of_the_pixels() -> None:
    clusters, classes = pixels(TABLE)
    assert dice(TABLE, 1, np.array([False, True, True])) == pytest.approx(f1_score(classes[0] == 1, clusters[0] >= 2))
    assert dice(np.zeros((2, 2), np.int64), 1, np.array([True, False])) == 1.0


def test_nobody_chooses_on_what_is_scored() -> None:
    """Two kinds of images with opposite clusters: each fold is scored by what fits the other, so both fail; one that looked would be perfect."""
    one, other = np.array([[30, 0], [0, 10]]), np.array([[0, 10], [30, 0]])
    tables, fold = np.stack([one, one, other, other]), np.array([True, True, False, False])
    scores, chosen = on_others(tables, 1, best_single, fold)
    assert scores.tolist() == [0.0] * 4 and [c.tolist() for c in chosen] == [[True, False], [False, True]]
    same, _ = on_others(np.stack([one] * 4), 1, best_single, fold)
    assert same.tolist() == [1.0] * 4


def test_perfect_clusters_are_chosen_in_both_halves_and_score_one(tmp_path: Path) -> None:
    good = np.array([[60, 0, 0], [0, 30, 0], [0, 0, 10]])
    found = evaluate(*case(tmp_path, dict.fromkeys("abcd", good)), task="clusters", classes="lungs,heart")
    assert found["classes"]["lungs"]["single"] == {"dice": 1.0, "interval": [1.0, 1.0], "chosen": [["cluster-2"], ["cluster-2"]]}
    assert found["classes"]["heart"]["union"]["dice"] == 1.0 and found["figures"] == pytest.approx({"purity": 1, "nmi": 1, "ari": 1})


def test_intervals_are_those_of_drawn_images() -> None:
    rng = np.random.default_rng(3)
    tables = rng.integers(0, 40, (9, 4, 3)).astype(np.int64)
    found = intervals(tables, 130, 5)
    drawing = np.random.default_rng(5)
    slow = []
    for first in range(0, 130, 50):
        slow += [float(agreement(tables[chosen].sum(0))["purity"]) for chosen in drawing.integers(0, 9, (min(50, 130 - first), 9))]
    assert found["purity"] == pytest.approx(np.quantile(slow, (0.025, 0.975)).tolist())
    assert intervals(tables[:1], 20, 0)["ari"] == pytest.approx([float(agreement(tables[0])["ari"])] * 2)


def test_a_field_folders_of_classes_and_values_without_names(tmp_path: Path) -> None:
    clusters, classes = pixels(TABLE)
    save(tmp_path / "maps" / "a.png", clusters)
    save(tmp_path / "truth" / "a.png", classes * 100)
    half = np.arange(clusters.size)[None] < 60  # the pixels of the first cluster
    save(tmp_path / "fields" / "a.png", half * 255)
    found = evaluate(tmp_path / "maps", tmp_path / "truth", task="clusters", field=tmp_path / "fields")
    assert found["pixels"] == 60 and [c["cluster"] for c in found["clusters"]] == ["cluster-1"] and set(found["classes"]) == {"value 100", "value 200"}
    for value, name in ((1, "lungs"), (2, "heart")):
        save(tmp_path / "parts" / name / "a.png", (classes == value) * 255)
    parts = evaluate(tmp_path / "maps", tmp_path / "parts", task="clusters", classes="lungs,heart")
    assert (
        parts["clusters"] == evaluate(tmp_path / "maps", save(tmp_path / "whole" / "a.png", classes).parent, task="clusters", classes="lungs,heart")["clusters"]
    )
    one = evaluate(tmp_path / "maps", tmp_path / "truth", task="clusters", classes="thorax")
    assert one["clusters"][0]["classes"] == pytest.approx({"background": 50 / 60, "thorax": 10 / 60})
    with pytest.raises(UsageError, match="holds masks of a in heart and lungs; name these classes in order: --classes heart,lungs"):
        evaluate(tmp_path / "maps", tmp_path / "parts", task="clusters")


def test_where_folders_of_classes_overlap_the_later_counts(tmp_path: Path) -> None:
    save(tmp_path / "maps" / "a.png", np.array([[1, 1, 2, 2]]))
    save(tmp_path / "truth" / "lungs" / "a.png", np.array([[1, 1, 1, 0]]))
    save(tmp_path / "truth" / "heart" / "a.png", np.array([[0, 0, 1, 0]]))
    found = evaluate(tmp_path / "maps", tmp_path / "truth", task="clusters", classes="lungs,heart")
    assert found["clusters"][1]["classes"] == {"background": 0.5, "lungs": 0.0, "heart": 0.5}


def test_images_that_do_not_count_are_listed(tmp_path: Path) -> None:
    maps, truth = case(tmp_path, dict.fromkeys(("a", "b", "short", "blank", "many", "alone", "unnamed", "nofield"), TABLE))
    save(truth / "short.png", np.ones((1, 99)))
    save(truth / "blank.png", np.zeros((1, 100)))
    (truth / "alone.png").unlink()
    save(truth / "unnamed.png", np.full((1, 100), 9))
    Pillow.fromarray((pixels(TABLE)[0] * 200).astype(np.uint16)).save(maps / "many.png")
    for name in ("a", "b", "short", "blank", "many", "unnamed"):
        save(tmp_path / "fields" / f"{name}.png", np.ones((1, 100)))
    words = ["evaluate", str(maps), str(truth), "--task", "clusters", "--classes", "lungs,heart", "--field", str(tmp_path / "fields")]
    done = CliRunner().invoke(app, [*words, "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 3 and found["images"] == 2 and found["missing"] == ["alone"]
    whys = {Path(row["file"]).stem: row["reason"] for row in found["failures"]}
    assert set(whys) == {"short", "blank", "many", "unnamed", "nofield"}
    for name, said in {
        "short": "1×99 px, the map 1×100", "blank": "the truth is empty", "many": "clusters from 200 to 600, expected 0 to 255",
        "unnamed": "the value 9, --classes names 2", "nofield": "no field of this image",
    }.items():  # fmt: skip
        assert said in whys[name], name
    said = CliRunner().invoke(app, words)
    assert "no truth for alone" in said.output and "the truth is empty" in said.output


def test_what_is_refused(tmp_path: Path) -> None:
    maps, truth = case(tmp_path, {"a": TABLE})
    save(tmp_path / "blank" / "a.png", np.zeros((1, 100)))
    (tmp_path / "nothing").mkdir()
    asked = [
        ((maps, None), {}, UsageError, "needs TRUTH"),
        ((tmp_path / "gone", truth), {}, InputError, "is no folder"),
        ((tmp_path / "nothing", truth), {}, InputError, "no maps of clusters in"),
        ((maps, tmp_path / "gone"), {}, InputError, "the truth folder"),
        ((maps, tmp_path / "nothing"), {}, InputError, "no pictures at all"),
        ((maps, tmp_path / "blank"), {}, InputError, r"no true mask of .* the truth is empty"),
        ((maps, truth), {"classes": "lungs,lungs"}, UsageError, "each once"),
        ((maps, truth), {"task": "cluster"}, UsageError, "known: segment, structures, clusters, query, locate"),
    ]
    for places, options, kind, said in asked:
        with pytest.raises(kind, match=said):
            evaluate(*places, **({"task": "clusters"} | options))


def test_a_run_of_clusters_is_scored_and_left_as_it_is(tmp_path: Path) -> None:
    for i in range(3):
        drawing = fundus.draw(np.random.default_rng([9, i]), (150, 160))
        save(tmp_path / "truth" / f"f{i}.png", drawing.labels > 0)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"f{i}.png").write_bytes(png(drawing.picture))
    small = ["size=48", "network.width=4", "dimensions=8", "clusters=5", "train.epochs=2", "train.steps=2", "train.batch=2"]
    tacit.pretrain(tmp_path / "in", tmp_path / "run", method="local-discrimination", set=small)
    made = CliRunner().invoke(app, ["segment", str(tmp_path / "in"), "-o", str(tmp_path / "o"), "--model", str(tmp_path / "run"), "--method", "clusters"])
    assert made.exit_code == 0 and f"tacit evaluate {tmp_path / 'o'} TRUTH --task clusters" in made.stdout.replace("\n", " "), made.output
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "o").rglob("*") if p.is_file()}
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "o"), str(tmp_path / "truth"), "--task", "clusters", "--classes", "vessel"])
    assert done.exit_code == 0 and "3 images, 72000 pixels" in done.stdout and "vessel dice, best union" in done.stdout and ORACLE in done.stdout
    assert before == {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / "o").rglob("*") if p.is_file()}
    found = evaluate(tmp_path / "o", tmp_path / "truth", task="clusters", classes="vessel")
    maps = [np.asarray(Pillow.open(tmp_path / "o" / "masks" / f"f{i}.png")).ravel() for i in range(3)]
    true = [np.asarray(Pillow.open(tmp_path / "truth" / f"f{i}.png")).ravel() for i in range(3)]
    a, b = np.concatenate(maps), np.concatenate(true)
    assert found["figures"]["nmi"] == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-9)
    assert found["figures"]["ari"] == pytest.approx(adjusted_rand_score(a, b), abs=1e-9)
    assert found["figures"]["purity"] >= found["chance"]["purity"] == pytest.approx(max(b.mean(), 1 - b.mean()))
    assert sum(c["share"] for c in found["clusters"]) == pytest.approx(1)
