"""What every verb that opens a run promises: it deletes nothing that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tacit
from tacit.errors import OutputError
from tacit.learn.lung_unet import LungUnet
from tacit.parts.backbone import Backbone, BackboneConfig
from tacit.parts.weights import save_tensors
from tacit.read.nifti import write_nifti
from tacit.use.draw import draw_sheet
from tacit.use.model import save_model
from test_lung import chest

IN, SIDE = "made/images", "apart"  # inside the OUT that would be overwritten, and beside it
READS: list[tuple[Callable, str, dict[str, Any]]] = [
    (tacit.segment, IN, {}),
    (tacit.segment, f"{IN}/tissue_0000.png", {}),
    (tacit.segment, f"{IN}/*.png", {}),
    (tacit.segment, "list.csv", {"method": "haematoxylin"}),
    (tacit.segment, "made/images/list.csv", {"method": "haematoxylin"}),
    (tacit.segment, "linked", {"method": "haematoxylin"}),
    (tacit.segment, SIDE, {"model": "made"}),
    (tacit.segment, SIDE, {"config": "made/tables/mine.toml"}),
    (tacit.segment, SIDE, {"phantom": "made/tables/mine.py"}),
    (tacit.segment, SIDE, {"method": "mssg", "set": ["network.encoder=resnet10t", "network.weights=made/tables/encoder.safetensors"]}),
    (tacit.pretrain, IN, {}),
    (tacit.pretrain, "list.csv", {}),
    (tacit.pretrain, "linked", {}),
    (tacit.pretrain, SIDE, {"config": "made/tables/mine.toml"}),
    (tacit.pretrain, SIDE, {"backbone": "resnet10t", "weights": "made/tables/encoder.safetensors"}),
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
    (tables / "mine.toml").write_text("")
    (tables / "mine.py").write_text("from tacit.phantom.tissue import CLASSES, draw\n__all__ = ['CLASSES', 'draw']\n")
    (tables / "labels.csv").write_text("case,class\ntissue_0000,a\ntissue_0001,b\n")
    pictures = sorted((place / "made" / "images").glob("*.png"))
    pd.DataFrame({"path": pictures}).to_csv(place / "list.csv", index=False)
    pd.DataFrame({"path": [p.name for p in pictures]}).to_csv(place / "made" / "images" / "list.csv", index=False)
    pd.DataFrame({"path": [place / "made" / "images" / "ct.nii.gz"]}).to_csv(place / "volumes.csv", index=False)
    (place / "made" / "images" / "link to apart").symlink_to(place / SIDE)
    for folder, files in (("linked", pictures), ("linked masks", [place / "made" / "masks" / "ct.nii.gz"])):
        (place / folder).mkdir()
        for file in files:
            (place / folder / file.name).symlink_to(file)
    return place


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
