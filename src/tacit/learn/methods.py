"""Every way to segment, by name. A method is built from its config and answers:

um_per_px                      the spacing at which it wants its pictures
fit(pictures, shop)            learns from unlabelled pictures (h, w, 3) RGB uint8; the classical rule learns nothing
probability(picture)           gland and gland core, (2, h, w) float32 in 0–1
loss(batch), state_dict() …    as an nn.Module, where there is a network
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tacit.config import Config
from tacit.learn.classical.haematoxylin import Haematoxylin
from tacit.learn.mssg import Mssg, MssgPaper
from tacit.learn.phantom_taught import PhantomTaught
from tacit.learn.workshop import Workshop


class Segmenter(Protocol):
    """What `use/segment.py` asks of a method."""

    config: Config

    @property
    def um_per_px(self) -> float: ...

    def fit(self, pictures: list[NDArray[np.uint8]], shop: Workshop) -> Any: ...

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]: ...


METHODS: dict[str, Any] = {
    "phantom": PhantomTaught,
    "mssg": Mssg,
    "mssg-paper": MssgPaper,
    "haematoxylin": Haematoxylin,
}

FAST: dict[str, dict[str, Any]] = {  # what `--budget fast` changes: under five minutes on one core
    "phantom": {
        "teachers": 1,
        "data": {"um_per_px": 3.72, "size": 64},
        "draw": {"pictures": 250},
        "train": {"epochs": 5},
        "student": {"epochs": 5},
    },
    "mssg": {"stage2": {"epochs": 4}},
    "mssg-paper": {},
    "haematoxylin": {},
}
