"""What every verb that opens a run promises: it deletes nothing that it reads, and its record says how to do it again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from typer.main import get_command

import tacit
from tacit.cli import app
from tacit.config import build
from tacit.errors import InputError, MissingError, OutputError
from tacit.learn.local_discrimination import LocalDiscrimination
from tacit.learn.lung_unet import LungUnet
from tacit.learn.pair_decision import Decision
from tacit.learn.phantom_taught import PhantomTaught
from tacit.learn.simclr import Simclr
from tacit.learn.simsiam import Simsiam
from tacit.learn.two_level import TwoLevel, TwoLevelConfig
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.weights import save_tensors
from tacit.read.nifti import write_nifti
from tacit.use.draw import draw_sheet
from tacit.use.encoder import find_encoder
from tacit.use.model import save_model
from tacit.use.pair_threshold import Threshold, save_threshold
from tacit.use.store import Store, vectors_of
from test_lung import chest

IN, SIDE = "made/images", "apart"  # inside the OUT that would be overwritten, and beside it


def asked(source: str, out: Path, **options: Any) -> None:
    """A query whose second argument is OUT, as every other verb's is."""
    tacit.query(options.pop("index", "index"), source, out=out, **options)


def apart(source: str, out: Path, **options: Any) -> None:
    """A distance whose second argument is OUT, from what lies apart where there is no target."""
    more = options.pop("sets", [])
    tacit.distance([source, *more, *([] if "to" in options else [f"{SIDE}/images"])], out, **({"features": "pixels"} | options))


def mapped(source: str, out: Path, **options: Any) -> None:
    """A map whose second argument is OUT."""
    tacit.map_index(source, out=out, **options)


def compared(source: str, out: Path, **options: Any) -> None:
    """A comparison of a run of tacit classify with one that lies apart."""
    tacit.classify_compare([source, options.pop("other", "said too")], out, **options)


def methods_compared(source: str, out: Path, **options: Any) -> None:
    """A comparison of methods that learn from `source`."""
    tacit.compare_methods(out, data=source, truth=options.pop("truth", "few"), methods=["haematoxylin"], **options)


def jobs_compared(source: str, out: Path, **options: Any) -> None:
    """A comparison of what pretraining is worth on `source`."""
    tacit.compare_jobs([options.pop("run", "learnt before")], out, jobs=["query"], data=source, labels=options.pop("labels", "classes.csv"), **options)


