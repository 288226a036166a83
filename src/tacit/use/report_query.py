"""The page of a query: for each picture that was asked for, its ten most alike with their distances, and the table of hits."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.config import read_toml, to_toml
from tacit.errors import ReadError
from tacit.files import write_atomic
from tacit.read.picture import read_picture
from tacit.read.slide import Slide, open_slide
from tacit.report.gallery import Shown, ranking
from tacit.report.page import Panel, page
from tacit.report.picture import embedded, jpeg, png, shrunk
from tacit.run import Run, as_csv
from tacit.use.store import Store

MOST_SHOWN = 50  # rankings on a page; all are in the table
SIDE = 340  # px of a picture that is shown
OPEN_SLIDES = 4
DISTANCE = {"cosine": "2 − 2·cos: 0 alike, 2 unrelated, 4 opposite", "euclidean": "the length of the difference of the vectors"}


class Thumbnails:
    """Small pictures of rows of an index: the file, or its tile of the slide. None where it cannot be read any more."""

    def __init__(self, side: int = SIDE) -> None:
        self.side, self._slides = side, OrderedDict[str, Slide]()

    def of(self, row: dict[str, Any]) -> NDArray[np.uint8] | None:
        """row: path, and row, col, side_px of a tile."""
        try:
            if row.get("side_px") is None:
                return np.asarray(shrunk(read_picture(Path(row["path"])).pixels, self.side), np.uint8)
            return self._slide(row["path"]).scaled(row["row"], row["col"], (self.side, self.side), row["side_px"] / self.side)
        except (ReadError, OSError):
            return None

    def _slide(self, path: str) -> Slide:
        if path not in self._slides:
            self._slides[path] = open_slide(path)
            if len(self._slides) > OPEN_SLIDES:
                self._slides.popitem(last=False)[1].close()
        self._slides.move_to_end(path)
        return self._slides[path]

    def close(self) -> None:
        """Lets go of the slides."""
        for slide in self._slides.values():
            slide.close()
        self._slides.clear()


def drawn_answer(answer: dict[str, Any], thumbnails: Thumbnails, query: dict[str, Any] | None = None) -> NDArray[np.uint8]:
    """A query and its hits as one picture. query: its row, where it is one of the index."""
    label = answer.get("label")
    name = Path(answer["query"]).name + (f" {query['row']},{query['col']}" if query and query.get("row") is not None else "")
    asked = Shown(thumbnails.of(query or {"path": answer["query"]}), ("query", *_known(answer), name))
    hits = []
    for hit in answer["hits"]:
        alike = None if label is None or hit.get("label") is None else hit["label"] == label
        hits.append(Shown(thumbnails.of(hit), (f"{hit['rank']}   {hit['distance']:.3f}", *_known(hit), _place(hit)), alike))
    return ranking(asked, hits)


def write_report(run: Run, store: Store, answers: list[dict[str, Any]], warnings: tuple[str, ...], metric: str, recall: tuple[float, int] | None) -> None:
    """report.html, tables/hits.csv, figures/query_….png of the first rankings."""
    columns = list(dict.fromkeys(name for a in answers for hit in a["hits"] for name in hit))
    rows = [(a["query"], *(hit.get(c) for c in columns)) for a in answers for hit in a["hits"]]
    write_atomic(run.folder / "tables" / "hits.csv", as_csv(("query", *columns), rows))
    thumbnails, panels = Thumbnails(), []
    for number, answer in enumerate(answers[:MOST_SHOWN]):
        picture = drawn_answer(answer, thumbnails)
        write_atomic(run.folder / "figures" / f"query_{number:04d}.png", png(picture))
        panels.append(Panel(Path(answer["query"]).name, embedded(jpeg(picture), "jpeg"), None, f"{len(answer['hits'])} most alike"))
    thumbnails.close()
    note = f"The first {MOST_SHOWN} of {len(answers)} queries are shown; tables/hits.csv has all." if len(answers) > MOST_SHOWN else ""
    facts = [
        ("queries", f"{len(answers)} {note}"),
        ("index", f"{len(store)} rows of {store.folder}"),
        ("encoder", f"{store.about.encoder} ({store.about.weights_hash}), {store.about.width} numbers a picture"),
        ("distance", DISTANCE[metric]),
        ("frames", "green: the query's label; red: another; grey: one of the two is not known"),
        *([("recall@10 of the approximate index", f"{recall[0]:.3f} over {recall[1]} rows of the index, against exact search")] if recall else []),
        ("took", f"{run.seconds:.1f} s"),
    ]
    text = page(
        title="Query",
        subtitle=run.record["command"],
        facts=facts,
        galleries=[],
        figures=panels,
        tables=[],
        failures=run.failures,
        settings=to_toml(read_toml(run.folder / "config.toml")),
        warnings=list(warnings),
    )
    write_atomic(run.folder / "report.html", text)


def _known(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of label, patient and site, as far as they are known."""
    parts = [str(row["label"])] if row.get("label") is not None else []
    parts += [f"{name} {row[name]}" for name in ("patient", "site") if row.get(name) is not None]
    return (" · ".join(parts),) if parts else ()


def _place(row: dict[str, Any]) -> str:
    name = Path(row["path"]).name
    return name if row.get("row") is None else f"{name} {row['row']},{row['col']}"
