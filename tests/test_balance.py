from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.class_weight import compute_class_weight

from tacit.errors import InputError, UsageError
from tacit.prepare.balance import class_weights, smote_enn


def clouds(rows: tuple[int, int] = (120, 15), apart: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(i * apart, 1, (n, 3)) for i, n in enumerate(rows)])
    return x, np.repeat(["common", "rare"], rows)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=50))
def test_inverse_weights_are_scikit_learns(labels: list[str]) -> None:
    weights = class_weights(labels)
    kinds = np.unique(labels)
    assert np.allclose([weights[k] for k in kinds], compute_class_weight("balanced", classes=kinds, y=labels))
    assert np.mean([weights[y] for y in labels]) == pytest.approx(1)


def test_effective_numbers_are_the_geometric_sums() -> None:
    labels = ["a"] * 100 + ["b"] * 5
    found = class_weights(labels, "effective", beta=0.99)
    number = {k: sum(0.99**i for i in range(n)) for k, n in (("a", 100), ("b", 5))}  # Eq. 2 written out
    assert found["b"] / found["a"] == pytest.approx(number["a"] / number["b"]) and sum(found.values()) == pytest.approx(2)
    assert class_weights(labels, "effective", beta=0.0) == {"a": 1.0, "b": 1.0}
    near = class_weights(labels, "effective", beta=1 - 1e-9)
    assert near["b"] / near["a"] == pytest.approx(20, rel=1e-3)


def test_rows_that_smote_makes_lie_between_neighbours_of_their_class() -> None:
    x, y = clouds()
    made, labels = smote_enn(x, y, seed=1)
    assert (labels == "rare").sum() == 120 and (labels == "common").sum() == 120
    rare = x[y == "rare"]
    near = NearestNeighbors(n_neighbors=6).fit(rare).kneighbors(rare, return_distance=False)
    starts, ends = np.repeat(rare, 5, 0), rare[near[:, 1:].ravel()]
    for row in made[labels == "rare"]:
        along = ((row - starts) * (ends - starts)).sum(1) / ((ends - starts) ** 2).sum(1)
        off = np.linalg.norm(starts + along.clip(0, 1)[:, None] * (ends - starts) - row, axis=1)
        assert off.min() < 1e-6
    again = smote_enn(x, y, seed=1)
    assert (again[0] == made).all() and (smote_enn(x, y, seed=2)[0][-1] != made[-1]).any()


def test_a_row_among_unlike_neighbours_is_removed() -> None:
    x, y = clouds((60, 60))
    y[0] = "rare"  # in the middle of the other cloud
    made, labels = smote_enn(x, y, seed=0)
    assert not ((made == x[0]).all(1) & (labels == "rare")).any()


def test_what_cannot_be_balanced_is_said() -> None:
    x, y = clouds((60, 5))
    with pytest.raises(InputError, match=r"at least 6 rows each; there are 2, and 'rare' has 5"):
        smote_enn(x, y, seed=0)
    with pytest.raises(InputError, match="never by SMOTE"):
        smote_enn(np.zeros((4, 8, 8)), np.zeros(4), seed=0)
    with pytest.raises(InputError, match="one label a row"):
        smote_enn(x, y[:-1], seed=0)
    with pytest.raises(InputError, match="finite"):
        smote_enn(np.full((20, 2), np.nan), np.repeat([0, 1], 10), seed=0)
    with pytest.raises(InputError, match="two classes"):
        smote_enn(x, np.zeros(len(x)), seed=0)
    with pytest.raises(InputError, match="class weights instead"):
        smote_enn(np.repeat(np.arange(10.0)[:, None], 2, 0), np.tile([0, 1], 10), seed=0)
    for labels in ([], ["a", None], [1.0, float("nan")]):
        with pytest.raises(InputError, match="needs a label"):
            class_weights(labels)
    with pytest.raises(UsageError, match="beta"):
        class_weights(["a"], "effective", beta=1.0)
