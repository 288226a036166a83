"""How good a segmentation is: pooled and per-image figures, the GlaS contest's object figures, and intervals over patients.

Every figure is made from sums that one image adds to (`tally`), so a data set of any size is scored in flat memory.
Definitions of the object figures: Sirinukunwattana et al. 2017 (arXiv 1603.00275), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

Tally = dict[str, float]


def tally(predicted: NDArray[np.int32], truth: NDArray[np.int32], *, objects: bool = True) -> Tally:
    """What one image adds to the sums. Both are label maps (h, w) of equal shape, 0 background."""
    p, t = predicted > 0, truth > 0
    both, either = float((p & t).sum()), float((p | t).sum())
    sums = {
        "images": 1.0,
        "gland_both": both,
        "gland_either": either,
        "ground_both": float(p.size) - either,
        "ground_either": float(p.size) - both,
        "predicted_px": float(p.sum()),
        "true_px": float(t.sum()),
        "pixels": float(p.size),
        "image_dice": 2 * both / (p.sum() + t.sum()) if either else 1.0,
    }
    return sums | (_object_tally(predicted, truth) if objects else {})


def figures(tallies: list[Tally]) -> dict[str, float]:
    """The figures of a set of images, by the names that reports print.

    miou: mean over background and gland of IoU, intersections and unions summed over the images · dice_pooled: from the same
    sums · dice_per_image: mean over images · two_miou_over_one_plus_miou: what some papers print as Dice · object_f1,
    object_dice: 0–1 · object_hausdorff_px: px · area_share: predicted / all pixels.
    """
    s = {key: float(sum(t[key] for t in tallies)) for key in tallies[0]}
    miou = (_ratio(s["gland_both"], s["gland_either"]) + _ratio(s["ground_both"], s["ground_either"])) / 2
    found = {
        "miou": miou,
        "iou_gland": _ratio(s["gland_both"], s["gland_either"]),
        "dice_pooled": _ratio(2 * s["gland_both"], s["predicted_px"] + s["true_px"]),
        "dice_per_image": s["image_dice"] / s["images"],
        "two_miou_over_one_plus_miou": 2 * miou / (1 + miou),
        "area_share": s["predicted_px"] / s["pixels"],
    }
    if "hits" in s:
        found |= {
            "object_f1": _ratio(2 * s["hits"], 2 * s["hits"] + s["false_alarms"] + s["misses"]),
            "object_dice": _two_sided(s, "dice", 1.0),
            "object_hausdorff_px": _two_sided(s, "far", 0.0),
            "objects_predicted": s["objects_predicted"],
            "objects_true": s["objects_true"],
        }
    return found


def interval(
    tallies: list[Tally], groups: list[Any], statistic: Callable[[list[Tally]], float], *, draws: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Bootstrap percentile interval of `statistic`, whole groups (patients) drawn with replacement."""
    rng = np.random.default_rng(seed)
    by_group: dict[Any, list[Tally]] = {}
    for one, group in zip(tallies, groups, strict=True):
        by_group.setdefault(group, []).append(one)
    summed = [{k: sum(t[k] for t in part) for k in part[0]} for part in by_group.values()]
    values = []
    for _ in range(draws):
        drawn = rng.integers(0, len(summed), len(summed))
        values.append(statistic([summed[i] for i in drawn]))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: float, whole: float, empty: float = 1.0) -> float:
    return part / whole if whole > 0 else empty


def _two_sided(s: Tally, what: str, empty: float) -> float:
    """Mean of the truth's and the prediction's area-weighted figure; one side alone counts double, `empty` where both are empty."""
    sides = [s[f"{side}_{what}"] / s[f"{side}_px"] for side in ("true", "predicted") if s[f"{side}_px"] > 0]
    return sum(sides) / len(sides) if sides else empty


