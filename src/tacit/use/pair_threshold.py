"""A threshold with everything that belongs to it: metric, sureness, figures, and the encoder whose distances it is for. threshold.json and metric.safetensors."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tacit.errors import ReadError, UsageError
from tacit.files import sha256, write_atomic
from tacit.learn.pair_decision import FARTHEST, Decision
from tacit.learn.pair_metric import PairMetric
from tacit.parts.weights import load_tensors, save_tensors
from tacit.use.encoder import Encoder

FILE, METRIC = "threshold.json", "metric.safetensors"
LABELLED, VIEWS, GIVEN = "labelled pairs", "views of the images, no labels", "given"


@dataclass(frozen=True)
class Threshold:
    """how: LABELLED, VIEWS or GIVEN. about: what is known of it besides, in plain values: interval, figures, curve, counts, table."""

    decision: Decision
    how: str
    metric: PairMetric | None = None  # None = raw
    about: dict[str, Any] = field(default_factory=dict)


def save_threshold(folder: Path, threshold: Threshold, encoder: Encoder) -> None:
    """Writes threshold.json, and the metric beside it where there is one."""
    d, m = threshold.decision, threshold.metric
    record: dict[str, Any] = {
        "threshold_distance": d.threshold,
        "threshold_cosine": 1 - d.threshold / 2,
        "how": threshold.how,
        "uses_labels": threshold.how == LABELLED,
        "sure_same": d.sure_same,
        "sure_different": d.sure_different,
        "p_same": None if d.level is None else {"level": d.level, "slope": d.slope},
        "metric": "raw" if m is None else "linear",
        "encoder": encoder_record(encoder),
        **threshold.about,
    }
    if m is not None:
        save_tensors(folder / METRIC, {name: torch.from_numpy(np.asarray(value, np.float64)) for name, value in asdict(m).items()})
        record["metric_file"] = {"name": METRIC, "sha256": sha256(folder / METRIC)}
    write_atomic(folder / FILE, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def encoder_record(encoder: Encoder) -> dict[str, Any]:
    """What says which distances may be compared."""
    return {"name": encoder.name, "width": encoder.width, "weights_hash": encoder.weights_hash, "preprocessing_hash": encoder.preprocessing_hash}


def find_threshold(text: str, encoder: Encoder) -> Threshold:
    """A distance from 0 to 4, or the threshold.json of an earlier run. Raises UsageError, also where that run had another encoder."""
    try:
        value = float(text)
    except ValueError:
        return _load(Path(text), encoder)
    if not 0 <= value <= FARTHEST:
        raise UsageError(f"--threshold {text}: expected a distance 2 − 2·cos from 0 (alike) to {FARTHEST:g}, or a threshold.json")
    return Threshold(Decision(value), GIVEN)


def _load(path: Path, encoder: Encoder) -> Threshold:
    path = path / FILE if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        made_by, p = record.pop("encoder"), record.pop("p_same")
        decision = Decision(
            threshold=float(record.pop("threshold_distance")),
            sure_same=record.pop("sure_same"),
            sure_different=record.pop("sure_different"),
            level=None if p is None else float(p["level"]),
            slope=None if p is None else float(p["slope"]),
        )
        how, kind, metric_file = str(record.pop("how")), record.pop("metric"), record.pop("metric_file", None)
        hashes = made_by["weights_hash"], made_by["preprocessing_hash"]
    except OSError as error:
        raise UsageError(
            f"--threshold {path}: there is no such file; give a distance from 0 to {FARTHEST:g} or the threshold.json of an earlier run"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--threshold {path} is no threshold.json that tacit pairs wrote ({type(error).__name__}: {error}); calibrate again") from error
    if hashes != (encoder.weights_hash, encoder.preprocessing_hash):
        raise UsageError(
            f"--threshold {path} was made with {made_by.get('name')} (weights {hashes[0]}, preprocessing {hashes[1]}), these distances would be from {encoder.name} "
            f"(weights {encoder.weights_hash}, preprocessing {encoder.preprocessing_hash}); give the same --encoder or --model, or calibrate again"
        )
    about = {k: v for k, v in record.items() if k not in ("threshold_cosine", "uses_labels")}
    return Threshold(decision, how, _load_metric(path, metric_file, encoder) if kind == "linear" else None, about)


def _load_metric(path: Path, metric_file: dict[str, str] | None, encoder: Encoder) -> PairMetric:
    place = path.parent / METRIC
    if metric_file is None or not place.is_file() or sha256(place) != metric_file.get("sha256"):
        raise UsageError(f"--threshold {path} needs the {METRIC} that was written beside it; copy both files, or calibrate again")
    try:
        tensors, _ = load_tensors(place)
        metric = PairMetric(tensors["mean"].numpy(), tensors["white"].numpy(), tensors["kept"].numpy(), float(tensors["raw"]))
    except (ReadError, KeyError) as error:
        raise UsageError(f"{place} holds no metric ({error}); calibrate again") from error
    if metric.mean.shape != (encoder.width,):
        raise UsageError(f"{place} is for {len(metric.mean)} features, {encoder.name} has {encoder.width}; calibrate again")
    return metric


def without_nan(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
