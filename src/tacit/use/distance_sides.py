"""The sides of a distance on their way from what was found to labelled features: draw, look, reduce together, cluster where there is no label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tacit.run import Run
from tacit.use.distance import Labelled, labelled
from tacit.use.distance_features import Change, Maker, Seen, check_modalities, reduced, see
from tacit.use.distance_input import Found, Look
from tacit.use.distance_labels import Clusters, clustered, drawn


@dataclass(frozen=True)
class Plan:
    """How sides are looked at. samples: of a side, at most · components: numbers a sample that are left."""

    samples: int
    components: int
    seed: int


@dataclass
class Side:
    """A set on its way. change: what is done to its pictures first · like: the side whose labels it has, being the same pictures."""

    found: Found
    clusters: Clusters | None
    labels_from: str
    change: Change | None = None
    like: Side | None = None
    total: int = 0  # looks before the draw
    seen: Seen | None = None
    set: Labelled | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.found.name

    def look_of(self, row: int) -> Look:
        """The look behind a sample of the labelled set."""
        assert self.set is not None and self.seen is not None
        key = self.set.keys[row]
        return next(look for look in self.seen.looks if look.key == key)


def ready(sides: Sequence[Side], maker: Maker, plan: Plan, run: Run) -> float:
    """Gives every side its labelled features, in place; returns the share of variance that the components hold. Raises InputError."""
    for side in sides:
        side.total = len(side.found.looks)
        side.found = drawn(side.found, plan.samples, plan.seed, side.clusters is None)
        side.seen = see(side.found.looks, maker, run, side.name, side.change)
    seen = [side.seen for side in sides if side.seen is not None]
    plain = [(side.name, side.seen) for side in sides if side.change is None and side.seen is not None]
    check_modalities([name for name, _ in plain], [s for _, s in plain])
    parts, share = reduced([s.x for s in seen], [side.name for side in sides], plan.components)
    labels: dict[int, dict[str, str]] = {}
    for side, own, x in zip(sides, seen, parts, strict=True):
        keys = [look.key for look in own.looks]
        if side.clusters is None:
            y = [str(look.label) for look in own.looks]
        elif side.like is not None and id(side.like) in labels:
            known = labels[id(side.like)]
            kept = np.array([key in known for key in keys])
            x, keys = x[kept], [k for k in keys if k in known]
            y, side.labels_from = [known[k] for k in keys], f"the clusters of {side.like.name}"
        else:
            y, side.labels_from = clustered(x, keys, side.clusters, side.name, plan.seed)
            labels[id(side)] = dict(zip(keys, y, strict=True))
        side.set = labelled(side.name, x, y, keys)
    return share


def words(side: Side) -> str:
    """What a side is, in a line."""
    assert side.set is not None
    drawn_from = f" of {side.total}" if side.total > len(side.set) else ""
    counts = np.bincount(side.set.y, minlength=len(side.set.classes))
    shown = ", ".join(f"{name} {n}" for name, n in list(zip(side.set.classes, counts.tolist(), strict=True))[:8])
    return f"{len(side.set)}{drawn_from} {side.found.kind}; labels from {side.labels_from}: {shown}{' …' if len(counts) > 8 else ''}"


def renamed(found: Found, name: str) -> Found:
    """The same under another name."""
    return replace(found, name=name)
