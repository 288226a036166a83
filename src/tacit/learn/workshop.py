"""Where a method learns: the seed, the device, and a folder in which each finished stage is kept and never done twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor, nn

from tacit.errors import OutputError
from tacit.parts.processes import alike, is_first
from tacit.parts.train import Batch, TrainConfig, fit
from tacit.parts.weights import load_into, load_tensors, save_tensors
from tacit.report.track import Bar, Curves

Judge = Callable[[nn.Module], float]


@dataclass
class Workshop:
    """Passed to a method's `fit`. folder None keeps nothing on disk."""

    seed: int = 0
    device: str = "cpu"
    folder: Path | None = None
    curves: Curves = field(default_factory=lambda: Curves(None))
    say: Callable[[str], None] = lambda line: None
    chosen: dict[str, dict[str, float]] = field(default_factory=dict)  # stage → score and step of the weights that a judge kept
    room: str = ""  # before the names of stages in the curves, see `inside`

    def inside(self, name: str) -> Workshop:
        """A room of its own in this workshop: its stages are kept in a folder of that name and stand as name/stage in the curves."""
        return replace(self, folder=self.folder / name if self.folder else None, room=f"{self.room}{name}/")

    @contextmanager
    def bar(self, what: str) -> Iterator[Bar]:
        """A progress bar for `what`."""
        with Bar(what) as bar:
            yield bar

    def finished(self, stage: str) -> bool:
        """Whether the weights of this stage are kept from before."""
        return self.folder is not None and (self.folder / stage / "done.safetensors").exists()

    def train(
        self,
        stage: str,
        module: nn.Module,
        batches: Callable[[int], Batch],
        config: TrainConfig,
        *,
        seed: int,
        best_by: Judge | None = None,
        every: int | None = None,
        judged: str | None = None,
    ) -> nn.Module:
        """Trains `module`, or fills it with the weights of this stage if it was finished before. Returns it in eval mode.

        best_by(module) gives a number that needs no truth unless the user asked for it; where it is given, it is asked after `every` steps
        (None: each epoch) and at the end, and the weights that had the largest are kept; judged: the name of these numbers in metrics.csv.
        Of several processes the first one judges and writes.
        """
        place = self.folder / stage if self.folder else None
        finished = self.finished(stage)
        if not alike(finished):
            raise OutputError(f"only some of the processes find the finished stage {stage}; OUT must lie on storage that all of them see")
        if place is not None and finished:
            self.chosen[self.room + stage] = load_into(module, place / "done.safetensors")
            self.say(f"{self.room}{stage}: already learnt")
            return module.eval()
        with self.bar(stage) as bar:
            tracker = _Tracker(self.room + stage, self.curves, bar, config.checkpoint_every)
            best = _Best(best_by if is_first() else None, place)

            def look(done: int, last: bool = False) -> None:
                if last or (done % (every or config.steps) == 0 and done < config.total):
                    score = best.look(module, done)
                    if score is not None and judged:
                        self.curves.log(self.room + stage, done - 1, {judged: score})

            try:
                fit(module, batches, config, seed=seed, folder=place, device=self.device, tracker=tracker, after_step=look)
            finally:
                self.curves.save()
            look(config.total, last=True)
            self.chosen[self.room + stage] = best.put_into(module)
        if place is not None and is_first():
            save_tensors(place / "done.safetensors", module.state_dict(), self.chosen[self.room + stage])
        self.curves.save()
        self.say(f"{self.room}{stage}: {config.total} steps, {tracker.summary()}")
        share = tracker.latest.get("share")
        if share is not None and not 0.01 < share < 0.99:
            what = getattr(module, "CLASSES", ("gland",))[0]
            self.say(
                f"{self.room}{stage}: the network calls {'everything' if share > 0.5 else 'nothing'} {what}: it has collapsed; try another --seed or a lower train.lr"
            )
        return module.eval()


@dataclass
class _Best:
    """The weights that a judge liked most, kept beside the checkpoint so that a resumed run knows them too."""

    judge: Judge | None
    place: Path | None
    note: dict[str, float] = field(default_factory=lambda: {"score": -1.0})
    weights: dict[str, Tensor] = field(default_factory=dict)

    def look(self, module: nn.Module, done: int) -> float | None:
        if self.judge is None or done == 0:
            return None
        file = self.place / "best.safetensors" if self.place else None
        if file is not None and not self.weights and file.exists():
            self.weights, self.note = load_tensors(file)
        score = self.judge(module.eval())
        if score > self.note["score"]:
            self.note, self.weights = {"score": score, "step": done}, {k: v.detach().clone() for k, v in module.state_dict().items()}
            if file is not None:
                save_tensors(file, self.weights, self.note)
        return score

    def put_into(self, module: nn.Module) -> dict[str, float]:
        """Gives the note of what was kept; {} where nobody judged."""
        if self.weights:
            module.load_state_dict(self.weights)
        return self.note if self.weights else {}


@dataclass
class _Tracker:
    stage: str
    curves: Curves
    bar: Bar
    save_every: int  # steps: with the checkpoints, so that a resumed run has the rows before its own
    latest: dict[str, float] = field(default_factory=dict)

    def log(self, step: int, values: dict[str, float]) -> None:
        self.latest = values
        self.curves.log(self.stage, step, {k: v for k, v in values.items() if k != "seconds"})

    def advance(self, done: int, total: int) -> None:
        if done % self.save_every == 0:
            self.curves.save()
        self.bar.advance(done, total)

    def summary(self) -> str:
        return ", ".join(f"{k} {v:.4g}" for k, v in self.latest.items() if k != "lr")
