"""The page of an index: its map coloured by a column, its pictures laid on the map, and for eight of its rows the ten most alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.config import read_toml, to_toml
from tacit.files import write_atomic
from tacit.report.map import chosen_for_map, picture_map, scatter
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg, png
from tacit.run import Run, as_csv
from tacit.use.query import known_rows
from tacit.use.report_query import Thumbnails, drawn_answer
from tacit.use.search import Search

GALLERIES, HITS = 8, 10


def write_report(run: Run, asking: Search, rows: list[dict[str, Any]], share: tuple[float, ...], color: str | None, vectors: NDArray, seed: int) -> None:
    """report.html, tables/map.csv, figures/map_….png, pictures.jpg, and gallery_….png of rows drawn by the seed."""
    columns = list(rows[0])
    write_atomic(run.folder / "tables" / "map.csv", as_csv(tuple(columns), [tuple(row[c] for c in columns) for row in rows]))
    values = None if color is None else [row[color] for row in rows]
    panels = [_map(run, "pca", rows, values, color, tuple(f"component {i + 1}: {s:.1%} of the variance" for i, s in enumerate(share)))]
    laid = [row for row in rows if row.get("umap1") is not None]
    if laid:
        inside = None if color is None else [row[color] for row in laid]
        panels.append(_map(run, "umap", laid, inside, color, ("UMAP 1", "UMAP 2")))
    thumbnails = Thumbnails()
    by = "umap" if laid else "pca"
    chosen = chosen_for_map(np.array([(row[f"{by}1"], row[f"{by}2"]) for row in (laid or rows)]))
    pictures = jpeg(picture_map({cell: thumbnails.of((laid or rows)[i]) for cell, i in chosen.items()}))
    write_atomic(run.folder / "figures" / "pictures.jpg", pictures)
    panels.append(
        Panel("pictures", embedded(pictures, "jpeg"), None, f"where they lie by {'UMAP' if laid else 'the two components'}, one for each part of the map")
    )
    for number, picture in enumerate(galleries(asking, rows, vectors, thumbnails, seed)):
        write_atomic(run.folder / "figures" / f"gallery_{number}.png", png(picture))
        panels.append(
            Panel(f"gallery {number + 1}", embedded(jpeg(picture), "jpeg"), None, "a row of the index and the rows most alike, its own image left out")
        )
    thumbnails.close()
    about = asking.store.about
    text = page(
        title="Index",
        subtitle=run.record["command"],
        facts=[
            ("rows", f"{len(rows)} of {len({r['path'] for r in rows})} files"),
            ("encoder", f"{about.encoder} ({about.weights_hash}), {about.width} numbers a picture, normalisation {about.normalisation['name']}"),
            ("colour", color or "nothing is known of the rows; give patients, labels or sites in a list"),
            ("took", f"{run.seconds:.1f} s"),
        ],
        galleries=[],
        figures=panels,
        tables=[],
        failures=run.failures,
        settings=to_toml(read_toml(run.folder / "config.toml")),
    )
    write_atomic(run.folder / "report.html", text)


def galleries(asking: Search, rows: list[dict[str, Any]], vectors: NDArray, thumbnails: Thumbnails, seed: int) -> list[NDArray[np.uint8]]:
    """Pictures of some rows, drawn by the seed, each with the rows most alike but itself."""
    chosen = np.sort(np.random.default_rng([seed, 4]).permutation(len(rows))[:GALLERIES])
    codes = asking.codes("image")[0]
    places, distances = asking.exact().search(vectors[chosen], min(HITS, len(rows)), apart=[(codes, codes[chosen])])
    ids = np.where(places >= 0, asking.store.row_ids()[places], -1)
    known = known_rows(asking.store, ids)
    drawn = []
    for i, found, far in zip(chosen.tolist(), ids.tolist(), distances.tolist(), strict=True):
        hits = [{"rank": n, "distance": d, **known[one]} for n, (one, d) in enumerate(zip(found, far, strict=True), 1) if one >= 0]
        drawn.append(drawn_answer({"query": rows[i]["path"], **rows[i], "hits": hits}, thumbnails, rows[i]))
    return drawn


def _map(run: Run, kind: str, rows: list[dict[str, Any]], values: list[Any] | None, color: str | None, names: tuple[str, ...]) -> Panel:
    drawn = scatter(np.array([(row[f"{kind}1"], row[f"{kind}2"]) for row in rows]), values, (names[0], names[1]), color or "")
    write_atomic(run.folder / "figures" / f"map_{kind}.png", drawn)
    return Panel(f"map by {kind.upper()}", embedded(drawn, "png"), None, f"{len(rows)} rows, coloured by {color}" if color else f"{len(rows)} rows")
