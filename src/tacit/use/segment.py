"""`tacit segment`: learn on a folder of unlabelled images, then write its masks; or apply what an earlier run learnt.

find → look (read all, spacing, failures) → learn → apply one by one → tables → report
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.config import build, merge, parse_assignments, read_toml
from tacit.errors import InputError, OutputError, ReadError, UsageError
from tacit.image import Image
from tacit.learn.methods import FAST, METHODS
from tacit.learn.workshop import Workshop
from tacit.prepare.scale import estimate_mpp
from tacit.prepare.space import to_spacing
from tacit.read.folder import find_cases
from tacit.read.picture import read_picture
from tacit.report.track import Bar, Curves
from tacit.run import Run, open_run, plain
from tacit.use.apply import apply_all
from tacit.use.device import prepare_device
from tacit.use.instances import InstancesConfig
from tacit.use.model import load_model, save_model
from tacit.use.report_segment import write_report

MOST_WORKING_PX = 4_000_000  # a picture larger than this at the network's spacing is learnt from by its middle


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: Path
    images: int  # written
    failed: int
    mpp: float
    mpp_source: str


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
    own = build(InstancesConfig, chosen.pop("instances", {}))
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100, for example 0.5 for a 20x scan")
    network, about = _network(method, model, budget, phantom, chosen)
    settings = {
        "segment": {"input": str(source), "method": about.get("method", method), "model": str(model) if model else None, "budget": budget}
        | {"classes": classes, "mpp": mpp, "seed": seed, "learn_from": learn_from},
        "instances": plain(own),
        **plain(network.config),
    }
    if not classes.strip() or "," in classes:
        raise UsageError(f"--classes {classes!r}: --phantom {phantom} draws one class, so one name is expected, for example gland")
    prepare_device(device, threads)
    with open_run(out, command=_command(settings["segment"], out), settings=settings, resume=resume, overwrite=overwrite) as run:
        cases = find_cases(source, unpack_to=run.folder / "input")
        hashes = cases.hashes()
        data = Cases.fingerprint(hashes)
        if run.earlier.get("data", data) != data:
            raise OutputError(f"--resume wants the images of the first run, but files in {source} have changed since; use --overwrite")
        if run.finished_before:
            return Result(Path(out), run.record["ok"], len(run.failures), run.record["mpp"], run.record["mpp_source"])
        run.record |= {"seed": seed, "device": device, "threads": threads, "images": len(cases), "data": data, "inputs": hashes}
        good, scale = _look(cases, run, mpp, about if model else None)
        if model is None:
            curves = Curves(run.folder / "metrics.csv")
            pictures = _working(good, scale, network.um_per_px, learn_from, seed)
            run.record["learnt_from"] = len(pictures)
            network.fit(pictures, Workshop(seed, device, run.folder / "checkpoints", curves, run.say))
            facts = {"images": len(pictures), "mpp": scale.typical, "spacing_source": scale.source, "classes": classes, "seed": seed}
            save_model(run.folder / "model", method, network, facts | {"data": run.record["data"]})
        written = apply_all(good, scale.of, network, own, classes, run)
        run.record |= {"ok": written, "mpp": scale.typical, "mpp_source": scale.source}
        write_report(run, settings, classes)
    return Result(Path(out), written, len(run.failures), scale.typical, scale.source)


def _network(method: str, model: str | Path | None, budget: str, phantom: str, chosen: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if model is not None:
        if chosen:
            raise UsageError(f"--model brings its own settings; {sorted(chosen)[0]!r} cannot be changed with --set or --config (only instances.… can)")
        return load_model(model)
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(METHODS)}")
    if budget not in ("fast", "full"):
        raise UsageError(f"--budget {budget!r} is unknown; known are fast, full")
    kind = METHODS[method]
    preset = FAST[method] if budget == "fast" else {}
    named = {"phantom": phantom} if "phantom" in kind.Config.model_fields else {}
    return kind(build(kind.Config, preset, named, chosen)), {}


def _command(options: dict[str, Any], out: str | Path) -> str:
    defaults = {"method": "phantom", "budget": "full", "classes": "gland", "seed": 0, "learn_from": 400}
    words = [f"--{k.replace('_', '-')} {v}" for k, v in options.items() if k != "input" and v is not None and defaults.get(k) != v]
    return " ".join(["tacit segment", options["input"], "-o", str(out), *words])


@dataclass(frozen=True)
class Scale:
    """The spacing of every image: stated by itself or by the user, else the folder's estimate."""

    stated: dict[str, float]
    typical: float
    source: str  # metadata, given, estimated

    def of(self, image: Image) -> Image:
        """The image with its spacing and where that comes from."""
        if image.name in self.stated or image.spacing_source == "metadata":
            return image if image.mpp else image.with_mpp(self.stated[image.name], "given")
        return image.with_mpp(self.typical, "given" if self.source == "given" else "estimated")


def _look(cases: Cases, run: Run, mpp: float | None, about: dict[str, Any] | None) -> tuple[Cases, Scale]:
    """Reads every image once: what cannot be read becomes a failure, what has no spacing helps to estimate it."""
    listed = {n: float(v) for n, v in zip(cases.table["name"], cases.table["mpp"], strict=True) if v is not None and v == v}
    readable: list[bool] = []
    metadata: list[float] = []
    unknown: list[NDArray[np.uint8]] = []
    with Bar("reading") as bar:
        for index, (name, path) in enumerate(cases):
            try:
                image = read_picture(path)
            except ReadError as error:
                run.fail(path, error)
                readable.append(False)
                continue
            except OSError as error:
                run.fail(path, ReadError(path, f"it cannot be read ({error.strerror or error})", "check that the file is there"))
                readable.append(False)
                continue
            readable.append(True)
            if name not in listed and mpp is None and image.mpp:
                metadata.append(image.mpp)
            elif name not in listed and mpp is None and len(unknown) < 60:
                unknown.append(_middle(image.pixels, 1_000_000))
            bar.advance(index + 1, len(cases))
    run.save_record()
    good = cases.where(readable)
    if not len(good):
        raise InputError(f"none of the {len(cases)} images can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    if mpp is not None:
        return good, Scale({Path(p).stem: mpp for p in good.table["path"]}, mpp, "given")
    if listed or metadata:
        known = [*listed.values(), *metadata]
        return good, Scale(listed, float(np.median(known)), "given" if listed else "metadata")
    estimate = estimate_mpp(unknown)
    run.say(f"no spacing is stated; estimated from nucleus size: {estimate:.3f} µm per px (give it with --mpp if you know it)")
    return good, Scale({}, estimate, "estimated")


def _middle(picture: NDArray[np.uint8], most_px: int) -> NDArray[np.uint8]:
    h, w = picture.shape[:2]
    share = min(1.0, float(np.sqrt(most_px / (h * w))))
    height, width = max(int(h * share), 1), max(int(w * share), 1)
    top, left = (h - height) // 2, (w - width) // 2
    return picture[top : top + height, left : left + width]


def _working(good: Cases, scale: Scale, um_per_px: float, most: int, seed: int) -> list[NDArray[np.uint8]]:
    """At most `most` pictures at the network's spacing, drawn by the seed; their truth is nowhere near."""
    order = np.sort(np.random.default_rng([seed, 77]).permutation(len(good))[:most])
    chosen = set(order.tolist())
    pictures = []
    for index, (_, path) in enumerate(good):
        if index in chosen:
            image = scale.of(read_picture(path))
            assert image.mpp is not None
            pictures.append(_middle(to_spacing(image.pixels, image.mpp, um_per_px), MOST_WORKING_PX))
    return pictures
