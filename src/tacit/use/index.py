"""`tacit index`: pictures, and slides as tiles of their tissue, become rows of an index that `tacit query` asks.

find → hash → skip what is there → look → encode → append. Files stream through: memory does not grow with their number. What was written
stays written, whatever happens next; the same command goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tacit.errors import ReadError, UsageError
from tacit.use.bucket import refuse_bucket
from tacit.use.device import prepare_device
from tacit.use.encoder import DEFAULT_ENCODER, Encoder, find_encoder
from tacit.use.engines import Asked, check_engine, parsed_shard
from tacit.use.index_append import COMMIT_ROWS, Append, say
from tacit.use.index_items import Cut, Item, find_items, looks_of
from tacit.use.index_lock import writing
from tacit.use.index_share import Sharing, failures_file, index_shared
from tacit.use.index_task import By
from tacit.use.store import EXACT_ROWS, About, Store, holds_table

TILE_UM = 256.0  # side of a slide's tiles
FITTED, LEAST_FITTED = 256, 32  # looks that mean and SD are taken from, at most and at least
PRECISIONS, NORMALISATIONS = ("fp16", "fp32"), ("none", "standard")


@dataclass(frozen=True)
class IndexResult:
    """What a command came to. rows, in_index: vectors written now, and held now. Counts of files otherwise."""

    folder: Path
    encoder: str
    in_index: int
    rows: int
    added: int
    there: int  # unchanged; also what a worker that was killed had written
    replaced: int  # other content at a known path
    filled: int  # known, with new facts
    failed: int
    failures: Path  # the list of them
    warnings: tuple[str, ...] = ()


def index_images(
    source: str | Path,
    out: str | Path,
    *,
    encoder: str | None = None,
    model: str | Path | None = None,
    weights: str | None = None,
    mpp: float | None = None,
    patients: str | Path | None = None,
    tile_um: float | None = None,
    normalise: str | None = None,
    precision: str | None = None,
    approximate: bool = False,
    device: str = "cpu",
    threads: int = 1,
    commit_rows: int = COMMIT_ROWS,
    workers: int = 1,
    shard: str | None = None,
    engine: str = "local",
    address: str | None = None,
) -> IndexResult:
    """Appends what `source` names to the index `out`, which is made where there is none. Files that are there already change nothing.

    encoder, model, weights: see `find_encoder`; None = the index's own, for a new one DEFAULT_ENCODER · mpp: µm per px of files that state none ·
    patients: a table of names and patients · tile_um: side of a slide's tiles · normalise: none, or standard: each number less its mean over
    its SD, both taken from this first command's images · precision: fp16 or fp32 · approximate: build LanceDB's approximate index also below
    a million rows · workers: processes of this machine · shard: i/n or auto, do only part i of n, others do theirs at the same time or later ·
    engine, address: local, or ray. Raises UsageError for another encoder or preprocessing than the index's; one file's failure is a row of failures.csv.
    """
    _check(mpp, tile_um, normalise, precision, commit_rows)
    refuse_bucket(out)
    asked, part = Asked(workers, shard, engine, address), parsed_shard(shard)
    check_engine(engine, workers, address)
    place = Path(out)
    zipped = Path(source).suffix.lower() == ".zip"
    alone = part is None and workers == 1 and engine == "local"
    if zipped and not alone:
        raise UsageError(f"{source} cannot be shared out: unpack it first, then give the folder")
    found = None if zipped else find_items(source, place, patients)
    held = Store.open(place).about if holds_table(place) else None
    ready = prepare_device(device, threads)
    maker = _encoder(held, encoder, model, weights, ready)
    chosen = (encoder or DEFAULT_ENCODER, model, weights)
    about = _about(held, maker, chosen, tile_um, normalise, precision)

    def last(store: Store) -> None:
        if approximate or (len(store) > EXACT_ROWS and not store.has_approximate):
            store.build_approximate()
        store.tidy()

    if found is not None and not alone:
        about = _with_fitted(held, about, found[0], maker, mpp)
        by = _by(held, chosen, encoder is None and model is None and weights is None, ready, threads)
        how = Sharing(by, cut_of(about), mpp, commit_rows, asked, part)
        shared, listed = index_shared(place, *found, about, how, last), failures_file(place, part)
        warnings = _told(place, maker, shared.warnings)
        return IndexResult(place, about.encoder, shared.in_index, shared.rows, **shared.count, failed=len(shared.failures), failures=listed, warnings=warnings)
    with writing(place):
        items, problems = found if found is not None else find_items(source, place / "input", patients)
        store = Store.open(place) if holds_table(place) else None
        if store is not None and held is None:  # made by another process meanwhile
            held, about = store.about, _about(store.about, maker, chosen, tile_um, normalise, precision)
        about = _with_fitted(held, about, items, maker, mpp)
        append, listed = Append(place, store, about, maker, cut_of(about), commit_rows, [(e.path, e.reason, e.remedy) for e in problems]), failures_file(place)
        done = append.run(items, mpp)
        last(done)
        warnings = _told(place, maker, append.warnings)
        return IndexResult(place, about.encoder, len(done), append.written, **append.count, failed=len(append.failures), failures=listed, warnings=warnings)


def _told(place: Path, maker: Encoder, others: tuple[str, ...]) -> tuple[str, ...]:
    """What is to be said of the encoder, in the log too, and of the pictures."""
    for line in maker.warnings:
        say(place, line)
    return (*maker.warnings, *others)


def cut_of(about: About) -> Cut:
    """How an index's encoder wants slides cut: at its own spacing, else so that a tile has its side of pixels."""
    return cut_for(about.preprocessing, about.tile_um)


