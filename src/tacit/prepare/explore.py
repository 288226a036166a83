"""What a collection looks like before anything is learnt: class images by streaming, and whether something silly predicts the class.

The shortcut audit asks whether the scanner's header, the files' times or their sizes alone tell the class; where they do, so will a
network, and its accuracy says nothing of disease (Zech et al. 2018, DeGrave et al. 2021). Folds never split a patient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 128  # px of the class images
LEAST_A_CLASS = 5  # cases before a shortcut is looked for
DRAWS = 300


@dataclass
class ClassImages:
    """Mean and SD picture of each class, updated one picture at a time (Welford 1962): memory does not grow."""

    count: dict[str, int] = field(default_factory=dict)
    mean: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    squares: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def add(self, label: str, grey: NDArray[np.uint8]) -> None:
        """grey: (h, w), 0–255, of one window for all; brought to 128×128."""
        x = cv2.resize(grey.astype(np.float32), (CANVAS, CANVAS), interpolation=cv2.INTER_AREA).astype(np.float64)
        n = self.count[label] = self.count.get(label, 0) + 1
        mean = self.mean.setdefault(label, np.zeros_like(x))
        step = x - mean
        mean += step / n
        squares = self.squares.setdefault(label, np.zeros_like(x))
        squares += step * (x - mean)

    def deviation(self, label: str) -> NDArray[np.float64]:
        """SD of the class's pictures at each pixel, (128, 128)."""
        return np.sqrt(self.squares[label] / max(self.count[label] - 1, 1))

    def difference(self, a: str, b: str) -> NDArray[np.float64]:
        """Mean of class `a` less mean of class `b`, (128, 128) grey levels."""
        return self.mean[a] - self.mean[b]


@dataclass(frozen=True)
class Shortcut:
    """How well some trivial facts tell the class: AUC (one class against the rest, averaged) with a 95% interval over groups."""

    name: str
    auc: float
    interval: tuple[float, float]
    cases: int
    groups: int
    features: tuple[str, ...]

    @property
    def alarming(self) -> bool:
        """Whether the interval lies above chance."""
        return self.interval[0] > 0.5


def shortcut(name: str, columns: dict[str, list[float | str | None]], labels: list[str], groups: list[str], *, seed: int = 0) -> Shortcut | None:
    """Cross-validated AUC of predicting `labels` from `columns` (name → one value a case) alone; None where there is too little to say.

    Numbers are ranked, words one-hot; logistic regression and, in the same folds, a small forest: the better one counts, as an alarm
    should miss nothing. Groups (patients) are never split; classes of fewer than five cases or of one group are left out.
    """
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    members = {c: [i for i, label in enumerate(labels) if label == c] for c in sorted(set(labels))}
    members = {c: m for c, m in members.items() if len(m) >= LEAST_A_CLASS and len({groups[i] for i in m}) > 1}
    if len(members) < 2:
        return None
    rows = sorted(i for m in members.values() for i in m)
    columns = {k: [v[i] for i in rows] for k, v in columns.items()}
    groups = [groups[i] for i in rows]
    classes, y = np.unique([labels[i] for i in rows], return_inverse=True)
    per_class = [len({groups[k] for k in np.flatnonzero(y == c)}) for c in range(len(classes))]
    x, used = _table(columns)
    if x.shape[1] == 0:
        return None
    folds = StratifiedGroupKFold(min(5, *per_class), shuffle=True, random_state=seed)
    best: tuple[float, NDArray[np.float64]] | None = None
    for model in _models(seed):
        p = np.full((len(y), len(classes)), np.nan)
        for fit, test in folds.split(x, y, groups):
            if len(np.unique(y[fit])) == len(classes):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    p[test] = model.fit(x[fit], y[fit]).predict_proba(x[test])
        known = np.isfinite(p[:, 0])
        if known.sum() < 2 * LEAST_A_CLASS or len(np.unique(y[known])) < len(classes):
            return None
        auc = _auc(roc_auc_score, y[known], p[known])
        if best is None or auc > best[0]:
            best = auc, p
    assert best is not None
    auc, p = best
    return Shortcut(name, auc, _interval(roc_auc_score, y, p, np.asarray(groups), seed), len(y), len(set(groups)), tuple(used))


def _models(seed: int) -> list:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), RandomForestClassifier(60, min_samples_leaf=3, random_state=seed, n_jobs=1)]


def _auc(score: Callable[[NDArray, NDArray], float], y: NDArray[np.intp], p: NDArray[np.float64]) -> float:
    return float(np.mean([score(y == c, p[:, c]) for c in range(p.shape[1])]))


def _interval(score: Callable[[NDArray, NDArray], float], y: NDArray[np.intp], p: NDArray[np.float64], groups: NDArray, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    names, member = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero((member == g) & np.isfinite(p[:, 0])) for g in range(len(names))]
    found = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[g] for g in rng.integers(0, len(names), len(names))])
        if len(np.unique(y[drawn])) == p.shape[1]:
            found.append(_auc(score, y[drawn], p[drawn]))
    low, high = np.percentile(found, [2.5, 97.5]) if found else (np.nan, np.nan)
    return float(low), float(high)


def _table(columns: dict[str, list[float | str | None]]) -> tuple[NDArray[np.float64], list[str]]:
    """Ranks of numbers (absent: the middle, with a column that says so), one column a word; constant columns are left out."""
    parts: list[NDArray[np.float64]] = []
    used: list[str] = []
    for name, values in columns.items():
        own: list[NDArray[np.float64]] = []
        numbers = [v for v in values if isinstance(v, (int, float)) and np.isfinite(v)]
        if numbers and all(v is None or isinstance(v, (int, float)) for v in values):
            known = np.array([isinstance(v, (int, float)) and bool(np.isfinite(v)) for v in values])
            raw = np.array([float(v) if k else np.median(numbers) for v, k in zip(values, known, strict=True)])  # type: ignore[arg-type]
            own.append(np.searchsorted(np.unique(raw), raw).astype(float))
            own.append(known.astype(float))
        else:
            words = ["" if v is None else str(v) for v in values]
            common = [w for w in sorted(set(words)) if words.count(w) > 1][:30]
            own += [np.array([w == v for v in words], float) for w in common]
        own = [column for column in own if np.ptp(column) > 0]
        parts += own
        used += [name] if own else []
    return (np.stack(parts, 1) if parts else np.zeros((len(next(iter(columns.values()), [])), 0))), used
