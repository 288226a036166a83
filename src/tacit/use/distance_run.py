"""`tacit distance`: how far apart data sets are, and what brings them together.

Three questions: sets against each other (and one set in two parts), candidate preparations of a source against a target, pretraining sets or runs against
a target. find → labels → draw, look, reduce (distance_sides.py) → distances with what is known of them (distance_pairs.py) → tables, figures, page.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from tacit.errors import UsageError
from tacit.read.folder import named_files
from tacit.run import command_line, open_run
from tacit.use.device import prepare_device
from tacit.use.distance import EPSILON, How, one_solver
from tacit.use.distance_change import candidates, change_of
from tacit.use.distance_features import DEFAULT_FEATURES, Maker, find_features
from tacit.use.distance_input import check_one_kind, check_there, find_set
from tacit.use.distance_labels import with_labels
from tacit.use.distance_pairs import DistanceResult, answer, every, halves_of, measured
from tacit.use.distance_rank import Asked, input_of, is_pretrained, rank_candidates, rank_runs, rank_sets
from tacit.use.distance_sides import Plan, Side, ready
from tacit.use.distance_split import check_split, split
from tacit.use.index import cut_for
from tacit.use.report_distance import write_report


def distance(
    sets: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    to: str | Path | None = None,
    augmentations: str | None = None,
    pretraining: bool = False,
    split_by: str | None = None,
    labels: list[str] | None = None,
    features: str | None = None,
    solver: str = "auto",
    epsilon: float = EPSILON,
    lambda_x: float = 1.0,
    lambda_y: float = 1.0,
    samples: int = 2000,
    components: int = 64,
    bootstraps: int = 200,
    permutations: int = 199,
    series_by: str = "slice",
    unit: str | None = None,
    gaps: str = "refuse",
    mpp: float | None = None,
    tile_um: float = 256.0,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    overwrite: bool = False,
) -> DistanceResult:
    """Optimal transport dataset distances between `sets`, or of each to the target `to`; report.html, tables and figures in OUT.

    to: a target: the sets, or with `augmentations` (steps, parted by commas) preparations of the one set, or with `pretraining` runs, are ranked by how near they
    come · split_by: gate[:NAME], prepare:STEPS or a column: one set against itself in parts · labels: folders, kmeans[:K] or a CSV, one for all sets or one each
    (the target's last); None: a list's, else subfolders, else k-means · features: texture (None), pixels, an encoder, or a run · solver: exact, sinkhorn or auto ·
    samples: looked at of each set · components: principal components that are compared · series_by: slice or embedding · unit: series where pictures in folders are
    such. Every draw follows from the content and `seed`. Raises TacitError; what cannot be read is a row of failures.csv.
    """
    sources = [str(s) for s in ([sets] if isinstance(sets, (str, Path)) else sets)]
    how = How((lambda_x, lambda_y), solver, epsilon)
    _check(sources, to, augmentations, pretraining, split_by, labels)
    _check_numbers(samples, components, bootstraps, permutations, mpp, tile_um, seed)
    tried = candidates(augmentations) if augmentations is not None else []
    asked_device, device = device, prepare_device(device, threads)
    makers: dict[str, Maker] = {}
    own_features = pretraining and features is None and all(is_pretrained(s) for s in sources)
    maker = None if own_features else find_features(features or DEFAULT_FEATURES, device)
    options = {
        "to": None if to is None else str(to), "augmentations": augmentations, "pretraining": pretraining, "split_by": split_by, "labels": labels,
        "features": features, "solver": solver, "epsilon": epsilon, "lambda_x": lambda_x, "lambda_y": lambda_y, "samples": samples, "components": components,
        "bootstraps": bootstraps, "permutations": permutations, "series_by": series_by, "unit": unit, "gaps": gaps, "mpp": mpp, "tile_um": tile_um, "seed": seed,
    }  # fmt: skip
    command = command_line("distance", sources[0], out, distance.__kwdefaults__, **options, device=asked_device, threads=threads)
    command += " " + shlex.join(sources[1:]) if len(sources) > 1 else ""
    tables = [name for name in labels or [] if _is_table(name)]
    places = [input_of(s) if pretraining else s for s in sources]
    for place in [*places, *([to] if to is not None else [])]:
        check_there(place)
    reads = chain([*tables, features, *sources], *(named_files(s) for s in [*places, *([to] if to is not None else [])]))
    with open_run(out, command=command, settings={"distance": {"sets": sources} | options}, reads=reads, overwrite=overwrite) as run:
        run.record |= {"seed": seed, "device": device, "threads": threads, "uses_labels": True}

        def find(source: str, name: str, number: int, by: Maker, steps: str | None = None) -> Side:
            cut = cut_for(by.preprocessing, tile_um)
            found = find_set(source, name, run, cut, mpp=mpp, series_by=series_by, unit=unit, gaps=gaps, steps=steps)
            asked = None if not labels else labels[0] if len(labels) == 1 else labels[number]
            return Side(*with_labels(found, asked, run))

        names = _names([*sources, *([str(to)] if to is not None else [])])
        plan = Plan(samples, components, seed)
        work = Asked(run, find, plan, how, {"bootstraps": bootstraps, "permutations": permutations, "seed": seed})
        if own_features:
            makers = {s: find_features(s, device) for s in sources}
            result, sides, pairs = rank_runs(sources, names, str(to), makers, work)
        else:
            assert maker is not None
            if tried:
                result, sides, pairs = rank_candidates(sources[0], names, str(to), tried, maker, work)
            elif to is not None:
                result, sides, pairs = rank_sets(places, names, str(to), maker, work)
            else:
                sides = [find(source, name, i, maker) for i, (source, name) in enumerate(zip(sources, names, strict=False))]
                result, sides, pairs = _against_each_other(sides, split_by, maker, work)
        run.record |= {"images": sum(s["samples"] for s in result.sets), "features": result.features}
        write_report(run, result, sides, pairs)
        return result


def _against_each_other(sides: list[Side], split_by: str | None, maker: Maker, work: Asked) -> tuple[DistanceResult, list[Side], list]:
    if split_by is not None:
        whole = sides[0]
        parts, candidate = split(whole.found, split_by, work.run)
        sides = [Side(part, whole.clusters, whole.labels_from) for part in parts]
        if candidate is not None:
            sides[1].change, sides[1].like = change_of(candidate, whole.found.looks), sides[0]
    check_one_kind([side.found for side in sides])
    share = ready(sides, maker, work.plan, work.run)
    made = [side.set for side in sides if side.set is not None]
    how = one_solver(work.how, made)
    pairs = measured(made, every(len(made)), how, **work.draws)
    result = answer(made, pairs, halves_of(made, how, work.plan.seed), **work.told(sides, maker, share))
    return result, sides, pairs


def _names(sources: Sequence[str]) -> list[str]:
    """A short name for each side, unlike the others."""
    names = [Path(s).stem if Path(s).suffix.lower() in (".csv", ".parquet", ".zip") else Path(s).name or str(s) for s in sources]
    if len(set(names)) < len(names):
        names = [f"{Path(s).absolute().parent.name}/{n}" if names.count(n) > 1 else n for s, n in zip(sources, names, strict=True)]
    return [f"{n} ({names[:i].count(n) + 1})" if names.count(n) > 1 else n for i, n in enumerate(names)]


def _is_table(name: str) -> bool:
    return name != "folders" and name.partition(":")[0] != "kmeans"


def _check(sources: list[str], to: str | Path | None, augmentations: str | None, pretraining: bool, split_by: str | None, labels: list[str] | None) -> None:
    if to is None and (augmentations is not None or pretraining):
        raise UsageError(f"{'--augmentations' if augmentations is not None else '--pretraining'} ranks by nearness to a target: give it with --to TARGET")
    if augmentations is not None and pretraining:
        raise UsageError("--augmentations and --pretraining are two questions; ask one of them")
    if split_by is not None:
        check_split(split_by)
        if to is not None or len(sources) != 1:
            raise UsageError(f"--split-by parts one set, and no --to goes with it; {len(sources)} sets were given")
    elif augmentations is not None and len(sources) != 1:
        raise UsageError(f"--augmentations prepares one source, {len(sources)} were given")
    elif to is None and len(sources) < 2:
        raise UsageError("one set is at no distance: give two or more, or --to TARGET, or --split-by")
    sides = len(sources) + (to is not None)
    if labels and len(labels) not in (1, sides):
        raise UsageError(f"--labels was given {len(labels)} times for {sides} sets; give it once for all, or once for each in their order, the target's last")


def _check_numbers(samples: int, components: int, bootstraps: int, permutations: int, mpp: float | None, tile_um: float, seed: int) -> None:
    for name, value, least in (("samples", samples, 10), ("components", components, 1), ("bootstraps", bootstraps, 20), ("permutations", permutations, 19)):
        if value < least:
            raise UsageError(f"--{name} {value}: expected {least} or more")
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a seed from 0")
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100")
    if not 8 <= tile_um <= 10_000:
        raise UsageError(f"--tile-um {tile_um}: expected the side of a tile between 8 and 10000 µm")
