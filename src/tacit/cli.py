"""The command line: parses, calls, prints. No logic; every verb has a function of the same name and defaults in Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

from tacit.errors import INTERRUPTED, SOME_FAILED, TacitError, UsageError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tacit learns from medical images that nobody has labelled. Research use only, not a medical device.",
)

Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for the results; must be empty or new.")]
Seed = Annotated[int, typer.Option(help="Every random draw follows from it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N or auto.")]
Threads = Annotated[int, typer.Option(help="Threads of torch and OpenCV; more than one pays only on an idle machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Finish the interrupted run in OUT.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the earlier run in OUT.")]
ConfigFile = Annotated[Optional[Path], typer.Option("--config", help="TOML file of settings.")]  # noqa: UP045
Setting = Annotated[Optional[list[str]], typer.Option("--set", help="One setting, e.g. train.epochs=5; may be repeated.")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from tacit import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def segment(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A picture, folder, glob, zip, or CSV/Parquet list.")],
    out: Out,
    method: Annotated[str, typer.Option(help="phantom, mssg, mssg-paper or haematoxylin.")] = "phantom",
    model: Annotated[Optional[Path], typer.Option(help="Apply what this earlier run learnt; learn nothing.")] = None,  # noqa: UP045
    budget: Annotated[str, typer.Option(help="full, or fast: under five minutes on one core.")] = "full",
    phantom: Annotated[str, typer.Option(help="What is drawn to learn from: tissue, or your own .py file.")] = "tissue",
    classes: Annotated[str, typer.Option(help="Name of what is segmented, in tables and GeoJSON.")] = "gland",
    mpp: Annotated[Optional[float], typer.Option(help="Micrometres per pixel of images that do not state it; else estimated.")] = None,  # noqa: UP045
    learn_from: Annotated[int, typer.Option(help="Learn from at most this many images.")] = 400,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set_: Setting = None,
) -> None:
    """Learn on INPUT without labels and write its masks; or apply an earlier run with --model."""
    from tacit.use.segment import segment as run

    result = run(
        source,
        out,
        method=method,
        model=model,
        budget=budget,
        phantom=phantom,
        classes=classes,
        mpp=mpp,
        learn_from=learn_from,
        seed=seed,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        config=config,
        set=set_,
    )
    print(f"{result.images} images segmented, {result.failed} failed; {result.mpp:.4g} µm per px ({result.mpp_source})")
    _close(out, result.failed, f"tacit evaluate {out / 'masks'} TRUTH --task segment" if model else f"tacit segment NEW -o OUT --model {out}")


@app.command()
def evaluate(
    predicted: Annotated[Path, typer.Argument(metavar="MASKS", help="Folder of label maps, e.g. OUT/masks.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH", help="Folder of true masks of the same names.")],
    task: Annotated[str, typer.Option(help="segment.")] = "segment",
    as_json: Json = False,
) -> None:
    """Score masks against truth: mIoU, Dice, the GlaS contest's object figures, with intervals over patients."""
    from tacit.use.evaluate import evaluate as run

    result = run(predicted, truth, task=task)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print(f"{result['images']} images, 95% intervals over {result['over']}")
        for name, value in result["figures"].items():
            low_high = result["interval"].get(name)
            print(f"  {name:<30} {value:.3f}" + (f"   [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else ""))
        for label, values in result["by_class"].items():
            print(f"  {label:<30} miou {values['miou']:.3f}   object_f1 {values['object_f1']:.3f}   ({values['images']} images)")
        if result["truth_without_mask"]:
            print(f"  {result['truth_without_mask']} true masks have no prediction and do not count", file=sys.stderr)
        for name in result["missing"]:
            print(f"  no truth for {name}", file=sys.stderr)
        for row in result["failures"]:
            print(f"  {row['file']}: {row['reason']}", file=sys.stderr)
    if result["failures"] or result["missing"]:
        raise typer.Exit(SOME_FAILED)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="OUT folders of runs on the same data.")],
    as_json: Json = False,
) -> None:
    """Put runs into one table; refuses runs on different data."""
    from tacit.use.compare import compare as run
    from tacit.use.compare import printed

    rows = run(runs)
    print(json.dumps(rows, indent=1) if as_json else printed(rows))


