"""`tacit segment`: learn on a folder of unlabelled images, then write its masks; or apply what an earlier run learnt.

find → look (read all, spacing, failures) → learn → apply one by one → tables → report; glands here, vessels and organs in use/structures.py,
masks of some pictures that teach (--labels) in use/few_labels.py
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.config import build, chosen_settings
from tacit.errors import InputError, UsageError
from tacit.learn.methods import FAST, METHODS
from tacit.learn.structures import FAST as FAST_STRUCTURES
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.phantom import generator
from tacit.prepare.space import to_spacing
from tacit.read.folder import find_cases, named_files
from tacit.read.picture import read_picture
from tacit.report.track import Bar, Curves
from tacit.run import Run, command_line, open_run, plain
from tacit.use import few_labels, structures
from tacit.use.apply import apply_all
from tacit.use.device import prepare_device
from tacit.use.instances import InstancesConfig
from tacit.use.model import load_model, save_model
from tacit.use.report_segment import write_report
from tacit.use.report_structures import write_report as write_structures
from tacit.use.shape_guided import clusters_network, guided_network, masks_digest, said_of
from tacit.use.spacing import Scale, look, middle

MOST_WORKING_PX = 4_000_000  # a picture larger than this at the network's spacing is learnt from by its middle


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: Path
    images: int  # written
    failed: int
    mpp: float | None  # None where no spacing is needed
    mpp_source: str  # metadata, given, estimated, or mixed; "none" where none is needed


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
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
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
    Raises TacitError; one image's failure is a row of failures.csv.
    """
    chosen = chosen_settings(config, set, "segment")
    own = build(InstancesConfig, chosen.pop("instances", {}))
    named = classes
    _check(mpp, seed, learn_from)
    few = few_labels.find_labels(labels, source) if labels is not None else None
    network: Any
    said = ""
    if few is not None:
        _check_few(method, budget, phantom, shape_prior)
        (network, said), kind = few_labels.few_network(few, model, classes, chosen), few_labels.NAME
    else:
        network, kind = _network(method, model, budget, phantom, chosen, shape_prior)
    wanted = structures.chosen_classes(network, classes) if kind in STRUCTURES or kind == few_labels.NAME else None
    classes = classes or "gland"
    if wanted is None:
        _check_classes(classes, phantom)
    options = {
        "input": str(source),
        "method": kind,
        "model": str(model) if model else None,
        "labels": str(labels) if labels else None,
        "budget": budget,
        "classes": classes,
        "mpp": mpp,
    }
    options |= {"shape_prior": str(shape_prior), "shape_masks": masks_digest(shape_prior)} if shape_prior else {}
    settings = {"segment": options | {"seed": seed, "learn_from": learn_from}, "instances": plain(own), **plain(network.config)}
    command = command_line(
        "segment", source, out, segment.__kwdefaults__, method=method, model=model, labels=labels, budget=budget, phantom=phantom, classes=named,
        shape_prior=shape_prior, mpp=mpp, learn_from=learn_from, seed=seed, device=device, threads=threads, config=config, set=set,
    )  # fmt: skip
    device = prepare_device(device, threads)
    network.to(device)
    found = None if Path(source).suffix.lower() == ".zip" else find_cases(source)
    reads = chain(named_files(source), [model, config, phantom, shape_prior, _weights(network)], [labels, *few.masks.values()] if few else [])
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run:
        cases = found if found is not None else find_cases(source, unpack_to=run.folder / "input")
        _check_same(cases, source, run, few.hashes if few else {})
        if not run.finished_before:
            run.record |= {"seed": seed, "device": device, "threads": threads, "images": len(cases)}
            if few is not None:
                few_labels.learn(network, said, few, model, cases, run)
            if wanted is not None:
                learns = few is None and (model is None or shape_prior is not None)
                _structures(network, kind, wanted, cases, learn_from if learns else 0, settings, run)
            else:
                good, scale = look(cases, run, mpp)
                if model is None:
                    _learn(network, kind, _working(good, scale, network.um_per_px, learn_from, seed), scale, classes, run)
                _apply(network, good, scale, own, classes, run)
                write_report(run, settings, classes)
        return Result(Path(out), run.record["ok"], len(run.failures), run.record["mpp"], run.record["mpp_source"])


def _check_same(cases: Cases, source: str | Path, run: Run, labels: dict[str, str]) -> None:
    """Writes down which files are read, and refuses to resume with others."""
    with Bar("hashing") as bar:
        hashes = cases.hashes(bar.advance) | labels
    run.check_same(hashes, source)
    if not run.finished_before:
        run.record["inputs"] = hashes
        run.say(f"{len(cases)} images, {len(cases.skipped)} other files left alone (annotations, tables …)")


