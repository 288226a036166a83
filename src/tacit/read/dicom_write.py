"""A volume as a DICOM series: one CT Image Storage file a slice (DICOM PS3.3 A.3), uncompressed, whole Hounsfield units kept exactly.

UIDs are a function of the text that names the series, so equal volumes give equal files.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from tacit.errors import InputError
from tacit.files import write_atomic
from tacit.image import Image

LOWEST, HIGHEST = -1024, 3071  # HU that 12 bits hold with intercept −1024


def uid_of(text: str) -> str:
    """A UID for a text: 2.25 and 128 bits of its SHA-256 (PS3.5 B.2)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def write_dicom_series(folder: Path, image: Image, *, patient: str, name: str, kernel: str = "") -> list[Path]:
    """Files slice_0001.dcm … of a volume of HU (d, h, w) with a known place, in its own order. patient: its ID and name · name: what UIDs are made of.

    Raises InputError where it is no such volume or holds values beyond 12 bits.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    hu = image.pixels
    if image.axes != "dhw" or image.affine is None or image.spacing_mm is None or hu.dtype.kind not in "iu":
        raise InputError(f"{image.name}: a DICOM series wants a volume of whole HU with spacing and place; this is {image.axes!r} {hu.dtype}")
    if int(hu.min()) < LOWEST or int(hu.max()) > HIGHEST:
        raise InputError(f"{image.name}: values {hu.min()} … {hu.max()} do not fit 12 bits ({LOWEST} … {HIGHEST} HU); clip them first")
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    row, column = (lps[:3, k] / np.linalg.norm(lps[:3, k]) for k in (0, 1))
    paths = []
    for k, plane in enumerate(hu):
        instance = UID(uid_of(f"{name} slice {k}"))
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = CTImageStorage, instance, ExplicitVRLittleEndian
        one = FileDataset(io.BytesIO(), {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, instance
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = (uid_of(f"{name} {what}") for what in ("study", "series", "frame"))
        one.PatientID = one.PatientName = patient
        one.PatientBirthDate = one.PatientSex = one.StudyDate = one.StudyTime = one.AccessionNumber = one.ReferringPhysicianName = one.StudyID = ""
        one.PositionReferenceIndicator = ""
        one.Modality, one.Manufacturer, one.PatientPosition = "CT", "drawn by Tacit", "HFS"
        one.ImageType, one.KVP, one.ConvolutionKernel = ["ORIGINAL", "PRIMARY", "AXIAL"], 120, kernel
        one.SeriesNumber, one.AcquisitionNumber, one.InstanceNumber = 1, 1, k + 1
        one.Rows, one.Columns = plane.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 1, LOWEST, "HU"
        one.WindowCenter, one.WindowWidth = -600, 1500
        one.PixelSpacing = [_decimal(v) for v in image.spacing_mm[1:]]
        one.SliceThickness = _decimal(image.spacing_mm[0])
        one.ImageOrientationPatient = [_decimal(v) for v in (*row, *column)]
        one.ImagePositionPatient = [_decimal(v) for v in lps[:3, 3] + k * lps[:3, 2]]
        one.PixelData = (plane.astype(np.int32) - LOWEST).astype("<u2").tobytes()
        one["PixelData"].VR = "OW"
        packed = io.BytesIO()
        one.save_as(packed, enforce_file_format=True)
        paths.append(folder / f"slice_{k + 1:04d}.dcm")
        write_atomic(paths[-1], packed.getvalue())
    return paths


def _decimal(value: float) -> str:
    """A decimal string of at most 16 signs (PS3.5 6.2), as exact as they allow."""
    text = f"{float(value):.10f}"
    return (text if len(text) <= 16 else f"{float(value):.9g}")[:16]
