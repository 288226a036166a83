"""What stands beside a distance: intervals, halves, the permutation test, clusters for labels, and that all follow from the content."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import InputError
from tacit.use.distance import How, Labelled, labelled, otdd
from tacit.use.distance_certainty import certainty, half, interval, matched, p_value, split_half
from tacit.use.distance_features import reduced
from tacit.use.distance_labels import Clusters, clustered

HOW = How()


def drawn(n: int, seed: int, moved: float = 0.0, name: str = "a") -> Labelled:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return labelled(name, rng.standard_normal((n, 4)) + 3 * y[:, None] * np.array([1, 0, 0, 0]) + moved, y)


def test_two_sets_of_one_source_are_not_told_apart_and_two_of_two_are() -> None:
    same = [p_value(drawn(40, 2 * k), drawn(40, 2 * k + 1, name="b"), HOW, 39, 0) for k in range(8)]
    assert 0.2 < np.mean(same) < 0.85 and max(same) > 0.4
    assert p_value(drawn(40, 0), drawn(40, 1, moved=1.5, name="b"), HOW, 39, 0) == 1 / 40


def test_the_test_does_not_know_the_names_of_labels() -> None:
    a, b = drawn(40, 0), drawn(40, 1, name="b")
    turned = labelled("b", b.x, [{0: "one", 1: "none"}[int(k)] for k in b.y])
    assert matched(a, b).tolist() == b.y.tolist()
    assert (turned.classes[0] == "none") and matched(a, turned).tolist() == b.y.tolist()
    assert p_value(a, b, HOW, 19, 0) == p_value(a, turned, HOW, 19, 0)


def test_the_interval_holds_the_distance_and_narrows_with_more_samples() -> None:
    widths = []
    for n in (30, 240):
        a, b = drawn(n, 0), drawn(n, 1, moved=1.0, name="b")
        value = otdd(a, b).value
        low, high = interval(a, b, value, HOW, 60, 0)
        assert 0 <= low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_halves_share_no_sample_and_keep_the_shares_of_labels() -> None:
    a = drawn(41, 0)
    first, second = half(a, 0, 0)
    assert not set(first.keys) & set(second.keys) and set(first.keys) | set(second.keys) == set(a.keys)
    assert abs((first.y == 0).sum() - (second.y == 0).sum()) <= 1
    assert split_half(a, HOW, 0) < otdd(a, drawn(41, 1, moved=3.0)).value


def test_what_is_known_is_the_same_both_ways() -> None:
    a, b = drawn(30, 0), drawn(26, 1, moved=0.5, name="b")
    there, back = (certainty(p, q, otdd(p, q).value, HOW, bootstraps=20, permutations=19, seed=0) for p, q in ((a, b), (b, a)))
    assert there.p_value == back.p_value and there.at_half == pytest.approx(back.at_half) and there.interval == pytest.approx(back.interval)


def test_clusters_follow_from_the_content_and_k_is_said() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((20, 3)) + 8 * m for m in (np.zeros(3), np.eye(3)[0], np.eye(3)[1])])
    keys = [f"{i:03d}" for i in rng.permutation(60)]
    labels, words = clustered(x, keys, Clusters(None), "a", 0)
    assert words.startswith("k-means, k = 3 (the best mean silhouette, 0.") and len(set(labels[:20])) == len(set(labels[20:40])) == 1
    order = rng.permutation(60)
    again, _ = clustered(x[order], [keys[i] for i in order], Clusters(None), "b", 0)
    assert again == [labels[i] for i in order]
    assert "k = 2 (asked for; " in clustered(x, keys, Clusters(2), "a", 0)[1]
    with pytest.raises(InputError, match="a has no labels and 6 samples: no k from 2 leaves enough"):
        clustered(x[:6], keys[:6], Clusters(None), "a", 0)


def test_components_keep_distances_and_each_set_counts_alike() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((30, 3)))[0]
    a, b = rng.standard_normal((50, 3)) @ axes.T, 2 + rng.standard_normal((9, 3)) @ axes.T
    (one, two), share = reduced([a, b], ["a", "b"], 5)
    wanted = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert np.linalg.norm(one[:, None] - two[None], axis=2) == pytest.approx(wanted) and share == pytest.approx(1)
    many = reduced([a, np.repeat(b, 7, axis=0)], ["a", "b"], 5)[0][0]
    assert np.abs(many) == pytest.approx(np.abs(one), abs=1e-8)
    with pytest.raises(InputError, match="a has 30 features a sample, b has 4"):
        reduced([a, rng.standard_normal((5, 4))], ["a", "b"], 5)
    with pytest.raises(InputError, match="b has constant features"):
        reduced([a, np.ones((5, 30))], ["a", "b"], 5)
