"""Slides: the same pixels as OpenSlide and as the arrays that were written, spacing that is never guessed, damage that is named."""

from __future__ import annotations

import importlib.util
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image as Pillow

from tacit.errors import InputError, MissingError, ReadError
from tacit.phantom import tissue
from tacit.read import slide_tiles
from tacit.read.picture import read_picture
from tacit.read.slide import Slide, open_slide, stated_mpp
from tacit.read.slide_readers import DicomReader, DirectReader, OpenSlideReader, PictureReader, StripReader, on_white

APERIO = "Aperio Image Library v11.2.1 \r\n{w}x{h} [0,0 {w}x{h}] (128x128) J2K/YUV|AppMag = 20|MPP = 0.5"


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return tissue.draw(np.random.default_rng(4), (700, 900), 1.0).picture


def write_pyramid(path: Path, picture: np.ndarray, levels: int = 3, mpp: float | None = 0.5, **options: object) -> list[np.ndarray]:
    """A tiled TIFF of halved levels; gives the levels as written (before any lossy packing)."""
    options = {"compression": "deflate", "tile": (128, 128), "photometric": "rgb", **options}
    per_cm = {"resolution": (10_000 / mpp, 10_000 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    written = []
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            written.append(cv2.resize(picture, (picture.shape[1] >> level, picture.shape[0] >> level), interpolation=cv2.INTER_AREA))
            file.write(written[-1], subfiletype=int(level > 0), metadata=None, **{**options, **per_cm})
    return written


def by_openslide(path: Path, row: int, col: int, shape: tuple[int, int], level: int = 0) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((col, row), level, shape[::-1]).convert("RGB"))


def direct(slide: Slide) -> tuple[int, ...]:
    return slide._reader.direct if isinstance(slide._reader, DirectReader) else ()


PACKINGS = {
    "plain": {"compression": None},
    "deflate": {},
    "deflate with differences": {"predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw with differences": {"compression": "lzw", "predictor": True},
    "jpeg 4:2:0": {"compression": "jpeg", "compressionargs": {"level": 80}},
    "jpeg 4:2:2": {"compression": "jpeg", "compressionargs": {"level": 80}, "subsampling": (2, 1)},
    "jpeg 4:4:4": {"compression": "jpeg", "compressionargs": {"level": 80}, "subsampling": (1, 1)},
    "jpeg stored as rgb": {"compression": "jpeg", "compressionargs": {"outcolorspace": "rgb"}, "subsampling": (1, 1)},
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_openslides_pixels(tmp_path: Path, picture: np.ndarray, packing: str) -> None:
    path = tmp_path / "slide.tif"
    written = write_pyramid(path, picture, **PACKINGS[packing])
    with open_slide(path) as slide:
        assert direct(slide) == (0, 1, 2)
        assert slide.levels == ((700, 900), (350, 450), (175, 225)) and slide.downsamples == (1, 2, 4)
        assert slide.mpp == pytest.approx(0.5, rel=1e-6)
        for level, truth in enumerate(written):
            for row, col, h, w in ((0, 0, 128, 128), (3, 130, 61, 77), (100, 20, 40, 200), (truth.shape[0] - 9, truth.shape[1] - 7, 9, 7)):
                ours = slide.region(row << level, col << level, (h, w), level)
                assert np.array_equal(ours, by_openslide(path, row << level, col << level, (h, w), level))
                if "jpeg" not in packing:
                    assert np.array_equal(ours, truth[row : row + h, col : col + w])


def test_what_does_not_decode_alike_is_left_to_openslide(tmp_path: Path, picture: np.ndarray) -> None:
    grey, clear = picture[..., 0], np.dstack([picture, np.full(picture.shape[:2], 90, np.uint8)])
    write_pyramid(tmp_path / "grey.tif", grey, photometric="minisblack")
    write_pyramid(tmp_path / "clear.tif", clear, extrasamples=["unassalpha"])
    for name in ("grey.tif", "clear.tif"):
        with open_slide(tmp_path / name) as slide:
            assert isinstance(slide._reader, OpenSlideReader)
            ours = slide.region(5, 7, (90, 80))
            truth = np.asarray(openslide.OpenSlide(tmp_path / name).read_region((7, 5), 0, (80, 90)))
            assert np.array_equal(ours, on_white(truth))


def test_transparency_is_laid_on_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 128]]], np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 177, 255]]]


