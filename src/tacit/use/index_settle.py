"""Rows that several processes wrote get the row_ids that one process would have given: rising by one, in order of the files, after all others.

While a shared run is at work, its row_ids are SHARED + task · 2**OF_TASK + the row's number within the task: unique without asking anybody, and in
the order in which ties are broken. Each change is there whole or not at all and keeps that order, so `settle` may end anywhere and be repeated.
"""

from __future__ import annotations

import numpy as np

from tacit.use.store import SHARED, Store

AT_ONCE = 64  # stretches of row_ids that one change of the table renumbers; LanceDB's SQL slows down with longer terms


def settle(store: Store) -> None:
    """Renumbers what a shared run has left, if anything. Needs the index alone; memory: the row_ids."""
    ids = store.ids(f"row_id >= {SHARED}")
    for twice in np.unique(ids[1:][ids[1:] == ids[:-1]]).tolist():  # one part done by two machines whose storage passes no locks on
        store.delete_copies(twice)
    ids = np.unique(ids)
    if not len(ids):
        return
    first = int(store.ids(f"row_id < {SHARED}").max(initial=-1)) + 1
    starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 2) != 1)  # of stretches of numbers that follow one another
    ends = np.append(starts[1:], len(ids)) - 1
    less = (ids[starts] - (first + starts)).tolist()  # what each stretch loses
    for a in range(0, len(starts), AT_ONCE):
        z = min(a + AT_ONCE, len(starts))
        steps = (f" - CAST(row_id >= {ids[starts[i]]} AS BIGINT) * {less[i] - less[i - 1]}" for i in range(a + 1, z))
        store.renumber(f"row_id >= {ids[starts[a]]} AND row_id <= {ids[ends[z - 1]]}", f"row_id - {less[a]}{''.join(steps)}")
