"""Frozen settings that come from three places: defaults in the code, a TOML file, and `--set a.b=value`.

A setting that nobody knows is an error naming the nearest one that exists; a wrong value is never replaced by a default.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tacit.errors import ConfigError


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= pair[0] <= pair[1]:
        raise ValueError("a range is two numbers, 0 <= low <= high")
    return pair


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Config(BaseModel):
    """Base of every settings class: immutable, no unknown fields, no infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


C = TypeVar("C", bound=Config)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError naming the file and the line that could not be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["train.epochs=5", "data.size=96"]` as nested tables; values are TOML, bare words are text.

    >>> parse_assignments(["train.epochs=5", "name=fast"])
    {'train': {'epochs': 5}, 'name': 'fast'}
    """
    tables: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set wants key=value, for example --set train.epochs=5; it got {assignment!r}")
        try:
            value = tomllib.loads(f"value = {text.strip()}")["value"]
        except tomllib.TOMLDecodeError:
            value = text.strip()
        *parents, last = key.strip().split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {key}: {parent!r} was already given a value, so it cannot hold {last!r}")
        table[last] = value
    return tables


def chosen_settings(file: str | Path | None, assignments: list[str] | None, verb: str) -> dict[str, Any]:
    """The tables of `--config` with those of `--set` laid over them. The table of the verb itself is left out: a run's own config.toml can be given back."""
    chosen = merge(read_toml(Path(file)) if file else {}, parse_assignments(assignments or []))
    chosen.pop(verb, None)
    return chosen


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with every value of `change` laid over it, table by table."""
    merged = dict(base)
    for key, value in change.items():
        inner = merged.get(key)
        merged[key] = merge(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def build(kind: type[C], *tables: dict[str, Any]) -> C:
    """Settings of `kind` from its defaults and `tables`, later ones winning.

    Raises ConfigError: for an unknown key with its nearest known name, for a bad value with what was expected.
    """
    merged: dict[str, Any] = {}
    for table in tables:
        if not isinstance(table, dict):
            raise ConfigError(f"{kind.__name__.removesuffix('Config').lower()}={table!r}: this is a table of settings, set one of them as name.setting=value")
        merged = merge(merged, table)
    try:
        return kind.model_validate(_on_defaults(kind, merged))
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(kind, dict(fault)) for fault in error.errors())) from None


def _on_defaults(kind: type[BaseModel], given: dict[str, Any], outer: Config | None = None) -> dict[str, Any]:
    """`given` laid over the defaults of the tables that it names: one setting of a table leaves the others as the outermost settings have them."""
    laid = dict(given)
    for name, field in kind.model_fields.items():
        default = field.default if outer is None else getattr(outer, name)
        if isinstance(default, Config) and isinstance(laid.get(name), dict):
            laid[name] = merge(default.model_dump(exclude_unset=True), _on_defaults(type(default), laid[name], default))
    return laid


def _explain(kind: type[Config], fault: dict[str, Any]) -> str:
    where = [str(step) for step in fault["loc"]]
    name = ".".join(where)
    if fault["type"] != "extra_forbidden":
        return f"setting {name or kind.__name__}: {fault['msg']} (it got {fault.get('input')!r})"
    known = list(_names(kind))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    leaf = [n for n in known if n.rsplit(".", 1)[-1] == where[-1]]
    hint = near or leaf or difflib.get_close_matches(where[-1], known, n=1, cutoff=0)
    return f"unknown setting {name!r}" + (f"; the nearest known one is {hint[0]!r}" if hint else "")


def _names(kind: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        names.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, f"{prefix}{name}.")
    return names


def to_toml(tables: dict[str, Any], prefix: str = "") -> str:
    """Nested tables as TOML text that `read_toml` reads back; None values are left out (TOML has none)."""
    plain = [f"{key} = {_toml_value(v)}" for key, v in tables.items() if not isinstance(v, dict) and v is not None]
    text = "\n".join(plain) + ("\n" if plain else "")
    for key, value in tables.items():
        if isinstance(value, dict):
            text += f"\n[{prefix}{key}]\n{to_toml(value, f'{prefix}{key}.')}"
    return text


def _toml_value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, Path):
        return json.dumps(str(value))
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML forbids a bare delete