def _learn(network: Any, method: str, pictures: list[NDArray[np.uint8]], scale: Scale, classes: str, run: Run) -> None:
    """Learns from pictures alone and keeps what was learnt in model/."""
    run.record["learnt_from"] = len(pictures)
    seed, device = run.record["seed"], run.record["device"]
    network.fit(pictures, Workshop(seed, device, run.folder / "checkpoints", Curves(run.folder / "metrics.csv"), run.say))
    facts = {"mpp": scale.typical, "spacing_source": scale.source, "classes": classes, "images": len(pictures), "seed": seed, "data": run.record["data"]}
    save_model(run.folder / "model", method, network, facts)


def _apply(network: Any, good: Cases, scale: Scale, own: InstancesConfig, classes: str, run: Run) -> None:
    """Writes the answers of every image and what they come to. Raises InputError where there is no answer."""
    if hasattr(network, "drawn_share"):
        run.record["drawn_share"] = [round(float(s), 3) for s in network.drawn_share]
    written = apply_all(good, scale.of, network, own, classes, run)
    if not written:
        raise InputError(f"none of the {len(good)} images could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    run.record |= {"ok": written, "mpp": scale.typical, "mpp_source": scale.source}


def _structures(network: Any, kind: str, classes: list[str], cases: Cases, learn_from: int, settings: dict[str, Any], run: Run) -> None:
    """The same way for what needs no spacing. learn_from: 0 = the network has learnt."""
    run.record |= {"mpp": None, "mpp_source": "none", "classes": classes}
    if hasattr(network, "labels_used"):
        run.record |= {"uses_labels": True, "labels": int(network.labels_used)}
    good, frames = structures.look(cases, network, learn_from, run.record["seed"], run)
    if learn_from:
        structures.learn(network, kind, frames, classes, run)
    run.record["warnings"] = said_of(network, good)
    run.record["ok"] = structures.apply_all(good, network, classes, run)
    if not run.record["ok"]:
        raise InputError(f"none of the {len(good)} images could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    write_structures(run, settings, classes)


def _check(mpp: float | None, seed: int, learn_from: int) -> None:
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100, for example 0.5 for a 20x scan")
    if seed < 0 or learn_from < 1:
        raise UsageError(f"--seed {seed} and --learn-from {learn_from}: expected a seed from 0 and at least one image")


def _check_few(method: str, budget: str, phantom: str, shape_prior: object) -> None:
    if (method, budget, phantom, shape_prior) != ("phantom", "full", "tissue", None):
        raise UsageError("--labels teach a network that begins at --model or at random: leave --method, --budget, --phantom and --shape-prior out")


def _check_classes(classes: str, phantom: str) -> None:
    names, drawn = [n.strip() for n in classes.split(",")], getattr(generator(phantom), "CLASSES", ("structure",))
    if len(names) != len(drawn) or not all(names):
        raise UsageError(f"--classes {classes!r}: --phantom {phantom} draws {len(drawn)} class ({', '.join(drawn)}), so as many names are expected")


def _network(method: str, model: str | Path | None, budget: str, phantom: str, chosen: dict[str, Any], shape_prior: str | Path | None) -> tuple[Any, str]:
    """A network that is to learn, or one that an earlier run taught; and its method's name."""
    known = METHODS | STRUCTURES
    if shape_prior is not None and budget in ("fast", "full"):
        return guided_network(method, model, shape_prior, budget, phantom, chosen), "shape-guided"
    if method == "phantom" and f"phantom-{phantom}" in STRUCTURES:
        method = f"phantom-{phantom}"
    if method not in known:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(known)}")
    if budget not in ("fast", "full"):
        raise UsageError(f"--budget {budget!r} is unknown; known are fast, full")
    if method == "clusters":
        return clusters_network(model, chosen), method
    if model is not None:
        if chosen:
            raise UsageError(f"--model brings its own settings; {sorted(chosen)[0]!r} cannot be changed with --set or --config (only instances.… can)")
        network, about = load_model(model, known | few_labels.TAUGHT)
        return network, about["method"]
    kind = known[method]
    preset = (FAST | FAST_STRUCTURES)[method] if budget == "fast" else {}
    named = {"phantom": phantom} if "phantom" in kind.Config.model_fields else {}
    return kind(build(kind.Config, preset, named, chosen)), method


def _weights(network: Any) -> str | None:
    """The file (or hub's name) that an encoder began with, where there is one."""
    return getattr(getattr(network.config, "network", None), "weights", None)


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
