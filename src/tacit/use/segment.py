"""`tacit segment`: learn on a folder of unlabelled images, then write its masks; or apply what an earlier run learnt.

Whole slides go another way (use/slides.py). Pictures: find → which task (use/segment_task.py) → labels teach, where they do (use/few_labels.py) → look, learn, apply, report: glands in use/glands.py,
vessels, organs and what labels mark in use/structures.py
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tacit.cases import Cases
from tacit.config import build, chosen_settings
from tacit.errors import UsageError
from tacit.read.folder import find_cases, named_files
from tacit.report.track import Bar
from tacit.report.tracked import check_trackers
from tacit.run import Run, command_line, open_run, plain
from tacit.use import few_labels
from tacit.use.device import prepare_device
from tacit.use.engines import Asked
from tacit.use.glands import segment_glands
from tacit.use.instances import InstancesConfig
from tacit.use.segment_task import chosen_task
from tacit.use.shape_guided import masks_digest
from tacit.use.slides import check_alone, find_slides, segment_slides
from tacit.use.structures import segment_structures
from tacit.use.tracking import tracked


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: Path
    images: int  # written
    failed: int
    mpp: float | None  # None where no spacing is needed
    mpp_source: str  # metadata, given, estimated, or mixed; "none" where none is needed
    slides: bool = False  # the images are whole slides


def segment(
    source: str | Path,
    out: str | Path,
    *,
    method: str = "phantom",
    model: str | Path | None = None,
    labels: str | Path | None = None,
    budget: str = "full",
    phantom: str = "tissue",
    classes: str | None = None,
    shape_prior: str | Path | None = None,
    mpp: float | None = None,
    learn_from: int = 400,
    workers: int = 1,
    shard: str | None = None,
    engine: str = "local",
    address: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    track: list[str] | None = None,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> Result:
    """Segments the images that `source` names into OUT; same names and defaults as the command line.

    method: phantom, mssg, mssg-paper, haematoxylin, vessel-filters, lung-rule, lung-mixture, shape-guided, clusters · model: the OUT of an
    earlier run, nothing is learnt then · labels: masks of some of the pictures, which teach a network that begins at `model` (tacit pretrain, or tacit segment --phantom fundus or
    chest) or at random · budget: full or fast · phantom: what is drawn to learn from: tissue (glands), fundus (vessels), chest, or a .py file · classes: for
    glands the name of what is segmented, in tables and GeoJSON; for others which of the method's structures are written, the first if none is
    named · shape_prior: a folder of masks of another modality, simulated:vessels or simulated:lungs (then `model` may be a run of local
    discrimination to begin with) · mpp: µm per pixel of images that do not state it · learn_from: at most this many images are learnt from (a seeded draw).
    Of whole slides (use/slides.py) · workers: processes that share them · shard: i/n, this part of them alone, or auto · engine: local, or ray at `address`.
    Raises TacitError; one image's failure is a row of failures.csv.
    """
    check_trackers(track or [])
    chosen = chosen_settings(config, set, "segment")
    how = {
        "method": method, "model": model, "labels": labels, "budget": budget, "phantom": phantom, "classes": classes, "shape_prior": shape_prior, "mpp": mpp,
        "learn_from": learn_from, "seed": seed, "device": device, "threads": threads, "track": track, "config": config, "set": set,
    }  # fmt: skip
    asked = Asked(workers, shard, engine, address)
    command = command_line("segment", source, out, segment.__kwdefaults__, **how, **asdict(asked))
    slides = find_slides(source)
    if slides is not None:
        _check(mpp, seed, learn_from)
        done = segment_slides(slides, source, out, asked, how | {"resume": resume, "overwrite": overwrite}, chosen, command)
        return Result(Path(out), *done, slides=True)
    check_alone(asked)
    own = build(InstancesConfig, chosen.pop("instances", {}))
    _check(mpp, seed, learn_from)
    task = chosen_task(
        source, method=method, model=model, labels=labels, budget=budget, phantom=phantom, classes=classes, shape_prior=shape_prior, chosen=chosen
    )
    options = {
        "input": str(source),
        "method": task.method,
        "model": str(model) if model else None,
        "labels": str(labels) if labels else None,
        "budget": budget,
        "classes": task.named,
        "mpp": mpp,
    }
    options |= {"shape_prior": str(shape_prior), "shape_masks": masks_digest(shape_prior)} if shape_prior else {}
    settings = {"segment": options | {"seed": seed, "learn_from": learn_from}, "instances": plain(own), **plain(task.network.config)}
    device = prepare_device(device, threads)
    task.network.to(device)
    found = None if Path(source).suffix.lower() == ".zip" else find_cases(source)
    teachers, hashes = ([labels, *task.labels.masks.values()], task.labels.hashes) if task.labels else ([], {})
    reads = chain(named_files(source), [model, config, phantom, shape_prior, _weights(task.network)], teachers)
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run, tracked(run, track, "segment", settings):
        cases = found if found is not None else find_cases(source, unpack_to=run.folder / "input")
        _check_same(cases, source, run, hashes)
        if not run.finished_before:
            run.record |= {"source": str(Path(source).absolute()), "seed": seed, "device": device, "threads": threads, "images": len(cases)}
            if task.labels:
                few_labels.learn(task.network, task.start, task.labels, model, cases, run)
            if task.classes is None:
                segment_glands(task, cases, mpp, learn_from, own, settings, run)
            else:
                segment_structures(task.network, task.method, list(task.classes), cases, learn_from if task.learns else 0, settings, run)
        return Result(Path(out), run.record["ok"], len(run.failures), run.record["mpp"], run.record["mpp_source"])


def _check_same(cases: Cases, source: str | Path, run: Run, labels: dict[str, str]) -> None:
    """Writes down which files are read, and refuses to resume with others."""
    with Bar("hashing") as bar:
        hashes = cases.hashes(bar.advance) | labels
    run.check_same(hashes, source)
    if not run.finished_before:
        run.record["inputs"] = hashes
        run.say(f"{len(cases)} images" + (f"; left alone: {cases.why_skipped}" if cases.skipped else ""))


def _check(mpp: float | None, seed: int, learn_from: int) -> None:
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100, for example 0.5 for a 20x scan")
    if seed < 0 or learn_from < 1:
        raise UsageError(f"--seed {seed} and --learn-from {learn_from}: expected a seed from 0 and at least one image")


def _weights(network: Any) -> str | None:
    """The file (or hub's name) that an encoder began with, where there is one."""
    return getattr(getattr(network.config, "network", None), "weights", None)
