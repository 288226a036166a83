"""`tacit pretrain`: features learnt from a folder of unlabelled pictures by pairs of views; no label takes part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from tacit.cases import Cases
from tacit.config import build, chosen_settings, to_toml
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.learn.pretraining import METHODS, PRESETS, Pictures, view_batches
from tacit.learn.workshop import Workshop
from tacit.parts.weights import save_tensors
from tacit.prepare.views import IMAGENET_MEAN, IMAGENET_SD
from tacit.read.folder import find_cases, named_files
from tacit.read.picture import read_picture
from tacit.report.page import Panel, page
from tacit.report.picture import curves as drawn_curves
from tacit.report.picture import embedded, png, sheet
from tacit.report.track import Bar, Curves
from tacit.run import Run, command_line, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.model import save_model

CARD = """# Features learnt by Tacit

Method `{method}`, backbone `{backbone}`, learnt on {images} unlabelled images. No label took part. `encoder.safetensors` holds the backbone alone, by timm's names.
Research use only, not a medical device.
"""
COLLAPSED = 0.1  # spread of the embeddings (1 = all over the sphere) below which they are nearly one point
SHEET = 6  # pictures on the sheet of views


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to; spread and rank are those of the last batches' embeddings."""

    folder: Path
    images: int
    failed: int
    loss: float
    spread: float
    rank: float
    backbone: str  # timm's name


def pretrain(
    source: str | Path,
    out: str | Path,
    *,
    method: str = "byol",
    preset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> PretrainResult:
    """Learns features on the pictures that `source` names: model/ (all weights) and model/encoder.safetensors (the backbone alone).

    method: byol, simclr, simsiam, moco or vae-byol · preset: for byol: byol, report or histology · backbone: any timm name · weights: FILE.safetensors
    or hub:NAME to start from. Raises TacitError; a picture that cannot be read is a row of failures.csv.
    """
    c = _settings(method, preset, backbone, weights, chosen_settings(config, set, "pretrain"))
    options = {"input": str(source), "method": method, "preset": preset, "seed": seed}
    settings = {"pretrain": options, **plain(c)}
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a seed from 0")
    found = None if Path(source).suffix.lower() == ".zip" else find_cases(source)
    command = command_line(
        "pretrain", source, out, pretrain.__kwdefaults__, method=method, preset=preset, backbone=backbone, weights=weights, seed=seed, device=device,
        threads=threads, config=config, set=set,
    )  # fmt: skip
    device = prepare_device(device, threads)
    reads = chain(named_files(source), [config, c.backbone.weights])
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run:
        cases = found if found is not None else find_cases(source, unpack_to=run.folder / "input")
        with Bar("hashing") as bar:
            run.check_same(cases.hashes(bar.advance), source)
        if not run.finished_before:
            run.record |= {"seed": seed, "device": device, "threads": threads}
            pictures = Pictures(_readable(cases, run), lambda path: read_picture(path).pixels)
            run.record["images"] = len(pictures)
            network, run.record["last"] = _learn(method, c, pictures, run, seed, device)
            _keep(run, method, c, network, len(pictures), seed)
            _report(run, pictures, c, run.record["last"], settings, seed)
        last = run.record["last"]
        return PretrainResult(Path(out), run.record["images"], len(run.failures), last["loss"], last["spread"], last["rank"], c.backbone.name)


def _settings(method: str, preset: str | None, backbone: str | None, weights: str | None, chosen: dict[str, Any]) -> Any:
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(METHODS)}")
    known = PRESETS.get(method, {})
    if preset is not None and preset not in known:
        raise UsageError(f"--preset {preset!r} is unknown for {method}; known are {', '.join(known) or 'none'}")
    named = {k: v for k, v in (("name", backbone), ("weights", weights)) if v is not None}
    inner = {"byol": {"backbone": named}} if method == "vae-byol" else {"backbone": named}
    return build(METHODS[method].Config, known.get(preset or "", {}), inner if named else {}, chosen)


