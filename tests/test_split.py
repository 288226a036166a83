from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from tacit.errors import InputError, UsageError
from tacit.prepare.split import Leak, folds, groups, leaks, split

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def cases(patients: list[object], labels: list[object] | None = None) -> pd.DataFrame:
    names = [f"i{k:04d}" for k in range(len(patients))]
    blank = [None] * len(patients)
    return pd.DataFrame({"name": names, "patient": patients, "label": labels or blank, "split": blank}, dtype=object)


def hospital(rows: int = 900, patients: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, patients, rows)
    ill = rng.random(patients) < 0.3
    return cases([f"p{p}" for p in patient], ["ill" if ill[p] else "well" for p in patient])


tables = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c", "d", "e"]), st.sampled_from([None, "x", "y"])), min_size=8, max_size=40)


@given(tables, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=4), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_a_patient_and_a_near_twin_never_land_on_both_sides(rows: list, pairs: list, seed: int) -> None:
    table = cases([p for p, _ in rows], [y for _, y in rows])
    count = len(set(groups(table, pairs).tolist()))
    if count < 3:
        with pytest.raises(InputError, match="cannot fill 3 parts"):
            split(table, SHARES, pairs=pairs, seed=seed)
        return
    done = split(table, SHARES, pairs=pairs, seed=seed)
    assert leaks(done, pairs) == [] and set(done["split"]) == set(SHARES)
    assert (table["split"].isna()).all()  # the input is as it was
    order = np.random.default_rng(seed).permutation(len(table))
    place = np.argsort(order)
    again = split(table.iloc[order].reset_index(drop=True), SHARES, pairs=[(place[a], place[b]) for a, b in pairs], seed=seed)
    assert dict(zip(again["name"], again["split"])) == dict(zip(done["name"], done["split"]))


def test_groups_are_those_of_a_plain_search() -> None:
    table = cases(["a", None, "b", "a", None, np.nan, "", "c"])
    assert groups(table).tolist() == [0, 1, 2, 0, 3, 4, 5, 6]
    tied = groups(table, [(1, 2), (6, 3)])
    assert tied[1] == tied[2] and tied[0] == tied[3] == tied[6] and len(set(tied.tolist())) == 5


def test_parts_have_the_shares_and_the_labels_that_were_asked() -> None:
    for seed in range(5):
        table = hospital(seed=seed)
        done = split(table, SHARES, seed=seed)
        base = (table["label"] == "ill").mean()
        for name, share in SHARES.items():
            part = done[done["split"] == name]
            assert len(part) / len(table) == pytest.approx(share, abs=0.01)
            assert (part["label"] == "ill").mean() == pytest.approx(base, abs=0.03)
    assert (split(table, SHARES, seed=1)["split"] != split(table, SHARES, seed=2)["split"]).any()


def test_folds_are_as_even_as_scikit_learns() -> None:
    table = hospital(seed=3)
    fold = folds(table, 5, seed=3)
    ill = (table["label"] == "ill").to_numpy()
    peer = np.zeros(len(table), int)
    for i, (_, rows) in enumerate(StratifiedGroupKFold(5).split(ill, ill, table["patient"])):
        peer[rows] = i
    uneven = lambda f: np.std([(ill & (f == i)).sum() for i in range(5)]) + np.std([(~ill & (f == i)).sum() for i in range(5)])
    assert set(fold.tolist()) == set(range(5)) and uneven(fold) <= uneven(peer) + 2
    assert all(len(set(fold[table["patient"] == p])) == 1 for p in set(table["patient"]))


def test_few_groups_still_fill_every_part() -> None:
    assert set(split(cases(["big"] * 50 + ["s", "t"]), SHARES)["split"]) == set(SHARES)
    assert sorted(folds(cases([None] * 4), 4).tolist()) == [0, 1, 2, 3]


def test_leaks_name_the_patient_and_the_pair() -> None:
    table = cases(["a", "a", "b", None, "b"])
    table["split"] = ["train", "test", "train", "test", None]
    assert leaks(table, [(2, 3), (0, 2), (3, 4)]) == [
        Leak("patient", "a", ("i0000", "i0001"), ("test", "train")),
        Leak("pair", "i0002 ~ i0003", ("i0002", "i0003"), ("test", "train")),
    ]


def test_what_cannot_be_split_is_said() -> None:
    table = cases(["a", "b", "c"])
    for wrong in ({}, {"train": 0.5, "test": 0.6}, {"train": 1.0, "test": 0.0}):
        with pytest.raises(UsageError, match="sum to 1"):
            split(table, wrong)
    with pytest.raises(UsageError, match="at least 2 folds"):
        folds(table, 1)
    with pytest.raises(InputError, match="positions of rows"):
        split(table, {"a": 0.5, "b": 0.5}, pairs=[(0, 3)])
    with pytest.raises(InputError, match="unique"):
        split(table.assign(name="one"), {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match="no column 'label'"):
        split(table.drop(columns="label"), {"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match="0 groups"):
        split(table.iloc[:0], {"a": 0.5, "b": 0.5})
