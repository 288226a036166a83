"""Tacit learns from medical images that nobody has labelled.

    files ─read→ Image, Cases ─prepare→ Image, Cases ─learn→ weights in a run folder ─use→ answers ─report→ numbers, pictures, one page

    import tacit
    tacit.segment("folder", out="out")                      # learns on the folder, writes its masks
    tacit.segment("new", out="out2", model="out")           # applies what was learnt
    tacit.evaluate("out/masks", "truth")["figures"]["miou"]
    tacit.audit("messy folder", out="looked")               # what is in it, what is wrong with it, a clean manifest
    tacit.index_images("folder", "index")                   # what `tacit query` asks
    tacit.query("index", ["a.png"]).answers                 # the ten most alike
    tacit.distance(["a", "b"], "apart").matrix              # how far apart two data sets are
    tacit.locate("folder", "found", template="a.png", points="points.csv")  # the same points on every picture
    tacit.classify_fit("ct", "taught", labels="labels.csv") # classes of series or pictures, from few labels
    tacit.lungs("ct", out="lungs")                          # masks and litres

Research use only, not a medical device.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Cases": "tacit.cases",
    "Image": "tacit.image",
    "TacitError": "tacit.errors",
    "audit": "tacit.use.audit",
    "classify_compare": "tacit.use.classify_compare",
    "classify_fit": "tacit.use.classify_fit",
    "classify_predict": "tacit.use.classify_predict",
    "compare": "tacit.use.compare",
    "compare_jobs": "tacit.use.compare_jobs",
    "compare_methods": "tacit.use.compare_methods",
    "decide_pairs": "tacit.use.pairs",
    "distance": "tacit.use.distance_run",
    "draw": "tacit.phantom.tissue",
    "evaluate": "tacit.use.evaluate",
    "find_cases": "tacit.read.folder",
    "find_lungs": "tacit.prepare.lung",
    "index_images": "tacit.use.index",
    "locate": "tacit.use.locate",
    "lungs": "tacit.use.lungs",
    "map_index": "tacit.use.map",
    "open_slide": "tacit.read.slide",
    "pretrain": "tacit.use.pretrain",
    "prepare_images": "tacit.use.prepare",  # `tacit prepare`; the bare name is the package of the steps
    "query": "tacit.use.query",
    "read_picture": "tacit.read.picture",
    "read_volume": "tacit.read.nifti",
    "segment": "tacit.use.segment",
    "suggest_template": "tacit.use.locate",
}
__all__ = sorted([*_WHERE, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'tacit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
