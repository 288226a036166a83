from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from tacit.prepare import volume_shapes as shapes


def blobs(seed: int, shape: tuple[int, int, int] = (9, 40, 50), share: float = 0.5) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return (noise > np.quantile(noise, 1 - share)).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("times", [1, 2])
def test_morphology_is_scipys(seed: int, times: int) -> None:
    mask = blobs(seed)
    assert np.array_equal(shapes.dilated(mask, times), ndimage.binary_dilation(mask, iterations=times))
    assert np.array_equal(shapes.eroded(mask, times), ndimage.binary_erosion(mask, iterations=times))
    assert np.array_equal(shapes.opened(mask, times), ndimage.binary_opening(mask, iterations=times))
    grown = ndimage.binary_dilation(mask, iterations=times)
    assert np.array_equal(shapes.closed(mask, times), ndimage.binary_erosion(grown, iterations=times, border_value=1))


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.95])
def test_pieces_are_scipys_the_largest_first(share: float) -> None:
    mask = blobs(7, (12, 60, 70), share)
    labels, sizes = shapes.pieces(mask)
    theirs, count = ndimage.label(mask)
    assert len(sizes) == count and list(sizes) == sorted(sizes, reverse=True)
    assert np.array_equal(np.bincount(labels.ravel())[1:], sizes)
    pairs = np.unique(np.stack([labels[mask > 0], theirs[mask > 0]]), axis=1)
    assert pairs.shape[1] == count  # one to one
    assert (labels[mask == 0] == 0).all()


def test_an_empty_volume_has_no_pieces() -> None:
    labels, sizes = shapes.pieces(np.zeros((3, 4, 5), np.uint8))
    assert not labels.any() and len(sizes) == 0


@pytest.mark.parametrize("seed", range(3))
def test_holes_are_filled_as_scipy_fills_them_slice_by_slice(seed: int) -> None:
    mask = blobs(seed, share=0.6)
    assert np.array_equal(shapes.filled(mask), np.stack([ndimage.binary_fill_holes(s) for s in mask]))


def test_a_hole_that_is_too_large_stays_open() -> None:
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[0, 2:18, 2:18] = 1
    mask[0, 4:6, 4:6] = 0  # 4 px
    mask[0, 9:15, 9:15] = 0  # 36 px
    full = shapes.filled(mask, 10)
    assert full[0, 4, 4] == 1 and full[0, 10, 10] == 0


@pytest.mark.parametrize("seed", range(3))
def test_pieces_at_the_edge_go_as_in_a_plain_labelling(seed: int) -> None:
    mask = blobs(seed)
    for plane, ours in zip(mask, shapes.without_border_pieces(mask), strict=True):
        labels, _ = ndimage.label(plane)
        edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        assert np.array_equal(ours, plane * ~np.isin(labels, edge[edge > 0]))


def test_a_piece_that_the_edge_cuts_stays_and_the_room_goes() -> None:
    plane = np.zeros((40, 40), np.uint8)
    plane[12:28, 30:] = 1  # cut by the right edge, 12 px of background on both sides
    plane[:, :3] = 1  # the room: holds corners
    plane[-3:, 14:20] = 1  # touches the lower edge, 11 px and 20 px of background beside it
    kept = shapes.without_border_pieces(plane[None], 11)[0]
    assert kept[20, 35] and kept[-1, 16] and not kept[:, :3].any()
    assert not shapes.without_border_pieces(plane[None], 12)[0][-1, 16]
    assert not shapes.without_border_pieces(plane[None])[0].any()