@app.command()
def pretrain(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A folder of pictures, a glob, zip, list or manifest.")],
    out: Out,
    method: Annotated[str, typer.Option(help="byol, simclr, simsiam, moco or vae-byol.")] = "byol",
    preset: Annotated[Optional[str], typer.Option(help="For byol: byol, report or histology.")] = None,  # noqa: UP045
    backbone: Annotated[Optional[str], typer.Option(help="Any timm name, e.g. resnext50_32x4d.")] = None,  # noqa: UP045
    weights: Annotated[Optional[str], typer.Option(help="FILE.safetensors or hub:NAME to start from; else random.")] = None,  # noqa: UP045
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set_: Setting = None,
) -> None:
    """Learn features from unlabelled pictures by pairs of views; no label takes part."""
    from tacit.use.pretrain import pretrain as run

    result = run(
        source,
        out,
        method=method,
        preset=preset,
        backbone=backbone,
        weights=weights,
        seed=seed,
        device=device,
        threads=threads,
        resume=resume,
        overwrite=overwrite,
        config=config,
        set=set_,
    )
    print(f"{result.images} images, loss {result.loss:.4f}, spread of the embeddings {result.spread:.2f}, effective rank {result.rank:.1f}")
    weights_file = out / "model" / "encoder.safetensors"
    _close(out, result.failed, f"tacit segment FOLDER -o OUT --method mssg --set network.encoder={result.backbone} --set network.weights={weights_file}")


