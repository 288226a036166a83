"""`tacit locate`: the points marked on one picture, found on every other; and which picture should be marked.

find → look (read all, failures, thumbnails) → fit on the template and typical pictures → locate one by one → points.csv, report
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tacit.cases import Cases
from tacit.config import build, chosen_settings
from tacit.errors import InputError, ReadError, UsageError
from tacit.files import write_atomic
from tacit.image import Image
from tacit.interrupt import HeldInterrupt
from tacit.learn.located import Located, Picture
from tacit.learn.locators import LOCATORS, NoSettings
from tacit.learn.many_paths import ManyPathsConfig, disagreement, thumbnail, typical
from tacit.learn.structures import STRUCTURES
from tacit.learn.workshop import Workshop
from tacit.read.folder import find_cases, named_files
from tacit.read.picture import read_picture
from tacit.read.points import points_of, read_points
from tacit.report.picture import jpeg, shrunk
from tacit.report.track import Bar
from tacit.report.tracked import check_trackers
from tacit.run import Run, as_csv, command_line, open_run, plain
from tacit.use.device import prepare_device
from tacit.use.model import save_model
from tacit.use.report_locate import write_report
from tacit.use.seen_by import planes_for
from tacit.use.tracking import curves_of, tracked

ANSWERS = ("image", "point", "row", "col", "row_mm", "col_mm", "confidence")
MOST_SEEN = 400  # pictures, drawn by the seed, among which typical ones are sought
CANDIDATES = 16  # of the most typical pictures that `suggest_template` compares


@dataclass(frozen=True)
class LocateResult:
    """points: a dict an answer: image, point, row, col (px), row_mm, col_mm (None where no spacing is known), confidence (0–1)."""

    folder: Path
    images: int
    failed: int
    points: list[dict[str, Any]]


def locate(
    source: str | Path,
    out: str | Path,
    *,
    template: str | Path,
    points: str | Path,
    method: str = "paths",
    model: str | Path | None = None,
    phantom: str | None = None,
    spacing_mm: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    track: list[str] | None = None,
    config: str | Path | None = None,
    set: list[str] | None = None,
) -> LocateResult:
    """Finds on every picture of `source` the points that the CSV `points` marks on the picture `template`; same names and defaults as the command line.

    method: paths (registration along many ways), embedding (a run's features, needs model), template-matching, copy · model: a run whose features, or
    whose structure, pictures are registered by as well · phantom: teach that structure first, chest for one · spacing_mm: mm per px of pictures
    that do not state it. Raises TacitError; one picture's failure is a row of failures.csv.
    """
    check_trackers(track or [])
    chosen = chosen_settings(config, set, "locate")
    settings_of = _checked(method, model, phantom, spacing_mm, seed, chosen)
    marked = _marked(Path(template), Path(points))
    options = {"input": str(source), "template": str(template), "points": str(points), "method": method, "model": str(model) if model else None}
    settings = {"locate": options | {"phantom": phantom, "spacing_mm": spacing_mm, "seed": seed}, **plain(settings_of)}
    command = command_line(
        "locate", source, out, locate.__kwdefaults__, template=template, points=points, method=method, model=model,
        phantom=phantom, spacing_mm=spacing_mm, seed=seed, device=device, threads=threads, track=track, config=config, set=set,
    )  # fmt: skip
    device = prepare_device(device, threads)
    found = None if Path(source).suffix.lower() == ".zip" else find_cases(source)
    reads = chain(named_files(source), [template, points, model, config])
    with open_run(out, command=command, settings=settings, reads=reads, resume=resume, overwrite=overwrite) as run, tracked(run, track, "locate", settings):
        cases = found if found is not None else find_cases(source, unpack_to=run.folder / "input")
        with Bar("hashing") as bar:
            run.check_same(cases.hashes(bar.advance), source)
        if not run.finished_before:
            shown = _shown(cases)
            own = next((name for path, name in shown.items() if path.resolve() == Path(template).resolve()), Path(template).name)
            run.record |= {"seed": seed, "device": device, "threads": threads, "images": len(cases), "template": own, "points": list(marked)}
            good, others = _typical(cases, run.fail, seed)
            picture = _picture(Path(template)).pixels
            taught = partial(_taught, phantom, others, run)
            planes = planes_for(method, model, phantom, picture, taught, getattr(settings_of, "side", 0), device)
            locator = _locator(method, settings_of, planes)
            locator.fit(picture, np.array(list(marked.values())), [_picture(p).pixels for p in others if p.resolve() != Path(template).resolve()])
            run.record["ok"] = _locate_all(good, locator, marked, Path(template), shown, spacing_mm, run)
            rows = _rows(run)
            write_atomic(run.folder / "points.csv", as_csv(ANSWERS, [tuple("" if row[c] is None else row[c] for c in ANSWERS) for row in rows]))
            write_report(run, settings, Path(template), marked)
        return LocateResult(Path(out), run.record["ok"], len(run.failures), _read_answers(run.folder / "points.csv"))


def suggest_template(
    source: str | Path, *, seed: int = 0, threads: int = 1, config: str | Path | None = None, set: list[str] | None = None
) -> list[tuple[Path, float]]:
    """Pictures of `source`, the best one to mark first: (path, how far ways that start at it end apart, % of the diagonal).

    Of the most typical pictures; no mark and no label takes part. Raises InputError where fewer than three can be used.
    """
    return suggested(source, seed=seed, threads=threads, config=config, set=set)[0]


def suggested(
    source: str | Path, *, seed: int = 0, threads: int = 1, config: str | Path | None = None, set: list[str] | None = None
) -> tuple[list[tuple[Path, float]], list[ReadError]]:
    """What `suggest_template` gives, and the pictures that cannot be used, each with its reason."""
    c = build(ManyPathsConfig, chosen_settings(config, set, "locate"))
    prepare_device("cpu", threads)
    cases = find_cases(source)
    failed: list[ReadError] = []
    _, others = _typical(cases, lambda _, error: failed.append(error), seed)
    chosen = others[:CANDIDATES]
    if len(chosen) < 3:
        raise InputError(
            f"--suggest-template compares pictures with each other; {source} holds {len(chosen)} that can be used, at least three are needed{_first(failed)}"
        )
    apart = 100 * disagreement([_picture(p).pixels for p in chosen], c) / (np.sqrt(2) * c.side)
    return [(chosen[i], float(apart[i])) for i in np.argsort(apart, kind="stable")], failed


def _checked(method: str, model: object, phantom: str | None, spacing_mm: float | None, seed: int, chosen: dict[str, Any]) -> Any:
    """The method's settings. Raises UsageError."""
    if method not in LOCATORS:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(LOCATORS)}")
    if method == "embedding" and model is None:
        raise UsageError("--method embedding compares learnt features; give --model RUN, the OUT of tacit pretrain (--method local-discrimination)")
    if model is not None and phantom is not None:
        raise UsageError("--model and --phantom both say what pictures are registered by; give one")
    if (model is not None and method not in ("paths", "embedding")) or (phantom is not None and method != "paths"):
        raise UsageError(f"--method {method} uses neither --model nor --phantom; leave them out, or use --method paths")
    known = [name.removeprefix("phantom-") for name in STRUCTURES if name.startswith("phantom-")]
    if phantom is not None and phantom not in known:
        raise UsageError(f"--phantom {phantom!r} gives nothing that pictures could be registered by; known are {', '.join(known)}")
    if spacing_mm is not None and not 1e-5 <= spacing_mm <= 100:
        raise UsageError(f"--spacing-mm {spacing_mm}: expected millimetres per pixel between 0.00001 and 100, for example 0.7")
    if seed < 0:
        raise UsageError(f"--seed {seed}: expected a seed from 0")
    return build(getattr(LOCATORS[method], "Config", NoSettings), chosen)


