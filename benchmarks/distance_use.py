"""Does it help to know the distance? Rank sources by their OTDD to a target, and by how well a classifier taught on them names the target's classes.

    python benchmarks/distance_use.py        prints a table, writes benchmarks/results/distance/use.json

CT (COVID or not): UCSD COVID-CT and SARS-CoV-2-CT, each as it is and after four preparations. A source is one half of a set, a target the other half, so that no
picture is on both sides: 10 × 10 pairs. GlaS (benign or malignant): its 16 patients in three groups that hold both grades, sources as they are and after four
preparations, targets as they are and never of the source's own group: 30 pairs. A logistic regression learns on the source's components; its area under the ROC
curve on the target is what the distance should foretell. Agreement is Spearman's between −OTDD and the area over all pairs, 95% by drawing sources and
targets again; beside it the same for the features' transport alone (λy = 0), and for the features' means. Then the slides' two figures, each one command.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import tacit
from interleaved import ROOT, one_thread
from provenance import stamp
from tacit.image import Image
from tacit.prepare.steps import apply, recipe
from tacit.read.folder import read_grades
from tacit.read.picture import read_picture
from tacit.use.distance import How, labelled, otdd
from tacit.use.distance_features import as_picture, find_features, reduced

DATA = Path(os.environ.get("TACIT_DATA") or ROOT.parent / "shared" / "data")
PLACE = ROOT / "benchmarks" / "results" / "distance" / "use.json"
STEPS = ("as it is", "he", "clahe", "gamma=0.5", "haematoxylin")
CT_STEPS = (*STEPS[:4], "gamma=2.0")
EACH = 40  # pictures of a class in a half
LONGEST = 192  # px: larger pictures are shrunk, which makes it a matter of minutes
DRAWS = 1000
Domain = tuple[list[Image], list[int]]


def seen(path: Path) -> Image:
    image = as_picture(read_picture(path))
    factor = LONGEST / max(image.shape)
    pixels = image.pixels if factor >= 1 else cv2.resize(image.pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return Image(pixels, "hwc", source=path)


def prepared(domain: Domain, step: str) -> Domain:
    if step == "as it is":
        return domain
    steps = recipe(step)
    return [as_picture(apply(i, steps)) for i in domain[0]], domain[1]


def ct_halves(folders: tuple[str, str]) -> tuple[Domain, Domain]:
    """Two halves of a set, drawn; class 1 is the first folder."""
    halves: tuple[Domain, Domain] = ([], []), ([], [])
    for label, folder in zip((1, 0), folders, strict=True):
        files = sorted((DATA / folder).iterdir())
        for i, k in enumerate(np.random.default_rng(7).permutation(len(files))[: 2 * EACH].tolist()):
            halves[i % 2][0].append(seen(files[k]))
            halves[i % 2][1].append(label)
    return halves


def ct() -> tuple[dict[str, Domain], dict[str, Domain], set[tuple[str, str]]]:
    sources, targets = {}, {}
    for name, folders in (("UCSD", ("ucsd-covid-ct/CT_COVID", "ucsd-covid-ct/CT_NonCOVID")), ("SARS", ("sars-cov-2-ct/COVID", "sars-cov-2-ct/NonCOVID"))):
        first, second = ct_halves(folders)
        sources |= {f"{name}, {step}": prepared(first, step) for step in CT_STEPS}
        targets |= {f"{name}, {step}": prepared(second, step) for step in CT_STEPS}
    return sources, targets, {(s, t) for s in sources for t in targets}


def glas() -> tuple[dict[str, Domain], dict[str, Domain], set[tuple[str, str]]]:
    table = read_grades(DATA / "glas")
    assert table is not None
    kinds = {p: sorted(set(rows["label"])) for p, rows in table.groupby("patient")}
    order = sorted(kinds, key=lambda p: (kinds[p], int(p)))  # benign patients first, so that each group has both grades
    group = {p: i % 3 for i, p in enumerate(order)}
    domains: dict[int, Domain] = {k: ([], []) for k in range(3)}
    for row in table.to_dict("records"):
        path = next((DATA / "glas" / "images").glob(f"{row['name']}.*"), None)
        if path is not None:
            domains[group[row["patient"]]][0].append(seen(path))
            domains[group[row["patient"]]][1].append(int(row["label"] == "malignant"))
    sources = {f"group {k}, {step}": prepared(domains[k], step) for k in domains for step in STEPS}
    targets = {f"group {k}": domains[k] for k in domains}
    return sources, targets, {(s, t) for s in sources for t in targets if s.split(",")[0] != t}


def agreement(sources: dict[str, Domain], targets: dict[str, Domain], wanted: set[tuple[str, str]], features: str) -> dict[str, Any]:
    maker = find_features(features, "cpu")
    names = [*(("source", s) for s in sources), *(("target", t) for t in targets)]
    raw = [np.asarray(maker.embed((sources if kind == "source" else targets)[n][0]), np.float64) for kind, n in names]
    parts, _ = reduced(raw, [n for _, n in names], 64)
    x = dict(zip(names, parts, strict=True))
    sets = {(kind, n): labelled(n, x[kind, n], (sources if kind == "source" else targets)[n][1]) for kind, n in names}
    pairs = sorted(wanted)
    far = {p: otdd(sets["source", p[0]], sets["target", p[1]]).value for p in pairs}
    plain = {p: otdd(sets["source", p[0]], sets["target", p[1]], How((1.0, 0.0))).value for p in pairs}
    means = {p: float(np.linalg.norm(x["source", p[0]].mean(0) - x["target", p[1]].mean(0))) for p in pairs}
    taught = {s: LogisticRegression(C=0.1, max_iter=2000).fit(x["source", s] / x["source", s].std(), sources[s][1]) for s in sources}
    area = {(s, t): float(roc_auc_score(targets[t][1], taught[s].decision_function(x["target", t] / x["source", s].std()))) for s, t in pairs}
    found: dict[str, Any] = {"pairs": len(pairs), "area_lowest": min(area.values()), "area_highest": max(area.values())}
    for name, values in (("OTDD", far), ("features alone", plain), ("means", means)):
        found[name] = correlated(values, area, list(sources), list(targets))
    found["by_target"] = {t: float(spearmanr([-far[p] for p in pairs if p[1] == t], [area[p] for p in pairs if p[1] == t]).statistic) for t in targets}
    found["best_by_distance"] = {
        t: {"source": min((p for p in pairs if p[1] == t), key=far.__getitem__)[0], "area": area[min((p for p in pairs if p[1] == t), key=far.__getitem__)],
            "best_area": max(area[p] for p in pairs if p[1] == t), "mean_area": float(np.mean([area[p] for p in pairs if p[1] == t]))}
        for t in targets
    }  # fmt: skip
    found["table"] = [{"source": s, "target": t, "otdd": far[s, t], "area": area[s, t]} for s, t in pairs]
    return found


def correlated(far: dict, area: dict, sources: list[str], targets: list[str]) -> dict[str, Any]:
    """Spearman of −distance with area over all pairs; 95% by drawing sources and targets with replacement."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = [(s, t) for s in rng.choice(sources, len(sources)) for t in rng.choice(targets, len(targets)) if (s, t) in far]
        if len({far[p] for p in rows}) > 2:
            drawn.append(spearmanr([-far[p] for p in rows], [area[p] for p in rows]).statistic)
    value = spearmanr([-v for v in far.values()], [area[p] for p in far]).statistic
    return {"spearman": float(value), "interval": [float(q) for q in np.quantile(drawn, [0.025, 0.975])]}


