from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tacit.errors import ReadError, UsageError
from tacit.image import Image
from tacit.read.nifti import read_volume, write_nifti

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (7, 6, 5)).astype(np.int16)  # (w, h, d), as nibabel has it
AFFINE = np.array([[-0.7, 0, 0.1, 5], [0, -0.8, 0, -6], [0, 0.1, 2.0, 7], [0, 0, 0, 1.0]])


def saved(path: Path, voxels: np.ndarray = VOXELS, kind: type = nibabel.Nifti1Image, units: str = "mm") -> Path:
    image = kind(voxels, AFFINE)
    image.header.set_xyzt_units(units)
    nibabel.save(image, path)
    return path


def test_every_flipped_bit_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.nii.gz").read_bytes()
    rng = np.random.default_rng(0)
    places = {0, 1, 2, 3, 4, 8, 9, len(whole) - 1, len(whole) - 4, len(whole) - 5, len(whole) - 8} | set(rng.integers(0, len(whole), 60).tolist())
    caught = 0
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "f.nii.gz").write_bytes(flipped)
        try:
            assert np.array_equal(read_volume(tmp_path / "f.nii.gz").pixels, VOXELS.T)
        except ReadError:
            caught += 1
    assert caught >= 0.8 * len(places)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_cut_anywhere_is_an_error(tmp_path: Path, name: str) -> None:
    whole = saved(tmp_path / name).read_bytes()
    for share in np.linspace(0, 1, 25, endpoint=False):
        (tmp_path / f"cut-{name}").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ReadError, match=r"cut-a\.nii"):
            read_volume(tmp_path / f"cut-{name}")


def broken(offset: int, value: bytes) -> bytes:
    raw = bytearray(nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes())
    raw[offset : offset + len(value)] = value
    return bytes(raw)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\0\0\0\0"),  # size of the header
        (344, b"xx1\0"),  # magic
        (344, b"ni1\0"),  # a header whose voxels lie in another file
        (40, b"\xff\xff\xff\xff"),  # number of axes
        (42, b"\xff\x7f\xff\x7f\xff\x7f"),  # more voxels than the file holds
        (42, b"\0\0\0\0"),  # no voxels
        (70, b"\xff\xff"),  # type
        (70, b"\x80\0"),  # RGB
        (80, b"\0\0\xc0\x7f"),  # spacing NaN
        (80, b"\0\0\0\0"),  # spacing 0
        (108, b"\0\0\x80\xbf"),  # voxels begin at −1
        (108, b"\0\0\0\0"),  # voxels begin in the header
    ],
)
def test_a_broken_header_is_a_read_error(tmp_path: Path, offset: int, value: bytes) -> None:
    (tmp_path / "a.nii").write_bytes(broken(offset, value))
    with pytest.raises(ReadError) as caught:
        read_volume(tmp_path / "a.nii")
    assert "\n" not in str(caught.value)


def test_flipped_bits_of_a_header_end_in_an_answer_or_a_read_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(352):
        raw = bytearray(broken(0, b""))
        raw[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "a.nii").write_bytes(raw)
        try:
            assert read_volume(tmp_path / "a.nii").pixels.ndim == 3
        except ReadError as error:
            assert error.reason


def test_other_files_by_that_name_are_read_errors(tmp_path: Path) -> None:
    for n, content in enumerate((b"", b"hello", b"\x1f\x8b", b"\x1f\x8b\x08" + bytes(40), bytes(1000), gzip.compress(b"hello"))):
        for suffix in (".nii", ".nii.gz", ".mha"):
            (tmp_path / f"{n}{suffix}").write_bytes(content)
            with pytest.raises(ReadError):
                read_volume(tmp_path / f"{n}{suffix}")
    with pytest.raises(ReadError):
        read_volume(tmp_path / "gone.nii")
    with pytest.raises(UsageError, match="no volume"):
        read_volume(tmp_path / "a.png")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_types_byte_orders_and_both_versions_read_as_nibabel_reads_them(tmp_path: Path, dtype: type, order: str, kind: type) -> None:
    voxels = (VOXELS if np.issubdtype(dtype, np.signedinteger) or np.issubdtype(dtype, np.floating) else np.abs(VOXELS)).astype(dtype)
    image = kind(voxels, AFFINE, header=kind.header_class(endianness=order))
    image.header.set_data_dtype(np.dtype(dtype).newbyteorder(order))
    (tmp_path / "a.nii").write_bytes(image.to_bytes())
    found, theirs = read_volume(tmp_path / "a.nii"), nibabel.load(tmp_path / "a.nii")
    assert np.array_equal(found.pixels, np.asarray(theirs.dataobj).T) and found.pixels.dtype == np.dtype(dtype) and found.pixels.dtype.isnative
    assert np.allclose(found.affine, theirs.affine) and found.spacing_mm == pytest.approx(theirs.header.get_zooms()[::-1])


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, 3.0), (2.0, 0.0), (0.0, 9.0)])
def test_scaling_is_nibabels(tmp_path: Path, slope: float, intercept: float) -> None:
    raw = bytearray(broken(112, np.array([slope, intercept], "<f4").tobytes()))
    (tmp_path / "a.nii").write_bytes(raw)
    assert np.allclose(read_volume(tmp_path / "a.nii").pixels, nibabel.load(tmp_path / "a.nii").get_fdata().T)


