"""How far landmarks lie from the truth: mean, median, share within radii, failures, and how they fall with confidence; intervals over images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SUREST = (0.4, 0.6, 0.8)  # shares of the points, the surest first


def figures(distance: NDArray[np.float64], confidence: NDArray[np.float64] | None, radii: tuple[float, ...], failure: float) -> dict[str, float]:
    """distance and confidence (n, p): image, point; nan where a point has no truth or no answer. radii, failure: in the distances' unit.

    Gives mean, median, within_R (successful detection rate), failures (share beyond `failure`), and mean_surest_S over the surest points.
    """
    known = np.isfinite(distance)
    d = distance[known]
    if not len(d):
        return {}
    found = {"mean": float(d.mean()), "median": float(np.median(d))}
    found |= {f"within_{r:g}": float((d <= r).mean()) for r in radii}
    found["failures"] = float((d > failure).mean())
    if confidence is not None and np.isfinite(confidence[known]).all():
        order = np.argsort(-confidence[known], kind="stable")
        found |= {f"mean_surest_{share:g}": float(d[order[: max(round(share * len(d)), 1)]].mean()) for share in SUREST}
    return found


def intervals(
    distance: NDArray[np.float64], confidence: NDArray[np.float64] | None, radii: tuple[float, ...], failure: float, *, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95% percentile intervals of the same figures, whole images drawn with replacement."""
    rng, n = np.random.default_rng(seed), len(distance)
    drawn: dict[str, list[float]] = {}
    for _ in range(draws):
        some = rng.integers(0, n, n)
        for name, value in figures(distance[some], None if confidence is None else confidence[some], radii, failure).items():
            drawn.setdefault(name, []).append(value)
    return {name: (float(np.quantile(v, 0.025)), float(np.quantile(v, 0.975))) for name, v in drawn.items()}


def by_point(distance: NDArray[np.float64], names: list[str]) -> dict[str, dict[str, Any]]:
    """Mean, median and number of each point over the images."""
    found = {}
    for k, name in enumerate(names):
        d = distance[:, k][np.isfinite(distance[:, k])]
        found[name] = {"images": len(d), "mean": float(d.mean()) if len(d) else None, "median": float(np.median(d)) if len(d) else None}
    return found
