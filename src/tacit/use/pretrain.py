"""`tacit pretrain`: features learnt from unlabelled pictures and slides by pairs of views, by one process or many; no label takes part unless asked for.

find → look (read all, failures) → learn → keep → report; of several processes the first one writes OUT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacit.cases import Cases
from tacit.config import build, chosen_settings
from tacit.errors import OutputError, UsageError
from tacit.learn.phantom_byol import PhantomByol, PhantomByolConfig
from tacit.learn.pretraining import METHODS, PRESETS, view_batches, views_of
from tacit.learn.sources import TilesConfig
from tacit.learn.workshop import Workshop
from tacit.parts.backbone import is_known
from tacit.parts.processes import agreed, alike, here, is_first, loss_named, size, together
from tacit.parts.train import Batch
from tacit.prepare.local_views import LocalViewConfig
from tacit.read.folder import named_files
from tacit.report.track import Bar
from tacit.report.tracked import check_trackers
from tacit.run import Run, command_line, joined_run, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.pretrain_input import digest, find_input, look, unpacked
from tacit.use.pretrain_select import MARK, SelectConfig, Selection, said
from tacit.use.report_pretrain import keep_model, write_report
from tacit.use.taught import taught
from tacit.use.tracking import curves_of, tracked

OWN_NETWORK = {  # methods that learn no timm network, and what changes theirs
    "local-discrimination": "--set network.width=64 is as published",
    "phantom-byol": "the encoder that drawings taught",
}


@dataclass(frozen=True)
class PretrainResult:
    """What a run came to; spread and rank are those of the last batches' embeddings."""

    folder: Path
    images: int  # pictures
    failed: int
    loss: float
    spread: float
    rank: float
    backbone: str  # timm's name
    slides: int = 0
    selection: str = ""  # which checkpoint labelled pairs chose, in words; "" where no label took part
    warnings: tuple[str, ...] = ()
    method: str = "byol"

    @property
    def following(self) -> str:
        """The next useful command: what takes the features as they are."""
        if is_known(self.backbone):
            weights = self.folder / "model" / "encoder.safetensors"
            return f"tacit segment FOLDER -o OUT --method mssg --set network.encoder={self.backbone} --set network.weights={weights}"
        if self.method == "local-discrimination":
            return f"tacit segment FOLDER -o OUT --method clusters --model {self.folder}"
        return f"tacit index FOLDER -o INDEX --model {self.folder}"


def pretrain(
    source: str | Path | Cases,
    out: str | Path,
    *,
    method: str = "byol",
    preset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    mpp: float | None = None,
    select: str | Path | None = None,
    root: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    track: list[str] | None = None,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> PretrainResult:
    """Learns features on pictures and slides: model/ (all weights) and model/encoder.safetensors (the backbone alone).

    source: what INPUT is on the command line, or `Cases` · method: byol, simclr, simsiam, moco, vae-byol, densecl, pixpro, local-discrimination or phantom-byol ·
    preset: for byol: byol, report or histology · backbone: any timm name · weights: FILE.safetensors or hub:NAME to start from ·
    mpp: µm per pixel of slides that do not state it, for phantom-byol of pictures too · select: a CSV a,b,label of labelled pairs (names below `root`, else beside the CSV) that chooses the checkpoint — only then labels take part.
    Started by torchrun it learns with all its processes. Raises TacitError; what cannot be read is a row of failures.csv.
    """
    asked, device = device, prepare_device(device, threads)
    with together(device):
        with agreed():
            check_trackers(track or [])
            chosen = chosen_settings(config, set, "pretrain")
            of_tiles, looks = chosen.pop("tiles", {}), build(SelectConfig, chosen.pop("select", {}))
            c = _settings(method, preset, backbone, weights, chosen)
            tiles, wanted_um = build(TilesConfig, _tiles_for(c), of_tiles), c.encoder.um_per_px if isinstance(c, PhantomByolConfig) else None
            _check(seed, mpp, select, root, c)
            found = find_input(source)
        name = f"{len(source)} cases" if isinstance(source, Cases) else source
        options = {"input": str(name), "method": method, "preset": preset, "seed": seed, "mpp": mpp, "select": str(select) if select else None}
        settings = {"pretrain": options, "tiles": plain(tiles), **({"select": plain(looks)} if select else {}), **plain(c)}
        command = command_line(
            "pretrain", name, out, pretrain.__kwdefaults__, method=method, preset=preset, backbone=backbone, weights=weights, mpp=mpp, select=select,
            root=root, seed=seed, device=asked, threads=threads, track=track, config=config, set=set,
        )  # fmt: skip
        reads = chain((p for _, p in source) if isinstance(source, Cases) else named_files(source), [config, c.backbone.weights, select, root])
        with (
            _shared_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run,
            tracked(run, track, "pretrain", settings),
        ):
            cases = _agreed_on(found, source, run)
            if not run.finished_before:
                run.record |= {"seed": seed, "device": device, "threads": threads, "processes": size(), "uses_labels": False}
                with agreed():  # what can be wrong with choices is said before thousands of pictures are read
                    torch.manual_seed(1000 * seed + 7)
                    network, views = METHODS[method](c), views_of(c)
                    if isinstance(network, PhantomByol):
                        network.begin(taught("phantom", c.encoder))
                    chooser = Selection(select, root, c, _own(device)) if select and is_first() else None
                    if chooser:
                        chooser.begin(run)
                with agreed():
                    learnt_from, counts = look(cases, tiles, mpp, run, wanted_um)
                    batches = view_batches(learnt_from, views, c.train.batch, seed)
                run.record |= {"images": counts["pictures"], "slides": counts["slides"], "tiles": counts["tiles"]}
                if counts["unknown_spacing"]:
                    _warn(
                        run,
                        f"{counts['unknown_spacing']} pictures do not state their µm per pixel and were taken as they are, as if at {wanted_um:g}; give --mpp",
                    )
                shop = Workshop(seed, device, run.folder / "checkpoints", curves_of(run), run.say)
                if isinstance(network, PhantomByol):
                    batches = network.with_drawings(batches, shop)
                _learn(method, network, batches, len(learnt_from), shop, chooser, looks, run)
                if isinstance(network, PhantomByol):
                    network.standardise(learnt_from, seed)
                if is_first():
                    keep_model(run, method, network, seed, tiles)
                    write_report(run, learnt_from, c, tiles, settings, seed)
            last, record = run.record["last"], run.record
            return PretrainResult(
                Path(out),
                record["images"],
                len(run.failures),
                last["loss"],
                last["spread"],
                last["rank"],
                c.backbone.name,
                record.get("slides", 0),
                said(record),
                tuple(record.get("warnings", ())),
                method,
            )


def _settings(method: str, preset: str | None, backbone: str | None, weights: str | None, chosen: dict[str, Any]) -> Any:
    if method not in METHODS:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(METHODS)}")
    known = PRESETS.get(method, {})
    if preset is not None and preset not in known:
        raise UsageError(f"--preset {preset!r} is unknown for {method}; known are {', '.join(known) or 'none'}")
    named = {k: v for k, v in (("name", backbone), ("weights", weights)) if v is not None}
    if named and method in OWN_NETWORK:
        raise UsageError(f"--backbone and --weights are for timm's networks; {method} has its own, {OWN_NETWORK[method]}")
    inner = {"byol": {"backbone": named}} if method == "vae-byol" else {"backbone": named}
    return build(METHODS[method].Config, known.get(preset or "", {}), inner if named else {}, chosen)


