from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import MissingError, UsageError
from tacit.phantom import generator, outline, texture, tissue
from tacit.phantom.tissue import TissueConfig, draw, inside_distance
from tacit.use.measure import haematoxylin


def one(seed: int, um: float = 1.24, shape=(200, 260), **changes):
    return draw(np.random.default_rng(seed), shape, um, TissueConfig(**changes))


def test_a_drawing_is_a_pure_function_of_its_generator() -> None:
    np.random.seed(1)
    a = one(3)
    np.random.seed(2)
    b = one(3)
    assert (a.picture == b.picture).all() and (a.labels == b.labels).all() and a.parameters == b.parameters
    assert (one(4).picture != a.picture).any()


@pytest.mark.parametrize("um", [0.25, 0.62, 1.2, 3.0])
@pytest.mark.parametrize("shape", [(64, 64), (97, 301)])
def test_any_spacing_and_size(um: float, shape: tuple[int, int]) -> None:
    drawing = one(1, um, shape)
    assert drawing.picture.shape == (*shape, 3) and drawing.picture.dtype == np.uint8
    assert drawing.labels.shape == shape and drawing.labels.dtype == np.int32


def test_labels_count_from_one_without_gaps_and_parameters_tell_the_truth() -> None:
    for seed in range(8):
        d = one(seed)
        seen = np.unique(d.labels)
        assert (seen == np.arange(d.labels.max() + 1)).all() or (d.labels > 0).all()
        assert d.parameters["share"] == pytest.approx((d.labels > 0).mean())
        assert d.parameters["glands"] == len(seen[seen > 0])
        assert all(np.isfinite(v) for v in d.parameters.values())


def test_the_border_of_a_gland_is_denser_in_nuclei_than_its_inside_and_the_stroma() -> None:
    border, inside, around = [], [], []
    for seed in range(10):
        d = one(seed, other_stain=0.0, solid=0.0, layers=(1.0, 1.5), cribriform=0.0)
        depth = inside_distance(d.labels) * d.um_per_px
        stain = haematoxylin(d.picture)
        for store, mask in ((border, (depth > 2) & (depth < 9)), (inside, depth > 22), (around, d.labels == 0)):
            if mask.sum() > 200:
                store.append(stain[mask].mean())
    assert np.mean(border) > 1.5 * np.mean(inside) and np.mean(border) > 1.3 * np.mean(around)


def test_the_wanted_share_moves_the_drawn_share() -> None:
    low = np.mean([one(s, share=(0.1, 0.15)).parameters["share"] for s in range(8)])
    high = np.mean([one(s, share=(0.9, 0.95)).parameters["share"] for s in range(8)])
    assert low < 0.3 < high - 0.1


def test_placed_glands_keep_their_distance() -> None:
    layout = outline.Layout(0.5, 20, 0.2, 6, 1.3, 0.1, 0, 1, 0.05, 0.3, 0)
    labels = outline.placed(np.random.default_rng(0), (200, 200), layout)
    assert labels.max() > 5
    for label in np.unique(labels)[1:]:
        near = np.argwhere(labels == label)
        others = np.argwhere((labels > 0) & (labels != label))
        from scipy.spatial import cKDTree

        assert cKDTree(others).query(near)[0].min() >= 5


def test_inside_distance_of_a_touching_pair_counts_to_their_common_edge() -> None:
    labels = np.zeros((21, 42), np.int32)
    labels[:, :21], labels[:, 21:] = 1, 2
    depth = inside_distance(labels)
    assert depth[10, 0] > 15 and depth[10, 20] <= 1 and depth[10, 21] <= 1


def test_a_picture_without_any_edge_has_finite_depth() -> None:
    assert np.isfinite(inside_distance(np.ones((9, 9), np.int32))).all()


def test_smooth_noise_has_the_stated_moments_and_width() -> None:
    for wavelength in (3, 12, 60):
        noise = texture.smooth_noise(np.random.default_rng(0), (300, 300), wavelength)
        assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
        near = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
        assert near > 1 - 8 / wavelength**2 - 0.05


def test_points_along_a_level_lie_on_it_and_look_inwards() -> None:
    rows, cols = np.mgrid[:101, :101] - 50.0
    depth = (40 - np.hypot(rows, cols)).clip(0).astype(np.float32)
    points, angles = texture.along_level(depth, 10, 5)
    assert np.abs(np.hypot(*(points - 50).T) - 30).max() < 1.5
    inwards = np.stack([np.sin(angles), np.cos(angles)], 1)
    assert ((50 - points) * inwards).sum(1).min() > 25
    assert len(points) == pytest.approx(2 * np.pi * 30 / 5, rel=0.15)


def test_a_users_own_generator_is_a_file(tmp_path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "import numpy as np\nfrom tacit.phantom.drawing import Drawing\nCLASSES = ('disk',)\n"
        "def draw(rng, shape, um_per_px, config=None, *, stains=None):\n"
        "    labels = np.zeros(shape, np.int32)\n    labels[:9, :9] = 1\n"
        "    return Drawing(np.zeros((*shape, 3), np.uint8), labels, um_per_px, {})\n"
    )
    assert generator(str(own)).draw(np.random.default_rng(0), (20, 20), 1.0).labels.sum() == 81
    assert generator("tissue") is tissue
    with pytest.raises(UsageError, match="known are tissue"):
        generator("spleen")
    with pytest.raises(MissingError, match="no such file"):
        generator(str(tmp_path / "none.py"))
    own.write_text("x = 1\n")
    with pytest.raises(UsageError, match="no function draw"):
        generator(str(own))
