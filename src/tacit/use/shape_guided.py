"""What `tacit segment --shape-prior` and `--method clusters` begin with: a run of local discrimination, a prior, settings that belong to both."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from tacit.cases import Cases
from tacit.config import build
from tacit.errors import UsageError
from tacit.learn.clusters import Clusters
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.learn.shape_guided import ShapeGuided
from tacit.learn.structures import FAST
from tacit.prepare.shape_prior import SIMULATED, read_shapes, structure_of
from tacit.use.model import load_model

ENCODER = {"local-discrimination": LocalDiscrimination}
ALIKE = 0.5  # share of the pictures whose names masks of the prior have, above which these may be their truth


def guided_network(method: str, model: str | Path | None, shape_prior: str | Path, budget: str, phantom: str, chosen: dict[str, Any]) -> ShapeGuided:
    """The network that is to learn with a prior; with `model` it begins with what that run of local discrimination learnt.

    Raises UsageError for options that do not go together or a model of another kind, and TacitError for a prior that shows no shape.
    """
    prior = str(shape_prior)
    if method not in ("phantom", "shape-guided") or phantom != "tissue":
        other = f"--method {method}" if method not in ("phantom", "shape-guided") else f"--phantom {phantom}"
        raise UsageError(f"--shape-prior is for --method shape-guided, which draws nothing else; leave {other} out")
    structure = structure_of(prior)
    if prior not in SIMULATED:
        read_shapes(Path(prior))
    named: dict[str, Any] = {"structure": structure, "prior": {"source": prior}}
    if structure == "lungs":  # the whole chest is seen at once, upright
        named |= {"side": 96, "crop": {"size": 96}, "prior": {"source": prior, "scale": (0.9, 1.1)}, "local": {"views": {"turn": 15.0, "quarter_turns": False}}}
    earlier = _earlier(model) if model is not None else None
    own = {"local": {name: earlier.config.model_dump()[name] for name in ("network", "dimensions")}} if earlier else {}
    network = ShapeGuided(build(ShapeGuided.Config, FAST["shape-guided"] if budget == "fast" else {}, named, own, chosen))
    if earlier is not None:
        network.begin_with(earlier)
    return network


def clusters_network(model: str | Path | None, chosen: dict[str, Any]) -> Clusters:
    """The clusters of a run of local discrimination, to be drawn over pictures. Raises UsageError without a model."""
    if model is None:
        raise UsageError("--method clusters shows what an earlier run learnt; give --model RUN, the OUT of tacit pretrain --method local-discrimination")
    earlier = _earlier(model)
    return Clusters.of(earlier, build(Clusters.Config, {"local": earlier.config.model_dump()}, chosen))


def masks_digest(shape_prior: str | Path | None) -> str | None:
    """The masks of a prior in a few letters, so that a resumed run learns from the same; None where they are drawn."""
    if shape_prior is None or str(shape_prior) in SIMULATED:
        return None
    digest = hashlib.sha256()
    for mask in read_shapes(Path(shape_prior)):
        digest.update(repr(mask.shape).encode() + mask.tobytes())
    return digest.hexdigest()[:16]


def said_of(network: Any, cases: Cases) -> list[str]:
    """What the report should warn of before any answer is looked at: a game that went wrong, a prior that may be the pictures' own truth."""
    found = list(network.warnings()) if hasattr(network, "warnings") else []
    source = Path(network.config.prior.source) if isinstance(network, ShapeGuided) else None
    if source is not None and source.is_dir():
        names, masks = {name for name, _ in cases}, {p.stem for p in source.rglob("*")}
        if len(names & masks) > ALIKE * len(names):
            found.append(
                f"{len(names & masks)} of the {len(names)} pictures share a name with a mask of the prior: if these masks are their truth, "
                "this run is not label-free; a prior shows other pictures."
            )
    return found


def _earlier(model: str | Path) -> LocalDiscrimination:
    network, _ = load_model(model, ENCODER)
    assert isinstance(network, LocalDiscrimination)
    return network
