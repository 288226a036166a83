"""The distance of two labelled sets: a linear program on a cost of slow loops, the Gaussian closed form, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import linprog
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf

from tacit.errors import InputError, SolverError, UsageError
from tacit.parts import sinkhorn, transport
from tacit.parts.gaussian_wasserstein import gaussians, label_distances, of_covariances, shrunken
from tacit.parts.transport import exact
from tacit.use.distance import How, Labelled, check_alike, labelled, one_solver, otdd


def drawn(n: int = 40, d: int = 5, labels: int = 3, seed: int = 0, moved: float = 0.0, name: str = "a") -> Labelled:
    """Clouds of unequal shapes, every label with at least two samples."""
    rng = np.random.default_rng(seed)
    y = np.r_[np.repeat(np.arange(labels), 2), rng.integers(0, labels, n - 2 * labels)]
    x = rng.standard_normal((n, d)) * (1 + np.arange(labels))[y][:, None] * np.linspace(1, 0.3, d) + 2 * y[:, None] + moved
    return labelled(name, x, [f"label {k}" for k in y])


def w2_by_definition(a: np.ndarray, b: np.ndarray) -> float:
    """W₂² of the Gaussians of samples a (n, d) and b (m, d), covariances by scikit-learn's Ledoit and Wolf, roots by scipy."""
    cov_a, cov_b = ledoit_wolf(a)[0], ledoit_wolf(b)[0]
    root = sqrtm(cov_a)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(root @ cov_b @ root))))


def by_linear_program(a: Labelled, b: Labelled, weights: tuple[float, float] = (1.0, 1.0)) -> float:
    """OTDD² from a cost that is built number by number."""
    n, m = len(a), len(b)
    cost = np.zeros((n, m))
    for i in range(n):
        for j in range(m):
            far = sum((float(p) - float(q)) ** 2 for p, q in zip(a.x[i], b.x[j], strict=True))
            cost[i, j] = weights[0] * far + weights[1] * w2_by_definition(a.x[a.y == a.y[i]], b.x[b.y == b.y[j]])
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    found = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.r_[np.full(n, 1 / n), np.full(m, 1 / m)], method="highs")
    return float(found.fun)


@pytest.mark.filterwarnings("ignore:Matrix is")  # of scipy's root where two samples span a line
@pytest.mark.parametrize(("n", "m", "labels", "weights"), [(12, 9, (2, 3), (1.0, 1.0)), (10, 10, (3, 2), (0.3, 2.0)), (14, 8, (2, 2), (0.0, 1.0))])
def test_it_is_what_a_linear_program_finds_on_a_cost_of_slow_loops(n: int, m: int, labels: tuple[int, int], weights: tuple[float, float]) -> None:
    a, b = drawn(n, labels=labels[0]), drawn(m, labels=labels[1], seed=1, moved=0.7, name="b")
    assert otdd(a, b, How(weights)).squared == pytest.approx(by_linear_program(a, b, weights), rel=1e-9, abs=1e-9)


def test_labels_are_as_far_apart_as_gaussians_by_their_closed_form() -> None:
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((2, 6, 6))
    covariances, means = roots @ roots.transpose(0, 2, 1), rng.standard_normal((2, 6))
    one, other = (of_covariances(means[[i]], covariances[[i]], np.array([9])) for i in (0, 1))
    root = np.real(sqrtm(covariances[0]))
    wanted = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * np.real(sqrtm(root @ covariances[1] @ root)))
    assert label_distances(one, other)[0, 0] == pytest.approx(wanted, rel=1e-10)
    assert label_distances(one, one)[0, 0] == pytest.approx(0, abs=1e-12 * np.trace(covariances[0]))


def test_many_samples_of_gaussians_come_near_the_closed_form() -> None:
    """Two sets whose labels are clouds of one Gaussian each: with λy = 0 their transport is that of the Gaussians themselves."""
    rng = np.random.default_rng(0)
    x, x2 = norm.ppf((rng.permutation(1500)[:, None] + 0.5) / 1500), 3 + 2.0 * norm.ppf((np.arange(1500)[:, None] + 0.5) / 1500)
    halves = np.arange(1500) % 2
    found = otdd(labelled("a", x, halves), labelled("b", x2, halves), How((1.0, 0.0))).squared
    assert found == pytest.approx(3**2 + (2 - 1) ** 2, rel=0.005)


