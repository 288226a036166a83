"""What `--tune` may change of a pipeline, as plain data beside its settings: setting → Span of numbers or Choice of values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """Numbers low … high, both taken; whole ones where both are whole. log: as many below the geometric middle as above. series: only where a case is a series."""

    low: float
    high: float
    log: bool = False
    series: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several values: numbers, words, tuples. series: only where a case is a series."""

    values: tuple[Any, ...]
    series: bool = False


Space = dict[str, Span | Choice]  # by the setting's name, tables joined by dots


def narrowed(space: Space, unit: str, given: dict[str, Any]) -> Space:
    """The part of a space that is searched: without what the user has given a value by name, without what only series have."""
    named = set(flat(given))
    return {n: s for n, s in space.items() if n not in named and not (s.series and unit != "series")}


def widened(space: Space, base: dict[str, Any]) -> tuple[Space, dict[str, Any]]:
    """The space with the settings as they are inside it, and these settings. base: nested. Settings that base does not have stay out of it."""
    have, wide, own = flat(base), dict(space), {}
    for name, part in space.items():
        if name not in have:
            del wide[name]
            continue
        value = own[name] = _hashable(have[name])
        if isinstance(part, Span):
            wide[name] = Span(min(part.low, value), max(part.high, value), part.log, part.series)
        elif value not in part.values:
            wide[name] = Choice((value, *part.values), part.series)
    return wide, own


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted names as tables.

    >>> nested({"train.lr": 0.1, "size": 64})
    {'train': {'lr': 0.1}, 'size': 64}
    """
    tables: dict[str, Any] = {}
    for name, value in settings.items():
        *parents, last = name.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = list(value) if isinstance(value, tuple) else value
    return tables


def flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Tables as settings by dotted names.

    >>> flat({"train": {"lr": 0.1}, "size": 64})
    {'train.lr': 0.1, 'size': 64}
    """
    found: dict[str, Any] = {}
    for name, value in tables.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def word_of(value: Any) -> str:
    """A value as text that `value_of` reads back."""
    return json.dumps(value)


def value_of(word: str) -> Any:
    """The value that `word_of` wrote; lists are tuples.

    >>> value_of(word_of((1.0, 3.0)))
    (1.0, 3.0)
    """
    return _hashable(json.loads(word))


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, (list, tuple)) else value