def cut_for(preprocessing: dict[str, Any], tile_um: float) -> Cut:
    """The same of what an encoder says of its preprocessing, and the side of a tile."""
    um = preprocessing.get("um_per_px")
    px = round(tile_um / um) if um else int(preprocessing.get("shorter_side", TILE_UM))
    return Cut(um or tile_um / px, max(px, 16), um)


def _check(mpp: float | None, tile_um: float | None, normalise: str | None, precision: str | None, commit_rows: int) -> None:
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100")
    if tile_um is not None and not 8 <= tile_um <= 10_000:
        raise UsageError(f"--tile-um {tile_um}: expected the side of a tile between 8 and 10000 µm")
    for name, given, known in (("normalise", normalise, NORMALISATIONS), ("precision", precision, PRECISIONS)):
        if given is not None and given not in known:
            raise UsageError(f"--{name} {given!r} is unknown; known are {', '.join(known)}")
    if commit_rows < 1:
        raise UsageError(f"commit_rows {commit_rows}: expected 1 or more")


def _encoder(held: About | None, encoder: str | None, model: str | Path | None, weights: str | None, device: str) -> Encoder:
    """The encoder asked for, else the index's own, else the default."""
    if held is not None and encoder is None and model is None and weights is None:
        return own_encoder(held, device)
    return find_encoder(encoder or DEFAULT_ENCODER, model=model, weights=weights, device=device)


def _by(held: About | None, chosen: tuple[str, str | Path | None, str | None], own: bool, device: str, threads: int) -> By:
    """How another process finds the encoder that `_encoder` found."""
    if held is not None and own:
        asked = held.asked
        return By(asked["encoder"] or DEFAULT_ENCODER, asked["model"], asked["weights"], device, threads)
    name, model, weights = chosen
    return By(name, str(Path(model).absolute()) if model is not None else None, weights, device, threads)


def own_encoder(held: About, device: str, model: str | Path | None = None, weights: str | None = None) -> Encoder:
    """The encoder that made an index, found again; model, weights: where they are now, if they were moved. Raises UsageError if they differ."""
    asked = held.asked
    found = find_encoder(asked["encoder"] or DEFAULT_ENCODER, model=model or asked["model"], weights=weights or asked["weights"], device=device)
    check_same(held, found)
    return found


def check_same(held: About, found: Encoder) -> None:
    """Raises UsageError, naming both hashes, where vectors of `found` may not be compared with those of the index."""
    for what, ours, theirs in (
        ("encoder", held.weights_hash, found.weights_hash),
        ("preprocessing", held.preprocessing_hash, found.preprocessing_hash),
    ):
        if ours != theirs:
            raise UsageError(
                f"the index was made by the {what} {ours} ({held.encoder}), asked for is {theirs} ({found.name}); their vectors cannot be compared: "
                "use the index's own, or make another index"
            )


def _about(
    held: About | None, maker: Encoder, asked: tuple[str, str | Path | None, str | None], tile_um: float | None, normalise: str | None, precision: str | None
) -> About:
    """What a new index will say of itself; for one that is there what it says, checked against what is asked."""
    if held is None:
        name, model, weights = asked
        found = {"encoder": name, "model": str(Path(model).absolute()) if model is not None else None, "weights": weights}
        return About(
            maker.name, found, maker.weights_hash, maker.preprocessing, maker.preprocessing_hash, maker.width,
            precision or PRECISIONS[0], tile_um or TILE_UM, {"name": normalise or NORMALISATIONS[0]},
        )  # fmt: skip
    check_same(held, maker)
    for option, given, kept in (
        ("tile-um", tile_um, held.tile_um),
        ("normalise", normalise, held.normalisation["name"]),
        ("precision", precision, held.precision),
    ):
        if given is not None and given != kept:
            raise UsageError(f"the index was made with --{option} {kept}, asked for is {given}; leave the option out, or make another index")
    return held


def _with_fitted(held: About | None, about: About, items: list[Item], maker: Encoder, mpp: float | None) -> About:
    """What a new index says of itself, with mean and SD where they are asked for."""
    if held is None and about.normalisation["name"] == "standard":
        return replace(about, normalisation=_fitted(items, maker, cut_of(about), mpp))
    return about


def _fitted(items: list[Item], maker: Encoder, how: Cut, mpp: float | None) -> dict[str, Any]:
    """Mean and SD of each number over looks spread evenly over the items. Raises UsageError where there are too few."""
    chosen = [items[i] for i in np.unique(np.linspace(0, len(items) - 1, FITTED).astype(int))]
    each, vectors = -(-FITTED // len(chosen)), []
    for item in chosen:
        try:
            total, looks = looks_of(item, mpp, how)
            wanted = set(np.linspace(0, total - 1, each).astype(int).tolist())
            shown = [look.image for i, look in enumerate(looks) if i in wanted and not isinstance(look, ReadError)]
        except ReadError:
            continue  # said when its turn comes
        vectors.append(maker.features(shown))
    found = np.concatenate(vectors) if vectors else np.zeros((0, maker.width))
    if len(found) < LEAST_FITTED:
        raise UsageError(
            f"--normalise standard takes mean and SD from the first images: {len(found)} can be looked at, {LEAST_FITTED} are needed; index more at once"
        )
    sd = found.std(0, dtype=np.float64)
    return {"name": "standard", "mean": found.mean(0, dtype=np.float64).tolist(), "sd": np.where(sd > 0, sd, 1.0).tolist()}
