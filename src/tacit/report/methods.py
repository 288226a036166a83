"""Several methods on the same pictures: mean and SD over seeds, intervals and paired differences over patients. From sums that pictures add to.

All methods and seeds see the same draws of patients, so that a difference is as sure as pictures allow, not as seeds happen to fall.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.report.paired_tests import holm, right_test
from tacit.report.score import Tally, figures

Seeds = Sequence[Mapping[str, Tally]]  # one seed's sums by picture, each
SHOWN = ("miou", "iou_gland", "dice_pooled", "dice_per_image", "object_f1", "object_dice", "object_hausdorff_px")
RANGED = ("miou", "dice_pooled")
DRAWS = 1000


def of_method(seeds: Seeds, patients: Mapping[str, str], groups: Mapping[str, str], seed: int = 0) -> dict[str, Any]:
    """{figure: {"mean", "sd", "interval"}} over seeds, and the mean mIoU of each group. sd is None with one seed, interval where there is one patient only.

    patients, groups: picture → patient, and → group such as benign or malignant (pictures without one are in none). Seeds may have other pictures each;
    images and patients count those of all seeds together.
    """
    pictures = {p for one in seeds for p in one}
    each = [figures(list(one.values())) for one in seeds]
    found: dict[str, Any] = {}
    for name in SHOWN:
        if all(name in f for f in each):
            values = [f[name] for f in each]
            found[name] = {"mean": float(np.mean(values)), "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None, "interval": None}
    if len({patients[p] for p in pictures}) > 1:
        for name in RANGED:
            low, high = np.quantile(_over_draws(seeds, patients, name, seed), (0.025, 0.975))
            found[name]["interval"] = [float(low), float(high)]
    by_group = {}
    for group in sorted({groups[p] for p in pictures if p in groups}):
        own = [[t for p, t in one.items() if groups.get(p) == group] for one in seeds]
        by_group[group] = {"miou": float(np.mean([figures(t)["miou"] for t in own if t])), "images": sum(groups.get(p) == group for p in pictures)}
    return {"figures": found, "by_group": by_group, "images": len(pictures), "patients": len({patients[p] for p in pictures})}


def paired(rows: Mapping[str, Seeds], against: str, patients: Mapping[str, str], seed: int = 0) -> list[dict[str, Any]]:
    """Each method's mIoU less that of `against`, over the same draws of patients, and the sign test of who is better on a patient, after Holm.

    difference and interval: of the mean over seeds · patients_better, patients_worse: by the mean of their pictures' mIoU · p, p_holm: two-sided.
    """
    first = rows[against]
    several = len({patients[p] for p in first[0]}) > 1
    base = _over_draws(first, patients, "miou", seed) if several else None
    found = []
    for name, seeds in rows.items():
        if name == against:
            continue
        gain = _mean_figure(seeds, "miou") - _mean_figure(first, "miou")
        row: dict[str, Any] = {"method": name, "against": against, "difference": gain, "interval": None}
        if base is not None:
            low, high = np.quantile(_over_draws(seeds, patients, "miou", seed) - base, (0.025, 0.975))
            row["interval"] = [float(low), float(high)]
        worse, better, p = _sign_test(_by_patient(first, patients), _by_patient(seeds, patients))
        found.append(row | {"patients_better": better, "patients_worse": worse, "p": p})
    for row, corrected in zip(found, holm([r["p"] for r in found]), strict=True):
        row["p_holm"] = corrected
    return found


def _mean_figure(seeds: Seeds, name: str) -> float:
    return float(np.mean([figures(list(one.values()))[name] for one in seeds]))


def _over_draws(seeds: Seeds, patients: Mapping[str, str], name: str, seed: int) -> NDArray[np.float64]:
    """The mean over seeds of a figure in each draw of patients with replacement, (DRAWS,); the draws depend on the patients and the seed alone.

    The patients are those of all seeds together, since seeds may have other pictures each; a seed that has none of those drawn is left out of that draw.
    """
    people = sorted({patients[p] for one in seeds for p in one})
    drawn = np.random.default_rng([seed, 31]).integers(0, len(people), (DRAWS, len(people)))
    times = np.stack([np.bincount(d, minlength=len(people)) for d in drawn]).astype(np.float64)
    found = []
    for one in seeds:
        keys = list(next(iter(one.values())))
        sums = np.zeros((len(people), len(keys)))
        for picture, tally in one.items():
            sums[people.index(patients[picture])] += [tally[k] for k in keys]
        held = times @ np.bincount([people.index(patients[p]) for p in one], minlength=len(people)) > 0
        found.append([figures([dict(zip(keys, row, strict=True))])[name] if some else np.nan for row, some in zip(times @ sums, held, strict=True)])
    return np.asarray(np.nanmean(found, axis=0))  # whoever is drawn is in some seed


def _by_patient(seeds: Seeds, patients: Mapping[str, str]) -> dict[str, float]:
    """Each patient's mIoU, mean over pictures and seeds."""
    values: dict[str, list[float]] = {}
    for one in seeds:
        for picture, tally in one.items():
            values.setdefault(patients[picture], []).append(figures([tally])["miou"])
    return {who: float(np.mean(v)) for who, v in sorted(values.items())}


def _sign_test(first: dict[str, float], other: dict[str, float]) -> tuple[int, int, float]:
    a, b = np.array(list(first.values())), np.array(list(other.values()))
    return right_test(a > b, b > a, np.arange(len(a)))


def common(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> set[str]:
    """The pictures that every seed of every row has."""
    return set.intersection(*(set(one) for seeds in rows.values() for one in seeds))


def kept(rows: Mapping[str, Seeds], pictures: set[str]) -> dict[str, list[dict[str, Tally]]]:
    """The rows with these pictures only, in order of their names."""
    order: Callable[[Mapping[str, Tally]], dict[str, Tally]] = lambda one: {p: one[p] for p in sorted(pictures)}
    return {name: [order(one) for one in seeds] for name, seeds in rows.items()}
