"""One number of an image, and the side of a threshold on which it falls: which branch an image should take.

`graygate` is the report's gate. It counts saturated pixels and so tells how a picture was exported rather than how much contrast
it has; the other numbers are here to be compared with it. The threshold may be learnt, without labels, as the border between
two clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError

LEVELS = 256  # bins of the entropy where the image has no 8-bit levels of its own


def graygate(image: NDArray, threshold: float) -> bool:
    """Whether more than `threshold` pixels equal the image's maximum. Raises InputError for an empty image.

    >>> graygate(np.array([[255, 3], [255, 255]], np.uint8), 2)
    True
    """
    return count_at_maximum(image) > threshold


def count_at_maximum(image: NDArray) -> float:
    """How many pixels equal the image's maximum, 1 to the image's size. Raises InputError for an empty image or NaN."""
    _check(image)
    return float((image == image.max()).sum())


def rms_contrast(image: NDArray) -> float:
    """Standard deviation of the levels (Peli 1990); integer types as shares of their maximum, floats in their own unit."""
    _check(image)
    unit = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
    return float(image.std(dtype=np.float64)) / unit


def entropy(image: NDArray) -> float:
    """Shannon entropy of the levels in bits, 0–8: of uint8's own levels, of 256 equal bins from minimum to maximum otherwise."""
    _check(image)
    if image.dtype == np.uint8:
        counts = np.bincount(image.ravel(), minlength=LEVELS)
    elif image.min() == image.max():
        return 0.0
    else:
        counts = np.histogram(image.astype(np.float64), bins=LEVELS)[0]
    share = counts[counts > 0] / image.size
    return float(abs(-(share * np.log2(share)).sum()))


def percentile_range(image: NDArray) -> float:
    """99th minus 1st percentile of the levels, in the image's own unit."""
    _check(image)
    low, high = np.percentile(image, [1, 99])
    return float(high - low)


GATES: dict[str, Callable[[NDArray], float]] = {
    "count-at-maximum": count_at_maximum,
    "rms-contrast": rms_contrast,
    "entropy": entropy,
    "percentile-range": percentile_range,
}


def two_clusters(values: NDArray) -> float:
    """The threshold, midway between two neighbouring values, that splits (n,) numbers into two with the least variance inside.

    It is the exact optimum of 2-means in one dimension. Raises InputError for fewer than two different finite values.
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    if len(ordered) < 2 or not np.isfinite(ordered).all() or ordered[0] == ordered[-1]:
        raise InputError(f"a threshold between two clusters needs at least two different finite numbers, it got {len(ordered)}")
    centred = ordered - ordered.mean()
    below = np.arange(1, len(ordered))
    cumulated = np.cumsum(centred)[:-1]
    between = cumulated**2 * (1 / below + 1 / (len(ordered) - below))  # the total is 0, so the upper sum is minus the lower one
    between[np.diff(ordered) == 0] = -1  # equal values are not parted
    at = int(np.argmax(between))
    return float((ordered[at] + ordered[at + 1]) / 2)


def _check(image: NDArray) -> None:
    if image.size == 0 or (np.issubdtype(image.dtype, np.floating) and np.isnan(image).any()):
        raise InputError(f"a gate needs an image with pixels and without NaN, it got {image.dtype} {image.shape}")
