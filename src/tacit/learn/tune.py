"""A search of settings: trial after trial, each drawn from what the earlier ones came to, written down when it ends, so that a killed search goes on.

"Optuna", Akiba et al. 2019, arXiv 1907.10902; the draw is its tree-structured Parzen estimator (Bergstra et al. 2011). The first trial is the settings as
they are. Trial k is a function of the seed, k and the trials before it: a search that was killed and one that was not are the same. Importance is by
functional analysis of variance (Hutter, Hoos and Leyton-Brown 2014). The largest of many scores is optimistic: judge the best settings on what the search never saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from tacit.config import Config, Count, Share
from tacit.errors import ConfigError, InputError, MissingError, TrainingError
from tacit.learn.search_space import Choice, Space, Span, value_of, word_of

STUDY = "tacit"
FAILURES = (InputError, ConfigError, TrainingError, ValueError, RuntimeError, MemoryError)  # of settings that do not work together, or are too large


class TuneConfig(Config):
    minutes: Annotated[float, Field(ge=0)] = (
        0.0  # no trial begins after so many; 0 = no limit. With a limit the number of trials is that of the machine's speed
    )
    random: Count = 8  # trials before the draw learns from earlier ones; the first is the settings as they are
    held: Count = 5  # one of so many folds of the patients is held out of the search
    screen: Share = 0.0  # of the patients, which score a trial first; below the median of earlier trials it is pruned. 0 = off


class Pruned(Exception):
    """A trial that was stopped because it looked worse than others, why, and its score on the screen."""

    def __init__(self, reason: str, screened: float | None = None) -> None:
        super().__init__(reason)
        self.screened = screened


@dataclass(frozen=True)
class Trial:
    """settings: dotted name → value. state: complete, pruned or failed; reason: why, or what it equals."""

    number: int
    settings: dict[str, Any]
    score: float | None
    seconds: float
    state: str
    reason: str = ""
    screened: float | None = None


@dataclass
class Search:
    """What was searched and what came of it. trials in their order."""

    space: Space
    own: dict[str, Any]  # the settings as they are: those of the first trial
    trials: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial:
        """The complete trial with the largest score, of equals the first. Raises InputError where none is complete."""
        complete = [t for t in self.trials if t.score is not None]
        if not complete:
            raise InputError(
                f"none of {len(self.trials)} trials could be scored; the first: {self.trials[0].reason if self.trials else 'there was no time for any'}"
            )
        return max(complete, key=lambda t: (t.score, -t.number))


def search(
    space: Space,
    own: dict[str, Any],
    count: int,
    score: Callable[[int, dict[str, Any], list[Trial]], tuple[float, float | None]],
    c: TuneConfig,
    *,
    seed: int,
    journal: Path | None = None,
    told: Callable[[Trial], None] = lambda trial: None,
) -> Search:
    """Tries `count` settings of a space, those of the journal included, and gives all of them.

    own: a value of every setting of the space, tried first. score(number, settings, earlier trials) gives the score (larger is better) and that of the
    screen; it may raise Pruned. journal: Optuna's own file, which its dashboard reads too. Raises MissingError without Optuna.
    """
    optuna = _optuna()
    study = _study(optuna, journal)
    found = Search(space, own, [_trial_of(t, space) for t in study.get_trials(deepcopy=False)])
    clock = time.monotonic()
    while len(found.trials) < count and not (c.minutes and time.monotonic() - clock > 60 * c.minutes):
        trial = _tried(len(found.trials), _drawn(optuna, study, space, own, c, seed, len(found.trials)), found.trials, score)
        study.add_trial(_kept(optuna, trial, space))
        found.trials.append(trial)
        told(trial)
    return found


def importance(found: Search, seed: int = 0) -> dict[str, float]:
    """How much of the scores' variance each setting explains, largest first, sums to 1; {} where fewer than four trials differ in score."""
    optuna = _optuna()
    if len({round(t.score, 9) for t in found.trials if t.score is not None}) < 4:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials([_kept(optuna, t, found.space) for t in found.trials])
    named = optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed))
    return {name: float(share) for name, share in named.items()}


