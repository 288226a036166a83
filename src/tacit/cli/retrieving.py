"""Verbs of image query: index, query, map."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tacit.cli.options import Device, Json, Overwrite, Seed, Threads
from tacit.errors import SOME_FAILED, Interrupted, UsageError

SHOWN = ("rank", "distance", "label", "patient", "site", "path", "row", "col")

Index = Annotated[str, typer.Argument(metavar="INDEX", help="A folder that `tacit index` wrote, or a copy of it at s3://bucket/prefix.")]
Report = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for report.html, tables and figures; must be empty or new.")]
Patients = Annotated[Path | None, typer.Option(help="CSV or Parquet: a column path (or file, name) and a column patient; site, label and more are taken too.")]
Model = Annotated[Path | None, typer.Option(help="The encoder that this run of `tacit pretrain` learnt.")]
Weights = Annotated[str | None, typer.Option(help="For timm:NAME: FILE.safetensors, or hub:NAME where a network is allowed.")]


def index(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="Pictures and slides: a file, folder, glob, zip, list or manifest; with --list or --delete: INDEX.")
    ],
    out: Annotated[str | None, typer.Option("-o", "--out", help="INDEX: the folder to append to; made where there is none.")] = None,
    encoder: Annotated[str | None, typer.Option(help="phantom+texture, phantom, texture or timm:NAME; of an index that is there: its own.")] = None,
    model: Model = None,
    weights: Weights = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of files that do not state it.")] = None,
    patients: Patients = None,
    tile_um: Annotated[float | None, typer.Option("--tile-um", help="Side of a slide's tiles in µm; 256 for a new index.")] = None,
    normalise: Annotated[str | None, typer.Option(help="none, or standard: mean 0 and SD 1 over the first command's images.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the vectors: fp16 or fp32.")] = None,
    approximate: Annotated[bool, typer.Option("--approximate", help="Build the approximate index also below a million rows.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Say what INDEX holds.")] = False,
    delete: Annotated[list[str] | None, typer.Option(help="Delete from INDEX: a path, a glob in quotes, or COLUMN=VALUE; may be repeated.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that share the files on this machine.")] = 1,
    shard: Annotated[str | None, typer.Option(help="Only part i of n of the files, as i/n with i from 0; auto: as SLURM or torchrun says.")] = None,
    engine: Annotated[str, typer.Option(help="Who does the files: local, or ray on many machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; else Ray on this machine.")] = None,
    as_json: Json = False,
    device: Device = "cpu",
    threads: Threads = 1,
) -> None:
    """Append pictures, and slides as tiles of their tissue, to an index; or list or delete what it holds."""
    if listed or delete:
        if out is not None or (listed and delete):
            raise UsageError("--list and --delete stand alone with the index: tacit index INDEX --list, tacit index INDEX --delete WHAT")
        _upkeep(source, delete, as_json)
        return
    if out is None:
        raise UsageError("tacit index needs -o INDEX, the folder to append to")
    from tacit.use.index import index_images as run

    try:
        done = run(
            source,
            out,
            encoder=encoder,
            model=model,
            weights=weights,
            mpp=mpp,
            patients=patients,
            tile_um=tile_um,
            normalise=normalise,
            precision=precision,
            approximate=approximate,
            device=device,
            threads=threads,
            workers=workers,
            shard=shard,
            engine=engine,
            address=address,
        )
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; what was finished is saved, repeat the command to go on") from error
    if as_json:
        print(json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in vars(done).items()}, indent=1))
    else:
        changed = "".join(f", {n} {what}" for n, what in ((done.replaced, "replaced"), (done.filled, "with new facts")) if n)
        print(f"{done.added} images added ({done.rows} rows), {done.there} there already{changed}, {done.failed} failed")
        print(f"the index holds {done.in_index} rows by {done.encoder}")
    for line in done.warnings:
        print(line, file=sys.stderr)
    if done.failed:
        print(f"what failed and why: {done.failures}", file=sys.stderr if as_json else sys.stdout)
    if not as_json:
        print(f"next: tacit query {out} IMAGE -k 10")
    if done.failed:
        raise typer.Exit(SOME_FAILED)


def _upkeep(place: str, delete: list[str] | None, as_json: bool) -> None:
    from tacit.report.compare import tabulate
    from tacit.use.index_upkeep import delete_from_index, list_index

    if delete:
        deleted = delete_from_index(place, delete)
        print(json.dumps({"deleted": deleted}) if as_json else f"{deleted} rows deleted")
        return
    held = list_index(place)
    if as_json:
        print(json.dumps(held, indent=1))
        return
    files = held.pop("files")
    for name, value in held.items():
        print(f"{name:<20} {', '.join(value) if isinstance(value, list) else value}")
    if files:
        print(tabulate([{name: value for name, value in row.items() if any(f[name] is not None for f in files)} for row in files]))


def query(
    index: Index,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures to ask for; folders, globs and lists of them too.")],
    k: Annotated[int, typer.Option("-k", "--k", help="How many of the most alike.")] = 10,
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out the query's own image, slide, patient or site; each includes those before it.")] = None,
    where: Annotated[str | None, typer.Option(help="SQL over the columns, e.g. \"site = 'A' AND age > 50\"; applied before ranking.")] = None,
    metric: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    search: Annotated[str, typer.Option(help="exact, approximate, or auto: exact up to a million rows.")] = "auto",
    verify: Annotated[bool, typer.Option("--verify", help="Measure the approximate index's recall@10 against exact search.")] = False,
    patients: Patients = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of queries that do not state it.")] = None,
    model: Annotated[Path | None, typer.Option(help="Where the index's run is now, if it was moved.")] = None,
    weights: Annotated[str | None, typer.Option(help="Where the index's weights are now, if they were moved.")] = None,
    out: Report = None,
    as_json: Json = False,
    device: Device = "cpu",
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Find the rows of an index that are most like a picture. Nothing is excluded unless asked for."""
    from tacit.use.query import query as run

    done = run(
        index,
        images,
        k=k,
        exclude=exclude,
        where=where,
        metric=metric,
        search=search,
        verify=verify,
        patients=patients,
        mpp=mpp,
        model=model,
        weights=weights,
        out=out,
        device=device,
        threads=threads,
        overwrite=overwrite,
    )
    if as_json:
        print(json.dumps(done.answers, indent=1))
    else:
        for answer in done.answers:
            print(answer["query"])
            print(_table(answer["hits"]))
    aside = sys.stderr if as_json else sys.stdout
    if done.recall:
        print(f"recall@10 of the approximate index {done.recall[0]:.3f} over {done.recall[1]} rows of the index, against exact search", file=aside)
    for line in done.warnings:
        print(line, file=sys.stderr)
    for file, reason, remedy in done.failures:
        print(f"{file}: {reason}; {remedy}", file=sys.stderr)
    if out is not None:
        print(f"report: {out / 'report.html'}", file=aside)
    if not as_json:
        print(f"next: tacit map {index} -o OUT" if out is not None else f"next: tacit query {index} IMAGE -k {k} -o OUT")
    if done.failures:
        raise typer.Exit(SOME_FAILED)


