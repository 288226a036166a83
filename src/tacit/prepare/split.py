"""Cases dealt out to named parts or folds, so that nothing of one patient, and no near twin, lies on two sides.

Rows that share a patient, or are a pair of near-duplicates, are one group, and so on along the chain. Groups are dealt whole,
the largest first, each to the part where it brings the counts of every label, and of all rows, nearest to what was asked
(chi-square); scikit-learn's StratifiedGroupKFold is greedy in the same way, for equal folds. The result depends on the names,
patients, labels and pairs, and on the seed; not on the order of the rows. An unknown patient is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, UsageError

if TYPE_CHECKING:
    import pandas as pd

Pairs = Iterable[tuple[int, int]]


@dataclass(frozen=True)
class Leak:
    """Something that lies on two sides: a patient, or a pair of near twins; the names of the rows and the sides they lie on."""

    kind: Literal["patient", "pair"]
    who: str  # the patient, or "name ~ name"
    names: tuple[str, ...]
    splits: tuple[str, ...]  # sorted, each once


def split(table: pd.DataFrame, shares: Mapping[str, float], *, pairs: Pairs = (), seed: int = 0) -> pd.DataFrame:
    """A copy of the table with its `split` column filled by the names in `shares`, whose values sum to 1.

    table: columns name (unique), patient, label; None or NaN is unknown, and unknown labels are balanced as a label of their own.
    pairs: near-duplicates as positions of rows. Shares are met as well as whole groups allow. Raises UsageError for shares that
    are not positive or do not sum to 1, InputError where there are fewer groups than parts or a pair points nowhere.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"the shares must be positive and sum to 1, for example train 0.8 and test 0.2; they are {dict(shares)}")
    part = _dealt(table, np.array(list(shares.values())), pairs, seed)
    return table.assign(split=np.array(list(shares), dtype=object)[part])


def folds(table: pd.DataFrame, k: int, *, pairs: Pairs = (), seed: int = 0) -> NDArray[np.int64]:
    """The fold, 0 to k − 1, of every row: each fold is once the test. Takes and raises what `split` does; k is at least 2."""
    if k < 2:
        raise UsageError(f"cross-validation needs at least 2 folds, it was given {k}")
    return _dealt(table, np.full(k, 1 / k), pairs, seed)


def groups(table: pd.DataFrame, pairs: Pairs = ()) -> NDArray[np.int64]:
    """The group of every row, 0 to number of groups − 1: rows tied by a patient or by pairs, directly or along a chain."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = [(int(a), int(b)) for a, b in pairs]
    astray = [pair for pair in ties if not all(0 <= row < len(table) for row in pair)]
    if astray:
        raise InputError(f"pairs are positions of rows, 0 to {len(table) - 1}; {astray[0]} points to no row")
    first: dict[object, int] = {}
    for row, patient in enumerate(_known(table, "patient")):
        if patient is not None:
            ties.append((first.setdefault(patient, row), row))
    a, b = np.array(ties, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(table), len(table)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def leaks(table: pd.DataFrame, pairs: Pairs = ()) -> list[Leak]:
    """Every patient and every pair that lies on two sides of `split`; [] where nothing leaks. Rows without a split lie on none.

    A patient is named as the table names it; pairs are positions of rows. Raises InputError for a missing column.
    """
    names, sides = _known(table, "name"), _known(table, "split")
    rows_of: dict[object, list[int]] = {}
    for row, patient in enumerate(_known(table, "patient")):
        if patient is not None and sides[row] is not None:
            rows_of.setdefault(patient, []).append(row)
    suspects: list[tuple[Literal["patient", "pair"], str, list[int]]] = [("patient", str(patient), rows) for patient, rows in rows_of.items()]
    suspects += [("pair", f"{names[a]} ~ {names[b]}", [a, b]) for a, b in pairs if sides[a] is not None and sides[b] is not None]
    found = [Leak(kind, who, tuple(str(names[r]) for r in rows), tuple(sorted({str(sides[r]) for r in rows}))) for kind, who, rows in suspects]
    return [leak for leak in found if len(leak.splits) > 1]


def _known(table: pd.DataFrame, column: str) -> list[object]:
    """The column's values, None for whatever pandas calls missing and for empty text."""
    if column not in table.columns:
        raise InputError(f"the table has no column {column!r}; it has {', '.join(map(str, table.columns))}")
    return [None if missing or value == "" else value for value, missing in zip(table[column].tolist(), table[column].isna(), strict=True)]


def _dealt(table: pd.DataFrame, shares: NDArray[np.float64], pairs: Pairs, seed: int) -> NDArray[np.int64]:
    """The part of every row."""
    names = [str(n) for n in _known(table, "name")]
    if len(set(names)) < len(names):
        raise InputError("names must be unique, or a split could not be repeated; some names in the table are not")
    group = groups(table, pairs)
    count = int(group.max(initial=-1)) + 1
    if count < len(shares):
        raise InputError(f"{count} groups (patients, with their near twins) cannot fill {len(shares)} parts; ask for fewer parts or bring more patients")
    held = _held(table, group, count)
    part = np.full(count, -1)
    filled = np.zeros((len(shares), held.shape[1]))
    wanted = shares[:, None] * held.sum(0)
    order = _order(names, group, held, seed)
    empty = np.ones(len(shares), bool)
    for done, g in enumerate(order):
        before, after = (filled - wanted) ** 2 / wanted, (filled + held[g] - wanted) ** 2 / wanted
        cost = (after - before).sum(1)
        if empty.sum() >= count - done:  # the last groups go where nothing is yet
            cost = np.where(empty, cost, np.inf)
        part[g] = int(np.argmin(cost))
        filled[part[g]] += held[g]
        empty[part[g]] = False
    return part[group]


def _held(table: pd.DataFrame, group: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """How many rows of each label, and in the last column of any, every group holds: (groups, labels + 1)."""
    kinds = [str(label) if label is not None else "" for label in _known(table, "label")]
    label = np.unique(kinds, return_inverse=True)[1]
    held = np.zeros((count, label.max() + 2))
    np.add.at(held, (group, label), 1)
    held[:, -1] = held.sum(1)
    return held


def _order(names: list[str], group: NDArray[np.int64], held: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Groups from large to small, equals shuffled; a function of names, not of the order of rows."""
    by_name = np.argsort(np.array(names, dtype=object), kind="stable")
    seen: dict[int, None] = dict.fromkeys(group[by_name].tolist())
    shuffled = np.random.default_rng(seed).permutation(np.array(list(seen), np.int64))
    return shuffled[np.argsort(-held[shuffled, -1], kind="stable")]
