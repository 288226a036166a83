"""Labels of a set: what a list says, names of subfolders, a CSV, or clusters; and which part of a large set is looked at.

Names of labels take no part in any number: they only stand beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.parts.cluster import k_means, nearest
from tacit.read.facts import Facts, facts_of, read_text
from tacit.run import Run
from tacit.use.distance import content_order, content_seed
from tacit.use.distance_input import Found, Look

CLUSTERS = range(2, 9)  # that k is chosen from
LEAST = 5  # samples of a cluster
JUDGED = 1000  # samples by which k is chosen


@dataclass(frozen=True)
class Clusters:
    """How a set without labels gets them. k: None, chosen by the silhouette."""

    k: int | None


def with_labels(found: Found, asked: str | None, run: Run) -> tuple[Found, Clusters | None, str]:
    """The set with a label a look, or how clusters are to be found, and where its labels come from in words.

    asked: folders, kmeans, kmeans:K, a CSV, or None: what a list says, else subfolders where there are several, else clusters. Raises InputError, UsageError.
    """
    if asked is not None and asked.partition(":")[0] == "kmeans":
        return found, Clusters(_k(asked)), "clusters"
    if asked not in (None, "folders"):
        return _by_table(found, Path(str(asked)), run)
    kinds = {look.label for look in found.looks} - {None}
    if asked is None and not found.told and len(kinds) < 2:
        return found, Clusters(None), "clusters"
    where = "the list" if found.told else "subfolders"
    if not kinds:
        raise InputError(f"--labels folders: {found.name} has no subfolders; give a CSV, or kmeans")
    return _labelled(found, run, where), None, where


def _k(asked: str) -> int | None:
    text = asked.partition(":")[2]
    if text and not (text.isdigit() and 2 <= int(text) <= 100):
        raise UsageError(f"--labels {asked!r}: expected kmeans, or kmeans:K with K from 2 to 100")
    return int(text) if text else None


def _by_table(found: Found, table: Path, run: Run) -> tuple[Found, None, str]:
    known = read_table(table)
    if not any(row.get("label") is not None for row in known.values()):
        raise InputError(f"--labels {table}: no column class, label, grade or diagnosis; expected e.g. case,class")
    looks = []
    for look in found.looks:
        row = row_of(look, known)
        told = row.get("label") if row else None
        looks.append(replace(look, label=None if told is None else str(told), facts=look.facts | (row or {})))
    if all(look.label is None for look in looks):
        raise InputError(
            f"--labels {table} names none of the {len(looks)} looks of {found.name}, e.g. {Path(looks[0].case).name}; it names {next(iter(known))} …"
        )
    return _labelled(replace(found, looks=tuple(looks)), run, table.name), None, table.name


def read_table(table: Path) -> dict[str, Facts]:
    """Name of a file, case or patient → its row; of a CSV or Parquet file. Raises InputError."""
    import pandas as pd

    try:
        rows = pd.read_parquet(table) if table.suffix.lower() == ".parquet" else read_text(table)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {table} cannot be read: {str(error).splitlines()[0]}; expected folders, kmeans, or a CSV case,class") from error
    names = ("case", "path", "wsi", "slide", "file", "filename", "image", "name", "series")
    low = {str(c).strip().lower(): c for c in rows.columns}
    name = next((low[n] for n in names if n in low), None)
    if name is None:
        raise InputError(f"--labels {table}: no column case (or path, file, image, name) among {', '.join(map(str, rows.columns))}; expected case,class")
    known: dict[str, Facts] = {}
    for key, facts in zip(rows[name], facts_of(rows.drop(columns=[name])), strict=True):
        if pd.isna(key):
            continue
        file = Path(str(key).strip()).name
        if known.setdefault(file, facts).get("label") != facts.get("label"):
            raise InputError(f"--labels {table} gives {file!r} two labels; names of files must differ between folders, or let subfolders be the labels")
    return known


def row_of(look: Look, known: dict[str, Facts]) -> Facts | None:
    """What a table says of a look, by the name of its file or series, with or without the suffix."""
    path = Path(look.case)
    return known.get(path.name, known.get(path.stem))


def _labelled(found: Found, run: Run, where: str) -> Found:
    for case in sorted({look.case for look in found.looks if look.label is None}):
        run.fail(case, ReadError(case, f"it has no label in {where}", "add it, or leave the file out"))
    return replace(found, looks=tuple(look for look in found.looks if look.label is not None))


def drawn(found: Found, samples: int, seed: int, labelled: bool) -> Found:
    """At most about `samples` looks, by content alone: the same content gives the same draw, wherever it lies. Labels keep their shares, and at least two looks.

    Looks stay in the order in which they were found, so that a series or slide is read once.
    """
    if len(found.looks) <= samples:
        return found
    groups: dict[str, list[int]] = {}
    for i, look in enumerate(found.looks):
        groups.setdefault(str(look.label) if labelled else "", []).append(i)
    chosen: list[int] = []
    for members in groups.values():
        keys = [found.looks[i].key for i in members]
        order = [members[i] for i in content_order(keys, np.zeros(len(keys), np.int64))]
        count = min(max(round(samples * len(members) / len(found.looks)), 2), len(members))
        chosen += [order[i] for i in np.random.default_rng(content_seed(keys, seed)).permutation(len(order))[:count]]
    return replace(found, looks=tuple(found.looks[i] for i in sorted(chosen)))


def clustered(x: NDArray[np.float64], keys: Sequence[str], how: Clusters, name: str, seed: int) -> tuple[list[str], str]:
    """Labels of x (n, d) by k-means, and how they were found in words. k: asked for, or with the best mean silhouette (Rousseeuw 1987) among 2 … 8.

    The same content gives the same clusters, in whatever order it comes. Raises InputError where no k leaves five samples a cluster.
    """
    from sklearn.metrics import silhouette_score

    order = np.array(content_order(keys, np.zeros(len(keys), np.int64)))
    start = int(np.random.SeedSequence(content_seed(keys, seed)).generate_state(1)[0] % 2**31)
    ready = np.ascontiguousarray(x[order], np.float32)
    tried: dict[int, tuple[float, NDArray[np.int64]]] = {}
    for k in [how.k] if how.k is not None else CLUSTERS:
        if k * LEAST > len(x):
            break
        y = nearest(ready, k_means(ready, k, start))
        counts = np.bincount(y, minlength=k)
        if counts.min() >= (2 if how.k is not None else LEAST):
            tried[k] = (float(silhouette_score(ready[:JUDGED], y[:JUDGED])) if len(set(y[:JUDGED].tolist())) > 1 else -1.0, y)
    if not tried:
        asked = f"k = {how.k} leaves" if how.k is not None else f"no k from {CLUSTERS.start} leaves"
        raise InputError(
            f"{name} has no labels and {len(x)} samples: {asked} enough samples in every cluster; give --labels, a smaller kmeans:K, or more pictures"
        )
    best = max(tried, key=lambda k: tried[k][0])
    labels = np.empty(len(x), np.int64)
    labels[order] = tried[best][1]
    chosen = "asked for" if how.k is not None else f"the best mean silhouette, {tried[best][0]:.2f}, of k from 2 to {max(tried)}"
    sizes = ", ".join(str(n) for _, n in sorted(Counter(labels.tolist()).items()))
    return [f"cluster {i + 1}" for i in labels.tolist()], f"k-means, k = {best} ({chosen}; {sizes} samples)"
