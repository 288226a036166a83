"""`tacit segment --labels`: masks of some of the pictures teach a network, which is then applied to all of them.

find the masks → what values they hold → the network and its start → read, lay in the frame, learn → keep; everything written says how many labels it uses
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from tacit.cases import Cases
from tacit.config import build, merge
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256
from tacit.learn.few_labels import PRESETS, FewLabels, FewLabelsConfig, Labelled
from tacit.learn.few_networks import Start, start_of
from tacit.learn.pretraining import METHODS as PRETRAINING
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.read.folder import find_cases, find_truth, read_mask
from tacit.read.picture import SUFFIXES, read_picture
from tacit.read.walk import walk
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.model import load_model, save_model
from tacit.use.tracking import curves_of

NAME = "few-labels"
TAUGHT: dict[str, Any] = {NAME: FewLabels}  # to be loaded by
MOST_CLASSES = 20  # values of a set of masks
REMEDY = "mend the mask, or leave it out"
CARD = """# A Tacit model

Method `few-labels`: a `{kind}` network, start {start}, taught by the masks of {labels} pictures. It uses {labels} labels{more}.
Segments: {classes}. Research use only, not a medical device.
"""


@dataclass
class Labels:
    """The masks of some pictures. Made by `find_labels`."""

    folder: Path
    masks: dict[str, Path]  # picture's name → mask, those that can teach
    values: tuple[int, ...]  # that stand for the classes, in order
    failures: list[ReadError] = field(default_factory=list)

    @property
    def hashes(self) -> dict[str, str]:
        """What a resumed run must find unchanged."""
        return {f"label of {name}": sha256(path) for name, path in self.masks.items()}


def find_labels(folder: str | Path, source: str | Path) -> Labels:
    """The masks in `folder` that bear names of the pictures in `source`, those that cannot teach as failures.

    Raises UsageError for a zip and for more values than classes can be, InputError where no mask can teach.
    """
    place = Path(folder)
    if Path(source).suffix.lower() == ".zip":
        raise UsageError(f"--labels with the zip {source}: names must be known before it is unpacked; unpack it and give the folder")
    names = [name for name, _ in find_cases(source)]
    masks = find_truth(place, names, called="--labels", like="a picture of INPUT")
    found = Labels(place, {}, (), [])
    used = set(masks.values())
    for path in walk(place)[0]:
        if path.suffix.lower() in SUFFIXES and path not in used:
            found.failures.append(ReadError(path, "no picture of INPUT has this mask's name", "name it like its picture, or leave it out"))
    values: set[int] = set()
    for name, path in sorted(masks.items()):
        try:
            values |= _values(path)
            found.masks[name] = path
        except ReadError as error:
            found.failures.append(error)
    if not found.masks:
        raise InputError(f"--labels {folder}: none of {len(masks)} masks can teach; the first: {found.failures[-1]}")
    if len(values) > MOST_CLASSES:
        raise UsageError(f"--labels {folder}: {len(values)} values above 0 ({min(values)} … {max(values)}); expected one a class, at most {MOST_CLASSES}")
    found.values = tuple(sorted(values))
    return found


def few_network(labels: Labels, model: str | Path | None, classes: str | None, chosen: dict[str, Any]) -> tuple[FewLabels, str]:
    """The network that the labels will teach, begun at `model` or at random, and what it says of its start. Raises UsageError."""
    names = _class_names(labels, classes)
    start: Start | None = None
    said = "random"
    if model is not None:
        network, about = load_model(model, PRETRAINING | STRUCTURES)
        start = start_of(network, about["method"])
        said = f"{about['method']}, learnt {'with labelled pairs' if about.get('uses_labels') else 'without labels'} on {about.get('images', '?')} images"
    given = merge(start.settings if start else {}, {"classes": list(names), "start": start.method if start else "random"})
    kind = merge(given, chosen).get("network", {}).get("kind", "vgg-unet")
    few = FewLabels(build(FewLabelsConfig, PRESETS.get(kind, {}), given, chosen))
    if few.config.start != given["start"] or few.config.classes != names:
        raise UsageError("start and classes are no settings to change: they come from --model and --classes")
    return few, said


def begin(few: FewLabels, model: str | Path | None, seed: int) -> list[str]:
    """Draws the network's weights by the seed, then takes those of `model`. Gives the names taken. Raises UsageError naming what does not fit."""
    torch.manual_seed(1000 * seed + 7)
    few.load_state_dict(FewLabels(few.config).state_dict())
    if model is None:
        return []
    network, about = load_model(model, PRETRAINING | STRUCTURES)
    return few.begin(start_of(network, about["method"]))


