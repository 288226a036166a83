"""Radiographs and photographs in DICOM files: what is shown against pydicom's own steps, what is refused, and the verbs that take pictures."""

from __future__ import annotations

import csv
import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
from typer.testing import CliRunner

import tacit
from scans import body, write_dicom, write_series
from tacit.cli import app
from tacit.errors import InputError, ReadError
from tacit.image import Image
from tacit.phantom import chest
from tacit.read.dicom_grey import looked_up, shown_grey
from tacit.read.dicom_picture import refusal
from tacit.read.folder import find_cases
from tacit.read.picture import read_picture
from tacit.report.picture import png
from tacit.use.measure_structures import measured
from test_chest_taught import TINY as TINY_CHEST

CR, DX, OP, SC = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.840.10008.5.1.4.1.1.7"
NOT_OF_SLICES = dict.fromkeys(("RescaleSlope", "RescaleIntercept", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "PixelSpacing"))
SECRET = {"PatientName": "Meier^Anna", "PatientID": "4711-AB", "PatientBirthDate": "19591231", "StudyDate": "20210304"}


def radiograph(path: Path, stored: np.ndarray, **tags: Any) -> Path:
    """A CR file of 12 stored bits that names its patient; what a slice has besides is left out."""
    return write_dicom(path, stored, **(NOT_OF_SLICES | SECRET | {"Modality": "CR", "SOPClassUID": CR, "bits_stored": 12} | tags))


def photograph(path: Path, pixels: np.ndarray, *, space: str = "RGB", syntax: Any = None, stream: bytes | None = None, **tags: Any) -> Path:
    """A colour OP file (h, w, 3) of 8 bits, uncompressed or with the stream of its one frame."""
    write_dicom(path, pixels[..., 0], **(NOT_OF_SLICES | SECRET | {"Modality": "OP", "SOPClassUID": OP, "ImageType": ["ORIGINAL", "PRIMARY"]} | tags))
    dataset = pydicom.dcmread(path)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, space, 0
    dataset.PixelData = encapsulate([stream]) if stream is not None else pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def lut(table: np.ndarray, first: int, depth: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(table), first, depth])
    item.add_new("LUTData", "US", [int(v) for v in table])
    return Sequence([item])


def values(seed: int = 0, top: int = 4096, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), (0, 0), 3)
    return np.round((smooth - smooth.min()) / np.ptp(smooth) * (top - 1)).astype(np.uint16)


