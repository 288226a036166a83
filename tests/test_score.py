"""Every figure against an independent implementation or a closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import directed_hausdorff
from sklearn.metrics import f1_score, jaccard_score

from tacit.report.score import figures, interval, tally


def blobs(seed: int, shape=(60, 80), count=6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    for i in range(count):
        r, c, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(4, 12)
        labels[((rows - r) ** 2 + (cols - c) ** 2 < radius**2) & (labels == 0)] = i + 1
    return labels


def test_pixel_figures_equal_scikit_learn_on_pooled_pixels() -> None:
    pairs = [(blobs(i), blobs(i + 100)) for i in range(4)]
    found = figures([tally(p, t) for p, t in pairs])
    p, t = (np.concatenate([x[i].ravel() > 0 for x in pairs]) for i in (0, 1))
    assert found["miou"] == pytest.approx(jaccard_score(t, p, average="macro"))
    assert found["iou_gland"] == pytest.approx(jaccard_score(t, p))
    assert found["dice_pooled"] == pytest.approx(f1_score(t, p))
    assert found["dice_per_image"] == pytest.approx(np.mean([f1_score(b.ravel() > 0, a.ravel() > 0) for a, b in pairs]))
    assert found["two_miou_over_one_plus_miou"] == pytest.approx(2 * found["miou"] / (1 + found["miou"]))


def slow_objects(p: np.ndarray, t: np.ndarray) -> dict[str, float]:
    """The contest's definitions by plain loops over boolean masks."""
    ps, ts = [p == i for i in np.unique(p)[1:]], [t == i for i in np.unique(t)[1:]]
    hits, hit = 0, set()
    for s in ps:
        overlaps = [(s & g).sum() for g in ts]
        best = int(np.argmax(overlaps))
        if overlaps[best] > 0 and overlaps[best] >= 0.5 * ts[best].sum():
            hits += 1
            hit.add(best)

    def far(a, b):
        x, y = np.argwhere(a), np.argwhere(b)
        return max(directed_hausdorff(x, y)[0], directed_hausdorff(y, x)[0])

    def side(ours, theirs):
        total = sum(a.sum() for a in ours)
        dice = h = 0.0
        for a in ours:
            overlaps = [(a & b).sum() for b in theirs]
            best = int(np.argmax(overlaps))
            weight = a.sum() / total
            if overlaps[best]:
                dice += weight * 2 * overlaps[best] / (a.sum() + theirs[best].sum())
                h += weight * far(a, theirs[best])
            else:
                h += weight * min(far(a, b) for b in theirs)
        return dice, h

    (d1, h1), (d2, h2) = side(ts, ps), side(ps, ts)
    return {"object_f1": 2 * hits / (2 * hits + len(ps) - hits + len(ts) - len(hit)), "object_dice": (d1 + d2) / 2, "object_hausdorff_px": (h1 + h2) / 2}


@pytest.mark.parametrize("seed", range(5))
def test_object_figures_equal_the_definitions_by_loops(seed: int) -> None:
    p, t = blobs(seed, count=4), blobs(seed + 50, count=5)
    found = figures([tally(p, t)])
    for name, value in slow_objects(p, t).items():
        assert found[name] == pytest.approx(value), name


def test_everything_gland_on_half_gland_gives_a_quarter() -> None:
    truth = np.zeros((10, 10), np.int32)
    truth[:5] = 1
    assert figures([tally(np.ones((10, 10), np.int32), truth)])["miou"] == pytest.approx(0.25)


def test_a_perfect_answer_is_perfect_and_label_numbers_do_not_matter() -> None:
    t = blobs(3)
    found = figures([tally(np.where(t > 0, 10 - t, 0).astype(np.int32), t)])
    assert (found["miou"], found["object_f1"], found["object_dice"], found["object_hausdorff_px"]) == (1, 1, 1, 0)


def test_empty_sides_are_defined() -> None:
    none, some = np.zeros((30, 40), np.int32), blobs(1, (30, 40))
    assert figures([tally(none, none)])["object_f1"] == 1
    missed = figures([tally(none, some)])
    assert missed["object_f1"] == 0 and missed["object_dice"] == 0 and missed["object_hausdorff_px"] == pytest.approx(50)


def test_merging_two_glands_costs_object_f1_but_no_pixel_figure() -> None:
    truth = np.zeros((20, 40), np.int32)
    truth[5:15, 5:20], truth[5:15, 20:35] = 1, 2
    merged = np.minimum(truth, 1)
    found = figures([tally(merged, truth)])
    assert found["miou"] == 1 and found["object_f1"] == pytest.approx(2 / 3)


def test_hausdorff_of_two_squares_is_their_offset() -> None:
    a, b = np.zeros((2, 20, 30), np.int32)
    a[5:10, 5:10], b[5:10, 12:17] = 1, 1
    assert figures([tally(a, b)])["object_hausdorff_px"] == 7


def test_the_interval_holds_the_figure_and_shrinks_with_patients() -> None:
    rng = np.random.default_rng(0)
    tallies = [tally(blobs(i), np.where(rng.random((60, 80)) < 0.1, 0, blobs(i)).astype(np.int32), objects=False) for i in range(40)]
    few = interval(tallies, [i % 4 for i in range(40)], lambda t: figures(t)["miou"], draws=300)
    point = figures(tallies)["miou"]
    assert few[0] <= point <= few[1]
    assert interval(tallies, ["one"] * 40, lambda t: figures(t)["miou"], draws=50) == pytest.approx((point, point))