def _tried(number: int, settings: dict[str, Any], earlier: list[Trial], score: Callable[..., tuple[float, float | None]]) -> Trial:
    """A trial, whatever becomes of it."""
    same = next((t for t in earlier if t.settings == settings), None)
    if same is not None:
        return Trial(number, settings, same.score, 0.0, same.state, f"the settings of trial {same.number}", same.screened)
    clock = time.monotonic()
    try:
        value, screened = score(number, settings, earlier)
    except Pruned as stopped:
        return Trial(number, settings, None, round(time.monotonic() - clock, 2), "pruned", str(stopped), stopped.screened)
    except FAILURES as error:
        words = (str(error).splitlines() or [type(error).__name__])[0]
        return Trial(number, settings, None, round(time.monotonic() - clock, 2), "failed", words)
    if value != value:  # not a number
        return Trial(
            number, settings, None, round(time.monotonic() - clock, 2), "failed", "the score is not a number: a class has no case on one side", screened
        )
    return Trial(number, settings, value, round(time.monotonic() - clock, 2), "complete", "", screened)


def _drawn(optuna: Any, study: Any, space: Space, own: dict[str, Any], c: TuneConfig, seed: int, number: int) -> dict[str, Any]:
    """The settings of a trial: a function of the seed, its number and the trials before it."""
    if number == 0:
        return dict(own)
    sampler = optuna.samplers.TPESampler(seed=seed * 100_003 + number, n_startup_trials=c.random, multivariate=True)
    copy = optuna.create_study(direction="maximize", sampler=sampler)
    copy.add_trials(study.get_trials(deepcopy=False))
    drawn = copy.ask({name: _distribution(optuna, part) for name, part in space.items()}).params
    return {name: _rounded(_value(drawn[name], part), part) for name, part in space.items()}


def _distribution(optuna: Any, part: Span | Choice) -> Any:
    kinds = optuna.distributions
    if isinstance(part, Choice):
        return kinds.CategoricalDistribution([word_of(v) for v in part.values])
    whole = isinstance(part.low, int) and isinstance(part.high, int)
    return kinds.IntDistribution(part.low, part.high, log=part.log) if whole else kinds.FloatDistribution(part.low, part.high, log=part.log)


def _value(drawn: Any, part: Span | Choice) -> Any:
    return value_of(drawn) if isinstance(part, Choice) else drawn


def _rounded(value: Any, part: Span | Choice) -> Any:
    """Three digits of a number: nobody wants to write down more."""
    return min(max(float(f"{value:.3g}"), part.low), part.high) if isinstance(part, Span) and isinstance(value, float) else value


def _kept(optuna: Any, trial: Trial, space: Space) -> Any:
    states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED, "failed": optuna.trial.TrialState.FAIL}
    return optuna.trial.create_trial(
        state=states[trial.state],
        params={name: word_of(v) if isinstance(space[name], Choice) else v for name, v in trial.settings.items()},
        distributions={name: _distribution(optuna, part) for name, part in space.items()},
        value=trial.score,
        user_attrs={"seconds": trial.seconds, "reason": trial.reason, "screened": trial.screened},
    )


def _trial_of(kept: Any, space: Space) -> Trial:
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    settings = {name: _value(kept.params[name], space[name]) for name in space}
    about = kept.user_attrs
    return Trial(kept.number, settings, kept.value, about["seconds"], states[kept.state.name], about["reason"], about["screened"])


def _study(optuna: Any, journal: Path | None) -> Any:
    """The study in the journal; half a line, which a killed process may leave at its end, is taken off."""
    if journal is None:
        return optuna.create_study(direction="maximize")
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{journal}.lock")
    lock.unlink(missing_ok=True)  # of a killed process; OUT has a lock of its own
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            journal.write_bytes(content[: content.rfind(b"\n") + 1])
    files = optuna.storages.journal
    storage = optuna.storages.JournalStorage(files.JournalFileBackend(str(journal), lock_obj=files.JournalFileOpenLock(str(journal))))
    return optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingError("--tune needs the package optuna, which is not installed; pip install 'tacit[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