def slides_figures() -> dict[str, Any]:
    """Equalised against original; high against low contrast by the report's gate; class by class, on UCSD."""
    found = {}
    for by in ("prepare:he", "gate"):
        with tempfile.TemporaryDirectory() as place:
            r = tacit.distance(DATA / "ucsd-covid-ct", Path(place) / "o", split_by=by, samples=160, bootstraps=40, permutations=99)
            found[by] = {
                "command": f"tacit distance ucsd-covid-ct -o OUT --split-by {by} --samples 160 --bootstraps 40 --permutations 99",
                "names": r.names, "otdd": r.matrix[0][1], "interval": r.interval[0][1], "p_value": r.p_value[0][1], "split_half": r.split_half,
                "at_half": r.at_half[0][1], "label_distance": [d for d in r.label_distance if d["a"] != d["b"]],
            }  # fmt: skip
    return found


def main() -> None:
    one_thread()
    rows: dict[str, Any] = {}
    for data, made in (("CT", ct()), ("GlaS", glas())):
        for features in ("texture", "pixels"):
            found = rows[f"{data}, {features}"] = agreement(*made, features)
            print(f"{data:<5} {features:<8} {found['pairs']} pairs, areas {found['area_lowest']:.2f}–{found['area_highest']:.2f}", end="")
            for way in ("OTDD", "features alone", "means"):
                low, high = found[way]["interval"]
                print(f"   {way} {found[way]['spearman']:.2f} [{low:.2f}, {high:.2f}]", end="")
            print(flush=True)
            keep({"rows": rows})
    keep({"rows": rows, "slides": slides_figures()})


def keep(found: dict[str, Any]) -> None:
    PLACE.parent.mkdir(parents=True, exist_ok=True)
    PLACE.write_text(json.dumps(found | stamp(0), indent=1) + "\n")


if __name__ == "__main__":
    main()