def _marked(template: Path, points: Path) -> dict[str, tuple[float, float]]:
    """The template's points by name. Raises InputError where it has none, or one lies outside it."""
    places = read_points(points)
    found = points_of(places, template)
    if found is None:
        raise InputError(f"{points} marks no point on {template.name}; it names {', '.join(list(places)[:3])}{' …' if len(places) > 3 else ''}")
    h, w = _picture(template).shape
    for name, (row, col) in found.items():
        if not (-0.5 <= row <= h - 0.5 and -0.5 <= col <= w - 0.5):
            raise InputError(
                f"{points}: point {name!r} lies at row {row:g}, col {col:g}, outside {template.name} of {h} × {w} px; row counts down, col to the right"
            )
    return found


def _picture(path: Path) -> Image:
    """Raises ReadError also where it is one grey value all over."""
    image = read_picture(path)
    if image.pixels.min() == image.pixels.max():
        raise ReadError(path, f"every pixel is {image.pixels.flat[0]}: there is nothing to find", "check the file")
    return image


def _readable(cases: Cases, fail: Callable[[Path, ReadError], None]) -> Iterator[tuple[int, Path, Picture | None]]:
    with Bar("reading") as bar:
        for index, (_, path) in enumerate(cases):
            try:
                yield index, path, _picture(path).pixels
            except ReadError as error:
                fail(path, error)
                yield index, path, None
            bar.advance(index + 1, len(cases))


def _first(failed: list[ReadError]) -> str:
    return f"; the first of {len(failed)} that cannot: {failed[0].path}: {failed[0].reason}" if failed else ""