@pytest.mark.parametrize(("n", "d"), [(2, 4), (5, 8), (200, 3)])
def test_covariances_are_shrunken_as_scikit_learn_shrinks_them(n: int, d: int) -> None:
    x = np.random.default_rng(n).standard_normal((n, d)) * np.linspace(1, 3, d)
    assert shrunken(x - x.mean(0)) == pytest.approx(ledoit_wolf(x)[0], rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
def test_equal_content_is_at_no_distance(solver: str) -> None:
    a = drawn(60)
    order = np.random.default_rng(3).permutation(60)
    renamed = [f"other {9 - k}" for k in a.y]
    b = labelled("b", a.x[order], [renamed[i] for i in order])
    found = otdd(a, b, How(solver=solver))
    assert abs(found.squared) <= 1e-9 * found.mean_cost and found.mean_cost > 1


def test_equal_content_lies_in_equal_order_whatever_it_is_called() -> None:
    a = drawn(30)
    order = np.random.default_rng(3).permutation(30)
    b = labelled("b", a.x[order], [chr(ord("z") - int(k)) for k in a.y[order]])
    assert (a.x == b.x).all() and a.keys == b.keys


@pytest.mark.parametrize("solver", ["exact", "sinkhorn"])
def test_it_is_the_same_both_ways_and_by_any_names(solver: str) -> None:
    a, b = drawn(50), drawn(35, seed=1, moved=0.5, name="b")
    there, back = otdd(a, b, How(solver=solver)), otdd(b, a, How(solver=solver))
    assert there.value == pytest.approx(back.value, rel=1e-9 if solver == "exact" else 1e-2)
    assert there.labels == pytest.approx(back.labels.T, rel=1e-9)
    named = labelled("a", a.x, [{0: "zebra", 1: "ape", 2: "mouse"}[int(k)] for k in a.y])
    assert otdd(named, b, How(solver=solver)).value == pytest.approx(there.value, rel=1e-9 if solver == "exact" else 1e-2)


def test_the_coupling_by_class_holds_all_mass_in_the_shares_of_the_labels() -> None:
    a, b = drawn(50), drawn(35, labels=2, seed=1, name="b")
    mass = otdd(a, b).by_class
    assert mass is not None and mass.shape == (3, 2)
    assert mass.sum(1) == pytest.approx(np.bincount(a.y) / 50) and mass.sum(0) == pytest.approx(np.bincount(b.y) / 35)


def test_sinkhorn_comes_to_the_exact_value_as_its_blur_goes() -> None:
    a, b = drawn(80), drawn(80, seed=1, moved=3.0, name="b")
    wanted = otdd(a, b, How(solver="exact")).squared
    near, far = (abs(otdd(a, b, How(solver="sinkhorn", epsilon=e)).squared - wanted) for e in (0.005, 0.2))
    assert near < 0.03 * wanted and near < far


def test_sinkhorn_is_the_same_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(90), drawn(70, seed=1, name="b")
    whole = otdd(a, b, How(solver="sinkhorn")).squared
    monkeypatch.setattr(sinkhorn, "CELLS", 700)  # ten rows at a time
    monkeypatch.setattr(sinkhorn, "BEGIN", 40)  # and another beginning
    assert otdd(a, b, How(solver="sinkhorn")).squared == pytest.approx(whole, rel=0.02, abs=0.02)


def test_a_solver_that_stops_early_says_so_and_gives_no_number() -> None:
    a, b = drawn(80), drawn(80, seed=1, name="b")
    cost = ((a.x[:, None] - b.x[None]) ** 2).sum(2)
    even = np.full(80, 1 / 80)
    with pytest.raises(SolverError, match="stopped before the optimum on 80 × 80 samples"):
        exact(cost, even, even, most_steps=3)
    c = sinkhorn.factors(a.x, a.y, b.x, b.y, label_distances(gaussians(a.x, a.y, 3), gaussians(b.x, b.y, 3)), (1.0, 1.0))
    with pytest.raises(SolverError, match="in wrong places after 1 rounds"):
        sinkhorn.entropic(c, 0.01, most_rounds=1, tolerance=1e-9)
    with pytest.raises(SolverError, match="in wrong places after 1 rounds"):
        sinkhorn.entropic_self(c.part(np.arange(80), np.arange(80)), 0.01, most_rounds=1, tolerance=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((0, 3)), [], "a is an empty side"),
        (np.full((4, 2), 3.0), list("aabb"), "a has constant features: all 4 samples"),
        (np.arange(8.0).reshape(4, 2), list("aaaa"), r"a has one label only \('a'\)"),
        (np.arange(8.0).reshape(4, 2), list("aaab"), "label 'b' has one sample"),
        (np.array([[1.0, np.nan], [1, 2], [3, 4], [5, 6]]), list("aabb"), "1 of 4 samples have features that are NaN"),
        (np.arange(8.0).reshape(4, 2), list("aab"), "4 samples and 3 labels"),
    ],
)
def test_what_is_no_set_is_named(x: np.ndarray, y: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        labelled("a", x, y)


def test_sets_of_different_feature_length_are_named() -> None:
    with pytest.raises(InputError, match="a has 5 features a sample, b has 4"):
        otdd(drawn(), drawn(d=4, name="b"))
    with pytest.raises(InputError, match="needs the same features of both"):
        check_alike([drawn(), drawn(d=4, name="b")])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"solver": "simplex"}, "known are auto, exact, sinkhorn"),
        ({"weights": (-1.0, 1.0)}, "expected two numbers from 0"),
        ({"epsilon": 0.0}, "a share of the mean"),
    ],
)
def test_what_is_no_way_is_named(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        How(**options)


def test_far_from_zero_no_digit_is_lost() -> None:
    a = drawn(60, 6)
    far = replace(a, x=a.x + 1e6)
    assert otdd(far, far, How(solver="exact")).squared <= 1e-9 * otdd(far, far, How(solver="exact")).mean_cost
    other = drawn(60, 6, seed=1, moved=0.5)
    near, moved = otdd(a, other), otdd(far, replace(other, x=other.x + 1e6))
    assert moved.squared == pytest.approx(near.squared, rel=1e-6)


def test_one_answer_has_one_solver() -> None:
    small, large = drawn(20), replace(drawn(20), x=np.zeros((6000, 5)), y=np.zeros(6000, np.int64))
    assert one_solver(How(), [small, large]).solver == "sinkhorn" and one_solver(How(), [small, small]).solver == "exact"
    assert one_solver(How(solver="exact"), [large]).solver == "exact"


@pytest.mark.parametrize("levels", [1, 3])
def test_ties_without_number_do_not_lengthen_the_list_for_ever(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of many equal tiles: nearly all pairs tie, so all are solved at once."""
    cost = np.random.default_rng(0).integers(1, 1 + levels, (480, 420)).astype(float)
    even, even2 = np.full(480, 1 / 480), np.full(420, 1 / 420)
    sizes: list[int] = []
    run = transport._run
    monkeypatch.setattr(transport, "_run", lambda c, *more: sizes.append(c.nnz if hasattr(c, "nnz") else c.size) or run(c, *more))
    found = exact(cost, even, even2)
    assert sizes[-1] == cost.size and all(size <= cost.size / 4 for size in sizes[:-1])
    monkeypatch.setattr(transport, "DENSE", cost.size)
    assert found.cost == pytest.approx(exact(cost, even, even2).cost, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(520, 400), (450, 470)])
def test_the_shortlist_of_pairs_ends_at_the_whole_problems_optimum(n: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = drawn(n), drawn(m, seed=1, moved=1.0, name="b")
    cost = ((a.x[:, None] - b.x[None]) ** 2).sum(2)
    even, even2 = np.full(n, 1 / n), np.full(m, 1 / m)
    listed = exact(cost, even, even2)
    monkeypatch.setattr(transport, "DENSE", n * m)
    whole = exact(cost, even, even2)
    assert listed.cost == pytest.approx(whole.cost, rel=1e-10)
    assert np.bincount(listed.rows, listed.mass, n) == pytest.approx(even) and np.bincount(listed.columns, listed.mass, m) == pytest.approx(even2)
    same = exact(((a.x[:, None] - a.x[None]) ** 2).sum(2), even, even)
    assert same.cost == pytest.approx(0, abs=1e-12) and (same.rows == same.columns).all()
