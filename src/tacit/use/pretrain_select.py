"""A checkpoint chosen by labelled pairs, only where the user asks for it with --select: the one place where labels touch pretraining."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from tacit.config import Config
from tacit.errors import InputError, OutputError, ReadError
from tacit.files import sha256
from tacit.learn.sources import Pictures
from tacit.read.pairs import read_pairs
from tacit.report.pair_score import best_threshold
from tacit.run import Run
from tacit.use.encoder import BATCH, embedding
from tacit.use.pretrain_input import read_pixels

MARK = "uses labels"  # stands wherever a selection is spoken of


class SelectConfig(Config):
    every: Annotated[int, Field(ge=0)] = 0  # steps between looks at the labelled pairs; 0 = at each epoch's end


class Selection:
    """Labelled pairs that judge a network: accuracy of the best threshold on the distance 2 − 2·cos of its features (0–4).

    Features are those of the run as an encoder, of pictures as they are. Raises InputError: pairs without a label, of
    one kind only, a picture that cannot be read.
    """

    def __init__(self, path: str | Path, root: str | Path | None, config: Any, device: str) -> None:
        self.path, self.config, self.device = Path(path), config, device
        self.pairs = read_pairs(path, root)
        self.same = np.array([pair.label == 1 for pair in self.pairs])
        unlabelled = sum(pair.label is None for pair in self.pairs)
        if unlabelled:
            raise InputError(f"--select {path}: {unlabelled} of {len(self.pairs)} pairs have no label; each needs 1 (same) or 0 (different)")
        if self.same.all() or not self.same.any():
            raise InputError(f"--select {path}: all {len(self.same)} pairs are {'same' if self.same[0] else 'different'}; pairs of both kinds are needed")
        paths = sorted({p for pair in self.pairs for p in (pair.a, pair.b)})
        self.pictures = Pictures(paths, read_pixels)
        self.ends = np.array([[paths.index(p) for p in (pair.a, pair.b)] for pair in self.pairs])  # (pairs, 2)
        try:
            for index in range(len(paths)):
                self.pictures[index]
        except ReadError as error:
            raise InputError(f"--select {path}: {error}") from error

    def judge(self, network: Any) -> float:
        """Pair accuracy of a network in eval mode."""
        return self.look(network)[0]

    def look(self, network: Any) -> tuple[float, float]:
        """(accuracy, threshold)"""
        embed = embedding(network, self.config, self.device)[1]
        vectors = np.concatenate([embed(some) for some in self._batches()]).astype(np.float64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        a, b = vectors[self.ends[:, 0]], vectors[self.ends[:, 1]]
        return best_threshold(2 - 2 * (a * b).sum(1), self.same)

    def begin(self, run: Run) -> None:
        """Writes down that labels take part, before they do. Raises OutputError where a resumed run began with another list."""
        about = {"list": str(self.path), "sha256": sha256(self.path), "pairs": len(self.same), "same": int(self.same.sum())}
        if run.earlier and run.earlier.get("select", {}).get("sha256", about["sha256"]) != about["sha256"]:
            raise OutputError(f"--resume wants the pairs of the first run, but {self.path} has changed since; use --overwrite")
        run.record |= {"uses_labels": True, "select": about}
        run.say(f"{MARK}: the checkpoint is chosen by the {len(self.same)} labelled pairs of {self.path}")

    def keep(self, run: Run, network: Any, chosen: dict[str, float], steps_an_epoch: int) -> None:
        """Writes down which checkpoint was kept, with its threshold."""
        accuracy, threshold = self.look(network)
        step = int(chosen["step"])
        run.record["select"] |= {
            "accuracy": accuracy, "threshold_distance": threshold, "always_the_same_answer": float(max(self.same.mean(), 1 - self.same.mean())),
            "step": step, "epochs": round(step / steps_an_epoch, 2),
        }  # fmt: skip
        run.say(said(run.record))

    def _batches(self) -> Iterator[list[Any]]:
        for first in range(0, len(self.pictures), BATCH):
            yield [self.pictures[i] for i in range(first, min(first + BATCH, len(self.pictures)))]


def said(record: dict[str, Any]) -> str:
    """The selection of a run in one sentence for a person, "" where there was none."""
    if "accuracy" not in record.get("select", {}):
        return ""
    s = record["select"]
    return (
        f"{MARK}: of the checkpoints that after {s['step']} steps ({s['epochs']:g} epochs) was kept, by the accuracy on {s['pairs']} labelled pairs: "
        f"{s['accuracy']:.3f} at distance {s['threshold_distance']:.3f} (one answer for all: {s['always_the_same_answer']:.3f}); "
        "chosen on these pairs, so no estimate for others"
    )
