"""Verbs that learn from a folder, or apply what was learnt: segment, lungs, pretrain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tacit.cli.options import Assignments, ConfigFile, Device, GapsChoice, Out, Overwrite, Resume, Seed, Threads, Track
from tacit.cli.printing import close


def segment(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A picture, slide, folder, glob, zip, or CSV/Parquet list.")],
    out: Out,
    method: Annotated[str, typer.Option(help="phantom, mssg, mssg-paper, haematoxylin, shape-guided, clusters …")] = "phantom",
    model: Annotated[Path | None, typer.Option(help="Apply what this earlier run learnt; learn nothing (with --labels: start there).")] = None,
    labels: Annotated[Path | None, typer.Option(help="Uses labels: masks of some of the pictures teach, from --model's start or a random one.")] = None,
    budget: Annotated[str, typer.Option(help="full, or fast: under five minutes on one core.")] = "full",
    phantom: Annotated[
        str, typer.Option(help="What is drawn to learn from: tissue (glands), fundus (vessels), chest (lungs), or your own .py file.")
    ] = "tissue",
    classes: Annotated[str | None, typer.Option(help="Name of what is segmented; of a chest which of lungs,heart,clavicles.")] = None,
    shape_prior: Annotated[str | None, typer.Option(help="Shapes alone: a folder of masks of another modality, simulated:vessels or simulated:lungs.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of images that do not state it; else estimated.")] = None,
    learn_from: Annotated[int, typer.Option(help="Learn from at most this many images, or tiles of slides.")] = 400,
    workers: Annotated[int, typer.Option(help="Processes that share whole slides on this machine.")] = 1,
    shard: Annotated[str | None, typer.Option(help="Only part i of n of the slides, as i/n with i from 0; auto: as SLURM or torchrun says.")] = None,
    engine: Annotated[str, typer.Option(help="Who does whole slides: local, or ray on many machines.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; else Ray on this machine.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    config: ConfigFile = None,
    set: Assignments = None,
) -> None:
    """Learn on INPUT without labels and write its masks; or apply an earlier run with --model; or learn from --labels of a few pictures."""
    from tacit.use.segment import segment as run

    result = run(
        source,
        out,
        method=method,
        model=model,
        labels=labels,
        budget=budget,
        phantom=phantom,
        classes=classes,
        shape_prior=shape_prior,
        mpp=mpp,
        learn_from=learn_from,
        workers=workers,
        shard=shard,
        engine=engine,
        address=address,
        seed=seed,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        track=track,
        config=config,
        set=set,
    )
    spacing = "" if result.mpp is None else f"; {result.mpp:.4g} µm per px ({result.mpp_source})"
    print(f"{result.images} {'slides' if result.slides else 'images'} segmented, {result.failed} failed{spacing}")
    if result.slides:
        close(out, result.failed, f"tacit segment NEW -o OUT --model {model or out}")
        return
    task = "clusters" if method == "clusters" else "structures"
    judge = f"tacit evaluate {out} TRUTH --task {task}" if result.mpp is None else f"tacit evaluate {out / 'masks'} TRUTH --task segment"
    close(out, result.failed, judge if model and not labels and not shape_prior else f"tacit segment NEW -o OUT --model {out}")


def lungs(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A CT volume, a folder of volumes or DICOM trees, a zip, or an audit's manifest.")],
    out: Out,
    gaps: GapsChoice = "refuse",
    learn: Annotated[bool, typer.Option("--learn", help="Learn a U-Net on INPUT first, from morphology's masks or --masks.")] = False,
    masks: Annotated[Path | None, typer.Option(help="Masks of your own to learn from: NIfTI files of the volumes' names.")] = None,
    model: Annotated[Path | None, typer.Option(help="Apply the U-Net that this earlier run learnt.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    config: ConfigFile = None,
    set: Assignments = None,
) -> None:
    """Find the lungs of chest CTs: NIfTI masks (1 right, 2 left), litres, pictures."""
    from tacit.use.lungs import lungs as run

    result = run(
        source,
        out,
        gaps=gaps,  # type: ignore[arg-type]
        learn=learn,
        masks=masks,
        model=model,
        seed=seed,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        track=track,
        config=config,
        set=set,
    )
    for name, litres in result.litres.items():
        print(f"{name:<32} {litres:.2f} L")
    for line in result.warnings:
        print(line, file=sys.stderr)
    close(out, result.failed, f"tacit prepare {source} -o OUT --steps covnet")


def pretrain(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A folder of pictures and slides, a slide, a glob, zip, list or manifest.")],
    out: Out,
    method: Annotated[str, typer.Option(help="byol, simclr, simsiam, moco, vae-byol, densecl, pixpro, local-discrimination or phantom-byol.")] = "byol",
    preset: Annotated[str | None, typer.Option(help="For byol: byol, report or histology.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm name, e.g. resnext50_32x4d.")] = None,
    weights: Annotated[str | None, typer.Option(help="FILE.safetensors or hub:NAME to start from; else random.")] = None,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel of slides that do not state it, for phantom-byol of pictures too.")] = None,
    select: Annotated[Path | None, typer.Option(help="Uses labels: CSV a,b,label of pairs by which the checkpoint is chosen.")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the pictures that --select names; else the CSV's.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    track: Track = None,
    config: ConfigFile = None,
    set: Assignments = None,
) -> None:
    """Learn features from unlabelled pictures and slides by pairs of views; no label takes part unless --select asks for it."""
    from tacit.use.pretrain import pretrain as run

    result = run(
        source,
        out,
        method=method,
        preset=preset,
        backbone=backbone,
        weights=weights,
        mpp=mpp,
        select=select,
        root=root,
        seed=seed,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        track=track,
        config=config,
        set=set,
    )
    slides = f"{result.slides} slides, " if result.slides else ""
    print(f"{result.images} images, {slides}loss {result.loss:.4f}, spread of the embeddings {result.spread:.2f}, effective rank {result.rank:.1f}")
    if result.selection:
        print(result.selection)
    for line in result.warnings:
        print(line, file=sys.stderr)
    close(out, result.failed, result.following)