@pytest.mark.parametrize("compression", [33003, 33005])
def test_aperio_jpeg2000_for_every_colour(tmp_path: Path, compression: int) -> None:
    """33003 is YCbCr: all pairs of chroma, each at one random luma."""
    path = tmp_path / "j2k.svs"
    chroma = np.arange(256, dtype=np.uint8)
    luma = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    ycbcr = np.stack([luma, *np.meshgrid(chroma, chroma, indexing="ij")], -1)
    tiles = [imagecodecs.jpeg2k_encode(ycbcr[r : r + 128, c : c + 128], codecformat="j2k", mct=False, reversible=True) for r in (0, 128) for c in (0, 128)]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=ycbcr.shape,
        dtype=np.uint8,
        tile=(128, 128),
        compression=compression,
        photometric="rgb",
        description=APERIO.format(h=256, w=256),
        metadata=None,
    )
    with open_slide(path) as slide:
        assert direct(slide) == (0,) and slide.mpp == 0.5
        assert np.array_equal(slide.region(0, 0, (256, 256)), by_openslide(path, 0, 0, (256, 256)))


def test_outside_is_white_wherever_the_pixels_come_from(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "direct.tif", picture)
    write_pyramid(tmp_path / "left.tif", np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]), extrasamples=["unassalpha"])
    Pillow.fromarray(picture).save(tmp_path / "flat.png")
    tifffile.imwrite(tmp_path / "strips.tif", picture, rowsperstrip=13, photometric="rgb", metadata=None)
    truth = np.full((800, 1000, 3), 255, np.uint8)
    truth[30:730, 40:940] = picture
    kinds = {"direct.tif": DirectReader, "left.tif": OpenSlideReader, "flat.png": PictureReader, "strips.tif": StripReader}
    for name, kind in kinds.items():
        with open_slide(tmp_path / name) as slide:
            assert isinstance(slide._reader, kind)
            assert np.array_equal(slide.region(-30, -40, (800, 1000)), truth)
            assert (slide.region(5000, 5000, (3, 4)) == 255).all() and (slide.region(-50, 10, (20, 20)) == 255).all()


def test_a_flat_tiff_of_strips_equals_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    for name, options in {"none": {}, "lzw": {"compression": "lzw", "predictor": True}, "jpeg": {"compression": "jpeg", "rowsperstrip": 16}}.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, picture, photometric="rgb", metadata=None, **{"rowsperstrip": 17, **options}, resolution=(25_400, 25_400), resolutionunit="INCH")
        with open_slide(path) as slide:
            assert isinstance(slide._reader, StripReader)
            assert slide.mpp == pytest.approx(1.0)
            assert np.array_equal(slide.region(0, 0, slide.shape), read_picture(path).pixels)


def test_screen_resolution_is_no_spacing(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "screen.tif", picture, mpp=10_000 / 28.35)  # 72 dpi
    write_pyramid(tmp_path / "none.tif", picture, mpp=None)
    for name in ("screen.tif", "none.tif"):
        with open_slide(tmp_path / name) as slide:
            assert slide.mpp is None
            with pytest.raises(InputError, match=r"--mpp, or in a list with the columns path and mpp"):
                stated_mpp(slide)
            with pytest.raises(InputError, match="--mpp"):
                slide.tile_at(1.0, 0, 0, 64)
            with pytest.raises(InputError, match="between"):
                stated_mpp(slide, -1.0)
            assert stated_mpp(slide, 0.25) == 0.25
            assert slide.tile_at(1.0, 0, 0, 64, mpp=0.5).shape == (64, 64, 3)


def test_what_the_file_states_comes_before_what_is_given(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "a.tif", picture)
    with open_slide(tmp_path / "a.tif") as slide:
        assert stated_mpp(slide, 3.0) == slide.mpp


def test_any_spacing_is_taken_from_the_nearest_finer_level(tmp_path: Path, picture: np.ndarray) -> None:
    levels = write_pyramid(tmp_path / "a.tif", picture)
    with open_slide(tmp_path / "a.tif") as slide:
        assert np.array_equal(slide.tile_at(1.0, 40, 80, 64), levels[1][20:84, 40:104])  # a level as it is
        assert np.array_equal(slide.tile_at(1.5, 40, 80, 64), cv2.resize(levels[1][20:116, 40:136], (64, 64), interpolation=cv2.INTER_AREA))
        assert np.array_equal(slide.tile_at(4.0, 0, 0, 64), cv2.resize(slide.region(0, 0, (128, 128), 2), (64, 64), interpolation=cv2.INTER_AREA))
        assert np.array_equal(slide.tile_at(0.25, 40, 80, 64), cv2.resize(picture[40:72, 80:112], (64, 64), interpolation=cv2.INTER_LINEAR))


