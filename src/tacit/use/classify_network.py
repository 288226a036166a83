"""What only a network asks of `tacit classify fit`: its name, weights to begin with, and cases without labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tacit.config import merge
from tacit.errors import InputError, MissingError, UsageError
from tacit.files import sha256
from tacit.learn.case_answers import Pipeline
from tacit.learn.case_network import PRESET
from tacit.learn.series_models import PRESETS, series_config
from tacit.report.track import Bar
from tacit.run import Run
from tacit.use.classify_cases import prepared
from tacit.use.cohort import Case, find_cohort
from tacit.use.model import weights_named
from tacit.use.shelf import Shelf
from tacit.use.taught import drawn_backbone

DRAWN = "phantom:ct"  # --weights that drawn slices taught
GATE = "09_COVNet-CSR-Gate"
SELF_TRANS: dict[str, Any] = {"model": "02_densenet_selftrans", "vote_epochs": 10}
SLIDES: dict[str, Any] = {  # what GATE means for the pipeline gate: high contrast to COVNet-CSR, low to Self-Trans with a second level
    "low": {"pipeline": "two-level", "settings": {"witness": "network", "lesions": False, "slice_network": SELF_TRANS}},
    "high": {"pipeline": "end-to-end", "settings": {"model": GATE}},
}


def network_asked(kind: Any, model: str | None, weights: str | Path | None, unlabelled: str | Path | None, chosen: dict[str, Any]) -> dict[str, Any]:
    """`--model` and `--weights` as settings of a pipeline. Raises UsageError where the pipeline has no network, or the network none to fill."""
    fields = kind.Config.model_fields
    if unlabelled is not None and "pseudo" not in fields:
        raise UsageError("--unlabelled: only a network from pixels to classes takes that; add --pipeline end-to-end")
    if model is None and weights is None:
        return {}
    if "low" in fields:
        return _gate_asked(model, weights)
    own = chosen if "network" in fields else chosen.get("slice_network", {})
    settings = _named(model, weights, own)
    return settings if "network" in fields else {"witness": chosen.get("witness", "network"), "slice_network": settings}


def _named(model: str | None, weights: str | Path | None, own: dict[str, Any]) -> dict[str, Any]:
    """A network by name with weights to begin with, as settings that go over its `own`."""
    settings: dict[str, Any] = {} if model is None else {"model": model}
    if weights is not None:
        name = model or own.get("model", PRESET)
        if PRESETS.get(name, (name,))[0] != "covnet":
            raise UsageError(f"--weights: {name} has no backbone that they could fill; give a COVNet as --model")
        if str(weights) == DRAWN:
            config: Any = series_config(name, own.get("network", {}))[1]
            weights = drawn_backbone(config.backbone.name)
        settings["network"] = {"backbone": {"weights": str(weights)}}
    return settings


def _gate_asked(model: str | None, weights: str | Path | None) -> dict[str, Any]:
    """The slides' gate whole; `weights` are for its slices, as those of Self-Trans."""
    if model != GATE:
        raise UsageError(
            f"--pipeline gate takes --model {GATE} alone, the slides' two branches, which --weights then help; others are named as --set high.settings.model="
        )
    return merge(SLIDES, {"low": {"settings": {"slice_network": _named(None, weights, SELF_TRANS)}}})


def weights_of(settings: dict[str, Any]) -> list[Path]:
    """The files that networks begin with, those of a gate's branches included; none for random weights or timm's hub. Raises MissingError."""
    found = [Path(named) for named in weights_named(settings) if not named.startswith("hub:")]
    for path in found:
        if not path.is_file():
            raise MissingError(f"--weights {path}: there is no such file")
    return found


def without_labels(source: str | Path | None, labelled: list[Case], run: Run, *, steps: str | None, gaps: str) -> list[Case]:
    """The cases of --unlabelled; those that are among the labelled ones are left out. Raises InputError where none is left."""
    if source is None:
        return []
    found = find_cohort(source, run, unit=labelled[0].unit, steps=steps, gaps=gaps)
    known = {case.digest for case in labelled}
    cases = [case for case in found if case.digest not in known]
    if not cases or cases[0].unit != labelled[0].unit:
        raise InputError(f"--unlabelled {source}: none of its {len(found)} cases is a {labelled[0].unit} that is not labelled as well; give others")
    return cases


@contextmanager
def shelved(pipeline: Pipeline, cases: list[Case], run: Run) -> Iterator[Shelf | None]:
    """What the pipeline keeps of cases without labels; None where there are none. One that cannot be used is a row of failures.csv."""
    if not cases:
        yield None
        return
    with Shelf(run.folder / "cases" / "unlabelled") as shelf, Bar("preparing unlabelled") as bar:
        for number, case in enumerate(cases):
            slices = prepared(case, run)
            if slices is not None:
                shelf.put(pipeline.kept(slices))
            bar.advance(number + 1, len(cases))
        run.record["unlabelled"] = len(shelf)
        yield shelf if len(shelf) else None


def hashes_of(weights: list[Path], unlabelled: list[Case]) -> dict[str, str]:
    """What a network reads beside its labelled cases, for the run's record."""
    found = {f"unlabelled/{case.name}": case.digest for case in unlabelled}
    return found | {f"--weights {number + 1}": sha256(path) for number, path in enumerate(weights)}
