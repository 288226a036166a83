"""Slices that should follow each other: which are foreign, duplicate or out of place, judged by their pixels alone.

Ours. In a series neighbours change little by little, so two slices that have one between them differ more than either differs
from that one. Where slices before and after a run are more alike than the run is to them, the run does not belong:

    min(D(before, first), D(last, after)) > D(before, after)

No threshold is tuned to the spacing: on seven real series at 2–8 mm the left side is at most .72 of the right one for slices in
place, at least 1.5 for foreign ones and 1.1 for shuffled ones (LOG.md). The published rule — a perceptual hash farther than 5
bits from both neighbours — is `lone_by_hash`, with a limit that can adapt to the spacing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.read.series import out_of_order

SIDE = 32  # px of the small picture that stands for a slice
LONGEST_RUN = 0.25  # of a series; a longer stretch is no foreign run
DUPLICATE = 0.08  # of the typical difference of neighbours: nearer than this is the same slice
END_JUMP = 2.5  # a run at an end is foreign when its jump is this many times the jumps beyond it
FITS = 0.85  # a slice belongs between two others when it is nearer to both than this share of their distance …
LIKE = 1.15  # … or to this many times the steps around them: where noise hides the steps, a gap of two is no wider than one
DISORDER = 0.15  # above this share of slices out of place the whole order is sought anew

Small = NDArray[np.float32]


@dataclass(frozen=True)
class Finding:
    """What the pixels say about one slice of a series."""

    kind: str  # "", "duplicate", "foreign" or "shuffled"
    words: str = ""


@dataclass(frozen=True)
class Sequence:
    """One finding a slice in the given order, and the slices that belong, in the order in which they follow each other."""

    findings: tuple[Finding, ...]
    order: tuple[int, ...]

    def count(self, kind: str) -> int:
        """How many slices were found to be `kind`."""
        return sum(f.kind == kind for f in self.findings)


def small(picture: NDArray) -> Small:
    """What stands for a slice: (32, 32) float32 of its grey values brought to 0–255. picture (h, w) or (h, w, 3), HU or 8 bit."""
    grey = picture if picture.ndim == 2 else picture.mean(-1)
    if grey.dtype != np.uint8:
        low, high = (-1000.0, 400.0) if grey.dtype.kind == "i" else (float(grey.min()), float(grey.max()))
        grey = np.clip((grey.astype(np.float32) - low) * (255 / max(high - low, 1e-6)), 0, 255)
    return np.asarray(cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


def differences(smalls: list[Small]) -> NDArray[np.float32]:
    """Mean absolute difference of every pair, (n, n)."""
    flat = np.stack([s.ravel() for s in smalls])
    return np.stack([np.abs(flat - row).mean(1) for row in flat])


def check(smalls: list[Small], places: list[float] | None = None) -> Sequence:
    """Judges slices in their given order. Fewer than four cannot be judged and all belong.

    places: where each slice is said to lie (mm, or any unit): at an end, a jump over a hole is no sign of foreign slices.
    """
    n = len(smalls)
    if n < 4:
        return Sequence(tuple(Finding("") for _ in smalls), tuple(range(n)))
    d = differences(smalls)
    findings = [Finding("")] * n
    order = _without_duplicates(d, findings)
    at = np.arange(n, dtype=float) if places is None else np.asarray(places, float)
    kept, taken = _without_runs(d, order, at)
    if len(taken) > DISORDER * len(order):
        kept, taken = _without_runs(d, best_order(d, order), np.arange(n, dtype=float))
    kept = _put_back(d, kept, taken, findings)
    forwards = kept if kept.index(min(kept)) <= kept.index(max(kept)) else kept[::-1]
    for i in _displaced(forwards):
        findings[i] = Finding("shuffled", "shuffled: its pixels belong elsewhere in the series")
    return Sequence(tuple(findings), tuple(forwards))


def _without_duplicates(d: NDArray[np.float32], findings: list[Finding]) -> list[int]:
    n = len(d)
    typical = float(np.median(np.diagonal(d, 1)))
    order: list[int] = []
    for i in range(n):
        twin = next((j for j in order if d[i, j] <= DUPLICATE * typical), None)
        if twin is None:
            order.append(i)
        else:
            findings[i] = Finding("duplicate", f"duplicate: the same picture as slice {twin + 1} of the series")
    return order


def _without_runs(d: NDArray[np.float32], order: list[int], at: NDArray[np.float64]) -> tuple[list[int], list[int]]:
    """Takes out runs that do not belong, the shortest first and of equal ones the most glaring. Gives the rest and the taken."""
    kept, taken = list(order), []
    while len(kept) > 3:
        run = _worst_run(d, kept, at)
        if run is None:
            break
        taken += kept[run[0] : run[1]]
        del kept[run[0] : run[1]]
    return kept, taken


def _worst_run(d: NDArray[np.float32], kept: list[int], places: NDArray[np.float64]) -> tuple[int, int] | None:
    n = len(kept)
    k = np.asarray(kept)
    jumps = d[k[:-1], k[1:]]
    gaps = np.abs(np.diff(places[k]))
    steps = jumps / np.maximum(gaps / max(float(np.median(gaps)), 1e-9), 1)  # over a hole many slices change at once
    for m in range(1, max(int(LONGEST_RUN * n), 1) + 1):
        over = d[k[: n - m - 1], k[m + 1 :]]  # from before the run to after it
        ratio = np.minimum(jumps[: n - m - 1], jumps[m:]) / np.maximum(over, 1e-6)
        at = int(ratio.argmax()) if len(ratio) else -1
        if at >= 0 and ratio[at] > 1:
            return at + 1, at + 1 + m
        if n >= m + 4:
            head, tail = steps[m - 1] / max(steps[m : m + 3].max(), 1e-6), steps[n - m - 1] / max(steps[n - m - 4 : n - m - 1].max(), 1e-6)
            if max(head, tail) > END_JUMP:
                return (0, m) if head >= tail else (n - m, n)
    return None


def best_order(d: NDArray[np.float32], members: list[int]) -> list[int]:
    """A path through all members with short steps: nearest pairs are linked first, none twice over, no ring (greedy matching)."""
    k = np.asarray(members)
    rows, cols = np.triu_indices(len(k), 1)
    links: dict[int, list[int]] = {i: [] for i in range(len(k))}
    end = list(range(len(k)))  # the other end of the chain that a chain's end belongs to
    for p in np.argsort(d[k[rows], k[cols]], kind="stable"):
        a, b = int(rows[p]), int(cols[p])
        if len(links[a]) < 2 and len(links[b]) < 2 and end[a] != b:
            links[a].append(b)
            links[b].append(a)
            far_a, far_b = end[a], end[b]
            end[far_a], end[far_b] = far_b, far_a
    at = next(i for i in links if len(links[i]) < 2)
    path, before = [at], -1
    while len(path) < len(k):
        step = next(j for j in links[at] if j != before)
        before, at = at, step
        path.append(at)
    return [members[i] for i in path]


def _put_back(d: NDArray[np.float32], kept: list[int], taken: list[int], findings: list[Finding]) -> list[int]:
    """A taken slice goes where it fits between two others; what fits nowhere is foreign."""
    left = list(taken)
    while left:
        k = np.asarray(kept)
        gaps = d[k[:-1], k[1:]]
        wide = np.maximum(FITS * gaps, LIKE * _steps_around(gaps))
        best = (1.0, -1, -1)
        for i in left:
            reach = np.maximum(d[i, k[:-1]], d[i, k[1:]]) / np.maximum(wide, 1e-6)
            at = int(reach.argmin())
            if reach[at] < best[0]:
                best = (float(reach[at]), i, at + 1)
        if best[1] < 0:
            break
        kept.insert(best[2], best[1])
        left.remove(best[1])
    for i in left:
        findings[i] = Finding("foreign", "foreign: its neighbours are more like each other than like it")
    return kept


def _steps_around(gaps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of the three steps before and the three after each."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(gaps, 3, "reflect" if len(gaps) > 3 else "edge"), 7)
    return np.asarray(np.median(windows[:, [0, 1, 2, 4, 5, 6]], axis=1))


def _displaced(order: list[int]) -> list[int]:
    """The fewest members to move so that the order rises."""
    return [order[i] for i in out_of_order(list(order))]


def likely_missing(smalls: list[Small], order: tuple[int, ...] | list[int]) -> list[tuple[int, int]]:
    """(slice before the gap, slices missing) where a step is as large as several of its neighbours' steps. Only a hint."""
    k = np.asarray(order)
    if len(k) < 7:
        return []
    d = np.array([np.abs(smalls[a] - smalls[b]).mean() for a, b in zip(k[:-1], k[1:], strict=True)])
    found = []
    for i in range(len(d)):
        around = np.r_[d[max(i - 3, 0) : i], d[i + 1 : i + 4]]
        times = d[i] / max(float(around.max()), 1e-6)
        if times > 1.35:
            found.append((int(k[i]), max(round(float(d[i] / np.median(around))) - 1, 1)))
    return found


def lone_by_hash(codes: list[int], *, limit: int = 5, adaptive: bool = False, longest_run: int = 1) -> list[int]:
    """Indices of slices whose hash is farther than `limit` bits from both neighbours (the published rule).

    adaptive: the limit is at least the median of the neighbours' distances + 5 median absolute deviations, so that wide
    slice spacing removes nothing. longest_run: runs of up to so many slices whose ends both lie beyond the limit count too.
    """
    steps = np.array([(a ^ b).bit_count() for a, b in zip(codes[:-1], codes[1:], strict=True)])
    if len(steps) < 2:
        return []
    if adaptive:
        middle = float(np.median(steps))
        limit = max(limit, round(middle + 5 * float(np.median(np.abs(steps - middle)))))
    found: set[int] = set()
    for m in range(1, longest_run + 1):
        for i in range(len(steps) - m):
            across = (codes[i] ^ codes[i + m + 1]).bit_count()
            if steps[i] > limit and steps[i + m] > limit and (m == 1 or across <= limit):
                found |= set(range(i + 1, i + m + 1))
    return sorted(found)
