"""Planted defects: what the pixels alone tell of slices that are foreign, duplicate or out of place."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scans import body
from tacit.prepare.sequence import check, likely_missing, lone_by_hash, small

KINDS = ("foreign", "foreign run", "duplicate", "shuffled")


def plant(stack: np.ndarray, other: np.ndarray, kind: str, rng: np.random.Generator) -> tuple[np.ndarray, set[int]]:
    """The stack with one defect, and where it lies. A swap lies at either of its two places."""
    n = len(stack)
    k = int(rng.integers(3, n - 4))
    if kind in ("foreign", "foreign run"):
        m = 1 if kind == "foreign" else int(rng.integers(2, 4))
        at = int(rng.integers(0, len(other) - m))
        return np.concatenate([stack[:k], other[at : at + m], stack[k:]]), set(range(k, k + m))
    if kind == "duplicate":
        far = int(rng.integers(0, n))
        return np.concatenate([stack[:k], stack[far : far + 1], stack[k:]]), {k, far if far < k else far + 1}
    to = int((k + rng.integers(4, n - 4)) % n)
    order = [i for i in range(n) if i != k]
    order.insert(to, k)
    return stack[order], {to}


def judged(stack: np.ndarray, truth: set[int], kind: str) -> tuple[int, int, int, int]:
    """(planted, found, slices in place, of them removed)"""
    findings = check([small(s) for s in stack]).findings
    found = {i for i, f in enumerate(findings) if f.kind == kind.split()[0]}
    removed = {i for i, f in enumerate(findings) if f.kind in ("foreign", "duplicate")} - truth
    if kind in ("duplicate", "shuffled"):
        return 1, int(bool(found & truth)), len(stack) - 1, len(removed)
    return len(truth), len(found & truth), len(stack) - len(truth), len(removed)


@pytest.mark.parametrize("mm", [1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("kind", KINDS)
def test_planted_defects_of_drawn_series_are_found_and_nothing_else_is_removed(kind: str, mm: float) -> None:
    sums = np.zeros(4)
    for seed in range(4):
        stack, other = body(max(int(240 / mm), 24), 64, seed=seed, mm=mm), body(20, 64, seed=seed + 100, mm=mm)
        for draw in range(3):
            sums += judged(*plant(stack, other, kind, np.random.default_rng([seed, draw])), kind)
    assert sums[1] / sums[0] >= 0.99, f"recall {sums[1] / sums[0]:.3f}"
    assert sums[3] / sums[2] <= 0.005, f"removed {sums[3] / sums[2]:.4f}"


@pytest.mark.parametrize("mm", [1.0, 2.0, 4.0, 8.0])
def test_a_series_with_nothing_wrong_keeps_every_slice_and_its_order(mm: float) -> None:
    for seed in range(4):
        stack = body(max(int(240 / mm), 24), 64, seed=seed, mm=mm)
        found = check([small(s) for s in stack])
        assert found.order == tuple(range(len(stack))) and all(not f.kind for f in found.findings)


def test_the_order_of_a_series_in_disorder_is_found_again() -> None:
    stack = body(40, 64, mm=2.0)
    order = np.random.default_rng(0).permutation(40)
    found = np.array([order[i] for i in check([small(s) for s in stack[order]]).order])
    assert np.array_equal(found, np.arange(40)) or np.array_equal(found, np.arange(40)[::-1])


def test_a_hole_is_hinted_at() -> None:
    stack = body(40, 64, mm=2.0)
    smalls = [small(s) for s in np.delete(stack, (20, 21, 22, 23), 0)]
    assert 19 in [i for i, _ in likely_missing(smalls, range(len(smalls)))]


def test_few_slices_are_not_judged() -> None:
    assert all(not f.kind for f in check([small(s) for s in body(3, 32)]).findings)


def test_the_published_rule_and_its_adaptive_form() -> None:
    rng = np.random.default_rng(0)
    codes = [0] * 20
    for i in range(1, 20):
        codes[i] = codes[i - 1] ^ sum(1 << int(b) for b in rng.choice(64, 1))
    codes[7] ^= 2**64 - 1
    assert lone_by_hash(codes) == [7]
    codes[12] ^= 2**40 - 1
    codes[13] ^= 2**40 - 1
    assert lone_by_hash(codes, longest_run=2, adaptive=True) == [7, 12, 13]
    assert lone_by_hash(codes[:2]) == []


@pytest.mark.parametrize("name", ["P001", "cap001", "normal001"])
@pytest.mark.parametrize("mm", [1, 2, 4, 8])
def test_planted_defects_of_real_series_are_found_at_every_spacing(data: Path, name: str, mm: int) -> None:
    from tacit.read.nifti import read_volume

    volumes = {n: read_volume(data / "covid-ct-md" / "nifti" / f"{n}.nii.gz").pixels for n in ("P001", "cap001", "normal001")}
    stack = at_spacing(volumes.pop(name), mm)
    other = at_spacing(next(iter(volumes.values())), mm)
    sums = {kind: np.zeros(4) for kind in KINDS}
    for kind in KINDS:
        for draw in range(3):
            sums[kind] += judged(*plant(stack, other, kind, np.random.default_rng([mm, draw])), kind)
    clean = Counter(f.kind for f in check([small(s) for s in stack]).findings)
    assert set(clean) == {""}
    assert all(s[1] / s[0] >= 0.99 for s in sums.values()), {k: s.tolist() for k, s in sums.items()}
    total = sum(sums.values())
    assert total[3] / total[2] <= 0.005


def at_spacing(volume: np.ndarray, mm: int) -> np.ndarray:
    """A 2-mm series at another spacing; 1 mm by the mean of neighbours."""
    if mm > 1:
        return volume[:: mm // 2]
    fine = np.empty((2 * len(volume) - 1, *volume.shape[1:]), np.int16)
    fine[::2] = volume
    fine[1::2] = (volume[:-1].astype(np.int32) + volume[1:]) // 2
    return fine


def test_slices_beyond_a_hole_are_not_foreign_where_their_places_are_known() -> None:
    stack = body(60, 64)
    kept = [*range(30), *range(54, 60)]
    smalls = [small(stack[k]) for k in kept]
    assert not any(f.kind for f in check(smalls, [2.0 * k for k in kept]).findings)