def learn(few: FewLabels, said: str, labels: Labels, model: str | Path | None, cases: Cases, run: Run) -> None:
    """Reads the labelled pictures, learns, keeps what was learnt in model/. No other picture's truth is looked for."""
    for error in labels.failures:
        run.fail(error.path, error)
    seed, device = run.record["seed"], run.record["device"]
    taken = begin(few, model, seed)
    few.to(device)
    run.say(f"start: {said}; {len(taken)} tensors taken, {len(few.network.state_dict())} in all")
    labelled, names = [], []
    with Bar("reading labels") as bar:
        for index, (name, path) in enumerate(cases):
            if name in labels.masks:
                try:
                    labelled.append(read_labelled(few, path, labels.masks[name], labels.values))
                    names.append(name)
                except ReadError as error:
                    run.fail(labels.masks[name], error)
            bar.advance(index + 1, len(cases))
    if not labelled:
        raise InputError(f"--labels {labels.folder}: none of {len(labels.masks)} masks can teach; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    few.teach(labelled, Workshop(seed, device, run.folder / "checkpoints", curves_of(run), run.say))
    n = len(labelled)
    run.record |= {"uses_labels": True, "labels": n, "labelled": names, "start": said}
    c = few.config
    more = " for the start too" if "with labelled pairs" in said else ""
    card = CARD.format(kind=c.network.kind, start=said, labels=n, more=more, classes=", ".join(c.classes))
    facts = {"classes": list(c.classes), "images": n, "labels": n, "uses_labels": True, "start": said, "seed": seed, "data": run.record["data"]}
    save_model(run.folder / "model", NAME, few, facts, card)


def read_labelled(few: FewLabels, picture: Path, mask: Path, values: tuple[int, ...]) -> Labelled:
    """A picture and its mask in the network's frame. Raises ReadError, naming the mask, where they do not fit."""
    pixels = read_picture(picture).pixels
    truth = read_mask(mask)
    if truth.shape != pixels.shape[:2]:
        raise ReadError(
            mask, f"it is {truth.shape[0]}×{truth.shape[1]} px, its picture {pixels.shape[0]}×{pixels.shape[1]}", "give the mask at the picture's size"
        )
    try:
        seen = few.seen(pixels)
    except InputError as error:
        raise ReadError(mask, f"its picture cannot be used: {error}", REMEDY) from error
    planes: NDArray[np.bool_] = np.stack([truth == value for value in values])
    return Labelled.of(seen, planes)


def _values(path: Path) -> set[int]:
    """The values above 0 of a mask that can teach. Raises ReadError."""
    truth = read_mask(path)
    values = {int(v) for v in np.unique(truth)}
    above = {v for v in values if v > 0}
    if min(values) < 0:
        raise ReadError(path, f"it holds {min(values)}; a mask has 0 for background and one value above it a class", REMEDY)
    if not above:
        raise ReadError(path, "this mask is empty: every pixel is 0", "mark the structure, or leave the mask out")
    if 0 not in values and len(above) == 1:
        raise ReadError(path, f"every pixel of this mask is {above.pop()}: there is no background to learn from", REMEDY)
    if len(above) > 1:
        with Pillow.open(path) as file:
            if file.mode in ("RGB", "RGBA", "CMYK"):
                raise ReadError(path, f"this mask has {len(above)} colours, whose order is not known", "give one grey value a class, 0 for background")
    return above


def _class_names(labels: Labels, classes: str | None) -> tuple[str, ...]:
    n = len(labels.values)
    if classes is None:
        return ("structure",) if n == 1 else tuple(f"structure-{value}" for value in labels.values)
    names = tuple(name.strip() for name in classes.split(","))
    if len(names) != n or len(set(names)) < n or not all(names):
        shown = ", ".join(str(v) for v in labels.values)
        raise UsageError(f"--classes {classes!r}: the masks hold {n} values above 0 ({shown}), so {n} different names are expected, in this order")
    return names
