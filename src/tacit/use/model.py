"""What was learnt, in a folder: weights (safetensors), the method with every setting (JSON), and a card for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tacit.config import build
from tacit.errors import MissingError, UsageError
from tacit.files import write_atomic
from tacit.learn.methods import METHODS
from tacit.parts.weights import load_into, save_tensors

CARD = """# A Tacit model

Method `{method}`, learnt on {images} unlabelled images{spacing}.
No mask and no label took part. What it knows beforehand: {prior}.
Research use only, not a medical device.
"""

PRIOR = {
    "phantom": "drawings of glandular tissue, made by rules",
    "mssg": "that the darkest of the clusters is the glands' border, and that closed borders are filled",
    "mssg-paper": "that the darkest of the clusters is the glands' border, and that closed borders are filled",
    "haematoxylin": "that nuclear stain is dense in glands",
    "phantom-fundus": "drawings of branching vessels, made by rules, and filters for dark lines",
    "vessel-filters": "filters for dark lines, and the share of a retina that is vessel",
    "phantom-chest": "drawings of chests, made by rules",
    "lung-rule": "that lungs are the two dark fields that do not touch the border",
    "shape-guided": "shapes of another modality or drawn ones, without a picture of them",
    "lung-mixture": "two ellipses where lungs are expected",
}


def save_model(folder: Path, method: str, network: Any, facts: dict[str, Any], card: str | None = None) -> None:
    """Writes model/: weights.safetensors, model.json, card.md (`card`, or the one of a way to segment)."""
    save_tensors(folder / "weights.safetensors", network.state_dict())
    about = {"method": method, "config": network.config.model_dump(mode="json"), **facts}
    write_atomic(folder / "model.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
    spacing = f" at {network.um_per_px:.3g} µm per pixel (spacing {facts['spacing_source']})" if "spacing_source" in facts else ""
    card = card or CARD.format(method=method, images=facts["images"], spacing=spacing, prior=PRIOR.get(method, "nothing"))
    write_atomic(folder / "card.md", card)


def load_model(run: str | Path, known: dict[str, Any] = METHODS) -> tuple[Any, dict[str, Any]]:
    """The network of a run (or of its model folder) in eval mode, and what model.json says. known: method → class, of the job at hand.

    Raises MissingError where there is no model, UsageError for a damaged one and for one that cannot do the job.
    """
    place = Path(run)
    place = place / "model" if (place / "model").is_dir() else place
    if not (place / "model.json").is_file():
        raise MissingError(f"--model {run}: no model.json there or in its model/ folder; give the OUT of a finished run")
    try:
        about = json.loads((place / "model.json").read_text(encoding="utf-8"))
        _check_answers(run, str(about["method"]), known)
        kind, settings = known[about["method"]], dict(about["config"])
    except (OSError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"--model {run}: model.json is damaged or of an unknown method ({error!r})") from error
    network = kind(build(kind.Config, _begun_with_nothing(settings)))
    load_into(network, place / "weights.safetensors")
    return network.eval(), about


def weights_named(settings: dict[str, Any], inside: bool = False) -> list[str]:
    """The files of weights that networks begin with, on whatever level of the settings they are asked for.

    >>> weights_named({"low": {"settings": {"network": {"backbone": {"weights": "a.safetensors"}}}}, "weights": "b"})
    ['a.safetensors']
    """
    own = [settings["weights"]] if inside and isinstance(settings.get("weights"), str) else []
    return own + [w for name, value in settings.items() if isinstance(value, dict) for w in weights_named(value, inside or name == "network")]


def _check_answers(run: str | Path, method: str, known: dict[str, Any]) -> None:
    """Raises UsageError for a sound run of `tacit pretrain` where features alone are no answer, naming what they are good for."""
    from tacit.learn.pretraining import METHODS as PRETRAINED
    from tacit.learn.pretraining import OF_PLACES

    if method not in PRETRAINED or method in known:
        return
    ways = ", --shape-prior or --method clusters" if method == "local-discrimination" else " or --method k-means"
    takes = f"tacit segment takes it with --labels MASKS{ways}" if method in OF_PLACES else "they are of whole pictures: tacit index takes it with --model"
    raise UsageError(f"--model {run}: this run learnt features by {method}, which are no answer yet; {takes}")


def _begun_with_nothing(settings: dict[str, Any], inside: bool = False) -> dict[str, Any]:
    """Settings whose networks ask for no file of weights: the run's own weights hold them."""
    return {
        name: _begun_with_nothing(value, inside or name == "network") if isinstance(value, dict) else None if inside and name == "weights" else value
        for name, value in settings.items()
    }