@app.command()
def audit(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A folder of anything (pictures, DICOM, NIfTI, slides), a file or a zip.")],
    out: Out,
    labels: Annotated[Optional[Path], typer.Option(help="CSV case,class: classes of files, cases, series or patients.")] = None,  # noqa: UP045
    near: Annotated[int, typer.Option(help="Bits (of 64) by which the hashes of near twins may differ.")] = 5,
    keep_identifiers: Annotated[bool, typer.Option("--keep-identifiers", help="Write patients and series as they are, not as pseudonyms.")] = False,
    salt: Annotated[Optional[str], typer.Option(help="Makes pseudonyms repeatable; keep it secret.")] = None,  # noqa: UP045
    seed: Seed = 0,
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Say what is in a folder and what is wrong with it, and write a clean manifest. Nothing is deleted or changed in place."""
    from tacit.use.audit import audit as run

    result = run(source, out, labels=labels, near=near, keep_identifiers=keep_identifiers, salt=salt, seed=seed, threads=threads, overwrite=overwrite)
    print(f"{result.files} files, {result.kept} kept, {result.series} series, {result.near_pairs} pairs of near twins, {result.failed} failed")
    for reason, count in result.reasons.items():
        print(f"  {count:>6}  {reason}")
    for line in result.warnings:
        print(line, file=sys.stderr)
    verb = "segment" if result.pictures else "lungs"
    _close(out, result.failed, f"tacit {verb} {out / 'manifest.csv'} -o OUT")


@app.command()
def lungs(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A CT volume, a folder of volumes or DICOM trees, a zip, or an audit's manifest.")],
    out: Out,
    gaps: Annotated[str, typer.Option(help="Series with missing or uneven slices: refuse, tolerate or interpolate.")] = "refuse",
    learn: Annotated[bool, typer.Option("--learn", help="Learn a U-Net on INPUT first, from morphology's masks or --masks.")] = False,
    masks: Annotated[Optional[Path], typer.Option(help="Masks of your own to learn from: NIfTI files of the volumes' names.")] = None,  # noqa: UP045
    model: Annotated[Optional[Path], typer.Option(help="Apply the U-Net that this earlier run learnt.")] = None,  # noqa: UP045
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    resume: Resume = False,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set_: Setting = None,
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
        config=config,
        set=set_,
    )
    for name, litres in result.litres.items():
        print(f"{name:<32} {litres:.2f} L")
    for line in result.warnings:
        print(line, file=sys.stderr)
    _close(out, result.failed, f"tacit prepare {source} -o OUT --steps covnet")


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Pictures or volumes: a file, folder, glob, zip, list or manifest.")],
    out: Out,
    steps: Annotated[str, typer.Option(help="A recipe, e.g. canonical,spacing=1,window=-500:1500,he+clahe; see docs/prepare.md.")],
    target: Annotated[Optional[Path], typer.Option(help="Whose colours reinhard and macenko bring to; else INPUT's own.")] = None,  # noqa: UP045
    mpp: Annotated[Optional[float], typer.Option(help="Micrometres per pixel of pictures that do not state it.")] = None,  # noqa: UP045
    gaps: Annotated[str, typer.Option(help="Series with missing or uneven slices: refuse, tolerate or interpolate.")] = "refuse",
    threads: Threads = 1,
    overwrite: Overwrite = False,
) -> None:
    """Write images after a recipe of steps: window, contrast, stains, spacing, lungs … Each keeps the history of what was done."""
    from tacit.use.prepare import prepare_images as run

    result = run(source, out, steps=steps, target=target, mpp=mpp, gaps=gaps, threads=threads, overwrite=overwrite)  # type: ignore[arg-type]
    print(f"{result.written} images written, {result.failed} failed; what was done: {out / 'tables' / 'prepared.csv'}")
    _close(out, result.failed, f"tacit audit {out / 'images'} -o OUT", report=False)


def _close(out: Path, failed: int, following: str, report: bool = True) -> None:
    """The last lines of a verb, and the exit code when some items failed."""
    if report:
        print(f"report: {out / 'report.html'}")
    if failed:
        print(f"what failed and why: {out / 'failures.csv'}")
    print(f"next: {following}")
    if failed:
        raise typer.Exit(SOME_FAILED)


@app.command()
def phantom(
    name: Annotated[str, typer.Argument(help="tissue, or your own .py file.")],
    out: Out,
    count: Annotated[int, typer.Option("-n", help="Pictures to draw.")] = 16,
    mpp: Annotated[float, typer.Option(help="Micrometres per pixel to draw at.")] = 1.0,
    height: Annotated[int, typer.Option(help="px")] = 400,
    width: Annotated[int, typer.Option(help="px")] = 560,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: ConfigFile = None,
    set_: Setting = None,
) -> None:
    """Draw pictures with exact truth: images, masks, their parameters, and one sheet to look at."""
    from tacit.use.draw import draw_sheet

    sheet = draw_sheet(name, out, count=count, mpp=mpp, shape=(height, width), seed=seed, overwrite=overwrite, config=config, set=set_)
    print(f"sheet: {sheet}")
    print(f"next: tacit segment {out / 'images'} -o OUT --mpp {mpp}")


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An image, a folder of images, or the OUT of a run.")],
    as_json: Json = False,
) -> None:
    """Say what a file, a folder or a run is."""
    from tacit.use.info import describe

    _print_table(describe(path), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation and say what this machine can do."""
    from tacit.use.info import health

    rows, healthy = health()
    _print_table(rows, as_json)
    if not healthy:
        raise typer.Exit(5)


def _print_table(rows: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1, default=str))
    else:
        for key, value in rows.items():
            print(f"{key:<22} {value}")


def run() -> NoReturn:
    """The console script: runs a verb, prints one line for an error, returns the exit code of the tree in `errors`."""
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except TacitError as error:
        _stop(error, error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        print("tacit: interrupted; what was finished is saved, repeat the command with --resume", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except MemoryError as error:
        _stop(error, 1, debug, "out of memory; use smaller images or a machine with more")
    except OSError as error:
        _stop(error, 1, debug)
    except Exception as error:  # noqa: BLE001 - the last door: one line for a person, the traceback with --debug
        if type(error).__module__.startswith(("click", "typer")):
            said = error.format_message() if hasattr(error, "format_message") else str(error)
            _stop(error, UsageError.exit_code, debug, said)
        _stop(error, 1, debug, f"unexpected {type(error).__name__}: {error} (run `tacit --debug …` for the traceback)")
    sys.exit(code if isinstance(code, int) else 0)


def _stop(error: BaseException, code: int, debug: bool, message: str | None = None) -> NoReturn:
    if debug:
        raise error
    print(f"tacit: {' '.join((message or str(error)).split())}", file=sys.stderr)
    sys.exit(code)
