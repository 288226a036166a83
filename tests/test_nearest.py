"""Exact search against every distance written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from tacit.parts import nearest as module
from tacit.parts.components import principal_components
from tacit.parts.nearest import Metric, Nearest


def brute(x: np.ndarray, q: np.ndarray, k: int, metric: str, forbidden: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every distance in fp64, one by one, sorted by distance and row."""
    rows, far = np.full((len(q), k), -1), np.full((len(q), k), np.inf)
    for i, one in enumerate(q.astype(x.dtype).astype(np.float64)):
        found = []
        for j, other in enumerate(x.astype(np.float64)):
            if forbidden is not None and forbidden[i, j]:
                continue
            if metric == "euclidean":
                distance = float(np.sqrt(((other - one) ** 2).sum()))
            else:
                squares = float((other * other).sum() * (one * one).sum())
                distance = max(2 - 2 * (float((other * one).sum()) / np.sqrt(squares) if squares > 0 else 0.0), 0.0)
            found.append((distance, j))
        for at, (distance, j) in enumerate(sorted(found)[:k]):
            rows[i, at], far[i, at] = j, distance
    return rows, far


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("queries", [1, 5])
def test_equal_to_brute_force_with_ties(metric: Metric, kind: type, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    rng = np.random.default_rng(3)
    x = rng.integers(-2, 3, (700, 6)).astype(kind)  # few values: very many equal distances, some rows of zeros
    q = np.concatenate([x[rng.integers(0, 700, max(queries - 1, 1))], rng.standard_normal((1, 6))])[:queries]
    rows, far = Nearest(x, metric).search(q, 40)
    true_rows, true_far = brute(x, q, 40, metric)
    assert np.array_equal(rows, true_rows) and np.array_equal(far, true_far)
    assert (np.diff(far) == 0).sum() > 10  # there were ties


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 90),
    st.integers(1, 24),
    st.integers(1, 12),
    st.sampled_from(["cosine", "euclidean"]),
    st.booleans(),
    st.booleans(),
)
def test_equal_to_brute_force_for_any_shape(seed: int, n: int, d: int, k: int, metric: Metric, coarse: bool, apart: bool) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.integers(-1, 2, (n, d)) if coarse else rng.standard_normal((n, d)) * 10 ** rng.uniform(-3, 3)).astype(np.float16)
    q = np.concatenate([x[:2], rng.standard_normal((rng.integers(0, 4), d)).astype(np.float16)])
    allowed = rng.random(n) < 0.7
    groups, own = rng.integers(0, 4, n), rng.integers(0, 4, len(q))
    forbidden = np.broadcast_to(~allowed, (len(q), n)) | ((own[:, None] == groups[None]) & apart)
    rows, far = Nearest(x, metric).search(q, k, allowed=allowed, apart=[(groups, own)] if apart else ())
    true_rows, true_far = brute(x, q, k, metric, forbidden)
    assert np.array_equal(rows, true_rows) and np.array_equal(far, true_far)


def test_one_query_and_many_agree_where_vectors_lie_in_a_narrow_cone() -> None:
    rng = np.random.default_rng(5)
    x = (1 + 0.002 * rng.standard_normal((9000, 64))).astype(np.float16)
    search = Nearest(x)
    together = search.search(x[:30], 7)
    for i in range(30):
        alone = search.search(x[i : i + 1], 7)
        assert np.array_equal(alone[0][0], together[0][i]) and np.array_equal(alone[1][0], together[1][i])
    assert np.array_equal(together[0][:3], brute(x, x[:3], 7, "cosine")[0])


def test_a_row_finds_itself_at_distance_zero_and_equal_rows_by_their_order() -> None:
    rng = np.random.default_rng(6)
    x = np.repeat(rng.standard_normal((50, 512)).astype(np.float16), 100, 0)[rng.permutation(5000)]
    rows, far = Nearest(x).search(x[:4], 100)
    assert (far == 0).all() and (np.diff(rows) > 0).all()


def test_thousands_of_equal_rows_are_settled_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CANDIDATES", 500)
    x = np.ones((6000, 8), np.float16)
    x[4000:4003] *= 2
    x[5000, 0] = 1.5
    rows, far = Nearest(x).search(np.stack([x[0], x[5000], x[3]]), 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4], [5000, 0, 1, 2, 3], [0, 1, 2, 3, 4]] and far[1, 0] == 0 < far[1, 1]
    assert np.array_equal(Nearest(x, "euclidean").search(x[4000:4002], 4)[0], [[4000, 4001, 4002, 5000]] * 2)


def test_nothing_allowed_and_no_rows() -> None:
    x = np.eye(4, dtype=np.float16)
    rows, far = Nearest(x).search(x[:2], 3, allowed=np.zeros(4, bool))
    assert (rows == -1).all() and np.isinf(far).all()
    rows, far = Nearest(x).search(x[:1], 6, allowed=np.array([True, False, True, False]))
    assert rows.tolist() == [[0, 2, -1, -1, -1, -1]] and far[0, :2].tolist() == [0, 2]
    assert (Nearest(np.zeros((0, 4), np.float16)).search(x[:2], 3)[0] == -1).all()


def test_principal_components_equal_scikit_learns() -> None:
    rng = np.random.default_rng(7)
    for n, d in ((300, 12), (9, 20)):
        x = (rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 5).astype(np.float32)
        theirs = PCA(4, svd_solver="full").fit(x.astype(np.float64))
        ours = principal_components(lambda x=x: np.array_split(x, 3), 4)
        assert np.allclose(ours.axes, theirs.components_, atol=1e-7)
        assert np.allclose(ours.share, theirs.explained_variance_ratio_) and np.allclose(ours.mean, theirs.mean_)
        assert np.allclose(ours.places(x), theirs.transform(x.astype(np.float64)), atol=1e-6)
    flat = principal_components(lambda: [np.ones((5, 3), np.float16)], 2)
    assert (flat.share == 0).all() and (flat.places(np.ones((5, 3))) == 0).all()
    with pytest.raises(ValueError):
        principal_components(list, 2)
