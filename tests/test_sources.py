"""Slides are learnt from as tiles of their tissue, each slide as often as the others, in memory that their number does not change."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

import tacit
from tacit.cases import Cases
from tacit.errors import InputError, ReadError, UsageError
from tacit.learn.byol import ByolConfig
from tacit.learn.pretraining import view_batches, views_of
from tacit.learn.sources import OPEN, Both, Pictures, Tiles, TilesConfig, find_places
from tacit.phantom import tissue
from tacit.prepare.tissue import slide_tissue
from tacit.read.folder import find_cases
from tacit.read.slide import is_slide, open_slide
from tacit.report.picture import png
from test_slide import write_pyramid

C = TilesConfig(um_per_px=2.0, size=64, per_slide=20)
TINY = ["backbone.name=test_efficientnet", "size=32", "hidden=32", "projection=16", "train.batch=4", "train.epochs=2"]
TINY += ["tiles.um_per_px=2", "tiles.size=64", "tiles.per_slide=6"]


def save_slide(path: Path, seed: int, shape: tuple[int, int] = (900, 1300), mpp: float | None = 1.0) -> None:
    """Drawn tissue on the left half, glass on the right."""
    picture = np.full((*shape, 3), 246, np.uint8)
    picture[:, : shape[1] // 2] = tissue.draw(np.random.default_rng(seed), (shape[0], shape[1] // 2), mpp or 1.0).picture
    write_pyramid(path, picture, levels=2, mpp=mpp, compression="jpeg")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slides, one of them smaller, and four pictures."""
    place = tmp_path_factory.mktemp("mixed")
    for k, shape in enumerate([(900, 1300), (900, 1300), (400, 700)]):
        save_slide(place / f"s{k}.tif", k, shape)
    for k in range(4):
        (place / f"p{k}.png").write_bytes(png(tissue.draw(np.random.default_rng(20 + k), (72, 96), 2.0).picture))
    return place


def places(folder: Path) -> list:
    return [find_places(folder / f"s{k}.tif", C) for k in range(3)]