def test_an_overview_in_parts_equals_one_at_once(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pyramid(tmp_path / "a.tif", picture, levels=1)
    with open_slide(tmp_path / "a.tif") as slide:
        whole = slide.overview(5)
        assert whole.shape == (140, 180, 3)
        assert np.array_equal(whole, cv2.resize(picture, (180, 140), interpolation=cv2.INTER_AREA))
        monkeypatch.setattr("tacit.read.slide.MOST_AT_ONCE", 10_000)
        assert np.array_equal(slide.overview(5), whole)
        assert slide.overview(7).shape == (100, 129, 3)


def test_the_cache_is_bounded_and_safe_for_threads(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "a.tif", picture)
    with open_slide(tmp_path / "a.tif", cache_bytes=4 * 128 * 128 * 3) as slide:
        places = [(r, c) for r in range(0, 640, 60) for c in range(0, 840, 60)]
        with ThreadPoolExecutor(4) as pool:
            for (r, c), pixels in zip(places, pool.map(lambda p: slide.region(*p, (60, 60)), places), strict=True):
                assert np.array_equal(pixels, picture[r : r + 60, c : c + 60])
        tiles = slide._reader._tiles
        assert len(tiles._cache) <= 4 and tiles._bytes == sum(t.nbytes for t in tiles._cache.values())


def test_asking_for_what_is_not_there(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "a.tif", picture)
    with open_slide(tmp_path / "a.tif") as slide:
        with pytest.raises(InputError, match="levels 0 to 2"):
            slide.region(0, 0, (5, 5), 3)
        with pytest.raises(InputError, match="at least 1×1"):
            slide.region(0, 0, (0, 5))
        with pytest.raises(InputError, match="positive"):
            slide.scaled(0, 0, (5, 5), 0.0)
    with pytest.raises(ReadError):
        slide.region(300, 300, (5, 5))  # closed


def test_what_is_no_slide_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.svs").touch()
    (tmp_path / "text.svs").write_text("not a slide at all " * 100)
    (tmp_path / "ct.dcm").write_bytes(bytes(128) + b"DICM" + bytes(600))
    for name, reason in {"nothing.svs": "does not exist", "empty.svs": "empty", "text.svs": "not a picture", "ct.dcm": "no slide", ".": "folder"}.items():
        with pytest.raises(ReadError, match=reason):
            open_slide(tmp_path / name)


def test_a_slide_cut_short_is_named_not_returned(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "whole.tif", picture, compression="jpeg")
    content = (tmp_path / "whole.tif").read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9, 0.999):
        path = tmp_path / "cut.tif"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ReadError):
            with open_slide(path) as slide:
                for level in range(len(slide.levels)):
                    slide.region(0, 0, slide.levels[level], level)


def test_a_real_slide_cut_anywhere_is_named_or_whole(data: Path, tmp_path: Path) -> None:
    """Also where a coarse level was lost; a slide that lost only what is never read comes out as it was."""
    for name in ("CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"):
        content, named = (data / "slides" / name).read_bytes(), 0
        with open_slide(data / "slides" / name) as slide:
            truth = [slide.region(0, 0, shape, level) for level, shape in enumerate(slide.levels)]
        for share in (0.1, 0.5, 0.7, 0.85, 0.95, 0.9999):
            (tmp_path / name).write_bytes(content[: int(len(content) * share)])
            try:
                with open_slide(tmp_path / name) as slide:
                    assert len(slide.levels) == len(truth)
                    assert all(np.array_equal(slide.region(0, 0, t.shape[:2], level), t) for level, t in enumerate(truth))
            except ReadError:
                named += 1
        assert named >= 5


def test_flipped_bits_raise_nothing_but_our_own_error(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "whole.tif", picture[:300, :300], compression="jpeg")
    content = bytearray((tmp_path / "whole.tif").read_bytes())
    rng = np.random.default_rng(1)
    path, named = tmp_path / "flipped.tif", 0
    for trial in range(60):
        damaged = bytearray(content)
        places = rng.integers(0, 400 if trial % 2 else len(content), 4)
        for place in places:
            damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            with open_slide(path) as slide:
                for level, (h, w) in enumerate(slide.levels):
                    assert slide.region(0, 0, (min(h, 600), min(w, 600)), level).dtype == np.uint8
        except ReadError:
            named += 1
    assert named > 0


