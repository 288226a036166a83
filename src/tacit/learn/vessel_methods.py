"""Every way to find vessels in fundus photographs, by name. Each is built from its config and has:

CLASSES              the names of its answer's planes
working(picture)     a photograph of any size → the frame that it learns from, (s, s, 3) uint8
fit(pictures, shop)  learns from unlabelled frames; the filters learn nothing
probability(picture) (classes, h, w) float32 in 0–1 at the photograph's own size, 0 outside its field
"""

from __future__ import annotations

from typing import Any

from tacit.learn.classical.vessel_filters import VesselFilters
from tacit.learn.fundus_taught import FundusTaught

VESSELS: dict[str, Any] = {"phantom-fundus": FundusTaught, "vessel-filters": VesselFilters}

FAST_VESSELS: dict[str, dict[str, Any]] = {  # what `--budget fast` changes: under five minutes on one core
    "phantom-fundus": {"draw": {"pictures": 80}, "train": {"epochs": 2}, "student": {"epochs": 2}, "adapt": {"rounds": 1}},
    "vessel-filters": {},
}