def by_pydicom(path: Path) -> np.ndarray:
    """What pydicom's own steps show, 8 bit: modality, then VOI or window, over the range that they can give."""
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after = apply_modality_lut(dataset.pixel_array, dataset)
        shown = apply_voi_lut(after, dataset).astype(np.float64)
    if dataset.get("VOILUTSequence"):
        top, low = (1 << dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1, 0.0
    else:
        ends = np.array([-1e5, 1e5])
        low, top = apply_windowing(ends, dataset)
    grey = (shown - low) / (top - low) * 255
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


WINDOW = {"WindowCenter": 1500, "WindowWidth": 2000}
SHOWN: dict[str, dict[str, Any]] = {
    "CR, dark bone, window": {"PhotometricInterpretation": "MONOCHROME1", **WINDOW},
    "two windows, the first counts": {"WindowCenter": [900, 2000], "WindowWidth": [600, 50]},
    "sigmoid": {**WINDOW, "VOILUTFunction": "SIGMOID"},
    "exact": {**WINDOW, "VOILUTFunction": "LINEAR_EXACT"},
    "rescaled": {"RescaleSlope": 0.5, "RescaleIntercept": -300, "WindowCenter": 400, "WindowWidth": 900},
    "VOI LUT before window": {"VOILUTSequence": lut(np.round(4095 * np.linspace(0, 1, 4096) ** 0.6), 0, 12), **WINDOW},
    "VOI LUT that begins later": {"VOILUTSequence": lut(np.linspace(0, 65535, 2000), 700, 16), "PhotometricInterpretation": "MONOCHROME1"},
    "modality LUT": {"ModalityLUTSequence": lut(np.linspace(0, 1, 4096) ** 2 * 65535, 0, 16), "WindowCenter": 20000, "WindowWidth": 40000},
}


@pytest.mark.parametrize("name", SHOWN)
def test_grey_is_shown_as_pydicoms_own_steps_show_it(name: str, tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm", values(), **SHOWN[name])
    image = read_picture(path)
    assert image.pixels.shape == (40, 50, 3) and image.pixels.dtype == np.uint8 and image.modality == "cr"
    assert (image.pixels == image.pixels[..., :1]).all()
    assert np.abs(image.pixels[..., 0] - by_pydicom(path)).max() <= 0.51
    assert image.pixels.std() > 20  # something is seen


def test_the_history_says_what_was_done_and_nothing_of_the_patient(tmp_path: Path) -> None:
    path = radiograph(tmp_path / "a.dcm", values(), PhotometricInterpretation="MONOCHROME1", **WINDOW)
    image = read_picture(path)
    assert image.history == ("read DICOM (CR)", "window 1500 ± 1000", "MONOCHROME1 turned", "grey repeated to RGB")
    assert not any(secret in repr(image) for secret in SECRET.values())


def test_a_lut_of_8_bits_and_many_entries_does_not_wrap_round() -> None:
    stored = np.arange(0, 4095, 7, dtype=np.uint16).reshape(5, -1)
    item = lut(np.arange(4096) // 16, 0, 8)[0]
    found, top = looked_up(stored, item)
    assert (found == stored // 16).all() and top == 255
    item.add_new("LUTData", "OW", (np.arange(4096) // 16).astype(np.uint8).tobytes())  # a byte an entry
    assert (looked_up(stored, item)[0] == stored // 16).all()
    item.add_new("LUTData", "OW", bytes(100))
    with pytest.raises(ValueError, match="50 entries that states 4096"):
        looked_up(stored, item)


def test_without_a_window_a_file_shows_what_the_same_png_shows(tmp_path: Path) -> None:
    for top in (256, 1000, 4096):
        stored = values(top=top)
        path = radiograph(tmp_path / "a.dcm", stored)
        assert cv2.imwrite(str(tmp_path / "a.png"), stored)
        assert (read_picture(path).pixels == read_picture(tmp_path / "a.png").pixels).all()
    signed = (values().astype(np.int32) - 2048).astype(np.int16)
    image = read_picture(radiograph(tmp_path / "s.dcm", signed, WindowCenter="", WindowWidth=""))
    assert (image.pixels[..., 0] == np.round((signed.astype(float) + 2048) * 255 / 4095)).mean() > 0.99 and "no window stated" in image.history[1]
    nothing = read_picture(radiograph(tmp_path / "w.dcm", values(), WindowCenter=0, WindowWidth=0))
    assert nothing.pixels.std() > 20  # a window that shows nothing is passed over


def test_padding_is_black_whatever_the_polarity(tmp_path: Path) -> None:
    stored = values() // 2 + 1000
    stored[:, :10] = 0
    for polarity in ("MONOCHROME1", "MONOCHROME2"):
        image = read_picture(radiograph(tmp_path / "a.dcm", stored, PhotometricInterpretation=polarity, PixelPaddingValue=0, **WINDOW))
        assert (image.pixels[:, :10] == 0).all() and image.pixels[:, 10:].min() >= 0 and "20.0% padding made black" in image.history
    assert image.pixels[:, 10:].mean() > 50
    header = Dataset()
    header.PixelPaddingValue, header.PixelPaddingRangeLimit, header.PhotometricInterpretation = -2000, -1900, "MONOCHROME2"
    signed = np.array([[-2000, -1950, -1900, 0, 50, 100]])
    assert shown_grey(signed, header)[0].tolist() == [[0, 0, 0, 0, 128, 255]]  # the range is that of what was seen


def test_millimetres_are_read_and_the_history_says_where_they_were_measured(tmp_path: Path) -> None:
    detector, own = {"ImagerPixelSpacing": [0.2, 0.1]}, {"PixelSpacing": [0.18, 0.09]}
    cases: list[tuple[dict[str, Any], Any, str]] = [
        (detector, (0.2, 0.1), "at the detector"),
        ({"PixelSpacing": [0.2, 0.1], **detector}, (0.2, 0.1), "at the detector"),
        (own | detector, (0.18, 0.09), "as PixelSpacing states it"),
        (own, (0.18, 0.09), "as PixelSpacing states it"),
        ({"PixelSpacing": [0.2, 0.1], "PixelSpacingCalibrationType": "GEOMETRY", **detector}, (0.2, 0.1), "as PixelSpacing states it"),
        ({"PixelSpacing": [1e6, 1e6]}, None, "passed over"),
        ({}, None, ""),
    ]
    for tags, spacing, words in cases:
        image = read_picture(radiograph(tmp_path / "a.dcm", values(), **tags))
        assert image.spacing_mm == spacing and image.spacing_source == ("metadata" if spacing else "unknown") and words in image.history[-1]
        assert image.mpp is None  # millimetres of a chest are no micrometres of tissue
    assert read_picture(photograph(tmp_path / "o.dcm", np.dstack([values(s, 256).astype(np.uint8) for s in range(3)]), **own)).spacing_mm == (0.18, 0.09)


def test_microscopy_in_dicom_keeps_its_micrometres(tmp_path: Path) -> None:
    rgb = np.dstack([values(s, 256).astype(np.uint8) for s in range(3)])
    assert read_picture(photograph(tmp_path / "g.dcm", rgb, Modality="GM", PixelSpacing=[0.0005, 0.0005])).mpp == pytest.approx(0.5)


def test_colours_come_back_by_every_way_of_packing(tmp_path: Path) -> None:
    rgb = np.dstack([values(s, 256, (48, 64)).astype(np.uint8) for s in range(3)])
    plain = read_picture(photograph(tmp_path / "plain", rgb))
    assert (plain.pixels == rgb).all() and plain.modality == "op" and plain.history == ("read DICOM (OP)",)
    ybr = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
    full = read_picture(photograph(tmp_path / "ybr.dcm", ybr, space="YBR_FULL"))
    assert np.abs(full.pixels.astype(int) - rgb).max() <= 3 and "YBR_FULL to RGB" in full.history
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], -1)  # two neighbours, then their colour
    half = read_picture(photograph(tmp_path / "422.dcm", pairs, space="YBR_FULL_422", Columns=64))
    assert np.abs(half.pixels.astype(int) - rgb).mean() < 4
    packed = io.BytesIO()
    Pillow.fromarray(rgb).save(packed, "JPEG", quality=95, subsampling=0)
    jpeg = read_picture(photograph(tmp_path / "j.dcm", rgb, space="YBR_FULL_422", syntax=JPEGBaseline8Bit, stream=packed.getvalue()))
    assert (jpeg.pixels == np.asarray(Pillow.open(packed))).mean() > 0.9 and np.abs(jpeg.pixels.astype(int) - rgb).mean() < 3
    raw = imagecodecs.jpeg_encode(rgb, level=95, colorspace="RGB", outcolorspace="RGB")  # no marker says that it is RGB, the header does
    stated = read_picture(photograph(tmp_path / "jr.dcm", rgb, space="RGB", syntax=JPEGBaseline8Bit, stream=raw))
    assert np.abs(stated.pixels.astype(int) - rgb).mean() < 3
    lossless = {JPEG2000Lossless: imagecodecs.jpeg2k_encode(rgb, level=0, codecformat="j2k", reversible=True), JPEGLSLossless: imagecodecs.jpegls_encode(rgb)}
    for number, (syntax, stream) in enumerate(lossless.items()):
        path = photograph(tmp_path / f"l{number}.dcm", rgb, space="YBR_RCT" if syntax == JPEG2000Lossless else "RGB", syntax=syntax, stream=stream)
        assert (read_picture(path).pixels == rgb).all()
        cut = photograph(tmp_path / f"c{number}.dcm", rgb, syntax=syntax, stream=stream[: len(stream) // 2])
        with pytest.raises(ReadError, match="cannot be decoded"):
            read_picture(cut)


def test_a_palette_becomes_colours(tmp_path: Path) -> None:
    index = values(0, 200).astype(np.uint8)
    path = radiograph(tmp_path / "p.dcm", index, Modality="US", SOPClassUID=SC, PhotometricInterpretation="PALETTE COLOR", bits_stored=8)
    dataset = pydicom.dcmread(path)
    tables = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    for name, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 16])
        dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", table.tobytes())
    pydicom.dcmwrite(path, dataset)
    assert (read_picture(path).pixels == np.round(tables.T[index] * (255 / 65535))).all()


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
def test_packed_radiographs_show_what_plain_ones_show(syntax: Any, tmp_path: Path) -> None:
    plain, packed = (radiograph(tmp_path / f"{n}.dcm", values(), **WINDOW, **more) for n, more in enumerate(({}, {"syntax": syntax})))
    assert (read_picture(plain).pixels == read_picture(packed).pixels).all()


def changed(path: Path, **tags: Any) -> Path:
    dataset = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset)
    return path


def unknown_syntax(path: Path) -> Path:
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"\xff\x4f" + bytes(50)])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def broken(path: Path, change: Any) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def flipped(content: bytes) -> bytes:
    return content[:300] + bytes(255 - v for v in content[300:500]) + content[500:]


REFUSED: dict[str, tuple[Any, str]] = {
    "ct": (lambda p: write_dicom(p, values(), **SECRET), "a slice of a CT series, not a picture; give its folder to tacit audit, prepare or lungs"),
    "ct by its class": (lambda p: write_dicom(p, values(), Modality="OT"), "a slice of a CT series"),
    "mr": (lambda p: radiograph(p, values(), Modality="MR"), "a slice of a MR series"),
    "pet": (lambda p: radiograph(p, values(), Modality="PT"), "a slice of a PET series"),
    "frames": (lambda p: radiograph(p, np.stack([values(), values(1)]), Modality="XA"), "2 frames where one picture was expected; save the wanted frame"),
    "report": (lambda p: changed(radiograph(p, values(), Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), Rows=None, Columns=None, PixelData=None), "without pixels (Basic Text SR Storage)"),
    "pdf": (lambda p: changed(radiograph(p, values(), Modality="DOC", SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"), Rows=None, PixelData=None), "without pixels (Encapsulated PDF Storage)"),
    "marking": (lambda p: radiograph(p, values(), Modality="SEG"), "a marking of another image"),
    "whole slide": (lambda p: radiograph(p, values(), Modality="SM", SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6"), "a whole slide, not a picture"),
    "no decoder": (lambda p: unknown_syntax(radiograph(p, values())), "packed as High-Throughput JPEG 2000"),
    "no pixels": (lambda p: changed(radiograph(p, values()), PixelData=None), "it holds no pixels"),
    "empty pixels": (lambda p: changed(radiograph(p, values()), PixelData=b""), "states 0 bytes of pixels"),
    "cut short": (lambda p: broken(radiograph(p, values()), lambda b: b[:-500]), "cut short"),
    "damaged": (lambda p: broken(radiograph(p, values()), flipped), "damaged"),
    "empty": (lambda p: broken(radiograph(p, values()), lambda b: b""), "the file is empty"),
    "no dicom": (lambda p: broken(radiograph(p, values()), lambda b: b"x" * 500), "no DICM marker"),
    "tiny": (lambda p: radiograph(p, values(shape=(8, 50))), "8×50 px is too small"),
    "LUT too short": (lambda p: radiograph(p, values(), VOILUTSequence=changed_lut()), "damaged"),
}  # fmt: skip


def changed_lut() -> Sequence:
    found = lut(np.arange(10), 0, 12)
    found[0].LUTDescriptor = [4096, 0, 12]
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line_without_the_patient(name: str, tmp_path: Path) -> None:
    make, words = REFUSED[name]
    path = make(tmp_path / "a.dcm")
    with pytest.raises(ReadError) as caught:
        read_picture(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not any(secret in str(caught.value) for secret in SECRET.values())


def test_flipped_bits_end_in_a_picture_or_a_read_error_that_tells_nothing(tmp_path: Path) -> None:
    rng, ends = np.random.default_rng(0), set()
    rgb = np.dstack([values(s, 256).astype(np.uint8) for s in range(3)])
    sources = [
        radiograph(tmp_path / "a", values(), PhotometricInterpretation="MONOCHROME1", VOILUTSequence=lut(np.arange(4096), 0, 12)),
        photograph(tmp_path / "b", rgb, syntax=JPEG2000Lossless, space="YBR_RCT", stream=imagecodecs.jpeg2k_encode(rgb, level=0, codecformat="j2k")),
    ]
    for whole in (path.read_bytes() for path in sources):
        for _ in range(150):
            content = bytearray(whole)
            for place in rng.integers(132, min(len(whole), 1500), 3):
                content[place] ^= 1 << int(rng.integers(8))
            (tmp_path / "c").write_bytes(content)
            try:
                with warnings.catch_warnings(action="ignore"):
                    ends.add(read_picture(tmp_path / "c").pixels.dtype.name)
            except ReadError as error:
                ends.add("error")
                assert "Meier" not in str(error) and "4711" not in str(error) and len(str(error)) < 500
    assert ends == {"uint8", "error"}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="does not exist"):
        read_picture(tmp_path / "a.dcm")


def test_a_folder_gives_radiographs_and_leaves_slices_with_a_reason(tmp_path: Path) -> None:
    radiograph(tmp_path / "a.dcm", values())
    radiograph(tmp_path / "1.2.840.1", values(1))
    radiograph(tmp_path / "1.2.840.2", values(2))
    radiograph(tmp_path / "nosuffix", values(3))
    radiograph(tmp_path / "masks" / "a.dcm", values(3))
    broken(radiograph(tmp_path / "bad.dcm", values()), flipped)
    write_series(tmp_path / "ct", body(5, 32))
    (tmp_path / "notes").write_text("no picture")
    cases = find_cases(tmp_path)
    assert list(cases.table["name"]) == ["1.2.840.1", "1.2.840.2", "a", "bad", "nosuffix"]
    assert cases.table["patient"].isna().all() and not any(s in cases.table.to_csv() for s in SECRET.values())
    whys = [why for _, why in cases.skipped]
    assert len(whys) == 7 and sum("a slice of a CT series" in why for why in whys) == 5 and "5 × a slice of a CT" in cases.why_skipped
    with pytest.raises(InputError, match=r"no images in the folder .*; 5 × a slice of a CT series, not a picture: give its folder to tacit audit"):
        find_cases(tmp_path / "ct")
    with pytest.raises(InputError, match=r"a slice of a CT series.*tacit audit, prepare or lungs"):
        find_cases(tmp_path / "ct" / "slice_000.dcm")
    assert find_cases(tmp_path / "nosuffix").table["name"].tolist() == ["nosuffix"]
    assert len(find_cases(str(tmp_path / "*.dcm"))) == 2 and len(find_cases(tmp_path, slides=True)) == 5


@pytest.fixture(scope="module")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn chests as PNG, and the same as DICOM: dark bone and a window, 12 bit and a VOI LUT, JPEG 2000; a CT series beside them."""
    place = tmp_path_factory.mktemp("chests")
    (place / "png").mkdir()
    (place / "dicom").mkdir()
    curve = np.round(4095 * np.linspace(0, 1, 4096) ** 0.5).astype(int)
    for i in range(3):
        grey = chest.draw(np.random.default_rng([5, i]), (96 + 4 * i, 96)).picture[..., 0]
        (place / "png" / f"c{i}.png").write_bytes(png(np.repeat(grey[..., None], 3, 2)))
        target = place / "dicom" / f"c{i}.dcm"
        if i == 0:  # window 0…4080 of 12 bits, bone dark
            radiograph(target, 4080 - 16 * grey.astype(np.uint16), PhotometricInterpretation="MONOCHROME1", WindowCenter=2040.5, WindowWidth=4081,
                       ImagerPixelSpacing=[0.4, 0.3])  # fmt: skip
        elif i == 1:  # the LUT's square root undone by the stored squares
            stored = np.round(4095 * (grey / 255.0) ** 2).astype(np.uint16)
            radiograph(target, stored, Modality="DX", SOPClassUID=DX, VOILUTSequence=lut(curve, 0, 12), PixelSpacing=[0.5, 0.5])
        else:
            radiograph(target, grey, bits_stored=8, syntax=JPEG2000Lossless)
    write_series(place / "dicom" / "ct", body(4, 32))
    return place


def test_the_same_picture_as_png_and_as_dicom(chests: Path) -> None:
    for i in range(3):
        a, b = (read_picture(chests / kind / f"c{i}.{suffix}").pixels.astype(int) for kind, suffix in (("png", "png"), ("dicom", "dcm")))
        assert np.abs(a - b).max() <= (2 if i == 1 else 0)  # squares of dark levels in 12 bits


def test_segment_gives_the_masks_of_the_same_pngs_and_square_millimetres(chests: Path, tmp_path: Path) -> None:
    settings = [w for s in TINY_CHEST for w in ("--set", s)]
    for kind in ("png", "dicom"):
        words = ["segment", str(chests / kind), "-o", str(tmp_path / kind), "--phantom", "chest", "--classes", "lungs,heart", *settings]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0 and "3 images segmented" in done.stdout, done.output
    same = []
    for i in range(3):
        a, b = (cv2.imread(str(tmp_path / kind / "masks" / f"c{i}.png"), cv2.IMREAD_UNCHANGED) for kind in ("png", "dicom"))
        assert a.shape == b.shape == (96 + 4 * i, 96)
        same.append((a == b).mean())
    assert min(same) > 0.97  # ranks of a picture that differs by one grey level
    rows = pd.read_csv(tmp_path / "dicom" / "tables" / "images.csv").set_index("image")
    assert rows.loc["c0", "mm_per_px"] == pytest.approx(np.sqrt(0.4 * 0.3)) and rows["mpp"].isna().all()
    for name, mm2 in (("c0", 0.12), ("c1", 0.25)):
        assert rows.loc[name, "lungs_area_mm2"] == pytest.approx(rows.loc[name, "lungs_area_px"] * mm2, rel=1e-4)
    assert np.isnan(rows.loc["c2", "lungs_area_mm2"]) and "at the detector" in rows.loc["c0", "history"]
    written = "".join(p.read_text() for p in (tmp_path / "dicom").rglob("*") if p.suffix in (".json", ".csv", ".txt", ".html", ".toml", ".geojson"))
    assert not any(secret in written for secret in SECRET.values())
    assert (
        "4 × a slice of a CT series" in (tmp_path / "dicom" / "log.txt").read_text() and not json.loads((tmp_path / "dicom" / "run.json").read_text())["failed"]
    )


def test_a_model_taught_on_pngs_is_applied_to_one_dicom_file(chests: Path, tmp_path: Path) -> None:
    tacit.segment(chests / "png", tmp_path / "o", phantom="chest", set=list(TINY_CHEST))
    done = tacit.segment(chests / "dicom" / "c0.dcm", tmp_path / "p", model=tmp_path / "o")
    a, b = (cv2.imread(str(tmp_path / o / "masks" / "c0.png"), cv2.IMREAD_UNCHANGED) for o in ("o", "p"))
    assert done.images == 1 and (a == b).all()


def test_glands_are_not_looked_for_in_a_radiograph(chests: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 3 images can be used.*modality is CR, where an image of tissue was expected"):
        tacit.segment(chests / "dicom", tmp_path / "o", method="haematoxylin")


def test_locate_gives_millimetres_by_row_and_column(chests: Path, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("image,point,row,col\nc0.dcm,apex,20,30\nc0.dcm,heart,60,55\n")
    words = [
        "locate",
        str(chests / "dicom"),
        "-o",
        str(tmp_path / "o"),
        "--template",
        str(chests / "dicom" / "c0.dcm"),
        "--points",
        str(tmp_path / "points.csv"),
    ]
    done = CliRunner().invoke(app, [*words, "--method", "copy"])
    assert done.exit_code == 0, done.output
    with (tmp_path / "o" / "points.csv").open() as file:
        rows = {(r["image"], r["point"]): r for r in csv.DictReader(file)}
    assert len(rows) == 6
    own = rows["c0.dcm", "apex"]
    assert (float(own["row_mm"]), float(own["col_mm"])) == (pytest.approx(20 * 0.4), pytest.approx(30 * 0.3))
    other = rows["c1.dcm", "heart"]
    assert float(other["row_mm"]) == pytest.approx(float(other["row"]) * 0.5, abs=0.01) and rows["c2.dcm", "apex"]["row_mm"] == ""
    same = tacit.locate(chests / "dicom", tmp_path / "s", template=chests / "dicom" / "c0.dcm", points=tmp_path / "points.csv", method="copy", spacing_mm=2.0)
    assert [r["row_mm"] for r in same.points if r["image"] == "c2.dcm"] == pytest.approx(
        [2 * r["row"] for r in same.points if r["image"] == "c2.dcm"], abs=0.02
    )


def test_prepare_takes_a_radiograph_as_a_picture_and_slices_as_a_series(chests: Path, tmp_path: Path) -> None:
    done = tacit.prepare_images(chests / "dicom", tmp_path / "o", steps="size=48:48")
    assert done.failed == 0, (tmp_path / "o" / "failures.csv").read_text()
    assert {p.name for p in (tmp_path / "o" / "images").iterdir()} == {"c0.png", "c1.png", "c2.png", "ct.nii.gz"}


def test_an_audits_manifest_leads_to_its_radiographs_with_pseudonyms(chests: Path, tmp_path: Path) -> None:
    shutil.copytree(chests / "dicom", tmp_path / "in")
    photograph(tmp_path / "in" / "eye.dcm", np.dstack([values(s, 256).astype(np.uint8) for s in range(3)]), SeriesInstanceUID="1.2.9")
    for i in range(3):
        changed(tmp_path / "in" / f"c{i}.dcm", SeriesInstanceUID=f"1.2.5.{i}")
    assert tacit.audit(tmp_path / "in", tmp_path / "o").failed == 0
    cases = find_cases(tmp_path / "o" / "manifest.csv")
    assert sorted(cases.table["name"]) == ["c0", "c1", "c2", "eye"]
    assert cases.table["patient"].str.startswith("patient-").all() and cases.table["patient"].nunique() == 1


def test_info_says_how_a_radiograph_is_seen(chests: Path) -> None:
    said = CliRunner().invoke(app, ["info", str(chests / "dicom" / "c0.dcm")]).stdout
    assert "MONOCHROME1 turned" in said and "Meier" not in said
    assert "a slice of a CT series" in CliRunner().invoke(app, ["info", str(chests / "dicom" / "ct" / "slice_000.dcm")]).stdout


def test_areas_are_in_mm_by_both_spacings() -> None:
    p = np.zeros((1, 20, 30), np.float32)
    p[0, :10, :10] = 1
    image = Image(np.zeros((20, 30, 3), np.uint8), spacing_mm=(0.2, 0.5), spacing_source="metadata", modality="dx")
    row = measured(p, ["lungs"], image, object())
    assert row["lungs_area_px"] == 100 and row["lungs_area_mm2"] == pytest.approx(10.0) and row["mpp"] is None
    assert refusal(Path("nothing.dcm")) is None  # whoever reads it says that it is not there
