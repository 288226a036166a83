"""`tacit segment` of whole slides: learn on tiles of their tissue where nothing was learnt yet, then slide by slide, by one process or many.

find → learn, or take what --model holds → a task a slide (use/slide_task.py) by an engine (use/engines.py) → the cohort's tables and page.
What a slide's state says is done is not done again, whoever did it; so a killed run goes on with --resume, and shards share one OUT.
"""

from __future__ import annotations

import contextlib
from itertools import chain
from pathlib import Path
from typing import Any

from tacit.cases import Cases
from tacit.config import Config, build
from tacit.errors import ConfigError, InputError, OutputError, ReadError, UsageError
from tacit.files import sha256, sha256_of_ends
from tacit.learn.methods import METHODS
from tacit.learn.sources import Tiles, TilesConfig, find_places
from tacit.learn.workshop import Workshop
from tacit.read.folder import find_cases, named_files
from tacit.read.slide import is_slide
from tacit.report.track import Bar
from tacit.report.tracked import check_trackers
from tacit.run import Run, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.engines import Asked, Lost, check_engine, parsed_shard, shared_out
from tacit.use.instances import InstancesConfig
from tacit.use.model import save_model
from tacit.use.report_slides import summarise
from tacit.use.segment_task import Task, chosen_task
from tacit.use.slide_predict import SlidesConfig
from tacit.use.slide_task import Outcome, SlideTask, done, segment_slide
from tacit.use.tracking import curves_of, tracked

HALF = 0.5  # of a tile that is learnt from is tissue


def find_slides(source: str | Path) -> Cases | None:
    """The whole slides that INPUT names, other pictures left out by name; None where it names none. Raises InputError."""
    if Path(source).suffix.lower() == ".zip":
        return None
    if not any(is_slide(path) for path in named_files(source) if path.is_file()):
        return None
    cases = find_cases(source, slides=True)
    slides = [is_slide(path) for _, path in cases]
    if not any(slides):
        return None
    left = tuple((str(path), "a picture among slides; give pictures a run of their own") for (_, path), is_one in zip(cases, slides, strict=True) if not is_one)
    return Cases(cases.where(slides).table, (*cases.skipped, *left))


def check_alone(asked: Asked) -> None:
    """Refuses ways to share work where INPUT is pictures. Raises UsageError."""
    if asked != Asked(1, None, "local", None):
        raise UsageError("--workers, --shard, --engine and --address share whole slides out; INPUT names none (--threads is for pictures)")


