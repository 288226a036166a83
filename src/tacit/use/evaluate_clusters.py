"""`tacit evaluate OUT TRUTH --task clusters`: what each cluster of `--method clusters` holds of the true classes, and how well clusters part them.

Truth names the clusters here and nowhere else: no figure of this page is a label-free result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.read.folder import find_truth, is_mask, read_mask
from tacit.read.picture import SUFFIXES
from tacit.read.walk import walk
from tacit.report.cluster_score import agreement, best_single, best_union, dice, intervals, on_others
from tacit.report.track import Bar
from tacit.use.evaluate_structures import field_of, labelled_images

MOST = 256  # clusters or classes; more are instances or a picture
BACKGROUND, NONE = "background", "no cluster"
ORACLE = "single and union: clusters chosen with the truth of other images; an upper mark for who may look, no label-free result"
Counts = dict[tuple[int, int], int]  # (cluster, class) → pixels


def evaluate_clusters(
    predicted: str | Path, truth: str | Path | None, *, field: str | Path | None = None, classes: str | None = None, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Purity, normalised mutual information and adjusted Rand index over all pixels in the field, and what every cluster holds; 95% intervals over images.

    predicted: OUT of tacit segment --method clusters, or a folder of maps, one number a cluster · truth: masks of the same names, 0 background and one value a
    class (with one name in `classes` anything above 0 is inside), or with `classes` a folder a class, TRUTH/heart/NAME.png; where those overlap the later class
    counts · field: a folder of masks, only what lies inside counts · classes: names in order of the values. For each class the Dice of the single cluster and of
    the union that fit it best on the other half of the images. Images that do not count are listed. Raises TacitError.
    """
    if truth is None:
        raise UsageError("tacit evaluate OUT --task clusters needs TRUTH, a folder of true masks")
    out = Path(predicted)
    maps, left_out = _maps(out)
    read = _Truth(Path(truth), [] if classes is None else [c.strip() for c in classes.split(",")], list(maps))
    inside = find_truth(Path(field), list(maps)) if field is not None else {}
    found: dict[str, Counts] = {}
    failures: list[dict[str, str]] = []
    wanted = sorted(read.known)
    with Bar("scoring") as bar:
        for index, stem in enumerate(wanted):
            try:
                answer = read_mask(maps[stem])
                found[stem] = _counts(answer, read.of(stem, answer), field_of(inside.get(stem), answer > 0, field), read.path(stem))
            except ReadError as error:
                failures.append({"file": str(read.path(stem) if error.path == Path(field or "") else error.path), "reason": error.reason})
            bar.advance(index + 1, len(wanted))
    if not found:
        raise InputError(f"no true mask of {truth} fits a map of {out}: {failures[0]['reason'] if failures else 'no name agrees'}")
    clusters, values, tables = _tables(found)
    names = [BACKGROUND, *(read.name(v) for v in values)]
    return {
        "task": "clusters",
        "images": len(found),
        "pixels": int(tables.sum()),
        **_agreement(tables, draws, seed),
        "clusters": _compositions(tables.sum(0), _cluster_names(out, clusters), names),
        "classes": {name: _of_class(tables, i, _cluster_names(out, clusters), draws, seed) for i, name in enumerate(names) if i},
        "oracle": ORACLE,
        "missing": sorted(set(maps) - set(read.known)),
        "failures": failures,
        "left_out": left_out,
        "over": "images",
    }


class _Truth:
    """The true classes of each image by its name: one mask of values, or a mask a class."""

    def __init__(self, folder: Path, names: list[str], stems: list[str]) -> None:
        self.names = names
        if len(set(names)) < len(names) or any(not n for n in names):
            raise UsageError(f"--classes {','.join(names)!r}: expected names of classes, each once")
        own = [folder / n for n in names]
        self.by_class = [find_truth(place, stems) for place in own] if names and all(p.is_dir() for p in own) else []
        if self.by_class:
            self.known = {s: found for s in stems if (found := [m[s] for m in self.by_class if s in m])}
        else:
            _refuse_folders(folder, stems)
            self.known = {s: [path] for s, path in find_truth(folder, stems).items()}

    def path(self, stem: str) -> Path:
        return self.known[stem][0]

    def name(self, value: int) -> str:
        return self.names[value - 1] if self.names else f"value {value}"

    def of(self, stem: str, like: NDArray[np.int32]) -> NDArray[np.int32]:
        """(h, w): 0 background, 1… the classes. Raises ReadError where a mask is missing, of another size, or has values without a name."""
        if not self.by_class:
            labels = _same_size(self.path(stem), like)
            if len(self.names) == 1:
                return (labels > 0).astype(np.int32)
            if self.names and labels.max() > len(self.names):
                raise ReadError(self.path(stem), f"it has the value {labels.max()}, --classes names {len(self.names)}", "name every value")
            return labels
        absent = [n for n, masks in zip(self.names, self.by_class, strict=True) if stem not in masks]
        if absent:
            raise ReadError(self.path(stem), f"there is no mask of {', '.join(absent)} beside it", "give one of each class")
        labels = np.zeros(like.shape, np.int32)
        for value, masks in enumerate(self.by_class, 1):
            labels[_same_size(masks[stem], like) > 0] = value
        return labels


def _maps(out: Path) -> tuple[dict[str, Path], list[str]]:
    """name → map of clusters, and the images whose own labels taught the run, which are left out."""
    if not out.is_dir():
        raise InputError(f"{out} is no folder; give OUT of tacit segment --method clusters, or a folder of maps")
    place = out / "masks" if (out / "masks").is_dir() else out
    maps = {p.stem: p for p in sorted(place.iterdir()) if p.suffix.lower() in SUFFIXES}
    taught = sorted(labelled_images(out) & set(maps))
    maps = {stem: path for stem, path in maps.items() if stem not in taught}
    if not maps:
        raise InputError(f"no maps of clusters in {out}; give OUT of tacit segment --method clusters")
    return maps, taught