def test_slides_are_told_from_pictures(folder: Path, tmp_path: Path, data: Path) -> None:
    assert [is_slide(folder / n) for n in ("s0.tif", "p0.png")] == [True, False]
    tifffile.imwrite(tmp_path / "flat.tif", np.zeros((300, 300, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "tiled.tif", np.zeros((300, 300, 3), np.uint8), photometric="rgb", tile=(128, 128))
    (tmp_path / "torn.tif").write_bytes((folder / "s0.tif").read_bytes()[:3000])
    (tmp_path / "text.dcm").write_bytes(b"no image")
    assert not any(is_slide(p) for p in tmp_path.iterdir())
    for n in range(2):
        shutil.copy(data / "slides" / "sm_image.dcm", tmp_path / f"level{n}.dcm")
    assert [is_slide(tmp_path / f"level{n}.dcm") for n in range(2)] == [True, False]  # two files of one slide
    found = {p.name for _, p in find_cases(data / "slides", slides=True)}
    assert found == {"CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs", "broken.svs", "kidney_48_5.tif", "sm_image.dcm", "test3-DAPI-2-(387).ndpi"}
    assert {p.name for _, p in find_cases(data / "slides")} == {"kidney_48_5.tif"}


def test_every_tile_is_cut_where_the_grid_has_tissue(folder: Path) -> None:
    found = places(folder)[0]
    with open_slide(folder / "s0.tif") as slide:
        mask = slide_tissue(slide)
        corners = np.array([found.corner(int(t), C.size) for t in found.tiles()])
        share = mask.share(corners[:, 0], corners[:, 1], C.size * found.factor)
        assert len(corners) == 8 * 5 and share.min() >= 0.5  # 450 × 325 px of tissue at 2 µm per px, the last row moved back
        assert found.factor == pytest.approx(2.0) and corners[:, 0].max() == 900 - 128
        tiles = Tiles([found], C)
        chosen = tiles._chosen(0, 3, 1)
        for k in (0, 7):
            wanted = slide.tile_at(2.0, *found.corner(int(chosen[k]), C.size), C.size)
            assert np.array_equal(tiles.item(k, 3, 1), wanted)
    tiles.close()
    assert not tiles.open and len(found.bits) <= 16


def test_each_slide_gives_as_many_tiles_and_epochs_differ(folder: Path) -> None:
    tiles = Tiles(places(folder), C)
    orders = [tiles.order(0, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(60))
        assert Counter((order // C.per_slide).tolist()) == {0: 20, 1: 20, 2: 20}
    assert not np.array_equal(orders[0], orders[1]) and np.array_equal(tiles.order(0, 1), orders[1])
    drawn = [set(tiles._chosen(0, 0, epoch).tolist()) for epoch in range(12)]
    assert len(drawn[0]) == 20 and set().union(*drawn) == set(tiles.places[0].tiles().tolist())  # in time all of the tissue
    few = tiles._chosen(2, 0, 0)
    assert len(few) == 20 and set(few.tolist()) == set(tiles.places[2].tiles().tolist()) and len(set(few.tolist())) < 20
    tiles.close()


def test_many_slides_few_are_open_and_an_epoch_opens_each_once(folder: Path) -> None:
    opened: list[int] = []

    class Counted(Tiles):
        def _slide(self, number: int):  # type: ignore[no-untyped-def]
            if number not in self.open:
                opened.append(number)
            return super()._slide(number)

    tiles = Counted(places(folder) * 9, C.model_copy(update={"per_slide": 3}))
    for index in tiles.order(5, 0).tolist():
        tiles.item(index, 5, 0)
        assert len(tiles.open) <= OPEN
    assert sorted(opened) == list(range(27))
    tiles.close()


def test_pictures_and_tiles_share_an_epoch_and_batches_are_pure(folder: Path) -> None:
    pictures = Pictures(sorted(folder.glob("*.png")), lambda p: np.asarray(cv2.imread(str(p))))
    both = Both(pictures, Tiles(places(folder), C))
    assert len(both) == 64 and sorted(both.order(1, 0).tolist()) == list(range(64))
    assert {both.item(i, 1, 0).shape for i in range(4)} == {(72, 96, 3)} and both.item(4, 1, 0).shape == (64, 64, 3)
    one, two = (view_batches(both, views_of(ByolConfig(views="histology", size=32)), 8, 1) for _ in range(2))
    two(3), two(11)
    for step in (0, 9):
        assert all(np.array_equal(one(step)[k], two(step)[k]) for k in "ab")
    both.tiles.close()


def test_a_damaged_tile_is_told_of_and_another_one_shown(folder: Path, tmp_path: Path) -> None:
    content = bytearray((folder / "s0.tif").read_bytes())
    found = find_places(folder / "s0.tif", C)
    told: list[str] = []
    with tifffile.TiffFile(folder / "s0.tif") as file:
        page = file.pages[1]
        for offset, count in list(zip(page.dataoffsets, page.databytecounts, strict=True))[: len(page.dataoffsets) // 2]:
            content[offset : offset + count] = bytes(count)
    (tmp_path / "s0.tif").write_bytes(content)
    tiles = Tiles([type(found)(tmp_path / "s0.tif", found.bits, found.columns, found.canvas, found.factor)], C, lambda path, error: told.append(str(error)))
    whole = Tiles([found], C)
    shown = [tiles.item(k, 0, 0) for k in range(C.per_slide)]
    undamaged = [whole.places[0].corner(int(t), C.size) for t in found.tiles()]
    assert told and all("s0.tif" in line for line in told) and len(undamaged) == 40
    with open_slide(folder / "s0.tif") as slide:
        possible = [slide.scaled(*corner, (64, 64), found.factor) for corner in undamaged]
    assert all(any(np.array_equal(tile, other) for other in possible) for tile in shown)
    tiles.close(), whole.close()


def test_slides_pictures_cases_lists_and_zips_are_learnt_from_alike(folder: Path, tmp_path: Path) -> None:
    result = tacit.pretrain(folder, tmp_path / "a", preset="histology", set=TINY)
    assert (result.images, result.slides, result.failed) == (4, 3, 0)
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert (
        record["tiles"] > 60
        and "3 slides" in (tmp_path / "a" / "report.html").read_text()
        and "2 µm per px" in (tmp_path / "a" / "model" / "card.md").read_text()
    )
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    pd.DataFrame({"path": sorted(map(str, folder.iterdir()))}).to_csv(tmp_path / "list.csv", index=False)
    weights = (tmp_path / "a" / "model" / "weights.safetensors").read_bytes()
    for k, source in enumerate([find_cases(folder, slides=True), Cases.of(sorted(folder.iterdir())), tmp_path / "in.zip", tmp_path / "list.csv"]):
        again = tacit.pretrain(source, tmp_path / f"b{k}", preset="histology", set=TINY)
        assert (again.images, again.slides) == (4, 3)
        assert (tmp_path / f"b{k}" / "model" / "weights.safetensors").read_bytes() == weights
    assert tacit.pretrain(folder / "s0.tif", tmp_path / "one", set=[*TINY, "train.epochs=1"]).slides == 1


def test_a_spacing_is_never_guessed(folder: Path, tmp_path: Path) -> None:
    save_slide(tmp_path / "bare.tif", 5, mpp=None)
    with pytest.raises(ReadError, match="does not state how many µm a pixel is; give it with --mpp"):
        find_places(tmp_path / "bare.tif", C)
    with pytest.raises(InputError, match="0 of 1 pictures and slides"):
        tacit.pretrain(tmp_path / "bare.tif", tmp_path / "o", set=TINY)
    assert "with --mpp" in (tmp_path / "o" / "failures.csv").read_text()
    assert tacit.pretrain(tmp_path / "bare.tif", tmp_path / "p", mpp=1.0, set=TINY).slides == 1
    pd.DataFrame({"path": [tmp_path / "bare.tif"], "mpp": [1.0]}).to_csv(tmp_path / "list.csv", index=False)
    assert tacit.pretrain(tmp_path / "list.csv", tmp_path / "q", set=TINY).slides == 1
    with pytest.raises(UsageError, match="--mpp 500"):
        tacit.pretrain(folder, tmp_path / "r", mpp=500.0, set=TINY)
    write_pyramid(tmp_path / "glass.tif", np.full((600, 600, 3), 245, np.uint8), levels=2, mpp=1.0)
    with pytest.raises(ReadError, match="no tile of 64 px at 2 µm per px holds 50% tissue"):
        find_places(tmp_path / "glass.tif", C)


PEAK = """
import resource, sys
from pathlib import Path
from tacit.learn.byol import ByolConfig
from tacit.learn.pretraining import view_batches, views_of
from tacit.learn.sources import Tiles, TilesConfig, find_places
import torch
torch.set_num_threads(1)
c = TilesConfig(um_per_px=1.0, size=128, per_slide=2)
tiles = Tiles([find_places(path, c) for path in sorted(Path(sys.argv[1]).iterdir())], c)
batch = view_batches(tiles, views_of(ByolConfig(views="histology", size=64)), 4, 0)
for step in range(len(tiles) // 4):
    batch(step)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_number_of_slides(data: Path, tmp_path: Path) -> None:
    peaks = {}
    for count in (8, 40):
        (tmp_path / str(count)).mkdir()
        for k in range(count):
            (tmp_path / str(count) / f"{k:03d}.svs").symlink_to(data / "slides" / "CMU-1-Small-Region.svs")
        done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / str(count))], capture_output=True, text=True, check=True, env=os.environ)
        peaks[count] = float(done.stdout)
    assert peaks[40] < 1.03 * peaks[8], peaks
