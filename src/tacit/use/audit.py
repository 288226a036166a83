"""`tacit audit`: what is in a messy folder, what is wrong with it, and a clean manifest. Nothing is deleted or changed in place.

find files → look at each once → patients, labels, splits → near twins → shortcuts → tables, figures, report
"""

from __future__ import annotations

import glob
import hashlib
import re
import secrets
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tacit.errors import InputError, ReadError, UsageError
from tacit.files import sha256, write_atomic
from tacit.prepare.explore import ClassImages
from tacit.prepare.hashes import NAMES, as_hex
from tacit.prepare.similar import near_pairs
from tacit.read.dicom import read_headers
from tacit.read.folder import LIST_SUFFIXES, is_mask, is_pattern, named_files, read_grades, read_labels, read_list, unpack
from tacit.read.series import find_series
from tacit.read.tree import Tree, find_files, listed_files
from tacit.report.track import Bar
from tacit.run import Run, as_csv, command_line, open_run
from tacit.use.audit_items import Item, SeriesRow, look_at_pictures, look_at_series, look_at_slide, look_at_volume
from tacit.use.device import prepare_device
from tacit.use.report_audit import warnings_of, write_audit_report
from tacit.use.shortcuts import shortcuts_of

SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "testa": "test", "testb": "test", "val": "val", "validation": "val"}
LEAST_FOR_OUTLIERS, FAR = 20, 8.0  # pictures of a kind; robust SDs from the median beyond which one is named
FLAT = 1.0  # a picture with a smaller SD of grey levels has no hash to speak of
MANIFEST = ("path", "sha256", "kind", "patient", "series", "position", "spacing", "keep", "reason")
IMAGES = ("path", "kind", "patient", "label", "split", "height", "width", "grey_mean", "grey_sd", "contrast", *NAMES)
SERIES = ("series", "patient", "slices", "missing", "duplicate", "foreign", "shuffled", "spacing_mm", "spacing_uneven", "tilt_deg", "kind", "words")
PAIRS = ("a", "b", "distance", "same_class", "same_split")


@dataclass(frozen=True)
class AuditResult:
    """What an audit came to."""

    folder: Path
    files: int
    kept: int
    failed: int
    series: int
    near_pairs: int
    pictures: int  # of the kept
    reasons: dict[str, int]  # first word of the reason → files; "missing slices" → slices
    warnings: tuple[str, ...] = ()


def audit(
    source: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    near: int = 5,
    keep_identifiers: bool = False,
    salt: str | None = None,
    seed: int = 0,
    threads: int = 1,
    overwrite: bool = False,
) -> AuditResult:
    """Looks through a folder (or file, or zip) of pictures, DICOM, NIfTI, MetaImage and slides and writes what it finds to OUT.

    labels: CSV with a class for each file, patient or series (else the names of class folders) · near: Hamming distance of
    perception hashes up to which two pictures are near twins · salt: makes pseudonyms repeatable; else new ones each time.
    Raises TacitError; one file's failure is a row of failures.csv.
    """
    place = Path(source)
    if not 0 <= near <= 16:
        raise UsageError(f"--near {near}: expected a number of bits from 0 to 16")
    prepare_device("cpu", threads)
    settings = {"audit": {"input": str(source), "labels": str(labels) if labels else None, "near": near, "keep_identifiers": keep_identifiers, "seed": seed}}
    if not place.exists() and not is_pattern(source):
        raise InputError(f"{source} does not exist; INPUT is a folder, a file or a zip")
    options = {"labels": labels, "near": near, "keep_identifiers": keep_identifiers, "seed": seed, "threads": threads}  # the salt is in no record
    command = command_line("audit", source, out, audit.__kwdefaults__, **options)
    reads = chain(named_files(source), [labels])
    with open_run(out, command=command, settings=settings, reads=reads, overwrite=overwrite) as run:
        place = unpack(place, run.folder / "input") if place.suffix.lower() == ".zip" else place
        tree = _tree(place, run)
        classes = ClassImages()
        grouped = _Labels(place, labels)
        items, rows = _look(tree, run, grouped, classes)
        if not any(item.keep for item in items):
            raise InputError(_nothing(place, tree, run))
        if labels and not any(item.label for item in items):
            raise UsageError(
                f"--labels {labels} names none of the {len(items)} files, their folders, series or patients; its first names: {', '.join(list(grouped.table)[:3])}"
            )
        _hash_files(items)
        _repeated_files(items)
        _outliers(items)
        pairs = _twins(items, near)
        shortcuts = shortcuts_of(items, seed)
        _pseudonyms(items, rows, salt or secrets.token_hex(16), keep_identifiers)
        _write_tables(run, items, rows, pairs)
        result = _result(Path(out), run, items, rows, pairs)
        run.record |= {"files": result.files, "kept": result.kept, "series": result.series, "near_pairs": result.near_pairs, "reasons": result.reasons}
        write_audit_report(run, result, items, rows, pairs, classes, shortcuts, settings)
        return replace(result, warnings=tuple(warnings_of(rows, pairs, shortcuts)))


