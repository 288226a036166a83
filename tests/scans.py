"""What the tests of DICOM, volumes and the audit share: a drawn body, and its slices written as real DICOM files or pictures."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
from PIL import Image as Pillow
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
PACKERS = {
    JPEG2000Lossless: lambda frame: imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLosslessSV1: imagecodecs.ljpeg_encode,
}


def body(count: int, side: int = 96, *, seed: int = 0, mm: float = 2.0) -> np.ndarray:
    """Slices `mm` apart of a drawn trunk, HU int16 (d, h, w): everything in it moves and swells smoothly along the axis."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:side, :side].astype(np.float32) / side
    parts = [(rng.uniform(-900, 300), rng.uniform(0.3, 0.7, 2), rng.uniform(0.07, 0.2, 2), rng.uniform(60, 240, 3), rng.uniform(0, 6.3, 3)) for _ in range(9)]
    skin = cv2.GaussianBlur(rng.standard_normal((side, side)).astype(np.float32), (0, 0), 4) * 400
    slices = []
    for k in range(count):
        z = k * mm
        hu = np.full((side, side), -1000, np.float32)
        width = 0.42 + 0.04 * np.sin(z / 90)
        hu[((rows - 0.5) / 0.36) ** 2 + ((cols - 0.5) / width) ** 2 < 1] = 40
        for value, centre, radii, wave, phase in parts:
            cy, cx = centre + 0.13 * np.sin(z / wave[:2] + phase[:2])
            size = radii * (1 + 0.6 * np.sin(z / wave[2] + phase[2]))
            hu[((rows - cy) / size[0]) ** 2 + ((cols - cx) / size[1]) ** 2 < 1] = value
        slices.append(cv2.GaussianBlur(hu, (0, 0), 1.0) + skin * (hu > -999) + 8 * rng.standard_normal(hu.shape))
    return np.clip(np.rint(np.stack(slices)), -1024, 3071).astype(np.int16)


def write_dicom(path: Path, stored: np.ndarray, *, syntax: UID = ExplicitVRLittleEndian, bits_stored: int | None = None, **tags: Any) -> Path:
    """One DICOM file of stored values (h, w) or (frames, h, w); a tag of None is left out."""
    frames = stored if stored.ndim == 3 else stored[None]
    bits = stored.dtype.itemsize * 8
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = CTImageStorage, generate_uid(), syntax
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    wanted: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "PatientID": "P1",
        "SeriesInstanceUID": "1.2.3.4",
        "InstanceNumber": 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "BitsAllocated": bits,
        "BitsStored": bits_stored or bits,
        "HighBit": (bits_stored or bits) - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": list(AXIAL),
        "PixelSpacing": [0.8, 0.7],
        "SliceThickness": 2.0,
    } | ({"NumberOfFrames": len(frames)} if stored.ndim == 3 else {})
    for name, value in (wanted | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if syntax in PACKERS:
            dataset.PixelData = encapsulate([PACKERS[syntax](np.ascontiguousarray(f)) for f in frames])
            dataset["PixelData"].VR = "OB"
        else:
            order = "<" if syntax.is_little_endian else ">"
            dataset.PixelData = np.ascontiguousarray(frames).astype(frames.dtype.newbyteorder(order)).tobytes()
            dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
            if syntax == RLELossless:
                meta.TransferSyntaxUID = ExplicitVRLittleEndian
                dataset.compress(RLELossless, generate_instance_uid=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,
    *,
    places: list[float] | np.ndarray | None = None,
    mm: float = 2.0,
    orientation: tuple[float, ...] = AXIAL,
    start: tuple[float, float, float] = (-40.0, -50.0, 30.0),
    along: np.ndarray | None = None,
    names: list[str] | None = None,
    **tags: Any,
) -> list[Path]:
    """A file a slice of HU (d, h, w), stored with intercept −1024 at `places` mm along the normal (or along `along`)."""
    line = np.cross(orientation[:3], orientation[3:]) if along is None else along
    offsets = np.arange(len(volume)) * mm if places is None else places
    paths = []
    for k, (plane, offset) in enumerate(zip(volume, offsets, strict=True)):
        position = [float(f"{v:.6f}") for v in np.asarray(start) + line * offset]
        own = {"RescaleIntercept": -1024, "ImagePositionPatient": position, "ImageOrientationPatient": [float(f"{v:.9f}") for v in orientation]}
        own |= {"InstanceNumber": k + 1, "bits_stored": 12}
        name = names[k] if names else f"slice_{k:03d}.dcm"
        paths.append(write_dicom(folder / name, (plane.astype(np.int32) + 1024).astype(np.uint16), **(own | tags)))
    return paths


def write_pictures(folder: Path, volume: np.ndarray, names: list[str] | None = None) -> list[Path]:
    """A PNG a slice, 8 bit, by one CT window."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = np.clip((volume.astype(np.float32) + 1000) * (255 / 1400), 0, 255).astype(np.uint8)
    paths = [folder / (names[k] if names else f"slice_{k:03d}.png") for k in range(len(volume))]
    for path, plane in zip(paths, grey, strict=True):
        Pillow.fromarray(plane).save(path)
    return paths


def group(**tags: Any) -> Dataset:
    """A functional group's item; dicts become sequences of one."""
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, Sequence([group(**value)]) if isinstance(value, dict) else value)
    return made
