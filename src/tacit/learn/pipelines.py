"""Every way to classify a case, by name (see `case_answers`)."""

from __future__ import annotations

from typing import Any

from tacit.errors import UsageError
from tacit.learn.end_to_end import EndToEnd
from tacit.learn.gated import Gated
from tacit.learn.two_level import TwoLevel

PIPELINES: dict[str, Any] = {
    "two-level": TwoLevel,
    "gate": Gated,
    "end-to-end": EndToEnd,
}


def pipeline_named(name: str) -> Any:
    """The class of a pipeline. Raises UsageError for an unknown name."""
    if name not in PIPELINES:
        raise UsageError(f"--pipeline {name!r} is unknown; known are {', '.join(PIPELINES)}")
    return PIPELINES[name]
