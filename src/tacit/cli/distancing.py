"""The verb that says how far apart data sets are: distance."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from tacit.cli.options import Device, GapsChoice, Json, Out, Overwrite, Seed, Threads
from tacit.cli.printing import close
from tacit.errors import SOME_FAILED


def distance(
    sets: Annotated[
        list[str], typer.Argument(metavar="SET...", help="Two or more folders, lists, globs or zips of pictures, slides or series; or the source.")
    ],
    out: Out,
    to: Annotated[str | None, typer.Option(metavar="TARGET", help="Rank by nearness to this set.")] = None,
    augmentations: Annotated[
        str | None, typer.Option(help="With --to: preparations of the source to rank, e.g. clahe,he,stain,window; A/B is A, then B.")
    ] = None,
    pretraining: Annotated[bool, typer.Option("--pretraining", help="With --to: SETs are runs of tacit pretrain, or what one could learn from.")] = False,
    split_by: Annotated[str | None, typer.Option(help="Part one set: gate, gate:NAME, prepare:STEP (as it is and after it), or a column.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="folders, kmeans, kmeans:K or a CSV case,class; once, or once a set.")] = None,
    features: Annotated[
        str | None, typer.Option(help="pixels, an encoder, or a run of tacit pretrain; texture if not given: it learns nothing and sees tissue and CT alike.")
    ] = None,
    solver: Annotated[str, typer.Option(help="exact, sinkhorn, or auto: exact up to 5,000 samples.")] = "auto",
    epsilon: Annotated[float, typer.Option(help="Of Sinkhorn, a share of the mean cost.")] = 0.02,
    lambda_x: Annotated[float, typer.Option(help="Weight of the features' squared distance.")] = 1.0,
    lambda_y: Annotated[float, typer.Option(help="Weight of the labels' squared distance.")] = 1.0,
    samples: Annotated[int, typer.Option(help="Looked at of each set, at most; drawn by content.")] = 2000,
    components: Annotated[int, typer.Option(help="Principal components that are compared.")] = 64,
    bootstraps: Annotated[int, typer.Option(help="Draws of the interval.")] = 200,
    permutations: Annotated[int, typer.Option(help="Random divisions of the test.")] = 199,
    series_by: Annotated[str, typer.Option(help="Series by slice, or by embedding: the mean of a series' slices.")] = "slice",
    unit: Annotated[str | None, typer.Option(help="picture or series, where folders of pictures could be either; picture if not given.")] = None,
    gaps: GapsChoice = "refuse",
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of files that do not state it.")] = None,
    tile_um: Annotated[float, typer.Option("--tile-um", help="Side of a slide's tiles in µm.")] = 256.0,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Say how far apart data sets are (OTDD), or which preparation, set or run comes nearest to a target."""
    from tacit.use.distance_run import distance as run

    result = run(
        sets, out, to=to, augmentations=augmentations, pretraining=pretraining, split_by=split_by, labels=labels, features=features, solver=solver, epsilon=epsilon,
        lambda_x=lambda_x, lambda_y=lambda_y, samples=samples, components=components, bootstraps=bootstraps, permutations=permutations, series_by=series_by,
        unit=unit, gaps=gaps, mpp=mpp, tile_um=tile_um, seed=seed, device=device, threads=threads, overwrite=overwrite,
    )  # fmt: skip
    for line in result.notes:
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(result.as_json(), indent=1))
        if result.failed:
            raise typer.Exit(SOME_FAILED)
        return
    for found in result.sets:
        print(f"{found['name']}: {found['said']}")
    print(f"features: {result.features['name']}, {result.features['components']} components ({result.features['why']})")
    print(_ranking(result) if result.ranking else _table(result))
    close(out, result.failed, result.following or f"tacit audit {sets[0]} -o LOOKED")


def _table(result: Any) -> str:
    from tacit.report.compare import tabulate
    from tacit.use.report_distance import rows_of

    return tabulate(
        [
            {
                "": f"{r['a']} – {r['b']}",
                "OTDD": f"{r['otdd']:.4g}",
                "95%": f"[{r['low']:.4g}, {r['high']:.4g}]",
                "p": f"{r['p_value']:.3g}",
                "halves": f"{r['halves_of_a']:.4g}, {r['halves_of_b']:.4g}",
                "at half": f"{r['at_half']:.4g}",
                "solver": r["solver"],
            }
            for r in rows_of(result)
        ]
    )


def _ranking(result: Any) -> str:
    from tacit.report.compare import tabulate

    return tabulate(
        [
            {
                "rank": r["rank"],
                f"to {result.names[-1]}": r["name"],
                "OTDD": f"{r['distance']:.4g}",
                "95%": f"[{r['interval'][0]:.4g}, {r['interval'][1]:.4g}]",
                "p": f"{r['p_value']:.3g}",
                "halves": f"{r['halves_of_it']:.4g}, {r['halves_of_target']:.4g}",
                "at half": f"{r['at_half']:.4g}",
                "solver": r["solver"],
            }
            for r in result.ranking
        ]
    )
