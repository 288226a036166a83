"""How many members, and folds inside them, the patients allow: more than there are is refused where it was asked for, and said where it was a default."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tacit.errors import UsageError
from tacit.learn.gated import BRANCHES, Gated, GatedConfig
from tacit.learn.pipelines import pipeline_named
from tacit.read.labels import Labels
from tacit.run import plain
from tacit.use.cohort import Case

FOLDS = (("members",), ("inner",), ("folds",), ("first", "folds"), ("second", "table", "folds"))  # settings that part patients


def check_members(kind: Any, chosen: dict[str, Any], cases: list[Case], labels: Labels) -> None:
    """Raises UsageError where the user asks for more folds than the rarest class has patients.

    kind: the class of the pipeline · chosen: what --set and --config say, nested; a default that a run's config.toml repeats is not asked for.
    """
    name, least = _rarest(cases, labels)
    for where, own, given in _tables(kind, chosen):
        default = plain(own.Config())
        for path in FOLDS:
            asked = _at(given, path)
            if asked is not None and asked > least and asked != _at(default, path):
                raise UsageError(
                    f"{where}{'.'.join(path)}={asked}: expected at most {least}, the patients of class {name!r}, as every fold leaves some of each class out; set fewer"
                )


def fewer_members(network: Any, members: list[Any], cases: list[Case], labels: Labels) -> list[str]:
    """A sentence for each pipeline that was taught fewer members than it asks for. members: what `fit` gave of each."""
    name, least = _rarest(cases, labels)
    if not isinstance(network, Gated):
        taught = {"": (network.config.members, len(members))}
    else:
        own = [member["branch"] for member in members]
        taught = {f"branch {side}: ": (getattr(network, side).config.members, own.count(side)) for side in BRANCHES}
    why = f"the rarest class, {name!r}, has {least} patients" + (" on both sides of the gate" if isinstance(network, Gated) else "")
    return [
        f"{where}{asked} members asked, {possible} possible: {why}, and each member leaves some of every class out."
        for where, (asked, possible) in taught.items()
        if possible < asked
    ]


def _tables(kind: Any, chosen: dict[str, Any]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Where settings stand, whose they are, and what is given of them: of a gate its own and those of both branches."""
    yield "", kind, chosen
    for side in BRANCHES if kind is Gated else ():
        given = chosen.get(side, {})
        yield f"{side}.settings.", pipeline_named(given.get("pipeline", getattr(GatedConfig(), side).pipeline)), given.get("settings", {})


def _rarest(cases: list[Case], labels: Labels) -> tuple[str, int]:
    """The class with the fewest patients among the cases, and their number."""
    patients = {name: len({labels.patient[c.name] for c in cases if labels.of[c.name] == name}) for name in labels.classes}
    return min(patients.items(), key=lambda row: row[1])


def _at(settings: dict[str, Any], path: tuple[str, ...]) -> int | None:
    """The whole number that stands there; None where none does."""
    found: Any = settings
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, int) else None