def _tiles_for(c: Any) -> dict[str, Any]:
    """What the tiles of slides are where the user does not say."""
    return {"um_per_px": c.encoder.um_per_px, "size": round(c.size * c.views.spot)} if isinstance(c, PhantomByolConfig) else {}


def _check(seed: int, mpp: float | None, select: str | Path | None, root: str | Path | None, c: Any) -> None:
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a seed from 0")
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise UsageError(f"--mpp {mpp}: expected micrometres per pixel between 0.01 and 100, for example 0.25 for a 40x scan")
    if root is not None and select is None:
        raise UsageError(f"--root {root} is where the pictures of --select lie; give --select PAIRS.csv too, or leave it out")
    if c.train.batch < 2:
        raise UsageError("train.batch=1: batch norm and contrast need at least two pictures a batch")
    if isinstance(c.views, LocalViewConfig) and c.train.batch // size() % 2:
        raise UsageError(f"train.batch={c.train.batch}: local discrimination mixes pictures two by two; give each process an even number")


@contextmanager
def _shared_run(out: str | Path, **how: Any) -> Iterator[Run]:
    """OUT, opened by the first process and read by the others."""
    with ExitStack() as stack:
        with agreed():
            run = stack.enter_context(open_run(out, **how)) if is_first() else None
        stack.enter_context(loss_named())  # before the run writes down why it stopped
        yield run if run is not None else joined_run(out)


def _agreed_on(found: Cases | None, source: str | Path | Cases, run: Run) -> Cases:
    """What INPUT names, the same for every process and the same as when the run began; a zip is unpacked by the first process."""
    with agreed():
        if is_first():
            found = found or unpacked(source, run.folder / "input")
            with Bar("hashing") as bar:
                run.check_same(found.hashes(bar.advance, digest), "the cases" if isinstance(source, Cases) else source)
    with agreed():
        found = found or find_input(run.folder / "input" / Path(str(source)).stem)
        if found is None or not alike(int(Cases.fingerprint({name: path.name for name, path in found}), 16) >> 4):
            raise OutputError("the processes see other files in INPUT; INPUT and OUT must lie on storage that all of them see")
    return found


def _warn(run: Run, line: str) -> None:
    run.record["warnings"] = [*run.record.get("warnings", []), line]
    run.say(line)


def _own(device: str) -> str:
    """This process's GPU."""
    return f"cuda:{here()[0]}" if device == "cuda" and size() > 1 else device


def _learn(
    method: str, network: Any, batches: Callable[[int], Batch], items: int, shop: Workshop, chooser: Selection | None, looks: SelectConfig, run: Run
) -> None:
    """Trains, and keeps what the last steps came to and which checkpoint labelled pairs chose. items: of an epoch."""
    train = network.config.train
    if "steps" not in train.model_fields_set:  # an epoch is one pass over the pictures
        train = train.model_copy(update={"steps": max(items // train.batch, 1)})
    judge = chooser.judge if chooser else None
    shop.train(method, network, batches, train, seed=shop.seed, best_by=judge, every=looks.every or None, judged=f"pair accuracy ({MARK})")
    seen = shop.curves.stages().get(method, {})
    run.record["last"] = {name: float(np.mean([v for _, v in seen[name][-5:]])) if name in seen else float("nan") for name in ("loss", "spread", "rank")}
    if chooser:
        chooser.keep(run, network, shop.chosen[method], train.steps)
