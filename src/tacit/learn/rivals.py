"""The rivals by name: ways to segment that are published or plain, and answer with clusters that nobody has named.

A contract as of learn/structures.py; what each adds: its CLASSES are `cluster-1` … and fill the picture, `maps(frame)` gives the features that it
clusters, `warnings()` says where clusters have collapsed. Only `tacit compare` names clusters, by the truth of the scored pictures, and says so.
"""

from __future__ import annotations

from typing import Any

from tacit.learn.colour_clusters import ColourClusters
from tacit.learn.contrast_clusters import DenseclClusters, PixproClusters
from tacit.learn.deep_cluster import DeepCluster
from tacit.learn.feature_clustering import FeatureClustering
from tacit.learn.feature_clusters import FeatureClusters
from tacit.learn.iic import Iic
from tacit.learn.picie import Picie
from tacit.learn.random_features import RandomFeatures

K_MEANS = "k-means"
RIVALS: dict[str, Any] = {
    "random-features": RandomFeatures,
    "colour-clusters": ColourClusters,
    "iic": Iic,
    "deep-cluster": DeepCluster,
    "picie": Picie,
    "feature-clustering": FeatureClustering,
    "densecl-clusters": DenseclClusters,
    "pixpro-clusters": PixproClusters,
    K_MEANS: FeatureClusters,
}

FAST: dict[str, dict[str, Any]] = {  # what `--budget fast` changes
    "random-features": {},
    "colour-clusters": {},
    "iic": {"train": {"steps": 150}},
    "deep-cluster": {"rounds": 3, "train": {"steps": 50}},
    "picie": {"rounds": 3, "train": {"steps": 40}},
    "feature-clustering": {"steps": 40},
    "densecl-clusters": {"train": {"steps": 100}},
    "pixpro-clusters": {"train": {"steps": 100}},
    K_MEANS: {},
}
LEARNT_BEFORE_K = ("densecl-clusters", "pixpro-clusters")  # learning does not depend on the number of clusters: another is a k-means more
