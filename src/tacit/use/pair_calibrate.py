"""A threshold from labelled pairs, or from no label at all, with all that is known of its worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.config import Count
from tacit.errors import InputError
from tacit.learn.pair_calibration import CalibrationConfig, LabelledPairs, Metric, Scored, learn, nested
from tacit.learn.pair_decision import Decision
from tacit.learn.pair_worth import figures, learning_curve, pairs_that_taught, threshold_interval
from tacit.read.pairs import Pair
from tacit.report.pair_score import Thresholds, thresholds
from tacit.report.track import Bar
from tacit.use.encoder import Encoder
from tacit.use.pair_images import Encoded, encode_views
from tacit.use.pair_threshold import LABELLED, VIEWS, Threshold

STEPS, MOST_ROWS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2), 25  # of the distance, in the threshold table: the finest that gives so many rows
SCORABLE = 0.5  # share of the pairs that must be scored with patients apart; below it images are kept apart instead


class PairsConfig(CalibrationConfig):
    views: Literal["byol", "simclr", "report", "histology"] = "histology"  # views that stand for "same" where there is no label
    least_images: Count = 5  # for a threshold from no label


@dataclass(frozen=True)
class Calibrated:
    """A threshold, and the pairs behind it for the plots: held-out distances (m,) with labels."""

    threshold: Threshold
    distance: np.ndarray
    same: np.ndarray
    warnings: tuple[str, ...] = ()


def check_labels(path: str | Path, pairs: Sequence[Pair], c: PairsConfig, readable: str = "") -> None:
    """Raises InputError unless there are enough pairs, every one labelled, of both kinds."""
    unlabelled = sum(p.label is None for p in pairs)
    if unlabelled == len(pairs) > 0:
        raise InputError(f"--calibrate {path}: no pair has a label; add a third column label: 1 = same, 0 = different")
    if unlabelled:
        raise InputError(f"--calibrate {path}: {unlabelled} of {len(pairs)} pairs have no label; give each 1 (same) or 0 (different), or take them out")
    same = sum(p.label == 1 for p in pairs)
    if len(pairs) < c.least:
        raise InputError(f"--calibrate {path}: {len(pairs)} {readable}labelled pairs, at least {c.least} are needed; label more, or give a --threshold")
    if min(same, len(pairs) - same) < 2:
        few = "same" if same < 2 else "different"
        raise InputError(
            f"--calibrate {path}: {min(same, len(pairs) - same)} of {len(pairs)} {readable}pairs are {few}; at least two of each kind are needed, label some"
        )


def check_images(count: int, c: PairsConfig) -> None:
    """Raises InputError where images are too few for a threshold without labels."""
    if count < c.least_images:
        raise InputError(
            f"{count} images are too few for a threshold without labels (at least {c.least_images}); give --calibrate LABELLED.csv or --threshold DISTANCE"
        )


def from_labels(encoded: Encoded, pairs: Sequence[Pair], patient: dict[Path, str], c: PairsConfig, *, metric: Metric, seed: int) -> Calibrated:
    """Metric and threshold from labelled pairs whose images are all encoded. patient: of the images that have one; the others stand alone."""
    warnings = []
    p = _labelled(encoded, pairs, patient)
    over = "patients" if patient else "images"
    found = _nested(p, c, metric, seed)
    if patient and found.scored.mean() < SCORABLE:
        groups = len(np.unique(p.group[np.r_[p.a, p.b]]))
        warnings.append(f"{groups} patients are too few to be kept apart: the figures keep images apart only, and promise too much for new patients")
        p, over = _labelled(encoded, pairs, {}), "images"
        found = _nested(p, c, metric, seed)
    learnt = learn(p, c, metric=metric, seed=seed)
    if metric == "linear" and learnt.metric is None:
        warnings.append("the features as they come were clearly better than the metric that these pairs taught, so they are kept raw")
    good = found.scored
    with Bar("numbers of pairs") as bar:
        curve = learning_curve(p, c, metric=metric, seed=seed, last=found, advance=bar.advance)
    about: dict[str, Any] = {
        "interval": threshold_interval(p, learnt.held_out, c, seed),
        "intervals_over": over,
        "shrinkage": learnt.shrinkage,
        "rule": c.rule,
        "pairs": {
            "labelled": len(pairs),
            "same": int(p.same.sum()),
            "different": int((~p.same).sum()),
            "scored": int(good.sum()),
            "taught": pairs_that_taught(p, c, seed),
        },
        "images": len(np.unique(np.r_[p.a, p.b])),
        "groups": len(np.unique(p.group[np.r_[p.a, p.b]])),
        "figures": figures(p, found, c, seed) if _scorable(p, found) else {},
        "curve": curve,
        "table": table(found.distance[good], p.same[good]) if _scorable(p, found) else [],
    }
    if not about["figures"]:
        warnings.append("no pair could be held out, so nothing is known of how often the answers are right; label pairs of more images")
    return Calibrated(Threshold(learnt.decision, LABELLED, learnt.metric, about), found.distance[good], p.same[good], tuple(warnings))


def from_views(encoded: Encoded, encoder: Encoder, mpp: float | None, c: PairsConfig, seed: int) -> Calibrated:
    """A threshold from no label: two views of an image stand for same, views of two images for different. Strict: two images of one kind are less alike."""
    paths = list(encoded.row)
    n = len(paths)
    check_images(n, c)
    p = pairs_of_views(encode_views(paths, encoder, mpp, c.views, seed), seed)
    learnt = learn(p, c, metric="raw", seed=seed)
    found = nested(p, c, metric="raw", seed=seed)
    good = found.scored
    about = {
        "interval": threshold_interval(p, learnt.held_out, c, seed),
        "intervals_over": "images",
        "rule": c.rule,
        "views": c.views,
        "pairs": {"of two views": n, "of two images": n, "scored": int(good.sum())},
        "images": n,
        "figures": figures(p, found, c, seed),
        "table": table(found.distance[good], p.same[good]),
    }
    d = learnt.decision
    decision = Decision(d.threshold, d.sure_same, d.sure_different)  # no probability: how many pairs are same is not known
    said = (
        "the threshold is from views, not from labels: two views of one image against two images drawn at random. Images of one kind are less alike than two views of one, "
        "so too few pairs are called same; label some pairs and give them with --calibrate"
    )
    return Calibrated(Threshold(decision, VIEWS, None, about), found.distance[good], p.same[good], (said,))


def pairs_of_views(views: np.ndarray, seed: int) -> LabelledPairs:
    """views (n, 2, width) → n pairs of two views of one image as same, and n of views of two images drawn at random as different."""
    n = len(views)
    order = np.random.default_rng([seed, 56]).permutation(n)
    first, other = 2 * np.arange(n), np.empty(n, np.int64)
    other[order] = 2 * np.roll(order, 1) + 1  # one round through all images: nobody meets itself
    a, b = np.r_[first, first], np.r_[first + 1, other]
    return LabelledPairs(views.reshape(2 * n, -1), a, b, np.arange(2 * n) < n, np.arange(2 * n) // 2)


def table(distance: np.ndarray, same: np.ndarray) -> list[dict[str, float]]:
    """Errors at even steps of the distance where they change: threshold, cosine, accuracy, false_same, false_different."""
    curve = thresholds(distance, same)
    step = next((s for s in STEPS if np.ptp(distance) / s < MOST_ROWS - 2), STEPS[-1])
    low, high = np.floor(distance.min() / step), np.ceil(distance.max() / step)
    return [_errors(curve, float(k * step)) for k in np.arange(low, high + 1)]


def _errors(curve: Thresholds, threshold: float) -> dict[str, float]:
    at = int(np.searchsorted(curve.threshold, threshold, side="right")) - 1
    return {
        "threshold": round(threshold, 6),
        "cosine": round(1 - threshold / 2, 6),
        **{name: float(getattr(curve, name)[max(at, 0)]) for name in ("accuracy", "false_same", "false_different")},
    }


def _labelled(encoded: Encoded, pairs: Sequence[Pair], patient: dict[Path, str]) -> LabelledPairs:
    a, b = encoded.ends(pairs)
    names = [("patient", patient[path]) if path in patient else ("image", str(path)) for path in encoded.row]
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return LabelledPairs(encoded.features, a, b, np.array([p.label == 1 for p in pairs]), np.array([number[name] for name in names]))


def _nested(p: LabelledPairs, c: PairsConfig, metric: Metric, seed: int) -> Scored:
    with Bar("holding pairs out") as bar:
        return nested(p, c, metric=metric, seed=seed, advance=bar.advance)


def _scorable(p: LabelledPairs, found: Scored) -> bool:
    return bool(found.scored.any() and p.same[found.scored].any() and not p.same[found.scored].all())