def _refuse_folders(folder: Path, stems: list[str]) -> None:
    """Raises UsageError where a picture has masks in several folders: which class is which must be said."""
    if not folder.is_dir():
        return
    below = [p for p in walk(folder)[0] if p.suffix.lower() in SUFFIXES and p.stem in stems and p.parent != folder]
    places: dict[str, set[str]] = {}
    for path in [p for p in below if is_mask(p, folder)] or below:
        places.setdefault(path.stem, set()).add(path.relative_to(folder).parts[0])
    several = next(((stem, sorted(where)) for stem, where in sorted(places.items()) if len(where) > 1), None)
    if several is not None:
        raise UsageError(f"{folder} holds masks of {several[0]} in {' and '.join(several[1])}; name these classes in order: --classes {','.join(several[1])}")


def _same_size(path: Path, like: NDArray[np.int32]) -> NDArray[np.int32]:
    labels = read_mask(path)
    if labels.shape != like.shape:
        raise ReadError(path, f"it is {labels.shape[0]}×{labels.shape[1]} px, the map {like.shape[0]}×{like.shape[1]}", "give truth at the images' size")
    return labels


def _counts(answer: NDArray[np.int32], true: NDArray[np.int32], field: NDArray[np.bool_], path: Path) -> Counts:
    """Pixels of each cluster in each class. Raises ReadError where there is nothing to score."""
    if not field.any():
        raise ReadError(path, "its field holds no pixel", "leave the image out")
    pairs = np.stack([answer[field], true[field]])
    if not pairs[1].any():
        raise ReadError(path, "the truth is empty: no class lies in the field", "leave the image out")
    for row, what in zip(pairs, ("clusters", "classes"), strict=True):
        if row.min() < 0 or row.max() >= MOST:
            raise ReadError(
                path, f"{what} from {row.min()} to {row.max()}, expected 0 to {MOST - 1}", "give maps of clusters and masks of classes, no instances"
            )
    seen, count = np.unique(pairs[0].astype(np.int64) * MOST + pairs[1], return_counts=True)
    return {(int(code) // MOST, int(code) % MOST): int(n) for code, n in zip(seen, count, strict=True)}


def _tables(found: dict[str, Counts]) -> tuple[list[int], list[int], NDArray[np.int64]]:
    """Numbers of the clusters, values of the classes, and (n, k, 1 + c) pixels in order of the images' names, background first."""
    clusters = sorted({k for counts in found.values() for k, _ in counts})
    values = sorted({c for counts in found.values() for _, c in counts} - {0})
    row, column = {k: i for i, k in enumerate(clusters)}, {c: i for i, c in enumerate([0, *values])}
    tables = np.zeros((len(found), len(row), len(column)), np.int64)
    for table, name in zip(tables, sorted(found), strict=True):
        for (k, c), pixels in found[name].items():
            table[row[k], column[c]] = pixels
    return clusters, values, tables


def _agreement(tables: NDArray[np.int64], draws: int, seed: int) -> dict[str, Any]:
    """chance: of one cluster that holds everything."""
    whole = tables.sum(0)
    one = agreement(whole.sum(0)[None])
    return {
        "figures": {name: float(value) for name, value in agreement(whole).items()},
        "interval": intervals(tables, draws, seed),
        "chance": {name: float(value) for name, value in one.items()},
    }


def _compositions(table: NDArray[np.int64], clusters: list[str], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name, counts in zip(clusters, table, strict=True):
        shares = {c: float(n / counts.sum()) for c, n in zip(names, counts, strict=True)}
        rows.append({"cluster": name, "share": float(counts.sum() / table.sum()), "majority": max(shares, key=lambda c: shares[c]), "classes": shares})
    return rows


def _of_class(tables: NDArray[np.int64], column: int, clusters: list[str], draws: int, seed: int) -> dict[str, Any]:
    """share of the pixels; dice of everything marked, and of what is chosen on the other half of the images; None where there is one image only."""
    everything = np.ones(tables.shape[1], bool)
    found: dict[str, Any] = {
        "share": float(tables[..., column].sum() / tables.sum()),
        "chance": float(np.mean([dice(t, column, everything) for t in tables])),
        "single": None,
        "union": None,
    }
    if len(tables) > 1:
        fold = np.random.default_rng([seed, 2]).permutation(len(tables)) < len(tables) // 2
        drawn = np.random.default_rng(seed).integers(0, len(tables), (draws, len(tables)))
        for name, choose in (("single", best_single), ("union", best_union)):
            scores, chosen = on_others(tables, column, choose, fold)
            low, high = np.quantile(scores[drawn].mean(1), (0.025, 0.975))
            found[name] = {
                "dice": float(scores.mean()),
                "interval": [float(low), float(high)],
                "chosen": [[clusters[k] for k in np.flatnonzero(c)] for c in chosen],
            }
    return found


def _cluster_names(out: Path, clusters: list[int]) -> list[str]:
    """As the run calls them, by the numbers in its maps."""
    said: list[str] = []
    for record in (out / "run.json", out.parent / "run.json"):
        try:
            said = list(json.loads(record.read_text(encoding="utf-8"))["classes"])
            break
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [NONE if k == 0 else said[k - 1] if k <= len(said) else f"cluster-{k}" for k in clusters]