READS: list[tuple[Callable, str, dict[str, Any]]] = [
    (tacit.segment, IN, {}),
    (tacit.segment, f"{IN}/tissue_0000.png", {}),
    (tacit.segment, f"{IN}/*.png", {}),
    (tacit.segment, "list.csv", {"method": "haematoxylin"}),
    (tacit.segment, "made/images/list.csv", {"method": "haematoxylin"}),
    (tacit.segment, "linked", {"method": "haematoxylin"}),
    (tacit.segment, SIDE, {"model": "made"}),
    (tacit.segment, SIDE, {"labels": "made/masks"}),
    (tacit.segment, SIDE, {"labels": "linked labels"}),
    (tacit.segment, SIDE, {"labels": "few", "model": "made/tables/pretrained"}),
    (tacit.segment, SIDE, {"config": "made/tables/mine.toml"}),
    (tacit.segment, SIDE, {"method": "clusters", "model": "made/tables/patches"}),
    (tacit.segment, SIDE, {"shape_prior": "made/tables/shapes"}),
    (tacit.segment, SIDE, {"shape_prior": "simulated:vessels", "model": "made/tables/patches"}),
    (tacit.segment, SIDE, {"phantom": "made/tables/mine.py"}),
    (tacit.segment, SIDE, {"method": "mssg", "set": ["network.encoder=resnet10t", "network.weights=made/tables/encoder.safetensors"]}),
    (tacit.pretrain, IN, {}),
    (tacit.pretrain, "list.csv", {}),
    (tacit.pretrain, "linked", {}),
    (tacit.pretrain, SIDE, {"config": "made/tables/mine.toml"}),
    (tacit.pretrain, SIDE, {"backbone": "resnet10t", "weights": "made/tables/encoder.safetensors"}),
    (tacit.pretrain, SIDE, {"select": "made/tables/pairs.csv"}),
    (tacit.pretrain, SIDE, {"select": "pairs.csv", "root": "made/images"}),
    (tacit.audit, "made", {}),
    (tacit.audit, "made/images/link to apart", {}),
    (tacit.audit, IN, {}),
    (tacit.audit, "list.csv", {}),
    (tacit.audit, "linked", {}),
    (tacit.audit, SIDE, {"labels": "made/tables/labels.csv"}),
    (tacit.prepare_images, IN, {"steps": "he"}),
    (tacit.prepare_images, "list.csv", {"steps": "he"}),
    (tacit.prepare_images, SIDE, {"steps": "reinhard", "target": IN}),
    (tacit.prepare_images, SIDE, {"steps": "reinhard", "target": "list.csv"}),
    (tacit.lungs, "made/images/ct.nii.gz", {}),
    (tacit.lungs, "volumes.csv", {}),
    (tacit.lungs, SIDE, {"learn": True, "masks": "made/masks"}),
    (tacit.lungs, SIDE, {"learn": True, "masks": "linked masks"}),
    (tacit.lungs, SIDE, {"model": "made/tables/lungs"}),
    (tacit.lungs, SIDE, {"config": "made/tables/mine.toml"}),
    (asked, IN, {}),
    (asked, f"{IN}/tissue_0000.png", {}),
    (asked, "list.csv", {}),
    (asked, SIDE, {"index": "made/tables/index"}),
    (asked, SIDE, {"patients": "made/tables/patients.csv"}),
    (asked, SIDE, {"weights": "made/tables/encoder.safetensors"}),
    (mapped, "made/tables/index", {}),
    (apart, IN, {}),
    (apart, "list.csv", {}),
    (apart, "linked", {}),
    (apart, SIDE, {"to": IN}),
    (apart, SIDE, {"labels": ["made/tables/labels.csv"]}),
    (apart, SIDE, {"features": "made/tables/pretrained"}),
    (apart, SIDE, {"pretraining": True, "to": f"{SIDE}/images", "sets": ["made/tables/pretrained"]}),
    (tacit.decide_pairs, "made/tables/pairs.csv", {"threshold": 1, "encoder": "texture"}),
    (tacit.decide_pairs, "pairs.csv", {"threshold": 1, "encoder": "texture"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"encoder": "texture", "calibrate": "made/tables/labelled.csv"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"encoder": "texture", "threshold": "made/tables/threshold.json"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"threshold": 1, "encoder": "texture", "patients": "made/tables/patients.csv"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"threshold": 1, "encoder": "texture", "config": "made/tables/mine.toml"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"threshold": 1, "model": "made/tables/pretrained"}),
    (tacit.decide_pairs, "apart/pairs.csv", {"threshold": 1, "encoder": "timm:resnet10t", "weights": "made/tables/encoder.safetensors"}),
    (tacit.classify_fit, IN, {"labels": "classes.csv"}),
    (tacit.classify_fit, SIDE, {"labels": "made/tables/classes.csv"}),
    (tacit.classify_fit, SIDE, {"labels": "classes.csv", "config": "made/tables/mine.toml"}),
    (tacit.classify_fit, SIDE, {"labels": "classes.csv", "pipeline": "end-to-end", "weights": "made/tables/encoder.safetensors"}),
    (tacit.classify_fit, SIDE, {"labels": "classes.csv", "pipeline": "end-to-end", "set": ["network.backbone.weights=made/tables/encoder.safetensors"]}),
    (tacit.classify_fit, SIDE, {"labels": "classes.csv", "pipeline": "end-to-end", "unlabelled": IN}),
    (tacit.classify_predict, IN, {"model": "classifier"}),
    (tacit.classify_predict, SIDE, {"model": "made/tables/classifier"}),
    (compared, "made/tables/said", {}),
    (compared, "said", {"other": "made/tables/said"}),
    (compared, "said", {"labels": "made/tables/classes.csv"}),
    (methods_compared, IN, {}),
    (methods_compared, SIDE, {"test": IN}),
    (methods_compared, SIDE, {"truth": "made/masks"}),
    (methods_compared, SIDE, {"groups": "made/tables/classes.csv"}),
    (methods_compared, SIDE, {"field": "made/masks"}),
    (jobs_compared, IN, {}),
    (jobs_compared, SIDE, {"labels": "made/tables/classes.csv"}),
    (jobs_compared, SIDE, {"run": "made/tables/pretrained"}),
    (tacit.locate, IN, {"template": f"{SIDE}/images/tissue_0000.png", "points": "points.csv"}),
    (tacit.locate, SIDE, {"template": f"{IN}/tissue_0000.png", "points": "points.csv"}),
    (tacit.locate, SIDE, {"template": f"{SIDE}/images/tissue_0000.png", "points": "made/tables/points.csv"}),
    (tacit.locate, SIDE, {"template": f"{SIDE}/images/tissue_0000.png", "points": "points.csv", "model": "made/tables/pretrained"}),
    (tacit.locate, SIDE, {"template": f"{SIDE}/images/tissue_0000.png", "points": "points.csv", "config": "made/tables/mine.toml"}),
    (draw_sheet, "made/tables/mine.py", {}),
    (draw_sheet, "tissue", {"config": "made/tables/mine.toml"}),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """made/, a run that holds a person's own files too; apart/, its like beside it; lists of and links to what lies in made/."""
    place = tmp_path_factory.mktemp("place")
    for name in ("made", SIDE):
        draw_sheet("tissue", place / name, count=2, shape=(60, 80))
        image, truth = chest()
        write_nifti(place / name / "images" / "ct.nii.gz", image)
    write_nifti(place / "made" / "masks" / "ct.nii.gz", type(image)(truth, axes="dhw", spacing_mm=image.spacing_mm, affine=image.affine))
    tables = place / "made" / "tables"
    tacit.segment(place / SIDE / "images", place / "learnt", method="haematoxylin", mpp=1.0)
    (place / "learnt" / "model").rename(place / "made" / "model")
    save_tensors(tables / "encoder.safetensors", Backbone(BackboneConfig(name="resnet10t")).net.state_dict())
    save_model(tables / "lungs", "lung-unet", LungUnet(), {"images": 1}, "drawn")
    small = build(LocalDiscrimination.Config, {"network": {"width": 4}, "dimensions": 4})
    save_model(tables / "patches" / "model", "local-discrimination", LocalDiscrimination(small), {"images": 1}, "drawn")
    for folder in (tables / "classifier", place / "classifier"):
        save_model(
            folder, "two-level", TwoLevel(TwoLevelConfig(members=2)), {"images": 2, "unit": "picture", "steps": None, "gaps": "refuse"}, "nothing learnt"
        )
    for list_ in (tables / "classes.csv", place / "classes.csv"):
        list_.write_text("case,class\ntissue_0000,a\ntissue_0001,b\n")
    for folder in (tables / "said", place / "said", place / "said too"):
        keep_answers(folder)
    (tables / "shapes").mkdir()
    cv2.imwrite(str(tables / "shapes" / "a.png"), 255 * np.eye(90, dtype=np.uint8))
    (tables / "mine.toml").write_text("")
    (tables / "mine.py").write_text("from tacit.phantom.tissue import CLASSES, draw\n__all__ = ['CLASSES', 'draw']\n")
    (tables / "labels.csv").write_text("case,class\ntissue_0000,a\ntissue_0001,b\n")
    pictures = sorted((place / "made" / "images").glob("*.png"))
    for list_, names in ((tables / "pairs.csv", [p.name for p in pictures]), (place / "pairs.csv", [p.name for p in pictures])):
        list_.write_text(f"{names[0]},{names[1]},1\n{names[1]},{names[0]},0\n")
    pd.DataFrame({"path": pictures}).to_csv(place / "list.csv", index=False)
    pd.DataFrame({"path": [p.name for p in pictures]}).to_csv(place / "made" / "images" / "list.csv", index=False)
    pd.DataFrame({"path": [place / "made" / "images" / "ct.nii.gz"]}).to_csv(place / "volumes.csv", index=False)
    (tables / "patients.csv").write_text("name,patient\ntissue_0000,1\n")
    tacit.index_images(pictures[0], place / "index", encoder="timm:resnet10t", weights=str(tables / "encoder.safetensors"))
    shutil.copytree(place / "index", tables / "index")
    keep_lists_of_pairs(place)
    for list_ in (tables / "points.csv", place / "points.csv"):
        list_.write_text("image,point,row,col\ntissue_0000.png,a,5,5\n")
    (place / "made" / "images" / "link to apart").symlink_to(place / SIDE)
    shutil.copytree(place / "made" / "masks", place / "few", ignore=shutil.ignore_patterns("*.gz"))
    cv2.imwrite(str(place / "few" / "a.png"), np.eye(60, 80, dtype=np.uint8))
    for folder, files in (
        ("linked", pictures),
        ("linked labels", sorted((place / "made" / "masks").glob("*.png"))),
        ("linked masks", [place / "made" / "masks" / "ct.nii.gz"]),
    ):
        (place / folder).mkdir()
        for file in files:
            (place / folder / file.name).symlink_to(file)
    return place


def keep_answers(folder: Path) -> None:
    """What a run of `tacit classify fit` leaves for a comparison."""
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "out_of_fold.csv").write_text(
        "case,class,patient,named,p_a,p_b\ntissue_0000,a,tissue_0000,a,0.8,0.2\ntissue_0001,b,tissue_0001,a,0.6,0.4\n"
    )
    record = {"command": "tacit classify fit apart -o said --labels classes.csv", "status": "finished", "classes": ["a", "b"], "inputs": {}}
    (folder / "run.json").write_text(json.dumps(record))