def test_one_damaged_tile_leaves_the_others_readable(tmp_path: Path, picture: np.ndarray) -> None:
    for name, grey in {"direct.tif": False, "left.tif": True}.items():
        path = tmp_path / name
        write_pyramid(path, picture[..., 0] if grey else picture, levels=1, **({"photometric": "minisblack"} if grey else {}))
        with tifffile.TiffFile(path) as file:
            where, count = file.pages[0].dataoffsets[9], file.pages[0].databytecounts[9]
        with path.open("r+b") as file:
            file.seek(where)
            file.write(bytes(count))
        with open_slide(path) as slide:
            with pytest.raises(ReadError, match="decoded"):
                slide.region(128, 128, (10, 10))
            assert np.array_equal(slide.region(400, 400, (50, 60))[..., 0], picture[400:450, 400:460, 0])


def test_label_and_macro_are_never_decoded(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    once = slide_tiles.TileReader._decode

    def noted(self: slide_tiles.TileReader, plan: slide_tiles.TiledLevel, level: int, index: int) -> np.ndarray:
        decoded.append(plan.shape)
        return once(self, plan, level, index)

    monkeypatch.setattr(slide_tiles.TileReader, "_decode", noted)
    with open_slide(data / "slides" / "CMU-1-Small-Region.svs") as slide:
        slide.overview(8)
        assert slide.levels == ((2967, 2220),) and set(decoded) == {(2967, 2220)}


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"])
def test_real_svs_equals_openslide(data: Path, name: str) -> None:
    path = data / "slides" / name
    with open_slide(path) as slide:
        assert direct(slide) == tuple(range(len(slide.levels)))
        assert slide.mpp == (0.499 if "CMU" in name else None)
        h, w = slide.shape
        rng = np.random.default_rng(2)
        for row, col in zip(rng.integers(0, h - 300, 6), rng.integers(0, w - 300, 6), strict=True):
            assert np.array_equal(slide.region(row, col, (299, 300)), by_openslide(path, int(row), int(col), (299, 300)))
        last = len(slide.levels) - 1
        assert np.array_equal(slide.region(0, 0, (500, 600), last), by_openslide(path, 0, 0, (500, 600), last))


def test_real_fluorescence_flat_and_broken_slides(data: Path) -> None:
    with open_slide(next((data / "slides").glob("*DAPI*.ndpi"))) as slide:
        assert slide.mpp == pytest.approx(0.228175, rel=1e-4) and len(slide.levels) == 7
        assert np.array_equal(slide.region(1000, 900, (70, 80), 1), by_openslide(slide.path, 1000, 900, (70, 80), 1))
    kidney = data / "slides" / "kidney_48_5.tif"
    with open_slide(kidney) as slide:
        assert slide.levels == ((901, 1493),) and slide.mpp is None
        assert np.array_equal(slide.region(0, 0, slide.shape), np.asarray(Pillow.open(kidney).convert("RGB")))
    with pytest.raises(ReadError, match=r"broken\.svs"):
        open_slide(data / "slides" / "broken.svs")


def test_dicom_slide_by_openslide_and_by_the_extra(data: Path, tmp_path: Path) -> None:
    path = data / "slides" / "sm_image.dcm"
    with open_slide(path) as slide:
        assert slide.shape == (50, 50) and slide.mpp == pytest.approx(0.499)
        pixels = slide.region(-2, 3, (60, 20))
    if importlib.util.find_spec("wsidicom") is None:
        with pytest.raises(MissingError, match=r"pip install tacit\[dicom-slides\]"):
            DicomReader(path)
    else:
        reader = DicomReader(path)
        assert reader.levels == ((50, 50),) and reader.mpp == pytest.approx(0.499)
        assert np.array_equal(reader.read(0, -2, 3, (60, 20)), pixels)
        reader.close()
    lone = tmp_path / "sm.dcm"
    content = path.read_bytes()
    lone.write_bytes(content[: len(content) // 2])
    with pytest.raises((ReadError, MissingError)):
        with open_slide(lone) as slide:
            slide.region(0, 0, (50, 50))


def test_names_with_spaces_and_umlauts(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "a.tif", picture)
    odd = tmp_path / "Präparat 7 (Kopie).tif"
    shutil.copy(tmp_path / "a.tif", odd)
    with open_slide(odd) as slide:
        assert np.array_equal(slide.region(0, 0, (64, 64)), picture[:64, :64])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path, picture: np.ndarray) -> None:
    write_pyramid(tmp_path / "a.tif", picture)
    (tmp_path / "a.tif").chmod(0)
    with pytest.raises(ReadError, match="opened"):
        open_slide(tmp_path / "a.tif")
