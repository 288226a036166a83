"""Glands found block by block are those of the whole plane: an oracle by scipy that holds everything at once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from tacit.errors import InputError
from tacit.phantom import tissue
from tacit.prepare.regions import Rules, find_regions
from tacit.prepare.scratch import Blocks
from tacit.prepare.space import to_size
from tacit.use.instances import InstancesConfig, instances

CROSS = ((-1, 0), (0, -1), (0, 1), (1, 0))  # neighbours in reading order


def upsampled(p: np.ndarray, zoom: int) -> np.ndarray:
    if zoom == 1:
        return p.astype(float) / 255
    return np.stack([cv2.resize(p[..., k].astype(np.float64), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for k in (0, 1)], -1) / 255


def plainly(p: np.ndarray, r: Rules) -> np.ndarray:
    """The rules of the module's first lines, on the whole plane, pixel by pixel."""
    fine = upsampled(p, r.zoom)
    h, w = fine.shape[:2]
    inside = fine[..., 0] > r.threshold + 1e-9
    cores, _ = label((fine[..., 1] > r.core + 1e-9) & inside)
    area = np.bincount(cores.ravel())
    labels = np.where(area[cores] >= r.core_px, cores, 0)
    for _ in range(r.reach):
        before = labels.copy()
        for y, x in zip(*np.nonzero(inside & (before == 0)), strict=True):
            for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                if 0 <= y + dy < h and 0 <= x + dx < w and before[y + dy, x + dx]:
                    labels[y, x] = before[y + dy, x + dx]
                    break
    top = labels.max()
    pieces, count = label(inside & (labels == 0))
    answer = labels.copy()
    for piece in range(1, count + 1):
        touched = [labels[y + dy, x + dx] for y, x in np.argwhere(pieces == piece) for dy, dx in CROSS if 0 <= y + dy < h and 0 <= x + dx < w]
        answer[pieces == piece] = next((t for t in touched if t), top + piece)
    holes, count = label(~inside)
    for hole in range(1, count + 1):
        ys, xs = np.nonzero(holes == hole)
        if len(ys) < r.hole_px and ys.min() > 0 and xs.min() > 0 and ys.max() < h - 1 and xs.max() < w - 1:
            answer[ys, xs] = answer[ys[0] - 1, xs[0]]
    area = np.bincount(answer.ravel())
    return np.where((area[answer] >= r.gland_px) & (answer > 0), answer, 0)


def in_blocks(p: np.ndarray, r: Rules, side: int, folder: Path) -> np.ndarray:
    with Blocks(folder / "p", p.shape[:2], side, np.uint8, channels=2) as blocks:
        for i in range(blocks.down):
            for j in range(blocks.across):
                top, left, bottom, right = blocks.box(i, j)
                blocks.write(i, j, p[top:bottom, left:right])
        found = find_regions(blocks, r)
        with found.blocks as regions:
            out = found.lut[regions.window(0, 0, *regions.shape)]
            last = {
                n: max(i * regions.across + j for i in range(regions.down) for j in range(regions.across) if n in found.lut[regions.read(i, j)])
                for n in np.unique(out)
                if n
            }
    assert list(folder.iterdir()) == []
    assert sorted(last) == list(range(1, found.count + 1)) and all(found.last_block[n] == last[n] for n in last)
    return out


def same_but_for_names(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = {(int(x), int(y)) for x, y in zip(a.ravel(), b.ravel(), strict=True)}
    return len({x for x, _ in pairs}) == len(pairs) == len({y for _, y in pairs}) and all((x == 0) == (y == 0) for x, y in pairs)


def blobs(seed: int, shape: tuple[int, int], coarse: int) -> np.ndarray:
    """Smooth noise: pieces of every shape, many larger than a block, with holes, islands and touching cores."""
    rng = np.random.default_rng(seed)
    gland = cv2.resize(rng.random((max(shape[0] // coarse, 2), max(shape[1] // coarse, 2))), shape[::-1], interpolation=cv2.INTER_CUBIC)
    core = gland - 0.12 + 0.1 * cv2.resize(rng.random((max(shape[0] // 3, 2), max(shape[1] // 3, 2))), shape[::-1])
    return (np.stack([gland, core], -1).clip(0, 1) * 255).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), h=st.integers(9, 70), w=st.integers(9, 70), side=st.sampled_from([8, 16, 24]), zoom=st.sampled_from([1, 2]),
    coarse=st.integers(3, 9), reach=st.integers(1, 7), hole=st.integers(1, 60), gland=st.integers(0, 40), core=st.integers(1, 12), cut=st.floats(0.35, 0.7),
)  # fmt: skip
def test_blocks_give_the_labels_of_the_whole_plane(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    h: int,
    w: int,
    side: int,
    zoom: int,
    coarse: int,
    reach: int,
    hole: int,
    gland: int,
    core: int,
    cut: float,
) -> None:
    p, rules = blobs(seed, (h, w), coarse), Rules(cut, 0.5, core, gland, hole, reach, zoom)
    assert same_but_for_names(in_blocks(p, rules, side, tmp_path_factory.mktemp("blocks")), plainly(p, rules))


def test_one_gland_larger_than_many_blocks_and_its_margin_is_one(tmp_path: Path) -> None:
    """A spiral without a core, two pixels wide, through every block."""
    plane = np.zeros((96, 96, 2), np.uint8)
    for k in range(0, 40, 8):
        plane[k : 96 - k, k : k + 2, 0] = plane[k : k + 2, k : 96 - k, 0] = plane[k : 96 - k, 94 - k : 96 - k, 0] = 255
        plane[94 - k : 96 - k, k + 8 : 96 - k, 0] = 255
        plane[94 - k : 96 - k, k + 8 : k + 10, 0] = 255
        plane[k + 8 : 96 - k, k + 8 : k + 10, 0] = 255
    rules = Rules(0.5, 0.5, 4, 4, 1, 3, 1)
    found = in_blocks(plane, rules, 16, tmp_path)
    assert found.max() == 1 and same_but_for_names(found, plainly(plane, rules))


def test_a_window_outside_the_plane_is_refused(tmp_path: Path) -> None:
    with Blocks(tmp_path / "b", (10, 10), 4, np.uint8) as blocks, pytest.raises(InputError, match="within the plane of 10×10"):
        blocks.window(0, 0, 11, 4)


@pytest.mark.parametrize("seed", range(4))
def test_touching_glands_are_parted_as_on_pictures(seed: int, tmp_path: Path) -> None:
    """Drawn glands: growth at one pace from the cores gives what watershed gives, which has to see all at once."""
    um, own = 1.24, InstancesConfig()
    drawing = tissue.draw(np.random.default_rng([seed, 1]), (420, 500), um)
    core = tissue.inside_distance(drawing.labels) * um > 7
    p = cv2.GaussianBlur(to_size(np.stack([drawing.labels > 0, core], -1).astype(np.uint8) * 255, (210, 250)), (0, 0), 1.0)
    on_pictures = instances(p.transpose(2, 0, 1).astype(np.float32) / 255, 2 * um, (420, 500), own)
    rules = Rules(own.threshold, own.core, own.core_um2 / um**2, own.gland_um2 / um**2, own.hole_um2 / um**2, 32, 2)
    found = in_blocks(p, rules, 64, tmp_path)
    assert found.max() == on_pictures.max() > 2 and ((found > 0) == (on_pictures > 0)).mean() > 0.999
    same = [np.bincount(on_pictures[found == n]).max() / (found == n).sum() for n in range(1, found.max() + 1)]
    assert min(same) > 0.9 and np.mean(same) > 0.99
