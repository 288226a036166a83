"""Writes docs/settings.md from the config classes: every field, its default, and the comment beside it. `--check` only compares."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

from tacit.config import Config
from tacit.learn.few_labels import FewLabelsConfig
from tacit.learn.locators import LOCATORS
from tacit.learn.methods import METHODS
from tacit.learn.pipelines import PIPELINES
from tacit.learn.pretraining import METHODS as PRETRAINING
from tacit.learn.series_models import MODELS
from tacit.learn.sources import TilesConfig
from tacit.learn.structures import STRUCTURES
from tacit.learn.tune import TuneConfig
from tacit.phantom.ct_config import CtConfig
from tacit.use.instances import InstancesConfig
from tacit.use.lungs_learn import LungsConfig
from tacit.use.pair_calibrate import PairsConfig
from tacit.use.pretrain_select import SelectConfig
from tacit.use.slide_predict import SlidesConfig

PLACE = Path(__file__).with_name("settings.md")
HEAD = """# Every setting

Set one with `--set name=value` (repeat for more) or in a TOML file with `--config`; `config.toml` of a run holds all of them as used.
An unknown name is an error that names the nearest known one. The comments are those beside the code; `paper` marks a published value.
This page is written by `make docs`.
"""


def comments(kind: type[Config]) -> dict[str, str]:
    """field → the comment at the end of its line, own and inherited."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not (isinstance(base, type) and issubclass(base, Config)) or base is Config:
            continue
        lines = inspect.getsource(base).splitlines()
        for node in ast.parse(inspect.getsource(base)).body[0].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = re.search(r"(?<=\s)# (.+)$", lines[node.end_lineno - 1])
                found[node.target.id] = text.group(1) if text else found.get(node.target.id, "")
    return found


def rows(value: Config, prefix: str = "") -> list[str]:
    said, lines = comments(type(value)), []
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if isinstance(inner, Config):
            lines += rows(inner, f"{prefix}{name}.")
        else:
            shown = list(inner) if isinstance(inner, tuple) else inner
            lines.append(f"| `{prefix}{name}` | `{shown}` | {said[name]} |")
    return lines


def written() -> str:
    text = HEAD
    for method, kind in METHODS.items():
        text += f"\n## `--method {method}`\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(kind.Config())) + "\n"
    for method, kind in STRUCTURES.items():
        text += f"\n## `--method {method}`\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(kind.Config())) + "\n"
    for method, kind in PRETRAINING.items():
        text += f"\n## `tacit pretrain --method {method}`\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(kind.Config())) + "\n"
    for method, kind in LOCATORS.items():
        if hasattr(kind, "Config"):
            text += f"\n## `tacit locate --method {method}`\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(kind.Config())) + "\n"
    for model, kind in MODELS.items():
        text += f"\n## Series: `{model}`\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(kind.Config())) + "\n"
    for heading, config, prefix in (
        ("`tacit segment --labels`", FewLabelsConfig(), ""),
        *((f"`tacit classify fit --pipeline {name}`", kind.Config(), "") for name, kind in PIPELINES.items()),
        ("`tacit classify fit --tune`", TuneConfig(), "tune."),
        ("Slides, any method of `tacit pretrain`", TilesConfig(), "tiles."),
        ("`tacit pretrain --select`", SelectConfig(), "select."),
        ("Whole slides, `tacit segment`", SlidesConfig(), "slides."),
        ("Separating glands, any method", InstancesConfig(), "instances."),
        ("`tacit lungs`", LungsConfig(), ""),
        ("`tacit pairs`", PairsConfig(), ""),
        ("`tacit phantom ct`", CtConfig(), ""),
    ):
        text += f"\n## {heading}\n\n| setting | default | meaning |\n|---|---|---|\n" + "\n".join(rows(config, prefix)) + "\n"
    return text


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PLACE.read_text() == written() else "docs/settings.md is not what the code says; run make docs")
    PLACE.write_text(written())
