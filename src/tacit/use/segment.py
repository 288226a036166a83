"""`tacit segment`: learn on a folder of unlabelled images, then write its masks; or apply what an earlier run learnt.

find → look (read all, spacing, failures) → learn → apply one by one → tables → report
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.config import build, merge, parse_assignments, read_toml
from tacit.errors import InputError, OutputError, UsageError
from tacit.learn.methods import FAST, METHODS
from tacit.learn.workshop import Workshop
from tacit.phantom import generator
from tacit.prepare.space import to_spacing
from tacit.read.folder import find_cases, named_files
from tacit.read.picture import read_picture
from tacit.report.track import Bar, Curves
from tacit.run import Run, command_line, open_run, plain
from tacit.use.apply import apply_all
from tacit.use.device import prepare_device
from tacit.use.instances import InstancesConfig
from tacit.use.model import load_model, save_model
from tacit.use.report_segment import write_report
from tacit.use.spacing import Scale, look, middle

MOST_WORKING_PX = 4_000_000  # a picture larger than this at the network's spacing is learnt from by its middle


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: Path
    images: int  # written
    failed: int
    mpp: float
    mpp_source: str  # metadata, given, estimated, or mixed


def segment(
    source: str | Path,
    out: str | Path,
    *,
    method: str = "phantom",
    model: str | Path | None = None,
    budget: str = "full",
    phantom: str = "tissue",
    classes: str = "gland",
    mpp: float | None = None,
    learn_from: int = 400,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> Result:
    """Segments the images that `source` names into OUT; same names and defaults as the command line.

    method: phantom, mssg, mssg-paper, haematoxylin · model: the OUT of an earlier run, nothing is learnt then · budget: full
    or fast · phantom: what is drawn to learn from · classes: the name of what is segmented, in tables and GeoJSON · mpp: µm
    per pixel of images that do not state it · learn_from: at most this many images are learnt from (a seeded draw).
    Raises TacitError; one image's failure is a row of failures.csv.
    """
    chosen = merge(read_toml(Path(config)) if config else {}, parse_assignments(set or []))
    chosen.pop("segment", None)  # a run's own config.toml can be given back
    own = build(InstancesConfig, chosen.pop("instances", {}))
    _check(mpp, seed, learn_from, classes, phantom)
    network, about = _network(method, model, budget, phantom, chosen)
    chosen_method = about.get("method", method)
    options = {"input": str(source), "method": chosen_method, "model": str(model) if model else None, "budget": budget, "classes": classes, "mpp": mpp}
    settings = {"segment": options | {"seed": seed, "learn_from": learn_from}, "instances": plain(own), **plain(network.config)}
    network.to(prepare_device(device, threads))
    zipped = Path(source).suffix.lower() == ".zip"
    found = None if zipped else find_cases(source)
    weights = getattr(getattr(network.config, "network", None), "weights", None)
    reads = chain(named_files(source), [model, config, phantom, weights])
    command = command_line(
        "segment", source, out, segment.__kwdefaults__, method=method, model=model, budget=budget, phantom=phantom, classes=classes, mpp=mpp,
        learn_from=learn_from, seed=seed, device=device, threads=threads, config=config, set=set,
    )  # fmt: skip
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run:
        cases = found if found is not None else find_cases(source, unpack_to=run.folder / "input")
        with Bar("hashing") as bar:
            hashes = cases.hashes(bar.advance)
        data = Cases.fingerprint(hashes)
        if run.earlier.get("data", data) != data:
            raise OutputError(f"--resume wants the images of the first run, but files in {source} have changed since; use --overwrite")
        if run.finished_before:
            return Result(Path(out), run.record["ok"], len(run.failures), run.record["mpp"], run.record["mpp_source"])
        run.record |= {"seed": seed, "device": device, "threads": threads, "images": len(cases), "data": data, "inputs": hashes}
        run.say(f"{len(cases)} images, {len(cases.skipped)} other files left alone (annotations, tables …)")
        good, scale = look(cases, run, mpp)
        if model is None:
            shop = Workshop(seed, device, run.folder / "checkpoints", Curves(run.folder / "metrics.csv"), run.say)
            pictures = _working(good, scale, network.um_per_px, learn_from, seed)
            _learn(network, method, pictures, shop, run, {"mpp": scale.typical, "spacing_source": scale.source, "classes": classes})
        if hasattr(network, "drawn_share"):
            run.record["drawn_share"] = [round(float(s), 3) for s in network.drawn_share]
        written = apply_all(good, scale.of, network, own, classes, run)
        if not written:
            raise InputError(f"none of the {len(good)} images could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
        run.record |= {"ok": written, "mpp": scale.typical, "mpp_source": scale.source}
        write_report(run, settings, classes)
    return Result(Path(out), written, len(run.failures), scale.typical, scale.source)


def _learn(network: Any, method: str, pictures: list[NDArray[np.uint8]], shop: Workshop, run: Run, facts: dict[str, Any]) -> None:
    """Learns from pictures alone and keeps what was learnt in model/."""
    run.record["learnt_from"] = len(pictures)
    network.fit(pictures, shop)
    save_model(run.folder / "model", method, network, facts | {"images": len(pictures), "seed": shop.seed, "data": run.record["data"]})


def _check(mpp: float | None, seed: int, learn_from: int, classes: str, phantom: str) -> None:
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100, for example 0.5 for a 20x scan")
    if seed < 0 or learn_from < 1:
        raise UsageError(f"--seed {seed} and --learn-from {learn_from}: expected a seed from 0 and at least one image")
    names, drawn = [n.strip() for n in classes.split(",")], getattr(generator(phantom), "CLASSES", ("structure",))
    if len(names) != len(drawn) or not all(names):
        raise UsageError(f"--classes {classes!r}: --phantom {phantom} draws {len(drawn)} class ({', '.join(drawn)}), so as many names are expected")


def _network(method: str, model: str | Path | None, budget: str, phantom: str, chosen: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(METHODS)}")
    if budget not in ("fast", "full"):
        raise UsageError(f"--budget {budget!r} is unknown; known are fast, full")
    if model is not None:
        if chosen:
            raise UsageError(f"--model brings its own settings; {sorted(chosen)[0]!r} cannot be changed with --set or --config (only instances.… can)")
        return load_model(model)
    kind = METHODS[method]
    preset = FAST[method] if budget == "fast" else {}
    named = {"phantom": phantom} if "phantom" in kind.Config.model_fields else {}
    return kind(build(kind.Config, preset, named, chosen)), {}


def _working(good: Cases, scale: Scale, um_per_px: float, most: int, seed: int) -> list[NDArray[np.uint8]]:
    """At most `most` pictures at the network's spacing, drawn by the seed; their truth is nowhere near."""
    chosen = np.random.default_rng([seed, 77]).permutation(len(good))[:most].tolist()
    pictures = []
    with Bar("reading") as bar:
        for index, (name, path) in enumerate(good):
            if index in chosen:
                image = scale.of(name, read_picture(path))
                assert image.mpp is not None
                pictures.append(middle(to_spacing(image.pixels, image.mpp, um_per_px), MOST_WORKING_PX))
            bar.advance(index + 1, len(good))
    return pictures