def _tree(place: Path, run: Run) -> Tree:
    if is_pattern(place):
        tree = listed_files(sorted(glob.glob(str(place), recursive=True)), Path())
    else:
        tree = listed_files(read_list(place)["path"], place.parent) if place.suffix.lower() in LIST_SUFFIXES else find_files(place)
    for problem in tree.problems:
        run.fail(problem.path, problem)
    return tree


def _nothing(place: Path, tree: Tree, run: Run) -> str:
    if run.failures:
        return f"nothing in {place} can be used; the first of {len(run.failures)} failures: {run.failures[0][0]}: {run.failures[0][1]}"
    return f"nothing in {place} is a picture, DICOM file, volume or slide ({len(tree.files)} other files)"


def _look(tree: Tree, run: Run, labels: _Labels, classes: ClassImages) -> tuple[list[Item], list[SeriesRow]]:
    """Every file once, pictures folder by folder, DICOM series by series."""
    items: list[Item] = []
    rows: list[SeriesRow] = []

    def see(path: str, grey: np.ndarray) -> None:
        label = labels.of_file(Path(path))
        if label:
            classes.add(label, grey)

    with Bar("looking") as bar:
        done, total = 0, len(tree.files)

        def took(found: list[Item], row: SeriesRow | None, files: int) -> None:
            nonlocal done
            items.extend(found)
            rows.extend([row] if row else [])
            done += files
            bar.advance(min(done, total), total)

        folders: dict[Path, list[Path]] = defaultdict(list)
        for path, kind in tree.files:
            if kind == "picture" and not is_mask(path, labels.place):
                folders[path.parent].append(path)
            elif kind in ("picture", "volume") and is_mask(path, labels.place):
                took([Item(path, "mask", keep=False, reason="an annotation, not an image")], None, 1)
            elif kind in ("table", "other", "zip", "empty"):
                words = {"table": "a table or text", "zip": "a zip inside the folder: unpack it", "empty": "an empty file (0 bytes)"}.get(
                    kind, "no image that is known here"
                )
                took([Item(path, kind, keep=False, reason=words)], None, 1)
                if kind == "empty":
                    run.fail(path, ReadError(path, "the file is empty (0 bytes)"))
        for files in folders.values():
            took(*look_at_pictures(files, see, run.fail), len(files))
        for path in (p for p in tree.of("volume") if not is_mask(p, labels.place)):
            took(*look_at_volume(path, see, run.fail), 1)
        for path in tree.of("slide"):
            took([look_at_slide(path, run.fail)], None, 1)
        slices, errors = read_headers(tree.of("dicom"), told=lambda read, _: bar.advance(done + read // 2, total))
        for error in errors:
            run.fail(error.path, error)
            took([Item(Path(str(error.path)), "dicom", keep=False, reason=error.reason)], None, 1)
        for series in find_series(slices) if slices else []:
            took(*look_at_series(series, see, run.fail), len(series.slices))
    labels.fill(items)
    return items, rows


class _Labels:
    """Class, patient and split of each item: from a table, from Grade.csv, or from the names of folders."""

    def __init__(self, place: Path, table: str | Path | None) -> None:
        self.place = place if place.is_dir() else place.parent
        listed = place if place.suffix.lower() in LIST_SUFFIXES else None
        self.list = {} if listed is None else _columns(listed)
        self.table = read_labels(Path(table)) if table else {n: row["label"] for n, row in self.list.items() if row["label"]}
        grades = read_grades(self.place) if self.place.is_dir() else None
        self.grades = {} if grades is None else {r["name"]: (r["patient"] or "", r["label"] or "") for _, r in grades.iterrows()}
        names = _folders(self.place)
        if any(n.lower() in SPLITS for n in names):  # train/COVID, test/normal …: the classes lie one level below
            names = sorted({n for split in names if split.lower() in SPLITS for n in _folders(self.place / split)})
        self.classes = set(names) if 2 <= len(names) <= 20 and not table else set()

    def of_file(self, path: Path) -> str:
        """The class of a file, "" where unknown."""
        for key in (path.name, path.stem, path.stem.removesuffix(".nii"), path.parent.name):
            if key in self.table:
                return self.table[key]
        if path.stem in self.grades:
            return self.grades[path.stem][1]
        parts = path.relative_to(self.place).parts[:-1] if path.is_relative_to(self.place) else ()
        first = next((p for p in parts if p.lower() not in SPLITS), "")
        return first if first in self.classes else ""

    def fill(self, items: list[Item]) -> None:
        """Puts label, split and, where a table knows it, patient into the items. Class folders need two that hold images."""
        for item in items:
            item.label = self.of_file(item.path) or self.table.get(item.patient, "") or self.table.get(item.series, "")
            row = self.list.get(item.path.name, {})
            item.patient = item.patient or row.get("patient", "") or self.grades.get(item.path.stem, ("", ""))[0]
            parts = item.path.relative_to(self.place).parts[:-1] if item.path.is_relative_to(self.place) else ()
            item.split = row.get("split", "") or next((SPLITS[p.lower()] for p in parts if p.lower() in SPLITS), "")
        if self.classes and len({item.label for item in items if item.keep and item.label}) < 2:
            for item in items:
                item.label = ""


def _folders(place: Path) -> list[str]:
    return [p.name for p in sorted(place.iterdir()) if p.is_dir() and not p.name.startswith(".")] if place.is_dir() else []


def _columns(path: Path) -> dict[str, dict[str, str]]:
    """File name → label, patient and split of a list, "" where it does not say."""
    table = read_list(path)
    named = {c: ["" if v != v or v is None else str(v) for v in table[c]] if c in table else [""] * len(table) for c in ("label", "patient", "split")}
    return {Path(str(p)).name: {c: named[c][i] for c in named} for i, p in enumerate(table["path"])}


def _outliers(items: list[Item]) -> None:
    """Pictures whose grey values lie far from those of the others of their kind; they stay, and are named."""
    for kind in ("picture", "dicom"):
        seen = [i for i in items if i.keep and i.kind == kind and "grey_mean" in i.facts]
        if len(seen) < LEAST_FOR_OUTLIERS:
            continue
        for name, words in (("grey_mean", "mean grey value"), ("grey_sd", "SD of grey values"), ("contrast", "contrast")):
            values = np.array([float(i.facts[name]) for i in seen])
            middle = float(np.median(values))
            spread = 1.4826 * float(np.median(np.abs(values - middle))) + 0.02 * abs(middle) + 1e-9
            for item, value in zip(seen, values, strict=True):
                if abs(value - middle) > FAR * spread:
                    item.note(f"outlier: {words} {value:.4g}, typically {middle:.4g}")


def _hash_files(items: list[Item]) -> None:
    with Bar("hashing") as bar:
        digests: dict[Path, str] = {}
        for index, item in enumerate(items):
            if item.path not in digests:
                try:
                    digests[item.path] = sha256(item.path)
                except OSError:
                    digests[item.path] = "unreadable"
            item.facts["sha256"] = digests[item.path]
            bar.advance(index + 1, len(items))


def _repeated_files(items: list[Item]) -> None:
    """Pictures, volumes and slides whose bytes were there before; slices of a series are judged in their series."""
    first: dict[str | float, Item] = {}
    for item in items:
        digest = item.facts["sha256"]
        if not item.keep or digest == "unreadable" or item.kind not in ("picture", "volume", "slide"):
            continue
        if digest in first:
            item.note(f"duplicate: the same bytes as {first[digest].path.name}", keep=False)
        else:
            first[digest] = item


def _twins(items: list[Item], near: int) -> list[tuple[Any, ...]]:
    """Near twins among pictures and volumes, and one slice a series: (a, b, distance, same class, same split); slices of one series are no pair."""
    series: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.keep and item.series and item.kind != "volume" and "phash" in item.facts:
            series[item.series].append(item)
    chosen = [members[len(members) // 2] for members in series.values()]
    chosen += [i for i in items if "phash" in i.facts and (not i.series or i.kind == "volume")]
    chosen = [i for i in chosen if float(i.facts["grey_sd"]) > FLAT]
    codes = np.array([int(i.facts["phash"]) for i in chosen], np.uint64)
    found = []
    for (a, b), distance in zip(*near_pairs(codes, near), strict=True):
        x, y = chosen[a], chosen[b]
        same = ["" if not (p and q) else p == q for p, q in ((x.label, y.label), (x.split, y.split))]
        found.append((str(x.path), str(y.path), int(distance), *same))
    return sorted(found, key=lambda row: (row[2], row[0], row[1]))


def _pseudonyms(items: list[Item], rows: list[SeriesRow], salt: str, keep_identifiers: bool) -> None:
    """Patients and series by names that tell nothing: the first digits of a salted SHA-256. Paths stay, as a manifest needs them."""
    if keep_identifiers:
        return

    def hidden(kind: str, name: str) -> str:
        return f"{kind}-{hashlib.sha256(f'{salt} {kind} {name}'.encode()).hexdigest()[:10]}" if name else ""

    things: list[Item | SeriesRow] = [*items, *rows]
    for thing in things:
        thing.patient, thing.series = hidden("patient", thing.patient), hidden("series", thing.series)


def _write_tables(run: Run, items: list[Item], rows: list[SeriesRow], pairs: list[tuple[Any, ...]]) -> None:
    ordered = sorted(items, key=lambda i: (str(i.path.parent), i.series, i.position if i.position is not None else -1.0, str(i.path)))
    manifest = [
        (
            str(i.path.resolve()),
            i.facts["sha256"],
            i.kind,
            i.patient,
            i.series,
            "" if i.position is None else i.position,
            i.spacing,
            str(i.keep).lower(),
            i.reason,
        )
        for i in ordered
    ]
    write_atomic(run.folder / "manifest.csv", as_csv(MANIFEST, manifest))
    seen = [i for i in ordered if "height" in i.facts]
    for item in seen:
        item.facts |= {n: as_hex(int(item.facts[n])) for n in NAMES if n in item.facts}
    images = [(str(i.path), i.kind, i.patient, i.label, i.split, *(i.facts.get(c, "") for c in IMAGES[5:])) for i in seen]
    write_atomic(run.folder / "tables" / "images.csv", as_csv(IMAGES, images))
    write_atomic(run.folder / "tables" / "series.csv", as_csv(SERIES, [tuple(_plain(getattr(r, c)) for c in SERIES) for r in rows]))
    write_atomic(run.folder / "tables" / "pairs.csv", as_csv(PAIRS, pairs))


def _plain(value: object) -> object:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else round(value, 4) if isinstance(value, float) else value


def _result(out: Path, run: Run, items: list[Item], rows: list[SeriesRow], pairs: list[tuple[Any, ...]]) -> AuditResult:
    reasons: dict[str, int] = defaultdict(int)
    for item in items:
        for reason in item.reason.split("; ") if item.reason else []:
            if reason.startswith("missing"):
                reasons["missing slices"] += int(next(iter(re.findall(r"\d+", reason)), 1))
            else:
                reasons[reason.split(":")[0]] += 1
    files, kept = {i.path for i in items}, {i.path for i in items if i.keep}
    pictures = sum(i.keep and i.kind == "picture" for i in items)
    ordered = dict(sorted(reasons.items(), key=lambda r: -r[1]))
    return AuditResult(out, len(files), len(kept), len(run.failures), len(rows), len(pairs), pictures, ordered)