def segment_slides(
    cases: Cases, source: str | Path, out: str | Path, asked: Asked, how: dict[str, Any], chosen: dict[str, Any], command: str
) -> tuple[int, int, float | None, str]:
    """Segments slides into OUT. how: the options of `tacit.segment`; chosen: the settings that --config and --set change.

    Gives how many are done, how many failed, the middle spacing and where it comes from. Raises TacitError.
    """
    check_engine(asked.engine, asked.workers, asked.address)
    check_trackers(how["track"] or [])
    slides, own = build(SlidesConfig, chosen.pop("slides", {})), build(InstancesConfig, chosen.pop("instances", {}))
    if not 0 <= slides.overlap < slides.tile:
        raise ConfigError(f"slides.overlap={slides.overlap}: expected from 0 to less than slides.tile={slides.tile}; give both")
    task = _task(source, how, chosen)
    part = parsed_shard(asked.shard)
    if part is not None and task.learns:
        raise UsageError("--shard shares out what an earlier run learnt: learn once with tacit segment SLIDES -o RUN, then give --model RUN to every part")
    if part is not None and Path(out).is_dir() and (there := {p.name for p in Path(out).iterdir()}) and "shards" not in there:
        raise OutputError(f"OUT {out} is not empty, and no parts of a shared run are in it; give another folder")
    device = prepare_device(how["device"], how["threads"])
    task.network.to(device)
    options = {"input": str(source), "method": task.method, "model": str(how["model"]) if how["model"] else None, "classes": task.named, "mpp": how["mpp"]}
    shared = {"seed": how["seed"], "learn_from": how["learn_from"]} | ({"shard": f"{part[0]}/{part[1]}"} if part else {})
    settings = {"segment": options | shared, "slides": plain(slides), "instances": plain(own), **plain(task.network.config)}
    place = Path(out) / "shards" / f"{part[0]}-of-{part[1]}" if part else Path(out)
    reads = chain(named_files(source), [how["model"], how["config"]])
    with (
        open_run(place, command=command, settings=settings, reads=reads, resume=how["resume"], overwrite=how["overwrite"], reopen=True) as run,
        tracked(run, how["track"], "segment", settings),
    ):
        mine = cases if part is None else cases.where([k % part[1] == part[0] for k in range(len(cases))])
        hashes = _hashes(mine)
        run.record |= {"seed": how["seed"], "device": device, "threads": how["threads"], "slides": len(mine), "inputs": hashes}
        run.record["data"] = Cases.fingerprint(hashes)
        run.say(f"{len(mine)} slides" + (f"; left alone: {cases.why_skipped}" if cases.skipped else ""))
        for path, why in cases.skipped:
            run.say(f"left alone: {path}: {why}")
        if task.learns and not (run.folder / "model" / "weights.safetensors").is_file():
            _learn(task, mine, slides, how, run)
        model = Path(how["model"]) if how["model"] else run.folder
        tasks = _tasks(mine, hashes, how, Path(out), model, slides, own, task.named, device)
        run.failures = []
        _do(tasks, asked, device, run)
        rows = summarise(Path(out), run, cases, settings, task.named, shard=part is not None)
        own_rows = [row for t in tasks if (row := done(t)) is not None]
        if not own_rows and tasks:
            raise InputError(f"none of the {len(tasks)} slides could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
        spacing = sorted(row["mpp"] for row in own_rows)
        sources = {row["mpp_source"] for row in own_rows}
        middle = spacing[len(spacing) // 2] if spacing else None
        source_ = sources.pop() if len(sources) == 1 else "mixed" if sources else "none"
        run.record |= {"ok": len(own_rows), "glands": sum(row["glands"] for row in own_rows), "mpp": middle, "mpp_source": source_, "cohort": len(rows)}
        return len(own_rows), len(run.failures), middle, source_


def _task(source: str | Path, how: dict[str, Any], chosen: dict[str, Any]) -> Task:
    """What is to be applied or learnt. Raises UsageError for what looks at a picture as a whole."""
    for option in ("labels", "shape_prior"):
        if how[option] is not None:
            raise UsageError(f"--{option.replace('_', '-')} is for pictures; whole slides are segmented by what drawings or an earlier run taught (--model)")
    keys = ("method", "model", "labels", "budget", "phantom", "classes", "shape_prior")
    task = chosen_task(source, **{key: how[key] for key in keys}, chosen=chosen)
    if not hasattr(task.network, "tiles_probability"):
        known = ", ".join(name for name, kind in METHODS.items() if hasattr(kind, "tiles_probability"))
        raise UsageError(f"{task.method} looks at a picture as a whole; whole slides need a method that sees tiles: {known}")
    return task


def _hashes(cases: Cases) -> dict[str, str]:
    with Bar("hashing") as bar:
        return cases.hashes(bar.advance, sha256_of_ends)


def _learn(task: Task, cases: Cases, c: SlidesConfig, how: dict[str, Any], run: Run) -> None:
    """Learns from tiles of tissue, as many of each slide, and keeps what was learnt in model/. No truth takes part."""
    um = task.network.um_per_px
    size = max(round(c.learn_um / um), 32)
    wanted = TilesConfig(um_per_px=um, size=size, per_slide=max(how["learn_from"] // max(len(cases), 1), 1), least_tissue=HALF)
    places, spacing = [], _spacing(cases, how["mpp"])
    with Bar("looking for tissue") as bar:
        for index, (name, path) in enumerate(cases):
            with contextlib.suppress(ReadError, InputError):  # named when it is segmented
                places.append(find_places(path, wanted, spacing[name]))
            bar.advance(index + 1, len(cases))
    if not places:
        raise InputError(
            f"none of the {len(cases)} slides holds a tile of {c.learn_um:g} µm that is half tissue, or states its spacing; give --mpp, or lower slides.learn_um"
        )
    tiles = Tiles(places, wanted)
    drawn = [k for k in tiles.order(how["seed"], 0).tolist() if k % wanted.per_slide < len(places[k // wanted.per_slide].tiles())]  # each tile once
    chosen = sorted(drawn[: how["learn_from"]])
    pictures = []
    with Bar("reading") as bar:
        for index in chosen:
            with contextlib.suppress(ReadError):
                pictures.append(tiles.item(index, how["seed"], 0))
            bar.advance(len(pictures), len(chosen))
    tiles.close()
    run.say(f"{len(pictures)} tiles of {size} px at {um:g} µm per px from {len(places)} slides are learnt from")
    run.record["learnt_from"] = len(pictures)
    task.network.fit(pictures, Workshop(how["seed"], run.record["device"], run.folder / "checkpoints", curves_of(run), run.say))
    facts = {"mpp": um, "spacing_source": "metadata", "classes": task.named, "images": len(pictures), "seed": how["seed"], "data": run.record["data"]}
    save_model(run.folder / "model", task.method, task.network, facts)


def _spacing(cases: Cases, mpp: float | None) -> dict[str, float | None]:
    """By name what the list or --mpp says; the file's own comes first when it is opened."""
    return {name: mpp if own is None or own != own else float(own) for name, own in zip(cases.table["name"], cases.table["mpp"], strict=True)}


def _tasks(
    cases: Cases, hashes: dict[str, str], how: dict[str, Any], out: Path, model: Path, slides: Config, own: Config, named: str, device: str
) -> list[SlideTask]:
    folder = model / "model" if (model / "model").is_dir() else model
    taught = sha256(folder / "weights.safetensors") + sha256(folder / "model.json")
    spacing = _spacing(cases, how["mpp"])
    made = []
    for name, path in cases:
        key = Cases.fingerprint({"slide": hashes[name], "model": taught, "settings": f"{plain(slides)} {plain(own)} {named} {spacing[name]}"})
        made.append(
            SlideTask(
                name,
                str(path.resolve()),
                spacing[name],
                str(out.resolve()),
                str(folder.resolve()),
                plain(slides),
                plain(own),
                named,
                device,
                how["threads"],
                key,
            )
        )
    return made


def _do(tasks: list[SlideTask], asked: Asked, device: str, run: Run) -> None:
    """All that is missing; failures are listed."""
    missing = [task for task in tasks if done(task) is None]
    run.say(f"{len(tasks) - len(missing)} slides are done, {len(missing)} are to be done")
    run.save_record()
    finished = len(tasks) - len(missing)
    with Bar("segmenting") as bar, contextlib.closing(shared_out(segment_slide, missing, asked, device)) as results:
        for task, outcome in results:
            if isinstance(outcome, Lost):
                outcome = Outcome(task.name, task.path, outcome.reason, "use fewer --workers or a smaller slides.tile, then run again with --resume")
            if outcome.reason:
                run.fail(outcome.path, ReadError(outcome.path, outcome.reason, outcome.remedy))
            else:
                run.say(f"done: {task.name}")
            finished += 1
            bar.advance(finished, len(tasks))
