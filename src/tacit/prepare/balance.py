"""Classes made to count alike: weights for a loss, and SMOTE with edited nearest neighbours for tables of features.

Cui et al. 2019, "Class-balanced loss based on effective number of samples" (arXiv 1901.05555); equation numbers are theirs.
Chawla et al. 2002, "SMOTE: synthetic minority over-sampling technique" (JAIR 16:321) draws rows between neighbours of a rare class;
Batista et al. 2004 (SIGKDD Explorations 6:20) then remove rows that their neighbours contradict (Wilson 1972). imbalanced-learn does it.
Never for images: the mean of two images is no image. And only inside the training part: a synthetic row in a test part is a leak.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError

EDITED_BY = 3  # neighbours that must not contradict a row (Wilson 1972)


def class_weights(labels: Sequence[object], method: Literal["inverse", "effective"] = "inverse", *, beta: float = 0.999) -> dict[object, float]:
    """A weight for each label, in the order in which labels first come.

    inverse: rows / (labels · rows of the label), so that the mean weight of a row is 1. effective: (1 − β) / (1 − β^rows), scaled
    to sum to the number of labels (section 3.3 there); β = 0 weighs all alike, β → 1 is inverse. Raises InputError for no label or an unknown one,
    UsageError for an unknown method or β outside [0, 1).

    >>> class_weights(["a", "a", "a", "b"])
    {'a': 0.6666666666666666, 'b': 2.0}
    """
    counts = Counter(labels)
    unknown = sum(n for label, n in counts.items() if label is None or label != label)
    if not counts or unknown:
        raise InputError(f"every row needs a label to be weighed; {unknown} of {len(labels)} have none: leave them out first")
    if method == "inverse":
        return {label: len(labels) / (len(counts) * n) for label, n in counts.items()}
    if method != "effective" or not 0 <= beta < 1:
        raise UsageError(f"method {method!r} with beta {beta}: the method is 'inverse' or 'effective', beta at least 0 and below 1")
    weights = {label: (1 - beta) / (1 - beta**n) for label, n in counts.items()}  # Eq. 2, inverted
    scale = len(counts) / sum(weights.values())
    return {label: weight * scale for label, weight in weights.items()}


def smote_enn(features: NDArray[np.floating], labels: NDArray, *, seed: int, neighbours: int = 5) -> tuple[NDArray[np.floating], NDArray]:
    """Features (n, f) and labels (n,) with every class brought to the largest one's number, then rows among unlike neighbours removed.

    Originals may be removed too; standardise the features first, distances are Euclidean. The same seed gives the same rows.
    Raises InputError for anything but a finite table, fewer than two classes, a class without `neighbours` + 1 rows, or classes
    so mixed that one is removed whole.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    _check_table(features, labels, neighbours)
    from imblearn.combine import SMOTEENN
    from imblearn.over_sampling import SMOTE
    from imblearn.under_sampling import EditedNearestNeighbours

    editor = EditedNearestNeighbours(sampling_strategy="all", n_neighbors=EDITED_BY)
    maker = SMOTEENN(smote=SMOTE(k_neighbors=neighbours, random_state=seed), enn=editor, random_state=seed)
    made, made_labels = maker.fit_resample(features, labels)
    lost = sorted(set(labels.tolist()) - set(made_labels.tolist()), key=str)
    if lost:
        raise InputError(f"the classes overlap so much that all rows of {lost} were removed; use class weights instead")
    return made, made_labels


def _check_table(features: NDArray, labels: NDArray, neighbours: int) -> None:
    if features.ndim != 2:
        raise InputError(f"SMOTE is for tables (rows, features), this is {features.shape}; images are balanced by class weights, never by SMOTE")
    if labels.shape != (len(features),) or not np.isfinite(features).all():
        raise InputError(f"SMOTE wants finite features and one label a row; it got features {features.shape}, labels {labels.shape}")
    counts = Counter(labels.tolist())
    rarest, rows = min(counts.items(), key=lambda item: item[1], default=("", 0))
    if len(counts) < 2 or neighbours < 1 or rows <= neighbours:
        raise InputError(
            f"SMOTE with {neighbours} neighbours needs two classes or more of at least {neighbours + 1} rows each; "
            f"there are {len(counts)}, and {rarest!r} has {rows}: bring more, lower neighbours, or use class weights"
        )
