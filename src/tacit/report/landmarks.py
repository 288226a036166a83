"""Points drawn on a picture: rings with their names, green where sure, orange where not."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SURE, UNSURE, SURE_FROM = (46, 160, 67), (230, 126, 34), 0.5
LEAST_SHOWN = 360  # px, a smaller picture is enlarged


def with_points(picture: NDArray[np.uint8], points: list[tuple[float, float]], names: list[str], confidence: list[float] | None = None) -> NDArray[np.uint8]:
    """(h, w[, 3]) with points row, col in its px → (h', w', 3), enlarged to at least 360 px. confidence 0–1; None: all are sure."""
    drawn = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else picture.copy()
    zoom = max(LEAST_SHOWN / max(drawn.shape[:2]), 1.0)
    if zoom > 1:
        drawn = cv2.resize(drawn, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    size = max(max(drawn.shape[:2]) / 400, 1.0)
    thick = max(round(1.5 * size), 1)
    for k, ((row, col), name) in enumerate(zip(points, names, strict=True)):
        colour = SURE if confidence is None or confidence[k] >= SURE_FROM else UNSURE
        x, y = round((col + 0.5) * zoom - 0.5), round((row + 0.5) * zoom - 0.5)
        cv2.circle(drawn, (x, y), round(5 * size), (255, 255, 255), thick + 2, cv2.LINE_AA)
        cv2.circle(drawn, (x, y), round(5 * size), colour, thick, cv2.LINE_AA)
        width = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, thick)[0][0]
        start = (min(x + round(8 * size), drawn.shape[1] - width - 2), max(y - round(6 * size), round(12 * size)))
        cv2.putText(drawn, name, start, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, (0, 0, 0), thick + 2, cv2.LINE_AA)
        cv2.putText(drawn, name, start, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * size, (255, 255, 255), thick, cv2.LINE_AA)
    return np.asarray(drawn, np.uint8)