def keep_lists_of_pairs(place: Path) -> None:
    """Lists that lie in made/tables, beside made/, and in apart/, with what else `tacit pairs` reads."""
    tables = place / "made" / "tables"
    for list_, folder in ((tables / "pairs.csv", place / SIDE), (place / "pairs.csv", place / "made"), (place / SIDE / "pairs.csv", place / SIDE)):
        list_.write_text(f"{folder}/images/tissue_0000.png,{folder}/images/tissue_0001.png\n")
    end = f"{place / SIDE}/images/tissue_0000.png,{place / SIDE}/images/tissue_0001.png"
    (tables / "labelled.csv").write_text(f"{end},1\n{end},0\n" * 6)
    (tables / "patients.csv").write_text("image,patient\ntissue_0000,p\na.png,p\n")
    save_threshold(tables, Threshold(Decision(0.5), "given"), find_encoder("texture"))
    save_model(tables / "pretrained" / "model", "simclr", Simclr(Simclr.Config(backbone=BackboneConfig(name="resnet10t"))), {"images": 2}, "drawn")
    for run in (tables / "pretrained", place / "learnt before"):  # as a finished run of tacit pretrain
        run.mkdir(exist_ok=True)
        (run / "run.json").write_text(json.dumps({"command": "tacit pretrain apart -o o", "status": "finished", "data": "d", "images": 2}))


