"""`tacit classify fit --tune N`: settings searched on some of the patients, judged on the others, and what is written of it.

one fold of the patients held out → trials, each scored out of fold on the rest → the best teaches on the rest, answers the held-out fold → tables/tuning.csv, figures/tuning.png, tuned.toml
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tacit.config import build, to_toml
from tacit.errors import UsageError
from tacit.files import write_atomic
from tacit.learn.search_space import narrowed, nested, widened, word_of
from tacit.learn.table_classifier import grouped_folds
from tacit.learn.tune import Pruned, Search, Trial, TuneConfig, importance, search
from tacit.learn.workshop import Workshop
from tacit.read.labels import Labels
from tacit.report.classes import FEW, area, figures
from tacit.report.page import Panel
from tacit.report.picture import embedded
from tacit.report.track import Bar, Curves
from tacit.report.tune_figures import tuning_plot
from tacit.run import Run, as_csv, plain
from tacit.use.classify_cases import check_patients, drawn_slices, laid_out, network_of, numbers_of, prepared
from tacit.use.cohort import Case
from tacit.use.report_gate import Extra

SNIPPET = """# The best of {count} settings that `tacit classify fit --tune` tried: trial {number}, area {score:.4f} out of fold on {cases} cases ({base:.4f} with the settings as they were).
# The best of many scores is optimistic; on {held} patients that the search never saw its area is {outer:.4f} [{low:.4f}, {high:.4f}], that of the settings as they were {outer_before:.4f}.
# Again with: tacit classify fit CASES -o OUT --labels LABELS.csv --pipeline {pipeline} --config tuned.toml
"""


@dataclass(frozen=True)
class Tuning:
    """A kind of pipeline with the settings as given, what the user named, and how a search goes."""

    kind: Any
    config: Any
    given: dict[str, Any]
    count: int
    how: TuneConfig


def check_tuning(tuning: Tuning | None, how: TuneConfig) -> None:
    """Raises UsageError where nothing can be searched, or where settings of a search are given without one."""
    if tuning is None:
        if how != TuneConfig():
            raise UsageError("settings under tune. are those of a search, so they want --tune N")
        return
    if tuning.count < 2:
        raise UsageError(f"--tune {tuning.count}: expected at least two trials; the first is the settings as they are")
    space = getattr(tuning.kind, "SEARCH", {})
    if not space:
        raise UsageError("--tune: this pipeline names no settings that could be searched (its SEARCH is empty); leave --tune out")
    if not widened(narrowed(space, "series", tuning.given), _whole(tuning))[0]:
        raise UsageError(f"--tune searches {', '.join(space)}, and each of them is given by --set or --config; leave one of them free")


def tuned(tuning: Tuning, cases: list[Case], labels: Labels, run: Run, curves: Curves) -> Any:
    """The config with the best settings. Writes what was tried; run.record["tuning"] says what came of it. Cases that cannot be used are rows of failures.csv."""
    seed, unit = run.record["seed"], cases[0].unit
    usable = [c for c in cases if prepared(c, run) is not None]
    check_patients(usable, labels)
    y, groups = numbers_of(usable, labels), np.array([labels.patient[c.name] for c in usable])
    inner, outer = next(iter(grouped_folds(y, groups, tuning.how.held, seed + 7919)))
    inside, held = [usable[i] for i in inner], [usable[i] for i in outer]
    trials_of = _Trials(tuning, unit, labels, run)
    space, own = widened(narrowed(tuning.kind.SEARCH, unit, tuning.given), _whole(tuning))
    with Bar("trials") as bar:

        def told(trial: Trial) -> None:
            run.say(f"trial {trial.number}: {trial.state} {'' if trial.score is None else f'{trial.score:.4f}'} {trial.reason} {trial.settings}")
            _log(curves, [trial])
            bar.advance(trial.number + 1, tuning.count)

        found = search(
            space, own, tuning.count, lambda number, settings, earlier: trials_of.score(number, settings, earlier, inside), tuning.how,
            seed=seed, journal=run.folder / "checkpoints" / "tune" / "journal.log", told=told,
        )  # fmt: skip
    _log(curves, found.trials)
    best = found.best
    judged = trials_of.judged("best", best.settings, inside, held)
    before = judged if best.number == 0 else trials_of.judged("as-they-were", own, inside, held)
    _write(found, judged, before, tuning, run, len(inside), importance(found))
    return build(tuning.kind.Config, plain(tuning.config), nested(best.settings))


def _whole(tuning: Tuning) -> dict[str, Any]:
    """The settings as they are, those of a network that only its name gives included."""
    whole: dict[str, Any] = getattr(tuning.kind, "whole", plain)(tuning.config)
    return whole


def with_tuning(extra: Extra, run: Run) -> Extra:
    """What the page says of a search beside what else it says: the plot, and what a reader must know before believing a figure."""
    about = run.record.get("tuning")
    if not about:
        return extra
    held, (low, high) = about["held_out"], about["held_out"]["interval"]["auc"]
    words = (
        f"Settings were searched: the best of {about['trials']} trials has an area of {about['score']:.3f} on the {about['cases']} cases of the search. That is "
        f"optimistic, and so are the figures out of fold here, whose cases the search saw. On {held['cases']} cases of {held['patients']} patients that it never "
        f"saw the same settings have {held['auc']:.3f} [{low:.3f}, {high:.3f}], the settings as they were {about['held_out_as_they_were']['auc']:.3f}"
        + ("; so few patients say little." if held["patients"] < FEW * len(held["classes"]) else ".")
    )
    picture = embedded((run.folder / "figures" / "tuning.png").read_bytes(), "png")
    panel = Panel("Search of settings", picture, None, "Every trial is in tables/tuning.csv, the best settings in tuned.toml.")
    return replace(extra, figures=[*extra.figures, panel], warnings=[*extra.warnings, words])


def _log(curves: Curves, trials: list[Trial]) -> None:
    for trial in trials:
        if trial.score is not None:
            curves.log("tune", trial.number, {"score": trial.score})
    curves.save()


@dataclass
class _Trials:
    """Teaches and scores settings on cases."""

    tuning: Tuning
    unit: str
    labels: Labels
    run: Run

    def score(self, number: int, settings: dict[str, Any], earlier: list[Trial], cases: list[Case]) -> tuple[float, float | None]:
        """The area of settings out of fold, and that of the screen. Raises Pruned, and what pipelines raise."""
        share, screened = self.tuning.how.screen, None
        if 0 < share < 1:
            screened = self._area(f"screen-{number}", settings, self._some(cases, share))
            before = [t.screened for t in earlier if t.screened is not None]
            if number >= self.tuning.how.random and before and screened < float(np.median(before)):
                raise Pruned(
                    f"area {screened:.3f} on a share of {share:g} of the patients, below the median {np.median(before):.3f} of earlier trials", screened
                )
        return self._area(f"trial-{number}", settings, cases), screened

    def judged(self, stage: str, settings: dict[str, Any], inside: list[Case], held: list[Case]) -> dict[str, Any]:
        """What settings are worth on cases that the search never saw, taught on those that it saw."""
        network = self._network(settings, inside)
        with laid_out(network, [*inside, *held], False, self.run) as laid:
            at = len(inside)
            self._fit(network, laid.cases[:at], laid.kept[:at], stage)
            p = network.answers(laid.kept[at:]).p
        y, groups = self._answers(held)
        return figures(p, y, self.labels.classes, groups, self.run.record["seed"])

    def _area(self, stage: str, settings: dict[str, Any], cases: list[Case]) -> float:
        network = self._network(settings, cases)
        with laid_out(network, cases, False, self.run) as laid:
            p = self._fit(network, laid.cases, laid.kept, stage)
        return area(p, self._answers(cases)[0])

    def _network(self, settings: dict[str, Any], cases: list[Case]) -> Any:
        config = build(self.tuning.kind.Config, plain(self.tuning.config), nested(settings), {"unit": self.unit})
        network = network_of(self.tuning.kind, config, cases)
        network.look(drawn_slices(cases, self.run.record["seed"]), self.run.record["seed"])
        return network

    def _fit(self, network: Any, cases: list[Case], kept: Any, stage: str) -> Any:
        """p out of fold. What is kept of an unfinished trial goes when it is finished."""
        y, groups = self._answers(cases)
        place = self.run.folder / "checkpoints" / "tune" / stage
        shop = Workshop(self.run.record["seed"], self.run.record["device"], place, Curves(None), self.run.say)
        p, _ = network.fit(kept, y, groups, shop)
        shutil.rmtree(place, ignore_errors=True)
        return p

    def _answers(self, cases: list[Case]) -> tuple[Any, Any]:
        return numbers_of(cases, self.labels), np.array([self.labels.patient[c.name] for c in cases])

    def _some(self, cases: list[Case], share: float) -> list[Case]:
        """Cases of a share of the patients, the same for every trial, of each class as many as grouped folds give."""
        y, groups = self._answers(cases)
        _, test = next(iter(grouped_folds(y, groups, max(round(1 / (1 - share)), 2), self.run.record["seed"] + 104729)))
        left = np.setdiff1d(np.arange(len(cases)), test)
        return [cases[i] for i in left]


def _write(found: Search, judged: dict[str, Any], before: dict[str, Any], tuning: Tuning, run: Run, cases: int, shares: dict[str, float]) -> None:
    """tables/tuning.csv, figures/tuning.png, tuned.toml, and run.record["tuning"]."""
    best, base, names = found.best, found.trials[0].score, list(found.space)
    header = ("trial", "state", "score", "screen", "seconds", "reason", *names)
    rows = [
        (t.number, t.state, _four(t.score), _four(t.screened), t.seconds, t.reason, *(v if isinstance(v := t.settings[n], str) else word_of(v) for n in names))
        for t in found.trials
    ]
    write_atomic(run.folder / "tables" / "tuning.csv", as_csv(header, rows))
    low, high = judged["interval"]["auc"]
    plot = tuning_plot([t.score for t in found.trials], shares, (judged["auc"], low, high))
    write_atomic(run.folder / "figures" / "tuning.png", plot)
    head = SNIPPET.format(
        count=len(found.trials), number=best.number, score=best.score, cases=cases, base=float("nan") if base is None else base, held=judged["patients"],
        outer=judged["auc"], outer_before=before["auc"], low=low, high=high, pipeline=run.record["pipeline"],
    )  # fmt: skip
    write_atomic(run.folder / "tuned.toml", head + to_toml(nested(best.settings)))
    counts = {state: sum(t.state == state for t in found.trials) for state in ("complete", "pruned", "failed")}
    run.record["tuning"] = {
        "trials": len(found.trials), **counts, "best": best.number, "score": round(float(best.score or 0), 4), "as_they_were": base,
        "cases": cases, "held_out": judged, "held_out_as_they_were": before, "importance": {n: round(v, 4) for n, v in shares.items()}, "settings": nested(best.settings),
    }  # fmt: skip


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