def _table(hits: list[dict[str, Any]]) -> str:
    from tacit.report.compare import tabulate

    known = [name for name in SHOWN if any(hit.get(name) is not None for hit in hits)]
    shown = [hit | {"distance": f"{hit['distance']:.4f}", "path": _from_here(hit["path"])} for hit in hits]
    table = tabulate([{name: hit[name] for name in known} for hit in shown])
    return "\n".join(f"  {line}" for line in table.splitlines()) if hits else "  no hit is left"


def _from_here(path: str) -> str:
    """A path as it is from the working folder, where it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def map(
    index: Index,
    out: Report = None,
    color: Annotated[str | None, typer.Option(help="The column that colours the map; label, patient, site or slide where it is not given.")] = None,
    umap: Annotated[bool, typer.Option("--umap", help="Lay the rows out by UMAP too; needs pip install tacit[umap].")] = False,
    as_json: Json = False,
    seed: Seed = 0,
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Show an index as a map of its rows, coloured by a column, with galleries of a few of them."""
    from tacit.report.compare import tabulate
    from tacit.use.map import groups_of
    from tacit.use.map import map_index as run

    done = run(index, out=out, color=color, umap=umap, seed=seed, threads=threads, overwrite=overwrite)
    if as_json:
        print(json.dumps(done.rows, indent=1))
        return
    print(f"{len(done.rows)} rows; the two strongest components hold {done.share[0]:.1%} and {done.share[1]:.1%} of the variance")
    if done.color is not None:
        print(tabulate(groups_of(done)))
    if out is not None:
        print(f"report: {out / 'report.html'}")
    print(f"next: tacit evaluate {index} --task query" if done.color == "label" else f"next: tacit map {index} -o OUT --color COLUMN")