@pytest.mark.parametrize(("units", "mm"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001), ("unknown", 1.0)])
def test_spacing_is_in_millimetres_whatever_the_file_counts_in(tmp_path: Path, units: str, mm: float) -> None:
    path = saved(tmp_path / "a.nii", units=units)
    image = read_volume(path)
    assert image.spacing_mm == pytest.approx(np.array(nibabel.load(path).header.get_zooms()[::-1]) * mm)
    assert np.allclose(image.affine[:3], AFFINE[:3] * mm, rtol=1e-5)


def test_four_axes_are_refused_unless_the_last_is_one(tmp_path: Path) -> None:
    assert np.array_equal(read_volume(saved(tmp_path / "a.nii", VOXELS[..., None])).pixels, VOXELS.T)
    for shape in ((7, 6, 5, 2), (7, 6)):
        with pytest.raises(ReadError, match="three axes"):
            read_volume(saved(tmp_path / "b.nii", np.zeros(shape, np.int16)))


@pytest.mark.parametrize("flat", [False, True])
def test_gzip_of_several_members_is_read_to_its_end(tmp_path: Path, flat: bool) -> None:
    """Members may even be equal, as those of an empty volume are."""
    raw = nibabel.Nifti1Image(VOXELS * (not flat), AFFINE).to_bytes()
    parts = [raw[:352], raw[352:452], raw[452:552], raw[552:]] if not flat else [raw[:352], *[bytes(len(raw[352:]) // 4)] * 4]
    assert b"".join(parts) == raw
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(p, mtime=0) for p in parts))
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").pixels, VOXELS.T * (not flat))
    twice = gzip.compress(raw, mtime=0)
    (tmp_path / "b.nii.gz").write_bytes(twice + twice[:-3])
    with pytest.raises(ReadError):
        read_volume(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_metaimages_are_read_as_itk_wrote_them(tmp_path: Path, name: str, packed: bool, dtype: type) -> None:
    import SimpleITK

    voxels = VOXELS.T.astype(dtype)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((3, -4, 5))
    turn = np.array([[0.6, -0.48, 0.64], [0.8, 0.36, -0.48], [0, 0.8, 0.6]])
    image.SetDirection(turn.ravel())
    SimpleITK.WriteImage(image, str(tmp_path / name), packed)
    found = read_volume(tmp_path / name)
    assert np.array_equal(found.pixels, voxels) and found.pixels.dtype == dtype and found.spacing_mm == (2.5, 0.8, 0.7)
    place = np.array(image.TransformIndexToPhysicalPoint((3, 2, 1))) * [-1, -1, 1]
    assert (found.affine @ [3, 2, 1, 1])[:3] == pytest.approx(place)


def mha(path: Path, body: bytes, **changes: str) -> Path:
    header = {"ObjectType": "Image", "NDims": "3", "DimSize": "5 6 7", "ElementSpacing": "1 1 1", "ElementType": "MET_SHORT"} | changes
    header["ElementDataFile"] = header.pop("ElementDataFile", "LOCAL")
    path.write_bytes("".join(f"{k} = {v}\n" for k, v in header.items()).encode() + body)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"ElementDataFile": "../secret.raw"}, {"ElementDataFile": "/etc/hostname"}, {"ElementDataFile": "gone.raw"}, {"ElementDataFile": "LIST"},
        {"DimSize": "5 6"}, {"DimSize": "5 6 8"}, {"DimSize": "-5 6 7"}, {"DimSize": "a b c"}, {"DimSize": "999999999 999999999 999999999"},
        {"ElementType": "MET_WORD"}, {"ElementNumberOfChannels": "3"}, {"ElementSpacing": "1 0 1"}, {"ElementSpacing": "1 1"}, {"ElementSpacing": "1 nan 1"},
        {"TransformMatrix": "1 0 0"}, {"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, {"Offset": "x"}, {"CompressedData": "True"},
    ],
    ids=str,
)  # fmt: skip
def test_a_broken_or_foreign_metaimage_is_a_read_error(tmp_path: Path, changes: dict[str, str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(420))
    with pytest.raises(ReadError):
        read_volume(mha(tmp_path / "in" / "a.mha", bytes(420), **changes))


def test_a_compressed_metaimage_that_unpacks_to_more_than_it_says_is_stopped(tmp_path: Path) -> None:
    body = zlib.compress(bytes(120 * 2**20), 1)
    path = mha(tmp_path / "a.mha", body, CompressedData="True")
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ReadError):
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int32, np.float32, np.int64])
def test_what_is_written_nibabel_reads_and_so_do_we(tmp_path: Path, dtype: type) -> None:
    pixels = (VOXELS.T > 0).astype(dtype) if dtype is bool else np.abs(VOXELS.T % 120).astype(dtype)
    image = Image(pixels, "dhw", (2.0, 0.8, 0.7), "given", "ct", None, (), AFFINE)
    write_nifti(tmp_path / "a.nii.gz", image)
    first = (tmp_path / "a.nii.gz").read_bytes()
    theirs, ours = nibabel.load(tmp_path / "a.nii.gz"), read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(np.asarray(theirs.dataobj).T, pixels) and np.array_equal(ours.pixels, pixels)
    assert np.allclose(theirs.affine, AFFINE) and np.allclose(ours.affine, AFFINE)
    write_nifti(tmp_path / "a.nii.gz", image)
    assert (tmp_path / "a.nii.gz").read_bytes() == first


def test_a_volume_without_a_place_keeps_its_spacing(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", Image(VOXELS.T, "dhw", (2.0, 0.8, 0.7)))
    assert read_volume(tmp_path / "a.nii.gz").spacing_mm == pytest.approx((2.0, 0.8, 0.7))
