"""`tacit query`: the rows of an index that are most like a picture. Nothing is excluded unless it is asked for."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256
from tacit.read.facts import Facts, read_facts
from tacit.read.folder import named_files
from tacit.report.track import Bar
from tacit.run import Run, command_line, open_run
from tacit.use.device import prepare_device
from tacit.use.index import cut_of, own_encoder
from tacit.use.index_items import Item, find_items, looks_of
from tacit.use.report_query import write_report
from tacit.use.search import LEVELS, Keys, Search, check_apart, image_name
from tacit.use.store import Store, quoted

AT_ONCE = 64  # queries that are searched for together
FIRST = ("path", "slide", "row", "col", "side_px", "mpp", "patient", "site", "label")


@dataclass(frozen=True)
class QueryResult:
    """answers: [{"query": path, "hits": [{"rank", "path", "distance", …}]}], a dict each, in the order asked · failures: (file, reason, remedy)."""

    answers: list[dict[str, Any]]
    failures: list[tuple[str, str, str]]
    warnings: tuple[str, ...]
    metric: str
    recall: tuple[float, int] | None = None  # of the approximate index against exact, and over how many rows; None where it was not asked
    out: Path | None = None


@dataclass
class _Asked:
    """The queries that can be read: what they are called, their vectors, and what their image, slide, patient and site are called."""

    names: list[str] = field(default_factory=list)
    vectors: list[NDArray] = field(default_factory=list)
    keys: list[Keys] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    unspaced: int = 0  # queries that state no spacing


def query(
    index: str | Path,
    images: Sequence[str | Path] | str | Path,
    *,
    k: int = 10,
    exclude: Sequence[str] | None = None,
    where: str | None = None,
    metric: str = "cosine",
    search: str = "auto",
    verify: bool = False,
    patients: str | Path | None = None,
    mpp: float | None = None,
    model: str | Path | None = None,
    weights: str | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    overwrite: bool = False,
) -> QueryResult:
    """The k rows of `index` that are most like each of `images` (pictures, folders, globs or lists), nearest first, equal ones by row_id.

    exclude: image, slide, patient or site: rows of the query's own are left out; each includes those before it · where: SQL over the columns,
    applied before anything is ranked · metric: cosine (distance 2 − 2·cos) or euclidean · search: auto, exact or approximate · verify: measure
    the approximate index's recall · patients: whose the queries are, where the index does not know them · mpp: of queries that state none ·
    model, weights: where the index's encoder is now, if it was moved · out: a folder for report.html, tables/hits.csv and figures.
    Raises TacitError; a query that cannot be read is one of the failures.
    """
    if k < 1:
        raise UsageError(f"-k {k}: expected 1 or more")
    store = Store.open(index)
    asking = Search(store, metric=metric, way=search)
    levels = check_apart(store, list(exclude or ()))
    if verify and asking.way != "approximate":
        raise UsageError(f"--verify measures the approximate index, but this search is exact ({len(store)} rows); ask with --search approximate")
    if where:
        store.count(where)  # understood before anything is read
    ready = prepare_device(device, threads)
    encoder = own_encoder(store.about, ready, model, weights)
    sources = [images] if isinstance(images, (str, Path)) else list(images)

    def answered() -> QueryResult:
        asked = _read(store, encoder.features, sources, mpp, patients, levels)
        answers = _answers(asking, asked, k, where, levels)
        warnings = (*encoder.warnings, *_of_spacing(store, asked.unspaced), *_warnings(store, answers, k, levels, where))
        return QueryResult(answers, asked.failures, warnings, metric, asking.recall(10) if verify else None, Path(out) if out else None)

    if out is None:
        return answered()
    options = {"k": k, "exclude": levels, "where": where, "metric": metric, "search": search, "verify": verify, "mpp": mpp}
    files = {"patients": patients, "model": model, "weights": weights}
    command = command_line("query", index, out, query.__kwdefaults__, **options, **files, device=device, threads=threads)
    command += " " + shlex.join(str(s) for s in sources)
    reads = chain([index, patients, model, weights], *(named_files(s) for s in sources))
    with open_run(out, command=command, settings={"query": {"index": str(index)} | options}, reads=reads, overwrite=overwrite) as run:
        run.record |= {"device": ready, "threads": threads, "encoder": store.about.encoder, "weights_hash": store.about.weights_hash, "rows": len(store)}
        result = answered()
        _keep(run, store, result)
    return result


def _keep(run: Run, store: Store, result: QueryResult) -> None:
    for file, reason, remedy in result.failures:
        run.fail(file, ReadError(file, reason, remedy))
    run.record["images"] = len(result.answers)
    write_report(run, store, result.answers, result.warnings, result.metric, result.recall)


def _read(store: Store, features: Any, sources: list[str | Path], mpp: float | None, patients: str | Path | None, levels: list[str]) -> _Asked:
    """Every query looked at once. Raises InputError where none can be."""
    asked = _Asked()
    told = read_facts(Path(patients)) if patients is not None else {}
    items: list[tuple[str, Item]] = []  # as it is called, and what it is
    for source in sources:
        try:
            found, problems = find_items(source, None)
            items += [(str(source) if Path(source).is_file() and len(found) == 1 else str(item.path), item) for item in found]
            asked.failures += [(str(e.path), e.reason, e.remedy) for e in problems]
        except InputError as error:
            asked.failures.append((str(source), str(error), "check the path"))
    with Bar("looking") as bar:
        for number, (name, item) in enumerate(items):
            bar.advance(number, len(items))
            try:
                vector, keys, facts, spaced = _one(store, features, item, mpp, told.get(item.path.name, told.get(item.path.stem, {})), levels)
            except ReadError as error:
                asked.failures.append((str(error.path), error.reason, error.remedy))
                continue
            asked.names.append(name)
            asked.vectors.append(vector)
            asked.keys.append(keys)
            asked.facts.append(facts)
            asked.unspaced += not spaced
    if not asked.names:
        raise InputError(f"none of the queries can be asked; the first: {asked.failures[0][0]}: {asked.failures[0][1]}; {asked.failures[0][2]}")
    return asked


def _one(store: Store, features: Any, item: Item, mpp: float | None, told: Facts, levels: list[str]) -> tuple[NDArray, Keys, Facts, bool]:
    """Vector, names and facts of one query, and whether its spacing is known. What the index knows of the same file or content counts, then the table, then what lies beside it."""
    if item.whole:
        raise ReadError(item.path, "a whole slide is no query", "save the field to ask for as a picture")
    _, looks = looks_of(item, mpp, cut_of(store.about))
    image = [look.image for look in looks if not isinstance(look, ReadError)]
    vector = store.about.normalised(features(image))[0]
    if not np.isfinite(vector).all():
        raise ReadError(item.path, "its vector has numbers that are not finite", "look at the picture")
    try:
        digest = sha256(item.path)
    except OSError as error:
        raise ReadError(item.path, f"it cannot be read ({error.strerror or error})") from error
    same = f"(sha256 = {quoted(digest)} OR path = {quoted(str(item.path))})"
    held = store.read(["slide", "patient", "site", "label"], same).slice(0, 1).to_pylist()
    facts = {n: v for part in (item.facts, told, held[0] if held else {}) for n, v in part.items() if v is not None}
    keys: Keys = {"image": image_name(digest), "slide": _text(facts.get("slide")) or str(item.path)}
    keys |= {level: _text(facts.get(level)) for level in ("patient", "site")}
    for level in LEVELS[2:]:
        if level in levels and keys[level] is None:
            how = "--patients CSV with a column site" if level == "site" else "--patients CSV"
            raise ReadError(item.path, f"its {level} is not known, so --exclude {level} cannot leave it out", f"give {how}, or ask without the exclusion")
    return vector, keys, facts, all(each.mpp is not None for each in image)


def _text(value: str | float | None) -> str | None:
    return None if value is None else str(value)


def _answers(asking: Search, asked: _Asked, k: int, where: str | None, levels: list[str]) -> list[dict[str, Any]]:
    most = min(k, len(asking.store))
    answers = []
    for first in range(0, len(asked.names), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        found = asking.nearest(np.stack(asked.vectors[part]), most, where=where, apart=levels, keys=asked.keys[part])
        rows = known_rows(asking.store, found.rows)
        for name, facts, ids, distances in zip(asked.names[part], asked.facts[part], found.rows.tolist(), found.distances.tolist(), strict=True):
            pairs = [(i, d) for i, d in zip(ids, distances, strict=True) if i >= 0]
            hits = [{"rank": n, "path": rows[i]["path"], "distance": d, **rows[i]} for n, (i, d) in enumerate(pairs, 1)]
            known: dict[str, Any] = {n: facts[n] for n in ("patient", "site", "label") if n in facts}
            answers.append({"query": name} | known | {"hits": hits})
    return answers


def known_rows(store: Store, ids: NDArray[np.int64]) -> dict[int, dict[str, Any]]:
    """row_id → every column but hashes and vectors, of the rows named; the usual columns first."""
    wanted = np.unique(ids[ids >= 0]).tolist()
    if not wanted:
        return {}
    columns = [*FIRST, *(c for c in store.columns if c not in (*FIRST, "row_id", "sha256", "tiles")), "row_id"]
    table = store.read(columns, f"row_id IN ({', '.join(map(str, wanted))})")
    return {row["row_id"]: row for row in table.to_pylist()}


def _of_spacing(store: Store, unspaced: int) -> tuple[str, ...]:
    """What is to be said of queries without a spacing, where most rows were brought to one."""
    if not unspaced or (um := cut_of(store.about).picture_um) is None or 2 * (spaced := store.count("mpp IS NOT NULL")) <= len(store):
        return ()
    return (f"{unspaced} queries state no µm per px and were taken as they are, {spaced} of {len(store)} rows at {um:g} µm per px; give it with --mpp",)


def _warnings(store: Store, answers: list[dict[str, Any]], k: int, levels: list[str], where: str | None) -> tuple[str, ...]:
    said = []
    if k > len(store):
        said.append(f"-k {k} is more than the {len(store)} rows that the index holds; all of them are given")
    elif few := sum(len(a["hits"]) < k for a in answers):
        said.append(f"{few} of {len(answers)} queries have fewer than {k} hits: --exclude and --where leave no more")
    for level in LEVELS[2:]:
        if level in levels and (unknown := store.count(f"{level} IS NULL")):
            said.append(f"{unknown} of {len(store)} rows have no {level}; they were not left out, though they may be of the query's own")
    return tuple(said)
