"""Landmarks from one marked picture: six points of chests (JSRT, fold 2), the optic disc's middle (DRIVE test). One row a file. Resumable.

    python benchmarks/landmarks.py ROW…      rows of --list; prints the table, writes benchmarks/results/landmarks/*.json
    python benchmarks/landmarks.py --list | --table

Needs the images below TACIT_DATA (or ../shared/data). The template is the picture that `tacit locate --suggest-template` names, which looks at no
mark; rows "… templates" mark five other pictures instead, drawn by the seed, and give the mean. The points of no other picture take part.
Rows with "structure" use a chest network taught by drawings alone (seed 0); "local discrimination" is taught on the pictures of fold 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glas import ROOT
from interleaved import one_thread
from provenance import stamp
from query_patches import DATA as GLAS
from tacit.learn.classical.template_match import CopyPoints, TemplateMatch, TemplateMatchConfig
from tacit.learn.dense_match import DenseMatch, DenseMatchConfig, FeaturePlanes
from tacit.learn.many_paths import ManyPaths, ManyPathsConfig, thumbnail, typical
from tacit.read.picture import read_picture
from tacit.report.locate_score import figures, intervals
from tacit.use.locate import suggest_template

DATA = GLAS.parent
RESULTS, WORK = ROOT / "benchmarks" / "results" / "landmarks", ROOT / "benchmarks" / "work" / "landmarks"
RADII, FAILURE = {"jsrt": (3.0, 6.0, 9.0), "drive": (15.0, 40.0)}, {"jsrt": 30.0, "drive": 150.0}
LD = ["--method", "local-discrimination", "--set", "size=128", "--set", "train.epochs=1", "--set", "train.steps=600", "--set", "centre=0.25"]
OTHERS = 5


@dataclass(frozen=True)
class Set:
    """Pictures with their true points (n, p, 2) row, col in px; unit: of a px, mm or px."""

    paths: list[Path]
    points: NDArray[np.float64]
    scale: float


def jsrt() -> Set:
    """Fold 2: the 122 of its 123 chests whose points are marked, 512 px, .7 mm a px; one is the template, so 121 are scored."""
    place = DATA / "jsrt"
    with (place / "landmarks6_1024.csv").open() as file:
        rows = {r[0]: np.array(r[1:], float).reshape(6, 2)[:, ::-1] / 2 for r in list(csv.reader(file))[1:]}
    names = [n for n in json.loads((place / "folds.json").read_text())["fold2"] if n in rows]
    return Set([place / "images" / f"{n}.jpg" for n in names], np.stack([rows[n] for n in names]), 0.7)


def drive() -> Set:
    """Test: 20 fundus photographs of 565 × 584 px."""
    place = DATA / "retina-vessels" / "drive"
    with (place / "test_optic_disc_centre.csv").open() as file:
        rows = {r["id"]: [[float(r["y"]), float(r["x"])]] for r in csv.DictReader(file)}
    return Set([next((place / "test" / "images").glob(f"{n}.*")) for n in sorted(rows)], np.array([rows[n] for n in sorted(rows)]), 1.0)


Make = Callable[[NDArray], Any]  # template picture → a locator
MIRRORED = {"mirror": True}


def paths(**changes: Any) -> Make:
    return lambda template: ManyPaths(ManyPathsConfig(**changes))


def with_structure(**changes: Any) -> Make:
    def make(template: NDArray) -> Any:
        from tacit.use.seen_by import structure_planes

        c = ManyPathsConfig(**changes)
        return ManyPaths(c, structure_planes(chest(), c.side))

    return make


def chest() -> Any:
    """The network that drawings alone teach, kept."""
    from tacit.learn.chest_taught import ChestTaught
    from tacit.learn.workshop import Workshop
    from tacit.report.track import Curves

    place = WORK / "chest"
    place.mkdir(parents=True, exist_ok=True)
    return ChestTaught().fit([], Workshop(0, "cpu", place / "checkpoints", Curves(place / "metrics.csv"), print))


def embedded(taught: bool, planes: bool = False, **changes: Any) -> Make:
    """Local discrimination: its own one-shot landmarks, or ways along its features. Not taught: random weights."""

    def make(template: NDArray) -> Any:
        from tacit.use.seen_by import features_of_run

        features = features_of_run(local_discrimination(taught), "cpu")
        if not planes:
            return DenseMatch(features, DenseMatchConfig(**changes))
        c = ManyPathsConfig(**changes)
        return ManyPaths(c, FeaturePlanes(features, template, c.side))

    return make


def local_discrimination(taught: bool) -> Path:
    from tacit.config import build
    from tacit.learn.local_discrimination import LocalDiscrimination
    from tacit.use.model import save_model
    from tacit.use.pretrain import pretrain

    place = WORK / ("ld" if taught else "ld-random")
    if not taught:
        import torch

        torch.manual_seed(0)
        network = LocalDiscrimination(build(LocalDiscrimination.Config, {"size": 128}))
        save_model(place / "model", "local-discrimination", network, {"images": 0}, "random weights")
    elif not (place / "model" / "model.json").exists():
        names = json.loads((DATA / "jsrt" / "folds.json").read_text())["fold1"]
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as list_:
            list_.write("path\n" + "".join(f"{DATA / 'jsrt' / 'images' / n}.jpg\n" for n in names))
            list_.flush()
            pretrain(list_.name, place, method="local-discrimination", set=[v for v in LD[2:] if v != "--set"], resume=(place / "run.json").exists())
    return place


ROWS: dict[str, tuple[str, Make, int]] = {  # name → set, method, other templates (0 = the suggested one)
    "copy the template": ("jsrt", lambda t: CopyPoints(), 0),
    "template matching": ("jsrt", lambda t: TemplateMatch(), 0),
    "registration": ("jsrt", paths(looks=("grey",), through=0), 0),
    "registration, three looks": ("jsrt", paths(through=0), 0),
    "paths, grey alone": ("jsrt", paths(looks=("grey",)), 0),
    "paths": ("jsrt", paths(), 0),
    "paths, other templates": ("jsrt", paths(), OTHERS),
    "structure, straight": ("jsrt", with_structure(through=0), 0),
    "paths and structure": ("jsrt", with_structure(), 0),
    "paths and structure, other templates": ("jsrt", with_structure(), OTHERS),
    "local discrimination, random weights": ("jsrt", embedded(False), 0),
    "local discrimination": ("jsrt", embedded(True), 0),
    "local discrimination, one window": ("jsrt", embedded(True, windows=(0.125,)), 0),
    "paths and local discrimination": ("jsrt", embedded(True, planes=True), 0),
    "disc: copy the template": ("drive", lambda t: CopyPoints(), 0),
    "disc: template matching": ("drive", lambda t: TemplateMatch(TemplateMatchConfig(**MIRRORED)), 0),
    "disc: registration": ("drive", paths(looks=("grey",), through=0, **MIRRORED), 0),
    "disc: paths": ("drive", paths(**MIRRORED), 0),
    "disc: paths, other templates": ("drive", paths(**MIRRORED), OTHERS),
    "disc: paths, not mirrored": ("drive", paths(), 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(ROWS))
        return
    if not (DATA / "jsrt").is_dir():
        sys.exit(f"no chests at {DATA / 'jsrt'}; set TACIT_DATA")
    one_thread()
    for name in [] if asked.table else asked.rows or list(ROWS):
        if name not in ROWS:
            parser.error(f"no row {name!r}; --list names them")
        if not file_of(name).exists():
            run(name)
    print(table())


def file_of(name: str) -> Path:
    return RESULTS / (name.replace(":", "").replace(",", "").replace(" ", "-") + ".json")


def run(name: str) -> None:
    kind, make, others = ROWS[name]
    data = {"jsrt": jsrt, "drive": drive}[kind]()
    began, cpu = time.time(), time.process_time()
    pictures = [read_picture(p).pixels for p in data.paths]
    best = suggested(kind, data.paths)
    order = typical(np.stack([thumbnail(p) for p in pictures])).tolist()
    marked = [best] if not others else [i for i in np.random.default_rng(0).permutation(len(pictures)).tolist() if i != best][:others]
    distances, confidences = [], []
    for t in marked:
        locator = make(pictures[t]).fit(pictures[t], data.points[t], [pictures[j] for j in order if j != t])
        found = [locator.locate(p) for i, p in enumerate(pictures) if i != t]
        true = np.delete(data.points, t, 0)
        distances.append(np.linalg.norm(np.stack([f.points for f in found]) - true, axis=2) * data.scale)
        confidences.append(np.stack([f.confidence for f in found]))
    distance, confidence = np.concatenate(distances), np.concatenate(confidences)
    given = None if np.ptp(confidence) == 0 else confidence  # one way alone says nothing of how sure it is
    record = {
        "row": name,
        "data": kind,
        "unit": "mm" if kind == "jsrt" else "px",
        "templates": [data.paths[t].stem for t in marked],
        "images": len(pictures) - 1,
        "figures": figures(distance, given, RADII[kind], FAILURE[kind]),
        "interval": intervals(distance, given, RADII[kind], FAILURE[kind]),
        "mean_by_template": [float(d.mean()) for d in distances],
        "median_by_template": [float(np.median(d)) for d in distances],
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds": round(time.time() - began, 1),
        **stamp(0),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    file_of(name).write_text(json.dumps(record, indent=1) + "\n")
    print(f"{name}: {record['figures']}", flush=True)


def suggested(kind: str, files: list[Path]) -> int:
    """The picture that is suggested for marking, found once."""
    kept = WORK / f"{kind}-suggested.txt"
    if not kept.exists():
        with tempfile.NamedTemporaryFile("w", suffix=".csv") as list_:
            list_.write("path\n" + "".join(f"{p}\n" for p in files))
            list_.flush()
            first = suggest_template(list_.name, set=["mirror=true"] if kind == "drive" else [])[0][0]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(first.stem)
    return [p.stem for p in files].index(kept.read_text())


def table() -> str:
    lines = [f"{'':<40}{'mean':>8}{'median':>8}  within …                surest 60%   templates"]
    for name in ROWS:
        if file_of(name).exists():
            r = json.loads(file_of(name).read_text())
            f = r["figures"]
            within = "  ".join(f"{k[7:]}: {v:.0%}" for k, v in f.items() if k.startswith("within"))
            lines.append(
                f"{name:<40}{f['mean']:8.1f}{f['median']:8.1f}  {within:<24} {f.get('mean_surest_0.6', float('nan')):8.1f}     {', '.join(r['templates'])}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
