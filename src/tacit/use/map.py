"""`tacit map`: an index as a picture. Principal components, and UMAP where it is asked for, coloured by any column; galleries of a few of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import MissingError, UsageError
from tacit.parts.components import Components, principal_components
from tacit.run import command_line, open_run
from tacit.use.device import prepare_device
from tacit.use.report_map import write_report
from tacit.use.search import Search
from tacit.use.store import Store

BLOCK = 16_384  # rows
MOST_POINTS = 20_000  # that UMAP lays out; of more a seeded draw
USUAL = ("label", "patient", "site", "slide")  # the first that is known colours the map


@dataclass(frozen=True)
class MapResult:
    """rows: a dict a row of the index: its columns, pca1, pca2, and umap1, umap2 (None where it was not laid out) · share (2,): of the variance."""

    rows: list[dict[str, Any]]
    share: tuple[float, ...]
    color: str | None
    out: Path | None = None


def map_index(
    index: str | Path,
    *,
    out: str | Path | None = None,
    color: str | None = None,
    umap: bool = False,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
) -> MapResult:
    """Where the rows of an index lie on the two strongest components of their vectors, each at unit length.

    color: the column that colours the picture (label, patient, site or slide where it is not given) · umap: lay them out by UMAP too ·
    out: a folder for report.html, tables/map.csv, figures. Raises UsageError for an unknown column, MissingError where UMAP is not installed.
    """
    store = Store.open(index)
    asking = Search(store, way="exact")
    if color is not None and color not in store.columns:
        raise UsageError(f"--color {color!r}: the index has no such column; it has {', '.join(store.columns)}")
    color = color or next((name for name in USUAL if store.count(f"{name} IS NOT NULL")), None)
    reducer = _reducer(seed) if umap else None
    prepare_device("cpu", threads)
    if out is None:
        return _mapped(store, color, reducer, seed)[0]
    options = {"color": color, "umap": umap, "seed": seed}
    command = command_line("map", index, out, map_index.__kwdefaults__, **options, threads=threads)
    with open_run(out, command=command, settings={"map": {"index": str(index)} | options}, reads=[index], overwrite=overwrite) as run:
        result, vectors = _mapped(store, color, reducer, seed)
        run.record |= {"images": len(store), "encoder": store.about.encoder, "weights_hash": store.about.weights_hash, "seed": seed}
        write_report(run, asking, result.rows, result.share, color, vectors, seed)
    return MapResult(result.rows, result.share, color, Path(out))


def groups_of(result: MapResult, most: int = 12) -> list[dict[str, Any]]:
    """A row for each of the commonest values of the colouring column: how many rows, and their middle on the map."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in result.rows:
        value = row[result.color] if result.color is not None else None
        groups.setdefault("not known" if value is None else str(value), []).append(row)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
    axes = [a for a in ("pca1", "pca2", "umap1", "umap2") if a in result.rows[0]]
    middles = [{a: [row[a] for row in rows if row[a] is not None] for a in axes} for _, rows in largest]
    means = [{a: float(np.mean(v)) if v else None for a, v in middle.items()} for middle in middles]
    return [{str(result.color): name, "rows": len(rows)} | mean for (name, rows), mean in zip(largest, means, strict=True)]


def _mapped(store: Store, color: str | None, reducer: Any, seed: int) -> tuple[MapResult, NDArray]:
    vectors = store.vectors()

    def blocks() -> Iterator[NDArray[np.float64]]:
        return (unit(vectors[i : i + BLOCK]) for i in range(0, len(vectors), BLOCK))

    components = principal_components(blocks, 2)
    places = np.concatenate([_in_the_plane(components, block) for block in blocks()])
    columns = [c for c in store.columns if c not in ("sha256", "tiles")]
    rows = store.read(columns).to_pylist()
    for row, (x, y) in zip(rows, places.tolist(), strict=True):
        row |= {"pca1": x, "pca2": y}
    if reducer is not None:
        chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(rows))[:MOST_POINTS])
        for row in rows:
            row |= {"umap1": None, "umap2": None}
        for i, (x, y) in zip(chosen.tolist(), _laid_out(reducer, unit(vectors[chosen])).tolist(), strict=True):
            rows[i] |= {"umap1": x, "umap2": y}
    share = tuple(float(s) for s in np.pad(components.share, (0, 2 - len(components.share))))
    return MapResult(rows, share, color), vectors


def unit(vectors: NDArray) -> NDArray[np.float64]:
    """Rows at unit length, in fp64; a row of zeros stays."""
    wide = vectors.astype(np.float64)
    length = np.sqrt((wide * wide).sum(1, keepdims=True))
    return np.asarray(wide / np.where(length > 0, length, 1))


def _in_the_plane(components: Components, block: NDArray[np.float64]) -> NDArray[np.float64]:
    found = components.places(block)
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _reducer(seed: int) -> Any:
    """UMAP (McInnes et al. 2018, arXiv 1802.03426) with its defaults: 15 neighbours, minimal distance .1."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingError("--umap needs the package umap-learn; install it with: pip install tacit[umap]") from error
    return UMAP(n_components=2, random_state=seed, n_jobs=1)


def _laid_out(reducer: Any, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(vectors) < 5:
        raise UsageError(f"--umap lays out neighbourhoods: {len(vectors)} rows are too few, at least 5 are needed")
    reducer.n_neighbors = min(reducer.n_neighbors, len(vectors) - 1)
    reducer.init = "spectral" if len(vectors) > 15 else "random"
    return np.asarray(reducer.fit_transform(vectors.astype(np.float32)), np.float64)
