from __future__ import annotations

import numpy as np
import pytest

from tacit.errors import InputError
from tacit.phantom import tissue
from tacit.prepare.scale import estimate_mpp


@pytest.mark.parametrize("um", [0.25, 0.35, 0.5, 0.8, 1.2])
def test_a_folder_of_drawn_tissue_is_estimated_within_a_fifth(um: float) -> None:
    """benchmarks/scale.py prints how near each spacing comes over many folders."""
    pictures = [tissue.draw(np.random.default_rng([2, int(um * 100), i]), (400, 560), um).picture for i in range(16)]
    assert estimate_mpp(pictures) == pytest.approx(um, rel=0.2)


def test_half_the_resolution_reads_as_twice_the_spacing() -> None:
    import cv2

    pictures = [tissue.draw(np.random.default_rng([32, i]), (600, 800), 0.4).picture for i in range(6)]
    halves = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in pictures]
    assert estimate_mpp(halves) == pytest.approx(2 * estimate_mpp(pictures), rel=0.1)


def test_no_nuclei_is_an_error_that_says_what_to_do() -> None:
    blank = np.full((200, 200, 3), 240, np.uint8)
    with pytest.raises(InputError, match="--mpp"):
        estimate_mpp([blank])


def test_real_colon_is_estimated_within_a_fifth(data) -> None:
    from tacit.read.picture import read_picture

    pictures = [read_picture(p).pixels for p in sorted((data / "glas" / "images").glob("train_*.jpg"))[::8]]
    assert estimate_mpp(pictures) == pytest.approx(0.62, rel=0.2)
