"""What a classifier would say without the lungs: the same picture with only its rim, only what is not lung, or only the lungs.

Where the rim alone tells the class, framing and source do (an outer ring of 12 px scored an AUC of .71 on one public set). Every score is shown beside
those of its twins. Ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.prepare.slice_lung import slice_lungs

RING = 12 / 128  # of the shorter side
BLANK = 0
KINDS = ("ring only", "background only", "lung only")


def twin(picture: NDArray[np.uint8], kind: str) -> NDArray[np.uint8] | None:
    """The picture (h, w) or (h, w, 3) with all but a part of it blank; None where no lung can be found and the kind asks for one."""
    h, w = picture.shape[:2]
    if kind == "ring only":
        width = max(round(RING * min(h, w)), 1)
        keep = np.ones((h, w), bool)
        keep[width : h - width, width : w - width] = False
    else:
        lungs = slice_lungs(picture)
        if lungs is None:
            return None
        keep = lungs if kind == "lung only" else ~lungs
    return np.where(keep if picture.ndim == 2 else keep[..., None], picture, BLANK).astype(np.uint8)
