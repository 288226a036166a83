"""Where a method learns: the seed, the device, and a folder in which each finished stage is kept and never done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from tacit.parts.train import Batch, TrainConfig, fit
from tacit.parts.weights import load_into, save_tensors
from tacit.report.track import Bar, Curves


@dataclass
class Workshop:
    """Passed to a method's `fit`. folder None keeps nothing on disk."""

    seed: int = 0
    device: str = "cpu"
    folder: Path | None = None
    curves: Curves = field(default_factory=lambda: Curves(None))
    say: Callable[[str], None] = lambda line: None

    @contextmanager
    def bar(self, what: str) -> Iterator[Bar]:
        """A progress bar for `what`."""
        with Bar(what) as bar:
            yield bar

    def train(self, stage: str, module: nn.Module, batches: Callable[[int], Batch], config: TrainConfig, *, seed: int) -> nn.Module:
        """Trains `module`, or fills it with the weights of this stage if it was finished before. Returns it in eval mode."""
        place = self.folder / stage if self.folder else None
        if place is not None and (place / "done.safetensors").exists():
            load_into(module, place / "done.safetensors")
            self.say(f"{stage}: already learnt")
            return module.eval()
        with self.bar(stage) as bar:
            tracker = _Tracker(stage, self.curves, bar)
            fit(module, batches, config, seed=seed, folder=place, device=self.device, tracker=tracker)
        if place is not None:
            save_tensors(place / "done.safetensors", module.state_dict())
        self.curves.save()
        self.say(f"{stage}: {config.total} steps, {tracker.summary()}")
        return module.eval()


@dataclass
class _Tracker:
    stage: str
    curves: Curves
    bar: Bar
    latest: dict[str, float] = field(default_factory=dict)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.latest = values
        self.curves.log(self.stage, step, {k: v for k, v in values.items() if k != "seconds"})
        if step % 200 == 0:
            self.curves.save()

    def advance(self, done: int, total: int) -> None:
        self.bar.advance(done, total)

    def summary(self) -> str:
        return ", ".join(f"{k} {v:.4g}" for k, v in self.latest.items() if k != "lr")