def contents(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("verb", "source", "options"), READS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_overwrite_deletes_nothing_that_the_run_reads(verb: Callable, source: str, options: dict, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = contents(place / "made")
    with pytest.raises(OutputError, match=r"OUT made (is|holds) .+, which this run reads .*give another OUT"):
        verb(source, Path("made"), overwrite=True, **options)
    assert contents(place / "made") == before


def test_the_input_itself_is_never_out(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(OutputError, match="OUT linked is linked, which this run reads"):
        tacit.audit("linked", "linked")


def test_out_may_lie_inside_the_input(tmp_path: Path) -> None:
    draw_sheet("tissue", tmp_path / "drawn", count=2, shape=(60, 80))
    for _ in range(2):
        assert tacit.prepare_images(tmp_path / "drawn" / "images", tmp_path / "drawn" / "images" / "out", steps="he", overwrite=True).written == 2


LEARNING = "--seed 3 --device auto --threads 2 --config 'my settings.toml'"
MARKED = "--template made/images/tissue_0000.png --points made/tables/points.csv"
COMMANDS = [  # each on bad files, so that it ends when all is parsed, checked and written down
    f"segment 'bad files' -o o --method haematoxylin --classes 'drüse 1' --mpp 0.5 --learn-from 3 --track tensorboard {LEARNING} --set um_per_px=2.5 --set instances.threshold=0.4",
    "segment 'bad files' -o o --budget fast --phantom mine.py",
    "segment 'bad files' -o o --model made",
    "segment 'bad files' -o o --method clusters --model made/tables/patches",
    "segment 'bad files' -o o --model made/tables/pretrained --labels few --classes gland --set side=64",
    "segment 'bad files' -o o --shape-prior simulated:lungs --model made/tables/patches --learn-from 3 --set side=144",
    "segment 'bad slides' -o o --model glands --workers 2 --mpp 0.5",
    "segment 'bad slides' -o o --model glands --shard 1/2 --set slides.batch=2",
    "segment 'bad slides' -o o --model glands --engine ray --address 127.0.0.1:1",
    f"pretrain 'bad files' -o o --track tensorboard --preset histology --backbone resnet10t --weights made/tables/encoder.safetensors {LEARNING} --set size=32",
    "pretrain 'bad files' -o o --method simclr --mpp 0.5 --select made/tables/pairs.csv --root made/images",
    "audit 'bad files' -o o --labels made/tables/labels.csv --near 3 --keep-identifiers --salt s3cr3t --seed 2 --threads 2",
    f"lungs 'bad files' -o o --gaps tolerate --track tensorboard --learn --masks made/masks {LEARNING} --set unet.size=20",
    "lungs 'bad files' -o o --model made/tables/lungs",
    "distance 'bad files' apart/images 'two of them' -o o --features made/tables/pretrained --labels kmeans:3 --labels folders --labels made/tables/labels.csv --solver sinkhorn "
    "--epsilon 0.1 --lambda-x 2 --lambda-y 0.5 --samples 50 --components 8 --bootstraps 30 --permutations 29 --series-by embedding --unit series --gaps tolerate --mpp 0.5 --tile-um 128 "
    "--seed 3 --device auto --threads 2",
    "distance 'bad files' -o o --to apart/images --augmentations 'he,window=-500:1500/clahe' --features pixels",
    "distance 'bad files' apart/images -o o --to apart/images --pretraining",
    "distance 'bad files' -o o --split-by gate:entropy",
    "prepare 'bad files' -o o --steps 'window=-500:1500, he,reinhard' --target apart/images --mpp 0.5 --gaps interpolate --threads 2",
    "query index -o o -k 3 --exclude image --exclude slide --where 'row_id >= 0' --metric euclidean --search exact --mpp 0.5 --patients made/tables/patients.csv "
    "--weights made/tables/encoder.safetensors --device auto --threads 2 'bad files'",
    "query large -o o --search approximate --verify --model run 'bad files'",
    "map large -o o --color path --umap --seed 3 --threads 2",
    f"pairs 'bad pairs.csv' -o o --encoder timm:resnet10t --weights made/tables/encoder.safetensors --calibrate 'bad labelled.csv' --metric raw --root 'bad files' {LEARNING} --set folds=7",
    "pairs 'bad pairs.csv' -o o --model made/tables/pretrained --threshold 0.705 --patients made/tables/patients.csv --mpp 0.5",
    "classify fit 'bad files' -o o --labels classes.csv --unit picture --steps size=32:32 --gaps tolerate --no-twins --tune 3 --track tensorboard --seed 3 --device auto --threads 2 --config 'my settings.toml' --set members=2",
    "classify fit 'bad files' -o o --labels classes.csv --pipeline end-to-end --model covnet-small --weights made/tables/encoder.safetensors --unlabelled apart/images",
    "classify predict 'bad files' -o o --model classifier --device auto --threads 2 --no-pages",
    "classify fit 'bad files' -o o --labels classes.csv --unit picture --pipeline gate --set by=entropy --set low.settings.members=3",
    "classify compare said 'said too' -o o --labels classes.csv --seed 3",
    "compare -o o --methods haematoxylin --data 'bad files' --truth made/masks --test apart --seeds 3,4 --clusters 3 --against haematoxylin --groups classes.csv --field made/masks "
    "--budget fast --mpp 0.5 --learn-from 3 --seed 3 --device auto --threads 2 --set haematoxylin.um_per_px=2.5",
    "compare made/tables/pretrained 'learnt before' -o o --jobs query,few-label --data apart --truth made/masks --labels classes.csv --shots 9 -k 3 --set side=64",
    "phantom mine.py -o o -n 2 --mpp 2 --height 60 --width 70 --seed 3 --config 'my settings.toml'",
    "phantom chest -o o -n 1 --height 64 --width 64 --set heart_width=[1.2,1.5]",
    "phantom ct -o o -n 1 --format dicom --split fresh --seed 3 --set matrix=40 --set slice_mm=[20.0,21.0]",
    f"locate 'bad files' -o o {MARKED} --track tensorboard --method template-matching --spacing-mm 0.7 --seed 3 --device auto --threads 2 --config 'my settings.toml' --set patch=0.5",
    f"locate 'bad files' -o o {MARKED} --model made/tables/pretrained",
    f"locate 'bad files' -o o {MARKED} --phantom chest",
]
FREE = {"resume", "overwrite", "as_json", "suggest_template"}  # how OUT was found and how the answer is printed is no part of what was done
PRINTED = {("compare",): {"label", "metric", "include_same_patient"}}  # options of a table that is printed, and not kept in OUT


@pytest.fixture(scope="module")
def large(place: Path) -> Path:
    """An index of a thousand rows with its approximate index, by the encoder of run/."""
    network = Simsiam(build(Simsiam.Config, {"backbone": {"name": "resnet10t"}, "size": 32, "projection": 8, "bottleneck": 8}))
    save_model(place / "run" / "model", "simsiam", network, {"images": 2}, "nothing learnt")
    tacit.index_images(place / SIDE / "images" / "tissue_0000.png", place / "large", model=place / "run")
    store, n = Store.open(place / "large"), 1000
    vectors = np.random.default_rng(0).standard_normal(n * store.about.width).astype(np.float16)
    names = [f"/gone/{i}.png" for i in range(n)]
    columns = {"vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), type=vectors_of(store.about)), "path": names, "sha256": names, "tiles": [1] * n}
    store.add(pa.table(columns))
    store.build_approximate()
    return place / "large"


class NoUmap:
    """Stands for umap-learn, whose compilation takes longer than all else here."""

    n_neighbors, init = 15, ""

    def __init__(self, **options: object) -> None: ...

    def fit_transform(self, x: np.ndarray) -> np.ndarray:
        return x[:, :2]


@pytest.fixture
def bad(place: Path, large: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the commands are typed; the threads that they ask for are given back."""
    monkeypatch.chdir(place)
    for folder in ("bad files", "two of them"):
        (place / folder).mkdir(exist_ok=True)
        for name in ("a.png", "b.nii.gz"):
            (place / folder / name).write_bytes(b"neither")
    (place / "bad slides").mkdir(exist_ok=True)
    for name in ("a.svs", "b.svs"):
        (place / "bad slides" / name).write_bytes(b"neither")
    if not (place / "glands").exists():
        save_model(place / "glands" / "model", "phantom", PhantomTaught(build(PhantomTaught.Config, {"network": {"width": 4, "depth": 2}})), {"images": 2})
    (place / "bad pairs.csv").write_text("a.png,b.nii.gz\n")
    (place / "bad labelled.csv").write_text("a.png,b.nii.gz,1\na.png,b.nii.gz,0\n" * 5)
    (place / "my settings.toml").write_text("")
    (place / "mine.py").write_bytes((place / "made" / "tables" / "mine.py").read_bytes())
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=NoUmap))
    yield place
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def options(words: list[str]) -> dict[str, Any]:
    """What the command line makes of a command without its first word."""
    verb = verb_of(words)
    return dict(command_of(verb).make_context(verb[-1], words[len(verb) :]).params)


def verb_of(words: list[str]) -> list[str]:
    """The verb that a command begins with: one word, or two where it is a group."""
    return words[: 2 if hasattr(get_command(app).commands[words[0]], "commands") else 1]


def command_of(verb: list[str]) -> Any:
    """What the command line has for a verb."""
    found: Any = get_command(app)
    for word in verb:
        found = found.commands[word]
    return found


def recorded(words: list[str], out: str) -> list[str]:
    """The command in the record of a run, without its first word."""
    words = [out if before == "-o" else word for before, word in zip(["", *words], words)]
    with contextlib.suppress(InputError, MissingError):
        app(words, standalone_mode=False)
    record = json.loads(Path(out, "run.json").read_text())
    first, *rest = shlex.split(record["command"])
    assert first == "tacit" and record.get("device") != "auto"
    return rest


@pytest.mark.parametrize("command", COMMANDS)
def test_the_recorded_command_does_the_same_again(command: str, bad: Path, tmp_path: Path) -> None:
    if "--engine ray" in command:
        pytest.importorskip("ray", reason="the package ray is not installed (tacit[ray])")
    typed = shlex.split(command)
    once = recorded(typed, str(tmp_path / "once"))
    asked, kept = options(typed), options(once)
    assert kept == asked | {"out": tmp_path / "once"} | ({"salt": None} if "salt" in asked else {})
    assert [str(tmp_path / "once") if w.endswith("again") else w for w in recorded(once, str(tmp_path / "again"))] == once
    assert not any(b"s3cr3t" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize("command", {tuple(verb_of(c.split())): c for c in COMMANDS}.values(), ids=lambda c: " ".join(verb_of(c.split())))
def test_an_out_that_is_not_empty_names_the_ways_out_that_the_verb_has(command: str, bad: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    words = [str(tmp_path) if before == "-o" else word for before, word in zip(["", *shlex.split(command)], shlex.split(command))]
    with pytest.raises(OutputError, match=r"is not empty; give another folder.* --overwrite to replace it$") as said:
        app(words, standalone_mode=False)
    assert ("--resume" in str(said.value)) == ("resume" in {p.name for p in command_of(verb_of(words)).params})


def test_every_option_was_among_the_commands_typed() -> None:
    for verb in {tuple(verb_of(c.split())) for c in COMMANDS}:
        command = command_of(list(verb))
        of_it = [shlex.split(c) for c in COMMANDS if tuple(verb_of(c.split())) == verb]
        typed = {name for words in of_it for name, value in options(words).items() if value != default(command, name)}
        assert typed | FREE | PRINTED.get(verb, set()) >= {p.name for p in command.params}, verb


def default(verb: Any, name: str) -> Any:
    return next(p.default for p in verb.params if p.name == name)
