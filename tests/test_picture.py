"""Every kind of file a person may have, good and bad."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from tacit.errors import ReadError
from tacit.read.picture import read_picture

RGB = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def saved(path: Path, picture: Pillow.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_rgb_comes_back_pixel_for_pixel(tmp_path: Path) -> None:
    for suffix in ("png", "bmp", "tif"):
        image = read_picture(saved(tmp_path / f"a.{suffix}", Pillow.fromarray(RGB)))
        assert (image.pixels == RGB).all() and image.axes == "hwc" and image.spacing_mm is None


def test_grey_palette_cmyk_and_clear_become_rgb_and_say_so(tmp_path: Path) -> None:
    base = Pillow.fromarray(RGB)
    grey = read_picture(saved(tmp_path / "g.png", base.convert("L")))
    assert (grey.pixels[..., 0] == grey.pixels[..., 2]).all() and "L converted" in grey.history[-1]
    palette = read_picture(saved(tmp_path / "p.png", base.quantize(256)))
    assert palette.pixels.shape == (40, 50, 3)
    cmyk = read_picture(saved(tmp_path / "c.tif", base.convert("CMYK")))
    assert np.abs(cmyk.pixels.astype(int) - RGB).max() <= 2
    clear = np.dstack([RGB, np.zeros((40, 50), np.uint8)])
    assert (read_picture(saved(tmp_path / "a.png", Pillow.fromarray(clear))).pixels == 255).all()


@pytest.mark.parametrize(("top", "bits"), [(4095, 12), (65535, 16), (1000, 10)])
def test_sixteen_bits_are_scaled_by_the_depth_in_use(tmp_path: Path, top: int, bits: int) -> None:
    deep = np.linspace(0, top, 2000).reshape(40, 50).astype(np.uint16)
    image = read_picture(saved(tmp_path / "d.png", Pillow.fromarray(deep)))
    assert np.abs(image.pixels[..., 0] - deep * (255 / (2**bits - 1))).max() <= 0.51
    assert f"{bits} bits" in image.history[1]


def test_spacing_of_a_microscope_is_read_and_that_of_a_screen_is_not(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", RGB, resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    assert read_picture(tmp_path / "m.tif").mpp == pytest.approx(0.5)
    tifffile.imwrite(tmp_path / "o.ome.tif", RGB, photometric="rgb", metadata={"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "axes": "YXS"})
    assert read_picture(tmp_path / "o.ome.tif").mpp == pytest.approx(0.25)
    assert read_picture(saved(tmp_path / "s.jpg", Pillow.fromarray(RGB), dpi=(300, 300))).mpp is None


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = saved(folder / "whole.png", Pillow.fromarray(RGB)).read_bytes()
    jpg = saved(folder / "whole.jpg", Pillow.fromarray(RGB)).read_bytes()
    made = {
        "empty.png": (b"", "empty"),
        "text.png": (b"hello, I am no picture", "not a picture"),
        "short.png": (whole[: len(whole) // 2], "damaged or cut short"),
        "short.jpg": (jpg[: len(jpg) // 2], "damaged or cut short"),
        "flipped.png": (whole[:60] + bytes([whole[60] ^ 255]) + whole[61:], "damaged or cut short"),
        "bomb.png": (png_header(60_000, 60_000), "too large"),
        "wide.png": (png_header(14_000, 13_000), "damaged|too large|not a picture"),
        "header.png": (whole[:20], "damaged|not a picture"),
    }
    found = {}
    for name, (content, words) in made.items():
        (folder / name).write_bytes(content)
        found[name] = (folder / name, words)
    found["one.png"] = (saved(folder / "one.png", Pillow.new("RGB", (1, 1))), "1×1 px is too small")
    found["thin.png"] = (saved(folder / "thin.png", Pillow.new("RGB", (500, 3))), "3×500 px is too small")
    frames = [Pillow.fromarray(np.roll(RGB, i, 0)) for i in range(3)]
    frames[0].save(folder / "moving.png", save_all=True, append_images=frames[1:])
    found["moving.png"] = (folder / "moving.png", "3 frames")
    tifffile.imwrite(folder / "stack.tif", np.stack([RGB[..., 0]] * 6))
    found["stack.tif"] = (folder / "stack.tif", "6 frames")
    tifffile.imwrite(folder / "nan.tif", np.full((30, 30), np.nan, np.float32))
    found["nan.tif"] = (folder / "nan.tif", "not finite")
    return found


def test_each_bad_file_is_named_with_its_reason_and_a_remedy(tmp_path: Path) -> None:
    for name, (path, words) in bad_files(tmp_path).items():
        with pytest.raises(ReadError, match=words) as caught:
            read_picture(path)
        assert str(path) in str(caught.value) and caught.value.remedy and "\n" not in str(caught.value), name