def _typical(cases: Cases, fail: Callable[[Path, ReadError], None], seed: int) -> tuple[Cases, list[Path]]:
    """The pictures that can be read, and of a seeded draw of them the most typical first. Raises InputError where there is none."""
    drawn = np.random.default_rng([seed, 21]).permutation(len(cases))[:MOST_SEEN].tolist()
    readable, small, paths = [], [], []
    failed: list[ReadError] = []

    def told(path: Path, error: ReadError) -> None:
        failed.append(error)
        fail(path, error)

    for index, path, picture in _readable(cases, told):
        readable.append(picture is not None)
        if picture is not None and index in drawn:
            small.append(thumbnail(picture))
            paths.append(path)
    if not any(readable):
        raise InputError(f"none of the {len(cases)} images can be used{_first(failed)}")
    order = typical(np.stack(small)) if small else np.zeros(0, np.int64)
    return cases.where(readable), [paths[i] for i in order]


def _locator(method: str, settings: Any, planes: Any) -> Any:
    kind = LOCATORS[method]
    if method == "embedding":
        return kind(planes, settings)
    if method == "paths":
        return kind(settings, planes)
    return kind(settings) if hasattr(kind, "Config") else kind()


def _taught(phantom: str | None, paths: list[Path], run: Run) -> Any:
    """The network that drawings of `phantom` teach, adapted to the pictures; kept in model/."""
    network = STRUCTURES[f"phantom-{phantom}"]()
    network.to(run.record["device"])
    shop = Workshop(run.record["seed"], run.record["device"], run.folder / "checkpoints", curves_of(run), run.say)
    network.fit([network.working(_picture(p).pixels) for p in paths], shop)
    save_model(run.folder / "model", f"phantom-{phantom}", network, {"images": len(paths), "seed": run.record["seed"], "data": run.record["data"]})
    return network


def _locate_all(
    cases: Cases, locator: Any, marked: dict[str, tuple[float, float]], template: Path, shown: dict[Path, str], spacing_mm: float | None, run: Run
) -> int:
    """Writes an item a picture, of the template its marks; skips those that are there. Returns how many are written."""
    done = 0
    with Bar("locating") as bar, HeldInterrupt() as interrupt:
        for index, (name, path) in enumerate(cases):
            item = run.folder / "items" / f"{name}.json"
            if not item.exists():
                try:
                    image = _picture(path)
                    write_atomic(run.folder / "items" / f"{name}.jpg", jpeg(shrunk(image.pixels)))
                    own = path.resolve() == template.resolve()
                    found = _as_marked(marked) if own else locator.locate(image.pixels)
                    rows = _answer(shown[path], image, found, list(marked), spacing_mm)
                    write_atomic(item, json.dumps({"name": name, "rows": rows, "shape": image.shape, "marked": own}))
                except ReadError as error:
                    run.fail(path, error)
                    continue
            done += 1
            bar.advance(index + 1, len(cases))
            if interrupt.asked:
                raise KeyboardInterrupt
    return done


def _shown(cases: Cases) -> dict[Path, str]:
    """What each picture is called in points.csv: its file name; where others share it, its path below the folder that holds all pictures."""
    paths = [path for _, path in cases]
    below = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    often = Counter(path.name for path in paths)
    return {path: path.name if often[path.name] == 1 else path.absolute().relative_to(below).as_posix() for path in paths}


def _as_marked(marked: dict[str, tuple[float, float]]) -> Located:
    """The template's own points: they are known."""
    return Located(np.array(list(marked.values()), float), np.ones(len(marked)), np.zeros(len(marked)))


def _answer(shown: str, image: Image, found: Located, names: list[str], spacing_mm: float | None) -> list[dict[str, Any]]:
    mm: tuple[float, ...] | None = image.spacing_mm or ((spacing_mm, spacing_mm) if spacing_mm else None)
    rows = []
    for name, (row, col), sure in zip(names, found.points, found.confidence, strict=True):
        place: dict[str, float | None] = {"row": round(float(row), 2), "col": round(float(col), 2)}
        place |= {"row_mm": round(row * mm[0], 4), "col_mm": round(col * mm[1], 4)} if mm else {"row_mm": None, "col_mm": None}
        rows.append({"image": shown, "point": name, **place, "confidence": round(float(sure), 4)})
    return rows


def _rows(run: Run) -> list[dict[str, Any]]:
    return [row for item in sorted((run.folder / "items").glob("*.json")) for row in json.loads(item.read_text(encoding="utf-8"))["rows"]]


def _read_answers(path: Path) -> list[dict[str, Any]]:
    import csv

    with path.open(encoding="utf-8") as file:
        return [{k: v if k in ("image", "point") else float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]
