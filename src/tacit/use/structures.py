"""`tacit segment` of structures that fill a picture in one way: vessels of a fundus photograph, organs of a chest radiograph.

look (read all, failures) → learn → apply one by one; no spacing is needed, each method brings pictures to its own frame (`working`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.learn.workshop import Workshop
from tacit.read.picture import read_picture
from tacit.report.picture import in_colours, in_tints, jpeg, png, shrunk
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.measure_structures import measured
from tacit.use.model import save_model
from tacit.use.one_by_one import REMEDY, one_by_one
from tacit.use.outlines import pieces_geojson
from tacit.use.report_structures import write_report
from tacit.use.shape_guided import said_of
from tacit.use.tracking import curves_of


def segment_structures(network: Any, method: str, classes: list[str], cases: Cases, learn_from: int, settings: dict[str, Any], run: Run) -> None:
    """Learns from at most `learn_from` pictures (0 = the network has learnt), then answers every one. Raises InputError where there is no answer at all."""
    run.record |= {"mpp": None, "mpp_source": "none", "classes": classes}
    if hasattr(network, "labels_used"):
        run.record |= {"uses_labels": True, "labels": int(network.labels_used)}
    good, frames = look(cases, network, learn_from, run.record["seed"], run)
    if learn_from:
        learn(network, method, frames, classes, run)
    run.record["warnings"] = said_of(network, good)
    run.record["ok"] = apply_all(good, network, classes, run)
    if not run.record["ok"]:
        raise InputError(f"none of the {len(good)} images could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    write_report(run, settings, classes)


def chosen_classes(network: Any, classes: str | None) -> list[str]:
    """The structures to write, by the names that the method has for them; where none is asked for the first one, or all that fill a picture together, or that labels taught.

    Raises UsageError.
    """
    if classes is None:
        return list(getattr(network, "default_classes", network.CLASSES if getattr(network, "FILLS", False) else network.CLASSES[:1]))
    names = [name.strip() for name in classes.split(",")]
    unknown = [name for name in names if name not in network.CLASSES]
    if unknown or len(set(names)) < len(names):
        raise UsageError(f"--classes {classes!r}: expected some of {', '.join(network.CLASSES)}, each once")
    return names


def look(cases: Cases, network: Any, learn_from: int, seed: int, run: Run) -> tuple[Cases, list[NDArray[np.uint8]]]:
    """The pictures that the method can use, and what it learns from: at most `learn_from` of them in its frame, drawn by the seed."""
    drawn = set(np.random.default_rng([seed, 77]).permutation(len(cases))[:learn_from].tolist())
    usable, frames = [], []
    with Bar("reading") as bar:
        for index, (_, path) in enumerate(cases):
            frame = None
            try:
                frame = network.working(read_picture(path).pixels)
            except ReadError as error:
                run.fail(path, error)
            except InputError as error:
                run.fail(path, ReadError(path, str(error), REMEDY))
            usable.append(frame is not None)
            if frame is not None and index in drawn:
                frames.append(frame)
            bar.advance(index + 1, len(cases))
    run.save_record()
    if not any(usable):
        raise InputError(f"none of the {len(cases)} images can be used; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    return cases.where(usable), frames


def learn(network: Any, method: str, frames: list[NDArray[np.uint8]], classes: list[str], run: Run) -> None:
    """Learns from frames alone and keeps what was learnt in model/."""
    run.record["learnt_from"] = len(frames)
    seed = run.record["seed"]
    network.fit(frames, Workshop(seed, run.record["device"], run.folder / "checkpoints", curves_of(run), run.say))
    save_model(run.folder / "model", method, network, {"classes": classes, "images": len(frames), "seed": seed, "data": run.record["data"]})


def apply_all(cases: Cases, network: Any, classes: list[str], run: Run) -> int:
    """Writes the answers of every image, skips those already written, lists failures. Returns how many are written."""
    return one_by_one(cases, run, lambda name, path: _one(name, read_picture(path), network, classes, run.folder), "shrink it")


def _one(name: str, image: Image, network: Any, classes: list[str], out: Path) -> None:
    """masks/NAME.png (one value a class; where they overlap the later one), and for several classes planes/CLASS/NAME.png, each whole.

    Clusters that nobody has named are in the mask alone: they are 0 or 1 everywhere, and have no outlines that anybody would open.
    """
    unnamed = getattr(network, "UNNAMED", False)
    p = network.probability(image.pixels)[[network.CLASSES.index(c) for c in classes]]
    planes = p > 0.5
    mask = np.zeros(planes.shape[1:], np.uint8)
    for value, plane in enumerate(planes, 1):
        mask[plane] = value
    row = measured(p, classes, image, network)
    if hasattr(network, "uncertainty"):
        unsure = network.uncertainty(image.pixels)[0]
        row["unsure_share"] = float((unsure[network.field(image.pixels)] >= 0.5).mean())
        write_atomic(out / "uncertainty" / f"{name}.png", png(np.round(255 * unsure).clip(0, 255).astype(np.uint8)))
    write_atomic(out / "masks" / f"{name}.png", png(mask))
    for kind, plane, inside in zip(classes, p, planes, strict=True) if not unnamed else ():
        write_atomic(out / "probability" / kind / f"{name}.png", png(np.round(255 * plane).clip(0, 255).astype(np.uint8)))
        if len(classes) > 1:
            write_atomic(out / "planes" / kind / f"{name}.png", png(inside.astype(np.uint8)))
    if not unnamed:
        write_atomic(out / "geojson" / f"{name}.geojson", pieces_geojson(dict(zip(classes, planes, strict=True))))
    small = shrunk(image.pixels)
    figure = (
        in_tints(small, shrunk(mask.astype(np.int32))) if getattr(network, "FILLS", False) else in_colours(small, [shrunk(q.astype(np.int32)) for q in planes])
    )
    write_atomic(out / "figures" / f"{name}.jpg", jpeg(figure))
    write_atomic(out / "items" / f"{name}.jpg", jpeg(small))
    write_atomic(out / "items" / f"{name}.json", json.dumps({"image": name, **row, "history": "; ".join(image.history)}))
