"""Where a view was cut from its picture, as one affine map: box, mirroring and quarter turns together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.prepare.views import ViewDraw, to_picture


def place(draw: ViewDraw) -> NDArray[np.float32]:
    """The map (2, 3) from the view's unit square to the picture: [row, col] = place @ [u, v, 1].

    u goes down and v right along the view, 0 and 1 at its outer edges. Row and col are px of the picture from its upper left corner, so the
    middle of its first pixel is (.5, .5). Its first column is the view's height as it lies in the picture, its second the width.

    >>> place(ViewDraw((100, 100), 8, (10, 20, 50, 100), flip=True)).tolist()
    [[40.0, 0.0, 10.0], [0.0, -80.0, 100.0]]
    """
    first, end = -0.5, draw.size - 0.5
    corner, down, right = to_picture(np.array([(first, first), (end, first), (first, end)]), draw) + 0.5
    return np.stack([down - corner, right - corner, corner], axis=1).astype(np.float32)