@dataclass(frozen=True)
class _Thing:
    """One object: all its pixels and those on its edge, both (n, 2) row, col; codes are the pixels as sorted numbers."""

    pixels: NDArray[np.int64]
    edge: NDArray[np.int64]
    codes: NDArray[np.int64]


def _object_tally(predicted: NDArray[np.int32], truth: NDArray[np.int32]) -> Tally:
    ours, theirs = _things(predicted), _things(truth)
    overlap = _overlap(predicted, truth)
    hit_truths, hits = set(), 0
    for label in ours:
        best = max((t for p, t in overlap if p == label), key=lambda t: overlap[label, t], default=None)
        if best is not None and overlap[label, best] >= 0.5 * len(theirs[best].pixels):
            hits += 1
            hit_truths.add(best)
    diagonal = float(np.hypot(*predicted.shape))
    true_dice, true_far = _one_way(theirs, ours, {(t, p): n for (p, t), n in overlap.items()}, diagonal)
    predicted_dice, predicted_far = _one_way(ours, theirs, overlap, diagonal)
    return {
        "hits": float(hits),
        "false_alarms": float(len(ours) - hits),
        "misses": float(len(theirs) - len(hit_truths)),
        "true_dice": true_dice,
        "predicted_dice": predicted_dice,
        "true_far": true_far,
        "predicted_far": predicted_far,
        "objects_predicted": float(len(ours)),
        "objects_true": float(len(theirs)),
    }


def _things(labels: NDArray[np.int32]) -> dict[int, _Thing]:
    found = {}
    for index, box in enumerate(find_objects(labels)):
        if box is not None:
            mask = np.pad(labels[box] == index + 1, 1)
            inner = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
            corner = np.array([box[0].start, box[1].start])
            pixels = np.argwhere(mask[1:-1, 1:-1]) + corner
            found[index + 1] = _Thing(pixels, np.argwhere(mask[1:-1, 1:-1] & ~inner) + corner, pixels @ [labels.shape[1], 1])
    return found


def _overlap(predicted: NDArray[np.int32], truth: NDArray[np.int32]) -> dict[tuple[int, int], int]:
    both = (predicted > 0) & (truth > 0)
    pairs, counts = np.unique(np.stack([predicted[both], truth[both]]), axis=1, return_counts=True)
    return {(int(p), int(t)): int(n) for (p, t), n in zip(pairs.T, counts, strict=True)}


def _one_way(ours: dict[int, _Thing], theirs: dict[int, _Thing], overlap: dict[tuple[int, int], int], diagonal: float) -> tuple[float, float]:
    """Area-weighted sums of Dice and of Hausdorff distance, each of our objects against the other side's best.

    Best is the largest overlap; for Hausdorff, where nothing overlaps, the nearest in Hausdorff distance among the five
    nearest middles; where the other side is empty, the image's diagonal.
    """
    dice, far = 0.0, 0.0
    for label, thing in ours.items():
        area = len(thing.pixels)
        partners = [b for a, b in overlap if a == label]
        if partners:
            best = max(partners, key=lambda b: overlap[label, b])
            dice += area * 2 * overlap[label, best] / (area + len(theirs[best].pixels))
            far += area * _hausdorff(thing, theirs[best])
        elif theirs:
            middle = thing.pixels.mean(0)
            near = sorted(theirs.values(), key=lambda other: float(np.hypot(*(other.pixels.mean(0) - middle))))[:5]
            far += area * min(_hausdorff(thing, other) for other in near)
        else:
            far += area * diagonal
    return dice, far


def _hausdorff(a: _Thing, b: _Thing) -> float:
    """Largest distance in px from a pixel of one object to the other object; pixels in both are at distance 0."""
    return max(_reach(a, b), _reach(b, a))


def _reach(a: _Thing, b: _Thing) -> float:
    outside = a.pixels[~np.isin(a.codes, b.codes, assume_unique=True)]
    return float(cKDTree(b.edge).query(outside)[0].max()) if len(outside) else 0.0
