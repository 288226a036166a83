"""`tacit evaluate OUT TRUTH --task structures`: each structure's mask against the truth, a figure an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import InputError, ReadError, UsageError
from tacit.read.folder import find_truth, read_mask
from tacit.read.picture import SUFFIXES
from tacit.report.track import Bar

FIGURES = ("dice", "iou", "sensitivity", "specificity")
LOW = 0.8  # a Dice below this is counted as low


def evaluate_structures(
    predicted: str | Path, truth: str | Path | None, *, field: str | Path | None = None, classes: str | None = None, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Dice, IoU, sensitivity and specificity of each structure: mean over images with its interval (images drawn with replacement), least, share below .8.

    Images whose own masks taught the run (`--labels`) are left out. predicted: OUT of tacit segment, or its masks folder · truth: a folder with a folder a class (TRUTH/heart/NAME.png, above 0 = inside), or with
    masks of the same names: one value a class in the order of the classes, for a single class anything above 0 · field: a folder of masks, only
    what lies inside counts · classes: names in order, where `predicted` is no run. Raises TacitError.
    """
    if truth is None:
        raise UsageError("tacit evaluate OUT --task structures needs TRUTH, a folder of true masks")
    out, names = _found(Path(predicted), classes)
    masks = {p.stem: p for p in sorted((out / "masks" if (out / "masks").is_dir() else out).iterdir()) if p.suffix.lower() in SUFFIXES}
    if not masks:
        raise InputError(f"no masks in {out}; give OUT of a segment run")
    taught = sorted(labelled_images(out) & set(masks))
    masks = {stem: path for stem, path in masks.items() if stem not in taught}
    if not masks:
        raise InputError(f"all {len(taught)} images of {out} taught the network by their labels; score it on others: tacit segment OTHERS --model {out}")
    inside = find_truth(Path(field), list(masks)) if field is not None else {}
    found: dict[str, Any] = {}
    failures: list[dict[str, str]] = []
    missing: dict[str, list[str]] = {}
    for value, name in enumerate(names, 1):
        own = Path(truth) / name
        true = find_truth(own if own.is_dir() else Path(truth), list(masks))
        wanted = None if own.is_dir() or len(names) == 1 else value
        missing[name] = sorted(set(masks) - set(true))
        scores = {}
        with Bar(f"scoring {name}") as bar:
            for index, stem in enumerate(sorted(true)):
                try:
                    answer = _answer(out, masks[stem], name, value, len(names))
                    scores[stem] = _scores(answer, _truth(true[stem], wanted, answer), field_of(inside.get(stem), answer, field))
                except ReadError as error:
                    failures.append({"file": str(true[stem]), "reason": error.reason})
                bar.advance(index + 1, len(true))
        if scores:
            found[name] = _summary(scores, draws, seed)
    if not found:
        raise InputError(f"no true mask of {truth} fits a mask of {out}: {failures[0]['reason'] if failures else 'no name agrees'}")
    return {
        "task": "structures",
        "images": max(f["images"] for f in found.values()),
        "classes": found,
        "missing": sorted({m for each in missing.values() for m in each}),
        "failures": failures,
        "left_out": taught,
        "over": "images",
    }


def _found(place: Path, classes: str | None) -> tuple[Path, list[str]]:
    """The folder, and the names of its classes in order."""
    if not place.is_dir():
        raise InputError(f"{place} is no folder; give OUT of a segment run, or a folder of masks")
    if classes is not None:
        return place, [c.strip() for c in classes.split(",")]
    try:
        record = json.loads((place / "run.json").read_text(encoding="utf-8"))
        return place, list(record["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{place} does not say which structures its masks hold; give --classes, for example lungs,heart") from error


def labelled_images(out: Path) -> set[str]:
    """The images whose own masks taught the run that wrote `out` or its folder of masks."""
    for record in (out / "run.json", out.parent / "run.json"):
        try:
            return set(json.loads(record.read_text(encoding="utf-8")).get("labelled", []))
        except (OSError, ValueError):
            continue
    return set()


def _answer(out: Path, mask: Path, name: str, value: int, classes: int) -> NDArray[np.bool_]:
    """A structure's whole plane: where several overlap the mask holds but one of them."""
    whole = out / "planes" / name / mask.name
    if classes > 1 and whole.exists():
        return read_mask(whole) > 0
    labels = read_mask(mask)
    return labels == value if classes > 1 else labels > 0


def _truth(path: Path, value: int | None, answer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels = read_mask(path)
    if labels.shape != answer.shape:
        raise ReadError(path, f"it is {labels.shape[0]}×{labels.shape[1]} px, the mask {answer.shape[0]}×{answer.shape[1]}", "give truth at the images' size")
    return np.asarray(labels == value if value is not None else labels > 0)


def field_of(path: Path | None, answer: NDArray[np.bool_], folder: str | Path | None) -> NDArray[np.bool_]:
    """What counts of an image: its mask in the folder of fields, all where there is no such folder. Raises ReadError."""
    if folder is None:
        return np.ones(answer.shape, bool)
    if path is None:
        raise ReadError(Path(folder), "it holds no field of this image", "give one for each image")
    return _truth(path, None, answer)


def _scores(answer: NDArray[np.bool_], true: NDArray[np.bool_], field: NDArray[np.bool_]) -> dict[str, float]:
    a, t = answer[field], true[field]
    both, either = float((a & t).sum()), float((a | t).sum())
    total = float(a.sum() + t.sum())
    return {
        "dice": 2 * both / total if total else 1.0,
        "iou": both / either if either else 1.0,
        "sensitivity": both / float(t.sum()) if t.any() else float("nan"),
        "specificity": float((~a & ~t).sum()) / float((~t).sum()) if not t.all() else float("nan"),
    }


def _summary(scores: dict[str, dict[str, float]], draws: int, seed: int) -> dict[str, Any]:
    names, rng = sorted(scores), np.random.default_rng(seed)
    chosen = rng.integers(0, len(names), (draws, len(names)))
    values = {figure: np.array([scores[n][figure] for n in names]) for figure in FIGURES}
    dice = values["dice"]
    return {
        "images": len(names),
        "figures": {figure: float(np.nanmean(v)) for figure, v in values.items() if np.isfinite(v).any()},
        "interval": {figure: [float(q) for q in np.nanquantile(_means(v[chosen]), (0.025, 0.975))] for figure, v in values.items() if np.isfinite(v).any()},
        "least": {"dice": float(dice.min()), "image": names[int(dice.argmin())]},
        "below_0.8": int((dice < LOW).sum()),
    }


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(1) / np.maximum(known.sum(1), 1))
