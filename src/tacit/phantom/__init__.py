"""Drawn anatomy with exact truth: `generator("tissue")`, or your own file with a function `draw`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tacit.errors import MissingError, UsageError
from tacit.phantom.drawing import Drawing

NAMES = ("tissue", "fundus", "chest", "ct")
Draw = Callable[..., Drawing]


def generator(name: str) -> ModuleType:
    """The module that draws `name`: one of `NAMES`, or the path of a Python file.

    It has `draw(rng, shape, um_per_px, config=None, *, stains=None) -> Drawing` and `CLASSES`, a tuple of names;
    those of `NAMES` also `CONFIG`, the class of their settings.
    A file is run as code: use your own.
    """
    if name in NAMES:
        return importlib.import_module(f"tacit.phantom.{name}")
    path = Path(name)
    if path.suffix != ".py":
        raise UsageError(f"--phantom {name!r} is unknown; known are {', '.join(NAMES)}, or the path of a .py file that defines draw()")
    spec = importlib.util.spec_from_file_location(f"tacit_phantom_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise MissingError(f"--phantom {name}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "draw", None)):
        raise UsageError(f"--phantom {name}: the file defines no function draw(rng, shape, um_per_px) that returns a Drawing")
    return module
