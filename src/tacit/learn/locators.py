"""Every way to find landmarks from one marked picture, by name; what each is given and answers is in learn/located.py."""

from __future__ import annotations

from typing import Any

from tacit.config import Config
from tacit.learn.classical.template_match import CopyPoints, TemplateMatch
from tacit.learn.dense_match import DenseMatch
from tacit.learn.many_paths import ManyPaths


class NoSettings(Config):
    """Of a way that has none."""


LOCATORS: dict[str, Any] = {
    "paths": ManyPaths,
    "embedding": DenseMatch,
    "template-matching": TemplateMatch,
    "copy": CopyPoints,
}
