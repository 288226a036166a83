"""What a run of `tacit segment` is to do: which network, whether it learns and from what, and what its answers are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tacit.config import build
from tacit.errors import UsageError
from tacit.learn.feature_clusters import GIVING, FeatureClusters
from tacit.learn.methods import FAST, METHODS
from tacit.learn.pretraining import METHODS as PRETRAINING
from tacit.learn.rivals import K_MEANS
from tacit.learn.structures import FAST as FAST_STRUCTURES
from tacit.learn.structures import STRUCTURES
from tacit.phantom import generator
from tacit.use import few_labels
from tacit.use.few_labels import Labels
from tacit.use.model import load_model
from tacit.use.seen_by import method_of
from tacit.use.shape_guided import clusters_network, guided_network
from tacit.use.structures import chosen_classes

BUDGETS = ("fast", "full")


@dataclass(frozen=True)
class Task:
    """A network and what is to become of it. Made by `chosen_task`."""

    network: Any
    method: str
    learns: bool  # from the pictures alone, before it answers
    classes: tuple[str, ...] | None  # structures that fill a picture in one way; None = instances at a spacing
    named: str  # what the instances are called, or --classes as it was given
    labels: Labels | None = None  # what teaches it, where labels do
    start: str = ""  # what it then begins with, in words


def chosen_task(
    source: str | Path,
    *,
    method: str,
    model: str | Path | None,
    labels: str | Path | None,
    budget: str,
    phantom: str,
    classes: str | None,
    shape_prior: str | Path | None,
    chosen: dict[str, Any],
) -> Task:
    """Options as one task; arguments as of `tacit.segment`, chosen: the settings that --config and --set change. Raises TacitError for what does not go together."""
    if labels is not None:
        if (method, budget, phantom, shape_prior) != ("phantom", "full", "tissue", None):
            raise UsageError("--labels teach a network that begins at --model or at random: leave --method, --budget, --phantom and --shape-prior out")
        found = few_labels.find_labels(labels, source)
        few, start = few_labels.few_network(found, model, classes, chosen)
        return Task(few, few_labels.NAME, False, tuple(chosen_classes(few, classes)), classes or "gland", found, start)
    if phantom == "ct":
        raise UsageError("--phantom ct: drawn CT series teach no way to segment pictures; draw them with tacit phantom ct, find lungs with tacit lungs")
    network, kind = _network(method, model, budget, phantom, chosen, shape_prior)
    if kind in STRUCTURES or kind in few_labels.TAUGHT:
        learns = model is None or shape_prior is not None or (kind == K_MEANS and method_of(model) != K_MEANS)
        return Task(network, kind, learns, tuple(chosen_classes(network, classes)), classes or "gland")
    _check_classes(classes or "gland", phantom)
    return Task(network, kind, model is None, None, classes or "gland")


def _network(method: str, model: str | Path | None, budget: str, phantom: str, chosen: dict[str, Any], shape_prior: str | Path | None) -> tuple[Any, str]:
    """A network that is to learn, or one that an earlier run taught; and its method's name."""
    if budget not in BUDGETS:
        raise UsageError(f"--budget {budget!r} is unknown; known are {', '.join(BUDGETS)}")
    if shape_prior is not None:
        return guided_network(method, model, shape_prior, budget, phantom, chosen), "shape-guided"
    known = METHODS | STRUCTURES
    if method == "phantom" and f"phantom-{phantom}" in STRUCTURES:
        method = f"phantom-{phantom}"
    if method not in known:
        raise UsageError(f"--method {method!r} is unknown; known are {', '.join(known)}")
    if method == "clusters":
        return clusters_network(model, chosen), method
    if method == K_MEANS and model is not None and method_of(model) != K_MEANS:
        earlier, about = load_model(model, GIVING | PRETRAINING)
        return FeatureClusters.of_run(about["method"], earlier, chosen), method
    if model is not None:
        if chosen:
            raise UsageError(f"--model brings its own settings; {sorted(chosen)[0]!r} cannot be changed with --set or --config (only instances.… can)")
        network, about = load_model(model, known | few_labels.TAUGHT)
        return network, about["method"]
    kind = known[method]
    preset = (FAST | FAST_STRUCTURES)[method] if budget == "fast" else {}
    named = {"phantom": phantom} if "phantom" in kind.Config.model_fields else {}
    return kind(build(kind.Config, preset, named, chosen)), method


def _check_classes(classes: str, phantom: str) -> None:
    names, drawn = [n.strip() for n in classes.split(",")], getattr(generator(phantom), "CLASSES", ("structure",))
    if len(names) != len(drawn) or not all(names):
        raise UsageError(f"--classes {classes!r}: --phantom {phantom} draws {len(drawn)} class ({', '.join(drawn)}), so as many names are expected")
