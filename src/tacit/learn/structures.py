"""Every way to segment what fills a picture in one way (vessels of a retina, organs of a chest), by name. Each is built from its config and has:

CLASSES              the names of its answer's planes
working(picture)     a picture of any size → the frame that it learns from, the same for all pictures
fit(pictures, shop)  learns from unlabelled frames; a rule learns nothing
probability(picture) (classes, h, w) float32 in 0–1 at the picture's own size
field(picture)       where it looks, (h, w) of bool, for those that know a field of view
"""

from __future__ import annotations

from typing import Any

from tacit.learn.chest_taught import ChestTaught
from tacit.learn.classical.lung_mixture import LungMixture
from tacit.learn.classical.lung_rule import LungRule
from tacit.learn.classical.vessel_filters import VesselFilters
from tacit.learn.clusters import Clusters
from tacit.learn.fundus_taught import FundusTaught
from tacit.learn.rivals import FAST as FAST_RIVALS
from tacit.learn.rivals import RIVALS
from tacit.learn.shape_guided import ShapeGuided

STRUCTURES: dict[str, Any] = {
    "phantom-fundus": FundusTaught,
    "vessel-filters": VesselFilters,
    "phantom-chest": ChestTaught,
    "lung-rule": LungRule,
    "lung-mixture": LungMixture,
    "shape-guided": ShapeGuided,
    "clusters": Clusters,
    **RIVALS,
}

FAST: dict[str, dict[str, Any]] = {  # what `--budget fast` changes: under five minutes on one core
    "phantom-fundus": {"draw": {"pictures": 80}, "train": {"epochs": 2}, "student": {"epochs": 2}, "adapt": {"rounds": 1}},
    "vessel-filters": {},
    "phantom-chest": {"pictures": 150, "teachers": 1, "train": {"epochs": 5}, "adapt": {"rounds": 0}},
    "lung-rule": {},
    "lung-mixture": {},
    "shape-guided": {"local": {"train": {"epochs": 8}, "network": {"width": 8}}, "refine": {"epochs": 1}},
    "clusters": {},
    **FAST_RIVALS,
}
