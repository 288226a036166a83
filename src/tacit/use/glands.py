"""`tacit segment` of what comes as instances at a spacing: glands of a tissue image.

look (read all, spacing, failures) → learn at the network's spacing → apply one by one → tables → report
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.errors import InputError
from tacit.learn.workshop import Workshop
from tacit.prepare.space import to_spacing
from tacit.read.picture import read_picture
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.apply import apply_all
from tacit.use.instances import InstancesConfig
from tacit.use.model import save_model
from tacit.use.report_segment import write_report
from tacit.use.segment_task import Task
from tacit.use.spacing import Scale, look, middle
from tacit.use.tracking import curves_of

MOST_WORKING_PX = 4_000_000  # a picture larger than this at the network's spacing is learnt from by its middle


def segment_glands(task: Task, cases: Cases, mpp: float | None, learn_from: int, own: InstancesConfig, settings: dict[str, Any], run: Run) -> None:
    """Learns where the task says so, then answers every picture. Raises InputError where there is no answer at all."""
    good, scale = look(cases, run, mpp)
    network = task.network
    if task.learns:
        _learn(task, _working(good, scale, network.um_per_px, learn_from, run.record["seed"]), scale, run)
    if hasattr(network, "drawn_share"):
        run.record["drawn_share"] = [round(float(s), 3) for s in network.drawn_share]
    written = apply_all(good, scale.of, network, own, task.named, run)
    if not written:
        raise InputError(f"none of the {len(good)} images could be segmented; the first: {run.failures[0][0]}: {run.failures[0][1]}")
    run.record |= {"ok": written, "mpp": scale.typical, "mpp_source": scale.source}
    write_report(run, settings, task.named)


def _learn(task: Task, pictures: list[NDArray[np.uint8]], scale: Scale, run: Run) -> None:
    """Learns from pictures alone and keeps what was learnt in model/."""
    run.record["learnt_from"] = len(pictures)
    seed, device = run.record["seed"], run.record["device"]
    task.network.fit(pictures, Workshop(seed, device, run.folder / "checkpoints", curves_of(run), run.say))
    facts = {"mpp": scale.typical, "spacing_source": scale.source, "classes": task.named, "images": len(pictures), "seed": seed, "data": run.record["data"]}
    save_model(run.folder / "model", task.method, task.network, facts)


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
