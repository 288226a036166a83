"""What lies nearest to a target: candidate preparations of a source, sets, or runs of `tacit pretrain` by what they learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tacit.config import read_toml
from tacit.errors import InputError, ReadError, UsageError
from tacit.prepare.steps import SEEN_FIRST
from tacit.run import Run
from tacit.use.distance import How, Labelled, one_solver
from tacit.use.distance_change import WINDOW, change_of, series_steps, words_of
from tacit.use.distance_features import Maker
from tacit.use.distance_input import check_one_kind
from tacit.use.distance_pairs import DistanceResult, Pair, answer, halves_of, measured
from tacit.use.distance_sides import Plan, Side, ready, words

AS_IT_IS = "as it is"
Ranked = tuple[DistanceResult, list[Side], list[Pair]]


@dataclass(frozen=True)
class Asked:
    """What every question has in common. find(source, name, its number, maker, steps): a side with its labels · draws: counts and the seed."""

    run: Run
    find: Callable[..., Side]
    plan: Plan
    how: How
    draws: dict[str, int]

    def told(self, sides: Sequence[Side], maker: Maker, share: float) -> dict[str, Any]:
        """What the answer says of the sets and of the features."""
        about = {"name": maker.name, "why": maker.why, "weights_hash": maker.weights_hash, "variance_kept": share}
        about |= {"components": sides[0].set.x.shape[1] if sides[0].set is not None else 0}
        sets: list[dict[str, Any]] = [
            {"name": s.name, "samples": len(s.set), "of": s.total, "kind": s.found.kind, "labels": s.labels_from, "said": words(s)} for s in sides if s.set
        ]
        notes = [note for side in sides for note in side.notes]
        if any(len(s.found.looks) < s.total for s in sides):
            notes.append(
                "a draw of a set was looked at: a distance of draws is larger than that of the whole sets, the more the fewer are drawn; "
                "lay it beside the split halves, which share that bias, and compare distances of equal draws"
            )
        return {"sets": sets, "features": about, "notes": tuple(notes), "failed": len(self.run.failures), "folder": self.run.folder}


def rank_candidates(source: str, names: Sequence[str], to: str, tried: Sequence[str], maker: Maker, asked: Asked) -> Ranked:
    """The source as it is and after each candidate, against the target. One that cannot be done is a row of failures.csv."""
    target, plain = asked.find(to, names[-1], 1, maker), asked.find(source, AS_IT_IS, 0, maker)
    check_one_kind([plain.found, target.found])
    sides, image = [plain], _first_image(plain)
    for name in tried:
        prepared, rest = series_steps(name) if plain.found.kind in ("slices", "series") else (None, name)
        side = (
            asked.find(source, name, 0, maker, prepared) if prepared is not None else Side(replace(plain.found, name=name), plain.clusters, plain.labels_from)
        )
        side.like = plain
        try:
            side.change = change_of(rest, target.found.looks) if rest else None
            if side.change is not None and image is not None:
                side.change(image)  # what can be done to none is said once
        except InputError as error:
            asked.run.fail(name, ReadError(name, f"it cannot be done to {names[0]}: {str(error).split(';')[0]}", "leave the candidate out"))
            continue
        sides.append(side)
    if len(sides) < 2:
        raise InputError(f"none of the candidates {', '.join(tried)} can be done to {names[0]}; the first: {asked.run.failures[0][1]}")
    result, sides, pairs = _ranked([*sides, target], maker, asked)
    words = words_of(result.ranking[0]["name"]) if result.ranking[0]["name"] != AS_IT_IS else [WINDOW]
    if WINDOW in words:
        return result, sides, pairs
    stained = f" --target {to}" if set(words) & set(SEEN_FIRST) else ""
    return replace(result, following=f"tacit prepare {source} -o PREPARED --steps {','.join(words)}{stained}"), sides, pairs


def rank_sets(places: Sequence[str | Path], names: Sequence[str], to: str, maker: Maker, asked: Asked) -> Ranked:
    """Sets against the target, all by the same features."""
    sides = [asked.find(str(place), name, i, maker) for i, (place, name) in enumerate(zip([*places, to], names, strict=True))]
    check_one_kind([side.found for side in sides])
    return _ranked(sides, maker, asked)


def rank_runs(sources: Sequence[str], names: Sequence[str], to: str, makers: dict[str, Maker], asked: Asked) -> Ranked:
    """Runs against the target: what each learnt from and the target, both by what it learnt.

    Two runs' features have scales of their own, so that a distance is divided by the root mean squared distance of two samples of the target.
    """
    rows: list[tuple[Side, Labelled, Pair, float, float]] = []
    target = None
    told_by: dict[str, str] | None = None
    share = 0.0
    for i, (source, name) in enumerate(zip(sources, names, strict=False)):
        own = asked.find(str(input_of(source)), name, i, makers[source])
        target = asked.find(to, names[-1], len(sources), makers[source])
        if told_by is not None and target.clusters is not None:  # the clusters of the first run are the target's labels for all of them
            looks = tuple(replace(look, label=told_by[look.key]) for look in target.found.looks if look.key in told_by)
            target.found, target.clusters, target.labels_from = replace(target.found, looks=looks), None, f"the clusters by {names[0]}"
        check_one_kind([own.found, target.found])
        share = ready([own, target], makers[source], asked.plan, asked.run)
        if target.clusters is not None and target.set is not None:
            told_by = {key: target.set.classes[y] for key, y in zip(target.set.keys, target.set.y.tolist(), strict=True)}
        assert own.set is not None and target.set is not None
        scale = 1 / np.sqrt(2 * target.set.x.var(0).sum())
        sets = [replace(s, x=s.x * scale) for s in (own.set, target.set)]
        how = one_solver(asked.how, sets)
        pair = measured(sets, [(0, 1)], how, **asked.draws)[0]
        halves = halves_of(sets, how, asked.plan.seed)
        own.set = sets[0]
        rows.append((own, sets[1], replace(pair, a=i, b=len(sources)), halves[0], halves[1]))
    assert target is not None
    target.set = rows[-1][1]
    sides, pairs = [*(row[0] for row in rows), target], [row[2] for row in rows]
    note = "each run by its own features, in units of the target's spread (root mean squared distance of two of its samples); the target's halves are those by the last run"
    told = asked.told(sides, makers[sources[-1]], share)
    told["features"] |= {"name": "each run's own", "why": "what each run learnt: no run is judged by another's features", "weights_hash": None}
    told["features"] |= {"runs": {n: makers[s].weights_hash for n, s in zip(names, sources, strict=False)}}
    told["notes"] = (note, *told["notes"])
    made = [side.set for side in sides if side.set is not None]
    result = answer(made, pairs, [*(row[3] for row in rows), rows[-1][4]], **told)
    ranking = _rows(result, [row[4] for row in rows])
    return replace(result, ranking=ranking), sides, pairs


def is_pretrained(place: str) -> bool:
    """Whether a folder is the OUT of a run of `tacit pretrain`."""
    return (Path(place) / "model" / "model.json").is_file() and (Path(place) / "config.toml").is_file()


def input_of(place: str) -> str | Path:
    """The images that a run learnt from; of what is no run, itself. Raises UsageError where the run does not say, or they are no longer there."""
    if not is_pretrained(place):
        return place
    said = read_toml(Path(place) / "config.toml").get("pretrain", {}).get("input")
    if not isinstance(said, str):
        raise UsageError(f"{place} is a run, but not of tacit pretrain: its config.toml names no input; give runs of tacit pretrain, or folders of images")
    if not Path(said).exists() and not set("*?[") & set(said):
        raise UsageError(f"{place} learnt from {said}, which is not there any more (seen from here); give the folder of its images instead")
    return said


def _first_image(side: Side) -> Any:
    """The first image of a side that can be read; None where there is none."""
    for look in side.found.looks:
        with suppress(ReadError):
            return look.read()[0]
    return None


def _ranked(sides: list[Side], maker: Maker, asked: Asked) -> Ranked:
    share = ready(sides, maker, asked.plan, asked.run)
    made = [side.set for side in sides if side.set is not None]
    how = one_solver(asked.how, made)
    pairs = measured(made, [(i, len(made) - 1) for i in range(len(made) - 1)], how, **asked.draws)
    halves = halves_of(made, how, asked.plan.seed)
    result = answer(made, pairs, halves, **asked.told(sides, maker, share))
    return replace(result, ranking=_rows(result, [halves[-1]] * len(pairs))), sides, pairs


def _rows(result: DistanceResult, target_halves: Sequence[float]) -> list[dict[str, Any]]:
    """Candidates from near to far."""
    last = len(result.names) - 1
    rows = [
        {
            "name": name,
            "distance": result.matrix[i][last],
            "interval": result.interval[i][last],
            "p_value": result.p_value[i][last],
            "at_half": result.at_half[i][last],
            "halves_of_it": result.split_half[i],
            "halves_of_target": target_halves[i],
            "solver": result.solver[i][last],
        }
        for i, name in enumerate(result.names[:last])
    ]
    return [{"rank": k, **row} for k, row in enumerate(sorted(rows, key=lambda row: (row["distance"], row["name"])), 1)]