def _readable(cases: Cases, run: Run) -> list[Path]:
    """The pictures that can be read, each looked at once."""
    good = []
    with Bar("reading") as bar:
        for index, (_, path) in enumerate(cases):
            try:
                read_picture(path)
                good.append(path)
            except ReadError as error:
                run.fail(path, error)
            bar.advance(index + 1, len(cases))
    if len(good) < 2:
        raise InputError(f"{len(good)} of {len(cases)} pictures can be read; at least two are needed to learn from pairs of views")
    return good


def _learn(method: str, c: Any, pictures: Pictures, run: Run, seed: int, device: str) -> tuple[Any, dict[str, float]]:
    torch.manual_seed(1000 * seed + 7)
    network = METHODS[method](c)
    train = c.train
    if "steps" not in train.model_fields_set:  # an epoch is one pass over the pictures
        train = train.model_copy(update={"steps": max(len(pictures) // train.batch, 1)})
    if train.batch < 2:
        raise UsageError("train.batch=1: batch norm and contrast need at least two pictures a batch")
    curves = Curves(run.folder / "metrics.csv")
    shop = Workshop(seed, device, run.folder / "checkpoints", curves, run.say)
    batches = view_batches(pictures, c.views, c.size, train.batch, seed)
    shop.train(method, network, batches, train, seed=seed)
    stages = curves.stages().get(method, {})
    last = {name: float(np.mean([v for _, v in stages[name][-5:]])) if name in stages else float("nan") for name in ("loss", "spread", "rank")}
    return network, last


def _keep(run: Run, method: str, c: Any, network: Any, images: int, seed: int) -> None:
    card = CARD.format(method=method, backbone=c.backbone.name, images=images)
    save_model(run.folder / "model", method, network, {"images": images, "seed": seed, "data": run.record["data"]}, card)
    encoder = network.byol.encoder if hasattr(network, "byol") else network.encoder
    save_tensors(run.folder / "model" / "encoder.safetensors", encoder.net.state_dict())


def _report(run: Run, pictures: Pictures, c: Any, last: dict[str, float], settings: dict[str, Any], seed: int) -> None:
    views = png(views_sheet(pictures, c.views, c.size, seed))
    write_atomic(run.folder / "figures" / "views.png", views)
    stages = Curves(run.folder / "metrics.csv").stages()
    plot = drawn_curves(stages)
    warnings = [
        f"the embeddings lie nearly in one point (spread {last['spread']:.2f}, effective rank {last['rank']:.1f}): they have collapsed; try another --seed, a lower train.lr or a larger train.batch"
    ]
    text = page(
        title="Pretraining",
        subtitle=run.record["command"],
        facts=[
            ("images", str(len(pictures))),
            ("loss at the end", f"{last['loss']:.4f}"),
            ("spread of the embeddings", f"{last['spread']:.2f} (1 = all over the sphere, 0 = one point)"),
            ("effective rank", f"{last['rank']:.1f}"),
            ("took", f"{run.seconds:.0f} s"),
        ],
        galleries=[],
        figures=[Panel("views", embedded(views, "png"), None, "a picture in each row, then views of it as the network sees them")],
        tables=[],
        failures=run.failures,
        settings=to_toml(settings),
        warnings=warnings if last["spread"] < COLLAPSED else [],
        curves=embedded(plot, "png") if plot else None,
    )
    write_atomic(run.folder / "report.html", text)


def views_sheet(pictures: Pictures, preset: str, size: int, seed: int) -> NDArray[np.uint8]:
    """Some pictures, each with four pairs' views beside it, as one picture."""
    tiles = []
    shown = range(min(SHEET, len(pictures)))
    batches = [view_batches(Pictures([pictures.paths[i] for i in shown], pictures.read), preset, size, len(shown), seed + k) for k in range(4)]
    for i in shown:
        tiles.append(np.asarray(cv2.resize(pictures[i], (size, size), interpolation=cv2.INTER_AREA)))
        for k in range(4):
            order = np.random.default_rng([seed + k, 61, 0]).permutation(len(shown)).tolist()
            batch = batches[k](0)
            for key in ("a", "b"):
                x = batch[key][order.index(i)].numpy().transpose(1, 2, 0)
                tiles.append(np.clip((x * IMAGENET_SD + IMAGENET_MEAN) * 255, 0, 255).astype(np.uint8))
    return sheet(tiles, columns=9)
